package load

import (
	"context"
	"sync/atomic"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Guard pauses a load that makes its GPUs too hot. The zero Guard, and nil,
// never do.
type Guard struct {
	Max    float64 // °C at which the load pauses, read twice in a row
	Resume float64 // °C at which it goes on, when all GPUs are as cool
	// Read is the temperature of each GPU now in °C, absent where it could not be
	// read.
	Read func() []record.Opt[float64]
	// Say is told of each change, on the goroutine of [Guard.Watch]; may be nil.
	Say func(GuardChange)

	paused  atomic.Bool
	hot     int
	unknown bool
	changes chan GuardChange
}

// GuardChange is that a load pauses or goes on, or that nobody watches it.
type GuardChange struct {
	TimeNS  int64
	Paused  bool
	Unknown bool                // no temperature can be read, and Paused is as before
	TempC   record.Opt[float64] // of the hottest
}

// Paused says whether nothing is to be put on the GPUs now.
func (g *Guard) Paused() bool { return g != nil && g.paused.Load() }

// guardPeriod is how often the temperature is read.
const guardPeriod = time.Second

// Watch reads the temperature about every second until ctx ends. Its goroutine
// is its own: a reading may take long. It is called once, if at all.
func (g *Guard) Watch(ctx context.Context, c clock.Clock) {
	for at := c.Now(); ctx.Err() == nil; at = max(at+int64(guardPeriod), c.Now()) {
		if clock.Sleep(ctx, c, at) != nil {
			return
		}
		if change, ok := g.judge(g.Read()); ok {
			change.TimeNS = c.Now()
			if g.Say != nil {
				g.Say(change)
			}
			if g.changes != nil {
				select {
				case g.changes <- change:
				default: // nobody writes them down any more
				}
			}
		}
	}
}

// judge takes one reading of all GPUs. A reading that failed is none: it neither
// is hot nor ends a row of those that are, and the load does not go on by it.
func (g *Guard) judge(temps []record.Opt[float64]) (change GuardChange, changed bool) {
	all := len(temps) > 0
	for _, t := range temps {
		all = all && t.OK
		if t.OK && t.V > change.TempC.Or(t.V-1) {
			change.TempC = t
		}
	}
	hottest, known := change.TempC.Get()
	change.Paused = g.paused.Load()
	switch {
	case !known:
		change.Unknown, changed = true, !g.unknown
		g.unknown = true
		return change, changed
	case hottest >= g.Max:
		g.hot++
	default:
		g.hot = 0
	}
	switch {
	case !change.Paused && g.hot >= 2, change.Paused && all && hottest <= g.Resume:
		change.Paused = !change.Paused
		g.paused.Store(change.Paused)
		return change, true
	}
	return change, false
}

// Changes are those that are not yet taken, for the goroutine that writes the
// events. It is called before [Guard.Watch].
func (g *Guard) Changes() <-chan GuardChange {
	if g == nil {
		return nil
	}
	if g.changes == nil {
		g.changes = make(chan GuardChange, 64)
	}
	return g.changes
}

// Marker is a change as the stream has it: thermal_pause and thermal_resume, with
// temp_c; nil where nothing changed for the load.
func (c GuardChange) Marker() *record.Marker {
	if c.Unknown {
		return nil
	}
	m := &record.Marker{Name: "thermal_resume", TimeNS: c.TimeNS}
	if c.Paused {
		m.Name = "thermal_pause"
	}
	m.Extra = []record.Field{extra("temp_c", c.TempC.V)}
	return m
}

// Wait returns when the load is not paused, and emits what changed since the last
// call.
func (g *Guard) Wait(ctx context.Context, changes <-chan GuardChange, emit Emit) error {
	for {
		select {
		case change := <-changes:
			if m := change.Marker(); m != nil {
				if err := emit(m); err != nil {
					return err
				}
			}
			continue
		default:
		}
		if !g.Paused() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
