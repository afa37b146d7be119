package report

import (
	"iter"
	"math"
)

// spans of time are cut into at most this many bins.
const envelopeBins = 2048

// envelope is a series over time in memory that does not grow: bins of equal
// length, each with the least, the most and the mean of what fell into it. When
// the series outgrows its bins, neighbours are taken together, so that no spike
// is lost, whatever the length.
type envelope struct {
	gapNS    int64 // longer spacings break the line; 0: none does
	originNS int64
	widthNS  int64 // of a bin
	bins     []envelopeBin
	lastNS   int64
	n        int64
}

type envelopeBin struct {
	n                int64
	least, most, sum float64
	broken           bool // a gap ended here
}

// add takes a value; what is older than the first is left out, and what is no
// number.
func (e *envelope) add(ns int64, v float64) {
	if math.IsNaN(v) || math.Abs(v) > absurdW {
		return
	}
	if e.n == 0 {
		e.originNS, e.widthNS = ns, 1e6
	}
	i := e.bin(ns)
	if i < 0 {
		return
	}
	b := &e.bins[i]
	if b.n == 0 {
		b.least, b.most = v, v
		b.broken = e.gapNS > 0 && e.n > 0 && ns-e.lastNS > e.gapNS
	}
	b.n++
	b.sum += v
	b.least, b.most = min(b.least, v), max(b.most, v)
	e.n++
	e.lastNS = ns
}

// bin is the index of the bin that a time falls into, which there is afterwards;
// -1 before the first.
func (e *envelope) bin(ns int64) int {
	if ns < e.originNS {
		return -1
	}
	for (ns-e.originNS)/e.widthNS >= envelopeBins {
		e.widthNS *= 2
		half := (len(e.bins) + 1) / 2
		for i := range half {
			b := e.bins[2*i]
			if 2*i+1 < len(e.bins) {
				b = b.with(e.bins[2*i+1])
			}
			e.bins[i] = b
		}
		e.bins = e.bins[:half]
	}
	i := int((ns - e.originNS) / e.widthNS)
	for len(e.bins) <= i {
		e.bins = append(e.bins, envelopeBin{})
	}
	return i
}

func (b envelopeBin) with(o envelopeBin) envelopeBin {
	switch {
	case b.n == 0:
		return o
	case o.n == 0:
		return b
	}
	return envelopeBin{b.n + o.n, min(b.least, o.least), max(b.most, o.most), b.sum + o.sum, b.broken}
}

// all are the bins that hold something, with the time of their middle in seconds
// after an origin.
func (e *envelope) all(originNS int64) iter.Seq2[float64, envelopeBin] {
	return func(yield func(float64, envelopeBin) bool) {
		for i, b := range e.bins {
			if b.n > 0 && !yield(seconds(e.originNS-originNS)+(float64(i)+0.5)*float64(e.widthNS)/1e9, b) {
				return
			}
		}
	}
}

// lane is when something was the case, in memory that does not grow.
type lane struct {
	envelope
	times int64
}

// mark says that it was the case from one time to another.
func (l *lane) mark(originNS, from, until int64) {
	l.times++
	if l.widthNS == 0 {
		l.originNS, l.widthNS = originNS, 1e6
	}
	last := l.bin(max(until, originNS))
	first := l.bin(max(from, originNS))
	l.bins[first].n++
	for i := first; i <= last; i++ {
		l.bins[i].most = 1
	}
}

// stretch of time, in seconds after an origin, and how often something began to be
// the case in it.
type stretchOf struct {
	from, until float64
	times       int64
}

// stretches are the times at which it was the case, neighbours as one.
func (l *lane) stretches() []stretchOf {
	var out []stretchOf
	width := float64(l.widthNS) / 1e9
	for i, b := range l.bins {
		if b.most == 0 {
			continue
		}
		from := float64(i) * width
		if n := len(out) - 1; n >= 0 && out[n].until >= from-width/2 {
			out[n].until = from + width
			out[n].times += b.n
			continue
		}
		out = append(out, stretchOf{from, from + width, b.n})
	}
	return out
}

// spread counts values in at most this many bins of equal width.
const spreadBins = 160

// spread is how values are distributed, in memory that does not grow: where they
// outgrow the bins, two become one.
type spread struct {
	width float64
	bins  map[int64]int64 // from k·width on
	n     int64

	lo, hi int64 // of the keys
}

func (s *spread) add(v float64) {
	if math.IsNaN(v) || math.Abs(v) > absurdW {
		return
	}
	if s.bins == nil {
		s.bins, s.width = map[int64]int64{}, 1e-3
	}
	k := int64(math.Floor(v / s.width))
	if s.n == 0 {
		s.lo, s.hi = k, k
	}
	s.n++
	s.bins[k]++
	s.lo, s.hi = min(s.lo, k), max(s.hi, k)
	for s.span() > spreadBins {
		wider := map[int64]int64{}
		for k, n := range s.bins {
			wider[k>>1] += n
		}
		s.bins, s.width, s.lo, s.hi = wider, 2*s.width, s.lo>>1, s.hi>>1
	}
}

// span is how many bins lie from the first to the last.
func (s *spread) span() int64 { return s.hi - s.lo + 1 }
