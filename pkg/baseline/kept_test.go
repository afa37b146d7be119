package baseline

import (
	"math"
	"testing"

	"joulepipe/pkg/record"
)

// However long a baseline is, so much is kept, its mean is that of all, and its
// ticks are evenly spaced.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{999, 1000, 2500, 50_000} {
		k := kept{held: true, most: 1000}
		sum := 0.0
		for i := range n {
			w := 100 + math.Sin(float64(i)) + float64(i)/1e4
			sum += w
			k.add(int64(i)*1e8, w, 0, setting{})
			if len(k.values) > 1000 {
				t.Fatalf("%d values after %d", len(k.values), i)
			}
		}
		ticks, update := k.ticks(2e9)
		mean := 0.0
		for i, x := range ticks {
			mean += x.watts / float64(len(ticks))
			if i > 0 && !x.joined {
				t.Fatalf("n %d: a hole at tick %d of %d", n, i, len(ticks))
			}
		}
		group := max(k.group, 1)
		if want := float64(group) * 1e8; math.Abs(float64(update)-want) > 1 {
			t.Errorf("n %d: update %d, want %g", n, update, want)
		}
		if math.Abs(mean-sum/float64(n)) > 0.02 || len(ticks) < 450 {
			t.Errorf("n %d: %d ticks of %d with a mean of %g, all have %g", n, len(ticks), group, mean, sum/float64(n))
		}
	}
}

func TestCounterPower(t *testing.T) {
	t.Parallel()
	var j joules
	for i := range 2000 { // read every 20 ms, changes every 100 ms, 20 W; two windows
		window := i / 1000
		ns := int64(i)*2e7 + int64(window)*1e12
		mJ := int64(float64(ns/1e8) * 2000)
		j.add(&record.Counter{BeforeNS: ns, TimeNS: ns + 1e6, EnergyMilliJ: record.Some(mJ)}, window)
	}
	j.add(&record.Counter{TimeNS: 3e12, Error: "NVML_ERROR_UNKNOWN"}, 1)
	if w, se, ok := j.power(); !ok || math.Abs(w-20) > 1e-9 || se > 0.1 || se <= 0 {
		t.Errorf("%g ± %g W, %v", w, se, ok)
	}
	j.add(&record.Counter{BeforeNS: 2e12, TimeNS: 2e12, EnergyMilliJ: record.Some(int64(5))}, 1)
	if _, _, ok := j.power(); ok {
		t.Error("a counter that was reset has a power at once")
	}
}
