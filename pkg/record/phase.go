package record

import (
	"cmp"
	"fmt"
	"slices"
)

// Window is a stretch of time, both ends included, on a trace's clock.
type Window struct {
	FromNS, UntilNS int64
	GPUs            []int // nil: all
}

// Of says whether the window is one of that GPU.
func (w Window) Of(gpu int) bool { return w.GPUs == nil || slices.Contains(w.GPUs, gpu) }

// Phase gathers from a stream when something was going on: its events of that
// phase, and the time from each marker "start_NAME" to the next "end_NAME".
type Phase struct {
	Name string

	header  *Header
	found   []found
	started Opt[int64]
}

// found is a window as its stream has it: on the stream's clock or the wall's.
type found struct {
	Window
	id     string
	wall   bool
	header *Header
}

// Add takes a record of the stream; those that have nothing to do with the
// phase are passed over.
func (p *Phase) Add(r Record) {
	switch r := r.(type) {
	case *Header:
		h := *r
		p.header = &h
	case *Event:
		if r.Phase != p.Name {
			return
		}
		f := found{Window: Window{r.StartNS, r.EndNS, slices.Clone(r.GPUs)}, id: r.ID, header: p.header}
		if from, ok := r.StartUnixNS.Get(); ok && r.StartNS == 0 && r.EndNS == 0 {
			f.FromNS, f.UntilNS, f.wall = from, r.EndUnixNS.Or(from), true
		}
		if len(f.GPUs) == 0 {
			f.GPUs = []int{}
		}
		p.found = append(p.found, f)
	case *Marker:
		switch r.Name {
		case "start_" + p.Name:
			p.started = Some(r.TimeNS)
		case "end_" + p.Name:
			if from, ok := p.started.Get(); ok {
				p.found = append(p.found, found{Window: Window{FromNS: from, UntilNS: r.TimeNS}, id: r.Name, header: p.header})
			}
			p.started = Opt[int64]{}
		}
	}
}

// Len is how many windows were found.
func (p *Phase) Len() int { return len(p.found) }

// On is the phase's windows on the clock of a trace with that header (nil: it
// has none), in the order of their starts. An event that names no GPU is the
// trace's only one's, or GPU 0's. It fails where the two clocks have nothing
// in common.
func (p *Phase) On(trace *Header) ([]Window, error) {
	only := []int{0}
	if trace != nil && len(trace.GPUs) == 1 {
		only[0] = trace.GPUs[0].Index
	}
	windows := make([]Window, 0, len(p.found))
	for _, f := range p.found {
		w := f.Window
		switch {
		case f.wall && (trace == nil || trace.UnixNS == 0):
			return nil, fmt.Errorf("%q has wall-clock times, and the trace's header has no wall clock to place them by", f.id)
		case f.wall:
			w.FromNS += trace.TimeNS - trace.UnixNS
			w.UntilNS += trace.TimeNS - trace.UnixNS
		case trace != nil && f.header != nil && trace.BootID != "" && f.header.BootID != "" && trace.BootID != f.header.BootID:
			return nil, fmt.Errorf("trace and events are of different boots (%s, %s): their monotonic clocks have nothing in common", trace.BootID, f.header.BootID)
		}
		if w.GPUs != nil && len(w.GPUs) == 0 {
			w.GPUs = only
		}
		windows = append(windows, w)
	}
	slices.SortStableFunc(windows, func(a, b Window) int { return cmp.Compare(a.FromNS, b.FromNS) })
	return windows, nil
}
