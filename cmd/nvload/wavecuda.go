package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	waves "joulepipe/pkg/cuda/wave"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
)

// wave plays a plan, which needs no more than that level, on the device that --device
// names.
func wave(c *cli.Context, most load.Level, plan load.Plan) error {
	if c.Duration("stall") <= 0 {
		return c.Usagef("--stall %v: want more than 0", c.Duration("stall"))
	}
	defer watchParent(c)()
	if kind, _, _ := strings.Cut(c.String("device"), ":"); kind == "cuda" {
		return onRig(c, most, plan)
	}
	return onDevice(c, func(load.Board) load.Plan { return plan })
}

// rig is the GPUs of a load, ready for it.
type rig struct {
	*boards
	on     []*cuda.Context
	blas   []*cuda.BLAS
	queues []*waves.Queue
	lost   bool // a GPU hangs: nothing is waited for any more
}

// Close gives everything back.
func (r *rig) Close() (err error) {
	if r.lost {
		return nil // the end of the process does it
	}
	for i := range r.on {
		if q := r.queues[i]; q != nil {
			err = errors.Join(err, q.Close())
		}
		if b := r.blas[i]; b != nil {
			err = errors.Join(err, b.Close())
		}
		if on := r.on[i]; on != nil {
			err = errors.Join(err, on.Close())
		}
	}
	return errors.Join(err, r.boards.Close())
}

// hangsHint is for who has a GPU that hangs.
const hangsHint = "the driver's log (dmesg) may say why; --stall waits longer"

// onRig plays a plan on real GPUs.
func onRig(c *cli.Context, most load.Level, plan load.Plan) (err error) {
	b, err := openBoards(c)
	if err != nil {
		return err
	}
	n := len(b.all)
	r := &rig{boards: b, on: make([]*cuda.Context, n), blas: make([]*cuda.BLAS, n), queues: make([]*waves.Queue, n)}
	defer func() {
		if closed := r.Close(); err == nil {
			err = closed // what comes of a failure says nothing new
		}
	}()
	guard, err := newGuard(c, b.all, b.dark)
	if err != nil {
		return err
	}
	h := c.NewHeader()
	for _, b := range r.all {
		h.GPUs = append(h.GPUs, b.GPU)
	}
	if err := r.open(c, most); err != nil {
		if c.Ctx.Err() != nil && errors.Is(err, c.Ctx.Err()) { // there is a stream all the same, of nothing
			return tell(c, h, func(load.Emit) error { return nil })
		}
		return err
	}
	play := load.Rig{Guard: guard, Stall: c.Duration("stall")}
	for i, b := range r.all {
		play.GPUs = append(play.GPUs, b.Index)
		play.Queues = append(play.Queues, r.queues[i])
	}
	guard.Changes()
	ctx, stop := context.WithCancel(c.Ctx)
	defer stop()
	if guard != nil {
		go guard.Watch(ctx, clock.System())
	}
	var ran load.Ran
	err = tell(c, h, func(emit load.Emit) (err error) {
		for i := range r.all {
			if m := r.calibration(i); m != nil {
				if err := emit(m); err != nil {
					return err
				}
			}
		}
		ran, err = play.Run(c.Ctx, clock.System(), plan, emit)
		return err
	})
	if err != nil {
		r.lost = true // a GPU that failed may hang when it is closed
		if load.Hangs(err) {
			err = cli.WithHint(err, hangsHint)
		}
		return err
	}
	if ran.Late > 0 {
		c.Doubtf("steps that were over before they could begin, and have no events: %d; this machine is too slow or too busy for them", ran.Late)
	}
	if ran.Unsure != nil {
		c.Doubtf("what was computed is wrong: %v", ran.Unsure)
	}
	switch {
	case ran.Hot:
		return cli.Errorf(cli.ExitThermalTrip, "ended while the load was paused, too hot: the limit is %v °C", guard.Max)
	case 2*ran.Paused > ran.Loaded:
		return cli.Errorf(cli.ExitThermalTrip, "too hot for more than half of the load: it was paused for %v of %v", ran.Paused.Round(time.Millisecond), ran.Loaded.Round(time.Millisecond))
	}
	return nil
}

// open makes all GPUs ready at the same time.
func (r *rig) open(c *cli.Context, most load.Level) error {
	o := waves.Options{Hold: int64(most.VRAMMB * (1 << 20)), Clock: clock.System(), Stall: c.Duration("stall")}
	if most.Share > 0 {
		o.Kernel = most.Kernel
	}
	if need := waves.Operands(o.Kernel); o.Hold < need {
		c.Warnf("%s works on %d MiB of GPU memory: --vram %v is less", o.Kernel, need>>20, most.VRAMMB)
		o.Hold = need
	}
	failed := make([]error, len(r.all))
	var opening sync.WaitGroup
	for i, b := range r.all {
		opening.Go(func() { failed[i] = r.openOne(c, i, b, o) })
	}
	opening.Wait()
	for i, err := range failed {
		if load.Hangs(err) {
			r.lost = true
		}
		if errors.Is(err, cuda.ErrOutOfMemory) {
			failed[i] = cli.WithHint(err, "nothing was loaded; ask for less with --vram")
		}
	}
	return errors.Join(failed...)
}

func (r *rig) openOne(c *cli.Context, i int, b *board, o waves.Options) (err error) {
	if r.on[i], err = r.driver.NewContext(b.cuda.Ordinal); err != nil {
		return fmt.Errorf("GPU %d: %w", b.Index, err)
	}
	if err := space(r.on[i], o.Hold); err != nil {
		return fmt.Errorf("GPU %d: %w", b.Index, err)
	}
	if o.Kernel == load.BF16 {
		if r.blas[i], err = openBLAS(c, r.on[i]); err != nil {
			return err
		}
	}
	o.GPU, o.BLAS = b.Index, r.blas[i]
	if r.queues[i], err = waves.Open(c.Ctx, r.on[i], o); err != nil {
		if load.Hangs(err) {
			return err
		}
		return fmt.Errorf("GPU %d: %w", b.Index, err)
	}
	return nil
}

// space says why there is no room for so many bytes.
func space(on *cuda.Context, bytes int64) error {
	return on.Do(func() error {
		free, total, err := on.MemInfo()
		if err == nil && bytes > free {
			err = cli.WithHint(fmt.Errorf("the load takes %d MiB of GPU memory, and %d of %d are free", bytes>>20, free>>20, total>>20),
				"nothing was loaded; ask for less with --vram, or see who uses the GPU")
		}
		return err
	})
}

// calibration is what was measured before the load, as a marker; nil where there
// is no kernel.
func (r *rig) calibration(i int) *record.Marker {
	costs, usual := r.queues[i].Costs()
	if len(costs) == 0 {
		return nil
	}
	return load.Calibration(r.all[i].Index, costs[usual], r.blasName(i), clock.Now())
}

func (r *rig) blasName(i int) string {
	if r.blas[i] == nil {
		return ""
	}
	return r.blas[i].Path
}
