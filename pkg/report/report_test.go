package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/report/reporttest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func directory(t *testing.T, f *reporttest.Fixture) fstest.MapFS {
	t.Helper()
	dir, err := f.FS()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustRead(t *testing.T, dir fs.FS) *Run {
	t.Helper()
	r, err := Read(dir, Default())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func markdown(t *testing.T, r *Run) string {
	t.Helper()
	var b strings.Builder
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func metadataOf(t *testing.T, r *Run) string {
	t.Helper()
	var b strings.Builder
	if err := r.Metadata(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// near fails unless got is want, to a relative tolerance.
func near(t *testing.T, what string, got record.Opt[float64], want, tolerance float64) {
	t.Helper()
	if !got.OK || math.Abs(got.V-want) > tolerance*math.Abs(want) {
		t.Errorf("%s is %v, want %g", what, got, want)
	}
}

// checksums differ with the last bit of any number in the files.
var checksums = regexp.MustCompile(`[0-9a-f]{64}`)

var notANumber = regexp.MustCompile(`NaN|Inf\b`)

func TestGolden(t *testing.T) {
	t.Parallel()
	broken := reporttest.New()
	broken.Without = []string{"soak.ndjson", "sensor.json", "baseline_trace.ndjson"}
	broken.Baseline["fake_idle_flag"] = true
	broken.Baseline["fake_idle_reasons"] = []string{"utilisation p95 14 %"}
	broken.Lose(100, 110)
	for file, f := range map[string]*reporttest.Fixture{"testdata/stands.md": reporttest.New(), "testdata/broken.md": broken} {
		got := checksums.ReplaceAllString(markdown(t, mustRead(t, directory(t, f))), strings.Repeat("0", 64))
		if *update {
			if os.Getenv("CI") != "" {
				t.Fatal("golden files are not rewritten in CI")
			}
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the report is not %s; go test -update writes it anew\n%s", file, got)
		}
	}
}

// The figures are those of the power that the fixture is made of, worked out by
// hand.
func TestFigures(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.New()))
	// The counter's last tick is at 39.9 s: 100 W all the time, 200 W more
	// during three square waves of 3 s and three requests of 2.15 s.
	if len(r.Costs) != 1 || r.Costs[0].Channel != energy.Counter {
		t.Fatalf("costs %+v", r.Costs)
	}
	near(t, "energy of the run", record.Some(r.Costs[0].Joules), 3990+200*(3*3+3*2.15), 1e-6)
	near(t, "its length", record.Some(r.Costs[0].Seconds), 39.98, 1e-9)
	summary := func(phase string, batch int64) record.Summary {
		i := slices.IndexFunc(r.Summaries, func(s record.Summary) bool { return s.Phase == phase && s.BatchSize.Or(0) == batch })
		return r.Summaries[i]
	}
	near(t, "J/token of decode at batch 1", summary("decode", 1).JoulesPerToken, 2*300.0/64, 1e-9)
	near(t, "J of square_high", summary("square_high", 0).EnergyMeanJ, 900, 1e-9)
	near(t, "above idle", summary("square_high", 0).OperationalMeanJ, 600, 1e-9)
	// A mean over one second begins 100 W up and comes to 300 W in a straight
	// line: 0.5 s of 200 W are missing of 900 J.
	ratio := func(phase, after, channel string) record.Opt[float64] {
		for _, c := range r.Comparisons {
			if c.Phase == phase && c.After == after && c.Channel == channel {
				return record.Some(c.Ratio())
			}
		}
		return record.Opt[float64]{}
	}
	near(t, "average of square_high", ratio("square_high", "square_low", energy.Average), 800.0/900, 5e-3)
	near(t, "average of square_low after it", ratio("square_low", "square_high", energy.Average), 400.0/300, 2e-2)
	near(t, "driver of square_high", ratio("square_high", "square_low", energy.Driver), 1, 5e-3)
	near(t, "driver over the run", ratio("", "", energy.Driver), 1, 5e-3)
	if got := ratio("prefill", "", energy.Driver); got.OK {
		t.Error("channels are compared on events of 150 ms")
	}
	if g := r.Trace.GPUs[0]; g.TempFirstC.V != 41 || g.TempMaxC.V != 60 || g.VRAMMaxMB.V != 4096 || g.Counted != 2000 {
		t.Errorf("GPU: %+v", g)
	}
}

// The recording of a real board: its averaged channel is found out, phase by
// phase, and the run's cost is the counter's.
func TestH200(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{}
	for _, name := range []string{"trace.ndjson.zst", "events.ndjson"} {
		b, err := os.ReadFile("../../testdata/h200/" + name)
		if err != nil {
			t.Fatal(err)
		}
		dir[name] = &fstest.MapFile{Data: b}
	}
	r := mustRead(t, dir)
	if len(r.Problems) > 0 {
		t.Fatalf("problems: %q", r.Problems)
	}
	for _, k := range []struct {
		phase, after, channel string
		lo, hi                float64
	}{
		{"", "", energy.Driver, 0.995, 1.005},
		{"", "", energy.Average, 0.995, 1.005},
		{"square_high", "square_low", energy.Average, 0.84, 0.87},
		{"square_low", "square_high", energy.Average, 1.70, 1.80},
		{"square_low", "square_low", energy.Average, 0.98, 1.02},
		{"square_high", "square_low", energy.Driver, 0.99, 1.01},
		{"square_low", "square_high", energy.Driver, 0.97, 1.01},
	} {
		i := slices.IndexFunc(r.Comparisons, func(c Comparison) bool {
			return c.Phase == k.phase && c.After == k.after && c.Channel == k.channel
		})
		if i < 0 {
			t.Errorf("%s after %s is not compared by %s", k.phase, k.after, k.channel)
		} else if got := r.Comparisons[i].Ratio(); got < k.lo || got > k.hi {
			t.Errorf("%s of %s after %s is %.3f, want %g to %g", k.channel, k.phase, k.after, got, k.lo, k.hi)
		}
	}
	if len(r.Costs) != 1 || math.Abs(r.Costs[0].Joules/r.Costs[0].Seconds-258) > 2 {
		t.Errorf("costs %+v", r.Costs)
	}
	md := markdown(t, r)
	for _, want := range []string{
		"| `square_low` after `square_high` ", "- `average` reads 0.85 of `square_high` after `square_low`, 1.78 of `square_low` after `square_high`",
		"`average` stands for `power`", "software power cap",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

// Readers of TR122's run_metadata.json find its names, and what the report
// says beside them is the same.
func TestMetadata(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.New()))
	var m struct {
		SchemaVersion int    `json:"schema_version"`
		RunID         string `json:"run_id"`
		RunState      string `json:"run_state"`
		EndReason     string `json:"end_reason"`
		Stands        bool   `json:"stands"`
		Poller        struct {
			Median  float64 `json:"median_dt_ms"`
			P95     float64 `json:"p95_dt_ms"`
			MaxGap  float64 `json:"max_gap_ms"`
			Gaps    *int    `json:"gap_count"`
			Quality string  `json:"quality"`
		} `json:"poller"`
		Baseline struct {
			Mean float64 `json:"idle_watts_mean"`
			Fake *bool   `json:"fake_idle_flag"`
		} `json:"baseline"`
		Git struct {
			Hash string `json:"hash"`
		} `json:"git"`
		Checks    []Check
		Claims    []Claim
		Artifacts []Artifact
	}
	if err := json.Unmarshal([]byte(metadataOf(t, r)), &m); err != nil {
		t.Fatal(err)
	}
	if m.SchemaVersion < 2 || m.RunID != "20260102_030405" || m.RunState != "completed" || m.EndReason != "equilibrium" || !m.Stands {
		t.Errorf("run: %+v", m)
	}
	if p := m.Poller; p.Median != 100 || p.P95 != 100 || p.MaxGap != 100 || p.Gaps == nil || *p.Gaps != 0 || p.Quality != "good" {
		t.Errorf("poller: %+v", p)
	}
	if m.Baseline.Mean != reporttest.IdleW || m.Baseline.Fake == nil || *m.Baseline.Fake || len(m.Git.Hash) != 40 {
		t.Errorf("baseline %+v, git %+v", m.Baseline, m.Git)
	}
	for _, same := range [][2]any{{m.Checks, r.Checks}, {m.Claims, r.Claims}, {m.Artifacts, r.Artifacts}} {
		if fmt.Sprint(same[0]) != fmt.Sprint(same[1]) {
			t.Errorf("%v, and in the report %v", same[0], same[1])
		}
	}
}

// The report is a function of the directory, and reading what it wrote itself
// changes nothing.
func TestDeterminism(t *testing.T) {
	t.Parallel()
	dir := directory(t, reporttest.New())
	r := mustRead(t, dir)
	first, firstData := markdown(t, r), metadataOf(t, r)
	dir["report.md"] = &fstest.MapFile{Data: []byte(first)}
	dir["run_metadata.json"] = &fstest.MapFile{Data: []byte(firstData)}
	for range 3 {
		r := mustRead(t, dir)
		if markdown(t, r) != first || metadataOf(t, r) != firstData {
			t.Fatal("a second reading gives another report")
		}
	}
}

// Without a file the report is made all the same: it says what is missing, and
// the part that needs it that it was not measured.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	all := directory(t, reporttest.New())
	unmeasured := map[string][]string{ // heading → said below it
		"trace.ndjson":  {"## Poller", "## Temperature and throttling", "## Channels against each other"},
		"baseline.json": {"## Baseline"},
		"soak.ndjson":   {"## Heat soak"},
	}
	for name := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fstest.MapFS{}
			for other, file := range all {
				if other != name {
					dir[other] = file
				}
			}
			r := mustRead(t, dir)
			if len(r.Problems) > 0 {
				t.Errorf("a missing file is no problem: %q", r.Problems)
			}
			md := markdown(t, r)
			if !strings.Contains(md, "- No `"+name+"`: ") {
				t.Error("the report does not say that it is missing")
			}
			if name == "generation_events.jsonl" && !strings.Contains(md, "Not measured: 12 events, none with joules.") {
				t.Error("the report does not say that there are no joules")
			}
			for _, head := range unmeasured[name] {
				_, part, _ := strings.Cut(md, head+"\n")
				part, _, _ = strings.Cut(part, "\n## ")
				if !strings.HasPrefix(strings.TrimSpace(part), "Not measured: ") {
					t.Errorf("%s: %q", head, part)
				}
			}
			for _, c := range r.Checks {
				if slices.Contains(c.From, name) {
					t.Errorf("%s is from a file that is not there", c.ID)
				}
			}
		})
	}
	t.Run("all but the trace", func(t *testing.T) {
		t.Parallel()
		r := mustRead(t, fstest.MapFS{"trace.ndjson": all["trace.ndjson"]})
		for _, u := range r.Uses {
			if u.Title != uses[0].title && u.Status != Open {
				t.Errorf("%s is %s", u.Title, u.Status)
			}
		}
		if len(r.Doubts()) == 0 {
			t.Error("a bare trace stands")
		}
	})
	t.Run("all but the baseline", func(t *testing.T) {
		t.Parallel()
		r := mustRead(t, fstest.MapFS{"baseline.json": all["baseline.json"]})
		md := markdown(t, r)
		for _, want := range []string{"no trace", "Energy of the run: not measured", "Idle, GPU 0 takes 100 W"} {
			if !strings.Contains(md, want) {
				t.Errorf("the report lacks %q", want)
			}
		}
		if data := metadataOf(t, r); r.State != "aborted" || strings.Contains(data, `"poller"`) || strings.Contains(data, "samples_total") {
			t.Error("figures of a poller that there was none")
		}
	})
	t.Run("everything", func(t *testing.T) {
		t.Parallel()
		if _, err := Read(fstest.MapFS{"notes.txt": {}}, Default()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v", err)
		}
	})
}

// A gap in which the poller waited for the driver is told from one in which it did not run.
func TestHeldGaps(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	f.Samples[99].ReadUS = record.Some(1.02e6)  // and 100 to 109 are lost
	f.Samples[200].ReadOK = false               // whose read takes the next, too
	f.Samples[200].ReadUS = record.Some(0.49e6) // and 201 to 204 are lost
	f.Samples[310].ReadUS = record.Some(0.1e6)  // after a gap, of which it is none
	f.Lose(300, 310)
	f.Lose(201, 205)
	f.Lose(100, 110)
	r := mustRead(t, directory(t, f))
	g := r.Trace.GPUs[0]
	if len(g.Gaps) != 3 || g.HeldGaps != 2 {
		t.Fatalf("%d gaps, %d of them held by a read, want 3 and 2: %+v", len(g.Gaps), g.HeldGaps, g.Gaps)
	}
	for _, gap := range g.Gaps {
		want := record.Opt[float64]{}
		switch {
		case gap.StartNS == f.Samples[99].TimeNS:
			want = record.Some(1.02)
		case gap.Seconds < 1:
			want = record.Some(0.49)
		}
		if gap.ReadS != want {
			t.Errorf("the longest read of the gap of %.1f s took %v s, want %v", gap.Seconds, gap.ReadS, want)
		}
	}
	if text := markdown(t, r); !strings.Contains(text, "in 2 of 3 the driver took so long to answer") {
		t.Error("the report does not say so")
	}
}

func TestCutTrace(t *testing.T) {
	t.Parallel()
	dir := directory(t, reporttest.New())
	whole := dir["trace.ndjson"].Data
	dir["trace.ndjson"] = &fstest.MapFile{Data: whole[:len(whole)*3/4]}
	r := mustRead(t, dir)
	if r.State != "aborted" || r.EndReason != "trace_cut" {
		t.Errorf("run is %s by %s", r.State, r.EndReason)
	}
	if p := r.Trace.Poller().Overall; r.Trace.Said != nil || p.SamplesTotal < 250 || p.SamplesTotal > 350 || p.MedianDtMS.Or(0) < 99 {
		t.Errorf("poller of a cut trace: %+v", p)
	}
	if len(r.Problems) == 0 {
		t.Error("nothing is said")
	}
}

// TR122's own kind of run: a CSV of polled power, its baseline, nothing else.
func TestForeignCSV(t *testing.T) {
	t.Parallel()
	var csv strings.Builder
	csv.WriteString("t_ns,power_w,temp_c,read_ok,dt_s\n")
	for _, s := range reporttest.New().Samples {
		fmt.Fprintf(&csv, "%d,%g,%g,True,0.1\n", s.TimeNS, s.PowerW.V, s.TempC.V)
	}
	r := mustRead(t, fstest.MapFS{
		"power_trace.csv": {Data: []byte(csv.String())},
		"baseline.json":   {Data: []byte(`{"idle_watts_mean": 20.71, "idle_watts_std": 9.97, "idle_watts_min": 1.2, "fake_idle_flag": false, "fake_idle_reasons": ""}`)},
	})
	if len(r.Problems) > 0 {
		t.Errorf("problems: %q", r.Problems)
	}
	for id, want := range map[string]Verdict{
		"grid-adherence": Pass, "trace-complete": NotJudged, "metadata": Fail, "idle-baseline": NotJudged, "counter-monotone": NotJudged, "dropped-ticks": NotJudged,
	} {
		if c := r.Check(id); c.Verdict != want {
			t.Errorf("%s is %s: %s", id, c.Verdict, c.Reason)
		}
	}
	// What no counter saw is summed up second by second, after the first.
	if len(r.Costs) != 1 || r.Costs[0].Seconds != 39 || r.Costs[0].Channel != energy.PowerUse {
		t.Fatalf("costs %+v", r.Costs)
	}
	near(t, "energy of the run", record.Some(r.Costs[0].Joules), 3900+200*(3*3+3*2.15), 1e-3)
	md := markdown(t, r)
	for _, want := range []string{"20.71 W", "below 5 W: suspect", "The trace has no header", "| Dropped ticks       |       – |", "| not measured "} {
		if !strings.Contains(md, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
}

// Whatever stands in the files, the report is made, and nothing in it escapes
// its table.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	evil := "a|b`c\n# Verdict\u0000<script>" + strings.Repeat("x", 1000)
	cases := []struct {
		name   string
		change func(*reporttest.Fixture)
	}{
		{"names", func(f *reporttest.Fixture) {
			f.Header.GPUs[0].Name, f.Header.RunID, f.Header.Host = evil, evil, evil
			f.Header.Config[evil] = evil
			f.Each(func(e *record.Event) {
				e.ID, e.Phase, e.Model = evil, evil, evil
				e.Energy.Quality, e.Energy.Tier, e.Energy.Method, e.Energy.Reasons = evil, evil, evil, []string{evil}
			})
			f.Soak.State, f.Soak.Reason = evil, evil
			f.Baseline["state"], f.Baseline["doubts"] = evil, []string{evil}
			f.Sensor["gpus"].([]any)[0].(map[string]any)["use"] = evil
		}},
		{"numbers", func(f *reporttest.Fixture) {
			f.Samples[10].PowerW.V = 1e308
			f.Samples[11].PowerW.V = 1e308
			f.Samples[12].TimeNS = math.MaxInt64
			f.Samples[13].TimeNS = math.MinInt64
			f.Samples[14].GPU = math.MinInt64
			f.Power[10].PowerW = -1e308
			f.Counter[10].EnergyMilliJ.V = math.MaxInt64
			f.Counter[11].EnergyMilliJ.V = math.MinInt64
			f.Baseline["idle_watts_mean"] = 1e308
		}},
		{"times of events", func(f *reporttest.Fixture) {
			for i, e := range f.Events {
				e.EndNS = e.StartNS - int64(i)
			}
			f.Events[0].StartNS, f.Events[0].EndNS = math.MinInt64, math.MaxInt64
			f.Events[1].StartNS, f.Events[1].EndNS = math.MaxInt64, math.MaxInt64
			f.Events[2].EndNS = math.MaxInt64
			f.Events[3].StartNS = math.MinInt64
		}},
		{"many GPUs", func(f *reporttest.Fixture) {
			for i := range 200 {
				f.Samples = append(f.Samples, &record.Sample{TimeNS: f.Samples[399].TimeNS + int64(i), GPU: i * i, ReadOK: true})
			}
		}},
		{"not JSON", func(f *reporttest.Fixture) {
			for _, name := range []string{"trace.ndjson", "soak.ndjson", "sensor.json", "baseline.json", "generation_events.jsonl", "baseline_trace.ndjson"} {
				f.Files[name] = "{{{{\n\x00\xff\n[]\n"
			}
		}},
		{"empty", func(f *reporttest.Fixture) {
			for _, name := range []string{"trace.ndjson", "soak.ndjson", "sensor.json", "baseline.json", "generation_events.jsonl", "baseline_trace.ndjson"} {
				f.Files[name] = ""
			}
		}},
		{"other JSON", func(f *reporttest.Fixture) {
			f.Files["soak.ndjson"] = `{"record":"soak","rule":[1]}` + "\n" + `{"record":"event","t_start_ns":"x"}` + "\n"
			f.Files["sensor.json"] = `{"gpus":[{"gpu":{}}]}`
			f.Files["baseline.json"] = `{"gpus":[]}`
		}},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f := reporttest.New()
			k.change(f)
			r := mustRead(t, directory(t, f))
			if len(r.Doubts()) == 0 {
				t.Error("the run stands")
			}
			for _, c := range r.Checks {
				if c.Verdict == Pass && c.Figure == "" {
					t.Errorf("%s passes with nothing measured", c.ID)
				}
			}
			md := markdown(t, r)
			for _, line := range strings.Split(md, "\n") {
				if strings.HasPrefix(line, "# Verdict") || strings.Contains(line, "\x00") || strings.Contains(line, "<script") && !strings.Contains(line, "`a") || len(line) > 4000 {
					t.Errorf("escaped: %.200q", line)
				}
			}
			if at := notANumber.FindStringIndex(md); at != nil {
				t.Errorf("a number that is none: %.100q", md[max(0, at[0]-50):])
			}
			if data := metadataOf(t, r); !json.Valid([]byte(data)) {
				t.Error("the metadata are no JSON")
			}
			page := htmlOf(t, r)
			wellFormed(t, page)
			if strings.Contains(page, "<script") || notANumber.MatchString(shown(styles.ReplaceAllString(page, ""))) || strings.Contains(page, "ZgotmplZ") {
				t.Error("the page has a script or a number that is none")
			}
		})
	}
}

func TestSimulatedIsSaid(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*reporttest.Fixture){
		"device": func(f *reporttest.Fixture) { f.Header.Config["device"] = "sim:gpu.json" },
		"name":   func(f *reporttest.Fixture) { f.Header.GPUs[0].Name = "H200 (simulated)" },
	} {
		f := reporttest.New()
		change(f)
		md := markdown(t, mustRead(t, directory(t, f)))
		if !strings.Contains(md, "**SIMULATED DEVICE") || strings.Contains(md, "publishing") {
			t.Errorf("%s: not said", name)
		}
	}
}

func TestJudgement(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	f.Soak.State = "timeout"
	r := mustRead(t, directory(t, f))
	var b bytes.Buffer
	if err := r.Judgement(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Stands bool
		Doubts []string
		Checks []Check
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Stands || len(got.Doubts) != 1 || got.Doubts[0] != "thermal-equilibrium" || len(got.Checks) != len(checks) {
		t.Errorf("stands %v, doubts %q, %d checks", got.Stands, got.Doubts, len(got.Checks))
	}
	if r.State != "timeout" || r.EndReason != "timeout" {
		t.Errorf("run is %s by %s", r.State, r.EndReason)
	}
	if d := r.Decisions[1]; !d.Applies {
		t.Errorf("decision rule: %+v", d)
	}
}

// Checks that ask for the same thing to be done are one step.
func TestSteps(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	f.Without = []string{"generation_events.jsonl", "soak.ndjson"}
	var got []string
	for _, s := range mustRead(t, directory(t, f)).steps() {
		got = append(got, fmt.Sprintf("%d: %s", len(s.ids), strings.Join(s.reasons, "; ")))
	}
	if want := []string{"9: no generation_events.jsonl", "1: no soak.ndjson"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
}

func TestFigure(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64][2]string{
		0: {"0", "0"}, 20.7096: {"20.71", "20.71"}, 690.24: {"690.2", "690.2"}, 12345.6: {"12346", "12346"}, 0.00123456: {"0.001235", "0.001235"},
		-3.14159: {"-3.142", "-3.142"}, 1.5e-5: {"1.500e-05", "1.500e-05"}, 9.1e-13: {"0", "0"}, 2.5e9: {"2.500e+09", "2.500e+09"}, 100: {"100.0", "100"}, 37.5: {"37.50", "37.5"},
	} {
		if got := [2]string{figure(x), trimmed(x)}; got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
}
