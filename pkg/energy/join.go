package energy

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// readAhead is how many events are read ahead of the trace, so that a file
// that has them in the order of their ends, or by thread, comes out in order.
const readAhead = 8192

// ClockError says that two streams were stamped by different clocks and cannot
// be joined.
type ClockError struct{ TraceBoot, EventBoot string }

func (e *ClockError) Error() string {
	return fmt.Sprintf("trace and events are of different boots (%s, %s): their monotonic clocks have nothing in common", e.TraceBoot, e.EventBoot)
}

// Join attributes every event by the trace, in one pass over both. Neither
// reader's failure stops the other's records: look at their Err afterwards.
// Events that carry wall-clock times are placed through the trace's header.
func (a *Attributor) Join(trace, events stream.Reader) error {
	q := newQueue(events)
	if q.many != nil {
		defer q.many.Stop()
	}
	var head *record.Header
	take := func(r record.Record) error {
		if h, ok := r.(*record.Header); ok {
			if head != nil && head.BootID != h.BootID {
				return &ClockError{head.BootID, h.BootID}
			}
			c := *h
			head, q.trace, a.header = &c, &c, &c
			return nil
		}
		if ns, ok := r.When(); ok {
			if err := q.until(ns, a); err != nil {
				return err
			}
		}
		return a.Observe(r)
	}
	if many, ok := trace.(stream.Batcher); ok {
		defer many.Stop()
		for many.ScanBatch() {
			if err := a.observeBatch(many.Batch(), &q, take); err != nil {
				return err
			}
		}
	} else {
		for trace.Scan() {
			if err := take(trace.Record()); err != nil {
				return err
			}
		}
	}
	if err := q.until(never, a); err != nil {
		return err
	}
	return a.Finish()
}

// queue hands events on in the order of their starts.
type queue struct {
	events stream.Reader
	many   stream.Batcher  // events, where it is one
	batch  []record.Record // of many, not yet looked at
	next   int64           // no event that is known starts before; never, once all are given
	trace  *record.Header  // clock of the trace, nil before it is known
	header *record.Header  // of the events being read
	held   []*record.Event // in the order of their starts, equal ones as they came, from given on
	given  int
	spare  []*record.Event // no longer held
	ended  bool
}

func newQueue(events stream.Reader) queue {
	q := queue{events: events, next: math.MinInt64}
	q.many, _ = events.(stream.Batcher)
	return q
}

// until gives a every event that starts at or before ns.
func (q *queue) until(ns int64, a *Attributor) error {
	for {
		if err := q.fill(); err != nil {
			return err
		}
		if q.given == len(q.held) {
			q.next = never
			return nil
		}
		e := q.held[q.given]
		if q.next = e.StartNS; q.next > ns {
			return nil
		}
		q.held[q.given] = nil
		q.given++
		if err := a.take(e); err != nil {
			return err
		}
		q.spare = append(q.spare, e)
	}
}

// fill reads events until enough are held.
func (q *queue) fill() error {
	for !q.ended && len(q.held)-q.given < readAhead {
		r, own := q.scan()
		switch r := r.(type) {
		case nil:
			q.ended = true
		case *record.Header:
			h := *r
			q.header = &h
		case *record.Event:
			if !own {
				r = r.Clone()
			}
			e := q.room()
			*e = *r
			if err := q.place(e); err != nil {
				return err
			}
			q.hold(e)
		}
	}
	return nil
}

// hold puts an event in its place, which in most files is the last.
func (q *queue) hold(e *record.Event) {
	if q.given > readAhead {
		q.held = slices.Delete(q.held, 0, q.given)
		q.given = 0
	}
	q.held = append(q.held, e)
	i := len(q.held) - 1
	if i == q.given || q.held[i-1].StartNS <= e.StartNS {
		return
	}
	at := q.given + sort.Search(i-q.given, func(k int) bool { return q.held[q.given+k].StartNS > e.StartNS })
	copy(q.held[at+1:], q.held[at:i])
	q.held[at] = e
}

// room is for another event.
func (q *queue) room() *record.Event {
	n := len(q.spare)
	if n == 0 {
		return new(record.Event)
	}
	e := q.spare[n-1]
	q.spare = q.spare[:n-1]
	return e
}

// scan is the next record, nil at the end; own says that what it points to may be kept.
func (q *queue) scan() (r record.Record, own bool) {
	if q.many == nil {
		if q.events.Scan() {
			return q.events.Record(), false
		}
		return nil, false
	}
	for len(q.batch) == 0 {
		if !q.many.ScanBatch() {
			return nil, false
		}
		q.batch = q.many.Batch().Others
	}
	r, q.batch = q.batch[0], q.batch[1:]
	return r, true
}

// place puts an event on the trace's clock.
func (q *queue) place(e *record.Event) error {
	if from, ok := e.StartUnixNS.Get(); ok && e.StartNS == 0 && e.EndNS == 0 {
		if q.trace == nil || q.trace.UnixNS == 0 {
			return fmt.Errorf("event %q has wall-clock times, and the trace's header has no wall clock to place them by", e.ID)
		}
		offset := q.trace.TimeNS - q.trace.UnixNS
		e.StartNS, e.EndNS = plus(from, offset), plus(e.EndUnixNS.Or(from), offset)
		return nil
	}
	if q.trace != nil && q.header != nil && q.trace.BootID != "" && q.header.BootID != "" && q.trace.BootID != q.header.BootID {
		return &ClockError{q.trace.BootID, q.header.BootID}
	}
	return nil
}

// plus is a + b, or as near to it as there are numbers: what is beyond them is beyond
// any trace.
func plus(a, b int64) int64 {
	c := a + b
	switch {
	case b > 0 && c < a:
		return math.MaxInt64
	case b < 0 && c > a:
		return math.MinInt64
	}
	return c
}
