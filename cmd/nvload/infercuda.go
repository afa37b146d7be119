package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
)

// serve makes the requests on a GPU.
func serve(c *cli.Context, f load.Infer, b *board, on *cuda.Context) (err error) {
	guard, err := newGuard(c, []*board{b}, b.dark)
	if err != nil {
		return err
	}
	stall := c.Duration("stall")
	engine := load.Engine{GPUs: []int{b.Index}, Stall: stall}
	closing := func() error { return nil }
	defer func() {
		if load.Hangs(err) {
			err = cli.WithHint(err, hangsHint)
		} else {
			err = errors.Join(err, closing())
		}
	}()
	// Whether the GPU answers at all is seen before there is a model to watch.
	if err := load.Within(stall, b.Index, func() (err error) {
		closing, err = openModel(c, f, on, &engine)
		return err
	}); err != nil {
		return err
	}
	h := c.NewHeader()
	h.GPUs = []record.GPU{b.GPU}
	if guard != nil {
		changes := guard.Changes()
		ctx, stop := context.WithCancel(c.Ctx)
		defer stop()
		go guard.Watch(ctx, clock.System())
		engine.Wait = func(ctx context.Context, emit load.Emit) error { return guard.Wait(ctx, changes, emit) }
	}
	err = tell(c, h, func(emit load.Emit) error { return f.Run(c.Ctx, clock.System(), engine, emit) })
	if err == nil && guard.Paused() {
		err = cli.Errorf(cli.ExitThermalTrip, "ended too hot: the limit is %v °C", guard.Max)
	}
	return err
}

// openModel draws the model that requests go to and measures the GPU. What it
// took is given back by closing, also where it fails.
func openModel(c *cli.Context, f load.Infer, on *cuda.Context, e *load.Engine) (closing func() error, err error) {
	var open []func() error
	closing = func() (err error) {
		for _, shut := range slices.Backward(open) {
			err = errors.Join(err, shut())
		}
		return err
	}
	blas, err := openBLAS(c, on)
	if err != nil {
		return closing, err
	}
	if blas != nil {
		e.BLAS = blas.Path
		open = append(open, blas.Close)
	}
	if err := room(f, on); err != nil {
		return closing, err
	}
	c.Infof("drawing the weights of %s", f.Shape.Name)
	m, err := transformer.New(on, f.Shape, transformer.Options{Type: kernels.Type(f.DType), Seed: f.Seed, BLAS: blas})
	if err != nil {
		return closing, err
	}
	e.Model = m
	open = append(open, m.Close)
	if file := c.String("logits"); file != "" {
		if err := writeLogits(m, f, file); err != nil {
			return closing, err
		}
	}
	// Where there is no room to measure it, no shares of the speed are told.
	if e.Speed, err = m.Speed(); errors.Is(err, cuda.ErrOutOfMemory) {
		err = nil
	}
	return closing, err
}

// openBLAS is cuBLAS as --blas has it, nil for own kernels.
func openBLAS(c *cli.Context, on *cuda.Context) (*cuda.BLAS, error) {
	switch name := c.String("blas"); name {
	case "none":
		return nil, nil
	case "auto":
		b, err := cuda.OpenBLAS(on, "")
		if err != nil {
			c.Infof("%v: prefill is slower, with own kernels", err)
		}
		return b, nil
	default:
		b, err := cuda.OpenBLAS(on, name)
		return b, cli.WithHint(err, "--blas none computes with own kernels")
	}
}

// room says why there is no room for the requests.
func room(f load.Infer, on *cuda.Context) error {
	return on.Do(func() error {
		free, total, err := on.MemInfo()
		if err != nil {
			return err
		}
		const mib = 1 << 20
		if m := f.Memory(); m.Total() > free {
			return cli.WithHint(fmt.Errorf("%s takes %d MiB of GPU memory (weights %d, keys and values %d, activations %d), and %d of %d are free",
				f.Shape.Name, m.Total()/mib, m.Weights/mib, m.KV/mib, m.Activations/mib, free/mib, total/mib),
				"nothing was loaded; ask for less with --model, --batch or --context")
		}
		return nil
	})
}

// writeLogits writes what the first kind of request comes to.
func writeLogits(m *transformer.Model, f load.Infer, name string) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := m.Prepare(f.Batches[0], f.Prompts[0], f.Gens[0]); err != nil {
		return err
	}
	return m.WriteLogits(file)
}
