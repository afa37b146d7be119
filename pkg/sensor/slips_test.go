package sensor

import (
	"math"
	"testing"

	"joulepipe/pkg/record"
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

// Polls in step with the updates see them all at one phase: where they are is
// not known better than to a poll, however many there are.
func TestPollsInStep(t *testing.T) {
	t.Parallel()
	phaseSE := func(poll float64) float64 {
		var r readings
		for k := range 20000 {
			at := float64(k) * poll
			r.add(int64(at*1e6), math.Floor((at-3)/100))
		}
		g, reason := r.updates()
		if reason != "" || math.Abs(g.update-100) > 0.01 {
			t.Fatalf("%q, update %v", reason, g.update)
		}
		return g.phaseSE
	}
	if se := phaseSE(10); se < 2.5 || se > 3.5 {
		t.Errorf("polled every 10 ms, in step, the updates are known to %.2f ms, want 10/√12", se)
	}
	if se := phaseSE(9.7); se > 0.5 {
		t.Errorf("polled every 9.7 ms the updates are known to %.2f ms only", se)
	}
}

// The share of time that a sensor sees is its window's, unless an exponential
// before it lasts from one window to the next.
func TestCoverage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		update, window, tau, want float64
		class                     Class
	}{
		{20, 5.4, 13.6, 1, Instant},       // an H200's driver buffer
		{100, 19.1, 13.6, 0.191, Instant}, // its field 186
		{100, 1000, 13.6, 1, Averaged},
		{100, 40, 300, 1, Exponential},
	} {
		ch := &Channel{UpdateMS: record.Some(c.update), Class: Unknown}
		f := fit{shape: shape{Chain: Chain{WindowMS: c.window, LagMS: 2, TauMS: c.tau}}, window95: [2]float64{c.window * 0.95, c.window * 1.05}, lag95: [2]float64{1, 3}}
		(&board{}).tell(ch, f, true, grid{}, &readings{})
		if math.Abs(ch.Coverage.V-c.want) > 1e-9 || ch.Class != c.class {
			t.Errorf("window %v of %v ms behind %v: coverage %v, %s", c.window, c.update, c.tau, ch.Coverage, ch.Class)
		}
	}
}
