package sim

import (
	"math/rand/v2"
	"testing"
)

// Segments that follow on each other with the same load are one span, as the
// renewals of a lease are.
func TestRenewalsAreOneSpan(t *testing.T) {
	t.Parallel()
	l := newTimeline()
	for i := range int64(100) {
		l.add(&Segment{FromNS: 10 * i, UntilNS: 10 * (i + 1), Compute: 0.3, VRAMMB: 5, Context: true})
	}
	if len(l) != 3 || l[1].from != 0 || l[2].from != 1000 {
		t.Errorf("spans: %+v", l)
	}
}

func TestOverlappingSegmentsAddUp(t *testing.T) {
	t.Parallel()
	l := newTimeline()
	l.add(&Segment{FromNS: 0, UntilNS: 100, Compute: 0.8, Memory: 0.2, VRAMMB: 10})
	l.add(&Segment{FromNS: 50, UntilNS: 150, Compute: 0.8, Memory: 0.3, VRAMMB: 20, Context: true})
	for _, c := range []struct {
		from, until              int64
		compute, memory, busy, v float64
		context                  bool
	}{
		{-10, 0, 0, 0, 0, 0, false},
		{0, 50, 0.8, 0.2, 0.8, 10, true},
		{50, 100, 1, 0.5, 1, 30, true},
		{100, 150, 0.8, 0.3, 0.8, 20, true},
		{150, 200, 0, 0, 0, 0, false},
		{100, 200, 0.4, 0.15, 0.4, 20, true},
		{-50, 150, 0.65, 0.25, 0.65, 0, true},
	} {
		u := l.between(c.from, c.until)
		near(t, "compute", u.compute, c.compute, 1e-12)
		near(t, "memory", u.memory, c.memory, 1e-12)
		near(t, "busy", u.busy, c.busy, 1e-12)
		if v := l[l.index(c.from)].load.vram; v != c.v || u.context != c.context {
			t.Errorf("from %d until %d: %v MiB, context %v", c.from, c.until, v, u.context)
		}
	}
}

// Spans are in order, and neighbours differ.
func TestTimelineStaysInOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	l := newTimeline()
	for range 500 {
		from := r.Int64N(200)
		l.add(&Segment{FromNS: from, UntilNS: from + 1 + r.Int64N(50), Compute: 0.5, Context: r.IntN(2) == 0})
		for i := range l[1:] {
			if l[i].from >= l[i+1].from {
				t.Fatalf("spans %d and %d: %+v", i, i+1, l[i:i+2])
			}
		}
	}
	if last := l[len(l)-1]; l[0].load != last.load || last.load != (load{}) {
		t.Errorf("load before and after all: %+v, %+v", l[0], last)
	}
}
