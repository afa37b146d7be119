package energy

import (
	"container/heap"
	"fmt"
	"math"

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
	heap   startHeap
	seq    int
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
		if len(q.heap) == 0 {
			q.next = never
			return nil
		}
		if q.next = q.heap[0].StartNS; q.next > ns {
			return nil
		}
		e := heap.Pop(&q.heap).(*queued)
		if err := a.take(e.Event); err != nil {
			return err
		}
	}
}

// fill reads events until enough are held.
func (q *queue) fill() error {
	for !q.ended && len(q.heap) < readAhead {
		r, own := q.scan()
		switch r := r.(type) {
		case nil:
			q.ended = true
		case *record.Header:
			h := *r
			q.header = &h
		case *record.Event:
			e := &queued{*r, q.seq}
			if !own {
				e.Event = clone(r)
			}
			e.Energy = nil
			if err := q.place(&e.Event); err != nil {
				return err
			}
			heap.Push(&q.heap, e)
			q.seq++
		}
	}
	return nil
}

// scan is the next record, nil at the end; own says that it may be kept.
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
		e.StartNS, e.EndNS = from+offset, e.EndUnixNS.Or(from)+offset
		return nil
	}
	if q.trace != nil && q.header != nil && q.trace.BootID != "" && q.header.BootID != "" && q.trace.BootID != q.header.BootID {
		return &ClockError{q.trace.BootID, q.header.BootID}
	}
	return nil
}

// queued is an event and its place in the file, which decides between equals.
type queued struct {
	record.Event
	seq int
}

type startHeap []*queued

func (h startHeap) Len() int { return len(h) }
func (h startHeap) Less(i, j int) bool {
	if h[i].StartNS != h[j].StartNS {
		return h[i].StartNS < h[j].StartNS
	}
	return h[i].seq < h[j].seq
}
func (h startHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *startHeap) Push(x any)   { *h = append(*h, x.(*queued)) }
func (h *startHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
