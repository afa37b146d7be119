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
	slowly := func(r record.Record) error {
		a.calm = stretch{}
		return take(r)
	}
	for _, run := range b.Runs {
		switch run.Kind {
		case record.KindSample:
			for end := samples + run.N; samples < end; samples++ {
				if samples += a.observeSamples(run, &b.Samples, samples, end, q); samples == end {
					break
				}
				b.Samples.Sample(&sample, samples, run)
				if err := slowly(&sample); err != nil {
					return err
				}
			}
		case record.KindPower:
			for end := powers + run.N; powers < end; powers++ {
				if powers += a.observePowers(run.GPU, &b.Powers, powers, end, q); powers == end {
					break
				}
				power = record.Power{TimeNS: b.Powers.TimeNS[powers], GPU: run.GPU, PowerW: b.Powers.PowerW[powers]}
				if err := slowly(&power); err != nil {
					return err
				}
			}
		default:
			for range run.N {
				if err := slowly(b.Others[others]); err != nil {
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

// stretch is a time in which records of a GPU are quiet, as far as it has been looked at.
type stretch struct {
	board *board // nil: it has to be looked at anew
	until int64
}

// of is the time before which a GPU's records are quiet, where the next is one at ns.
func (s *stretch) of(b *board, ns int64, a *Attributor, q *queue) int64 {
	if s.board != b || ns >= s.until {
		s.board, s.until = b, a.quiet(q)
		if b.power != nil {
			s.until = min(s.until, b.power.quiet())
		}
	}
	return s.until
}

// observeSamples takes the samples from i on that are quiet and says how many.
func (a *Attributor) observeSamples(run stream.Run, s *stream.Samples, i, end int, q *queue) (n int) {
	b := a.board(run.GPU)
	if b == nil || b.power != nil && b.power.choose.field == 0 {
		return 0
	}
	until := a.calm.of(b, s.TimeNS[i], a, q)
	times := s.TimeNS[i:end]
	a.seen = a.seen[:0]
	for _, c := range b.polled {
		c := c.(*polled)
		if c.column.field == 0 {
			return 0
		}
		if run.Has&c.column.field != 0 {
			a.seen = append(a.seen, readings{&c.curve, c.column.columnOf(s)[i:end]})
		}
	}
	if n = a.together(times, until, false); n == 0 {
		return 0
	}
	if len(a.going) > 0 {
		a.sampled(b, s, run.Has, i, i+n)
	}
	b.ns, b.sampled = times[n-1], true
	if b.power != nil {
		b.power.observeSamples(s, run.Has, i, i+n)
	}
	return n
}

// observePowers does so for entries of the driver's buffer.
func (a *Attributor) observePowers(gpu int, p *stream.Powers, i, end int, q *queue) (n int) {
	b := a.board(gpu)
	if b == nil {
		return 0
	}
	until := a.calm.of(b, p.TimeNS[i], a, q)
	times := p.TimeNS[i:end]
	a.seen = a.seen[:0]
	for _, c := range b.buffered {
		a.seen = append(a.seen, readings{c.line(), p.PowerW[i:end]})
	}
	if n = a.together(times, until, true); n > 0 && b.power != nil {
		b.power.observePowers(times[:n], p.PowerW[i:i+n])
	}
	return n
}

// readings are those that a curve takes, W, of some times.
type readings struct {
	curve *curve
	w     []float64
}

// together adds readings at those times to the curves that see them, as many as
// are before until and plain to each, and says how many.
func (a *Attributor) together(times []int64, until int64, means bool) (n int) {
	if len(a.seen) == 0 {
		for n < len(times) && times[n] < until {
			a.now = max(a.now, times[n])
			n++
		}
		return n
	}
	first, others := a.seen[0], a.seen[1:]
	for _, o := range others {
		times = times[:o.curve.plain(times, until)]
	}
	n = first.curve.run(times, first.w, until, means)
	for _, o := range others {
		o.curve.run(times[:n], o.w, until, means)
	}
	if n > 0 {
		a.now = max(a.now, times[n-1])
	}
	return n
}

// sampled notes what samples in a row say beside their power.
func (a *Attributor) sampled(b *board, s *stream.Samples, has stream.Has, from, until int) {
	if a.opts.Method != Auto {
		if has &= stream.HasThrottle; has == 0 {
			return // nobody asks for the rest
		}
	}
	for _, p := range a.going {
		if s.TimeNS[until-1] < p.event.StartNS || s.TimeNS[from] > p.event.EndNS || !slices.Contains(p.boards, b) {
			continue
		}
		for i := from; i < until; i++ {
			if ns := s.TimeNS[i]; ns < p.event.StartNS || ns > p.event.EndNS {
				continue
			}
			p.reads++
			if has&stream.HasSMClock != 0 {
				p.clocked(s.SMClockMHz[i])
			}
			if has&stream.HasThrottle != 0 {
				p.throttled(s.ThrottleReasons[i])
			}
		}
	}
}
