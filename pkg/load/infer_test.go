package load

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/transformer"
)

func shape(t *testing.T, name string) transformer.Shape {
	s, err := transformer.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The model's times against those of a recorded H200 (PyTorch, random weights).
func TestAgreesWithRecording(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		model       string
		batch       int
		prompt, gen int
		phase       string
		want, share float64 // seconds, and how far off at most
	}{
		{"long prefill, batch 4", "llama-3.1-8b", 4, 16384, 1, "prefill", 2.334, 0.05},
		{"long prefill, batch 1", "llama-3.1-8b", 1, 16384, 1, "prefill", 0.584, 0.05},
		{"short decode", "gpt2", 1, 8, 64, "decode", 0.30, 0.1},
		{"short decode, batch 16", "gpt2", 16, 8, 64, "decode", 0.33, 0.2},
	} {
		f := Infer{Shape: shape(t, c.model), Batches: []int{c.batch}, Prompts: []int{c.prompt}, Gens: []int{c.gen}, Reps: 1}
		for s := range f.Plan(boards["h200"]) {
			if got := s.Duration.Seconds(); s.Event.Phase == c.phase && math.Abs(got-c.want) > c.share*c.want {
				t.Errorf("%s: %.3f s, recorded %.3f s", c.name, got, c.want)
			}
		}
	}
}

func TestRoofline(t *testing.T) {
	t.Parallel()
	for _, model := range transformer.Names() {
		m := shape(t, model)
		for name, b := range boards {
			var before time.Duration
			for _, batch := range []int{1, 2, 4, 8, 64} {
				d, l := b.run(m.PrefillWork(batch, 512), m.Layers)
				if d < before || max(l.Compute, l.Memory) > 1+1e-12 || l.Compute <= 0 || l.Memory <= 0 || !l.Context {
					t.Errorf("%s on %s, batch %d: %v after %v, %+v", m.Name, name, batch, d, before, l)
				}
				before = d
			}
			// A large prefill is bound by arithmetic; one token, not by it.
			if _, l := b.run(m.PrefillWork(64, 512), m.Layers); l.Compute < 0.999 {
				t.Errorf("%s on %s: prefill at %+v", m.Name, name, l)
			}
			if _, l := b.run(m.DecodeWork(1, 512, 1), m.Layers); l.Compute >= l.Memory {
				t.Errorf("%s on %s: decode at %+v", m.Name, name, l)
			}
		}
	}
	// Where launching is faster than the memory, that is what a token waits for.
	m := shape(t, "llama-3.1-8b")
	if _, l := boards["rtx4080-laptop"].run(m.DecodeWork(1, 512, 1), m.Layers); l.Memory < 0.999 {
		t.Errorf("decode at %+v", l)
	}
}

func TestInferPlan(t *testing.T) {
	t.Parallel()
	f := Infer{
		Shape: shape(t, "llama-3.1-8b"), DType: "f16", Batches: []int{1, 4}, Prompts: []int{100, 300}, Gens: []int{10},
		Reps: 2, Warmup: 1, Gap: time.Second, Least: 40 * time.Millisecond,
	}
	var ids []string
	gaps, last := 0, true
	for s := range f.Plan(boards["h200"]) {
		last = s.Event == nil
		if s.Level.VRAMMB < 15000 || !s.Level.Context {
			t.Errorf("the model is not in memory: %+v", s.Level)
		}
		if s.Event == nil {
			gaps++
			if s.Duration < f.Gap/2 || s.Duration > f.Gap*3/2 || s.Level.Compute != 0 || s.Level.Memory != 0 {
				t.Errorf("gap %+v", s)
			}
			continue
		}
		e := s.Event
		ids = append(ids, e.ID)
		prompt, _ := strconv.ParseInt(field(e, "context"), 10, 64)
		passes := int64(1)
		if text := field(e, "passes"); text != "" {
			passes, _ = strconv.ParseInt(text, 10, 64)
		}
		tokens := e.InputTokens.Or(0) + e.OutputTokens.Or(0)
		rate := float64(tokens) / s.Duration.Seconds()
		switch {
		case field(e, "dtype") != `"f16"`, !strings.Contains(e.ID, fmt.Sprintf("_c%d_", prompt)):
			t.Errorf("%+v", e)
		case e.Phase == "warmup":
			if tokens != 0 || e.TokensPerSecond.OK {
				t.Errorf("warm-up %+v counts", e)
			}
		case s.Duration < f.Least,
			e.Phase == "prefill" && (passes < 2 || tokens != passes*e.BatchSize.V*prompt),
			e.Phase == "decode" && tokens != passes*e.BatchSize.V*10,
			math.Abs(e.TokensPerSecond.Or(0)-rate) > 1e-9*rate,
			e.Model != f.Shape.Name, !strings.HasPrefix(e.ID, e.RequestID+"_"):
			t.Errorf("%+v in %v", e, s.Duration)
		}
	}
	if gaps != 11 || last {
		t.Errorf("%d gaps between 12 requests, the last step one: %v", gaps, last)
	}
	want := "llama-3.1-8b_b1_c100_w0_prefill llama-3.1-8b_b1_c100_w0_decode llama-3.1-8b_b1_c300_w0_prefill"
	if got := strings.Join(ids, " "); len(ids) != 24 || !strings.HasPrefix(got, want) {
		t.Errorf("%d events: %s", len(ids), got)
	}
	unique := slices.Clone(ids)
	slices.Sort(unique)
	if len(slices.Compact(unique)) != len(ids) {
		t.Errorf("an event twice: %s", ids)
	}
}

// Kinds of requests come in random order, which the seed decides.
func TestInferOrder(t *testing.T) {
	t.Parallel()
	order := func(seed uint64) string {
		f := Infer{Shape: shape(t, "gpt2"), Batches: []int{1, 2, 4}, Prompts: []int{8}, Gens: []int{8}, Reps: 5, Warmup: 1, Gap: time.Second, Seed: seed}
		var b strings.Builder
		for _, r := range f.requests() {
			fmt.Fprintf(&b, "%s after %v\n", r.name, r.gap)
		}
		return b.String()
	}
	if one, again := order(1), order(1); one != again || one == order(2) {
		t.Error("the seed does not decide")
	}
	lines := strings.Split(strings.TrimSpace(order(1)), "\n")
	if len(lines) != 18 || lines[0] != "gpt2_b1_w0 after 0s" || slices.IsSorted(lines[3:]) {
		t.Errorf("%q", lines)
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	if _, err := ParseKernel("int3"); err == nil || !strings.Contains(err.Error(), "bf16") {
		t.Errorf("%v", err)
	}
	for _, k := range Kernels() {
		if _, err := ParseKernel(k); err != nil {
			t.Error(err)
		}
	}
}
