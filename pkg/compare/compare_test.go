package compare

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/record"
	"joulepipe/pkg/report"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/vram"
)

// made is a run whose figures are known: reps requests at two batch sizes, with
// joules and lengths that scatter by 1 %.
func made(seed uint64, change func(*report.Run)) *report.Run {
	rnd := rand.New(rand.NewPCG(seed, 1))
	noisy := func(x float64) float64 { return x * (1 + 0.01*rnd.NormFloat64()) }
	r := &report.Run{
		Limits: report.Default(),
		Trace: &report.Trace{
			File: "trace.ndjson",
			Header: &record.Header{RunID: fmt.Sprint(seed), Host: "bench", GPUs: []record.GPU{{
				UUID: "GPU-1", Name: "Board", Driver: "580.1", PowerLimitW: record.Some(700.0), VRAMTotalMB: record.Some(141e3),
			}}},
			GPUs: []*report.GPU{{Samples: 400, VRAMMaxMB: record.Some(4096.0)}},
		},
		Baselines: []baseline.Idle{{
			State: baseline.Context, Channel: "power", MeanW: noisy(100), SEMEffW: record.Some(1.0), NEff: record.Some(100.0), Samples: record.Some(int64(1200)),
		}},
		Soaks: []record.Soak{{
			State: "equilibrium", Final: true, DurationS: noisy(600), TempEndC: record.Some(62.0),
			PredictedC: record.Some(62.5), PredictedLowC: record.Some(61.5), PredictedHighC: record.Some(63.5),
		}},
		Sensors: []sensor.GPU{{Channels: map[string]*sensor.Channel{"driver": {
			UpdateMS: record.Some(20.0), UpdateSE: record.Some(0.02), WindowMS: record.Some(20.0), WindowCI95MS: []float64{18, 22}, RiseMS: record.Some(32.0),
		}}}},
		Memory: []vram.GPU{{Cliff: []vram.Fall{{Model: "llama", Batch: 4, Limit: vram.Capacity, MaxContext: 15730}}}},
	}
	for _, batch := range []int64{1, 4} {
		for i := range 8 {
			e := record.Event{
				ID: fmt.Sprint(batch, i), Phase: "decode", Model: "gpt2", BatchSize: record.Some(batch), OutputTokens: record.Some(64 * batch),
				StartNS: int64(i) * 1e10, GPUs: []int{0},
				Extra:  []record.Field{{Name: "context", Value: []byte("1024")}, {Name: "dtype", Value: []byte(`"bf16"`)}},
				Energy: &record.Energy{Method: "auto:driver", Joules: record.Some(noisy(600)), CI95J: record.Some(1.0), Quality: "good", Tier: "billable", Throttled: record.Some(false)},
			}
			e.EndNS = e.StartNS + int64(noisy(2e9))
			r.Events = append(r.Events, e)
		}
	}
	if change != nil {
		change(r)
	}
	return r
}

func side(name string, runs ...*report.Run) Side {
	s := Side{Name: name, Runs: runs}
	for i := range runs {
		s.Dirs = append(s.Dirs, fmt.Sprintf("runs/%s%d", name, i))
	}
	return s
}

// energies multiplies the joules of all events.
func energies(by float64) func(*report.Run) {
	return func(r *report.Run) {
		for i := range r.Events {
			r.Events[i].Energy.Joules.V *= by
		}
	}
}

func must(t *testing.T, opts Options, sides ...Side) *Comparison {
	t.Helper()
	c, err := Compare(sides, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Comparison) row(t *testing.T, metric, of string) Row {
	t.Helper()
	for _, r := range c.Rows {
		if r.Metric == metric && strings.HasPrefix(r.Of, of) {
			return r
		}
	}
	t.Fatalf("no row %s %s", metric, of)
	return Row{}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name       string
		change     func(*report.Run)
		metric, of string
		want       Verdict
		ratio      float64 // about; 0: not asked
	}{
		{"the same", nil, "joules-per-token", "decode gpt2 batch 4", NoneShown, 0},
		{"10 % more joules", energies(1.1), "joules-per-token", "decode gpt2 batch 4", Worse, 1.1},
		{"10 % fewer joules", energies(0.9), "joules-per-token", "decode gpt2 batch 1", Better, 0.9},
		{"slower", func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].EndNS += 4e8
			}
		}, "latency", "decode gpt2 batch 1", Worse, 1.2},
		{"slower", func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].EndNS += 4e8
			}
		}, "throughput", "decode gpt2 batch 1", Worse, 1 / 1.2},
		{"idles higher", func(r *report.Run) { r.Baselines[0].MeanW += 20 }, "idle-power", "GPU 0", Worse, 1.2},
		{"idles a little higher", func(r *report.Run) { r.Baselines[0].MeanW = 100.1 }, "idle-power", "GPU 0", NoneShown, 0},
		{"hotter", func(r *report.Run) {
			s := &r.Soaks[0]
			s.PredictedC.V, s.PredictedLowC.V, s.PredictedHighC.V = 70, 69, 71
		}, "equilibrium-temperature", "GPU 0", Worse, 0},
		{"one soak each", nil, "equilibrium-time", "GPU 0", NotCompared, 0},
		{"a timeout", func(r *report.Run) { r.Soaks[0].State = "timeout" }, "equilibrium-time", "GPU 0", NotCompared, 0},
		{"longer context", func(r *report.Run) { r.Memory[0].Cliff[0].MaxContext = 20000 }, "context-limit", "llama", Better, 20000.0 / 15730},
		{"context not tried out", func(r *report.Run) { r.Memory[0].Cliff[0].Limit = vram.Asked }, "context-limit", "llama", NotCompared, 0},
		{"slower sensor", func(r *report.Run) { r.Sensors[0].Channels["driver"].UpdateMS.V = 100 }, "sensor-update", "GPU 0 driver", Worse, 5},
		{"wider window", func(r *report.Run) {
			c := r.Sensors[0].Channels["driver"]
			c.WindowMS.V, c.WindowCI95MS = 30, []float64{27, 33}
		}, "sensor-window", "GPU 0 driver", Worse, 1.5},
		{"slower rise", func(r *report.Run) { r.Sensors[0].Channels["driver"].RiseMS.V = 300 }, "sensor-rise", "GPU 0 driver", NotCompared, 0},
		{"throttled", func(r *report.Run) {
			for i := range r.Events[:10] {
				r.Events[i].Energy.Throttled.V = true
			}
		}, "throttled-events", "", Worse, 0},
		{"one throttled", func(r *report.Run) { r.Events[0].Energy.Throttled.V = true }, "throttled-events", "", NoneShown, 0},
		{"more memory", func(r *report.Run) { r.Trace.GPUs[0].VRAMMaxMB.V += 500 }, "peak-vram", "GPU 0", Worse, 0},
		{"a page of memory", func(r *report.Run) { r.Trace.GPUs[0].VRAMMaxMB.V += 2 }, "peak-vram", "GPU 0", NoneShown, 0},
		{"joules refused", func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].Energy.Tier = "refused"
			}
		}, "joules-per-token", "decode gpt2 batch 1", NotCompared, 0},
		{"a repetition", func(r *report.Run) { r.Events = []record.Event{r.Events[0], r.Events[8]} }, "joules-per-token", "decode gpt2 batch 1", NotCompared, 0},
		{"work without tokens", func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].OutputTokens = record.Opt[int64]{}
			}
			energies(1.1)(r)
		}, "joules-per-event", "decode gpt2 batch 1", NotCompared, 0},
	} {
		c := must(t, Options{Scatter: DefaultScatter}, side("a", made(1, nil)), side("b", made(2, k.change)))
		row := c.row(t, k.metric, k.of)
		ch := row.Change[0]
		if ch.Verdict != k.want {
			t.Errorf("%s: %s is %s (%v, %s), want %s", k.name, k.metric, ch.Verdict, ch.Ratio, ch.Reason, k.want)
		}
		if ch.Verdict == NotCompared && ch.Reason == "" {
			t.Errorf("%s: no reason", k.name)
		}
		if k.ratio > 0 && math.Abs(ch.Ratio.V/k.ratio-1) > 0.02 {
			t.Errorf("%s: ratio %v, want %v", k.name, ch.Ratio, k.ratio)
		}
		if k.ratio > 0 && len(ch.RatioCI95) == 2 && !(ch.RatioCI95[0] < ch.Ratio.V && ch.Ratio.V < ch.RatioCI95[1]) {
			t.Errorf("%s: %v is not in %v", k.name, ch.Ratio, ch.RatioCI95)
		}
	}
}

// Of runs that differ by chance alone, one pair in twenty is called different,
// and of those that differ, the interval has the truth in 95 of 100.
func TestCoverage(t *testing.T) {
	t.Parallel()
	n := 800
	if testing.Short() {
		n = 300
	}
	wrong, inside, family, repeats, pairs := 0, 0, 0, 0, 0
	for i := range n {
		s := uint64(10 * i)
		c := must(t, Options{}, side("a", made(s, nil)), side("b", made(s+1, energies(1.1))))
		stood := false
		for _, row := range c.Rows {
			ch := row.Change[0]
			switch {
			case row.Metric == "latency":
				pairs++
				if ch.Verdict != NoneShown {
					wrong++
				}
				stood = stood || ch.Stands
			case row.Metric == "joules-per-token" && row.Of[:len("decode gpt2 batch 4")] == "decode gpt2 batch 4":
				if ch.RatioCI95[0] < 1.1 && 1.1 < ch.RatioCI95[1] {
					inside++
				}
			}
		}
		if stood {
			family++
		}
		// Two runs a side, and nothing but the idle power.
		d := must(t, Options{}, side("a", made(s+2, nil), made(s+3, nil)), side("b", made(s+4, nil), made(s+5, nil)))
		if d.row(t, "equilibrium-time", "GPU 0").Change[0].Verdict != NoneShown {
			repeats++
		}
	}
	within := func(what string, got, of int, lo, hi float64) {
		if share := float64(got) / float64(of); share < lo || share > hi {
			t.Errorf("%s: %.3f, want %g to %g", what, share, lo, hi)
		}
	}
	within("latencies called different", wrong, pairs, 0.02, 0.08)
	within("intervals with the truth", inside, n, 0.93, 0.99)
	within("runs with a latency that stands", family, n, 0, 0.04)
	// The t distribution with so few degrees of freedom is on the safe side.
	within("times of equilibrium called different", repeats, n, 0, 0.08)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	regression := Options{Regression: true, MaxRegression: 0.05, Scatter: DefaultScatter}
	selection := Options{Scatter: DefaultScatter}
	for _, k := range []struct {
		name   string
		opts   Options
		change func(*report.Run)
		want   string // "": comparable
	}{
		{"the same", regression, nil, ""},
		{"simulated", selection, func(r *report.Run) { r.Trace.Header.Config = map[string]any{"device": "sim"} }, "device: a has hardware, b has simulated"},
		{"another board to choose", selection, func(r *report.Run) { r.Trace.Header.GPUs[0].Name = "Other" }, ""},
		{"another board", regression, func(r *report.Run) { r.Trace.Header.GPUs[0].Name = "Other" }, "GPU: a has Board, b has Other"},
		{"another driver", selection, func(r *report.Run) { r.Trace.Header.GPUs[0].Driver = "590.2" }, ""},
		{"another driver", regression, func(r *report.Run) { r.Trace.Header.GPUs[0].Driver = "590.2" }, "driver: a has 580.1, b has 590.2"},
		{"another power limit", regression, func(r *report.Run) { r.Trace.Header.GPUs[0].PowerLimitW.V = 500 }, "power limit: a has 700 W, b has 500 W"},
		{"a driver that is not told", regression, func(r *report.Run) { r.Trace.Header.GPUs[0].Driver = "" }, ""},
		{"another idle state", selection, func(r *report.Run) { r.Baselines[0].State = baseline.Resident }, "idle-power GPU 0: idle state context against resident"},
		{"another channel", selection, func(r *report.Run) { r.Baselines[0].Channel = "driver" }, "idle-power GPU 0: channel power against driver"},
		{"not idle", selection, func(r *report.Run) { r.Baselines[0].FakeIdle = true }, "the GPU was not idle"},
		{"another number format", selection, func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].Extra[1].Value = []byte(`"f16"`)
			}
		}, "context 1024 bf16 against context 1024 f16"},
		{"another context", selection, func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].Extra[0].Value = []byte(`64`)
			}
		}, "context 1024 bf16 against context 64 bf16"},
		{"other tokens", selection, func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].OutputTokens.V *= 2
			}
		}, "tokens of an event 64 against 128"},
		{"another method", selection, func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].Energy.Method = "tr122"
			}
		}, "method auto against tr122"},
		{"other channels of the model", selection, func(r *report.Run) {
			for i := range r.Events {
				r.Events[i].Energy.Method = "auto:counter"
			}
		}, ""},
		{"a batch size less, to choose", selection, func(r *report.Run) { r.Events = r.Events[:8] }, ""},
		{"a batch size less", regression, func(r *report.Run) { r.Events = r.Events[:8] }, "a has it and b has not"},
		{"a batch size less, of what is not asked", Options{Regression: true, FailOn: []string{"idle-power"}}, func(r *report.Run) { r.Events = r.Events[:8] }, ""},
		{"no equilibrium any more", regression, func(r *report.Run) { r.Soaks[0].State = "thermal_trip" }, "no equilibrium: thermal_trip: a has it"},
		{"nothing in common", selection, func(r *report.Run) {
			*r = report.Run{Trace: &report.Trace{}, Memory: []vram.GPU{{Cliff: []vram.Fall{{Model: "x", Limit: vram.Capacity}}}}}
		}, "no figure could be held against another"},
	} {
		sides := []Side{side("a", made(1, nil)), side("b", made(1, k.change))}
		c, err := Compare(sides, k.opts)
		var got []string
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			got = refused.Reasons
		} else if err != nil {
			t.Fatal(err)
		} else {
			got = c.Refusals
		}
		if k.want == "" && len(got) > 0 || k.want != "" && !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, k.want) }) {
			t.Errorf("%s: refused for %q, want %q", k.name, got, k.want)
		}
		// By force, all is compared.
		force := k.opts
		force.Force = true
		if _, err := Compare(sides, force); err != nil {
			t.Errorf("%s: by force: %v", k.name, err)
		}
	}
}

func TestForce(t *testing.T) {
	t.Parallel()
	other := made(2, func(r *report.Run) {
		energies(1.5)(r)
		for i := range r.Events {
			r.Events[i].Extra[1].Value = []byte(`"f16"`)
		}
		r.Baselines[0].State = baseline.Resident
		r.Soaks[0].DurationS = 1200
	})
	c := must(t, Options{Force: true, Scatter: DefaultScatter}, side("a", made(1, nil)), side("b", other))
	row := c.row(t, "joules-per-token", "decode gpt2 batch 4")
	if ch := row.Change[0]; ch.Verdict != Worse || !strings.Contains(ch.Reason, "forced: shape context 1024 bf16 against context 1024 f16") {
		t.Errorf("another format: %+v", ch)
	}
	if ch := c.row(t, "idle-power", "GPU 0").Change[0]; !strings.Contains(ch.Reason, "forced: idle state") || ch.Verdict == NotCompared {
		t.Errorf("another state: %+v", ch)
	}
	// A number without an interval gets no verdict even so.
	if ch := c.row(t, "equilibrium-time", "GPU 0").Change[0]; ch.Verdict != NotCompared || math.Abs(ch.Ratio.V-2) > 0.1 {
		t.Errorf("without an interval: %+v", ch)
	}
	for _, row := range c.Rows {
		if row.Metric == "joules-per-token" && len(c.of("joules-per-token")) != 2 {
			t.Errorf("%d rows of energy", len(c.of("joules-per-token")))
		}
	}
}

func TestRegressions(t *testing.T) {
	t.Parallel()
	base := side("a", made(1, nil), made(2, nil), made(3, nil), made(4, nil))
	worse := side("b", made(5, energies(1.1)), made(6, energies(1.1)), made(7, energies(1.1)), made(8, energies(1.1)))
	for _, k := range []struct {
		name   string
		max    float64
		failOn []string
		other  Side
		want   int
	}{
		{"allowed 5 %", 0.05, nil, worse, 2},
		{"allowed 15 %", 0.15, nil, worse, 0},
		{"of latency alone", 0.05, []string{"latency"}, worse, 0},
		{"of energy alone", 0.05, []string{"joules-per-token"}, worse, 2},
		{"itself", 0, nil, base, 0},
	} {
		c := must(t, Options{Regression: true, MaxRegression: k.max, FailOn: k.failOn}, base, k.other)
		if len(c.Regressions) != k.want {
			t.Errorf("%s: %+v, want %d", k.name, c.Regressions, k.want)
		}
		for _, r := range c.Regressions {
			if r.Metric != "joules-per-token" || math.Abs(r.By-0.1) > 0.02 || r.Side != "b" {
				t.Errorf("%s: %+v", k.name, r)
			}
		}
	}
	// One pair of runs with wide intervals neither shows it nor excludes it.
	c := must(t, Options{Regression: true, MaxRegression: 0.005}, side("a", made(1, nil)), side("b", made(2, nil)))
	if len(c.Regressions) > 0 || c.Undecided == 0 {
		t.Errorf("regressions %v, undecided %d", c.Regressions, c.Undecided)
	}
}

// Repetitions give an interval to what a run has once; one more run that is of
// another machine is no repetition.
func TestRepetitions(t *testing.T) {
	t.Parallel()
	longer := func(r *report.Run) { r.Soaks[0].DurationS *= 1.5 }
	a := side("a", made(1, nil), made(2, nil), made(3, nil))
	c := must(t, Options{Scatter: DefaultScatter}, a, side("b", made(4, longer), made(5, longer), made(6, longer)))
	row := c.row(t, "equilibrium-time", "GPU 0")
	if row.Change[0].Verdict != Worse || row.Values[0].N != 3 || !row.Values[0].CI95.OK {
		t.Errorf("%+v", row)
	}
	if slices.ContainsFunc(c.Notes, func(n string) bool { return strings.Contains(n, "A1,A2") }) {
		t.Errorf("notes %q", c.Notes)
	}
	if _, err := Compare([]Side{side("a", made(1, nil), made(2, func(r *report.Run) { r.Trace.Header.GPUs[0].Driver = "590.2" })), a}, Options{}); err == nil || !strings.Contains(err.Error(), "no repetitions: driver 580.1 and 590.2") {
		t.Errorf("another driver in a side: %v", err)
	}
}

// Joules of two boards differ by the calibration of their sensors, seconds do
// not.
func TestTwoBoards(t *testing.T) {
	t.Parallel()
	change := func(uuid string) func(*report.Run) {
		return func(r *report.Run) {
			energies(1.08)(r)
			r.Trace.Header.GPUs[0].UUID = uuid
		}
	}
	for uuid, want := range map[string]Verdict{"GPU-1": Worse, "GPU-2": NoneShown, "": NoneShown} {
		c := must(t, Options{}, side("a", made(1, nil)), side("b", made(2, change(uuid))))
		if ch := c.row(t, "joules-per-token", "decode gpt2 batch 4").Change[0]; ch.Verdict != want {
			t.Errorf("UUID %q: %s, %v, want %s", uuid, ch.Verdict, ch.RatioCI95, want)
		}
		said := slices.ContainsFunc(c.Notes, func(n string) bool { return strings.Contains(n, "different boards") })
		if said != (want == NoneShown) {
			t.Errorf("UUID %q: notes %q", uuid, c.Notes)
		}
	}
}

// A difference that is not shown is not printed in any of the forms for
// people; names out of files stay in their cells; and no number is none.
func TestWrite(t *testing.T) {
	t.Parallel()
	evil := "a|b*c_<script>\n# x"
	sides := []Side{side("a", made(1, nil)), side("b|", made(2, energies(1.1))), side("c", made(3, func(r *report.Run) {
		r.Trace.Header.GPUs[0].Name = evil
		for i := range r.Events {
			r.Events[i].Model = evil
		}
	}))}
	c := must(t, Options{Scatter: DefaultScatter}, sides...)
	for _, format := range Formats {
		var b bytes.Buffer
		if err := c.Write(&b, format); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		switch format {
		case "json":
			var back Comparison
			if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Rows) != len(c.Rows) || len(back.Rows[0].Change) != 2 {
				t.Errorf("JSON: %v, %d rows", err, len(back.Rows))
			}
		case "csv":
			lines, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(lines) != 1+2*len(c.Rows) || len(lines[1]) != 22 {
				t.Errorf("CSV: %v, %d lines", err, len(lines))
			}
		case "md":
			for _, line := range strings.Split(text, "\n") {
				if strings.HasPrefix(line, "# x") || strings.Contains(line, "<script") {
					t.Errorf("escaped: %q", line)
				}
			}
			fallthrough
		case "text":
			if !strings.Contains(text, "no difference shown (") || !strings.Contains(text, "worse*") && !strings.Contains(text, `worse\*`) || !strings.Contains(text, "n=8") {
				t.Errorf("%s:\n%s", format, text)
			}
			if !strings.Contains(text, "GPU differs: a Board, b") {
				t.Errorf("%s does not say what differs:\n%s", format, text)
			}
		}
		if format != "csv" && (strings.Contains(text, "NaN") || strings.Contains(text, "Inf")) {
			t.Errorf("%s has a number that is none", format)
		}
	}
	if err := c.Write(&bytes.Buffer{}, "xml"); err == nil {
		t.Error("xml is a format")
	}
}

// Holm's procedure, against the sums done by hand.
func TestHolm(t *testing.T) {
	t.Parallel()
	c := &Comparison{}
	for _, p := range []float64{0.001, 0.04, 0.02, 0.012, 0.5} {
		c.Rows = append(c.Rows, Row{Change: []Change{{P: record.Some(p)}}})
	}
	c.family()
	var got []bool
	for _, r := range c.Rows {
		got = append(got, r.Change[0].Stands)
	}
	// 0.001·5 ≤ 0.05, 0.012·4 ≤ 0.05, 0.02·3 > 0.05: no further.
	if want := []bool{true, false, false, true, false}; !slices.Equal(got, want) || c.Tests != 5 {
		t.Errorf("%v of %d", got, c.Tests)
	}
}

// What is worse in one row of many by chance is no regression.
func TestOnlyWhatStandsIsARegression(t *testing.T) {
	t.Parallel()
	for stands, want := range map[bool]int{true: 1, false: 0} {
		c := &Comparison{
			opts: Options{Regression: true, MaxRegression: 0.05}, Sides: []About{{Name: "a"}, {Name: "b"}},
			Rows: []Row{{Metric: "latency", Better: lower, Change: []Change{{Verdict: Worse, worse: 0.1, atWorst: 0.2, Stands: stands}}}},
		}
		if c.judge(); len(c.Regressions) != want || c.Undecided != 1-want {
			t.Errorf("stands %v: %v, undecided %d", stands, c.Regressions, c.Undecided)
		}
	}
}

// Requests of many lengths, as a server gets them, are compared as they are.
func TestManyLengths(t *testing.T) {
	t.Parallel()
	lengths := func(times int64) func(*report.Run) {
		return func(r *report.Run) {
			for i := range r.Events {
				e := &r.Events[i]
				e.OutputTokens = record.Some(times * int64(50+i))
				e.EndNS = e.StartNS + int64(e.OutputTokens.V)*3e7
				e.Energy.Joules.V = float64(e.OutputTokens.V) * 9
			}
		}
	}
	c := must(t, Options{Scatter: DefaultScatter}, side("a", made(1, lengths(1))), side("b", made(2, lengths(2))))
	row := c.row(t, "joules-per-token", "decode gpt2 batch 1")
	if ch := row.Change[0]; ch.Verdict != NoneShown || math.Abs(row.Values[0].Value.V-9) > 1e-9 || len(c.Refusals) > 0 {
		t.Errorf("%+v, refused %v", row, c.Refusals)
	}
}

// Runs that happen to agree are no surer than each of them is.
func TestRepetitionsThatAgree(t *testing.T) {
	t.Parallel()
	one := &figure{metric: "idle-power", mean: 100, se: 1, freedom: 50, known: true, told: true}
	f := repeated([]*figure{one, one, one, one})
	if !f.told || math.Abs(f.se-0.5) > 1e-12 || f.freedom != 3 || f.n != 4 {
		t.Errorf("%+v", f)
	}
}
