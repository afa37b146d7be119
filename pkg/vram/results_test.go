package vram

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

func TestResults(t *testing.T) {
	t.Parallel()
	one := GPU{GPU: 0, UUID: "a", Torture: []Trial{{EventID: "t", Adjoining: &Verdict{Joined, "so"}}}}
	two := GPU{GPU: 1, UUID: "b", Cliff: []Fall{{Model: "m", ErrorPct: record.Some(0.0)}}}
	var all Results
	all.Merge(one)
	all.Merge(two)
	all.Merge(GPU{GPU: 0, UUID: "a", Cliff: []Fall{{Model: "n"}}})                                    // keeps what was tortured
	all.Merge(GPU{GPU: 1, UUID: "b", Cliff: []Fall{{Model: "m", Probes: 9}, {Model: "m", Batch: 2}}}) // takes its place, and one beside it
	all.Merge(GPU{GPU: 0, UUID: "another board", Cliff: []Fall{{Model: "p"}}})                        // is another GPU
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Load(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, all) {
		t.Errorf("%+v became %+v", all, *got)
	}
	if len(got.GPUs) != 3 || len(got.GPUs[0].Torture) != 1 || got.GPUs[0].Cliff[0].Model != "n" || len(got.GPUs[1].Cliff) != 2 || got.GPUs[1].Cliff[0].Probes != 9 {
		t.Errorf("merged %+v", got)
	}
	if strings.Contains(string(b), "prefill_s") {
		t.Errorf("what was not measured is there: %s", b)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{}", `{"gpus":[]}`, `{"gpus":3}`, "watts"} {
		if _, err := Load(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "not a vram.json") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
