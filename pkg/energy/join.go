package energy

import (
	"container/heap"
	"fmt"

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
	var q queue
	q.events = events
	var head *record.Header
	for trace.Scan() {
		r := trace.Record()
		if h, ok := r.(*record.Header); ok {
			if head != nil && head.BootID != h.BootID {
				return &ClockError{head.BootID, h.BootID}
			}
			c := *h
			head, q.trace = &c, &c
			continue
		}
		if ns, ok := r.When(); ok {
			if err := q.until(ns, a); err != nil {
				return err
			}
		}
		if err := a.Observe(r); err != nil {
			return err
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
	trace  *record.Header // clock of the trace, nil before it is known
	header *record.Header // of the events being read
	heap   startHeap
	seq    int
	ended  bool
}

// until gives a every event that starts at or before ns.
func (q *queue) until(ns int64, a *Attributor) error {
	for {
		if err := q.fill(); err != nil {
			return err
		}
		if len(q.heap) == 0 || q.heap[0].StartNS > ns {
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
		if !q.events.Scan() {
			q.ended = true
			break
		}
		switch r := q.events.Record().(type) {
		case *record.Header:
			h := *r
			q.header = &h
		case *record.Event:
			e := clone(r)
			if err := q.place(&e); err != nil {
				return err
			}
			heap.Push(&q.heap, &queued{e, q.seq})
			q.seq++
		}
	}
	return nil
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
