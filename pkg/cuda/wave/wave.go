// Package wave keeps a GPU busy with one kernel, in launches of well under a
// millisecond: it is the [load.Queue] of a real GPU.
//
// Each kernel goes through the same product of matrices, or the same copy, over
// and over, in pieces that are rows of the result. Operands are random, for the
// bits that change are a good part of what arithmetic costs; results are compared
// with numbers that the CPU computes.
package wave

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/load"
)

// Options say what is computed.
type Options struct {
	GPU    int         // index, for errors
	Kernel load.Kernel // empty: nothing, memory is held alone
	BLAS   *cuda.BLAS  // for bf16; nil is our own kernel
	Hold   int64       // bytes of GPU memory to hold, the kernel's operands among them
	Clock  clock.Clock
	Stall  time.Duration // how long the GPU may take for a piece of the preparations
}

// Queue is a kernel on a GPU.
type Queue struct {
	on      *cuda.Context
	options Options
	clock   clock.Clock
	stream  cuda.Stream
	kernels *cuda.Loader
	memory  []cuda.Ptr
	job     job
	next    int    // piece that the next launch begins with
	written []bool // pieces that were computed since the result was cleared

	costs []load.Cost
	sizes []int // pieces of each launch of costs
	usual int

	ring                [16]cuda.Event // after each launch
	put, done           int            // launches since Begin
	before, ahead, fore cuda.Event     // at Begin, before the first launch, at End
	began, given        int64          // host's time at Begin, and when the first launch was handed over
}

// Operands is how many bytes a kernel works on.
func Operands(k load.Kernel) int64 {
	if k == "" {
		return 0
	}
	j := jobs[k]
	return j.operands*j.bytes + j.result
}

// Open makes a kernel ready on a GPU: it fills the operands, compares a result with
// what it should be, and measures how long launches take. The context stays the
// caller's. The end of ctx ends it with ctx's error; a *load.StallError is that
// the GPU hangs, and that nothing of it may be waited for.
func Open(ctx context.Context, on *cuda.Context, o Options) (*Queue, error) {
	q := &Queue{on: on, options: o, clock: o.Clock, kernels: cuda.NewLoader(on)}
	err := on.Do(func() error { return q.open(ctx) })
	if err != nil {
		if !load.Hangs(err) {
			err = errors.Join(err, q.Close())
		}
		return nil, err
	}
	return q, nil
}

func (q *Queue) open(ctx context.Context) (err error) {
	if q.stream, err = q.on.NewStream(); err != nil {
		return err
	}
	events := []*cuda.Event{&q.before, &q.ahead, &q.fore}
	for i := range q.ring {
		events = append(events, &q.ring[i])
	}
	for _, e := range events {
		if *e, err = q.on.NewEvent(); err != nil {
			return err
		}
	}
	if more := q.options.Hold - Operands(q.options.Kernel); more > 0 {
		if _, err := q.alloc(more); err != nil {
			return err
		}
	}
	if q.options.Kernel == "" {
		return nil
	}
	q.job = jobs[q.options.Kernel]
	if err := q.job.take(q); err != nil {
		return err
	}
	q.written = make([]bool, q.job.pieces)
	if err := q.verify(ctx); err != nil {
		return err
	}
	return q.measure(ctx)
}

func (q *Queue) alloc(bytes int64) (cuda.Ptr, error) {
	p, err := q.on.Alloc(bytes)
	if err != nil {
		return 0, fmt.Errorf("%d MiB of GPU memory: %w", bytes>>20, err)
	}
	q.memory = append(q.memory, p)
	return p, nil
}

// launch puts a kernel into the stream.
func (q *Queue) launch(l kernels.Launch, args ...any) error {
	f, err := q.kernels.Kernel(l.Module, l.Kernel, l.Shared)
	if err != nil {
		return err
	}
	if err := q.on.Launch(f, cuda.Dim(l.Grid), cuda.Dim(l.Block), l.Shared, q.stream, args...); err != nil {
		return fmt.Errorf("%s: %w", l.Kernel, err)
	}
	return nil
}

// compute puts so many pieces into the stream.
func (q *Queue) compute(pieces int) error {
	if q.next+pieces > q.job.pieces {
		q.next = 0
	}
	if err := q.job.launch(q, q.next, pieces); err != nil {
		return err
	}
	for i := range pieces {
		q.written[q.next+i] = true
	}
	q.next = (q.next + pieces) % q.job.pieces
	return nil
}

// drain waits until the stream is empty, for as long as the GPU may take.
func (q *Queue) drain(ctx context.Context, nap time.Duration) error {
	if err := q.on.Record(q.fore, q.stream); err != nil {
		return err
	}
	took := time.Duration(0) // as far as this process was not stopped meanwhile
	for last := q.clock.Now(); ; {
		done, err := q.on.Query(q.fore)
		if done || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		now := q.clock.Now()
		took += min(time.Duration(now-last), 100*time.Millisecond)
		last = now
		if q.options.Stall > 0 && took > q.options.Stall {
			return &load.StallError{GPU: q.options.GPU, Time: took}
		}
		if nap > 0 {
			q.clock.SleepUntil(now + int64(nap))
		}
	}
}

// verify computes the result once and looks at it.
func (q *Queue) verify(ctx context.Context) error {
	if err := q.compute(q.job.pieces); err != nil {
		return err
	}
	if err := q.drain(ctx, nap); err != nil {
		return err
	}
	if err := q.Check(); err != nil {
		return fmt.Errorf("%s on this GPU computes wrong numbers: %w", q.options.Kernel, err)
	}
	// What is found at the end is then of the load.
	if err := q.on.Clear(q.job.out(q), q.job.result); err != nil {
		return err
	}
	clear(q.written)
	return q.on.Synchronize(0)
}

const (
	nap = 100 * time.Microsecond
	// longest is that of a launch that keeps the GPU busy, and shortest what is
	// worth launching one by one.
	longest, shortest = 800 * time.Microsecond, 80 * time.Microsecond
	warming           = 50 * time.Millisecond
	measuring         = 4 * time.Millisecond
)

// measure finds out how long launches of each size take, and which size to use: the
// smallest that is about as fast as any below a millisecond.
func (q *Queue) measure(ctx context.Context) error {
	for until := q.clock.Now() + int64(warming); q.clock.Now() < until; {
		if err := q.compute(q.job.pieces); err != nil {
			return err
		}
		if err := q.drain(ctx, nap); err != nil {
			return err
		}
	}
	for pieces := 1; pieces <= q.job.pieces; pieces *= 2 {
		took, err := q.time(ctx, pieces)
		if err != nil {
			return err
		}
		if took > longest && len(q.costs) > 0 {
			break
		}
		q.costs = append(q.costs, load.Cost{
			Time: took, FLOPs: float64(pieces) * q.job.flops, Bytes: float64(pieces) * q.job.moved,
		})
		q.sizes = append(q.sizes, pieces)
	}
	speed := func(i int) float64 { return float64(q.sizes[i]) / max(q.costs[i].Time.Seconds(), 1e-9) }
	best := 0.0
	for i := range q.costs {
		best = max(best, speed(i))
	}
	for q.usual = 0; q.usual+1 < len(q.costs); q.usual++ {
		if q.costs[q.usual].Time >= shortest && speed(q.usual) >= 0.97*best {
			break
		}
	}
	q.costs = q.costs[:q.usual+1]
	// Of two sizes that take as long, as small ones do, the larger has no use for
	// an end; times rise.
	for i := range q.costs[1:] {
		q.costs[i+1].Time = max(q.costs[i+1].Time, q.costs[i].Time)
	}
	clear(q.written)
	if err := q.on.Clear(q.job.out(q), q.job.result); err != nil {
		return err
	}
	return q.on.Synchronize(0)
}

// time is how long a launch of so many pieces takes among others.
func (q *Queue) time(ctx context.Context, pieces int) (time.Duration, error) {
	for times := 2; ; {
		if err := q.compute(pieces); err != nil {
			return 0, err
		}
		if err := q.on.Record(q.ring[0], q.stream); err != nil {
			return 0, err
		}
		for range times {
			if err := q.compute(pieces); err != nil {
				return 0, err
			}
		}
		if err := q.on.Record(q.ring[1], q.stream); err != nil {
			return 0, err
		}
		if err := q.drain(ctx, nap); err != nil {
			return 0, err
		}
		all, err := q.on.Elapsed(q.ring[0], q.ring[1])
		if err != nil || all >= measuring || times >= 256 {
			return max(all/time.Duration(times), time.Microsecond), err
		}
		times *= 4
	}
}

// Do runs f on a thread on which the GPU's context is current.
func (q *Queue) Do(f func() error) error { return q.on.Do(f) }

// Costs are the launches that there are.
func (q *Queue) Costs() ([]load.Cost, int) { return q.costs, q.usual }

// Pieces is how many pieces the usual launch has, of how many of the whole
// product or copy.
func (q *Queue) Pieces() (usual, all int) { return q.sizes[q.usual], q.job.pieces }

// Begin reads the GPU's clock.
func (q *Queue) Begin() error {
	q.put, q.done = 0, 0
	from := q.clock.Now()
	if err := q.on.Record(q.before, q.stream); err != nil {
		return err
	}
	if err := q.drain(context.Background(), 0); err != nil {
		return err
	}
	q.began = from + (q.clock.Now()-from)/2
	return nil
}

// Put launches some pieces.
func (q *Queue) Put(size int) error {
	if q.put-q.done == len(q.ring) {
		return errors.New("more launches at once than there are events for")
	}
	if q.put == 0 {
		if err := q.on.Record(q.ahead, q.stream); err != nil {
			return err
		}
	}
	if err := q.compute(q.sizes[size]); err != nil {
		return err
	}
	if q.put == 0 {
		q.given = q.clock.Now()
	}
	if err := q.on.Record(q.ring[q.put%len(q.ring)], q.stream); err != nil {
		return err
	}
	q.put++
	return nil
}

// Done asks for launches that are over.
func (q *Queue) Done() (int, error) {
	for q.done < q.put {
		over, err := q.on.Query(q.ring[q.done%len(q.ring)])
		if err != nil {
			return q.done, err
		}
		if !over {
			break
		}
		q.done++
	}
	return q.done, nil
}

// End is when the GPU began and ended, by events in its stream: the first launch
// began when the GPU had come to the place before it, and the host had handed it
// over.
func (q *Queue) End() (first, last int64, err error) {
	since, err := q.on.Elapsed(q.before, q.ahead)
	if err != nil {
		return 0, 0, err
	}
	from := q.clock.Now()
	if err := q.drain(context.Background(), 0); err != nil {
		return 0, 0, err
	}
	now := from + (q.clock.Now()-from)/2
	ago, err := q.on.Elapsed(q.ring[(q.put-1)%len(q.ring)], q.fore)
	return max(q.began+int64(since), q.given), now - int64(ago), err
}

// Check compares numbers of the pieces that were computed with what they should
// be.
func (q *Queue) Check() error {
	if !slices.Contains(q.written, true) {
		return nil
	}
	return q.job.check(q)
}

// Close gives the memory back.
func (q *Queue) Close() error {
	return q.on.Do(func() (err error) {
		for _, p := range q.memory {
			err = errors.Join(err, q.on.Free(p))
		}
		q.memory = nil
		if q.stream != 0 {
			err = errors.Join(err, q.on.DestroyStream(q.stream))
			q.stream = 0
		}
		return err
	})
}
