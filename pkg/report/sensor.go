package report

import (
	"encoding/json"
	"io/fs"

	"joulepipe/pkg/record"
)

// Sensor is what sensor.json says of one GPU's power channels.
type Sensor struct {
	GPU      int                 `json:"gpu"`
	Use      string              `json:"use"` // the channel to be used
	Channels map[string]Response `json:"channels"`
}

// Response is how one channel answered a known load.
type Response struct {
	Class    string              `json:"class,omitempty"` // instant, averaged, exponential, integrator or unknown
	UpdateMS record.Opt[float64] `json:"update_ms,omitzero"`
	WindowMS record.Opt[float64] `json:"window_ms,omitzero"`
	LagMS    record.Opt[float64] `json:"lag_ms,omitzero"`
	RiseMS   record.Opt[float64] `json:"rise_ms,omitzero"`
	Gain     record.Opt[float64] `json:"gain,omitzero"` // against the energy counter
	Pass     bool                `json:"pass"`
	Reasons  []string            `json:"reasons,omitempty"`
}

func (r *Run) readSensor(dir fs.FS) {
	name := r.files[sensorFile]
	if name == "" {
		return
	}
	f, err := dir.Open(name)
	if err != nil {
		r.problem("%v", err)
		return
	}
	defer f.Close()
	var all struct {
		GPUs []Sensor `json:"gpus"`
	}
	if err := json.NewDecoder(f).Decode(&all); err != nil {
		r.problem("%s: %v", name, err)
		return
	}
	r.Sensors = all.GPUs
}
