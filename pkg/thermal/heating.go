package thermal

import (
	"math"
	"sort"
	"time"

	"joulepipe/pkg/stats"
)

// heating is what an exponential T = limit − rise·exp(−t/τ) says of a window.
type heating struct {
	limit     float64 // °C
	low, high float64 // ends of the limit's 95 % interval
	tauS      float64
	rise      float64 // limit − T at the beginning
	remaining float64 // limit − T at the end

	scale   float64  // of a loss, °C²: over it, it is a logarithm of likelihood
	highest float64  // loss of a curve that the readings allow
	within  []limits // of the time constants that they allow
}

const (
	bins     = 150  // that a history has at most
	fewest   = 30   // bins that are fitted
	slowest  = 10.0 // minutes: the longest time constant that a cooler is believed to have
	over     = 6.0  // time constants, after which a rise is over,
	gone     = 4.0  // and after which what it leaves is looked at by itself
	together = 5    // bins one after another,
	misfit   = 0.15 // that lie so many quanta out of their intervals in the mean, are of no exponential
	taus     = 30   // time constants that are tried
	widest   = 10.0 // °C: an interval wider than this predicts nothing
	farthest = 3.0  // °C from the last reading, where the longest time constant fits as well
	// position is the share of a quantum that holds the temperature of readings
	// that stand still with 95 %: where in it they are is not known.
	position = 1.0
	softest  = 0.2 // quanta of noise that there are at least
	// pull of a reading towards the middle of its interval. It decides between
	// curves that lie in all intervals.
	pull = 1e-5
)

// history is the temperatures since the load began, in bins that get longer as
// it does: all of the rise has its say in how it ends.
type history struct {
	sinceNS, widthNS int64
	bins             []bin
}

// bin is the mean of readings one after another.
type bin struct {
	minutes, celsius, n float64
}

func (h *history) clear(ns int64) { *h = history{ns, 1e9, h.bins[:0]} }

func (h *history) add(ns int64, c float64) {
	at := int((ns - h.sinceNS) / h.widthNS)
	for at >= bins {
		kept := h.bins[:0]
		for i := 0; i < len(h.bins); i += 2 {
			b := h.bins[i]
			if i+1 < len(h.bins) {
				b.minutes, b.celsius, b.n = b.minutes+h.bins[i+1].minutes, b.celsius+h.bins[i+1].celsius, b.n+h.bins[i+1].n
			}
			kept = append(kept, b)
		}
		h.bins = kept
		h.widthNS *= 2
		at /= 2
	}
	for at >= len(h.bins) {
		h.bins = append(h.bins, bin{})
	}
	b := &h.bins[at]
	b.minutes += float64(ns-h.sinceNS) / float64(time.Minute)
	b.celsius += c
	b.n++
}

// predict foretells where the temperature goes, by all of the history where
// that is one rise, otherwise by the window alone: a fan that has changed its
// speed begins another. turned says that one just has, as it seems: nothing is
// foretold then, and what was before is worth nothing.
func predict(h *history, w *window, quantum float64) (p *heating, turned bool) {
	f := &fit{half: position * quantum / 2, width: float64(h.widthNS) / float64(time.Minute)}
	for _, b := range h.bins {
		f.add(b)
	}
	if p, of := f.beyond(quantum); p != nil {
		if f.turned(quantum) {
			return nil, true
		}
		return of.unseen(p), false
	}
	f = &fit{half: position * quantum / 2, width: float64(w.stepNS) / float64(time.Minute)}
	for p := range w.all {
		if p.n > 0 && w.sinceNS+int64(p.ns/p.n) >= h.sinceNS {
			f.add(bin{p.ns / float64(time.Minute), p.sum, p.n})
		}
	}
	if p, of := f.beyond(quantum); p != nil && !f.turned(quantum) {
		return of.unseen(p), false
	}
	return nil, false
}

// turned says that the last minutes are not what those before them foretold: a
// curve through all of them bends before it breaks.
func (f *fit) turned(quantum float64) bool {
	n := len(f.x)
	for _, back := range held {
		until := sort.SearchFloat64s(f.x, f.x[n-1]-back)
		if until < fewest || until == n {
			continue
		}
		before := &fit{x: f.x[:until], y: f.y[:until], half: f.half, width: f.width}
		p := before.predict(quantum)
		if p == nil {
			continue
		}
		// The last third of what was held back.
		from := sort.SearchFloat64s(f.x, f.x[n-1]-back/3)
		off, sum := 0.0, 0.0
		for i := from; i < n; i++ {
			off += f.y[i] - p.limit + p.remaining*math.Exp(-(f.x[i]-f.x[until-1])*60/p.tauS)
			sum++
		}
		open := 1 - math.Exp(-back*60/p.tauS)
		off /= sum
		if off > (p.high-p.limit)*open+allow*quantum || off < (p.low-p.limit)*open-allow*quantum {
			return true
		}
	}
	return false
}

// held is how many of the last minutes are foretold from those before them, and
// allow how many quanta they may be off beside the prediction's interval.
var held = []float64{1, 3}

const allow = 0.25

// beyond is the prediction of all bins, or where the rise is over in them and
// those after it still move, of these. A die that follows its load in seconds
// says nothing of the heat sink below it, which drifts for minutes. of is the
// fit that the prediction is of.
func (f *fit) beyond(quantum float64) (p *heating, of *fit) {
	if p = f.predict(quantum); p == nil {
		return nil, nil
	}
	length := f.x[len(f.x)-1] - f.x[0]
	if length*60 < over*p.tauS || math.Abs(p.rise) <= quantum {
		return p, f
	}
	from := sort.SearchFloat64s(f.x, f.x[0]+gone*p.tauS/60)
	rest := &fit{half: f.half, width: f.width}
	for i, x := range f.x[from:] {
		rest.x, rest.y = append(rest.x, x-f.x[from]), append(rest.y, f.y[from+i])
	}
	r := rest.predict(quantum)
	switch {
	case r == nil:
		return p, f
	case math.Abs(r.rise) > quantum:
		return r, rest
	}
	// Nothing shows a second time constant: what changes will do so with the one
	// that the whole rise has.
	r.rise, r.scale, r.highest = p.rise, p.scale, p.highest
	r.within = scaled(r.within, weight(p.within))
	return r, f
}

// predict fits the exponential. A reading that was rounded is an interval, in
// which all temperatures suit it alike; what a curve misses it by counts
// squared. The limit's interval is that of all curves, whatever their τ and
// rise, that miss by little more than the best, for the noise that the best
// leaves. It is nil where the readings do not bound the limit, and where they
// are not one exponential.
func (f *fit) predict(quantum float64) *heating {
	if len(f.x) < fewest {
		return nil
	}
	n := len(f.x)
	var tried [taus]*curve
	best := 0
	for k := range tried {
		tried[k] = f.at(f.tau(k))
		if tried[k].goal < tried[best].goal {
			best = k
		}
	}
	top := tried[best]
	missed, out := make([]float64, n), 0.0
	for i, y := range f.y {
		if missed[i] = f.miss(y - top.limit - top.rise*top.decay[i]); missed[i] != 0 {
			out++
		}
	}
	for i := together; i <= n; i++ {
		sum := 0.0
		for _, m := range missed[i-together : i] {
			sum += m
		}
		if math.Abs(sum) > together*misfit*max(quantum, 0.5) {
			return nil
		}
	}
	// Noise shows in the readings alone that it takes out of their interval.
	variance := max(2*top.loss/max(1, out-3), softest*softest*max(quantum*quantum, 1e-3))
	scale := variance * stats.Tau(missed)
	highest := top.loss + stats.Z95*stats.Z95/2*scale
	if best == taus-1 {
		return nil // a ramp
	}
	h := &heating{
		limit: top.limit, low: top.limit, high: top.limit, tauS: 60 * top.tau,
		rise: top.rise, remaining: -top.rise * top.decay[n-1],
		scale: scale, highest: highest,
	}
	for k, c := range tried {
		if c.loss > highest {
			continue
		}
		low, high := f.end(c, highest, -1), f.end(c, highest, 1)
		h.within = append(h.within, limits{h.likelihood(c) * (high - low), c.limit, low, high})
		h.low, h.high = min(h.low, low), max(h.high, high)
		away := max(h.high-f.y[n-1], f.y[n-1]-h.low)
		if h.high-h.low > widest || k == taus-1 && away > farthest {
			return nil
		}
	}
	return h
}

// tau is the k-th time constant that is tried, in minutes.
func (f *fit) tau(k int) float64 {
	length := f.x[len(f.x)-1]
	shortest, longest := length/50, min(4*length, slowest)
	return shortest * math.Pow(longest/shortest, float64(k)/(taus-1))
}

// likelihood of a curve, to that of the worst that the readings allow.
func (h *heating) likelihood(c *curve) float64 { return math.Exp((h.highest - c.loss) / h.scale) }

// fit is the data of a fit.
type fit struct {
	x, y  []float64 // minutes since the first bin, °C
	half  float64   // of a reading's interval
	width float64   // of a bin, minutes
}

func (f *fit) add(b bin) {
	if b.n > 0 {
		f.x, f.y = append(f.x, b.minutes/b.n), append(f.y, b.celsius/b.n)
	}
}

// curve is an exponential, limit + rise·decay.
type curve struct {
	tau         float64   // minutes
	decay       []float64 // −exp(−t/τ)
	limit, rise float64
	loss        float64 // half the sum of the squares of what it misses, °C²
	goal        float64 // with the pull
}

// miss is by how much r, a reading above a curve, is out of its interval.
func (f *fit) miss(r float64) float64 {
	switch {
	case r > f.half:
		return r - f.half
	case r < -f.half:
		return r + f.half
	}
	return 0
}

// at is the best curve of a τ: least squares first, then Newton's method. The
// goal is convex, and quadratic in pieces.
func (f *fit) at(tau float64) *curve {
	c := &curve{tau: tau, decay: make([]float64, len(f.x))}
	across := f.width / 2 / tau // the mean of a bin is not its middle
	for i, t := range f.x {
		c.decay[i] = -math.Exp(-t/tau) * math.Sinh(across) / across
	}
	f.bring(c)
	return c
}

// bring gives a curve the limit and the rise that suit the data best.
func (f *fit) bring(c *curve) {
	if l, ok := leastSquares(c.decay, f.y); ok {
		c.limit, c.rise = l[0], l[1]
	} else {
		c.limit = f.y[len(f.y)-1]
	}
	g, h := f.weigh(c)
	for range 20 {
		det := h[0]*h[2] - h[1]*h[1]
		if !(det > 0) {
			break
		}
		next := *c
		scale := 1.0
		for range 8 {
			next.limit = c.limit - scale*(h[2]*g[0]-h[1]*g[1])/det
			next.rise = c.rise - scale*(h[0]*g[1]-h[1]*g[0])/det
			g2, h2 := f.weigh(&next)
			if next.goal < c.goal {
				g, h = g2, h2
				break
			}
			scale /= 2
		}
		if !(next.goal < c.goal*(1-1e-6)) {
			break
		}
		*c = next
	}
}

// weigh brings a curve's loss and goal up to date and returns the goal's
// gradient and second derivatives by limit and rise.
func (f *fit) weigh(c *curve) (g [2]float64, h [3]float64) {
	loss, pulled := 0.0, 0.0
	var g0, g1, h0, h1, h2 float64
	limit, rise, half := c.limit, c.rise, f.half
	y := f.y[:len(c.decay)]
	for i, d := range c.decay {
		r := y[i] - limit - rise*d
		pulled += r * r
		first, second := pull*r, pull
		if e := r - half; e > 0 {
			loss += e * e
			first += e
			second++
		} else if e := r + half; e < 0 {
			loss += e * e
			first += e
			second++
		}
		g0 -= first
		g1 -= first * d
		h0 += second
		h1 += second * d
		h2 += second * d * d
	}
	g, h = [2]float64{g0, g1}, [3]float64{h0, h1, h2}
	c.loss, c.goal = loss/2, (loss+pull*pulled)/2
	return g, h
}

// end is the limit farthest from the curve's own, above it or below it by sign,
// with which a curve of this τ and of any rise has a loss up to the highest.
func (f *fit) end(c *curve, highest, sign float64) float64 {
	at := *c
	within := func(limit float64) bool {
		at.limit = limit
		rise := at.rise
		for range 12 {
			g, h := f.weigh(&at)
			if at.loss <= highest {
				return true
			}
			// From here a convex goal goes down by twice this at most.
			step := g[1] / h[2]
			if math.Abs(step) < 1e-7 {
				break
			}
			at.rise -= step
		}
		at.rise = rise
		return false
	}
	inside, outside := 0.0, 0.05
	for within(c.limit + sign*outside) {
		inside, outside = outside, 2*outside
		if inside > 2*widest {
			break
		}
	}
	for range 7 {
		if v := (inside + outside) / 2; within(c.limit + sign*v) {
			inside = v
		} else {
			outside = v
		}
	}
	return c.limit + sign*outside
}

// leastSquares is the line y = l[0] + l[1]·x.
func leastSquares(x, y []float64) (l [2]float64, ok bool) {
	n, mx, my := float64(len(x)), 0.0, 0.0
	for i := range x {
		mx, my = mx+x[i]/n, my+y[i]/n
	}
	xx, xy := 0.0, 0.0
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		xy += (x[i] - mx) * (y[i] - my)
	}
	if !(xx > 0) {
		return l, false
	}
	return [2]float64{my - xy/xx*mx, xy / xx}, true
}
