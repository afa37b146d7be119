package report

import (
	"encoding/json"
	"io"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/vram"
)

// SchemaVersion is that of run_metadata.json, which has the names of TR122's
// own version 2 and adds to them.
const SchemaVersion = 2

// metadata is run_metadata.json: TR122 §3.4 and what the report is made of.
type metadata struct {
	SchemaVersion int             `json:"schema_version"`
	RunID         string          `json:"run_id,omitempty"`
	RunState      string          `json:"run_state"`
	EndReason     string          `json:"end_reason"`
	Stands        bool            `json:"stands"`
	Simulated     bool            `json:"simulated"`
	Front         *Front          `json:"front"` // what a reader sees first
	Header        *header         `json:"header,omitempty"`
	Git           *record.Version `json:"git,omitempty"`
	GPUs          []record.GPU    `json:"gpus"`
	// Poller has the overall figures under TR122's names, and each GPU's.
	Poller      *poller            `json:"poller,omitempty"`
	Baseline    *baseline.Idle     `json:"baseline,omitempty"` // of the first GPU
	Baselines   []baseline.Idle    `json:"baselines,omitempty"`
	HeatSoak    []record.Soak      `json:"heat_soak,omitempty"`
	Trace       *Trace             `json:"trace,omitempty"`
	Costs       []Cost             `json:"run_energy,omitempty"`
	Energy      []record.Summary   `json:"energy,omitempty"`
	Comparisons []comparison       `json:"channels,omitempty"`
	Sensors     []sensor.GPU       `json:"sensors,omitempty"`
	Memory      []vram.GPU         `json:"memory,omitempty"`
	Claims      []Claim            `json:"claims"`
	Uses        []Claim            `json:"uses"`
	Decisions   []Decision         `json:"decisions"`
	Checks      []Check            `json:"checks"`
	Thresholds  map[string]float64 `json:"thresholds"` // that the checks were judged by
	Problems    []string           `json:"problems,omitempty"`
	Artifacts   []Artifact         `json:"artifacts"`
	Missing     []Missing          `json:"missing,omitempty"`
}

// header is what identifies the measurement, without what has a place of its own.
type header struct {
	Tool     string         `json:"tool,omitempty"`
	Version  string         `json:"version,omitempty"`
	Host     string         `json:"host,omitempty"`
	BootID   string         `json:"boot_id,omitempty"`
	TimeNS   int64          `json:"t_ns"`
	UnixNS   int64          `json:"unix_ns"`
	PeriodNS int64          `json:"period_ns,omitempty"`
	Config   map[string]any `json:"config,omitempty"`
}

type poller struct {
	record.PollerStats
	Recomputed bool                 `json:"recomputed"` // from the samples, as the trace does not say
	Ticked     bool                 `json:"ticked"`     // without ticks, dropped_ticks is not known
	GPUs       []record.PollerStats `json:"gpus,omitempty"`
}

type comparison struct {
	Comparison
	Ratio float64 `json:"ratio"`
}

// Metadata writes run_metadata.json.
func (r *Run) Metadata(w io.Writer) error {
	m := metadata{
		SchemaVersion: SchemaVersion,
		RunID:         r.id(),
		RunState:      r.State,
		EndReason:     r.EndReason,
		Stands:        len(r.Doubts()) == 0,
		Simulated:     r.Trace.Simulated(),
		Front:         r.Front,
		GPUs:          []record.GPU{},
		Baselines:     r.Baselines,
		HeatSoak:      r.Soaks,
		Costs:         r.Costs,
		Energy:        r.Summaries,
		Sensors:       r.Sensors,
		Memory:        r.Memory,
		Claims:        r.Claims,
		Uses:          r.Uses,
		Decisions:     r.Decisions,
		Checks:        r.Checks,
		Thresholds:    r.Limits.Named(),
		Problems:      r.Problems,
		Artifacts:     r.Artifacts,
		Missing:       r.Missing,
	}
	if len(r.Baselines) > 0 {
		m.Baseline = &r.Baselines[0]
	}
	for _, c := range r.Comparisons {
		m.Comparisons = append(m.Comparisons, comparison{c, c.Ratio()})
	}
	if r.Trace.File != "" {
		m.Trace = r.Trace
		p := r.Trace.Poller()
		m.Poller = &poller{p.Overall, r.Trace.Said == nil, r.Trace.Ticked(), p.GPUs}
	}
	if h := r.Trace.Header; h != nil {
		m.Header = &header{h.Tool, h.Version, h.Host, h.BootID, h.TimeNS, h.UnixNS, h.PeriodNS, h.Config}
		m.Git = h.Git
		m.GPUs = h.GPUs
	}
	return encode(w, m)
}

// judgement is what check --json writes.
type judgement struct {
	SchemaVersion int                `json:"schema_version"`
	RunID         string             `json:"run_id,omitempty"`
	Stands        bool               `json:"stands"`
	Doubts        []string           `json:"doubts"`     // ids of the checks in the way
	Thresholds    map[string]float64 `json:"thresholds"` // that it was judged by, as under checks in a configuration file
	Checks        []Check            `json:"checks"`
}

// Judgement writes the checks and whether the run stands by them.
func (r *Run) Judgement(w io.Writer) error {
	doubts := []string{}
	for _, c := range r.Doubts() {
		doubts = append(doubts, c.ID)
	}
	return encode(w, judgement{SchemaVersion, r.id(), len(doubts) == 0, doubts, r.Limits.Named(), r.Checks})
}

func encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
