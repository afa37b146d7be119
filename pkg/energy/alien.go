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

// slowly are time constants of sensors that follow a step as a capacitor does,
// as boards before 2014 have, s.
var slowly = []float64{0.1, 0.2, 0.4, 0.8}

const (
	leastStep  = 20.0  // W: a step of power that shows how a channel follows it
	fewSteps   = 3     // patches that show how a channel follows the power
	instantS   = 0.001 // s: a mean over no time
	leastBlind = 0.015 // s, by which readings may be late or early, from which on that is looked for as well
	// strange is how much likelier, as -2 log of the likelihood, another shape has
	// to be than what a channel was taken for, in all and for each reading. In 150
	// simulated runs means over 100 ms, where 60 are thought, come to 0.25 a
	// reading at most but for one; an exponential of 200 ms to 0.37 at least, and
	// means over 500 ms, where 1 s is thought, to 0.35.
	strange        = 6.0
	strangeReading = 0.28
	plainly        = 10.0 // the same, by which another mean has to be likelier to be taken
)

// recognise looks at whether the channels of which nothing was measured follow
// the power as boards of their kind do. What one shows that does not is worth
// nothing: another shape fits it better, but which of many is not told by a
// few edges.
func (r *solution) recognise(from []*patch) {
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
		as, least, window := math.Inf(1), math.Inf(1), t.response.window
		blind := math.Inf(1)
		for _, p := range some {
			blind = min(blind, p.blind[c])
		}
		// Of readings that are polled as seldom as they are made, when they were is
		// not known better than their shape.
		fits := func(w, tau, lag float64) float64 {
			l := shape(some, c, w, tau, lag)
			for k := 1.0; blind > leastBlind && k <= 4; k++ {
				by := k / 2 * blind
				l = min(l, shape(some, c, w, tau, lag-by), shape(some, c, w, tau, lag+by))
			}
			return l
		}
		var tried []trial
		for _, w := range s.usual {
			l := min(fits(w, t.response.tau, t.response.lag-(w-t.response.window)/2), fits(w, t.response.tau, t.response.lag))
			as = min(as, l)
			if l < least-plainly {
				least, window = l, w
			}
			tried = append(tried, trial{w, l})
		}
		other := math.Inf(1)
		for _, w := range s.other {
			other = min(other, fits(w, t.response.tau, t.response.lag))
		}
		for _, tau := range slowly {
			other = min(other, fits(instantS, tau, t.response.lag))
		}
		if other < as-strange-strangeReading*float64(readings) {
			t.alien = fmt.Sprintf("the %s readings do not follow the power as those of other boards do: run the instrument response test (nvbaseline response) and give what it finds with --sensor", t.name)
		} else if t.name == Instant { // of which no two kinds of board have the same
			r.take(c, window)
			t.instead = another(tried, window, least)
		}
	}
	r.disown()
}

// trial is how likely readings are if they are means over a window, -2 log.
type trial struct{ window, fits float64 }

// guess is another window that a channel's readings may be means over, and how
// likely that is.
type guess struct{ window, odds float64 }

// another is the likeliest but for the one that was taken.
func another(tried []trial, window, fits float64) (g guess) {
	// Readings near an edge err together, and tell less than so many that err each
	// for itself.
	const together = 8
	for _, x := range tried {
		if odds := 1 / (1 + math.Exp((x.fits-fits)/(2*together))); x.window != window && odds > g.odds {
			g = guess{x.window, odds}
		}
	}
	return g
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

// take takes a channel's readings for means over a window from now on.
func (r *solution) take(c int, window float64) {
	t := r.tracks[c]
	if t.response.window == window {
		return
	}
	t.response.window = window
	r.place()
	each(r.held, func(s *solver, p *patch, _ int) {
		if p.cells != nil {
			s.lay(p)
			r.begin(s, p, 0)
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
func shape(some []*patch, c int, window, tau, lag float64) (sum float64) {
	parts := make([]float64, len(some))
	each(some, func(s *solver, p *patch, i int) {
		for j := range p.rows {
			p.rows[j].window = window
		}
		p.chains[c].tau, p.chains[c].lag = tau, lag
		s.weigh(p)
		parts[i] = math.Inf(1)
		if l, ok := s.solve(p, p.noise, true, true); ok {
			parts[i] = l
			// Work that is rougher than was thought is so in any shape.
			if n := float64(len(p.rows)); p.scale > 1 {
				misfit := p.scale * (n + 2*math.Sqrt(n))
				parts[i] += n + n*math.Log(misfit/n) - misfit
			}
		}
	})
	for _, l := range parts {
		sum += l
	}
	return sum
}
