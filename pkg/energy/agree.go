package energy

import (
	"fmt"
	"math"

	"joulepipe/pkg/record"
)

// Verdicts of a [record.Agreement].
const (
	Agree    = "agree"
	Disagree = "disagree"
	Unknown  = "unknown"
)

// tolerance is by how much power readings and counter of one run may differ,
// beside their intervals, and still be about the same: the H200's do by up to
// 1 % from load to load.
const tolerance = 0.02

// usuallyApart is how far two channels of one board are, one standard
// deviation: the H200's sample buffer over its counter is 0.999 to 1.010, from
// load to load.
const usuallyApart = 0.006

// apart is how far power readings and counter of a board are, from one stretch
// of steady work to the next.
type apart struct {
	n, squares float64
	rests      [3]int // events so far, by what they rest on: the one, the other, or both
}

// add takes a stretch of so many seconds, between the accounts of both at its
// two ends; the counter moves every update seconds.
func (a *apart) add(from, to, counterFrom, counterTo meter, seconds, update float64) {
	if !from.ok || !to.ok || !counterFrom.ok || !counterTo.ok || counterFrom.breaks != counterTo.breaks || seconds < 20*update {
		return
	}
	c := counterTo.joules.minus(counterFrom.joules)
	if c <= 0 {
		return
	}
	off := to.joules.minus(from.joules)/c - 1
	a.n++
	a.squares += off * off
}

// take counts an event that rests on the channels used, and says the standard deviation
// of its energy, as a share: none for those of the one witness on which most of the
// run rests, whose gain is the board's.
func (a *apart) take(used [channels]bool) (sd float64) {
	const power, counter, both = 0, 1, 2
	rests := power
	switch read := used[0] || used[2] || used[3]; {
	case !read && !used[1]:
		return 0
	case !read:
		rests = counter
	case used[1]:
		rests = both
	}
	a.rests[rests]++
	if all := a.rests[power] + a.rests[counter] + a.rests[both]; rests != both && 2*a.rests[rests] > all {
		return 0
	}
	const few = 5 // stretches' worth that what is usual counts for
	return math.Sqrt((a.squares + few*usuallyApart*usuallyApart) / (a.n + few))
}

// mismatch gathers how far power readings and counter are apart, event by
// event, to fit it as c/T + ε over the events' lengths T: as a line through
// mismatch · T, so that long events tell ε and short ones c.
type mismatch struct{ n, t, tt, y, ty float64 }

func (m *mismatch) add(seconds, power, counter float64) {
	if !(seconds > 0 && counter > 0) {
		return
	}
	y := math.Abs(power/counter-1) * seconds
	m.n++
	m.t, m.tt, m.y, m.ty = m.t+seconds, m.tt+seconds*seconds, m.y+y, m.ty+seconds*y
}

// fit is c, in seconds, and ε; ok is false where the events are too few or all
// of one length.
func (m *mismatch) fit() (c, epsilon float64, ok bool) {
	det := m.n*m.tt - m.t*m.t
	if m.n < 3 || det < 1e-9*m.n*m.tt {
		return 0, 0, false
	}
	epsilon = (m.n*m.ty - m.t*m.y) / det
	return (m.y - epsilon*m.t) / m.n, epsilon, true
}

// common is where the run's two witnesses begin.
type common struct {
	ns             int64
	power, counter meter
	track          int
	known          bool
}

// witnesses are the tracks that are compared: the finest power readings that see
// all of the time, or else a part of it, and the counter.
func (r *reconstruction) witnesses() (power int, ok bool) {
	if len(r.tracks[1].updates) < 2 {
		return 0, false
	}
	best := -1
	for _, i := range []int{0, 2, 3} {
		if len(r.tracks[i].updates) < 2 {
			continue
		}
		if !r.tracks[i].response.partial() {
			return i, true
		}
		if best < 0 {
			best = i
		}
	}
	return max(best, 0), best >= 0
}

// compare begins the comparison where both witnesses are there.
func (r *reconstruction) compare() {
	if r.common.known {
		return
	}
	i, ok := r.witnesses()
	if !ok {
		return
	}
	at := max(r.tracks[i].updates[1].ns, r.tracks[1].updates[1].ns)
	r.common = common{at, r.tracks[i].meter(at), r.tracks[1].meter(at), i, true}
	r.common.known = r.common.power.ok && r.common.counter.ok
}

// agreement is what the two witnesses say of the run so far.
func (r *reconstruction) agreement() *record.Agreement {
	a := &record.Agreement{GPU: r.gpu, Verdict: Unknown}
	r.compare()
	if !r.common.known {
		a.Reasons = append(a.Reasons, "the trace has no power readings and energy counter at the same time")
		return a
	}
	power, counter := r.tracks[r.common.track], r.tracks[1]
	a.Channel = power.name
	until := min(power.last().ns, counter.last().ns) - int64(power.response.delay(power.response.window)*1e9)
	p, c := power.meter(until), counter.meter(until)
	seconds := float64(until-r.common.ns) / 1e9
	if !p.ok || !c.ok || seconds < 1 || c.breaks != r.common.counter.breaks {
		a.Reasons = append(a.Reasons, "the energy counter was reset, or hardly a second is common to both")
		return a
	}
	pj, cj := p.joules.minus(r.common.power.joules), c.joules.minus(r.common.counter.joules)
	a.DurationS, a.IntegratedJ, a.CounterJ = some(seconds), some(pj), some(cj)
	if cj <= 0 {
		a.Reasons = append(a.Reasons, "the energy counter did not move")
		return a
	}
	// At either end the two are cut a fraction of an update apart.
	blur := math.Hypot(math.Max(power.reach(), power.spacing/1e9), counter.spacing/1e9) / math.Sqrt(12)
	step := math.Abs(p.level-r.common.power.level) + pj/seconds*0.1
	ci := z95 * blur * step * math.Sqrt2 / cj
	a.Ratio, a.RatioCI95 = some(pj/cj), some(ci)
	a.Verdict = Agree
	if math.Abs(pj/cj-1) > ci+tolerance {
		a.Verdict = Disagree
		a.Reasons = append(a.Reasons, blame(pj/cj, power.response, power.name))
	}
	if k, epsilon, ok := r.mismatch.fit(); ok {
		a.MismatchCS, a.MismatchEpsilon, a.Events = some(k), some(epsilon), int64(r.mismatch.n)
	}
	return a
}

// half is the ratio of power readings to the counter beyond which the counter
// is one of those that run at half the power.
const half = 1.5

// refuted says that the counter is plainly wrong: what is right by itself would be
// bent by it.
func refuted(a *record.Agreement) bool { return a.Verdict == Disagree && a.Ratio.V >= half }

// blame says which evidence speaks for which witness.
func blame(ratio float64, r response, name string) string {
	switch {
	case r.partial():
		return fmt.Sprintf("%s power over the counter is %.3f: the channel sees %.0f %% of the time, which speaks for the counter", name, ratio, 100*r.coverage)
	case ratio > half:
		return fmt.Sprintf("%s power over the counter is %.3f: counters that run at half the power or so are known of some drivers, which speaks for the power readings; nvbaseline idle compares both at rest", name, ratio)
	}
	return fmt.Sprintf("%s power over the counter is %.3f: nothing in the trace tells which of them is wrong; an external meter would", name, ratio)
}

// Agreements compare, for each GPU that has both, power readings added up with
// the energy counter, over the whole run and by the events' lengths. Only Auto
// makes them.
func (a *Attributor) Agreements() (all []*record.Agreement) {
	for _, b := range a.inOrder() {
		if b.power != nil {
			all = append(all, b.power.agreement())
		}
	}
	return all
}
