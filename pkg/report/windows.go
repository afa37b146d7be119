package report

import (
	"slices"

	"joulepipe/pkg/record"
)

// windows are the stretches of a trace that events of one GPU cover, and what
// was counted of the samples up to each of their edges.
type windows struct {
	edges        []int64
	before, upto []tally // samples earlier than the edge, and no later than it
	nextBefore   int
	nextUpto     int
	now          tally
}

// tally counts samples.
type tally struct{ valid, throttled int64 }

func newWindows(events []record.Event, gpu int) *windows {
	w := &windows{}
	for i := range events {
		if runsOn(&events[i], gpu) {
			w.edges = append(w.edges, events[i].StartNS, events[i].EndNS)
		}
	}
	slices.Sort(w.edges)
	w.edges = slices.Compact(w.edges)
	w.before = make([]tally, len(w.edges))
	w.upto = make([]tally, len(w.edges))
	return w
}

// runsOn says whether an event used a GPU; readEvents has seen to it that it
// names one.
func runsOn(e *record.Event, gpu int) bool { return slices.Contains(e.GPUs, gpu) }

// count takes a sample; samples come in order of time.
func (w *windows) count(t int64, valid, throttled bool) {
	for ; w.nextBefore < len(w.edges) && w.edges[w.nextBefore] <= t; w.nextBefore++ {
		w.before[w.nextBefore] = w.now
	}
	for ; w.nextUpto < len(w.edges) && w.edges[w.nextUpto] < t; w.nextUpto++ {
		w.upto[w.nextUpto] = w.now
	}
	if valid {
		w.now.valid++
	}
	if throttled {
		w.now.throttled++
	}
}

// finish settles the edges after the last sample.
func (w *windows) finish() {
	for ; w.nextBefore < len(w.edges); w.nextBefore++ {
		w.before[w.nextBefore] = w.now
	}
	for ; w.nextUpto < len(w.edges); w.nextUpto++ {
		w.upto[w.nextUpto] = w.now
	}
}

// edge is the index of a time among the edges.
func (w *windows) edge(ns int64) int {
	i, _ := slices.BinarySearch(w.edges, ns)
	return i
}

// inside counts the samples of an event, its edges included.
func (w *windows) inside(e *record.Event) tally {
	a, b := w.before[w.edge(e.StartNS)], w.upto[w.edge(e.EndNS)]
	return tally{b.valid - a.valid, b.throttled - a.throttled}
}
