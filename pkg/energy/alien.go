package energy

import (
	"fmt"
	"math"

	"joulepipe/pkg/record"
)

// shapes are ways in which a channel of some name might follow the power where
// nothing was measured: the means, s, that its built-in response stands for,
// and others that boards have, which it does not.
type shapes struct {
	usual, other []float64
}

var shapesOf = map[string]shapes{
	record.ChannelDriver:  {[]float64{0.006, 0.020}, []float64{0.060, 0.1, 0.5, 1}},
	record.ChannelInstant: {[]float64{0.060, 0.025, 0.1}, []float64{0.25, 0.5, 1}},
	record.ChannelAverage: {[]float64{1}, []float64{0.025, 0.1, 0.25, 0.5, 2}},
}

// quick are time constants from which one is looked for, beside the usual one, s.
var quick = []float64{0.002, 0.007}

// slowly are time constants of sensors that follow a step as a capacitor does,
// as boards before 2014 have, s.
var slowly = []float64{0.1, 0.2, 0.4, 0.8}

const (
	leastStep  = 20.0  // W: a step of power that shows how a channel follows it
	fewSteps   = 3     // patches that show how a channel follows the power
	instantS   = 0.001 // s: a mean over no time
	leastBlind = 0.015 // s, by which readings may be late or early, from which on that is looked for as well
	usualBlind = 0.005 // the same, where the shape is one that is thought of
	// strange is how much likelier, as -2 log of the likelihood, another shape has
	// to be than what a channel was taken for, in all and for each reading. In 200
	// simulated runs of each, what boards of the kind have comes to -0.1 a reading
	// at most; an exponential of 200 ms to 0.5 at least, and means over 500 ms,
	// where 1 s is thought, to 0.4.
	strange        = 6.0
	strangeReading = 0.28
	plainly        = 10.0 // the same, by which another mean has to be likelier to be taken
)

// recognise looks at whether the channels of which nothing was measured follow
// the power as boards of their kind do. What one shows that does not is worth
// nothing: another shape fits it better, but which of many is not told by a
// few edges.
func (r *solution) recognise(from []*patch) {
	paced := false // it has been looked for how slowly the board follows the work
	for c, t := range r.tracks {
		s, ok := shapesOf[t.name]
		if !ok || t.response.told || t.alien != "" {
			continue
		}
		var some []*patch
		readings := 0
		for _, p := range from {
			if p = p.only(c); p.ranges() > leastStep {
				some = append(some, p)
				readings += len(p.rows)
			}
		}
		if len(some) < fewSteps {
			continue
		}
		// A mean over many updates of what is no such mean takes steps that nobody asked
		// for to explain, which is how it is found out. In others they hide what differs.
		if t.name != Average {
			each(some, func(s *solver, p *patch, _ int) { s.smoothen(p) })
		}
		blind := math.Inf(1)
		for _, p := range some {
			blind = min(blind, p.blind[c])
		}
		delay := t.response.delay(t.response.window)
		// Of readings that are polled as seldom as they are made, when they were is
		// not known better than their shape. least is from what doubt on that is looked for.
		fits := func(w, tau, delay, least float64) trial {
			best := trial{window: w, tau: tau, delay: delay, fits: math.Inf(1)}
			for k := -4.0; k <= 4; k++ {
				if k != 0 && blind <= least {
					continue
				}
				at := delay + k/2*blind
				if l := shape(some, t, c, w, tau, at-tau-w/2); l < best.fits {
					best.delay, best.fits = at, l
				}
			}
			return best
		}
		// The first, whose readings are the finest, is looked for in full. Its time constant is
		// the board's: of the others it is the window alone.
		full := !paced && t.name != Average
		var tried []trial
		best, least := trial{fits: math.Inf(1)}, math.Inf(1)
		for _, w := range s.usual {
			var x trial
			margin := plainly
			if full {
				x, margin = fits(w, t.response.tau, delay, usualBlind), 0
				for _, tau := range quick {
					if y := fits(w, tau, delay, usualBlind); y.fits < x.fits {
						x = y
					}
				}
				x = follow(some, t, c, x, trial{tau: usualTau, delay: delay}, blind)
			} else {
				x = fits(w, t.response.tau, delay, leastBlind)
				later := t.response.delay(w)
				x.delay, x.fits = later, min(x.fits, fits(w, t.response.tau, later, leastBlind).fits)
			}
			if x.fits < best.fits-margin {
				best = x
			}
			least = min(least, x.fits)
			tried = append(tried, x)
		}
		other := math.Inf(1)
		for _, w := range s.other {
			other = min(other, fits(w, t.response.tau, t.response.lag+t.response.tau+w/2, leastBlind).fits)
		}
		for _, tau := range slowly {
			other = min(other, fits(instantS, tau, t.response.lag+tau+instantS/2, leastBlind).fits)
		}
		if other < least-strange-strangeReading*float64(readings) {
			t.alien = fmt.Sprintf("the %s readings do not follow the power as those of other boards do: run the instrument response test (nvbaseline response) and give what it finds with --sensor", t.name)
		} else if full || t.name == Instant { // of which no two kinds of board have the same window
			t.instead = another(tried, best)
			if !full {
				t.instead.later = 0
			}
			r.take(c, best)
			paced = paced || full
		}
	}
	r.disown()
}

// trial is how likely readings are if they are means over a window of power that is
// followed with a time constant, so much later, -2 log.
type trial struct {
	window, tau, delay, fits float64
	tauSE                    float64 // s, of the time constant
	with                     float64 // s by which the delay is more for each second that the time constant is
}

// width is the variance of the kernel that a reading sees power through, s².
func (x *trial) width() float64 { return response{chain: chain{tau: x.tau}, window: x.window}.width() }

// guess is another way in which a channel's readings may follow the power, and how
// likely that is.
type guess struct {
	window, tau float64
	later       float64 // s, its delay
	odds        float64
}

// another is what stands for all the ways in which a channel's readings may follow the power
// but for the one that was taken: the one of them that matters most, as likely as makes
// it come to as much as all of them. What they come to goes by the width of their kernels.
func another(tried []trial, best trial) (g guess) {
	// Readings near an edge err together, and tell less than so many that err each
	// for itself.
	const together = 8
	most, all := 0.0, 0.0
	weigh := func(x trial, odds float64) {
		apart := x.width() - best.width()
		v := odds * apart * apart
		all += v
		if v > most {
			most = v
			g = guess{window: x.window, tau: x.tau, later: x.delay - best.delay, odds: odds}
		}
	}
	for _, x := range tried {
		if x.window != best.window {
			weigh(x, 1/(1+math.Exp((x.fits-best.fits)/(2*together))))
		}
	}
	if best.tauSE > leastSlow {
		x := best
		x.tau += best.tauSE
		x.delay += best.with * best.tauSE
		weigh(x, 1)
	}
	if most > 0 {
		g.odds *= all / most
	}
	return g
}

// follow finds the time constant and the delay, near to those of x, with which a channel's
// readings are likeliest. Beforehand they are thought to be the usual ones, to usualTauSE and
// blind.
func follow(some []*patch, t *track, c int, x, usual trial, blind float64) trial {
	known := [2]float64{1 / (usualTauSE * usualTauSE), 1 / (blind * blind)}
	fits := func(x trial) float64 {
		off := [2]float64{x.tau - usual.tau, x.delay - usual.delay}
		return shape(some, t, c, x.window, x.tau, x.delay-x.tau-x.window/2) + known[0]*off[0]*off[0] + known[1]*off[1]*off[1]
	}
	x.fits = fits(x)
	for by := 0.004; by > 0.0004; by /= 2 {
		for better := true; better; {
			better = false
			for _, way := range [...][2]float64{{by, 0}, {-by, 0}, {0, by}, {0, -by}} {
				y := x
				y.tau, y.delay = max(leastTau, min(mostTau, x.tau+way[0])), x.delay+way[1]
				if y.fits = fits(y); y.fits < x.fits {
					x, better = y, true
				}
			}
		}
	}
	tells := make([]tell, len(some))
	each(some, func(s *solver, p *patch, i int) {
		p.chains[c] = chain{x.tau, x.delay - x.tau - x.window/2 + t.later(p)}
		s.window(p, c, x.window)
		s.weigh(p)
		if _, ok := s.solve(p, p.noise, twice, false); ok {
			tells[i] = s.slowness(p, int8(c))
		}
	})
	sum := tell{slows: known[0], lates: known[1]}
	for _, y := range tells {
		sum.slows, sum.lates, sum.both = sum.slows+y.slows, sum.lates+y.lates, sum.both+y.both
	}
	if det := sum.slows*sum.lates - sum.both*sum.both; det > 0 {
		x.tauSE, x.with = math.Sqrt(sum.lates/det), -sum.both/sum.lates
	}
	return x
}

// disown leaves readings that follow the power in some unknown way out of the
// held patches.
func (r *solution) disown() {
	if r.strangers("") == "" {
		return
	}
	for _, p := range r.held {
		p.settleOn(r.tracks)
		p.drop(func(x reading) bool { return r.tracks[x.channel].alien != "" })
	}
}

// take takes a channel's readings for what was found likeliest from now on, and those of
// others, of which nothing was measured, for ones of a board with its time constant. Its delay
// is then looked for about the one found: with another window or time constant it is another.
func (r *solution) take(c int, as trial) {
	t := r.tracks[c]
	if as.window == t.response.window && as.tau == t.response.tau && math.Abs(as.delay-t.response.delay(as.window)) < 1e-9 {
		return
	}
	t.response.window = as.window
	t.response.chain = chain{as.tau, as.delay - as.tau - as.window/2}
	for _, o := range r.tracks {
		if x := &o.response; !x.told {
			x.chain = chain{as.tau, x.lag + x.tau - as.tau}
		}
	}
	r.place()
	each(r.held, func(s *solver, p *patch, _ int) {
		p.refine(r.tracks)
		if p.cells != nil {
			s.lay(p)
			s.begin(p, twice)
		}
	})
}

// strangers is why readings that there are were left out, or else the reason
// given.
func (r *solution) strangers(why string) string {
	for _, t := range r.tracks {
		if t.alien != "" {
			return t.alien
		}
	}
	return why
}

// only is a copy of a patch with the readings of one channel.
func (p *patch) only(channel int) *patch {
	c := *p
	c.cells = &cells{ends: p.ends, segment: p.segment, jump: p.jump, busy: p.busy, grain: p.grain}
	for _, r := range p.rows {
		if int(r.channel) == channel {
			c.rows = append(c.rows, r)
		}
	}
	c.noise.jump = c.step()
	return &c
}

// ranges is from the lowest reading of a patch to the highest, W.
func (p *patch) ranges() float64 {
	lo, hi := math.Inf(1), math.Inf(-1)
	for i := range p.rows {
		lo, hi = min(lo, p.rows[i].value), max(hi, p.rows[i].value)
	}
	return hi - lo
}

// shape is -2 log of the likelihood of some patches, but for a constant, if a
// channel's readings are means over a window of power that is followed with a
// time constant, so much later.
func shape(some []*patch, t *track, c int, window, tau, lag float64) (sum float64) {
	parts := make([]float64, len(some))
	each(some, func(s *solver, p *patch, i int) {
		s.window(p, c, window)
		p.chains[c] = chain{tau, lag + t.later(p)}
		s.weigh(p)
		parts[i] = s.unlikely(p)
	})
	for _, l := range parts {
		sum += l
	}
	return sum
}
