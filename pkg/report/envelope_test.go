package report

import (
	"math"
	"math/rand/v2"
	"testing"
)

// However long a series, there are no more bins, and they keep the least, the most,
// the sum and the count of what lies in them.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 100, 5000, 300_000} {
		random := rand.New(rand.NewPCG(1, uint64(n)))
		e := envelope{gapNS: 250e6}
		values := make([]float64, n)
		for i := range values {
			values[i] = 300 + random.NormFloat64()
			e.add(7e12+int64(i)*100e6, values[i])
		}
		if len(e.bins) > envelopeBins {
			t.Errorf("%d samples in %d bins", n, len(e.bins))
		}
		// The bins are those of the same samples put into them at once.
		want := make([]envelopeBin, len(e.bins))
		for i, v := range values {
			b := &want[int64(i)*100e6/e.widthNS]
			if b.n == 0 {
				b.least, b.most = v, v
			}
			b.n++
			b.sum += v
			b.least, b.most = min(b.least, v), max(b.most, v)
		}
		for i, b := range e.bins {
			if w := want[i]; b.n != w.n || b.least != w.least || b.most != w.most || math.Abs(b.sum-w.sum) > 1e-9*math.Abs(w.sum) || b.broken {
				t.Fatalf("%d samples: bin %d is %+v, want %+v", n, i, b, w)
			}
		}
		last := 0.0
		for at := range e.all(7e12) {
			last = at
		}
		if want := float64(n-1) / 10; math.Abs(last-want) > float64(e.widthNS)/1e9 {
			t.Errorf("%d samples: the last at %g s, want %g", n, last, want)
		}
	}
}

// A gap breaks the line after it, also when bins have been taken together since.
func TestEnvelopeGap(t *testing.T) {
	t.Parallel()
	e := envelope{gapNS: 250e6}
	for i := range 50_000 {
		if i < 20_000 || i >= 21_000 {
			e.add(int64(i)*100e6, 1)
		}
	}
	broken := 0
	for at, b := range e.all(0) {
		if b.broken {
			broken++
			if math.Abs(at-2100) > 10 {
				t.Errorf("the gap ends at %g s", at)
			}
		}
	}
	if broken != 1 {
		t.Errorf("%d gaps", broken)
	}
}

func TestLane(t *testing.T) {
	t.Parallel()
	var l lane
	l.mark(1e12, 1e12+10e9, 1e12+12e9)
	l.mark(1e12, 1e12+500e9, 1e12+500e9)
	l.mark(1e12, 0, 1e12+1e9) // began before the trace
	for i := range 3000 {
		l.mark(1e12, 1e12+int64(1000+i)*1e9, 1e12+int64(1000+i)*1e9+5e8)
	}
	got := l.stretches()
	width := float64(l.widthNS) / 1e9
	if l.times != 3003 || len(l.bins) > envelopeBins || len(got) != 4 {
		t.Fatalf("%d times, %d bins, stretches %+v", l.times, len(l.bins), got)
	}
	for i, want := range []stretchOf{{0, 1, 1}, {10, 12, 1}, {500, 500, 1}, {1000, 3999.5, 3000}} {
		if g := got[i]; math.Abs(g.from-want.from) > width || math.Abs(g.until-want.until) > width || g.times != want.times {
			t.Errorf("%+v, want %+v", g, want)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, scale := range []float64{1e-3, 1, 700, 1e5} {
		var s spread
		random := rand.New(rand.NewPCG(2, 3))
		for range 10_000 {
			s.add(scale * (random.Float64() - 0.3))
		}
		s.add(math.NaN())
		s.add(math.Inf(1))
		sum, lowest, highest := int64(0), int64(math.MaxInt64), int64(math.MinInt64)
		for k, n := range s.bins {
			sum += n
			lowest, highest = min(lowest, k), max(highest, k)
		}
		if sum != 10_000 || highest-lowest >= spreadBins || lowest != s.lo || highest != s.hi {
			t.Errorf("%g: %d values in %d to %d, said %d to %d", scale, sum, lowest, highest, s.lo, s.hi)
		}
		if lo, hi := float64(lowest)*s.width, float64(highest+1)*s.width; lo > -0.29*scale || hi < 0.69*scale || lo < -0.3*scale-s.width || hi > 0.7*scale+s.width {
			t.Errorf("%g: from %g to %g", scale, lo, hi)
		}
	}
}
