package main

import (
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// behind writes events on a goroutine of its own, while the next are
// attributed. A failure comes out of a later write, or of end.
type behind struct {
	batch []record.Event
	full  chan []record.Event
	free  chan []record.Event // has room for all three
	done  chan error
	err   error
	ended bool
}

// behindSize is how many events are written at a time, about as many as a
// writer gathers before it writes.
const behindSize = 128

func writeBehind(out stream.Writer) *behind {
	b := &behind{full: make(chan []record.Event, 2), free: make(chan []record.Event, 3), done: make(chan error, 1)}
	b.batch = make([]record.Event, 0, behindSize)
	for range cap(b.full) {
		b.free <- make([]record.Event, 0, behindSize)
	}
	go func() {
		for batch := range b.full {
			for i := range batch {
				if err := out.Write(&batch[i]); err != nil {
					b.done <- err
					return
				}
			}
			clear(batch)
			b.free <- batch[:0]
		}
		b.done <- nil
	}()
	return b
}

// write takes the event, and what it points to.
func (b *behind) write(e *record.Event) error {
	b.batch = append(b.batch, *e)
	if len(b.batch) < behindSize || b.ended {
		return b.err
	}
	b.full <- b.batch // there is room: it was taken from free
	select {
	case b.batch = <-b.free:
	case b.err = <-b.done:
		b.ended = true
		b.batch = b.batch[:0:0]
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
