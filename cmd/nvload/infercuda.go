package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/nvml"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
)

// serve makes the requests on a GPU.
func serve(c *cli.Context, f load.Infer, board record.GPU, on *cuda.Context) (err error) {
	blas, err := openBLAS(c, on)
	if err != nil {
		return err
	}
	if blas != nil {
		defer func() { err = errors.Join(err, blas.Close()) }()
	}
	if err := room(f, on); err != nil {
		return err
	}
	c.Infof("drawing the weights of %s", f.Shape.Name)
	m, err := transformer.New(on, f.Shape, transformer.Options{Type: kernels.Type(f.DType), Seed: f.Seed, BLAS: blas})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if file := c.String("logits"); file != "" {
		if err := writeLogits(m, f, file); err != nil {
			return err
		}
	}
	// Where there is no room to measure it, no shares of the speed are told.
	speed, err := m.Speed()
	if err != nil && !errors.Is(err, cuda.ErrOutOfMemory) {
		return err
	}
	engine := load.Engine{Model: m, GPUs: []int{board.Index}, Speed: speed}
	if blas != nil {
		engine.BLAS = blas.Path
	}
	h := c.NewHeader()
	h.GPUs = []record.GPU{board}
	return tell(c, h, func(emit load.Emit) error { return f.Run(c.Ctx, clock.System(), engine, emit) })
}

// onCUDA opens the one GPU that --device and --gpu name, for do.
func onCUDA(c *cli.Context, do func(record.GPU, *cuda.Context) error) (err error) {
	d, err := cuda.Open(cuda.Options{})
	if err != nil {
		return err
	}
	devices, err := d.Devices()
	if err != nil {
		return err
	}
	dev, board, err := choose(c, devices)
	if err != nil {
		return err
	}
	on, err := d.NewContext(dev.Ordinal)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, on.Close()) }()
	return do(board, on)
}

// choose is the device to load, and what NVML says of it: cuda:N is CUDA's
// number, --gpu an index or UUID as NVML has it, and the UUID joins the two.
// Where there is no NVML the GPU goes by CUDA's number.
func choose(c *cli.Context, devices []cuda.Device) (cuda.Device, record.GPU, error) {
	const hidden = "CUDA_VISIBLE_DEVICES may hide it"
	_, text, _ := strings.Cut(c.String("device"), ":")
	n, err := strconv.Atoi(cmp.Or(text, "0"))
	if err != nil || n < 0 {
		return cuda.Device{}, record.GPU{}, c.Usagef("--device %s: want cuda or cuda:N", c.String("device"))
	}
	boards, err := nvmlGPUs(list(cmp.Or(c.String("gpu"), "all")))
	if c.String("gpu") != "" {
		if err != nil {
			return cuda.Device{}, record.GPU{}, err
		}
		if len(boards) != 1 {
			return cuda.Device{}, record.GPU{}, c.Usagef("--gpu %s: want one GPU, not %d", c.String("gpu"), len(boards))
		}
		n = slices.IndexFunc(devices, func(d cuda.Device) bool { return d.UUID == boards[0].UUID })
		if n < 0 {
			return cuda.Device{}, record.GPU{}, &gpu.UnavailableError{What: fmt.Sprintf("CUDA has no GPU %s (%s)", c.String("gpu"), boards[0].UUID), Hint: hidden}
		}
	}
	if n >= len(devices) {
		return cuda.Device{}, record.GPU{}, &gpu.UnavailableError{What: fmt.Sprintf("CUDA has no GPU %d: it has %d", n, len(devices)), Hint: hidden}
	}
	dev := devices[n]
	for _, b := range boards {
		if b.UUID == dev.UUID {
			return dev, b, nil
		}
	}
	return dev, record.GPU{Index: dev.Ordinal, UUID: dev.UUID, Name: dev.Name}, nil
}

// nvmlGPUs describes the GPUs that want names, as NVML has them.
func nvmlGPUs(want []string) ([]record.GPU, error) {
	dev, err := nvml.Open(nvml.Options{})
	if err != nil {
		return nil, err
	}
	selected, err := gpu.Select(dev.GPUs(), want)
	var all []record.GPU
	for _, g := range selected {
		all = append(all, g.Info())
	}
	return all, errors.Join(err, dev.Close())
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
