// Package baseline is a GPU's idle power: what is subtracted from a piece of
// work to leave what the work itself cost (TR122 §4). It measures idle power
// out of a trace in one pass, says whether the GPU was idle at all, and reads
// and writes baseline.json.
//
// Memory is bounded: moments are running sums (Welford), utilisation is counted
// by whole per cent, and power by whole milliwatts, the unit in which NVML gives
// it, so that power_outlier_fraction of readings with finer fractions is of the
// nearest milliwatt. Of the readings themselves an hour at 50 Hz is kept for
// what takes their order; a longer baseline merges neighbours and says so.
package baseline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"joulepipe/pkg/record"
)

// The states a GPU can idle in. Idle power belongs to one of them: an H200
// takes 79 W before the first CUDA context and 124 W after it.
const (
	NoContext = "no_context" // no program has opened the GPU
	Context   = "context"    // a CUDA context exists, with little memory in use
	Resident  = "resident"   // a model is loaded
)

// Idle is one GPU's idle power under the names of TR122 §3.3. Beyond the mean
// everything may be absent in a file that another program wrote.
type Idle struct {
	GPU     int    `json:"gpu"`
	UUID    string `json:"uuid,omitempty"`
	State   string `json:"state,omitempty"`   // NoContext, Context or Resident; empty: not known
	Channel string `json:"channel,omitempty"` // which power was read: record.ChannelPower, …

	MeanW float64             `json:"idle_watts_mean"`         // of all valid readings, the suspect ones included
	StdW  record.Opt[float64] `json:"idle_watts_std,omitzero"` // of single readings, not of the mean
	MinW  record.Opt[float64] `json:"idle_watts_min,omitzero"`
	MaxW  record.Opt[float64] `json:"idle_watts_max,omitzero"`
	// SEMW is StdW over the root of the number of readings. Neighbouring
	// readings are not independent, so that it is a lower bound.
	// SEMEffW is the one that knows of it.
	SEMW    record.Opt[float64] `json:"sem_watts,omitzero"`
	TempC   record.Opt[float64] `json:"idle_temp_c,omitzero"`       // mean
	UtilP95 record.Opt[float64] `json:"idle_gpu_util_p95,omitzero"` // per cent, by nearest rank

	FakeIdle        bool                `json:"fake_idle_flag"`
	FakeIdleReasons []string            `json:"fake_idle_reasons"`
	OutlierFraction record.Opt[float64] `json:"power_outlier_fraction,omitzero"` // share beyond 2 standard deviations
	ClockVaried     record.Opt[bool]    `json:"clock_varied,omitzero"`
	FloorFraction   record.Opt[float64] `json:"floor_suspect_fraction,omitzero"` // share below record.FloorW

	DurationS  record.Opt[float64] `json:"duration_s,omitzero"` // of the readings, holes and settling left out
	Windows    record.Opt[int64]   `json:"windows,omitzero"`    // stretches of idle that went into it
	Samples    record.Opt[int64]   `json:"samples,omitzero"`    // valid readings
	ReadErrors record.Opt[int64]   `json:"read_errors,omitzero"`
	MaxGapS    record.Opt[float64] `json:"max_gap_s,omitzero"` // longest time between two readings
	// What follows is of ticks, updates of the sensor: a value that the poller
	// read twice is one.
	Ticks   record.Opt[int64]   `json:"ticks,omitzero"`
	UpdateS record.Opt[float64] `json:"update_s,omitzero"` // usual time between two ticks, seconds
	// Merged is how many neighbouring ticks were taken together, in a baseline
	// too long to keep them all.
	Merged   record.Opt[int64]   `json:"ticks_merged,omitzero"`
	RobustW  record.Opt[float64] `json:"idle_watts_robust,omitzero"` // Huber's mean, without suspect readings that are not real
	MedianW  record.Opt[float64] `json:"idle_watts_median,omitzero"`
	CounterW record.Opt[float64] `json:"idle_watts_counter,omitzero"` // the energy counter's, over the same time
	NEff     record.Opt[float64] `json:"n_eff,omitzero"`              // independent readings that the ticks are worth
	NEffBy   *NEff               `json:"n_eff_by,omitempty"`
	// SEMEffW is the standard error of the mean, by NEff.
	SEMEffW    record.Opt[float64] `json:"sem_watts_n_eff,omitzero"`
	Subtract   *Subtract           `json:"subtract,omitempty"`
	Drift      *Drift              `json:"drift,omitempty"`
	Mixture    *Mixture            `json:"mixture,omitempty"` // absent: one level of power
	Noise      []EnergyNoise       `json:"energy_noise,omitempty"`
	Segments   []Segment           `json:"segments,omitempty"`
	Periods    []Period            `json:"periods,omitempty"` // the stretches of idle, where there are several
	Conditions *Conditions         `json:"conditions,omitempty"`
	Notes      []string            `json:"notes,omitempty"` // worth knowing; no reason for doubt

	// Doubts are reasons beyond a fake idle why the figures do not stand.
	Doubts []string `json:"doubts,omitempty"`
}

// Subtract is the power to subtract for every second of work, and why that one.
type Subtract struct {
	Which string  `json:"which"` // Mean or Robust
	Why   string  `json:"why"`
	Watts float64 `json:"watts"`
	// SE is the standard error of Watts: SEMEffW, half of what is ambiguous in
	// a mixture, and what the drift makes of it, in squares.
	SE         float64 `json:"watts_se"`
	AmbiguousW float64 `json:"ambiguous_watts,omitempty"`
	DriftW     float64 `json:"drift_watts,omitempty"`
}

// The powers that can be subtracted.
const (
	Mean   = "mean"   // idle_watts_mean
	Robust = "robust" // idle_watts_robust
)

// Period is one stretch of idle of several, as before a run and after it.
type Period struct {
	StartNS int64               `json:"t_start_ns"`
	EndNS   int64               `json:"t_end_ns"`
	Watts   float64             `json:"watts"`
	SE      record.Opt[float64] `json:"watts_se,omitzero"`
	TempC   record.Opt[float64] `json:"temp_c,omitzero"` // mean
}

// Conditions are what the idle power belongs to, beside the state. Clocks and
// performance state are those of most ticks.
type Conditions struct {
	Name               string              `json:"name,omitempty"`
	Driver             string              `json:"driver,omitempty"`
	PowerLimitW        record.Opt[float64] `json:"power_limit_w,omitzero"`
	PowerLimitDefaultW record.Opt[float64] `json:"power_limit_default_w,omitzero"`
	Persistence        record.Opt[bool]    `json:"persistence,omitzero"`
	PState             record.Opt[int64]   `json:"pstate,omitzero"`
	SMClockMHz         record.Opt[int64]   `json:"sm_clock_mhz,omitzero"`
	MemClockMHz        record.Opt[int64]   `json:"mem_clock_mhz,omitzero"`
	VRAMUsedMB         record.Opt[float64] `json:"vram_used_mb,omitzero"` // MiB, the greatest
	TempMinC           record.Opt[float64] `json:"temp_min_c,omitzero"`
	TempMaxC           record.Opt[float64] `json:"temp_max_c,omitzero"`
}

// Watts is the power to subtract for every second of work and its standard
// error, drift included. A file that does not say which to subtract means the
// mean. Where it has no standard error either, the deviation of single readings
// is an upper bound and stands for it; a file without that one has 0.
func (i Idle) Watts() (w, se float64) {
	if s := i.Subtract; s != nil {
		return s.Watts, s.SE
	}
	return i.MeanW, i.SEMEffW.Or(i.SEMW.Or(i.StdW.Or(0)))
}

// Document is idle as baseline.json has it: an object for one GPU,
// {"gpus": […]} for several.
func Document(idle []Idle) any {
	if len(idle) == 1 {
		return idle[0]
	}
	return struct {
		GPUs []Idle `json:"gpus"`
	}{idle}
}

// Load reads baseline.json in either form, as Document makes it or TR122's
// own. It is an error when a GPU has no mean, or none that can be one.
func Load(r io.Reader) ([]Idle, error) {
	dec := json.NewDecoder(r)
	var whole json.RawMessage
	if err := dec.Decode(&whole); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the baseline is empty")
		}
		return nil, fmt.Errorf("not a baseline: %w", err)
	}
	if dec.More() {
		return nil, errors.New("more than one document in a baseline")
	}
	var several struct {
		GPUs *[]Idle `json:"gpus"`
	}
	if err := json.Unmarshal(whole, &several); err != nil {
		return nil, err
	}
	if several.GPUs == nil {
		var one Idle
		if err := json.Unmarshal(whole, &one); err != nil {
			return nil, err
		}
		return []Idle{one}, nil
	}
	seen := map[int]bool{}
	for _, i := range *several.GPUs {
		if seen[i.GPU] {
			return nil, fmt.Errorf("GPU %d has two baselines", i.GPU)
		}
		seen[i.GPU] = true
	}
	if len(seen) == 0 {
		return nil, errors.New("a baseline of no GPU")
	}
	return *several.GPUs, nil
}

// UnmarshalJSON reads one GPU's baseline. fake_idle_reasons may be a list, one
// string (TR122's form; empty for none) or absent.
func (i *Idle) UnmarshalJSON(b []byte) error {
	type fields Idle
	var v struct {
		fields
		Mean    *float64        `json:"idle_watts_mean"`
		Reasons json.RawMessage `json:"fake_idle_reasons"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("not a baseline: %w", err)
	}
	if v.Mean == nil {
		return errors.New("no idle_watts_mean in the baseline")
	}
	if *v.Mean < 0 || math.IsInf(*v.Mean, 0) {
		return fmt.Errorf("idle_watts_mean %g is no power", *v.Mean)
	}
	*i = Idle(v.fields)
	i.MeanW = *v.Mean
	i.FakeIdleReasons = []string{}
	var line string
	switch {
	case len(v.Reasons) == 0 || string(v.Reasons) == "null":
	case json.Unmarshal(v.Reasons, &line) == nil:
		if line = strings.TrimSpace(line); line != "" {
			i.FakeIdleReasons = []string{line}
		}
	default:
		if err := json.Unmarshal(v.Reasons, &i.FakeIdleReasons); err != nil {
			return fmt.Errorf("fake_idle_reasons is neither a list of strings nor a string: %w", err)
		}
	}
	return nil
}
