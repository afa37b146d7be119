package record

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Event is a piece of work with a beginning and an end on the monotonic clock:
// a prefill, a decode, a step of a square wave. Its energy is what nvattrib
// fills in.
type Event struct {
	ID              string       `json:"event_id,omitempty"`
	Phase           string       `json:"phase,omitempty"`
	StartNS         int64        `json:"t_start_ns"`
	EndNS           int64        `json:"t_end_ns"`
	StartUnixNS     Opt[int64]   `json:"t_start_unix_ns,omitzero"` // wall clock instead of StartNS, converted through the header
	EndUnixNS       Opt[int64]   `json:"t_end_unix_ns,omitzero"`
	GPUs            []int        `json:"gpus,omitempty"` // empty: GPU 0, or the trace's only GPU
	RequestID       string       `json:"request_id,omitempty"`
	Model           string       `json:"model,omitempty"`
	BatchSize       Opt[int64]   `json:"batch_size,omitzero"`
	InputTokens     Opt[int64]   `json:"input_tokens,omitzero"`
	OutputTokens    Opt[int64]   `json:"output_tokens,omitzero"`
	TokensPerSecond Opt[float64] `json:"tokens_per_second,omitzero"`

	// Energy is nil before attribution. Its fields stand beside the event's
	// own on the wire.
	Energy *Energy `json:"-"`
	// Extra is every further field, in the order it was read.
	Extra []Field `json:"-"`
}

// Duration is the event's length in seconds.
func (e *Event) Duration() float64 { return float64(e.EndNS-e.StartNS) / 1e9 }

// Clone is a copy of the event that shares nothing with it.
func (e *Event) Clone() *Event {
	c := new(Event)
	e.CloneInto(c)
	return c
}

// CloneInto makes c such a copy.
func (e *Event) CloneInto(c *Event) {
	*c = *e
	c.GPUs = slices.Clone(e.GPUs)
	c.Extra = CloneFields(e.Extra)
	if e.Energy != nil {
		energy := *e.Energy
		energy.Reasons = slices.Clone(energy.Reasons)
		c.Energy = &energy
	}
}

// Whole is the first further field of that name which is a whole number above 0,
// be it written as 17.0, as programs do that have one type of number.
func (e *Event) Whole(name string) (n Opt[int64]) {
	for i := range e.Extra {
		if e.Extra[i].Name != name {
			continue
		}
		text := strings.TrimSpace(string(e.Extra[i].Value))
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			f, err := strconv.ParseFloat(text, 64)
			if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
				continue
			}
			v = int64(f)
		}
		if v > 0 {
			return Some(v)
		}
	}
	return n
}

// Field is a field that this package does not know, kept as it was.
type Field struct {
	Name  string
	Value json.RawMessage
}

// CloneFields is a copy of further fields that shares nothing with them.
func CloneFields(fields []Field) []Field {
	c := slices.Clone(fields)
	for i := range c {
		c[i].Value = slices.Clone(c[i].Value)
	}
	return c
}

// Energy is the outcome of attribution for one event.
type Energy struct {
	Method             string       `json:"method"`
	PowerSamples       int64        `json:"power_samples"`
	GapFraction        Opt[float64] `json:"gap_fraction,omitzero"`
	MaxGapS            Opt[float64] `json:"max_gap_s,omitzero"`
	Joules             Opt[float64] `json:"energy_joules,omitzero"`
	OperationalJ       Opt[float64] `json:"operational_joules,omitzero"`           // above idle, unclamped
	OperationalClamped Opt[float64] `json:"operational_joules_clamped,omitzero"`   // diagnostic: biased upward in noise
	Quality            string       `json:"energy_quality"`                        // no_data | gappy | good
	Tier               string       `json:"energy_tier"`                           // refused | estimate | analysis | billable
	CI95J              Opt[float64] `json:"ci95_joules,omitzero"`                  // half-width, the board's absolute gain left out
	AbsoluteCI95J      Opt[float64] `json:"ci95_absolute_joules,omitzero"`         // half-width with the gain's uncertainty
	GainUncertainty    Opt[float64] `json:"gain_uncertainty,omitzero"`             // of the board's absolute gain: one standard deviation, a share
	OperationalCI95J   Opt[float64] `json:"operational_ci95_joules,omitzero"`      // half-width, with that of the baseline
	OwnInformation     Opt[float64] `json:"own_information,omitzero"`              // share of the number that this event's readings told; the rest is its group's mean
	IntegratedJ        Opt[float64] `json:"integrated_joules,omitzero"`            // by power readings alone
	IntegratedCI95J    Opt[float64] `json:"integrated_ci95_joules,omitzero"`       // half-width
	CounterJ           Opt[float64] `json:"counter_joules,omitzero"`               // by the energy counter alone
	CounterCI95J       Opt[float64] `json:"counter_ci95_joules,omitzero"`          // half-width
	JoulesPerToken     Opt[float64] `json:"joules_per_token,omitzero"`             // gross: idle power included
	OperationalPerTok  Opt[float64] `json:"operational_joules_per_token,omitzero"` // above idle
	Throttled          Opt[bool]    `json:"throttled,omitzero"`
	Aliased            Opt[bool]    `json:"aliased,omitzero"`            // the work's rhythm and the sensor's leave a part of it unseen
	SharedWith         Opt[int64]   `json:"shared_with,omitzero"`        // most requests at once that the power was split between
	ChargedS           Opt[float64] `json:"charged_s,omitzero"`          // with SharedWith: the event's time by its part of the power
	ProcessShare       Opt[float64] `json:"process_share,omitzero"`      // of the GPUs' energy, that of the event's process: the joules above are its part
	ProcessShareCI95   Opt[float64] `json:"process_share_ci95,omitzero"` // half-width
	Reasons            []string     `json:"reasons,omitempty"`
}
