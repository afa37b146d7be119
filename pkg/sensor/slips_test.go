package sensor

import (
	"math"
	"testing"
)

// A clock of 100 ms that is held up three times, polled every 10 ms: the H200's
// while a process made a context beside it.
func TestSlips(t *testing.T) {
	t.Parallel()
	var r readings
	held := map[int]float64{40: 12, 41: 30, 90: 115, 300: 8} // ms by which an update and all after it come later
	late := map[int]float64{60: 25, 200: 40}                 // an update that comes late alone
	next, shift, n := 3.0, 0.0, 0
	var truth []float64
	for poll := 0; poll < 45000; poll++ {
		at := float64(poll) * 10.013
		for next+late[n] <= at {
			truth = append(truth, next)
			n++
			shift += held[n]
			next = 3 + 100*float64(n) + shift
		}
		r.add(int64(at*1e6), float64(n))
	}
	g, reason := r.updates()
	if reason != "" {
		t.Fatal(reason)
	}
	if math.Abs(g.update-100) > 0.005 || g.updateSE > 0.01 || len(g.parts) < 3 {
		t.Errorf("update %v ± %v ms in %d parts", g.update, g.updateSE, len(g.parts))
	}
	found, worst := 0, 0.0
	for _, at := range truth {
		if u, ok := g.near(at); ok {
			found++
			worst = max(worst, math.Abs(u-at))
		}
	}
	if found < len(truth)*95/100 || worst > 8 {
		t.Errorf("%d of %d updates, the worst %.1f ms off", found, len(truth), worst)
	}
}
