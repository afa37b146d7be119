package thermal_test

import (
	"os"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
	"joulepipe/pkg/thermal"
)

// What is foretold of real coolers holds what they read afterwards: the mean of
// the two minutes that follow, or of the last minute where less do, and that of
// the last minute, where a temperature that rises all the time comes to. Simulated
// coolers are as somebody thinks that they are; these are not.
func TestPredictionsOfRecordings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, trace string
		from, until int64   // ns, of the load
		after       float64 // s, from which on there has to be a prediction
		made, held  int     // % at least, held by either mean
		half        float64 // °C at most, in the mean
	}{
		{"9 minutes at 692 W", "../../docs/validation/testdata/2026-11-28-h200-soak.trace.ndjson.zst", 29748974845, 578273535671, 60, 80, 90, 2.8},
		{"9 minutes at 691 W, another board", "../../docs/validation/testdata/2026-11-29-h200-soak.trace.ndjson.zst", 28972803031, 577711699477, 60, 80, 90, 3.3},
		{"5 minutes at 445 W", "../../testdata/h200-study/trace.ndjson.zst", 629845668624, 929620378853, 60, 80, 90, 2.6},
		{"1 minute at 690 W", "../../testdata/h200/trace.ndjson.zst", 393305825330, 453330780912, 40, 80, 90, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := thermal.DefaultOptions()
			o.Rule, o.Max, o.Slope = thermal.Settled, 1e15, 1e-9 // to the end
			s, err := thermal.New(o)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(tt.trace)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var steps []*record.Soak
			in := stream.NewReader(f, "trace")
			for in.Scan() {
				if r, ok := in.Record().(*record.Sample); ok && r.TimeNS >= tt.from && r.TimeNS <= tt.until {
					if step := s.Observe(r); step != nil {
						steps = append(steps, step)
					}
				}
			}
			if err := in.Err(); err != nil {
				t.Fatal(err)
			}
			end := steps[len(steps)-1].DurationS
			asked, made, held, heldLast, width := 0, 0, 0, 0, 0.0
			// One record a second.
			mean := func(from, until float64) float64 {
				sum, n := 0.0, 0.0
				for _, step := range steps {
					if step.DurationS > from && step.DurationS <= until {
						sum += step.TempC.V
						n++
					}
				}
				return sum / n
			}
			last := mean(end-60, end)
			for _, step := range steps {
				if step.DurationS < tt.after {
					continue
				}
				if asked++; !step.PredictedC.OK {
					continue
				}
				made++
				width += step.PredictedHighC.V - step.PredictedLowC.V
				from := min(step.DurationS, end-60)
				if came := mean(from, from+120); step.PredictedLowC.V <= came && came <= step.PredictedHighC.V {
					held++
				}
				if step.PredictedLowC.V <= last && last <= step.PredictedHighC.V {
					heldLast++
				}
			}
			half := width / 2 / float64(made)
			t.Logf("%d predictions in %d records, %d held, %d the last minute, ± %.2f °C", made, asked, held, heldLast, half)
			if 100*made < tt.made*asked || 100*min(held, heldLast) < tt.held*made || half > tt.half {
				t.Errorf("%d predictions in %d records, %d held, %d the last minute, ± %.2f °C; want %d %%, %d %%, %g °C", made, asked, held, heldLast, half, tt.made, tt.held, tt.half)
			}
		})
	}
}
