package thermal

import (
	"math"
	"time"

	"joulepipe/pkg/stats"
)

// window is the temperatures of the last so much time, as means over even
// steps.
type window struct {
	lengthNS, stepNS int64
	sinceNS          int64 // since when it has been filled without a hole
	ring             []point
	head             int // the oldest
}

// point is the mean of the readings in a step.
type point struct {
	step  int64 // number of the step since sinceNS
	ns    float64
	sum   float64
	n     float64
	whole bool // all were whole degrees
}

func newWindow(length time.Duration) window {
	return window{lengthNS: int64(length), stepNS: int64(length) / points}
}

func (w *window) clear(ns int64) { w.ring, w.head, w.sinceNS = w.ring[:0], 0, ns }

// add takes in a reading, later than all before it, and drops what has left
// the window.
func (w *window) add(ns int64, c float64) {
	step := (ns - w.sinceNS) / w.stepNS
	if n := len(w.ring); n > 0 {
		last := &w.ring[(w.head+n-1)%n]
		if last.step == step {
			last.ns += float64(ns - w.sinceNS)
			last.sum += c
			last.n++
			last.whole = last.whole && c == math.Trunc(c)
			return
		}
	}
	p := point{step, float64(ns - w.sinceNS), c, 1, c == math.Trunc(c)}
	// Points are made one a step at most, so that a ring of as many as fit in
	// the window has lost the ones that left it, or holds some that are marked
	// as too old by their step.
	if len(w.ring) < points {
		w.ring = append(w.ring, p)
		return
	}
	w.ring[w.head] = p
	w.head = (w.head + 1) % len(w.ring)
}

// series is the window's points: minutes since the oldest and °C. quantum is
// what the readings were rounded to, 1 °C or nothing.
func (w *window) series() (minutes, celsius []float64, quantum float64) {
	n := len(w.ring)
	quantum = 1
	if n == 0 {
		return nil, nil, 0
	}
	newest := w.ring[(w.head+n-1)%n].step
	first := 0.0
	for k := range n {
		p := &w.ring[(w.head+k)%n]
		if p.step <= newest-points {
			continue
		}
		t := p.ns / p.n / float64(time.Minute)
		if len(minutes) == 0 {
			first = t
		}
		minutes = append(minutes, t-first)
		celsius = append(celsius, p.sum/p.n)
		if !p.whole {
			quantum = 0
		}
	}
	return minutes, celsius, quantum
}

// slope is the least-squares slope in °C/min and the half-width of its 95 %
// interval: the scatter's, with neighbouring readings worth less than
// independent ones, and the most that rounding can turn a line by, which is
// 1.5 quanta over the window. Readings that stand still have no scatter, and
// may have drifted all the same.
func (w *window) slope() (perMin, ci float64, ok bool) {
	x, y, quantum := w.series()
	l, ok := stats.FitLine(x, y)
	if !ok {
		return 0, 0, false
	}
	return l.Slope, stats.Z95*l.SlopeSE + 1.5*quantum/x[len(x)-1], true
}

// limit is the temperature that the window is heading for, by an exponential
// T = limit − rise·exp(−t/τ). ok is false where the window does not fix it to
// ±1 °C: every τ that fits nearly as well as the best has its say, and where
// the longest τ tried is among them, the limit must not be far away.
func (w *window) limit() (celsius float64, ok bool) {
	x, y, quantum := w.series()
	if len(x) < points/10 {
		return 0, false
	}
	length := x[len(x)-1]
	const taus = 60
	shortest, longest := length/50, 4*length
	var fits [taus]stats.Line
	best := -1
	decay := make([]float64, len(x))
	for k := range fits {
		tau := shortest * math.Pow(longest/shortest, float64(k)/(taus-1))
		for i := range x {
			decay[i] = math.Exp(-x[i] / tau)
		}
		fit, ok := stats.FitLine(decay, y)
		if !ok {
			return 0, false
		}
		fits[k] = fit
		if best < 0 || fit.Residual < fits[best].Residual {
			best = k
		}
	}
	n := float64(len(x))
	variance := max(fits[best].Residual/n, quantum*quantum/12)
	lo, hi := math.Inf(1), math.Inf(-1)
	for k := range fits {
		worse := fits[k].Residual - fits[best].Residual
		if worse > 0 && worse/variance*fits[best].NEff/n > stats.Z95*stats.Z95 {
			continue
		}
		lo = min(lo, fits[k].Intercept-stats.Z95*fits[k].InterceptSE)
		hi = max(hi, fits[k].Intercept+stats.Z95*fits[k].InterceptSE)
		if k == taus-1 && math.Abs(fits[k].Intercept-y[len(y)-1]) > 1 {
			return 0, false
		}
	}
	return fits[best].Intercept, hi-lo <= 2
}
