package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
	"joulepipe/pkg/vram"

	ucli "github.com/urfave/cli/v2"
)

// tortureCommand is nvload vram torture.
func tortureCommand() *ucli.Command {
	return &ucli.Command{
		Name: "vram torture", Usage: "what allocators make of fragmented memory",
		Description: `Two patterns of allocations, on plain memory (cuMemAlloc) and on the driver's pool
(cuMemAllocAsync), each an event of phase vram_torture. holes is TR122's: 100
blocks of 4 MiB, every other one freed, 8 MiB asked for; then the block between
two holes is freed as well and 8 MiB asked for again. churn is long use near the edge:
--fill of the free memory in blocks of 2 to 64 MiB, drawn from --seed, one freed and
another taken --cycles times.

Fragmentation is (reserved - used) / reserved. The largest block that can be had
is found by bisection, and nothing that is taken leaves others less than --reserve.`,
		Flags: slices.Concat(deviceFlags(), []ucli.Flag{
			&ucli.StringFlag{Name: "allocator", Value: strings.Join(allocators, ","), Usage: "try the allocators in `LIST`: " + strings.Join(allocators, ", ")},
			&ucli.StringFlag{Name: "pattern", Value: "holes,churn", Usage: "make the patterns in `LIST`: holes, churn"},
			&ucli.Float64Flag{Name: "fill", Value: 0.9, Usage: "churn within this `SHARE` of the free memory"},
			&ucli.IntFlag{Name: "cycles", Value: 4000, Usage: "free a block and take another `N` times"},
			&ucli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw sizes and blocks from seed `N`"},
		}, memoryFlags(), tellFlags(), streamFlags()),
		Action: cli.Action(alone(torture)),
	}
}

// cliffCommand is nvload vram cliff.
func cliffCommand() *ucli.Command {
	return &ucli.Command{
		Name: "vram cliff", Usage: "the longest context that a model has room for",
		Description: `Says from the model's shape how long a context there is room for, then looks for
it by bisection: each context that is tried, with real allocations, is an event
of phase vram_cliff; in the longest a real prefill runs (none on the simulated
device). The result tells whether the model's window or the memory is the limit,
how far the prediction was off, what the memory at the peak is made of, and
whether all is well after more memory was asked for than there is.

Nothing that is held leaves others less than --reserve; a larger one makes
the memory as small as that of another board.

  nvload vram cliff --device sim --model llama-3.1-8b --batch 8 --result vram.json`,
		Flags: slices.Concat(deviceFlags(), []ucli.Flag{
			&ucli.StringFlag{Name: "model", Value: "llama-3.1-8b", Usage: "hold `MODEL`: " + strings.Join(transformer.Names(), ", ") + ", or a config.json"},
			&ucli.IntFlag{Name: "batch", Value: 1, Usage: "prompts of `N` sequences at once"},
			&ucli.StringFlag{Name: "dtype", Value: "bf16", Usage: "compute in `TYPE`: bf16 or f16"},
			&ucli.StringFlag{Name: "blas", Value: "auto", Usage: "multiply large matrices with cuBLAS, at `PATH`, where it is found (auto), or with own kernels (none)"},
			&ucli.BoolFlag{Name: "no-prefill", Usage: "take the memory alone, and compute nothing in it"},
			&ucli.IntFlag{Name: "max-context", Usage: "look no further than `N` tokens (default: the model's window)"},
		}, memoryFlags(), tellFlags(), streamFlags()),
		Action: cli.Action(alone(cliff)),
	}
}

// memoryFlags are those of both.
func memoryFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.IntFlag{Name: "reserve", Value: 512, Usage: "leave `MIB` free for others"},
		&ucli.DurationFlag{Name: "hold", Value: 500 * time.Millisecond, Usage: "keep each state worth seeing for `TIME`, so that a poller sees it"},
		&ucli.StringFlag{Name: "result", Usage: "write the result to `FILE`, vram.json of a run directory; what it has of other trials stays"},
	}
}

func torture(c *cli.Context) error {
	patterns := map[string]vram.Pattern{
		"holes": vram.Holes{},
		"churn": vram.Churn{Share: c.Float64("fill"), Least: 2 * vram.MiB, Most: 64 * vram.MiB, Cycles: c.Int("cycles"), Seed: c.Uint64("seed")},
	}
	switch {
	case !(c.Float64("fill") > 0 && c.Float64("fill") <= 1):
		return c.Usagef("--fill %v: want more than 0, at most 1", c.Float64("fill"))
	case c.Int("cycles") < 1:
		return c.Usagef("--cycles %d: want 1 or more", c.Int("cycles"))
	}
	for flag, known := range map[string][]string{"allocator": allocators, "pattern": {"holes", "churn"}} {
		names := list(c.String(flag))
		if len(names) == 0 {
			return c.Usagef("--%s is empty", flag)
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				return c.Usagef("no %s %q (%s)", flag, name, strings.Join(known, ", "))
			}
		}
	}
	return trials(c, func(m *memory, emit vram.Emit) (found vram.GPU, err error) {
		t := vram.Torture{Clock: clock.System(), Emit: emit, GPU: m.gpu.Index, Reserve: reserve(c), Hold: m.hold}
		for _, allocator := range list(c.String("allocator")) {
			for _, pattern := range list(c.String("pattern")) {
				if c.Ctx.Err() != nil {
					return found, nil
				}
				if m.by[allocator] == nil {
					c.Doubtf("GPU %d has no %s memory to try", m.gpu.Index, allocator)
					break
				}
				trial, err := t.Try(c.Ctx, allocator, m.by[allocator], patterns[pattern])
				if err != nil {
					return found, fmt.Errorf("%s on %s memory: %w", pattern, allocator, err)
				}
				found.Torture = append(found.Torture, *trial)
			}
		}
		return found, nil
	})
}

func cliff(c *cli.Context) error {
	s, err := shape(c)
	if err != nil {
		return err
	}
	batch, window := c.Int("batch"), s.Window
	switch most := c.Int("max-context"); {
	case batch < 1:
		return c.Usagef("--batch %d: want 1 or more", batch)
	case most < 0:
		return c.Usagef("--max-context %d: want 1 or more", most)
	case c.String("dtype") != "bf16" && c.String("dtype") != "f16":
		return c.Usagef("no dtype %q (bf16, f16)", c.String("dtype"))
	}
	return trials(c, func(m *memory, emit vram.Emit) (found vram.GPU, err error) {
		buffers := func(context int) []vram.Buffer {
			need := s.Memory(batch, context, 0)
			return []vram.Buffer{{Part: vram.Weights, Bytes: need.Weights}, {Part: vram.KV, Bytes: need.KV}, {Part: vram.Activations, Bytes: need.Activations}}
		}
		var engine vram.Engine = &vram.Held{Memory: m.by["plain"], Buffers: buffers}
		if m.engine != nil && !c.Bool("no-prefill") {
			if engine, err = m.engine(s, batch); err != nil {
				return found, err
			}
		}
		search := vram.Cliff{
			Clock: clock.System(), Emit: emit, GPU: m.gpu.Index, Reserve: reserve(c), Hold: m.hold,
			Memory: m.by["plain"], Buffers: buffers, Engine: engine,
			Model: s.Name, Batch: batch, Window: window, Most: c.Int("max-context"), Context: m.context,
		}
		fall, err := search.Run(c.Ctx)
		switch {
		case errors.Is(err, context.Canceled):
			c.Warnf("ended before the search was: there is no result")
			return found, nil
		case err != nil:
			return found, err
		case fall.Limit != vram.Nothing && !(fall.Recovery.OutOfMemory && fall.Recovery.Works):
			c.Doubtf("after memory ran out: %s", fall.Recovery.Reason)
		}
		found.Cliff = []vram.Fall{*fall}
		return found, nil
	})
}

func reserve(c *cli.Context) int64 { return int64(c.Int("reserve")) * vram.MiB }

// trials tries a GPU's memory, and writes the events into the stream and what
// was found into --result.
func trials(c *cli.Context, try func(*memory, vram.Emit) (vram.GPU, error)) error {
	if c.Int("reserve") < 0 {
		return c.Usagef("--reserve %d is negative", c.Int("reserve"))
	}
	if c.Duration("hold") < 0 {
		return c.Usagef("--hold %v is negative", c.Duration("hold"))
	}
	if err := c.Writable(c.String("result")); err != nil {
		return err
	}
	results, err := earlier(c)
	if err != nil {
		return err
	}
	return onMemory(c, func(m *memory) error {
		h := c.NewHeader()
		h.GPUs = []record.GPU{m.gpu}
		var found vram.GPU
		err := tell(c, h, func(emit load.Emit) (err error) {
			found, err = try(m, vram.Emit(emit))
			return err
		})
		if errors.Is(err, vram.ErrExhausted) {
			err = cli.WithHint(err, "others use the memory, or --reserve leaves too little")
		}
		if c.String("result") == "" || len(found.Torture)+len(found.Cliff) == 0 {
			return err
		}
		found.GPU, found.UUID, found.Name, found.Driver = m.gpu.Index, m.gpu.UUID, m.gpu.Name, m.gpu.Driver
		results.Merge(found)
		return errors.Join(err, c.WriteJSONFile(c.String("result"), results))
	})
}

// earlier is what the file of --result has already.
func earlier(c *cli.Context) (*vram.Results, error) {
	f, err := os.Open(c.String("result"))
	if errors.Is(err, fs.ErrNotExist) { // also where none is named
		return &vram.Results{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	results, err := vram.Load(f)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", f.Name(), err), "remove it, or name another file")
	}
	return results, nil
}
