package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
	"joulepipe/pkg/vram"
)

// allocators are the ways of allocating that a memory has.
var allocators = []string{"plain", "pool"}

// memory is that of a GPU, with a context.
type memory struct {
	gpu     record.GPU
	by      map[string]vram.Memory // the allocators that it has
	context record.Opt[int64]      // bytes that the context takes
	hold    func(ctx context.Context, reserved int64) error
	// engine is what computes with a model of that shape for a batch of prompts;
	// nil is nothing.
	engine func(s transformer.Shape, batch int) (vram.Engine, error)
}

// onMemory opens the memory of the GPU that --device and --gpu name, for do.
func onMemory(c *cli.Context, do func(*memory) error) error {
	switch kind, file, _ := strings.Cut(c.String("device"), ":"); kind {
	case "sim":
		return onSimMemory(c, file, do)
	case "cuda":
		return onCUDAMemory(c, do)
	}
	return c.Usagef("no device %q to load (cuda, cuda:N, sim or sim:FILE)", c.String("device"))
}

// onSimMemory is onMemory with what the simulated GPU has beside what is on it
// now.
func onSimMemory(c *cli.Context, file string, do func(*memory) error) (err error) {
	dev, err := load.OpenSim(sim.Options{File: file, Profile: c.String("sim-profile"), Seed: c.Uint64("sim-seed")}, list(cmp.Or(c.String("gpu"), "0")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	if n := len(dev.Info()); n != 1 {
		return c.Usagef("--gpu %s: want one GPU, not %d", c.String("gpu"), n)
	}
	m := &memory{gpu: dev.Info()[0]}
	before, err := simUsed(file, m.gpu.Index)
	if err != nil {
		return err
	}
	// A new context may hold up the reading for a quarter of a second.
	now := clock.Now()
	over := now + int64(300*time.Millisecond)
	if err := dev.Apply(load.Level{Context: true}, now, over); err != nil {
		return err
	}
	held, err := simUsed(file, m.gpu.Index)
	if err != nil {
		return err
	}
	clock.System().SleepUntil(over)
	m.context = record.Some(held - before)
	board := vram.NewBoard(int64(m.gpu.VRAMTotalMB.V*vram.MiB), held)
	m.by = map[string]vram.Memory{"plain": board.Plain(), "pool": board.Pool()}
	m.hold = func(ctx context.Context, reserved int64) error {
		if c.Duration("hold") == 0 {
			return nil
		}
		step := load.Step{Duration: c.Duration("hold"), Level: load.Level{VRAMMB: float64(reserved) / vram.MiB, Context: true}}
		return load.Play(ctx, clock.System(), dev, func(yield func(load.Step) bool) { yield(step) }, nil)
	}
	return do(m)
}

// simUsed is how many bytes of a simulated GPU's memory are in use now.
func simUsed(file string, index int) (int64, error) {
	dev, err := sim.Open(sim.Options{File: file})
	if err != nil {
		return 0, err
	}
	var s record.Sample
	dev.GPUs()[index].ReadSample(&s)
	used, ok := s.VRAMUsedMB.Get()
	if !ok {
		err = fmt.Errorf("reading the memory of GPU %d: %s", index, s.Error)
	}
	return int64(used * vram.MiB), errors.Join(err, dev.Close())
}
