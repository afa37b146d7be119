package sensor

import (
	"cmp"
	"math"
	"slices"

	"joulepipe/pkg/stats"
)

// A source says what a sensor of some shape would show: shares of unknowns
// that the fit finds.
type source interface {
	spread(terms []term, s shape, at float64) []term
	pin() [][2]int // unknowns that are about the same
	unknowns() int
	follows() bool // whether the shape has tau and skew, too
	mostSkew() float64
}

func (w *work) unknowns() int     { return w.levels }
func (w *work) follows() bool     { return true }
func (w *work) mostSkew() float64 { return w.skew }

// reference is a channel that sees all of the time, as the truth for another:
// reading = offset + gain · mean.
type reference struct{ curve *Curve }

func (r reference) unknowns() int     { return 2 }
func (r reference) follows() bool     { return false }
func (r reference) mostSkew() float64 { return 0 }

func (r reference) pin() [][2]int { return nil }

func (r reference) spread(terms []term, s shape, at float64) []term {
	until := (at - s.LagMS) * 1e6
	return append(terms, term{0, 1}, term{1, r.curve.mean(until-s.WindowMS*1e6, until)})
}

// problem is least squares over a sensor's shape, the unknowns' values solved
// for at each.
type problem struct {
	source  source
	rows    []row
	cluster []int  // of rows whose misfits belong together
	locked  bool   // the readings leave out some of the load's cycle
	board   *shape // whose tau and skew are taken as known, unless nil

	normal, right []float64
	terms         []term
	ends          []int
}

func (p *problem) shape(x []float64) (s shape, ok bool) {
	s.WindowMS, s.LagMS = math.Exp(x[0]), x[1]
	if len(x) > 2 {
		s.TauMS, s.skew = x[2], x[3]
	} else if p.board != nil {
		s.TauMS, s.skew = p.board.TauMS, p.board.skew
	}
	return s, s.WindowMS > narrowMS && s.WindowMS < wideMS && s.LagMS > earlyMS && s.LagMS < lateMS && s.TauMS >= 0 && s.TauMS < 400 && math.Abs(s.skew) <= p.source.mostSkew()
}

// pinWeight is that of what is known beside the readings: a hundredth of one.
const pinWeight = 0.1

// misfit is the rows, and the pins after them, less the best that a shape can do; nil
// where it cannot be said.
func (p *problem) misfit(x []float64) []float64 {
	s, ok := p.shape(x)
	if !ok {
		return nil
	}
	n := p.source.unknowns()
	p.normal, p.right = zero(p.normal, n*n), zero(p.right, n)
	p.terms, p.ends = p.terms[:0], p.ends[:0]
	equation := func(from int, value float64) {
		p.ends = append(p.ends, len(p.terms))
		for _, a := range p.terms[from:] {
			p.right[a.unknown] += a.share * value
			for _, b := range p.terms[from:] {
				p.normal[a.unknown*n+b.unknown] += a.share * b.share
			}
		}
	}
	for _, r := range p.rows {
		from := len(p.terms)
		p.terms = p.source.spread(p.terms, s, r.at)
		equation(from, r.value)
	}
	for _, pin := range p.source.pin() {
		from := len(p.terms)
		p.terms = append(p.terms, term{pin[0], pinWeight}, term{pin[1], -pinWeight})
		equation(from, 0)
	}
	for i := range n {
		p.normal[i*n+i] += 1e-6 // a level that no row holds
	}
	values, ok := stats.Solve(p.normal, p.right)
	if !ok {
		return nil
	}
	misfit := make([]float64, len(p.ends))
	from := 0
	for k, end := range p.ends {
		if k < len(p.rows) {
			misfit[k] = p.rows[k].value
		}
		for _, t := range p.terms[from:end] {
			misfit[k] -= t.share * values[t.unknown]
		}
		from = end
	}
	return misfit
}

func zero(x []float64, n int) []float64 {
	if cap(x) < n {
		return make([]float64, n)
	}
	x = x[:n]
	clear(x)
	return x
}

func (p *problem) squares(x []float64) float64 {
	m := p.misfit(x)
	if m == nil {
		return math.Inf(1)
	}
	sum := 0.0
	for _, v := range m {
		sum += v * v
	}
	return sum
}

// Where shapes are looked for, in ms.
const (
	narrowMS, wideMS = 0.5, 2500
	earlyMS, lateMS  = -150, 500 // a load may be said to end after it has
)

// fit is the shape of a sensor with 95 % intervals.
type fit struct {
	shape
	window95, lag95 [2]float64
	others          []float64 // windows that do as well
	r2              float64   // share of the rows' variance explained
	locked          bool      // the readings leave out some of the load's cycle
}

// solve looks for the shape, from a coarse grid of windows and lags on.
func (p *problem) solve() (f fit, ok bool) {
	free := 2
	if p.source.follows() && p.board == nil {
		free = 4
	}
	if len(p.rows) < free+p.source.unknowns()+8 {
		return f, false
	}
	type start struct {
		x       []float64
		squares float64
	}
	var starts []start
	for window := 4.0; window < 1600; window *= 1.4 {
		least := start{squares: math.Inf(1)}
		for _, centre := range []float64{-30, -15, 0, 15, 30, 50, 80, 120, 180, 260} {
			x := make([]float64, free)
			x[0], x[1] = math.Log(window), centre
			if sq := p.squares(x); sq < least.squares {
				least = start{x, sq}
			}
		}
		if least.x != nil {
			starts = append(starts, least)
		}
	}
	step := []float64{0.2, 8, 5, 5}[:free]
	var found []start
	for i, s := range starts {
		if i > 0 && starts[i-1].squares < s.squares || i+1 < len(starts) && starts[i+1].squares < s.squares {
			continue
		}
		x, _ := stats.Minimize(p.squares, s.x, step)
		x, sq := stats.Minimize(p.squares, x, step) // a simplex may have collapsed
		found = append(found, start{x, sq})
	}
	if len(found) == 0 {
		return f, false
	}
	slices.SortFunc(found, func(a, b start) int { return cmp.Compare(a.squares, b.squares) })
	best := found[0]
	f.shape, _ = p.shape(best.x)
	f.locked = p.locked
	values := make([]float64, len(p.rows))
	for i, r := range p.rows {
		values[i] = r.value
	}
	_, sd := stats.MeanSD(values)
	f.r2 = 1 - best.squares/(sd*sd*float64(len(values)-1))

	profile := stats.Profile{F: p.squares, At: best.x, Step: step, Least: best.squares}
	rise := p.rise(best.x, 0)
	lo, hi := profile.Interval(0, rise, math.Log(narrowMS), math.Log(wideMS))
	f.window95 = [2]float64{math.Exp(lo), math.Exp(hi)}
	for _, s := range found[1:] {
		other, _ := p.shape(s.x)
		if s.squares <= best.squares+rise && (other.WindowMS < f.window95[0]/1.2 || other.WindowMS > f.window95[1]*1.2) {
			f.others = append(f.others, other.WindowMS)
		}
	}
	f.lag95[0], f.lag95[1] = profile.Interval(1, p.rise(best.x, 1), earlyMS, lateMS)
	return f, true
}

// rise is by how much the sum of squares may grow before a coordinate is out
// of its 95 % interval. Readings' misfits are neither independent nor of one
// size: next to an edge they are larger, for no board follows its load as the
// model has it, and only those rows tell the shape. So the variance is that of
// the rows by their say in this coordinate, misfits of one edge taken together
// (a sandwich estimate), or the plain one with its autocorrelation, whichever
// is more; and with few edges the interval is that of Student's t.
func (p *problem) rise(x []float64, coordinate int) float64 {
	base := p.misfit(x)
	if base == nil {
		return math.Inf(1)
	}
	sum := 0.0
	for _, v := range base {
		sum += v * v
	}
	readings := base[:len(p.rows)]
	freedom := float64(len(readings) - len(x) - p.source.unknowns())
	plain := sum / freedom * stats.Tau(readings)
	slopes := make([][]float64, len(x))
	for i := range x {
		h := []float64{0.01, 0.3, 0.3, 0.3}[i]
		slopes[i] = make([]float64, len(base))
		moved := slices.Clone(x)
		moved[i] += h
		up := p.misfit(moved)
		if up == nil {
			moved[i] -= 2 * h
			up, h = p.misfit(moved), -h
		}
		for k := range up {
			slopes[i][k] = (up[k] - base[k]) / h
		}
	}
	own := stats.Orthogonal(slopes, coordinate)
	type say struct{ weight, score float64 }
	says := map[int]*say{}
	for k, j := range own[:len(p.rows)] {
		s := says[p.cluster[k]]
		if s == nil {
			s = &say{}
			says[p.cluster[k]] = s
		}
		s.weight += j * j
		s.score += j * base[k]
	}
	var weight, weight2, score float64
	for _, s := range says {
		weight += s.weight
		weight2 += s.weight * s.weight
		score += s.score * s.score
	}
	if !(weight > 0) {
		return stats.F95(freedom) * plain
	}
	clusters := weight * weight / weight2 // as many of equal say
	more := max(1, clusters-1)
	least := 0.0
	if p.locked {
		least = sum // a fit twice as bad is no evidence against a window
	}
	return max(least, stats.F95(freedom)*plain, stats.F95(more)*score/weight*clusters/more)
}
