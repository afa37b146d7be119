package report

import (
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/fstest"

	"joulepipe/pkg/report/reporttest"
)

// FuzzRead makes a report of any bytes: it ends, without a number that is none,
// and what could not be read keeps the run from standing.
func FuzzRead(f *testing.F) {
	run := reporttest.New()
	run.Samples, run.Power, run.Counter, run.IdlePower = run.Samples[:30], run.Power[:40], run.Counter[:40], run.IdlePower[:3]
	dir, err := run.FS()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(dir["trace.ndjson"].Data, dir["generation_events.jsonl"].Data, dir["baseline.json"].Data, dir["soak.ndjson"].Data)
	f.Add([]byte("t_ns,power_w\n9223372036854775807,1e308\n-9223372036854775808,NaN\n"), []byte(`{"t_start_ns":9223372036854775807,"t_end_ns":-1}`), []byte(`{"gpus":[]}`), []byte("{}"))
	f.Fuzz(func(t *testing.T, trace, events, baseline, soak []byte) {
		r, err := Read(fstest.MapFS{
			"trace.ndjson": {Data: trace}, "generation_events.jsonl": {Data: events}, "baseline.json": {Data: baseline}, "soak.ndjson": {Data: soak},
		}, Default())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Doubts()) == 0 {
			t.Error("a run of a second stands")
		}
		if !json.Valid([]byte(metadataOf(t, r))) {
			t.Error("the metadata are no JSON")
		}
		markdown(t, r)
		wellFormed(t, htmlOf(t, r))
		for _, f := range r.Figures {
			if err := errors.Join(f.WriteFile(io.Discard), f.WriteCSV(io.Discard)); err != nil {
				t.Error(err)
			}
		}
	})
}
