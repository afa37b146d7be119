package poll

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sched"
)

// worker polls one channel of one GPU.
type worker struct {
	*poller
	gpu     gpu.GPU
	index   int
	channel string
	grid    sched.Grid
	calls   calls       // of a slow channel
	done    atomic.Bool // has come back
}

func (w *worker) run(ctx context.Context) {
	switch w.channel {
	case gpu.Sample:
		if w.grid.Period >= int64(roomy) {
			w.sample(ctx, w.clock)
			return
		}
		clock.Precise(w.clock, func(c clock.Clock) { w.sample(ctx, c) })
	case gpu.Power:
		w.slow(ctx, w.power())
	case gpu.Counter:
		w.slow(ctx, w.counter())
	case gpu.GPM:
		w.slow(ctx, w.gpm)
	case gpu.Process:
		w.slow(ctx, w.processes())
	}
}

// roomy is the period from which on the calls of slow channels, some milliseconds each,
// find a place between two ticks. A tick that falls into one must not wait for it.
const roomy = 50 * time.Millisecond

// sample reads the GPU on the grid.
func (w *worker) sample(ctx context.Context, c clock.Clock) {
	k, last := int64(-1), int64(-1) // time of the last sample handed on
	for {
		k, _ = w.grid.Next(k, c.Now())
		if w.grid.At(k) >= w.end {
			return
		}
		late, err := w.grid.Wait(ctx, c, k)
		if err != nil {
			return
		}
		last = w.tick(k, late, last)
	}
}

// tick reads the GPU once and returns the time of the last sample handed on:
// this one, or last where the store is empty.
func (w *worker) tick(k, late, last int64) int64 {
	s := w.samples.take()
	if s == nil {
		return last
	}
	*s = record.Sample{}
	w.gpu.ReadSample(s)
	s.Tick = record.Some(k)
	s.LateUS = record.Some(float64(late) / 1e3)
	if last >= 0 {
		s.DtS = record.Some(float64(s.TimeNS-last) / 1e9)
	}
	// The writer may reuse s as soon as it is sent.
	last = s.TimeNS
	w.queue <- s
	return last
}

// slow makes calls on a grid of their own, each as soon as the one before it
// has returned and a tick is due, and one at the end for what has come since
// the last.
func (w *worker) slow(ctx context.Context, call func()) {
	for k := int64(-1); ; {
		k, _ = w.grid.Next(k, w.clock.Now())
		if w.grid.At(k) >= w.end {
			break
		}
		if _, err := w.grid.Wait(ctx, w.clock, k); err != nil {
			break
		}
		call()
	}
	clock.Sleep(ctx, w.clock, w.end) // until the end, whichever comes first
	select {
	case <-w.gone:
	default:
		call()
	}
}

// power harvests the driver's own power samples.
func (w *worker) power() (call func()) {
	var batch gpu.PowerBatch
	return func() {
		batch = gpu.PowerBatch{Entries: batch.Entries[:0]}
		before := w.clock.Now()
		err := w.gpu.ReadPower(&batch)
		w.calls.add(outcome{
			took:    w.clock.Now() - before,
			records: len(batch.Entries),
			failure: name(err),
			gap:     batch.Overflow,
			clock:   batch.Clock,
		})
		for _, entry := range batch.Entries {
			r := w.powers.wait(w.gone)
			if r == nil {
				return
			}
			*r = entry
			w.queue <- r
		}
	}
}

// counter reads the energy counter. A reading that failed is a record too; one
// that is lower than the last shows that the counter was reset in between.
func (w *worker) counter() (call func()) {
	var last int64 // mJ
	return func() {
		r := w.counters.wait(w.gone)
		if r == nil {
			return
		}
		*r = record.Counter{}
		before := w.clock.Now()
		w.gpu.ReadCounter(r)
		mJ := r.EnergyMilliJ.Or(last)
		w.calls.add(outcome{took: w.clock.Now() - before, records: 1, failure: r.Error, gap: mJ < last})
		last = mJ
		w.queue <- r
	}
}

// gpm reads the use of the GPU's units since the last call.
func (w *worker) gpm() {
	r := w.gpms.wait(w.gone)
	if r == nil {
		return
	}
	*r = record.GPM{}
	before := w.clock.Now()
	ok, err := w.gpu.ReadGPM(r)
	o := outcome{took: w.clock.Now() - before, failure: name(err)}
	if ok && err == nil {
		o.records = 1
		w.queue <- r
	} else {
		w.gpms.put(r)
	}
	w.calls.add(o)
}

// processes asks what each process did since the last call. A call that failed
// is a record too, of the time for which it should have told.
func (w *worker) processes() (call func()) {
	var batch gpu.ProcessBatch
	last := w.clock.Now()
	return func() {
		batch = gpu.ProcessBatch{Entries: batch.Entries[:0]}
		before := w.clock.Now()
		err := w.gpu.ReadProcesses(&batch)
		now := w.clock.Now()
		o := outcome{took: now - before, failure: name(err), clock: batch.Clock}
		if err != nil {
			batch.Entries = append(batch.Entries, record.Process{StartNS: last, TimeNS: now, GPU: w.index, Error: name(err)})
		}
		last = now
		for i := range batch.Entries {
			if o.failure == "" {
				o.failure = batch.Entries[i].Error
			}
		}
		o.records = len(batch.Entries)
		w.calls.add(o)
		for _, entry := range batch.Entries {
			r := w.poller.processes.wait(w.gone)
			if r == nil {
				return
			}
			*r = entry
			w.queue <- r
		}
	}
}

// name is what statistics call an error: the device's own name for it.
func name(err error) string {
	var e gpu.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return string(e)
	}
	return err.Error()
}
