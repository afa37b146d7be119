package sim

import (
	"math"
	"slices"
	"sort"
)

// load is what runs on a GPU at an instant: the sum of the segments there.
type load struct {
	compute, memory float64 // may exceed 1
	vram            float64 // MiB
	contexts        int     // that segments tell of
}

func (l *load) add(s *Segment) {
	l.compute += s.Compute
	l.memory += s.Memory
	l.vram += s.VRAMMB
	if s.Context {
		l.contexts++
	}
}

// held is how many contexts there are: what runs or is allocated needs one,
// even if no segment tells of it.
func (l *load) held() int {
	if l.contexts == 0 && (l.compute > 0 || l.memory > 0 || l.vram > 0) {
		return 1
	}
	return l.contexts
}

// span is a time of constant load, until the next span.
type span struct {
	from int64 // monotonic ns
	load load
}

// timeline is the load of a GPU over all of time. Segments are added in the
// file's order, so that the sums are the same bits whoever reads it.
type timeline []span

func newTimeline() timeline { return timeline{{from: math.MinInt64}} }

// index is that of the span in which an instant lies.
func (t timeline) index(at int64) int {
	if last := len(t) - 1; t[last].from <= at {
		return last
	}
	return sort.Search(len(t), func(i int) bool { return t[i].from > at }) - 1
}

// until is the end of a span.
func (t timeline) until(i int) int64 {
	if i+1 < len(t) {
		return t[i+1].from
	}
	return math.MaxInt64
}

func (t *timeline) add(s *Segment) {
	first := t.cut(s.FromNS)
	end := t.cut(s.UntilNS)
	for i := first; i < end; i++ {
		(*t)[i].load.add(s)
	}
	t.join(end)
	t.join(first)
}

// cut makes a span begin at an instant, and returns its index.
func (t *timeline) cut(at int64) int {
	i := t.index(at)
	if (*t)[i].from == at {
		return i
	}
	*t = slices.Insert(*t, i+1, span{at, (*t)[i].load})
	return i + 1
}

// join makes one of span i and the one before it if their load is the same.
func (t *timeline) join(i int) {
	if (*t)[i].load == (*t)[i-1].load {
		*t = slices.Delete(*t, i, i+1)
	}
}

// use is what the units of a GPU do, each from 0 to 1.
type use struct {
	compute, memory float64
	busy            float64 // the greater of the two
	context         bool    // at some time
}

func (l *load) use() use {
	c, m := min(l.compute, 1), min(l.memory, 1)
	return use{c, m, max(c, m), l.held() > 0}
}

// mean is the use between two instants, beginning in span i.
func (t timeline) mean(i int, from, until int64) use {
	if t.until(i) >= until {
		return t[i].load.use()
	}
	var sum use
	for at := from; at < until; i++ {
		end := min(t.until(i), until)
		share := float64(end-at) / float64(until-from)
		u := t[i].load.use()
		sum.compute += share * u.compute
		sum.memory += share * u.memory
		sum.busy += share * u.busy
		sum.context = sum.context || u.context
		at = end
	}
	return sum
}

// between is the mean use between two instants.
func (t timeline) between(from, until int64) use {
	return t.mean(t.index(from), from, until)
}
