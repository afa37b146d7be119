package sensor

import (
	"fmt"
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// board is the fit of one GPU's channels.
type board struct {
	*gpu
	load   *work // nil: not known
	origin int64

	// A channel that follows the power closely stands for it; nil: none does.
	truth       *Curve
	truthName   string
	truthUpdate float64 // ms
	truthFit    fit

	chain *shape // of the driver's buffer: tau and skew are the board's and load's, not the channel's
}

// fit is the models of all channels: first of the driver's buffer, whose
// windows see all of the time, then of the others with it as the truth.
func (b *board) fit() map[string]*Channel {
	channels := map[string]*Channel{}
	for _, name := range []string{record.ChannelDriver, record.ChannelCounter, record.ChannelInstant, record.ChannelAverage, record.ChannelPower} {
		r := b.channels[name]
		if r == nil {
			continue
		}
		if name == record.ChannelPower {
			if same := b.same(channels); same != "" {
				c := *channels[same]
				c.SameAs = same
				channels[name] = &c
				continue
			}
		}
		channels[name] = b.channel(name, r)
	}
	return channels
}

// same is the channel that power repeats, or "": over nine reads in ten, for
// an update may fall between the reads of the two.
func (b *board) same(channels map[string]*Channel) string {
	for _, name := range []string{record.ChannelAverage, record.ChannelInstant} {
		if a := b.both[name]; a != nil && a.reads >= 100 && float64(a.equal) > 0.9*float64(a.reads) && len(b.channels[name].runs) >= 20 {
			return name
		}
	}
	return ""
}

// channel is the model of one channel.
func (b *board) channel(name string, r *readings) *Channel {
	c := &Channel{Class: Unknown}
	say := func(format string, args ...any) { c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...)) }
	g, reason := r.updates()
	regular := reason == ""
	if regular {
		c.UpdateMS, c.UpdateSE = record.Some(g.update), record.Some(g.updateSE)
	} else {
		say("%s", reason)
	}
	rows := r.rows(g, regular, b.origin)
	if name == record.ChannelCounter {
		rows = r.increments(g, regular, b.origin)
	}
	if name != record.ChannelCounter {
		c.Gain = b.gain(r)
	}
	b.step(c, rows)
	f, remark, ok := b.shape(c, rows)
	if remark != "" {
		say("%s", remark)
	}
	if !ok {
		return c
	}
	b.tell(c, f, regular, g, r)
	if name == record.ChannelCounter && c.Coverage.Or(0) > 0.9 {
		c.Class = Integrator
	}
	if b.truth == nil && regular && (name == record.ChannelDriver || name == record.ChannelInstant) {
		b.truth, b.truthName, b.truthUpdate, b.truthFit = &Curve{}, name, g.update, f
		for _, u := range rows {
			b.truth.Until(int64(u.at*1e6), u.value)
		}
	}
	if name == record.ChannelDriver {
		b.chain = &f.shape
	}
	return c
}

// fineUpdates is how many updates of the channel that stands for the truth the
// rise of another must take: with fewer, the truth's own steps blur the window.
const fineUpdates = 8

// shape fits a channel: against the load, or, where another channel is there
// that follows the power in much finer steps, with that as the truth, for
// power is not flat under a load.
func (b *board) shape(c *Channel, rows []row) (f fit, remark string, ok bool) {
	var p problem
	rise, known := c.RiseMS.Get()
	switch {
	case b.truth != nil && (b.load == nil || !known || rise > fineUpdates*b.truthUpdate):
		p.source = reference{b.truth}
		remark = "window and lag: with " + b.truthName + " as the true power"
	case b.load != nil:
		p.source, p.board = b.load, b.chain
	default:
		return f, "window and lag: the load is not known; give events or toggles", false
	}
	cluster := func(i int) int { return i / 16 }
	if b.load != nil {
		var edges []int
		rows, edges = b.load.near(rows, min(settleMS, max(300, 4*c.RiseMS.Or(settleMS))))
		cluster = func(i int) int { return edges[i] }
	}
	for i, r := range rows {
		if _, byLoad := p.source.(*work); byLoad || b.truth.covers((r.at-wideMS-lateMS)*1e6, (r.at-earlyMS)*1e6) {
			p.rows, p.cluster = append(p.rows, r), append(p.cluster, cluster(i))
		}
	}
	if p.source == source(b.load) {
		p.locked = b.load.locked(p.rows)
	}
	if f, ok = p.solve(); !ok {
		return f, "window and lag: too few updates near the edges of the load", false
	}
	if f.r2 < 0.8 {
		return f, fmt.Sprintf("window and lag: no sensor model explains the readings (%.0f %% of their variance at best)", 100*f.r2), false
	}
	if remark != "" {
		lag := b.truthFit.LagMS
		f.lag95[0] = lag + f.LagMS - math.Hypot(f.LagMS-f.lag95[0], lag-b.truthFit.lag95[0])
		f.lag95[1] = lag + f.LagMS + math.Hypot(f.lag95[1]-f.LagMS, b.truthFit.lag95[1]-lag)
		f.LagMS += lag
	}
	return f, remark, true
}

// tell writes a fit into a channel, as far as it can stand.
func (b *board) tell(c *Channel, f fit, regular bool, g grid, r *readings) {
	say := func(format string, args ...any) { c.Reasons = append(c.Reasons, fmt.Sprintf(format, args...)) }
	c.WindowCI95MS = f.window95[:]
	clock := stats.Z95 * g.phaseSE // of the updates
	c.LagCI95MS = []float64{f.LagMS - math.Hypot(f.LagMS-f.lag95[0], clock), f.LagMS + math.Hypot(f.lag95[1]-f.LagMS, clock)}
	update := c.UpdateMS.Or(r.poll())
	spread := f.window95[1] - f.window95[0]
	blurred := false
	if !regular {
		// The time of an update is known to half a poll either way; that looks
		// like a window of one poll on top of the sensor's own.
		half := r.poll() / 2
		c.LagCI95MS[0] -= half
		c.LagCI95MS[1] += half
		say("lag: the time of an update is known to half a poll only, %.0f ms", half)
		if blurred = f.window95[0] < 3*r.poll(); blurred {
			c.WindowCI95MS = []float64{0, f.window95[1]}
		}
	}
	switch {
	case blurred:
		say("window: polls %.0f ms apart cannot tell one so short; poll at a tenth of the update", r.poll())
	case len(f.others) > 0:
		c.Ambiguous = f.others
		c.WindowMS = record.Some(f.WindowMS)
		if f.locked {
			say("window: the updates keep step with the load; use a load of other periods")
		} else {
			say("window: several explain the readings equally well; use a load of several periods")
		}
	case f.locked && spread > f.WindowMS/2:
		say("window: the updates keep step with the load; use a load of other periods")
	case spread > f.WindowMS:
		say("window: the readings bound it but do not tell it; more edges at other phases of the update would")
	default:
		c.WindowMS = record.Some(f.WindowMS)
	}
	if wide := c.LagCI95MS[1] - c.LagCI95MS[0]; wide < 1.5*update {
		c.LagMS = record.Some(f.LagMS)
	} else {
		say("lag: known no better than to %.0f ms", wide)
	}
	memory, told := c.WindowMS.Get()
	if f.TauMS > 0 {
		c.TauMS = record.Some(f.TauMS)
	}
	if !told && !blurred && 2*f.TauMS > f.window95[1] {
		// An exponential's mean is worth that of a window of twice its time
		// constant.
		memory, told = 2*f.TauMS, true
		say("coverage: by the %.1f ms of the exponential, for the window before it is not told", f.TauMS)
	}
	if told && memory < update && 2*f.TauMS > update {
		memory = 2 * f.TauMS
		say("coverage: nothing passes between two windows unseen, for an exponential of %.1f ms comes before them", f.TauMS)
	}
	if told && c.UpdateMS.OK && len(f.others) == 0 {
		c.Coverage = record.Some(min(1, memory/update))
	}
	switch {
	case len(f.others) > 0:
	case blurred:
	case 2*f.TauMS > f.window95[1] && f.TauMS > 2*update: // slower than boards are
		c.Class = Exponential
	case f.window95[0] > 1.5*update:
		c.Class = Averaged
	case f.window95[1] < 1.8*update:
		c.Class = Instant
	}
}

// advise is the channel to measure with and why.
func advise(channels map[string]*Channel) (use, advice string) {
	get := func(name string) *Channel {
		if c := channels[name]; c != nil {
			return c
		}
		return &Channel{}
	}
	driver, counter, instant := get(record.ChannelDriver), get(record.ChannelCounter), get(record.ChannelInstant)
	switch {
	case driver.Coverage.Or(0) > 0.8:
		return record.ChannelDriver, "the driver's sample buffer sees all of the time in the shortest steps"
	case driver.Pass.Or(false) && driver.Class != Averaged:
		return record.ChannelDriver, fmt.Sprintf("the driver's sample buffer follows a step within %.0f ms; over how long a window is not told: nvload response would tell", driver.RiseMS.V)
	case counter.Class == Integrator:
		return record.ChannelCounter, fmt.Sprintf("the energy counter misses nothing; it moves every %.0f ms, so that shorter events need the sensor model", counter.UpdateMS.V)
	case instant.Coverage.Or(0) > 0.8:
		return record.ChannelInstant, "the instant channel sees all of the time"
	case instant.Coverage.OK:
		return record.ChannelInstant, fmt.Sprintf("the instant channel sees %.0f %% of the time only: repeat short events at random phases", 100*instant.Coverage.V)
	case instant.Pass.Or(false) && instant.Class == Unknown:
		return record.ChannelInstant, fmt.Sprintf("the instant channel follows a step within %.0f ms; over how long a window is not told: nvload response would tell", instant.RiseMS.V)
	case instant.Class == Instant:
		return record.ChannelInstant, "the instant channel answers within one update; how much of the time it sees is not told"
	}
	for _, name := range []string{record.ChannelAverage, record.ChannelPower} {
		switch c := get(name); c.Class {
		case Averaged:
			return name, fmt.Sprintf("an average over %s: nothing is broken, but events shorter than several seconds need the sensor model; field 186 (instant) or the driver's sample buffer is better where the driver has it", span(c))
		case Instant:
			return name, "answers within one update"
		}
	}
	return "", "no channel could be told: run square waves (nvload square) and poll at a tenth of the update"
}

// span is a channel's window in words.
func span(c *Channel) string {
	if w, ok := c.WindowMS.Get(); ok {
		return fmt.Sprintf("%.0f ms", w)
	}
	return fmt.Sprintf("%.0f to %.0f ms", c.WindowCI95MS[0], c.WindowCI95MS[1])
}
