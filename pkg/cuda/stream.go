package cuda

import (
	"errors"
	"time"
	"unsafe"
)

// Stream is a queue of work: what is put into it is done in this order. The
// zero Stream is the default one.
type Stream uintptr

// nonBlocking streams do not wait for the default one (CU_STREAM_NON_BLOCKING).
const nonBlocking = 1

// NewStream makes a stream that runs beside all others.
func (c *Context) NewStream() (Stream, error) {
	var s Stream
	err := c.call("cuStreamCreate", uintptr(unsafe.Pointer(&s)), nonBlocking)
	return s, err
}

// DestroyStream gives a stream back. What is in it is still done.
func (c *Context) DestroyStream(s Stream) error { return c.call("cuStreamDestroy_v2", uintptr(s)) }

// Synchronize waits until a stream is empty. The error may be that of anything
// in it.
func (c *Context) Synchronize(s Stream) error { return c.call("cuStreamSynchronize", uintptr(s)) }

// Event is a place in a stream, and the GPU's time at which it came there.
type Event uintptr

// NewEvent makes an event.
func (c *Context) NewEvent() (Event, error) {
	var e Event
	err := c.call("cuEventCreate", uintptr(unsafe.Pointer(&e)), 0)
	return e, err
}

// DestroyEvent gives it back.
func (c *Context) DestroyEvent(e Event) error { return c.call("cuEventDestroy_v2", uintptr(e)) }

// Record puts the event at the end of a stream.
func (c *Context) Record(e Event, s Stream) error {
	return c.call("cuEventRecord", uintptr(e), uintptr(s))
}

// Query says whether the GPU has come to the event; an event that is in no
// stream counts as done.
func (c *Context) Query(e Event) (done bool, err error) {
	err = c.call("cuEventQuery", uintptr(e))
	if failed := new(Error); errors.As(err, &failed) && failed.Code == notReady {
		return false, nil
	}
	return err == nil, err
}

// Elapsed is the time from one event to another, both done.
func (c *Context) Elapsed(from, to Event) (time.Duration, error) {
	var ms float32
	err := c.call("cuEventElapsedTime", uintptr(unsafe.Pointer(&ms)), uintptr(from), uintptr(to))
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// Graph is work that was put into a stream once, and can be put into it again
// at once.
type Graph struct {
	context *Context
	exec    uintptr
}

// relaxed capture leaves other calls of the thread alone
// (CU_STREAM_CAPTURE_MODE_RELAXED).
const relaxed = 2

// Capture makes a graph of what f puts into the stream. None of it is done.
func (c *Context) Capture(s Stream, f func() error) (*Graph, error) {
	if err := c.call("cuStreamBeginCapture_v2", uintptr(s), relaxed); err != nil {
		return nil, err
	}
	failed := f()
	var graph uintptr
	if err := errors.Join(failed, c.call("cuStreamEndCapture", uintptr(s), uintptr(unsafe.Pointer(&graph)))); err != nil {
		return nil, err
	}
	g := &Graph{context: c}
	err := c.call("cuGraphInstantiateWithFlags", uintptr(unsafe.Pointer(&g.exec)), graph, 0)
	if err := errors.Join(err, c.call("cuGraphDestroy", graph)); err != nil {
		return nil, err
	}
	return g, nil
}

// Launch puts all of the graph's work into a stream.
func (g *Graph) Launch(s Stream) error {
	return g.context.call("cuGraphLaunch", g.exec, uintptr(s))
}

// Close gives the graph back.
func (g *Graph) Close() error { return g.context.call("cuGraphExecDestroy", g.exec) }
