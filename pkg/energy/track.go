package energy

import (
	"math"
	"slices"
	"sort"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
)

// A track is what one channel of one GPU has shown lately: each of its updates
// once, held repeats left out, with the energy up to it.
type track struct {
	name       string
	counts     bool // it is the energy counter
	response   response
	updates    []update // in order of time
	clock      ticker
	varies     variety
	straddles  float64 // share of the reads, a period apart or more, that found nothing new, lately
	straddled  float64 // the most since the last batch
	late       int64   // readings out of order
	low        int     // readings below record.FloorW in a row
	value      float64
	read       bool
	lastNS     int64 // of the last read
	lastMJ     int64
	seenNS     int64   // of the read that showed the value first
	lastBefore int64   // when the call of the last read began
	took       float64 // ns that a call of the counter takes
	spacing    float64 // typical, of updates, ns
	polled     float64 // typical spacing of reads, s; 0 where readings have stamps of their own

	shift, shiftSE float64 // s by which it is later than its response says, found from the events' edges
	aligned        bool
	turn           turn   // when it began to be read on the other side of its updates; none where its time is 0
	alien          string // why its readings are worth nothing
	instead        guess  // of its window, where nothing was measured

	busy    bool // an event is going on
	work    blocks
	quiet   bool // no event is going on, nor was one lately
	rest    blocks
	restVar float64 // W²: rest's variance when the batch was full
	fewVar  float64 // W²: the same, where blocks are too few, by single readings
	workVar float64 // W²: work's
}

// blocks are means of updates in a row while no event goes on, and how far each
// is from the one before: noise that has a memory is less in a mean than its
// number of readings says.
type blocks struct {
	n         int
	sum, last float64
	seen      int
	apart     []float64 // squares, W²; the latest

	// Until there are enough of them.
	few       [farApart]float64 // W: the latest readings in a row
	row       int               // how many
	next, far []float64         // W²: squares of by how much readings differ from that before, and from that farApart before
}

const (
	blockOf   = 8
	mostApart = 512
	fewBlocks = 12 // fewer tell nothing
	farApart  = 4  // readings, beyond which noise hardly has a memory
	fewApart  = 20
	mostShort = 4 // times the variance of a reading
)

func (b *blocks) add(w float64) {
	b.sum += w
	if b.n++; b.n < blockOf {
		return
	}
	mean := b.sum / blockOf
	if b.seen++; b.seen > 1 {
		d := (mean - b.last) * (mean - b.last)
		if len(b.apart) < mostApart {
			b.apart = append(b.apart, d)
		} else {
			b.apart[b.seen%mostApart] = d
		}
	}
	b.n, b.sum, b.last = 0, 0, mean
}

// interrupt begins anew, after an event.
func (b *blocks) interrupt() { b.n, b.sum, b.seen, b.row = 0, 0, 0, 0 }

// compare takes a reading with those shortly before it, until there are enough.
func (b *blocks) compare(w float64) {
	if len(b.apart) >= fewBlocks || len(b.far) >= mostApart {
		return
	}
	if b.row > 0 {
		d := w - b.few[(b.row-1)%farApart]
		if len(b.next) < mostApart {
			b.next = append(b.next, d*d)
		}
	}
	if b.row >= farApart {
		d := w - b.few[b.row%farApart]
		b.far = append(b.far, d*d)
	}
	b.few[b.row%farApart] = w
	b.row++
}

// short is what variance is, W², by few readings, as noise that is forgotten step by
// step has it; 0 where it is not known.
func (b *blocks) short() float64 {
	if len(b.apart) >= fewBlocks || len(b.far) < fewApart {
		return 0
	}
	near, far := halfSquare(b.next), halfSquare(b.far)
	if near == 0 {
		return far
	}
	return far * max(1, min(mostShort, 2*far/near-1))
}

// halfSquare is half of the mean of squares of normal quantities, W², of which the median
// is 0.455: steps of power are few and do not move it.
func halfSquare(squares []float64) float64 {
	return stats.Quantile(slices.Sorted(slices.Values(squares)), 0.5) / (2 * 0.455)
}

// variance is that of a reading in a mean of many, W²; 0 where it is not known.
func (b *blocks) variance() float64 {
	if len(b.apart) < fewBlocks {
		return 0
	}
	return blockOf * halfSquare(b.apart)
}

// walk is the variance by which power walks inside events, W²/s, as far as it
// shows from one block of readings to the next: what happens in less than a
// block is not what a gap of many readings has to be told by.
func (t *track) walk() float64 {
	apart := 2 * t.workVar / blockOf // W², of two neighbours
	return 1.5 * apart / (blockOf * t.spacing / 1e9)
}

// variety is by how much a channel's values differ from one to the next. Where
// they hardly ever come near to each other, by their own least step, one that is
// the same as that before is no new one.
type variety struct {
	steps [64]float64 // W, the latest that are not 0
	n     int
	plain bool
}

func (v *variety) add(step float64) {
	if step == 0 {
		return
	}
	v.steps[v.n%len(v.steps)] = math.Abs(step)
	if v.n++; v.n%len(v.steps) != 0 {
		return
	}
	least, near := slices.Min(v.steps[:]), 0
	for _, s := range v.steps {
		if s < 4.5*least {
			near++
		}
	}
	// Of what has no least step, one of 64 is the least, and some four are within
	// 4.5 of it.
	v.plain = near <= 12
}

// straddle notes a read so long after the one before. Where reads come as often
// as updates, and about when those are made, one is seen twice and the next not at
// all: when a value was made is known to an update and no better.
func (t *track) straddle(ns int64, same bool) {
	if float64(ns) < 0.95*t.response.update*1e9 {
		return
	}
	now := 0.0
	if same {
		now = 1
	}
	t.straddles += (now - t.straddles) / 256
	t.straddled = max(t.straddled, t.straddles)
}

// doubt is by how much a reading's time may be off because it is not known which
// update it shows, s, one standard deviation. Of the counter the next tick has what
// was missed.
func (t *track) doubt() float64 {
	if t.straddled < 0.008 { // a few reads that come late do the same
		return 0
	}
	if t.counts {
		return 0.7 * t.response.update
	}
	return t.response.update
}

// update is a new value of a channel.
type update struct {
	ns     int64   // when it was made
	window float64 // s before ns it is the mean of
	value  float64 // W
	joules sum     // up to ns, each value held from the update before
	ticked float64 // s: what the counter's updates are of, added up
	holes  float64 // s³: cubes of the time that no update saw, added up
	count  int64
	breaks int64
	blindS float64 // s by which ns may be off, one standard deviation
	vague  bool    // which update it was is not known
}

// response is how a channel follows the power and how well that is known.
type response struct {
	chain
	window   float64 // s
	update   float64 // s
	delaySE  float64 // s, of lag and window together
	coverage float64 // share of the time seen
	gain     float64 // readings are divided by it
	windowSE float64 // s, of the window about its middle; 0 where that is nothing, or was not measured
	told     bool    // measured on this board; else what boards of the kind do
}

// responses that boards have by the kind of channel, where nothing was measured
// (GPU_Power_Benchmark's table of 24 boards; our own of the H200).
func builtin(name string) response {
	switch name {
	case record.ChannelDriver:
		return response{chain{usualTau, 0.002}, 0.006, 0.020, 0.006, 1, 1, 0, false}
	case record.ChannelCounter:
		return response{chain{usualTau, 0}, 0.1, 0.1, 0.010, 1, 1, 0, false}
	case record.ChannelInstant:
		return response{chain{usualTau, 0.005}, 0.060, 0.1, 0.030, 0.25, 1, 0, false}
	default:
		return response{chain{usualTau, 0.010}, 1, 0.1, 0.060, 1, 1, 0, false}
	}
}

// The time constant with which the power of a board follows the work, s.
const (
	usualTau   = 0.0135 // an H200's
	usualTauSE = 0.008  // by how much another's may differ, one standard deviation
	leastTau   = 0.0005
	mostTau    = 0.030  // of what follows power more slowly the shape is another
	leastSlow  = 0.0003 // by which it has to be in doubt to matter
)

// respond is a channel's response as it was measured, or else as boards have it.
func respond(name string, c *sensor.Channel) response {
	r := builtin(name)
	if c == nil {
		return r
	}
	link, ok := c.Chain()
	if !ok || len(c.LagCI95MS) != 2 {
		return r
	}
	const ms = 1e-3
	r.chain = chain{tau: link.TauMS * ms, lag: link.LagMS * ms}
	r.window = math.Max(link.WindowMS, 0.5) * ms
	r.update = c.UpdateMS.Or(r.update/ms) * ms
	lag := (c.LagCI95MS[1] - c.LagCI95MS[0]) / (2 * 1.96) * ms
	window := (c.WindowCI95MS[1] - c.WindowCI95MS[0]) / (2 * 1.96) * ms
	r.delaySE = math.Hypot(lag, window/2)
	// Means that follow each other show of a wider window what the next one does not. A short
	// one is told from what the channel follows power by, and moves with that.
	if r.window > 2*r.update && window > leastWindowSE*r.window {
		r.windowSE = window
	}
	r.coverage = c.Coverage.Or(r.coverage)
	if g, ok := c.Gain.Get(); ok && g > 0.9 && g < 1.1 {
		r.gain = g
	}
	r.told = true
	return r
}

// leastWindowSE is the share of a window from which on it matters that it is not known better.
const leastWindowSE = 0.0015

// partial says that the channel sees a part of the time only.
func (r response) partial() bool { return r.coverage <= 0.8 }

// delay is how much later than the power a mean over a window is, s.
func (r response) delay(window float64) float64 { return r.lag + r.tau + window/2 }

// width is the variance of the kernel that a reading sees power through, s².
func (r response) width() float64 { return r.tau*r.tau + r.window*r.window/12 }

func newTrack(name string, r response) *track {
	t := &track{name: name, counts: name == record.ChannelCounter, response: r, spacing: r.update * 1e9}
	t.clock.period = r.update * 1e9
	return t
}

// lowReads is how many readings in a row below record.FloorW are a state of the
// board and not a stale cache.
const lowReads = 10

// learn takes over what was found of the channel.
func (t *track) learn(from *track) {
	t.response.chain, t.response.window, t.instead = from.response.chain, from.response.window, from.instead
	t.shift, t.shiftSE, t.aligned, t.alien = from.shift, from.shiftSE, from.aligned, from.alien
	t.turn = from.turn
}

// later is by how much a patch's readings are later than the response says, s.
func (t *track) later(p *patch) float64 {
	if p.originNS < t.turn.ns {
		return t.shift + t.turn.by
	}
	return t.shift
}

// note says whether readings of a time are of work, or of rest.
func (t *track) note(ns, busyUntil int64) {
	t.quiet, t.busy = ns > busyUntil+settled, ns < busyUntil
}

// suspect says whether a reading is one that no board shows at rest.
func (t *track) suspect(w float64) bool {
	if w >= record.FloorW {
		t.low = 0
		return false
	}
	t.low++
	return t.low < lowReads
}

// at takes a reading of a polled channel.
func (t *track) at(ns int64, w float64) {
	if t.suspect(w) {
		return
	}
	prev := t.lastNS
	if !t.read {
		t.read, t.lastNS, t.value = true, ns, w
		t.clock.begin(ns)
		return
	}
	if ns <= prev {
		t.late++
		return
	}
	t.polled += (float64(ns-prev)/1e9 - t.polled) / 16
	if w != t.value {
		t.seenNS = ns
	} else if t.varies.plain && float64(ns-t.seenNS) < t.clock.period {
		if n := len(t.updates); n > 0 && t.blurred(ns) {
			t.updates[n-1].vague = true
		}
	}
	made, off, fresh := t.clock.look(prev, ns, w != t.value)
	t.varies.add(w - t.value)
	t.straddle(ns-prev, w == t.value && t.varies.plain)
	t.lastNS, t.value = ns, w
	if fresh {
		t.push(made, t.response.window, w, off)
	}
}

// stamped takes a reading that says itself when it was made.
func (t *track) stamped(ns int64, w float64) {
	if t.suspect(w) {
		return
	}
	if t.read && ns <= t.lastNS {
		t.late++
		return
	}
	t.read, t.lastNS = true, ns
	t.push(ns, t.response.window, w, 0)
}

// count takes a reading of the energy counter, made between before and ns.
func (t *track) count(before, ns, mJ int64) {
	if !t.read {
		t.read, t.lastNS, t.lastMJ, t.lastBefore = true, ns, mJ, before
		t.clock.begin(ns)
		return
	}
	if ns <= t.lastNS {
		t.late++
		return
	}
	// A value that was read at any time during a long call has one tick more or
	// less in it: the next read has both.
	took := float64(ns - before)
	slow := took > max(t.response.update*1e9/10, 4*t.took)
	if t.took == 0 {
		t.took = took
	}
	t.took += (min(took, 2*t.took) - t.took) / 16
	if slow {
		return
	}
	since, was := t.lastBefore, t.lastMJ
	t.lastNS, t.lastMJ, t.lastBefore = ns, mJ, before
	made, off, fresh := t.clock.look(since, ns, mJ != was)
	t.straddle(before-since, mJ == was)
	if !fresh || mJ == was {
		return
	}
	n := len(t.updates)
	if mJ < was {
		l := t.last()
		t.updates = append(t.updates, update{ns: made, breaks: l.breaks + 1, count: l.count + 1, joules: l.joules, ticked: l.ticked})
		return
	}
	if n == 0 {
		t.updates = append(t.updates, update{ns: made, count: 1})
		return
	}
	dt := float64(made-t.updates[n-1].ns) / 1e9
	if dt <= 0 {
		return
	}
	// Between two updates there are so many periods, whatever the times of reads
	// leave open of when they were.
	if whole := math.Round(dt/t.response.update) * t.response.update; math.Abs(dt-whole) < 0.05*t.response.update {
		dt = whole
	}
	t.push(made, dt, float64(mJ-was)/1e3/dt, off)
}

func (t *track) last() update {
	if n := len(t.updates); n > 0 {
		return t.updates[n-1]
	}
	return update{}
}

func (t *track) push(ns int64, window, w, off float64) {
	w /= t.response.gain
	u := update{ns: ns, window: window, value: w, count: 1, blindS: off / 1e9}
	if n := len(t.updates); n > 0 {
		l := &t.updates[n-1]
		if ns <= l.ns {
			t.late++
			return
		}
		apart := float64(ns - l.ns)
		dt := apart / 1e9
		t.spacing += (min(apart, 4*t.spacing) - t.spacing) / 32
		held := w
		if dt > 1.75*t.response.update && !t.counts && l.count > 0 {
			held = (w + l.value) / 2
		}
		if t.counts {
			dt = window
			u.ticked = l.ticked + window
		}
		u.joules, u.holes, u.count, u.breaks = l.joules.add(held*dt), l.holes, l.count+1, l.breaks
		if blind := dt - max(window, min(dt, t.response.update)*t.response.coverage); blind > 0 {
			u.holes += blind * blind * blind
		}
	}
	t.updates = append(t.updates, u)
	if t.busy {
		t.work.add(w)
	} else {
		t.work.interrupt()
	}
	if t.quiet {
		t.rest.compare(w)
		t.rest.add(w)
	} else {
		t.rest.interrupt()
	}
}

// blurred says that a read which shows what the one before did is too late for the last
// update, had that been made when it is thought: it may have been the one after.
func (t *track) blurred(ns int64) bool {
	c := &t.clock
	return c.hi-(float64(ns-c.base)-c.period) < 0.1*(c.hi-c.lo)
}

// tick is the variance, W², for a read of the counter's being just before a tick where the
// others are after it, which does not show in reads that are more than a tick apart: then it
// has one tick less, and the next one more.
func (t *track) tick(u *update) float64 {
	if !t.counts || t.spacing < 1.5e9*t.response.update {
		return 0
	}
	w := tickShare * t.response.update * u.value / u.window
	return 2 * w * w
}

// tickShare is by how much of an update a read that is late or early by some milliseconds may
// move a tick, one standard deviation: seven in a hundred times it is anybody's guess.
const tickShare = 0.13

// trim forgets the updates before ns.
func (t *track) trim(ns int64) {
	i := t.find(ns)
	if i > 64 && i > len(t.updates)/2 {
		t.updates = append(t.updates[:0], t.updates[i:]...)
	}
}

// between are the updates from one time until another.
func (t *track) between(from, until int64) []update {
	i, j := t.find(from), t.find(until)
	if j < len(t.updates) && t.updates[j].ns == until {
		j++
	}
	return t.updates[i:max(i, j)]
}

// find is the number of the first update at ns or later. Most updates are as far apart as is
// typical, so that it is not far from where it would be if all were.
func (t *track) find(ns int64) int {
	n := len(t.updates)
	if n == 0 {
		return 0
	}
	ago := float64(t.updates[n-1].ns-ns) / t.spacing
	i := n - 1 - int(max(-1, min(ago, float64(n-1))))
	for range 8 {
		switch {
		case i < n && t.updates[i].ns < ns:
			i++
		case i > 0 && t.updates[i-1].ns >= ns:
			i--
		default:
			return i
		}
	}
	return sort.Search(n, func(i int) bool { return t.updates[i].ns >= ns })
}

// meter is a track's account at an instant of the power's own time.
type meter struct {
	joules sum
	ticked float64 // s
	holes  float64
	count  int64
	breaks int64
	level  float64 // W about then
	outer  float64 // W outside the event, before its start or after its end
	ok     bool
}

// meter reads the account at ns.
func (t *track) meter(ns int64) (m meter) {
	n := len(t.updates)
	if n < 2 {
		return m
	}
	window := t.response.window
	if t.counts {
		window = t.spacing / 1e9
	}
	at := ns + int64((t.response.delay(window)-t.spacing/2e9)*1e9)
	i := t.find(at)
	reach := int64(3 * t.spacing)
	switch {
	case i == 0:
		if u := t.updates[0]; u.ns-at <= reach {
			out := float64(at-u.ns) / 1e9
			return meter{u.joules.add(u.value * out), u.ticked + out, u.holes, u.count, u.breaks, u.value, 0, true}
		}
		return m
	case i == n:
		if u := t.updates[n-1]; at-u.ns <= reach {
			out := float64(at-u.ns) / 1e9
			return meter{u.joules.add(u.value * out), u.ticked + out, u.holes, u.count, u.breaks, u.value, 0, true}
		}
		return m
	}
	a, b := &t.updates[i-1], &t.updates[i]
	part := float64(at-a.ns) / float64(b.ns-a.ns)
	return meter{a.joules.add(b.joules.minus(a.joules) * part), a.ticked + (b.ticked-a.ticked)*part, a.holes + (b.holes-a.holes)*part, a.count, b.breaks, b.value, 0, true}
}

// ticker tells when a channel that is polled was updated: between two reads,
// and in step with its updates before, as far as it keeps time.
type ticker struct {
	period float64 // ns
	lo, hi float64 // the last update lies between, ns after base
	mid    float64 // where it is taken to lie
	base   int64
	drift  float64
}

// begin takes the first read: what it shows is a period old at most.
func (t *ticker) begin(ns int64) {
	t.base, t.lo, t.hi, t.drift = ns, -t.period, 0, steadyDrift
	t.mid = -t.period / 2
}

// How much of a period a channel's clock may be off at each update: at first,
// and at most, after it has slipped again and again.
const (
	steadyDrift = 2e-4
	worstDrift  = 0.05
)

// look says whether a value read at ns, after one at prev, is a new one, when
// it was made, and by how much that may be off, as a standard deviation, ns.
func (t *ticker) look(prev, ns int64, changed bool) (made int64, off float64, fresh bool) {
	now, before := float64(ns-t.base), max(float64(prev-t.base), float64(ns-t.base)-t.period)
	steps := math.Floor((now - (t.lo+t.hi)/2) / t.period)
	if !changed {
		// It may have been made anew and come out the same.
		steps = math.Floor((now - t.hi) / t.period)
		sure := t.hi-t.lo > t.period/2 || now-t.hi-steps*t.period > t.period/10
		if steps < 1 || !sure {
			return 0, 0, false
		}
		t.step(steps)
		t.hi = min(t.hi, now)
		t.lo = max(t.lo, t.hi-t.period)
		t.center()
		t.rebase()
		return t.made(), t.off(), true
	}
	if steps < 1 && t.hi+t.period-now < t.period/2 {
		steps = 1
	}
	if steps >= 1 {
		t.step(steps)
	}
	lo, hi := max(t.lo, before), min(t.hi, now)
	if lo > hi || steps < 1 {
		lo, hi = before, now // the clock slipped
		t.drift = min(2*t.drift, worstDrift)
	}
	t.lo, t.hi = lo, hi
	t.center()
	t.rebase()
	return t.made(), t.off(), true
}

func (t *ticker) step(n float64) {
	t.lo += n * t.period * (1 - t.drift)
	t.hi += n * t.period * (1 + t.drift)
	t.mid += n * t.period
}

// center moves the update towards the middle of where it may lie, slowly: what
// is wrong about it is then wrong for all updates about then alike, and what lies
// between two of them is as long as they are apart.
func (t *ticker) center() {
	t.mid += ((t.lo+t.hi)/2 - t.mid) / 16
	t.mid = max(t.lo, min(t.hi, t.mid))
}

// rebase keeps the numbers small enough to be exact.
func (t *ticker) rebase() {
	shift := math.Floor(t.lo)
	t.base += int64(shift)
	t.lo -= shift
	t.hi -= shift
	t.mid -= shift
}

func (t *ticker) made() int64  { return t.base + int64(t.mid) }
func (t *ticker) off() float64 { return (t.hi - t.lo) / math.Sqrt(12) }
