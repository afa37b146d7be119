package energy

import (
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// observeBatch gives every record of a batch to take, but for those stretches
// in which nothing begins, ends or is amiss: their readings are added up at
// once. It comes to the same.
func (a *Attributor) observeBatch(b *stream.Batch, q *queue, take func(record.Record) error) error {
	samples, powers, others := 0, 0, 0
	var sample record.Sample
	var power record.Power
	for _, run := range b.Runs {
		switch run.Kind {
		case record.KindSample:
			for end := samples + run.N; samples < end; samples++ {
				if samples += a.observeSamples(run, &b.Samples, samples, end, q); samples == end {
					break
				}
				sample = b.Samples.Sample(samples, run)
				if err := take(&sample); err != nil {
					return err
				}
			}
		case record.KindPower:
			for end := powers + run.N; powers < end; powers++ {
				if powers += a.observePowers(run.GPU, &b.Powers, powers, end, q); powers == end {
					break
				}
				power = record.Power{TimeNS: b.Powers.TimeNS[powers], GPU: run.GPU, PowerW: b.Powers.PowerW[powers]}
				if err := take(&power); err != nil {
					return err
				}
			}
		default:
			for range run.N {
				if err := take(b.Others[others]); err != nil {
					return err
				}
				others++
			}
		}
	}
	return nil
}

// quiet is the time before which no record of a GPU makes an event begin, or
// be handed on without an edge of it on the way.
func (a *Attributor) quiet(q *queue) int64 {
	until := q.next
	if len(a.open) > 0 && a.open[0].undone == 0 {
		first := a.open[0]
		if first.left == 0 {
			return math.MinInt64
		}
		until = min(until, first.event.EndNS+patience)
	}
	if len(a.going) > 0 {
		until = min(until, a.firstEnd+patience)
	}
	return until
}

// observeSamples takes the samples from i on that are quiet and says how many.
func (a *Attributor) observeSamples(run stream.Run, s *stream.Samples, i, end int, q *queue) (n int) {
	b := a.board(run.GPU)
	if b == nil || a.opts.Method == Auto {
		return 0
	}
	until := a.quiet(q)
	times := s.TimeNS[i:end]
	if c, ok := b.channels[0].(*polled); ok {
		if c.column.field == 0 || run.Has&c.column.field == 0 {
			return 0
		}
		n = c.run(times, c.column.columnOf(s)[i:end], until, false)
		times = times[:n]
		if n > 0 {
			a.now = max(a.now, times[n-1]) // they grow
		}
	} else {
		n = before(times, until)
		times = times[:n]
		a.pass(times)
	}
	if n == 0 {
		return 0
	}
	if run.Has&stream.HasThrottle != 0 {
		a.slowed(b, times, s.ThrottleReasons[i:i+n])
	}
	b.ns, b.sampled = times[n-1], true
	return n
}

// observePowers does so for entries of the driver's buffer.
func (a *Attributor) observePowers(gpu int, p *stream.Powers, i, end int, q *queue) (n int) {
	b := a.board(gpu)
	if b == nil {
		return 0
	}
	until := a.quiet(q)
	if b.power != nil {
		until = min(until, b.power.quiet())
	}
	times := p.TimeNS[i:end]
	if c, ok := b.channels[0].(*buffered); ok {
		n = c.run(times, p.PowerW[i:end], until, true)
	} else {
		n = before(times, until)
	}
	a.pass(times[:n])
	if b.power != nil && n > 0 {
		b.power.observePowers(times[:n], p.PowerW[i:i+n])
	}
	return n
}

// before is how many times there are until the first that is not before.
func before(times []int64, until int64) int {
	for i, ns := range times {
		if ns >= until {
			return i
		}
	}
	return len(times)
}

// pass notes how far the trace has come.
func (a *Attributor) pass(times []int64) {
	for _, ns := range times {
		a.now = max(a.now, ns)
	}
}

// slowed notes what samples in a row say of throttling.
func (a *Attributor) slowed(b *board, times []int64, reasons []uint64) {
	for _, p := range a.going {
		if !slices.Contains(p.boards, b) {
			continue
		}
		for i, ns := range times {
			if ns >= p.event.StartNS && ns <= p.event.EndNS {
				p.throttled(reasons[i])
			}
		}
	}
}
