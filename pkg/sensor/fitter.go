package sensor

import (
	"fmt"
	"maps"
	"slices"

	"joulepipe/pkg/record"
)

// A Fitter takes a trace and what is known of its load, and finds the model of
// each channel of each GPU: the instrument response test. Memory grows with
// the updates of the channels, not with the reads.
type Fitter struct {
	header  *record.Header // of the trace
	work    *record.Header // of the events
	phases  map[string]*record.Phase
	toggles []int64
	gpus    map[int]*gpu
	origin  record.Opt[int64]
}

// gpu is what was read of one GPU.
type gpu struct {
	channels map[string]*readings
	both     map[string]*agreement // of power with another channel
}

// agreement is how often two channels showed the same.
type agreement struct{ equal, reads int }

// NewFitter is a Fitter that has seen nothing.
func NewFitter() *Fitter {
	return &Fitter{phases: map[string]*record.Phase{}, gpus: map[int]*gpu{}}
}

// Observe takes the next record of the trace.
func (f *Fitter) Observe(r record.Record) {
	switch r := r.(type) {
	case *record.Header:
		if f.header == nil {
			h := *r
			f.header = &h
		}
	case *record.Sample:
		if !r.ReadOK {
			return
		}
		g := f.gpu(r.GPU, r.TimeNS)
		g.add(record.ChannelPower, r.TimeNS, r.PowerW)
		g.add(record.ChannelAverage, r.TimeNS, r.PowerAverageW)
		g.add(record.ChannelInstant, r.TimeNS, r.PowerInstantW)
		g.compare(record.ChannelAverage, r.PowerW, r.PowerAverageW)
		g.compare(record.ChannelInstant, r.PowerW, r.PowerInstantW)
	case *record.Power:
		g := f.gpu(r.GPU, r.TimeNS)
		g.add(record.ChannelDriver, r.TimeNS, record.Some(r.PowerW))
		g.channels[record.ChannelDriver].stamps = true
	case *record.Counter:
		if mJ, ok := r.EnergyMilliJ.Get(); ok {
			ns := r.BeforeNS + (r.TimeNS-r.BeforeNS)/2
			f.gpu(r.GPU, ns).add(record.ChannelCounter, ns, record.Some(float64(mJ)))
		}
	}
}

// ObserveLoad takes the next record of the event stream: its events are loads
// of one level each, what lies between them is none.
func (f *Fitter) ObserveLoad(r record.Record) {
	switch r := r.(type) {
	case *record.Header:
		h := *r
		f.work = &h
		for _, p := range f.phases {
			p.Add(f.work)
		}
	case *record.Event:
		p := f.phases[r.Phase]
		if p == nil {
			p = &record.Phase{Name: r.Phase}
			if f.work != nil {
				p.Add(f.work)
			}
			f.phases[r.Phase] = p
		}
		p.Add(r)
	}
}

// Toggle says that the load was switched then, on by the first of all toggles.
func (f *Fitter) Toggle(ns int64) { f.toggles = append(f.toggles, ns) }

func (f *Fitter) gpu(index int, ns int64) *gpu {
	if !f.origin.OK {
		f.origin = record.Some(ns)
	}
	g := f.gpus[index]
	if g == nil {
		g = &gpu{map[string]*readings{}, map[string]*agreement{}}
		f.gpus[index] = g
	}
	return g
}

func (g *gpu) add(name string, ns int64, value record.Opt[float64]) {
	v, ok := value.Get()
	if !ok {
		return
	}
	r := g.channels[name]
	if r == nil {
		r = &readings{stamps: name == record.ChannelDriver}
		g.channels[name] = r
	}
	r.add(ns, v)
}

func (g *gpu) compare(name string, power, other record.Opt[float64]) {
	if !power.OK || !other.OK {
		return
	}
	a := g.both[name]
	if a == nil {
		a = &agreement{}
		g.both[name] = a
	}
	a.reads++
	if power.V == other.V {
		a.equal++
	}
}

// Finish fits all channels. It fails where trace and events have no clock in
// common, and where the trace has no power at all.
func (f *Fitter) Finish() (*Sensors, error) {
	if len(f.gpus) == 0 {
		return nil, fmt.Errorf("the trace has no readings of power")
	}
	windows := map[string][]record.Window{}
	for name, p := range f.phases {
		w, err := p.On(f.header)
		if err != nil {
			return nil, err
		}
		windows[name] = w
	}
	s := &Sensors{}
	for _, index := range slices.Sorted(maps.Keys(f.gpus)) {
		out := GPU{GPU: index}
		if f.header != nil {
			for _, h := range f.header.GPUs {
				if h.Index == index {
					out.UUID, out.Name, out.Driver = h.UUID, h.Name, h.Driver
				}
			}
		}
		load := fromEvents(windows, index, f.origin.V)
		if load == nil {
			load = fromToggles(f.toggles, f.origin.V)
		}
		b := &board{gpu: f.gpus[index], load: load, origin: f.origin.V}
		out.Channels = b.fit()
		out.Use, out.Advice = advise(out.Channels)
		s.GPUs = append(s.GPUs, out)
	}
	return s, nil
}
