package sim

import (
	"slices"
	"sort"
)

const (
	block   = 8192 // steps from one mark to the next
	recent  = 4096 // steps whose states are kept
	marked  = 256  // blocks whose marks are all kept; of older ones some
	sparse  = 64   // blocks from one such mark to the next
	blockNS = block * stepNS
)

// history is what a GPU has done and does. The state after m steps follows from
// the load alone: it is the state at the start of m's block led on step by step, and
// the end of a block is what [physics.rest] says where it can, else what the
// steps come to. So the same bits come out for whoever asks, in whatever order,
// and however many steps are skipped.
type history struct {
	physics *physics
	origin  int64 // monotonic ns
	load    timeline
	marks   []mark        // states at the start of blocks, in their order
	thin    int           // marks before this one are thinned out
	head    walk          // as far as the GPU has come
	back    walk          // as far as was looked at last among what is not recent
	states  [recent]state // the one after m steps is at m % recent
	first   int64         // steps of the oldest of these
}

type mark struct {
	steps int64
	state state
}

func (m mark) walk() walk { return walk{m.steps, m.state, m.state} }

// walk is a state on its way.
type walk struct {
	steps int64
	state state
	begin state // at the start of this block
}

func newHistory(p *physics, origin int64) *history {
	h := &history{physics: p, origin: origin, load: newTimeline()}
	start := p.start()
	h.marks = []mark{{0, start}}
	h.restart(h.marks[0])
	h.back = h.head
	return h
}

// restart goes on from a mark.
func (h *history) restart(m mark) {
	h.head = m.walk()
	h.first = m.steps
	h.states[m.steps%recent] = m.state
}

// add takes a segment of load. What it changes in the past is forgotten.
func (h *history) add(s *Segment) {
	h.load.add(s)
	h.rewind(max(s.FromNS-h.origin, 0) / stepNS)
}

// rewind forgets what came after so many steps.
func (h *history) rewind(steps int64) {
	if steps >= h.head.steps {
		return
	}
	h.back = h.marks[0].walk()
	n := h.markBefore(steps) + 1
	h.marks = h.marks[:n]
	last := h.marks[n-1]
	if steps < h.first {
		h.restart(last)
		return
	}
	h.head = walk{steps, h.states[steps%recent], last.state}
}

// markBefore is the index of the last mark at or before so many steps.
func (h *history) markBefore(steps int64) int {
	return sort.Search(len(h.marks), func(i int) bool { return h.marks[i].steps > steps }) - 1
}

// at is the state after so many steps; before the origin it is that of a GPU
// that nothing runs on.
func (h *history) at(steps int64) state {
	switch {
	case steps <= 0:
		return h.marks[0].state
	case steps > h.head.steps:
		h.advance(steps)
	case steps < h.first:
		return h.past(steps)
	}
	return h.states[steps%recent]
}

// past is a state that is not kept any more. It goes on from where it was looked
// for last, if that is on the way.
func (h *history) past(steps int64) state {
	w := &h.back
	if m := h.marks[h.markBefore(steps)]; w.steps < m.steps || w.steps > steps {
		*w = m.walk()
	}
	for i := -1; w.steps < steps; {
		if w.steps%block == 0 && w.steps+block <= steps && h.skip(w) {
			i = -1
			continue
		}
		if i < 0 {
			i = h.load.index(h.timeOf(w.steps))
		}
		i = h.step(w, i)
	}
	return w.state
}

// timeOf is when so many steps are over.
func (h *history) timeOf(steps int64) int64 { return h.origin + steps*stepNS }

// advance leads the head on.
func (h *history) advance(steps int64) {
	w := &h.head
	i := h.load.index(h.timeOf(w.steps))
	for w.steps < steps {
		// What is recent is gone through step by step: all of it is kept.
		if w.steps%block == 0 && w.steps+block <= steps-recent && h.skip(w) {
			i = h.load.index(h.timeOf(w.steps))
		} else {
			i = h.step(w, i)
			h.first = max(h.first, w.steps-recent+1)
		}
		h.states[w.steps%recent] = w.state
		if w.steps%block == 0 {
			h.mark(w)
		}
	}
}

// step leads w on by a step that begins in span i, and returns the span in
// which the next begins.
func (h *history) step(w *walk, i int) int {
	from := h.timeOf(w.steps)
	until := from + stepNS
	h.physics.step(&w.state, h.load.mean(i, from, until))
	for h.load.until(i) <= until {
		i++
	}
	if w.steps++; w.steps%block == 0 {
		if end, ok := h.rest(w.begin, w.steps-block); ok {
			w.state = end
		}
		w.begin = w.state
	}
	return i
}

// skip leads w from the start of a block to its end, if that can be done at
// once.
func (h *history) skip(w *walk) bool {
	end, ok := h.rest(w.begin, w.steps)
	if ok {
		w.state, w.begin = end, end
		w.steps += block
	}
	return ok
}

// rest is the end of a block that begins after so many steps with s, if
// nothing happens in it.
func (h *history) rest(s state, steps int64) (end state, ok bool) {
	from := h.timeOf(steps)
	i := h.load.index(from)
	if h.load.until(i) < from+blockNS {
		return s, false
	}
	u := h.load[i].load.use()
	if u.busy > 0 {
		return s, false
	}
	return h.physics.rest(s, u.context)
}

// mark remembers the head.
func (h *history) mark(w *walk) {
	h.marks = append(h.marks, mark{w.steps, w.state})
	if len(h.marks)-h.thin < 2*marked {
		return
	}
	old := h.marks[h.thin : h.thin+marked]
	kept := slices.DeleteFunc(slices.Clone(old), func(m mark) bool { return m.steps%(sparse*block) != 0 })
	h.marks = slices.Replace(h.marks, h.thin, h.thin+marked, kept...)
	h.thin += len(kept)
}

// energy is the exact integral of the power from the origin to an instant.
func (h *history) energy(at int64) joules {
	after := at - h.origin
	if after < 0 {
		return joules{}.plus(h.marks[0].state.watts * float64(after) / 1e9)
	}
	s, left := h.during(after)
	return s.energy.plus(-s.watts * float64(left) / 1e9)
}

// power is what is drawn at an instant, in watts.
func (h *history) power(at int64) float64 {
	s, _ := h.during(max(at-h.origin, 0))
	return s.watts
}

// during is the state at the end of the step in which so many nanoseconds after
// the origin lie, and how many are left of it.
func (h *history) during(after int64) (s state, left int64) {
	steps := after/stepNS + 1
	return h.at(steps), steps*stepNS - after
}

// mean is the mean power between two instants, in watts.
func (h *history) mean(from, until int64) float64 {
	return h.energy(until).minus(h.energy(from)) / (float64(until-from) / 1e9)
}
