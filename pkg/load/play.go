package load

import (
	"context"
	"errors"
	"slices"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Load is put on a device in leases, each written a while before the one before
// it runs out. A load whose process is killed or stopped ends with its lease,
// and a process that is held up for less than the lead misses nothing.
const (
	lease = 100 * time.Millisecond
	lead  = 100 * time.Millisecond
)

// Play carries out a plan and emits the event of each step after its end. The
// plan begins 100 ms after the call; step k begins at the sum of the durations
// before it.
//
// The end of ctx ends the plan, which is no error. What was put on the device
// by then still runs, 200 ms at most, and Play waits for its end: the event
// under way ends there, has the field interrupted, and no token counts. If this
// process was held up so long that the load had a pause, the event has its
// length in seconds as load_gap_s. A device that fails ends the plan in the same
// way, and is an error.
func Play(ctx context.Context, c clock.Clock, d Device, plan Plan, emit Emit) error {
	p := player{ctx: ctx, clock: c, device: d, emit: emit}
	at := c.Now() + int64(lead)
	for s := range plan {
		end := at + int64(s.Duration)
		reached, paused := p.put(s.Level, at, end)
		if s.Event != nil && reached > at {
			p.due = append(p.due, p.event(s.Event, at, reached, reached < end, paused))
		}
		at = reached
		if reached < end {
			break
		}
	}
	c.SleepUntil(at)
	p.tell()
	return errors.Join(p.failed, p.unheard)
}

// player is a plan being played.
type player struct {
	ctx     context.Context
	clock   clock.Clock
	device  Device
	emit    Emit
	due     []*record.Event // whose load is on the device, in their order
	failed  error           // of the device; what it did before is still told
	unheard error           // of emit; nothing more is told
}

// put keeps a level on the device from one instant to another. It returns, a
// lead and a lease before that at most, how far it came and for how many
// nanoseconds the load was not there.
func (p *player) put(l Level, from, end int64) (reached, paused int64) {
	for from < end {
		if clock.Sleep(p.ctx, p.clock, from-int64(lead)) != nil {
			return from, paused
		}
		if p.tell(); p.unheard != nil {
			return from, paused
		}
		if late := min(p.clock.Now(), end) - from; late > 0 {
			// What did not run is not made up for in the past.
			from += late
			if l != (Level{}) {
				paused += late
			}
		}
		until := min(from+int64(lease), end)
		if until > from && l != (Level{}) {
			if p.failed = p.device.Apply(l, from, until); p.failed != nil {
				return from, paused
			}
		}
		from = until
	}
	return end, paused
}

// event is what is told of a step.
func (p *player) event(of *record.Event, start, end int64, interrupted bool, paused int64) *record.Event {
	e := *of
	e.StartNS, e.EndNS = start, end
	e.Extra = slices.Clone(e.Extra)
	if len(e.GPUs) == 0 {
		e.GPUs = p.device.GPUs()
	}
	if paused > 0 {
		e.Extra = append(e.Extra, extra("load_gap_s", float64(paused)/1e9))
	}
	if interrupted {
		e.InputTokens, e.OutputTokens, e.TokensPerSecond = record.Opt[int64]{}, record.Opt[int64]{}, record.Opt[float64]{}
		e.Extra = append(e.Extra, extra("interrupted", true))
	}
	return &e
}

// tell emits the events that are over.
func (p *player) tell() {
	now := p.clock.Now()
	for p.unheard == nil && len(p.due) > 0 && p.due[0].EndNS <= now {
		p.unheard = p.emit(p.due[0])
		p.due = p.due[1:]
	}
}
