package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/load"
	"joulepipe/pkg/transformer"

	ucli "github.com/urfave/cli/v2"
)

func inferCommand() *ucli.Command {
	return &ucli.Command{
		Name: "infer", Usage: "requests to a language model",
		Description: `Requests one after another, each a prefill and a decode event with request_id,
model, batch_size, context (tokens of each prompt), input_tokens or output_tokens
(of the whole batch), tokens_per_second and dtype. There is a kind of request
for each batch size, context and number of tokens. Warm-up requests of each
kind come first; both of their events are of phase warmup and have no token
counts. The others come in random order with random gaps, drawn from --seed, so
that no phase keeps step with a sensor. With --min-event a short prefill or
decode is repeated within its event, passes times.

--model takes a name or a model's config.json as Hugging Face's transformers write
it (gpt2, llama, mistral, qwen2). Weights are random, drawn from --seed: what a
request costs does not depend on them.

--preset joule-curve and --preset stress are the two matrices of TR122: GPT-2 at
batches 1 to 16, and Llama-3.1-8B at contexts up to 16384, each event long enough
for five power samples of 100 ms. Flags beside a preset win.

On a GPU the model is really computed: a prefill with cuBLAS where there is one
and with own kernels else, a decode as a graph that the GPU goes through for each token
by itself. Events end when the GPU has nothing more to do, and tell in
matmul_share and copy_share how fast that was, beside large products of
matrices and copies of its memory as measured just before.

On the simulated device a pass through the model takes the longest of three
times: arithmetic at 52 % of the board's peak, memory traffic (the weights, and
the keys and values cached so far) at 75 % of its bandwidth, and 0.4 ms to launch each layer.`,
		Flags: slices.Concat(deviceFlags(), []ucli.Flag{
			&ucli.StringFlag{Name: "preset", Usage: "take the flags of a `MATRIX`: " + strings.Join(slices.Sorted(maps.Keys(presets)), ", ")},
			&ucli.StringFlag{Name: "model", Value: "llama-3.1-8b", Usage: "compute `MODEL`: " + strings.Join(transformer.Names(), ", ") + ", or a config.json"},
			&ucli.StringFlag{Name: "dtype", Value: "bf16", Usage: "compute in `TYPE`: bf16 or f16"},
			&ucli.StringFlag{Name: "batch", Value: "1,2,4", Usage: "make requests of each size in `LIST`"},
			&ucli.StringFlag{Name: "context", Value: "1024", Usage: "prompts of each number of tokens in `LIST`, fewer where prompt and answer exceed the model's window"},
			&ucli.StringFlag{Name: "gen-tokens", Value: "64", Usage: "generate each number of tokens in `LIST` for each prompt"},
			&ucli.IntFlag{Name: "reps", Value: 3, Usage: "make `N` requests of each kind"},
			&ucli.GenericFlag{Name: "warmup", Value: newCount(1), Usage: "make `N` warm-up requests of each kind before them (true is 1, false 0)"},
			&ucli.DurationFlag{Name: "gap", Value: time.Second, Usage: "rest for half to one and a half of `TIME` between requests"},
			&ucli.DurationFlag{Name: "min-event", Usage: "repeat what is shorter than `TIME` within its event"},
			&ucli.StringFlag{Name: "blas", Value: "auto", Usage: "multiply large matrices with cuBLAS, at `PATH`, where it is found (auto), or with own kernels (none)"},
			&ucli.StringFlag{Name: "logits", Usage: "first write tokens and logits of a request to `FILE`, in the safetensors format"},
			&ucli.DurationFlag{Name: "stall", Value: time.Minute, Usage: "give a GPU up that takes longer than `TIME` for a prefill, 32 tokens of a decode, or the weights"},
			&ucli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw weights, prompts, order and gaps from seed `N`"},
		}, careFlags(), tellFlags(), streamFlags()),
		Action: cli.Action(alone(infer)),
	}
}

// presets are the flags that --preset stands for.
var presets = map[string]map[string]string{
	"joule-curve": {"model": "gpt2", "batch": "1,2,4,8,16", "context": "8", "gen-tokens": "64", "reps": "3", "warmup": "1"},
	"stress":      {"model": "llama-3.1-8b", "batch": "1,2,4", "context": "1024,4096,16384", "gen-tokens": "256,512", "reps": "3", "warmup": "1", "min-event": "600ms"},
}

func infer(c *cli.Context) error {
	f, err := inference(c)
	if err != nil {
		return err
	}
	if c.Duration("stall") <= 0 {
		return c.Usagef("--stall %v: want more than 0", c.Duration("stall"))
	}
	defer watchParent(c)()
	if kind, _, _ := strings.Cut(c.String("device"), ":"); kind == "cuda" {
		return onCUDA(c, func(b *board, on *cuda.Context) error { return serve(c, f, b, on) })
	}
	if c.IsSet("logits") {
		return c.Usagef("--logits: a simulated GPU computes none")
	}
	return onDevice(c, func(b load.Board) load.Plan { return f.Plan(b) })
}

// inference is the load that the flags describe.
func inference(c *cli.Context) (f load.Infer, err error) {
	if name := c.String("preset"); name != "" {
		if presets[name] == nil {
			return f, c.Usagef("no preset %q (%s)", name, strings.Join(slices.Sorted(maps.Keys(presets)), ", "))
		}
		for flag, value := range presets[name] {
			if !c.IsSet(flag) {
				if err := c.Set(flag, value); err != nil {
					return f, err
				}
			}
		}
	}
	f = load.Infer{
		DType: c.String("dtype"), Reps: c.Int("reps"), Warmup: int(*c.Generic("warmup").(*count)),
		Gap: c.Duration("gap"), Least: c.Duration("min-event"), Seed: c.Uint64("seed"),
	}
	switch {
	case f.DType != "bf16" && f.DType != "f16":
		return f, c.Usagef("no dtype %q (bf16, f16)", f.DType)
	case f.Reps < 1:
		return f, c.Usagef("--reps %d: want 1 or more", f.Reps)
	case f.Warmup < 0:
		return f, c.Usagef("--warmup %d is negative", f.Warmup)
	case f.Gap < 0:
		return f, c.Usagef("--gap %v is negative", f.Gap)
	case f.Least < 0:
		return f, c.Usagef("--min-event %v is negative", f.Least)
	}
	for flag, to := range map[string]*[]int{"batch": &f.Batches, "context": &f.Prompts, "gen-tokens": &f.Gens} {
		if *to, err = numbers(c, flag); err != nil {
			return f, err
		}
	}
	if f.Shape, err = shape(c); err != nil {
		return f, err
	}
	return f, window(c, &f)
}

// numbers is a flag's list of numbers, each once.
func numbers(c *cli.Context, flag string) ([]int, error) {
	var all []int
	for _, text := range list(c.String(flag)) {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1<<30 {
			return nil, c.Usagef("--%s %s: want numbers from 1, separated by commas", flag, c.String(flag))
		}
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return nil, c.Usagef("--%s is empty", flag)
	}
	return all, nil
}

// shape is the model that --model names.
func shape(c *cli.Context) (transformer.Shape, error) {
	name := c.String("model")
	s, unknown := transformer.Find(name)
	if unknown == nil {
		return s, nil
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, c.Usagef("--model: %v, and no such file", unknown)
	}
	if err != nil {
		return s, err
	}
	defer file.Close()
	return transformer.Read(file, name)
}

// window makes prompts fit into the model's window with the answer.
func window(c *cli.Context, f *load.Infer) error {
	most, room := slices.Max(f.Prompts), f.Shape.Window-slices.Max(f.Gens)
	if most <= room {
		return nil
	}
	if c.IsSet("context") && most > f.Shape.Window || room < 1 {
		return c.Usagef("%s has a window of %d tokens, too few for --context %d and --gen-tokens %d", f.Shape.Name, f.Shape.Window, most, slices.Max(f.Gens))
	}
	if c.IsSet("context") {
		c.Warnf("prompts are of %d tokens: the window of %s is %d, and %d are generated", room, f.Shape.Name, f.Shape.Window, slices.Max(f.Gens))
	}
	var fit []int
	for _, n := range f.Prompts {
		if n = min(n, room); !slices.Contains(fit, n) {
			fit = append(fit, n)
		}
	}
	f.Prompts = fit
	return nil
}
