// Package sensor is what a GPU's power readings do to the truth: how often they
// change, over how long a window they average, how late they are. It has the
// model forward (true power → reading: [Model]) and fitted to a trace of known
// work (the instrument response test: [Fitter]), and reads the outcome
// (sensor.json: [Load]).
//
// What the readings cannot tell is absent and a reason stands instead. Absolute
// gain is not to be had without an external meter.
package sensor

import (
	"encoding/json"
	"fmt"
	"io"

	"joulepipe/pkg/record"
)

// Class is how a channel answers a step of power.
type Class string

// The classes.
const (
	Instant     Class = "instant"     // there after one update
	Averaged    Class = "averaged"    // a straight ramp over several updates
	Exponential Class = "exponential" // a decaying approach, longer than window and update
	Integrator  Class = "integrator"  // a counter that misses nothing
	Unknown     Class = "unknown"
)

// Channel is what is known of one power channel of one GPU.
type Channel struct {
	UpdateMS     record.Opt[float64] `json:"update_ms,omitzero"`         // mean spacing of updates
	UpdateSE     record.Opt[float64] `json:"update_ms_se,omitzero"`      // standard error
	WindowMS     record.Opt[float64] `json:"window_ms,omitzero"`         // a reading is the mean of so long
	WindowCI95MS []float64           `json:"window_ms_ci95,omitempty"`   // [lo, hi]; stands also where the window itself is not told
	Ambiguous    []float64           `json:"window_ambiguous,omitempty"` // other windows that explain the readings as well, ms
	TauMS        record.Opt[float64] `json:"tau_ms,omitzero"`            // exponential approach of board and sensor before the window, where it could be told
	LagMS        record.Opt[float64] `json:"lag_ms,omitzero"`            // from the end of the window to the update
	LagCI95MS    []float64           `json:"lag_ms_ci95,omitempty"`      // [lo, hi]
	RiseMS       record.Opt[float64] `json:"rise_ms,omitzero"`           // 10–90 % of a step of the load, the board's own rise included
	Class        Class               `json:"class,omitempty"`
	Coverage     record.Opt[float64] `json:"coverage,omitzero"`    // share of the time seen: min(1, window/update); where the window cannot be told from an exponential, that of twice tau_ms
	Gain         record.Opt[float64] `json:"gain,omitzero"`        // the channel's energy over the counter's
	SameAs       string              `json:"same_as,omitempty"`    // the channel whose readings these are
	DeltaWatts   record.Opt[float64] `json:"delta_watts,omitzero"` // mean height of the load's steps
	Pass         record.Opt[bool]    `json:"pass,omitzero"`        // TR122's rule: steps above 10 W, rise below 300 ms
	Reasons      []string            `json:"reasons,omitempty"`
}

// GPU is what is known of one GPU's channels.
type GPU struct {
	GPU      int                 `json:"gpu"`
	UUID     string              `json:"uuid,omitempty"`
	Name     string              `json:"name,omitempty"`
	Driver   string              `json:"driver,omitempty"`
	Channels map[string]*Channel `json:"channels"` // by record.ChannelPower, …
	Use      string              `json:"use,omitempty"`
	Advice   string              `json:"advice,omitempty"`
}

// Sensors is sensor.json.
type Sensors struct {
	GPUs []GPU `json:"gpus"`
}

// Load reads sensor.json.
func Load(r io.Reader) (*Sensors, error) {
	var s Sensors
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return nil, fmt.Errorf("not a sensor.json: %w", err)
	}
	if len(s.GPUs) == 0 {
		return nil, fmt.Errorf("not a sensor.json: it has no gpus")
	}
	return &s, nil
}

// Channel is a GPU's channel, or nil when nothing is known of it.
func (s *Sensors) Channel(gpu int, name string) *Channel {
	for i := range s.GPUs {
		if s.GPUs[i].GPU == gpu {
			return s.GPUs[i].Channels[name]
		}
	}
	return nil
}
