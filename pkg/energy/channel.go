package energy

import (
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// A channel turns the records of one GPU into a curve.
type channel interface {
	observe(record.Record)
	finish()
	line() *curve
}

// polled is a power reading on the poller's grid: straight lines between
// readings.
type polled struct {
	curve
	column choice
}

func (p *polled) line() *curve { return &p.curve }

func (p *polled) observe(r record.Record) {
	s, ok := r.(*record.Sample)
	if !ok || !s.ReadOK {
		return
	}
	if w, ok := p.column.of(s).Get(); ok {
		p.to(s.TimeNS, w)
	}
}

func (p *polled) to(ns int64, w float64) {
	switch {
	case !p.begun:
		p.begin(ns, w)
	case ns <= p.ns:
		p.late++
	default:
		p.extend(ns, p.powerW, w, true)
	}
}

// choice is the field that is taken from samples.
type choice struct {
	field stream.Has // 0: not decided
}

var (
	usage   = choice{stream.HasPower}
	instant = choice{stream.HasInstant}
)

// averaged is field 185 or, in a trace without it, nvmlDeviceGetPowerUsage,
// which is the same mean over a second on most boards since Ampere. The first
// sample decides, so that the two are never mixed.
func averaged() choice { return choice{} }

func (c *choice) of(s *record.Sample) record.Opt[float64] {
	if c.field == 0 {
		switch {
		case s.PowerAverageW.OK:
			c.field = stream.HasAverage
		case s.PowerW.OK:
			c.field = stream.HasPower
		}
	}
	switch c.field {
	case stream.HasPower:
		return s.PowerW
	case stream.HasInstant:
		return s.PowerInstantW
	case stream.HasAverage:
		return s.PowerAverageW
	}
	return record.Opt[float64]{}
}

// column is the field's in a batch, nil while there is none.
func (c *choice) columnOf(s *stream.Samples) []float64 {
	switch c.field {
	case stream.HasPower:
		return s.PowerW
	case stream.HasInstant:
		return s.PowerInstantW
	case stream.HasAverage:
		return s.PowerAverageW
	}
	return nil
}

// buffered is the driver's own sample buffer: each entry is the mean of the
// time since the one before it. Where entries are missing the mean is known
// only for the entry's own short window, so the hole is bridged by a line.
type buffered struct{ curve }

func (b *buffered) line() *curve { return &b.curve }

func (b *buffered) observe(r record.Record) {
	p, ok := r.(*record.Power)
	if !ok {
		return
	}
	switch {
	case !b.begun:
		b.begin(p.TimeNS, p.PowerW)
	case p.TimeNS <= b.ns:
		b.late++
	case p.TimeNS-b.ns > b.gapNS:
		b.extend(p.TimeNS, b.powerW, p.PowerW, true)
	default:
		b.extend(p.TimeNS, p.PowerW, p.PowerW, true)
	}
}

// counted is the energy counter. Its value changes in ticks; the time of a
// tick is taken half-way between the last read of the old value and the first
// of the new one, or half a tick before the read where reads are further apart
// than ticks. Between ticks the energy rises in a straight line, except
// where the rates before and after a tick say that power stepped inside it:
// then the one step that conserves the tick's energy is put there (Harten's
// subcell resolution). On the H200 this brings the counter and the driver's
// buffer, over 3 s at low power between two loads, from 4 % to 0.8 % apart.
type counted struct {
	curve
	read   bool
	lastNS int64 // middle of the last read's bracket
	lastMJ int64
	ticks  []tick // at most 3, newest last; the newest two bound the stretch not yet drawn
}

type tick struct{ ns, mJ int64 }

// counterTickNS is how often the counter moves: 100 ms on the H200 here and by
// Zeus's findings, 20 to 100 ms by PETSc's. Read once a second, a value is that
// old at most.
const counterTickNS = int64(100 * time.Millisecond)

// watts is the mean power between two ticks; mJ per ns is MW.
func (a tick) watts(b tick) float64 { return float64(b.mJ-a.mJ) / float64(b.ns-a.ns) * 1e6 }

func (c *counted) line() *curve { return &c.curve }

func (c *counted) observe(r record.Record) {
	n, ok := r.(*record.Counter)
	if !ok {
		return
	}
	mJ, ok := n.EnergyMilliJ.Get()
	if !ok {
		return
	}
	ns := n.BeforeNS/2 + n.TimeNS/2
	switch {
	case !c.read:
		c.read = true
	case ns <= c.lastNS:
		c.late++
		return
	case mJ < c.lastMJ:
		c.flush()
		c.ticks = c.ticks[:0]
	case mJ > c.lastMJ:
		c.tick(tick{ns - min(ns-c.lastNS, counterTickNS)/2, mJ})
	}
	c.lastNS, c.lastMJ = ns, mJ
}

func (c *counted) tick(d tick) {
	switch t := c.ticks; len(t) {
	case 0:
	case 1:
		w := t[0].watts(d)
		if c.begun {
			c.skip(t[0].ns, w)
		} else {
			c.begin(t[0].ns, w)
		}
	case 2:
		c.flat(t[0], t[1])
	case 3:
		c.stretch(t[0].watts(t[1]), t[1], t[2], t[2].watts(d))
		c.ticks = append(t[:0], t[1], t[2])
	}
	c.ticks = append(c.ticks, d)
}

// flat draws the stretch from a to b at its mean power.
func (c *counted) flat(a, b tick) {
	w := a.watts(b)
	c.extend(b.ns, w, w, true)
}

// stretch draws the tick from a to b between neighbours of before and after
// watts.
func (c *counted) stretch(before float64, a, b tick, after float64) {
	w := a.watts(b)
	if (w-before)*(after-w) <= 0 {
		c.flat(a, b)
		return
	}
	at := a.ns + int64((w-after)/(before-after)*float64(b.ns-a.ns))
	if at <= a.ns || at >= b.ns {
		c.flat(a, b)
		return
	}
	// The step's instant is whole nanoseconds: the second part takes what is
	// left of the tick's energy.
	joules := float64(b.mJ-a.mJ)/1e3 - before*float64(at-a.ns)/1e9
	after = joules / (float64(b.ns-at) / 1e9)
	c.extend(at, before, before, false)
	c.extend(b.ns, after, after, true)
}

// flush draws what is left when no further tick will come.
func (c *counted) flush() {
	if n := len(c.ticks); n >= 2 {
		c.flat(c.ticks[n-2], c.ticks[n-1])
	}
}

func (c *counted) finish() {
	c.flush()
	c.curve.finish()
}
