package energy

import (
	"container/heap"
	"math"
	"slices"
	"sort"
)

// sum is a running total kept as a pair of float64, so that the difference of
// two totals late in a long trace is as exact as a fresh sum over the event:
// at 1e9 J a plain float64 would have lost the tenth of a microjoule.
type sum struct{ hi, lo float64 }

// add is s + v (Knuth's two-sum, renormalised).
func (s sum) add(v float64) sum {
	s = s.next(v)
	r := s.hi + s.lo
	return sum{r, s.lo - (r - s.hi)}
}

// next is s + v where few are added to 0: its parts are left as they come.
func (s sum) next(v float64) sum {
	hi := s.hi + v
	b := hi - s.hi
	return sum{hi, s.lo + ((s.hi - (hi - b)) + (v - b))}
}

// plus is the sum of two totals.
func (s sum) plus(o sum) sum {
	t := s.add(o.hi)
	lo := t.lo + o.lo
	r := t.hi + lo
	return sum{r, lo - (r - t.hi)}
}

// minus is the difference of two totals.
func (s sum) minus(o sum) float64 { return (s.hi - o.hi) + (s.lo - o.lo) }

// prefix is everything about a curve up to an instant that an event needs at
// its two edges; an event's figures are differences of two of them.
type prefix struct {
	joules   sum
	clamped  sum   // of max(0, power − idle)
	readings int64 // at or before the instant
	gaps     sum   // seconds in spacings longer than the threshold
	breaks   int64 // places where the energy is unknown
}

// mark is where an event's edge or one of its outermost readings lies on a
// curve.
type mark struct {
	prefix
	ns   int64
	fate fate
}

// fate is what became of a mark.
type fate uint8

const (
	pendingMark fate = iota
	placed
	tooEarly // before the first reading by more than a reading may be held
	tooLate  // after the last reading by more than that
	broken   // where the curve's energy is unknown
)

// span is what one curve knows of one event: the curve at the event's edges
// and at its first and last reading.
type span struct {
	startNS, endNS int64
	start, end     mark // at the edges, interpolated
	first, last    mark // at the outermost readings inside
	maxGapNS       int64
	event          *pending // nil: nobody waits for it any more
	gone           bool     // given up before the curve came to its start
}

// A curve is the energy of one GPU by one channel as a function of time, built
// piece by piece. It keeps nothing but its end and the spans that are open, so
// that a trace of any length takes constant memory. Times must not go back.
type curve struct {
	idleW   float64 // subtracted for the clamped diagnostic
	hasIdle bool
	gapNS   int64 // spacings beyond this are gaps
	holdNS  int64 // how far a reading may be held beyond the first or last one

	begun  bool
	ns     int64   // end of the curve
	powerW float64 // at the end
	at     prefix
	corner bool   // the curve has gone on since its last reading, and
	held   prefix // was there then
	readNS int64  // time of the last reading
	late   int64  // readings left out because they came out of order

	starts  []*span // waiting for their start, in order
	waiting []*span // started, waiting for their first reading
	ends    endHeap
	next    int64    // earliest pending edge
	spacing int64    // the widest since a span was last begun or ended
	widest  []spaced // those before that could still be the widest of an open span
	open    int      // spans started and not ended
}

// spaced is the widest spacing of some up to that which ended at reading number n.
type spaced struct{ n, ns int64 }

const never = int64(1<<63 - 1)

func newCurve(rules Rules, idleW float64, hasIdle bool) *curve {
	return &curve{idleW: idleW, hasIdle: hasIdle, gapNS: seconds(rules.GapS), holdNS: seconds(rules.GapS), next: never}
}

// watch asks for a span. Spans must come in the order of their starts, before
// the curve has passed them.
func (c *curve) watch(s *span) {
	for len(c.starts) > 0 && c.starts[0].event == nil {
		c.starts[0].gone = true
		c.starts[0] = nil
		c.starts = c.starts[1:]
	}
	for len(c.ends) > 0 && c.ends[0].gone {
		heap.Pop(&c.ends)
	}
	if n := len(c.starts); n == cap(c.starts) {
		// What has started is cut off in front, and room with it.
		c.starts = slices.Grow(c.starts, n+64)
	}
	c.starts = append(c.starts, s)
	heap.Push(&c.ends, s)
	c.schedule()
}

func (c *curve) schedule() {
	c.next = never
	if len(c.starts) > 0 {
		c.next = c.starts[0].startNS
	}
	if len(c.ends) > 0 && c.ends[0].endNS < c.next {
		c.next = c.ends[0].endNS
	}
}

// begin sets the curve's first reading. Edges before it are known only when
// they lie within the time that a reading may be held.
func (c *curve) begin(ns int64, powerW float64) {
	c.begun = true
	c.ns, c.powerW = ns, powerW
	c.resolve(ns, func(x int64) beyond {
		if ns-x > c.holdNS {
			return beyond{fate: tooEarly}
		}
		back := -float64(ns-x) / 1e9
		return beyond{powerW * back, c.over(powerW) * back, placed}
	})
	c.arrive(ns)
}

// extend goes on to ns with power running in a straight line from fromW to
// toW; reading says that a reading lies at ns, and is false for a corner that
// was only inferred.
func (c *curve) extend(ns int64, fromW, toW float64, reading bool) {
	dt := float64(ns-c.ns) / 1e9
	if c.next <= ns {
		from, slope := c.ns, (toW-fromW)/dt
		c.resolve(ns, func(x int64) beyond {
			d := float64(x-from) / 1e9
			w := fromW + slope*d
			return beyond{(fromW + w) / 2 * d, (c.over(fromW) + c.over(w)) / 2 * d, placed}
		})
	}
	if !reading {
		c.leave()
	}
	c.at.joules = c.at.joules.add((fromW + toW) / 2 * dt)
	if c.hasIdle {
		c.at.clamped = c.at.clamped.add((c.over(fromW) + c.over(toW)) / 2 * dt)
	}
	c.ns, c.powerW = ns, toW
	if reading {
		c.arrive(ns)
	} else {
		c.settle()
	}
}

// plain is how many readings in a row, at those times, only add to the curve: they
// lie before its next edge and that time, and none comes late or after a gap.
func (c *curve) plain(ns []int64, until int64) int {
	until = c.calm(until)
	end, gapNS := c.ns, c.gapNS
	for i, x := range ns {
		if gap := x - end; gap <= 0 || gap > gapNS || x >= until {
			return i
		}
		end = x
	}
	return len(ns)
}

// calm is that time, or an earlier one from which on no reading is plain.
func (c *curve) calm(until int64) int64 {
	if !c.begun || c.corner || len(c.waiting) > 0 {
		return math.MinInt64
	}
	return min(c.next, until)
}

// run is extend for the readings that are plain, and says how many those are: each
// is joined to the one before by a line, or where each is the mean of the time since
// the one before, by a flat one.
func (c *curve) run(ns []int64, w []float64, until int64, means bool) int {
	n, joules, widest := c.area(ns, w, c.calm(until), means)
	if n == 0 {
		return 0
	}
	// A sum of its own for few readings is as exact as adding each to the
	// total, and need not be put in order after each.
	c.at.joules = c.at.joules.plus(joules)
	if c.hasIdle {
		c.at.clamped = c.at.clamped.plus(c.areaOver(ns[:n], w, means))
	}
	c.at.readings += int64(n)
	c.ns, c.readNS, c.powerW, c.spacing = ns[n-1], ns[n-1], w[n-1], max(c.spacing, widest)
	return n
}

// area is how many readings are before until, and come neither late nor after a
// gap, their energy and their widest spacing.
func (c *curve) area(ns []int64, w []float64, until int64, means bool) (n int, joules sum, widest int64) {
	end, power, gapNS := c.ns, c.powerW, c.gapNS
	w = w[:len(ns)]
	for i, x := range ns {
		gap := x - end
		if gap <= 0 || gap > gapNS || x >= until {
			return i, joules, widest
		}
		to := w[i]
		if means {
			power = to
		}
		widest = max(widest, gap)
		joules = joules.next(float64((power + to) / 2 * (float64(gap) / 1e9)))
		end, power = x, to
	}
	return len(ns), joules, widest
}

// areaOver is their energy above idle power.
func (c *curve) areaOver(ns []int64, w []float64, means bool) (joules sum) {
	end, power := c.ns, c.over(c.powerW)
	for i, x := range ns {
		to := c.over(w[i])
		if means {
			power = to
		}
		joules = joules.next(float64((power + to) / 2 * (float64(x-end) / 1e9)))
		end, power = x, to
	}
	return joules
}

// leave notes where the curve was at its last reading, before it goes on to
// what is none.
func (c *curve) leave() {
	if !c.corner {
		c.corner, c.held = true, c.at
	}
}

// reading is the last reading, pending before there is one.
func (c *curve) reading() mark {
	switch {
	case c.at.readings == 0:
		return mark{}
	case c.corner:
		return mark{prefix: c.held, ns: c.readNS, fate: placed}
	}
	return mark{prefix: c.at, ns: c.readNS, fate: placed}
}

// skip goes on to ns over a stretch whose energy is unknown.
func (c *curve) skip(ns int64, powerW float64) {
	c.leave()
	c.at.breaks++
	c.resolve(ns, func(int64) beyond { return beyond{fate: broken} })
	c.ns, c.powerW = ns, powerW
	c.arrive(ns)
}

// finish ends the curve; spans beyond it are given what a held reading can
// tell, or left unknown.
func (c *curve) finish() {
	end := c.ns
	c.resolve(never, func(x int64) beyond {
		if !c.begun || x-end > c.holdNS {
			return beyond{fate: tooLate}
		}
		d := float64(x-end) / 1e9
		return beyond{c.powerW * d, c.over(c.powerW) * d, placed}
	})
}

func (c *curve) over(w float64) float64 { return max(0, w-c.idleW) }

// beyond is what a mark has beyond the curve's end.
type beyond struct {
	joules, clamped float64
	fate            fate
}

// mark sets the mark at x.
func (c *curve) mark(m *mark, x int64, o beyond) {
	m.prefix, m.ns, m.fate = c.at, x, o.fate
	m.joules = c.at.joules.add(o.joules)
	m.clamped = c.at.clamped.add(o.clamped)
}

// resolve places the edges strictly before to, by at. An edge that falls on a
// reading is left for settle, after the reading has been counted.
func (c *curve) resolve(to int64, at func(x int64) beyond) {
	for c.next < to {
		c.place(c.next, at(c.next))
	}
}

// settle places the edges that fall on the curve's end.
func (c *curve) settle() {
	for c.next <= c.ns {
		c.place(c.next, beyond{fate: placed})
	}
}

// place gives every edge at x its mark: starts before ends, so that an event
// of no length is known too.
func (c *curve) place(x int64, o beyond) {
	for len(c.starts) > 0 && c.starts[0].startNS == x {
		s := c.starts[0]
		c.starts[0] = nil
		c.starts = c.starts[1:]
		c.mark(&s.start, x, o)
		if c.at.readings > 0 && c.readNS == x {
			c.part()
			s.first = c.reading()
		} else {
			c.waiting = append(c.waiting, s)
		}
		c.open++
	}
	for len(c.ends) > 0 && c.ends[0].endNS == x {
		s := heap.Pop(&c.ends).(*span)
		if s.gone {
			continue
		}
		c.mark(&s.end, x, o)
		c.close(s)
	}
	c.schedule()
}

// arrive counts a reading at ns and places what waits for it.
func (c *curve) arrive(ns int64) {
	if c.at.readings > 0 {
		gap := ns - c.readNS
		if gap > c.gapNS {
			c.at.gaps = c.at.gaps.add(float64(gap) / 1e9)
		}
		c.spacing = max(c.spacing, gap)
	}
	c.at.readings++
	c.readNS, c.corner = ns, false
	if len(c.waiting) > 0 {
		c.part()
		first := c.reading()
		for i, s := range c.waiting {
			s.first = first
			c.waiting[i] = nil
		}
		c.waiting = c.waiting[:0]
	}
	c.settle()
}

// part keeps the widest spacing so far apart from those that follow: a span
// begins or ends here.
func (c *curve) part() {
	if c.open > 0 && c.spacing > 0 {
		for n := len(c.widest); n > 0 && c.widest[n-1].ns <= c.spacing; n-- {
			c.widest = c.widest[:n-1]
		}
		c.widest = append(c.widest, spaced{c.at.readings, c.spacing})
	}
	c.spacing = 0
}

// close completes a span whose end has been placed.
func (c *curve) close(s *span) {
	if s.first.fate == placed && s.first.ns <= s.endNS {
		c.part()
		s.last = c.reading()
		s.maxGapNS = max(s.first.ns-s.startNS, s.endNS-s.last.ns)
		// widest falls from front to back: the first spacing that lies
		// inside the span is its widest.
		i := sort.Search(len(c.widest), func(i int) bool { return c.widest[i].n > s.first.readings })
		if i < len(c.widest) {
			s.maxGapNS = max(s.maxGapNS, c.widest[i].ns)
		}
	} else {
		s.first = mark{}
		s.maxGapNS = s.endNS - s.startNS
		c.waiting = slices.DeleteFunc(c.waiting, func(w *span) bool { return w == s })
	}
	if c.open--; c.open == 0 {
		c.widest = c.widest[:0]
	}
	if s.event != nil {
		s.event.left--
	}
}

// readings is how many readings lie inside the span, edges included.
func (s *span) readings() int64 {
	if s.first.fate != placed {
		return 0
	}
	return s.last.readings - s.first.readings + 1
}

// widestEdge is the longer of the times from the span's start to its first
// reading and from its last to its end, ns; the whole where there is none.
func (s *span) widestEdge() int64 {
	if s.first.fate != placed {
		return s.endNS - s.startNS
	}
	return max(s.first.ns-s.startNS, s.endNS-s.last.ns)
}

// edgeSeconds is those of the two that are longer than the threshold, s.
func (s *span) edgeSeconds(thresholdNS int64) (sum float64) {
	if s.first.fate != placed {
		return float64(s.endNS-s.startNS) / 1e9
	}
	for _, ns := range []int64{s.first.ns - s.startNS, s.endNS - s.last.ns} {
		if ns > thresholdNS {
			sum += float64(ns) / 1e9
		}
	}
	return sum
}

// gapSeconds is the time in spacings longer than the threshold, from the
// span's start over its readings to its end.
func (s *span) gapSeconds(thresholdNS int64) float64 {
	long := func(ns int64) float64 {
		if ns > thresholdNS {
			return float64(ns) / 1e9
		}
		return 0
	}
	if s.first.fate != placed {
		return long(s.endNS - s.startNS)
	}
	return s.last.gaps.minus(s.first.gaps) + long(s.first.ns-s.startNS) + long(s.endNS-s.last.ns)
}

// endHeap orders open spans by their end; spans of one end by their start.
type endHeap []*span

func (h endHeap) Len() int { return len(h) }
func (h endHeap) Less(i, j int) bool {
	if h[i].endNS != h[j].endNS {
		return h[i].endNS < h[j].endNS
	}
	return h[i].startNS < h[j].startNS
}
func (h endHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *endHeap) Push(x any)   { *h = append(*h, x.(*span)) }
func (h *endHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
