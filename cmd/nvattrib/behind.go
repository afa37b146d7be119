package main

import (
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// behind writes events on a goroutine of its own, while the next are
// attributed. A failure comes out of a later write, or of end.
type behind struct {
	batch []outcome
	full  chan []outcome
	free  chan []outcome // has room for all three
	done  chan error
	err   error
	ended bool
}

// outcome is an event with its energy, which the attributor goes on to use for
// the next.
type outcome struct {
	event  record.Event
	energy record.Energy
}

// behindSize is how many events are written at a time, about as many as a
// writer gathers before it writes.
const behindSize = 512

func writeBehind(out stream.Writer) *behind {
	b := &behind{full: make(chan []outcome, 2), free: make(chan []outcome, 3), done: make(chan error, 1)}
	b.batch = make([]outcome, 0, behindSize)
	for range cap(b.full) {
		b.free <- make([]outcome, 0, behindSize)
	}
	go func() {
		for batch := range b.full {
			for i := range batch {
				if err := out.Write(&batch[i].event); err != nil {
					b.done <- err
					return
				}
			}
			b.free <- batch[:0]
		}
		b.done <- nil
	}()
	return b
}

// write takes a copy of the event and its energy; the rest that they point to
// is left as it is.
func (b *behind) write(e *record.Event) error {
	if b.ended {
		return b.err
	}
	n := len(b.batch)
	b.batch = b.batch[:n+1]
	o := &b.batch[n]
	o.event, o.energy = *e, *e.Energy
	o.event.Energy = &o.energy
	if n+1 < behindSize {
		return nil
	}
	b.full <- b.batch // there is room: it was taken from free
	select {
	case b.batch = <-b.free:
	case b.err = <-b.done:
		b.ended = true
	}
	return b.err
}

// end waits until all is written. A failure that a write has told of is not
// told again.
func (b *behind) end() error {
	if b.ended {
		return nil
	}
	b.ended = true
	b.full <- b.batch
	close(b.full)
	b.err = <-b.done
	return b.err
}
