package thermal

import (
	"math"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// window is the temperatures and the powers of the last so much time, as means
// over even steps.
type window struct {
	lengthNS, stepNS int64
	sinceNS          int64 // since when it has been filled without a hole
	ring             []point
	head             int // the oldest
}

// point is the readings of a step, added up.
type point struct {
	step   int64 // number of the step since sinceNS
	ns     float64
	sum    float64 // °C
	n      float64
	power  float64 // W
	powers float64 // how many
}

func newWindow(length time.Duration) window {
	return window{lengthNS: int64(length), stepNS: int64(length) / points}
}

func (w *window) clear(ns int64) { w.ring, w.head, w.sinceNS = w.ring[:0], 0, ns }

// add takes in a reading, later than all before it, and drops what has left
// the window.
func (w *window) add(ns int64, c float64, watts record.Opt[float64]) {
	step := (ns - w.sinceNS) / w.stepNS
	var p *point
	switch n := len(w.ring); {
	case n > 0 && w.ring[(w.head+n-1)%n].step == step:
		p = &w.ring[(w.head+n-1)%n]
	case n < points:
		// Points are made one a step at most, so that a ring of as many as fit in
		// the window has lost the ones that left it, or holds some that are marked
		// as too old by their step.
		w.ring = append(w.ring, point{step: step})
		p = &w.ring[n]
	default:
		p = &w.ring[w.head]
		*p = point{step: step}
		w.head = (w.head + 1) % n
	}
	p.ns += float64(ns - w.sinceNS)
	p.sum += c
	p.n++
	if watts, ok := watts.Get(); ok {
		p.power += watts
		p.powers++
	}
}

// all are the points in the window, the oldest first.
func (w *window) all(yield func(*point) bool) {
	n := len(w.ring)
	for k := range n {
		p := &w.ring[(w.head+k)%n]
		if p.step > w.ring[(w.head+n-1)%n].step-points && !yield(p) {
			return
		}
	}
}

// series is the window's temperatures: minutes since sinceNS and °C.
func (w *window) series() (minutes, celsius []float64) {
	for p := range w.all {
		minutes = append(minutes, p.ns/p.n/float64(time.Minute))
		celsius = append(celsius, p.sum/p.n)
	}
	return minutes, celsius
}

// slope is the least-squares slope in °C/min and the half-width of its 95 %
// interval: the scatter's, with neighbouring readings worth less than
// independent ones, and the most that rounding can turn a line by, which is
// 1.5 quanta over the window. Readings that stand still have no scatter, and
// may have drifted all the same.
func (w *window) slope(quantum float64) (perMin, ci float64, ok bool) {
	x, y := w.series()
	l, ok := stats.FitLine(x, y)
	if !ok {
		return 0, 0, false
	}
	return l.Slope, stats.Z95*l.SlopeSE + 1.5*quantum/(x[len(x)-1]-x[0]), true
}

// powerDrift is the change of power over the window by its least-squares line,
// as a share of its mean, with the half-width of the 95 % interval. Power is
// read far finer than temperature, and leaks with it.
func (w *window) powerDrift() (share, ci float64, ok bool) {
	var x, y []float64
	for p := range w.all {
		if p.powers > 0 {
			x, y = append(x, p.ns/p.n), append(y, p.power/p.powers)
		}
	}
	if len(x) < points/10 {
		return 0, 0, false
	}
	mean, _ := stats.MeanSD(y)
	l, ok := stats.FitLine(x, y)
	if !ok || !(mean > 0) {
		return 0, 0, false
	}
	length := (x[len(x)-1] - x[0]) / mean
	return l.Slope * length, stats.Z95 * l.SlopeSE * length, true
}

// grid finds out what readings are rounded to, from the readings.
type grid struct {
	origin, last int64 // units of 0.1 m°C
	divisor      int64 // of all differences from origin
	levels       int   // changes from one reading to the next
	any          bool
}

const gridUnit = 1e-4 // °C; a sensor finer than that is not rounded

func (g *grid) add(c float64) {
	v := int64(math.Round(c / gridUnit))
	if !g.any {
		g.any, g.origin, g.last = true, v, v
		return
	}
	if v == g.last {
		return
	}
	g.last = v
	g.levels++
	g.divisor = divisor(g.divisor, v-g.origin)
}

// quantum is in °C. Few changes may have skipped levels: then it is the least
// of their common divisor and what the readings themselves suggest, 1 °C where
// they are whole.
func (g *grid) quantum() float64 {
	d := g.divisor
	if g.levels < 4 {
		d = divisor(divisor(d, g.origin), int64(1/gridUnit))
	}
	return float64(d) * gridUnit
}

// divisor is the greatest common one.
func divisor(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, -a)
}
