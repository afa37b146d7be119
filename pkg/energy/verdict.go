package energy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

const (
	z95 = 1.959964

	// BoardGain is how far a board's readings may be off as a whole, one
	// standard deviation: no reading of the board itself can tell. Boards
	// against external meters read from 0.87 to 1.06 (Yang, Adamek, Armour,
	// "Part-time power measurements", arXiv 2312.02741).
	BoardGain = 0.05

	// plugIn is by how much the variance of noise is more for the noise's own
	// being found from the readings, to some 5 %.
	plugIn = 1.1

	// stampS is by how much the stamp of an event's end is off the work's, one
	// standard deviation, s: a launch takes some tenths of a millisecond.
	stampS = 0.25e-3

	// leastSeen is how many readings' worth of an event must have been seen.
	leastSeen = 0.5
)

// Half-widths of the 95 % interval, as shares of the energy, up to which an
// event's energy is good for something.
const (
	billableShare = 0.05
	analysisShare = 0.10
	estimateShare = 0.25
)

// estimated is an event's energy by the sensors' models.
type estimated struct {
	joules, variance float64 // J, J²: of noise
	shared           float64 // J², of what all events have in common
	own, seen        float64
	alone            float64 // J²: variance by the event's own readings
	readings         int64
	with             int // most requests that it shared power with
	used             [channels]bool
	untold           float64 // J²: the part of shared for want of a response test
	why              []string
}

// estimate adds up what the event's GPUs gave it.
func (a *Attributor) estimate(p *pending) (e estimated) {
	own := 0.0
	for i, b := range p.boards {
		s := p.shares[i]
		if s.dark != "" || !s.done {
			why := s.dark
			if why == "" {
				why = "the trace ends before it"
			}
			if len(p.boards) > 1 {
				why = fmt.Sprintf("GPU %d: %s", b.index, why)
			}
			e.why = append(e.why, why)
			continue
		}
		e.joules += s.joules
		e.variance += s.variance*plugIn + s.edges() + s.unseen(b.power.tracks)
		own += s.own * s.joules
		e.alone += max(s.alone, s.variance)
		e.seen += s.seen / float64(len(p.boards))
		e.readings += s.readings
		e.with = max(e.with, s.with)
		for c, t := range b.power.tracks {
			late := math.Hypot(s.drift[c*perChannel+paramLate], s.drift[c*perChannel+paramEarly]) / math.Sqrt2 * s.blind[c]
			other := s.drift[c*perChannel+paramWindow]
			if wide := t.response.windowSE; wide > 0 {
				e.shared += wide * wide * other * other
			}
			e.shared += late*late + t.instead.odds*other*other
			e.used[c] = e.used[c] || s.drift[c*perChannel+paramGain] != 0
			if !t.response.told && !t.aligned {
				e.untold += late * late
			}
			if !t.response.told {
				e.untold += t.instead.odds * other * other
			}
		}
	}
	for i, b := range p.boards {
		off := p.shares[i].joules * b.power.apart.take(e.used)
		e.shared += off * off
	}
	if e.own = 1; e.joules > 0 {
		e.own = own / e.joules
	}
	return e
}

// unseen is the variance for steps of the work that come round so nearly in time
// with a sensor that sees a part of the time that its readings all show the same
// part of a step, J². Power is taken to change as a square wave does, by a quarter
// up and down.
func (s *share) unseen(tracks []*track) (variance float64) {
	event := &s.event.event
	d, n := event.Duration(), float64(event.OutputTokens.Or(0))
	if n < 2 || d <= 0 {
		return 0
	}
	for c, t := range tracks {
		part := s.drift[c*perChannel+paramGain]
		if part == 0 {
			continue
		}
		r := t.response
		if !r.told {
			// Nor does what comes round so tell over how long they are means.
			for _, w := range shapesOf[t.name].usual {
				r.window = min(r.window, w)
			}
		}
		if r.seen() <= 0.8 {
			variance += r.beat(d, n) * part * part
		}
	}
	return variance
}

// beat is by how much the mean of a channel's readings is off that of such a wave of n
// steps in d seconds, as a variance over the square of the mean.
func (r response) beat(d, n float64) (variance float64) {
	m := math.Max(1, d/r.update)
	const some = 12 // lengths that a step may have, for the first or the last need not be whole
	for i := range some {
		step := d / (n - 1 + 1.5*(float64(i)+0.5)/some)
		for q := 1.0; q <= 7; q += 2 { // the wave's harmonics
			turn := math.Pi * q * r.update / step
			together := 1.0 // the mean of the harmonic over the readings, squared
			if sin := math.Sin(turn); math.Abs(sin) > 1e-6 {
				mean := math.Sin(m*turn) / (m * sin)
				together = min(1, mean*mean)
			}
			together -= 1 / m // what readings scatter by shows in them
			if together <= 0 {
				continue
			}
			width := math.Pi * q * r.window / step
			shown := math.Sin(width) / width / math.Hypot(1, 2*math.Pi*q*r.tau/step)
			high := 4 / math.Pi * 0.25 / q * shown
			variance += high * high / 2 * together / some
		}
	}
	return variance
}

// edges is the variance for the stamps of the event's ends, J².
func (s *share) edges() float64 {
	variance := 0.0
	for _, m := range []*[channels]meter{&s.from, &s.to} {
		// The counter's ticks are the coarsest: where there is nothing else.
		for _, i := range []int{0, 2, 3, 1} {
			if m[i].ok {
				step := stampS * (m[i].level - m[i].outer)
				variance += step * step
				break
			}
		}
	}
	return variance
}

// channels names what an estimate rests on.
func (e *estimated) channels() string {
	var names []string
	for c, name := range trackNames {
		if e.used[c] {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// conclude is the event's energy by the model of its sensors: joules, their
// interval, and what they are good for. systematic is the part of the interval
// that repetitions do not take away, one standard deviation.
func (a *Attributor) conclude(p *pending) (e *record.Energy, systematic float64) {
	e = a.spaced(p, a.choose(p))
	if p.untimely {
		return e, 0
	}
	d := p.event.Duration()
	spacing := a.opts.Rules.Tier(d, e.PowerSamples, e.GapFraction.Or(1))
	m := a.estimate(p)
	if used := m.channels(); used != "" {
		e.Method = Auto + ":" + used
	}
	e.PowerSamples = max(e.PowerSamples, m.readings)
	e.Quality = a.quality(e, d)
	e.Reasons = m.why
	if why := a.outside(p); why != "" {
		e.Reasons = append(e.Reasons, why)
	}
	if len(e.Reasons) == 0 && m.seen < leastSeen {
		e.Reasons = []string{fmt.Sprintf("the readings hold %.2g of one reading's worth of the event, %.2g are needed: repeat it, or measure with a faster channel", m.seen, leastSeen)}
	}
	refused := len(e.Reasons) > 0
	a.explain(e, p, d, e.GapFraction.Or(0), e.MaxGapS.Or(0))
	if refused {
		e.Quality, e.Tier = NoData, Refused
		return e, 0
	}
	sd := math.Sqrt(m.variance + m.shared)
	e.Joules, e.CI95J = some(m.joules), some(z95*sd)
	e.GainUncertainty = some(a.opts.BoardGain)
	e.AbsoluteCI95J = some(z95 * math.Hypot(sd, a.opts.BoardGain*m.joules))
	e.OwnInformation = some(m.own)
	if m.with > 0 {
		e.SharedWith = record.Some(int64(m.with))
		e.ChargedS = some(a.charged(p))
	}
	a.operational(e, p, m.joules, sd)
	perToken(e, &p.event)
	a.grade(e, p, m, spacing)
	return e, math.Sqrt(m.shared)
}

// grade finds an estimate's tier: as its interval has it, and no better than
// what else is known allows. spacing is TR122's own tier.
func (a *Attributor) grade(e *record.Energy, p *pending, m estimated, spacing string) {
	say := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	noBetter := func(tier string, format string, args ...any) {
		if w := worse(e.Tier, tier); w != e.Tier {
			e.Tier = w
			say(format, args...)
		}
	}
	share := math.Inf(1)
	if m.joules > 0 {
		share = e.CI95J.V / m.joules
	}
	if e.Tier = tierOf(share); e.Tier == Refused {
		say("the interval is ±%s of the energy: repeat the event, the mean of its kind is narrower", percent(share))
	}
	if m.own < 0.8 {
		// What its kind tells is no better than its own readings would be, but
		// an estimate, or good for analysis where most of it is its own.
		least := Analysis
		if m.own < 0.5 {
			least = Estimate
		}
		if alone := tierOf(z95 * math.Sqrt(m.alone+m.shared) / m.joules); worse(alone, least) == least {
			least = alone
		}
		noBetter(least, "%s of the number is the mean of its kind, not its own", percent(1-m.own))
	}
	if fraction := e.GapFraction.Or(1); fraction >= a.opts.Rules.RefuseFraction {
		noBetter(Estimate, "%s of the event lies in gaps of the readings", percent(fraction))
	} else if spacing != Billable {
		noBetter(Analysis, "billable needs more than %g s and %d readings", a.opts.Rules.BillableS, a.opts.Rules.BillableReadings)
	}
	if e.Tier != Billable && m.untold > (m.variance+m.shared)/2 {
		say("most of the interval is for want of an instrument response test (nvbaseline response, --sensor)")
	}
	if e.Tier != Billable && slices.ContainsFunc(p.boards, func(b *board) bool { return b.power.restless }) {
		say("power moves where no event tells of work: give all events of the trace, or intervals are wide for it")
	}
	a.agree(e, p, m, noBetter)
	if aliased, lost := a.aliased(p, m); aliased {
		e.Aliased = record.Some(true)
		at := Estimate
		if lost {
			at = Refused
		}
		noBetter(at, "the work repeats in step with a sensor that sees a part of the time only: space it at random")
	}
}

// seen is the share of the time that a sensor sees as it is: one that follows
// the power as a capacitor does has a part of all of it, but of what repeats in
// step with its updates always the same.
func (r response) seen() float64 {
	if r.window < r.update/2 && r.tau > r.window {
		return r.window / r.update
	}
	return r.coverage
}

// tierOf is what a number with that relative half-width is good for.
func tierOf(share float64) string {
	switch {
	case share <= billableShare:
		return Billable
	case share <= analysisShare:
		return Analysis
	case share <= estimateShare:
		return Estimate
	}
	return Refused
}

func percent(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// charged is the part of a GPU's time that the share is charged with, s: its part of
// the power, over the event. Of an event that shares with nobody that is its length.
func (s *share) charged() float64 { return s.event.event.Duration() - s.others }

// charged is that of an event, s. Of several GPUs it is their mean by idle power, by
// which the event's idle energy is to be had from it; by none where that is not known.
func (a *Attributor) charged(p *pending) float64 {
	idle := 0.0
	for _, b := range p.boards {
		w, ok := a.opts.Idle[b.index]
		if !ok {
			idle = 0
			break
		}
		idle += w
	}
	others := 0.0
	for i, b := range p.boards {
		part := 1 / float64(len(p.boards))
		if idle > 0 {
			part = a.opts.Idle[b.index] / idle
		}
		others += part * p.shares[i].others
	}
	return p.event.Duration() - others
}

// operational takes idle power off, for as much of the time as the event is charged
// with, and adds its uncertainty, which grows with that time and not with its root.
func (a *Attributor) operational(e *record.Energy, p *pending, joules, sd float64) {
	variance := sd * sd
	for i, b := range p.boards {
		w, ok := a.opts.Idle[b.index]
		if !ok {
			return
		}
		d := p.shares[i].charged()
		joules -= w * d
		se := a.opts.IdleSE[b.index] * d
		variance += se * se
	}
	e.OperationalJ = some(joules)
	e.OperationalClamped = some(max(0, joules))
	e.OperationalCI95J = some(z95 * math.Sqrt(variance))
}

// outside says that the event does not lie inside what the channel it rests on
// has seen, or "".
func (a *Attributor) outside(p *pending) string {
	best := a.choose(p)
	for i, b := range p.boards {
		s := &p.spans[i*len(a.channels)+best]
		if why := unknown(s, &s.start, &s.end, b.channels[best].line()); why != "" && s.fateless() {
			return why
		}
	}
	return ""
}

// fateless says that a span's energy is unknown for another cause than few
// readings.
func (s *span) fateless() bool {
	return s.start.fate != placed || s.end.fate != placed || s.start.breaks != s.end.breaks
}

// agree compares the event's two witnesses: power readings added up, and the
// energy counter; and both with the model.
func (a *Attributor) agree(e *record.Energy, p *pending, m estimated, noBetter func(tier, format string, args ...any)) {
	var power, powerVar, counter, counterVar float64
	for i, b := range p.boards {
		s := p.shares[i]
		j, v, ok := s.witness(b.power.tracks, Driver, Instant, Average)
		if !ok {
			return
		}
		power, powerVar = power+j, powerVar+v
		if j, v, ok = s.witness(b.power.tracks, Counter); !ok {
			e.IntegratedJ, e.IntegratedCI95J = some(power), some(z95*math.Sqrt(powerVar))
			return
		}
		counter, counterVar = counter+j, counterVar+v
	}
	e.IntegratedJ, e.IntegratedCI95J = some(power), some(z95*math.Sqrt(powerVar))
	e.CounterJ, e.CounterCI95J = some(counter), some(z95*math.Sqrt(counterVar))
	// Of requests that share the power, readings are of all, the model's joules of one.
	if off := math.Abs(power - m.joules); m.with == 0 && off > 3*math.Sqrt(powerVar+m.variance+m.shared) && off > 0.03*m.joules {
		noBetter(Estimate, "the model of the sensors says %.4g J and the readings as they are %.4g J, further apart than their intervals allow: power may have stepped inside the event", m.joules, power)
	}
	if len(p.boards) == 1 {
		p.boards[0].power.mismatch.add(p.event.Duration(), power, counter)
	}
	for _, b := range p.boards {
		if b.power.disagree {
			noBetter(Analysis, "power readings and energy counter disagree over the run: see the agreement record")
		}
	}
	sd := math.Sqrt(powerVar + counterVar)
	if math.Abs(power-counter) > 3*sd && math.Abs(power-counter) > 0.03*math.Abs(counter) {
		noBetter(Estimate, "power readings add up to %.4g J and the energy counter says %.4g J, further apart than their intervals allow", power, counter)
	}
}

// witness is an event's energy by the first of the named tracks that has it,
// each reading standing for its own time.
func (s *share) witness(tracks []*track, names ...string) (joules, variance float64, ok bool) {
	for _, name := range names {
		for i, t := range tracks {
			a, b := s.from[i], s.to[i]
			if t.name != name || !a.ok || !b.ok || a.breaks != b.breaks || b.count-a.count < 1 {
				continue
			}
			joules = b.joules.minus(a.joules)
			// An edge lies anywhere between two readings, and a mean over
			// a window carries half of it across.
			window := math.Max(t.reach(), t.spacing/1e9)
			blur := 0.3*window + math.Hypot(t.response.delaySE, s.blind[i])
			d := float64(s.event.event.EndNS-s.event.event.StartNS) / 1e9
			mean := joules / d
			step := math.Max(math.Abs(mean-a.outer), math.Abs(a.level-a.outer))
			drop := math.Max(math.Abs(mean-b.outer), math.Abs(b.level-b.outer))
			variance = blur*blur*(step*step+drop*drop) + usuallyApart*usuallyApart*joules*joules
			return joules, variance, true
		}
	}
	return 0, 0, false
}

// aliased says that the event's work, or events of its kind, come round in step
// with a sensor that leaves a part of the time unseen, and lost that the event
// takes less than five updates of it, or that each update sees the same part.
func (a *Attributor) aliased(p *pending, m estimated) (aliased, lost bool) {
	n := p.event.OutputTokens.Or(0)
	d := p.event.Duration()
	for i, b := range p.boards {
		blind, update, locked := false, 0.0, false
		for c, t := range b.power.tracks {
			if !m.used[c] {
				continue
			}
			if t.response.seen() > 0.8 {
				return false, false
			}
			blind, update = true, t.response.update
			locked = locked || p.shares[i].locked[c]
		}
		if !blind || d <= 0 {
			continue
		}
		if locked {
			aliased, lost = true, lost || d < 5*update
		}
		if n < 2 {
			continue
		}
		step := d / float64(n)
		for q := 1.0; q <= 4; q++ {
			ratio := step / update * q
			off := math.Abs(ratio-math.Round(ratio)) / q
			if math.Round(ratio) >= 1 && off*q*d/step < 1 {
				aliased, lost = true, lost || d < 5*update || q <= 2
			}
		}
	}
	return aliased, lost
}

// trackNames are the channels in the order of a reconstruction's tracks.
var trackNames = [channels]string{Driver, Counter, Instant, Average}
