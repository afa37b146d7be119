package load

import (
	"math"
	"strings"
	"testing"
	"time"
)

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
		m, err := FindModel(c.model)
		if err != nil {
			t.Fatal(err)
		}
		for s := range (Infer{Model: m, Board: boards["h200"], Batches: []int{c.batch}, Prompt: c.prompt, Gen: c.gen, Reps: 1}).Plan() {
			if got := s.Duration.Seconds(); s.Event.Phase == c.phase && math.Abs(got-c.want) > c.share*c.want {
				t.Errorf("%s: %.3f s, recorded %.3f s", c.name, got, c.want)
			}
		}
	}
}

func TestRoofline(t *testing.T) {
	t.Parallel()
	for _, m := range models {
		for name, b := range boards {
			var before time.Duration
			for _, batch := range []int{1, 2, 4, 8, 64} {
				d, l := m.pass(b, batch, 512, 256, 512)
				if d < before || max(l.Compute, l.Memory) > 1+1e-12 || l.Compute <= 0 || l.Memory <= 0 || !l.Context {
					t.Errorf("%s on %s, batch %d: %v after %v, %+v", m.Name, name, batch, d, before, l)
				}
				before = d
			}
			// A large prefill is bound by arithmetic; one token, not by it.
			if _, l := m.pass(b, 64, 512, 256, 512); l.Compute < 0.999 {
				t.Errorf("%s on %s: prefill at %+v", m.Name, name, l)
			}
			if _, l := m.pass(b, 1, 1, 512, 512); l.Compute >= l.Memory {
				t.Errorf("%s on %s: decode at %+v", m.Name, name, l)
			}
		}
	}
	// Where launching is faster than the memory, that is what a token waits for.
	if _, l := models[2].pass(boards["rtx4080-laptop"], 1, 1, 512, 512); l.Memory < 0.999 {
		t.Errorf("decode at %+v", l)
	}
}

func TestInferPlan(t *testing.T) {
	t.Parallel()
	f := Infer{Model: models[2], Board: boards["h200"], Batches: []int{1, 4}, Prompt: 100, Gen: 10, Reps: 2, Warmup: 1, Gap: time.Second}
	var ids []string
	gaps, last := 0, true
	for s := range f.Plan() {
		last = s.Event == nil
		if s.Level.VRAMMB < 15000 || !s.Level.Context {
			t.Errorf("the model is not in memory: %+v", s.Level)
		}
		if s.Event == nil {
			gaps++
			if s.Duration != f.Gap || s.Level.Compute != 0 || s.Level.Memory != 0 {
				t.Errorf("gap %+v", s)
			}
			continue
		}
		e := s.Event
		ids = append(ids, e.ID)
		tokens := e.InputTokens.Or(0) + e.OutputTokens.Or(0)
		rate := float64(tokens) / s.Duration.Seconds()
		switch {
		case e.Phase == "warmup":
			if tokens != 0 || e.TokensPerSecond.OK {
				t.Errorf("warm-up %+v counts", e)
			}
		case e.Phase == "prefill" && tokens != e.BatchSize.V*100,
			e.Phase == "decode" && tokens != e.BatchSize.V*10,
			math.Abs(e.TokensPerSecond.Or(0)-rate) > 1e-9*rate,
			e.Model != f.Model.Name, !strings.HasPrefix(e.ID, e.RequestID+"_"):
			t.Errorf("%+v in %v", e, s.Duration)
		}
	}
	want := "llama-3.1-8b_b1_w0_prefill llama-3.1-8b_b1_w0_decode llama-3.1-8b_b1_r0_prefill"
	if got := strings.Join(ids, " "); len(ids) != 12 || !strings.HasPrefix(got, want) {
		t.Errorf("%d events: %s", len(ids), got)
	}
	if gaps != 5 || last {
		t.Errorf("%d gaps between 6 requests, the last step one: %v", gaps, last)
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	if _, err := FindModel("gpt5"); err == nil || !strings.Contains(err.Error(), "gpt2-xl") {
		t.Errorf("%v", err)
	}
	if _, err := ParseKernel("int3"); err == nil || !strings.Contains(err.Error(), "bf16") {
		t.Errorf("%v", err)
	}
	for _, k := range Kernels() {
		if _, err := ParseKernel(k); err != nil {
			t.Error(err)
		}
	}
}
