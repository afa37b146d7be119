package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stream"
)

func judge(t *testing.T, in io.Reader, name string) *Assessment {
	t.Helper()
	return judgeBy(t, NewJudge(), in, name)
}

func judgeBy(t *testing.T, j *Judge, in io.Reader, name string) *Assessment {
	t.Helper()
	r := stream.NewReader(in, name)
	for r.Scan() {
		j.Observe(r.Record())
	}
	a, err := j.Finish()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return a
}

func text(t *testing.T, a *Assessment) string {
	t.Helper()
	var b strings.Builder
	if err := a.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// data is a file of the reference recordings, which are not part of the
// project; without them the test is skipped.
func data(t *testing.T, name ...string) *os.File {
	t.Helper()
	root := os.Getenv("JOULEPIPE_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(append([]string{root}, name...)...))
	if err != nil {
		t.Skip("no reference recordings; JOULEPIPE_DATA says where they are")
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The boards with an external meter, by what nvidia-smi showed of them.
func TestMeteredBoards(t *testing.T) {
	t.Parallel()
	seen := map[string]*Assessment{}
	for _, k := range []struct {
		board, channel string
		class          sensor.Class
		confidence     []string
		window         float64 // ms; 0: none
		update         float64 // ms
	}{
		{"rtx3090-steps", "average", sensor.Averaged, []string{Sure}, 1100, 100},
		{"rtx3090-steps", "power", sensor.Averaged, []string{Sure}, 1100, 100},
		{"rtx3090-steps", "instant", sensor.Instant, []string{Sure, Likely}, 0, 100},
		{"rtx3090-square", "average", sensor.Averaged, []string{Sure}, 1100, 100},
		{"rtx3090-square", "instant", sensor.Instant, []string{Sure, Likely}, 0, 100},
		{"a100-steps", "instant", sensor.Instant, []string{Sure, Likely}, 0, 101.2},
		{"a100-steps", "power", sensor.Instant, []string{Sure, Likely}, 0, 101.2},
	} {
		a := seen[k.board]
		if a == nil {
			j := NewJudge()
			j.brief = k.board != "a100-steps"
			a = judgeBy(t, j, data(t, "external-meter", k.board, "nvml.csv.gz"), k.board)
			seen[k.board] = a
		}
		c := a.GPUs[0].Channels[k.channel]
		if c.Class != k.class || !slices.Contains(k.confidence, c.Confidence) {
			t.Errorf("%s %s is %s (%s): %q", k.board, k.channel, c.Class, c.Confidence, c.Evidence)
		}
		if w, ok := c.WindowMS.Get(); ok != (k.window > 0) || ok && math.Abs(w-k.window) > 100 {
			t.Errorf("%s %s: window %v, want %g", k.board, k.channel, c.WindowMS, k.window)
		}
		if math.Abs(c.UpdateMS.V-k.update) > 0.2 {
			t.Errorf("%s %s: update %v, want %g", k.board, k.channel, c.UpdateMS, k.update)
		}
		partly := slices.ContainsFunc(a.GPUs[0].Warnings, func(w string) bool {
			return strings.Contains(w, "power_w repeats power_instant_w") && strings.Contains(w, "a part of the time only")
		})
		if partly != (k.board == "a100-steps") {
			t.Errorf("%s: warnings %q", k.board, a.GPUs[0].Warnings)
		}
	}
}

// TR122's kind of recording: a mean of the last second, polled at 100 ms, and
// nothing else. Its events come out as nvattrib has them.
func TestTR122(t *testing.T) {
	t.Parallel()
	dir := "../../testdata/h200/"
	open := func(name string) *os.File {
		f, err := os.Open(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a := judge(t, open("power_trace.csv.gz"), "power_trace.csv.gz")
	g := a.GPUs[0]
	if c := g.Channels["power"]; c.Class != sensor.Averaged || c.Confidence != Sure || math.Abs(c.WindowMS.V-1000) > 80 || c.UpdateMS.OK {
		t.Errorf("power: %+v", c)
	}
	if p := g.Polls; p.Reads != 4522 || math.Abs(p.PeriodMS.V-100) > 0.1 || p.Gaps != 1 || p.Dropped != 2 || p.Ticked {
		t.Errorf("polls: %+v", p)
	}
	if i := g.Idle; i.By != "utilisation" || i.Watts.V < 79 || i.Watts.V > 140 || i.CI95.V < 10 || !slices.ContainsFunc(i.Doubts, func(d string) bool { return strings.Contains(d, "more than one state") }) {
		t.Errorf("idle: %+v", i)
	}
	b := g.Billing
	if b == nil || g.Use != "power" || b.BillableS.V < 3 || b.BillableS.V > 10 || b.AnalysisS.V < 1 || b.EstimateS.V < 0.5 || b.EstimateS.V > 2 || b.Edge.V < 0.05 || b.Stretches < 20 {
		t.Fatalf("billing: %+v", b)
	}
	events := open("generation_events.jsonl")
	if err := a.Attribute(stream.NewReader(open("power_trace.csv.gz"), "trace"), stream.NewReader(events, "events")); err != nil {
		t.Fatal(err)
	}
	n := g.Tiers()
	if len(g.Events) != 48 || n[energy.Billable]+n[energy.Analysis]+n[energy.Estimate]+n[energy.Refused] != 48 || n[energy.Refused] < 24 || n[energy.Billable] < 3 {
		t.Errorf("%d events: %v", len(g.Events), n)
	}
	for _, e := range g.Events {
		if e.Seconds < 0.05 && e.Tier != energy.Refused {
			t.Errorf("%s of %g s is %s", e.ID, e.Seconds, e.Tier)
		}
	}
	out := text(t, a)
	for _, want := range []string{"GPU 0: what this recording is good for\n  events of ", "nothing, because ", "its 48 events: ", "power: averaged (sure), a mean over about 1 s", "energy counter: none"} {
		if !strings.Contains(out, want) {
			t.Errorf("the text has no %q:\n%s", want, out)
		}
	}
}

// The driver's buffer and the counter beside the same means are seen, and
// events as short as the buffer allows are good for more.
func TestNVPollTrace(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../testdata/h200/trace.ndjson.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := judge(t, f, "trace.ndjson.zst")
	g := a.GPUs[0]
	if g.Use != "driver" || g.Channels["driver"].Class != sensor.Instant || g.Channels["power"].Class != sensor.Averaged || g.Channels["instant"].Class != sensor.Instant {
		t.Errorf("use %s; driver %+v", g.Use, g.Channels["driver"])
	}
	if !a.Header || a.ClockPair || g.Name != "NVIDIA H200" || g.Counter.Readings != 22597 || g.Counter.Back != 0 || !g.Polls.Ticked {
		t.Errorf("%+v, %+v, %+v", a, g.Counter, g.Polls)
	}
	if b := g.Billing; b.BillableS.Or(99) > 2 || b.EstimateS.Or(99) > 0.2 || b.Edge.V > 0.025 {
		t.Errorf("billing %+v", b)
	}
}

// wave is a load of random levels, for lengths that seldom repeat.
func wave(seed uint64, shortest, longest float64) (*sensor.Curve, int64) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	c, ns := &sensor.Curve{}, int64(0)
	for range 40 {
		ns += int64(1e9 * (shortest + (longest-shortest)*rnd.Float64()))
		c.Until(ns, 100+400*math.Round(rnd.Float64()))
	}
	return c, ns
}

// readings are those of a sensor, polled.
func readings(m sensor.Model, c *sensor.Curve, end int64, poll time.Duration, seed uint64, show func(w float64) *record.Sample) []record.Record {
	rnd := rand.New(rand.NewPCG(seed, 5))
	var out []record.Record
	shown, at := 0.0, int64(-1)
	for ns := int64(2e9); ns < end; ns += int64(float64(poll) * (1 + 0.02*rnd.NormFloat64())) {
		if u := ns / max(1, int64(m.Update)); u != at {
			at, shown = u, math.Round(1000*(m.Reading(c, ns)+0.3*rnd.NormFloat64()))/1000
		}
		s := show(shown)
		s.TimeNS, s.ReadOK = ns, true
		out = append(out, s)
	}
	return out
}

func powerW(w float64) *record.Sample { return &record.Sample{PowerW: record.Some(w)} }

func assess(t *testing.T, records []record.Record) *GPU {
	t.Helper()
	return assessed(t, NewJudge(), records)
}

func assessed(t *testing.T, j *Judge, records []record.Record) *GPU {
	t.Helper()
	for _, r := range records {
		j.Observe(r)
	}
	a, err := j.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return a.GPUs[0]
}

// brief is assess without the trial of what could be billed.
func brief(t *testing.T, records []record.Record) *GPU {
	t.Helper()
	j := NewJudge()
	j.brief = true
	return assessed(t, j, records)
}

// A sensor of known class is never surely another, whatever it is polled at,
// and where the load steps and polls are fast enough, it is found.
func TestClasses(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	for _, k := range []struct {
		name              string
		m                 sensor.Model
		poll              time.Duration
		shortest, longest float64 // of the load's levels, s
		class             sensor.Class
		found             float64 // share of the seeds in which it must be found
	}{
		{"instant", sensor.Model{Update: 100 * ms, Window: 25 * ms, Lag: 5 * ms}, 10 * ms, 3, 6, sensor.Instant, 1},
		{"instant of its whole update", sensor.Model{Update: 100 * ms, Window: 100 * ms}, 20 * ms, 3, 6, sensor.Instant, 1},
		{"instant, polled at its own pace", sensor.Model{Update: 100 * ms, Window: 25 * ms}, 100 * ms, 3, 6, sensor.Instant, 1},
		{"instant of fast work", sensor.Model{Update: 20 * ms, Window: 20 * ms}, 5 * ms, 0.2, 1, sensor.Instant, 0.9},
		{"averaged", sensor.Model{Update: 100 * ms, Window: time.Second, Lag: 10 * ms}, 10 * ms, 3, 6, sensor.Averaged, 1},
		{"averaged, polled at its own pace", sensor.Model{Update: 100 * ms, Window: time.Second}, 100 * ms, 3, 6, sensor.Averaged, 1},
		{"averaged, of work too short to tell", sensor.Model{Update: 100 * ms, Window: time.Second}, 10 * ms, 0.1, 0.9, sensor.Averaged, 0},
		{"polled every second", sensor.Model{Update: 100 * ms, Window: time.Second}, time.Second, 3, 6, sensor.Averaged, 0},
		{"instant, polled every second", sensor.Model{Update: 100 * ms, Window: 25 * ms}, time.Second, 3, 6, sensor.Instant, 0},
	} {
		found := 0
		for seed := range seeds {
			curve, end := wave(seed, k.shortest, k.longest)
			c := brief(t, readings(k.m, curve, end, k.poll, seed, powerW)).Channels["power"]
			switch {
			case c.Class == k.class:
				found++
			case c.Class != sensor.Unknown:
				t.Errorf("%s, seed %d: called %s (%s): %q", k.name, seed, c.Class, c.Confidence, c.Evidence)
			}
			if len(c.Evidence) == 0 {
				t.Errorf("%s: %s for no reason", k.name, c.Class)
			}
		}
		if share := float64(found) / float64(seeds); share < k.found {
			t.Errorf("%s: found in %.2f of the recordings", k.name, share)
		}
	}
}

// An exponential answer, and power that does not step at all.
func TestOtherClasses(t *testing.T) {
	t.Parallel()
	series := func(power func(s float64) float64) *Channel {
		var out []record.Record
		rnd := rand.New(rand.NewPCG(1, 1))
		for i := range 6000 {
			out = append(out, &record.Sample{TimeNS: 1 + int64(i)*10e6, ReadOK: true, PowerW: record.Some(math.Round(1000*(power(float64(i/10)/10)+0.3*rnd.NormFloat64()))/1000 + float64(i/10%2)*1e-3)})
		}
		return brief(t, out).Channels["power"]
	}
	c := series(func(s float64) float64 {
		in, high := math.Mod(s, 6), math.Mod(s, 12) < 6
		answer := -math.Expm1(-in / 0.35)
		if high {
			return 100 + 300*answer
		}
		return 400 - 300*answer
	})
	if c.Class != sensor.Exponential || c.Confidence == Unknown {
		t.Errorf("exponential: %s (%s): %q", c.Class, c.Confidence, c.Evidence)
	}
	if c := series(func(s float64) float64 { return 250 + 150*math.Sin(s/4) }); c.Class != sensor.Unknown {
		t.Errorf("slow work: %s (%s): %q", c.Class, c.Confidence, c.Evidence)
	}
	if c := series(func(s float64) float64 { return 100 }); c.Class != sensor.Unknown {
		t.Errorf("idle all the time: %s (%s): %q", c.Class, c.Confidence, c.Evidence)
	}
}

// One piece of evidence is none, and what speaks against a class counts.
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		instant, averaged int
		strong            bool
		class             sensor.Class
		confidence        string
	}{
		{0, 0, false, sensor.Unknown, Unknown},
		{1, 0, false, sensor.Unknown, Unknown},
		{2, 0, false, sensor.Instant, Likely},
		{3, 0, false, sensor.Instant, Sure},
		{2, 2, false, sensor.Unknown, Unknown},
		{1, 3, false, sensor.Unknown, Unknown},
		{1, 4, false, sensor.Averaged, Likely},
		{0, 2, true, sensor.Averaged, Sure},
	} {
		c := &Channel{Class: sensor.Unknown, Confidence: Unknown, strong: k.strong, votes: map[sensor.Class]int{sensor.Instant: k.instant, sensor.Averaged: k.averaged}}
		if c.decide(); c.Class != k.class || c.Confidence != k.confidence {
			t.Errorf("%d for instant, %d for averaged: %s (%s)", k.instant, k.averaged, c.Class, c.Confidence)
		}
	}
}

// Holes, failed and impossible readings, steps back in time and of the counter.
func TestFaults(t *testing.T) {
	t.Parallel()
	var out []record.Record
	for i := range 600 {
		s := &record.Sample{TimeNS: int64(1e9) + int64(i)*100e6, ReadOK: true, PowerW: record.Some(100 + float64(i%7)*0.1)}
		switch {
		case i >= 100 && i < 110:
			continue
		case i == 200:
			s.PowerW = record.Some(0.0)
		case i == 201:
			s.PowerW = record.Some(9999.0)
		case i == 202:
			s.PowerW, s.ReadOK = record.Opt[float64]{}, false
		case i == 203:
			s.PowerW = record.Some(1.2)
		case i == 300:
			s.TimeNS -= 5e9
		}
		out = append(out, s)
	}
	for i, mJ := range []int64{10, 20, 15, 30} {
		out = append(out, &record.Counter{TimeNS: int64(i), EnergyMilliJ: record.Some(mJ)})
	}
	out = append(out, &record.SyntaxError{}, &record.Sample{TimeNS: math.MaxInt64, ReadOK: true, PowerW: record.Some(1.0)})
	j := NewJudge()
	j.brief = true
	for _, r := range out {
		j.Observe(r)
	}
	a, err := j.Finish()
	if err != nil {
		t.Fatal(err)
	}
	g := a.GPUs[0]
	if p := g.Polls; p.Gaps != 1 || math.Abs(p.MaxGapS-1.1) > 1e-9 || p.Dropped != 11 || p.Failed != 3 || p.Backwards != 1 {
		t.Errorf("polls: %+v", p)
	}
	if g.Absurd != 2 || g.Floor != 1 || g.Counter.Readings != 4 || g.Counter.Back != 1 || a.BadLines != 1 {
		t.Errorf("absurd %d, floor %d, counter %+v, bad lines %d", g.Absurd, g.Floor, g.Counter, a.BadLines)
	}
	out2 := text(t, a)
	for _, want := range []string{"2 readings are no power", "below 5 W", "3 of 589 samples have no power", "went back in time", "1 gaps", "counter went back 1 times", "11 missing (by their spacing)", "level all the time", "1 lines could not be read"} {
		if !strings.Contains(out2, want) {
			t.Errorf("the text has no %q:\n%s", want, out2)
		}
	}
	if _, err := NewJudge().Finish(); err == nil {
		t.Error("nothing is a recording")
	}
}

// Idle power is found to its interval, by utilisation and by power alone, and
// never surely.
func TestIdle(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		rnd := rand.New(rand.NewPCG(4, 4))
		var out []record.Record
		for i := range 6000 {
			s := &record.Sample{TimeNS: 1 + int64(i)*100e6, ReadOK: true, PowerW: record.Some(80 + 0.5*rnd.NormFloat64())}
			busy := i/600%2 == 1
			if busy {
				s.PowerW.V = 400 + 5*rnd.NormFloat64()
			}
			if !busy && i > 600 { // a board takes its time to come to rest
				s.PowerW.V += 25 * math.Exp(-float64(i%600)/5)
			}
			if told {
				s.UtilGPU = record.Some(int64(0))
				if busy {
					s.UtilGPU.V = 100
				}
			}
			out = append(out, s)
		}
		i := brief(t, out).Idle
		if math.Abs(i.Watts.V-80) > i.CI95.V || i.CI95.V > 0.5 || i.Share < 0.45 || i.Share > 0.5 || i.Confidence != Likely || len(i.Doubts) == 0 {
			t.Errorf("utilisation told %v: %+v", told, i)
		}
		if byPower := i.By == "power"; byPower == told {
			t.Errorf("by %s", i.By)
		}
	}
}

// A log of nvidia-smi as it is.
func TestNvidiaSMI(t *testing.T) {
	t.Parallel()
	curve, end := wave(3, 3, 6)
	m := sensor.Model{Update: 100 * time.Millisecond, Window: time.Second}
	var b strings.Builder
	b.WriteString("timestamp, index, power.draw [W], utilization.gpu [%]\n")
	for _, r := range readings(m, curve, end, 50*time.Millisecond, 3, powerW) {
		s := r.(*record.Sample)
		use := 0
		if s.PowerW.V > 200 {
			use = 97
		}
		fmt.Fprintf(&b, "%s, 0, %.2f W, %d %%\n", time.Unix(1.7e9, s.TimeNS).UTC().Format("2006/01/02 15:04:05.000"), s.PowerW.V, use)
	}
	j := NewJudge()
	j.brief = true
	a := judgeBy(t, j, strings.NewReader(b.String()), "log.csv")
	g := a.GPUs[0]
	if c := g.Channels["power"]; c.Class != sensor.Averaged || math.Abs(g.Polls.PeriodMS.V-50) > 1 || g.Polls.GrainMS.V != 1 || a.BadLines > 0 || g.Idle.By != "utilisation" {
		t.Errorf("%+v, %+v, %+v", c, g.Polls, g.Idle)
	}
}

// The trial is as hard on short events as the sensor is: a mean over a second
// that is polled each second has nothing for a short event, a fast buffer has.
// No tier is better than what the trial was off by.
func TestBilling(t *testing.T) {
	t.Parallel()
	curve, end := wave(5, 3, 6)
	ms := time.Millisecond
	slow := assess(t, readings(sensor.Model{Update: 100 * ms, Window: time.Second}, curve, end, time.Second, 1, powerW))
	mean := assess(t, readings(sensor.Model{Update: 100 * ms, Window: time.Second}, curve, end, 50*ms, 1, powerW))
	fast := assess(t, readings(sensor.Model{Update: 100 * ms, Window: 25 * ms}, curve, end, 25*ms, 1, func(w float64) *record.Sample { return &record.Sample{PowerInstantW: record.Some(w)} }))
	if s, m, f := slow.Billing.EstimateS.Or(99), mean.Billing.EstimateS.Or(99), fast.Billing.EstimateS.Or(99); !(s > m && s > f && s >= 1 && m <= 0.4 && f <= 0.4) {
		t.Errorf("estimates from %g s (polled each second), %g s (mean over a second), %g s (instant) on", s, m, f)
	}
	for _, g := range []*GPU{slow, mean, fast} {
		last := 0.0
		for _, r := range g.Billing.Rungs {
			if r.Seconds <= last || r.Events == 0 {
				t.Errorf("rung %+v", r)
			}
			last = r.Seconds
			if r.Error.OK && slices.Index(tiers, r.Tier) > slices.Index(tiers, offBy(r.Error.V)) {
				t.Errorf("%g s is %s, and off by %.3f", r.Seconds, r.Tier, r.Error.V)
			}
			if r.Tier == energy.Refused && r.Why == "" {
				t.Errorf("%g s is refused for no reason", r.Seconds)
			}
		}
	}
	few := assess(t, readings(sensor.Model{Update: 100 * ms, Window: time.Second}, curve, 3e9, 200*ms, 1, powerW))
	if few.Billing != nil {
		t.Errorf("%d readings: %+v", few.Polls.Reads, few.Billing)
	}
}

// Whatever comes in, what goes out is JSON and text without a number that is
// none.
func FuzzJudge(f *testing.F) {
	var b strings.Builder
	b.WriteString("t_ns,power_w,util_gpu\n")
	for i := range 60 {
		fmt.Fprintf(&b, "%d,%d,%d\n", i*100_000_000, 100+300*(i/20%2), 100*(i/20%2))
	}
	f.Add([]byte(b.String()))
	f.Add([]byte("t_ns,power_w\n1,2\n"))
	f.Add([]byte("timestamp, power.draw [W]\n2026/01/02 03:04:05.678, 126.96 W\n"))
	f.Add([]byte(`{"t_ns":1,"power_w":1e308}` + "\n" + `{"t_ns":9223372036854775807,"power_w":-1}` + "\n"))
	f.Add([]byte(`{"record":"power","t_ns":5,"power_w":7,"gpu":3}` + "\n" + `{"record":"counter","t_ns":6,"t_before_ns":5,"energy_mj":-4}` + "\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		j := NewJudge()
		r := stream.NewReader(bytes.NewReader(input), "")
		for r.Scan() {
			j.Observe(r.Record())
		}
		a, err := j.Finish()
		if err != nil {
			return
		}
		if _, err := json.Marshal(a); err != nil {
			t.Fatal(err)
		}
		if out := text(t, a); strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
			t.Fatal(out)
		}
	})
}
