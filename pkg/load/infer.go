package load

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
)

// Infer is the load of a language model: requests one after another, each a
// prefill of prompts and a decode of answers. There is a kind of request for
// each batch size, prompt and answer.
type Infer struct {
	Shape   transformer.Shape
	DType   string // of the numbers: bf16 or f16; both take as long on a simulated board
	Batches []int  // sequences in a request
	Prompts []int  // tokens of each sequence's prompt
	Gens    []int  // tokens generated for each
	Reps    int    // requests of each kind
	Warmup  int    // requests of each kind before all others, of phase warmup
	Gap     time.Duration
	Seed    uint64 // of the order and the gaps

	// Least is how long an event is to be at least. A shorter prefill, or
	// decode, is repeated within its event, so many times as the shortest of
	// its kind before would have needed. 0 is never.
	Least time.Duration
}

// Memory is what the request that takes most of it takes.
func (f Infer) Memory() transformer.Memory {
	var most transformer.Memory
	for _, k := range f.kinds() {
		if m := f.Shape.Memory(k.batch, k.prompt, k.gen); m.Total() > most.Total() {
			most = m
		}
	}
	return most
}

// request is one of a plan.
type request struct {
	kind
	name   string
	warmup bool
	gap    time.Duration // before it
}

// kind is what requests are alike in.
type kind struct{ batch, prompt, gen int }

// kinds are those of the lists, in their order.
func (f *Infer) kinds() []kind {
	var all []kind
	for _, batch := range f.Batches {
		for _, prompt := range f.Prompts {
			for _, gen := range f.Gens {
				all = append(all, kind{batch, prompt, gen})
			}
		}
	}
	return all
}

// name is what a kind is called: no more than tells it from the others.
func (f *Infer) name(k kind) string {
	name := fmt.Sprintf("%s_b%d", f.Shape.Name, k.batch)
	if len(f.Prompts) > 1 {
		name += fmt.Sprintf("_c%d", k.prompt)
	}
	if len(f.Gens) > 1 {
		name += fmt.Sprintf("_g%d", k.gen)
	}
	return name
}

// requests are all of them in their order: warm-up in that of the lists, then
// the others at random. The gaps are random, too, from half of Gap to one and a
// half, with Gap as their mean, so that no phase keeps step with a sensor.
func (f *Infer) requests() []request {
	var warmup, counted []request
	for _, k := range f.kinds() {
		for i := range f.Warmup {
			warmup = append(warmup, request{kind: k, name: fmt.Sprintf("%s_w%d", f.name(k), i), warmup: true})
		}
		for i := range f.Reps {
			counted = append(counted, request{kind: k, name: fmt.Sprintf("%s_r%d", f.name(k), i)})
		}
	}
	rng := rand.New(rand.NewPCG(f.Seed, 2))
	rng.Shuffle(len(counted), func(i, k int) { counted[i], counted[k] = counted[k], counted[i] })
	all := slices.Concat(warmup, counted)
	for i := range all[min(1, len(all)):] {
		all[i+1].gap = time.Duration((0.5 + rng.Float64()) * float64(f.Gap))
	}
	return all
}

// passes is how often something that lasts so long is repeated within an event.
func (f *Infer) passes(d time.Duration) int {
	if d <= 0 {
		return 1
	}
	return max(1, int((f.Least+d-1)/d))
}

// phases are the two parts of a request, in their order.
var phases = []string{"prefill", "decode"}

// event is what is told of a part of a request, but for its times.
func (f *Infer) event(r request, phase string, passes int) *record.Event {
	e := &record.Event{
		ID: r.name + "_" + phase, Phase: phase, RequestID: r.name,
		Model: f.Shape.Name, BatchSize: record.Some(int64(r.batch)),
		Extra: []record.Field{extra("context", r.prompt), extra("dtype", f.DType)},
	}
	if passes > 1 {
		e.Extra = append(e.Extra, extra("passes", passes))
	}
	if r.warmup {
		e.Phase = "warmup"
	}
	return e
}

// count fills in how many tokens an event is of, and their rate. A warm-up has
// none, so that no statistics of the others count it in.
func (r request) count(e *record.Event, phase string, passes int, d time.Duration) {
	if r.warmup {
		return
	}
	tokens := int64(passes) * int64(r.batch)
	if phase == "prefill" {
		tokens *= int64(r.prompt)
		e.InputTokens = record.Some(tokens)
	} else {
		tokens *= int64(r.gen)
		e.OutputTokens = record.Some(tokens)
	}
	e.TokensPerSecond = record.Some(float64(tokens) / d.Seconds())
}

// work is what a part of a request has to do in so many passes.
func (f *Infer) work(r request, phase string) transformer.Work {
	if phase == "prefill" {
		return f.Shape.PrefillWork(r.batch, r.prompt)
	}
	return f.Shape.DecodeWork(r.batch, r.prompt, r.gen)
}

// Plan is the load on a simulated board, where times and use follow from a
// roofline model. Each request has two events: prefill, with input_tokens, and
// decode, with output_tokens, both summed over the batch. Those of a warm-up
// request are both of phase warmup and have no token counts. Between requests,
// and nowhere else, the model rests in memory for the gap.
func (f Infer) Plan(b Board) Plan {
	return func(yield func(Step) bool) {
		for _, r := range f.requests() {
			vram := float64(f.Shape.Memory(r.batch, r.prompt, r.gen).Total()) / (1 << 20)
			if r.gap > 0 && !yield(Step{Duration: r.gap, Level: Level{VRAMMB: vram, Context: true}}) {
				return
			}
			for _, phase := range phases {
				layers := f.Shape.Layers
				if phase == "decode" {
					layers *= r.gen
				}
				d, l := b.run(f.work(r, phase), layers)
				n := 1
				if !r.warmup {
					n = f.passes(d)
				}
				d *= time.Duration(n)
				l.VRAMMB = vram
				e := f.event(r, phase, n)
				r.count(e, phase, n, d)
				if !yield(Step{d, l, e}) {
					return
				}
			}
		}
	}
}
