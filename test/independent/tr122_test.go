// Package independent compares this project's answers with computations that
// share no code with it.
package independent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

const (
	trace  = "../../testdata/h200/trace.ndjson.zst"
	v2     = "../../testdata/h200/power_trace.csv.gz"
	events = "../../testdata/h200/events.ndjson"
	idleW  = 123.5
)

func open(t *testing.T, name string) stream.Reader {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return stream.NewReader(f, name)
}

// attribute runs one method over a trace and gives the events in file order.
func attribute(t *testing.T, method string, from stream.Reader) map[string]record.Event {
	t.Helper()
	out := map[string]record.Event{}
	a, err := energy.New(energy.Options{Method: method, Idle: map[int]float64{0: idleW}}, func(e *record.Event) error {
		out[e.ID] = *e.Clone()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	work := open(t, events)
	if err := a.Join(from, work); err != nil {
		t.Fatal(err)
	}
	if err := from.Err(); err != nil {
		t.Fatal(err)
	}
	if err := work.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// python is what tr122.py says of one event.
type python struct {
	ID          string   `json:"event_id"`
	Samples     int64    `json:"power_samples"`
	GapFraction *float64 `json:"gap_fraction"`
	MaxGapS     *float64 `json:"max_gap_s"`
	Joules      *float64 `json:"energy_joules"`
	Operational *float64 `json:"operational_joules"`
	Clamped     *float64 `json:"operational_joules_clamped"`
	Quality     string   `json:"energy_quality"`
	Tier        string   `json:"energy_tier"`
}

// TestTR122 holds --method tr122 against rational arithmetic in another
// language, on every event of the recording.
func TestTR122(t *testing.T) {
	t.Parallel()
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is needed for the independent computation")
		}
		t.Skip("no python3: the independent computation was not run")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(interpreter, "tr122.py", v2, events, fmt.Sprint(idleW))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tr122.py: %v\n%s", err, stderr.Bytes())
	}
	got := attribute(t, energy.TR122, open(t, v2))
	lines := 0
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); lines++ {
		var want python
		if err := json.Unmarshal(s.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		e, ok := got[want.ID]
		if !ok {
			t.Errorf("%s is missing", want.ID)
			continue
		}
		g := e.Energy
		if g.PowerSamples != want.Samples || g.Quality != want.Quality || g.Tier != want.Tier {
			t.Errorf("%s: %d samples, %s, %s; want %d, %s, %s", want.ID, g.PowerSamples, g.Quality, g.Tier, want.Samples, want.Quality, want.Tier)
		}
		for _, f := range []struct {
			name string
			got  record.Opt[float64]
			want *float64
		}{
			{"gap_fraction", g.GapFraction, want.GapFraction},
			{"max_gap_s", g.MaxGapS, want.MaxGapS},
			{"energy_joules", g.Joules, want.Joules},
			{"operational_joules", g.OperationalJ, want.Operational},
			{"operational_joules_clamped", g.OperationalClamped, want.Clamped},
		} {
			if f.got.OK != (f.want != nil) {
				t.Errorf("%s: %s is %v, want %v", want.ID, f.name, f.got, f.want)
			} else if f.want != nil && math.Abs(f.got.V-*f.want) > 1e-9*math.Abs(*f.want) {
				t.Errorf("%s: %s = %.17g, want %.17g", want.ID, f.name, f.got.V, *f.want)
			}
		}
	}
	if lines != len(got) || lines < 100 {
		t.Errorf("%d events by tr122.py, %d by energy", lines, len(got))
	}
}

// TestEncodingsGiveOneAnswer reads the trace from every encoding.
func TestEncodingsGiveOneAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	text := func(got map[string]record.Event) string { return fmt.Sprint(energies(got)) }
	for _, source := range []string{trace, v2} {
		for _, method := range []string{energy.TR122, energy.Auto} {
			want := text(attribute(t, method, open(t, source)))
			for _, f := range []stream.Format{stream.NDJSON, stream.Arrow, stream.CSV} {
				for _, c := range []stream.Compression{stream.None, stream.Zstd} {
					var b bytes.Buffer
					w, err := stream.NewWriter(&b, f, c)
					if err != nil {
						t.Fatal(err)
					}
					for r := open(t, source); r.Scan(); {
						if err := w.Write(r.Record()); err != nil {
							t.Fatal(err)
						}
					}
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					if got := text(attribute(t, method, stream.NewReader(&b, string(f)))); got != want {
						t.Errorf("%s as %s, %s, by %s differs from the original", source, f, c, method)
					}
				}
			}
		}
	}
}

// energies are the outcomes alone, by event.
func energies(got map[string]record.Event) map[string]record.Energy {
	out := map[string]record.Energy{}
	for id, e := range got {
		out[id] = *e.Energy
	}
	return out
}

// TestChannelsAgree holds the channels of the recording against each other:
// the driver's buffer and the energy counter agree on every event of 3 s and
// more, and the averaged channel shows its error on a 3 s step.
func TestChannelsAgree(t *testing.T) {
	t.Parallel()
	driver := attribute(t, energy.Driver, open(t, trace))
	counter := attribute(t, energy.Counter, open(t, trace))
	average := attribute(t, energy.Average, open(t, trace))
	n, worst, where := 0, 0.0, ""
	for id, d := range driver {
		if d.Duration() < 2.99 {
			continue
		}
		n++
		dj, dok := d.Energy.Joules.Get()
		cj, cok := counter[id].Energy.Joules.Get()
		if !dok || !cok {
			t.Errorf("%s: no energy: %v, %v", id, d.Energy, counter[id].Energy)
			continue
		}
		if off := math.Abs(dj/cj - 1); off > worst {
			worst, where = off, id
		}
	}
	if n < 20 || worst > 0.015 {
		t.Errorf("driver and counter are %.2f %% apart on %s, of %d events of 3 s and more; want at most 1.5 %%", 100*worst, where, n)
	}
	t.Logf("%d events of 3 s and more: driver and counter at most %.2f %% apart (%s)", n, 100*worst, where)
	highs := 0
	for id, e := range average {
		if e.Phase != "square_high" {
			continue
		}
		highs++
		ratio := e.Energy.Joules.V / counter[id].Energy.Joules.V
		if ratio < 0.82 || ratio > 0.88 {
			t.Errorf("%s: average over counter %.3f, want about 0.85", id, ratio)
		}
		if e.Energy.Tier == energy.Billable {
			t.Errorf("%s: the averaged channel is billable on a 3 s event", id)
		}
	}
	if highs != 3 {
		t.Errorf("%d high parts, want 3", highs)
	}
}
