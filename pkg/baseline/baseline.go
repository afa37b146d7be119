// Package baseline is a GPU's idle power: what is subtracted from a piece of
// work to leave what the work itself cost (TR122 §4). It measures idle power
// out of a trace in one pass, says whether the GPU was idle at all, and reads
// and writes baseline.json.
//
// Memory does not grow with the trace: moments are running sums (Welford),
// utilisation is counted by whole per cent, and power by whole milliwatts, the
// unit in which NVML gives it. All figures are exact but for
// power_outlier_fraction of readings with finer fractions, which are counted at
// the nearest milliwatt.
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
	// Doubts are reasons beyond a fake idle why the figures do not stand.
	Doubts []string `json:"doubts,omitempty"`
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
