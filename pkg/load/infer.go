package load

import (
	"fmt"
	"time"

	"joulepipe/pkg/record"
)

// Infer is a load like that of inference: requests one after another, each a
// prefill and a decode whose times and use of the GPU follow from a roofline
// model of the language model on the board.
type Infer struct {
	Model   Model
	Board   Board
	Batches []int // sequences in a request, one group of requests for each
	Prompt  int   // tokens of each sequence's prompt
	Gen     int   // tokens generated for each
	Reps    int   // requests of each batch size
	Warmup  int   // requests before these, of phase warmup
	Gap     time.Duration
}

// Plan has two events for each request: prefill, with input_tokens, and decode,
// with output_tokens, both summed over the batch. Those of a warm-up request
// are both of phase warmup and have no token counts, so that no statistics of
// the others count them in. Between requests, and nowhere else, the model rests
// in memory for the gap.
func (f Infer) Plan() Plan {
	return func(yield func(Step) bool) {
		first := true
		for _, batch := range f.Batches {
			vram := f.Model.vram(batch, f.Prompt+f.Gen)
			for i := -f.Warmup; i < f.Reps; i++ {
				if !first && f.Gap > 0 && !yield(Step{Duration: f.Gap, Level: Level{VRAMMB: vram, Context: true}}) {
					return
				}
				first = false
				for _, s := range f.request(batch, i) {
					s.Level.VRAMMB = vram
					if !yield(s) {
						return
					}
				}
			}
		}
	}
}

// request is the steps of the i-th request of a batch size; those of negative
// numbers are warm-up.
func (f *Infer) request(batch, i int) []Step {
	name := fmt.Sprintf("%s_b%d_r%d", f.Model.Name, batch, i)
	if i < 0 {
		name = fmt.Sprintf("%s_b%d_w%d", f.Model.Name, batch, i+f.Warmup)
	}
	step := func(phase string, d time.Duration, l Level) Step {
		return Step{d, l, &record.Event{
			ID: name + "_" + phase, Phase: phase, RequestID: name,
			Model: f.Model.Name, BatchSize: record.Some(int64(batch)),
		}}
	}
	prompt, gen := float64(f.Prompt), float64(f.Gen)
	d, l := f.Model.pass(f.Board, batch, f.Prompt, prompt/2, prompt)
	prefill := step("prefill", d, l)
	// All decode steps as one at the mean of their contexts.
	d, l = f.Model.pass(f.Board, batch, 1, prompt+gen/2, prompt+gen/2)
	decode := step("decode", time.Duration(f.Gen)*d, l)
	if i < 0 {
		prefill.Event.Phase, decode.Event.Phase = "warmup", "warmup"
	} else {
		prefill.Event.InputTokens = record.Some(int64(batch * f.Prompt))
		decode.Event.OutputTokens = record.Some(int64(batch * f.Gen))
		prefill.Event.TokensPerSecond = record.Some(float64(batch*f.Prompt) / prefill.Duration.Seconds())
		decode.Event.TokensPerSecond = record.Some(float64(batch*f.Gen) / decode.Duration.Seconds())
	}
	return []Step{prefill, decode}
}
