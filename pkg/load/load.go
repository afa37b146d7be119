// Package load makes known loads on a GPU and says exactly when, as events and
// markers: square waves, sustained load, bursts like those of inference, and
// commands of any kind.
//
// A load is a plan, a sequence of [Step] with set durations; [Play] carries it
// out on a [Device]. Its times lie on a grid that is fixed when it begins: what
// comes late is late once, and adds nothing to what follows. [Exec] is for work
// whose end is not known beforehand.
package load

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Level is what runs on a GPU for some time. The zero Level is nothing at all.
type Level struct {
	Compute float64 // use of the arithmetic units, 0 to 1
	Memory  float64 // use of the memory's bandwidth, 0 to 1
	VRAMMB  float64 // MiB held
	Context bool    // a context is held; all of the above imply one

	// What makes it so on a real GPU: a kernel, for this share of the time.
	Kernel Kernel
	Share  float64
}

// Device is where load is put.
type Device interface {
	// GPUs are the indices of those that the load runs on.
	GPUs() []int
	// VRAM is the memory in MiB that each of them has at least.
	VRAM() float64
	// Apply runs a level on each of them from one instant of the monotonic
	// clock to another. It does not wait: the instants are near, and calls come
	// in the order of time.
	Apply(l Level, fromNS, untilNS int64) error
}

// Idle is a Device that is left alone: the indices of its GPUs.
type Idle []int

// GPUs are the indices.
func (d Idle) GPUs() []int { return d }

// VRAM is none.
func (d Idle) VRAM() float64 { return 0 }

// Apply does nothing.
func (d Idle) Apply(Level, int64, int64) error { return nil }

// Step is a part of a plan.
type Step struct {
	Duration time.Duration // > 0
	Level    Level
	// Event is what is told of the step, but for its times and GPUs; nil is
	// nothing.
	Event *record.Event
}

// Plan is a load from its start to its end. It can be gone through several
// times, and is the same each time.
type Plan = iter.Seq[Step]

// Emit takes the records of a load, each when it is over.
type Emit func(record.Record) error

// Fits says why a device has no room for a plan, nil if it has.
func Fits(d Device, plan Plan) error {
	most := 0.0
	for s := range plan {
		most = max(most, s.Level.VRAMMB)
	}
	if most > d.VRAM() {
		return fmt.Errorf("the load takes %.0f MiB of GPU memory, and there are %.0f", most, d.VRAM())
	}
	return nil
}

// Experiment puts the markers start_experiment and end_experiment, with the
// experiment's name, around what do emits. A failure leaves out the second.
func Experiment(name string, c clock.Clock, emit Emit, do func() error) error {
	mark := func(marker string) error {
		return emit(&record.Marker{Name: marker, TimeNS: c.Now(), Extra: []record.Field{extra("experiment", name)}})
	}
	if err := mark("start_experiment"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return mark("end_experiment")
}

// extra is a field beyond those that package record knows. The value is one
// that JSON can hold.
func extra(name string, value any) record.Field {
	b, err := json.Marshal(value)
	if err != nil {
		panic("load: field " + name + ": " + err.Error())
	}
	return record.Field{Name: name, Value: b}
}
