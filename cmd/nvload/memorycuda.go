package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/gpu/nvml"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
	"joulepipe/pkg/vram"
)

// onCUDAMemory is onMemory of a real GPU.
func onCUDAMemory(c *cli.Context, do func(*memory) error) error {
	before := inUse()
	return onCUDA(c, func(b *board, on *cuda.Context) error {
		return on.Do(func() error {
			m := &memory{gpu: b.GPU, by: map[string]vram.Memory{}}
			if with, ok := inUse()[b.UUID]; ok {
				m.context = record.Some(with - before[b.UUID])
			}
			m.hold = func(ctx context.Context, _ int64) error {
				_ = clock.Sleep(ctx, clock.System(), clock.Now()+int64(c.Duration("hold"))) // its end is no failure
				return nil
			}
			free, _, err := on.MemInfo()
			if err != nil {
				return err
			}
			m.by["plain"] = &plainMemory{on, free}
			stream, err := on.NewStream()
			if err != nil {
				return err
			}
			defer func() { _ = on.DestroyStream(stream) }() // with the context it goes anyway
			// A pool that keeps nothing has no holes to keep. A driver without
			// pools says so when one is asked for.
			if err := on.KeepPool(math.MaxInt64); err == nil {
				m.by["pool"] = &poolMemory{on, stream}
			} else {
				c.Infof("no pool: %v", err)
			}
			var blas *cuda.BLAS
			defer func() {
				if blas != nil {
					_ = blas.Close()
				}
			}()
			m.engine = func(s transformer.Shape, batch int) (vram.Engine, error) {
				var err error
				if blas, err = openBLAS(c, on); err != nil {
					return nil, err
				}
				return &engine{on: on, shape: s, batch: batch, options: transformer.Options{Type: kernels.Type(c.String("dtype")), Seed: 1, BLAS: blas}}, nil
			}
			return do(m)
		})
	})
}

// inUse is how many bytes of each GPU are in use, by its UUID, as NVML sees it:
// CUDA's account begins with a context. It is empty where there is no NVML.
func inUse() map[string]int64 {
	used := map[string]int64{}
	dev, err := nvml.Open(nvml.Options{})
	if err != nil {
		return used
	}
	for _, g := range dev.GPUs() {
		var s record.Sample
		if g.ReadSample(&s); s.VRAMUsedMB.OK {
			used[g.Info().UUID] = int64(s.VRAMUsedMB.V * vram.MiB)
		}
	}
	_ = dev.Close() // nothing was changed
	return used
}

// exhausted makes an error of CUDA that there is no more memory vram's.
func exhausted(err error) error {
	if errors.Is(err, cuda.ErrOutOfMemory) {
		return fmt.Errorf("%w: %w", vram.ErrExhausted, err)
	}
	return err
}

// plainMemory is memory by cuMemAlloc. What it has from the device is what the
// device has had less of since, so that other processes' come and go shows.
type plainMemory struct {
	*cuda.Context
	before int64 // bytes that were free
}

func (m *plainMemory) Alloc(bytes int64) (vram.Block, error) {
	p, err := m.Context.Alloc(bytes)
	return vram.Block(p), exhausted(err)
}

func (m *plainMemory) Free(b vram.Block) error { return m.Context.Free(cuda.Ptr(b)) }

func (m *plainMemory) Trim() error { return nil }

func (m *plainMemory) State() (vram.State, error) {
	free, total, err := m.MemInfo()
	return vram.State{Reserved: m.before - free, Free: free, Total: total}, err
}

// poolMemory is memory by cuMemAllocAsync, out of the device's pool.
type poolMemory struct {
	*cuda.Context
	stream cuda.Stream
}

func (m *poolMemory) Alloc(bytes int64) (vram.Block, error) {
	p, err := m.AllocAsync(bytes, m.stream)
	return vram.Block(p), exhausted(err)
}

func (m *poolMemory) Free(b vram.Block) error { return m.FreeAsync(cuda.Ptr(b), m.stream) }

func (m *poolMemory) Trim() error {
	return errors.Join(m.Synchronize(m.stream), m.TrimPool(0))
}

func (m *poolMemory) State() (vram.State, error) {
	reserved, _, err := m.PoolUsage()
	if err != nil {
		return vram.State{}, err
	}
	free, total, err := m.MemInfo()
	return vram.State{Reserved: reserved, Free: free, Total: total}, err
}

// engine is a model on a GPU with prompts of some length. Its weights stay from
// one length to the next.
type engine struct {
	on      *cuda.Context
	shape   transformer.Shape
	batch   int
	options transformer.Options
	model   *transformer.Model
}

func (e *engine) Open(context int) (err error) {
	if e.model == nil {
		if e.model, err = transformer.New(e.on, e.shape, e.options); err != nil {
			return exhausted(err)
		}
	}
	if err := e.model.Prepare(e.batch, context, 0); err != nil {
		// Whatever ran out of memory, the model may not have all of its kernels.
		return errors.Join(exhausted(err), e.Close())
	}
	return nil
}

func (e *engine) Prefill() error { return exhausted(e.model.Prefill(context.Background())) }

func (e *engine) Release() error {
	if e.model == nil {
		return nil
	}
	return e.model.Release()
}

func (e *engine) Close() error {
	if e.model == nil {
		return nil
	}
	err := e.model.Close()
	e.model = nil
	return err
}
