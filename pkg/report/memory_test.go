package report

import (
	"encoding/json"
	"strings"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/report/reporttest"
	"joulepipe/pkg/vram"
)

// memoryPart is the report's part on memory, of a run with that vram.json.
func memoryPart(t *testing.T, file string) (part string, r *Run) {
	t.Helper()
	f := reporttest.New()
	f.Files["vram.json"] = file
	for _, s := range f.Samples {
		s.VRAMUsedMB = record.Some(81234.0)
	}
	r = mustRead(t, directory(t, f))
	_, part, _ = strings.Cut(markdown(t, r), "## Memory\n")
	part, _, _ = strings.Cut(part, "\n## ")
	return part, r
}

func TestMemory(t *testing.T) {
	t.Parallel()
	fall := vram.Fall{
		Model: "toy|", Batch: 2, Window: 4096, FreeMB: 140000, TotalMB: 143000, Limit: vram.Capacity, MaxContext: 3000,
		Predicted: vram.Prediction{Unbounded: 3030}, ErrorPct: record.Some(1.0),
		Peak: vram.Composition{WeightsMB: 71500, KVMB: 50000, ActivationsMB: 12000, OverheadMB: 10, BeforeMB: record.Some(1144.0),
			ContextMB: record.Some(529.0), FreeMB: record.Some(512.0)},
		Recovery: vram.Recovery{OutOfMemory: true, Works: true},
	}
	results := func(change func(*vram.Fall)) string {
		c := fall
		change(&c)
		trial := vram.Trial{Pattern: "holes", Allocator: "pool", FreeMB: 1000, LargestMB: 700, Coalescing: vram.Verdict{Outcome: vram.Grew, Reason: "no <two> adjoin"}}
		trial.Holes.Fragmentation = record.Some(0.4904)
		b, err := json.Marshal(vram.Results{GPUs: []vram.GPU{{Torture: []vram.Trial{trial}, Cliff: []vram.Fall{c}}}})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		name   string
		change func(*vram.Fall)
		want   []string
	}{
		{"capacity", func(*vram.Fall) {}, []string{
			"| holes | pool | – | 49.04 % | – | 1000 | 700 | grew: no &lt;two> adjoin |",
			"`toy\\|`, batch 2, on GPU 0: memory ends at 3000 tokens of a window of 4096; predicted were 3030 (+1.00 %).",
			"| Weights | 71500 | 50.00 % |",
			"| CUDA context | 529 | 0.37 % |",
			"| Driver and others | 615 | 0.43 % |",
			"| Most in use during the run, by the trace | 81234 |",
			"the longest context fitted again",
		}},
		{"window", func(f *vram.Fall) { f.Limit = vram.Architecture }, []string{"the model's window of 4096 tokens ends before the memory does, which by prediction has room for 3030"}},
		{"asked", func(f *vram.Fall) { f.Limit = vram.Asked }, []string{"3000 tokens fit; no more were tried"}},
		{"nothing", func(f *vram.Fall) { f.Limit = vram.Nothing; f.Predicted.Need.ModelMB = 150000 }, []string{"not even a context of one token fits; it would take 150000 MiB of 140000 free"}},
		{"context unknown", func(f *vram.Fall) { f.Peak.ContextMB = record.Opt[float64]{} }, []string{"| CUDA context | – | – |", "| Driver and others | 1144 |"}},
		{"no recovery", func(f *vram.Fall) { f.Recovery = vram.Recovery{OutOfMemory: true, LeftMB: 20, Reason: "gone"} }, []string{"refused true, 20 MiB not given back, the longest context fits again false. gone"}},
	} {
		part, r := memoryPart(t, results(c.change))
		for _, want := range c.want {
			if !strings.Contains(strings.Join(strings.Fields(part), " "), want) {
				t.Errorf("%s: the part has no %q:\n%s", c.name, want, part)
			}
		}
		if len(r.Problems) > 0 || len(r.Memory) != 1 {
			t.Errorf("%s: %v", c.name, r.Problems)
		}
	}
	if part, r := memoryPart(t, "{}"); len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "vram.json: not a vram.json") {
		t.Errorf("%v\n%s", r.Problems, part)
	}
}
