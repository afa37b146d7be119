package energy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// board20 is a GPU whose driver's buffer has a mean of each 20 ms, told.
func board20() *sensor.Sensors {
	return &sensor.Sensors{GPUs: []sensor.GPU{{GPU: 0, Channels: map[string]*sensor.Channel{
		Driver: {
			UpdateMS: record.Some(20.0), WindowMS: record.Some(20.0), WindowCI95MS: []float64{19.8, 20.2},
			LagMS: record.Some(0.0), LagCI95MS: []float64{-0.5, 0.5}, Coverage: record.Some(1.0),
		},
		Counter: {
			UpdateMS: record.Some(100.0), WindowMS: record.Some(100.0), WindowCI95MS: []float64{99, 101},
			LagMS: record.Some(0.0), LagCI95MS: []float64{-5, 5}, Coverage: record.Some(1.0), Class: sensor.Integrator,
		},
	}}}}
}

// worked is a trace of a GPU with that power over time: the driver's buffer
// with some noise, a counter that is right by a factor, read each 20 ms, and
// samples.
func worked(seed uint64, power *sensor.Curve, until int64, factor float64, change func(*record.Sample)) (trace []record.Record) {
	rng := rand.New(rand.NewPCG(seed, 3))
	mJ, shown := 0.0, int64(0)
	for ns := 20 * ms; ns <= until; ns += 20 * ms {
		w := power.Mean(ns-20*ms, ns)
		trace = append(trace, &record.Power{TimeNS: ns, PowerW: w + 0.3*rng.NormFloat64()})
		if mJ += w * 20 * factor; ns%(100*ms) == 0 {
			shown = int64(mJ)
		}
		trace = append(trace, &record.Counter{BeforeNS: ns, TimeNS: ns + ms, EnergyMilliJ: record.Some(shown)})
		if ns%(100*ms) == 0 {
			s := &record.Sample{TimeNS: ns, ReadOK: true, SMClockMHz: record.Some[int64](1980)}
			if change != nil {
				change(s)
			}
			trace = append(trace, s)
		}
	}
	return trace
}

// bursts are n events of that phase, each long, from one second on, a gap
// apart, at watts above 60 W of idle, and the power of it all.
func bursts(n int, phase string, long, gap int64, watts float64) (events []record.Record, power *sensor.Curve, until int64) {
	power = &sensor.Curve{}
	now := 1000*ms + 7*ms
	power.Until(0, 60)
	power.Until(now, 60)
	for i := range n {
		e := event(fmt.Sprint(phase, i), now, now+long)
		e.Phase = phase
		events = append(events, e)
		now += long
		power.Until(now, watts)
		now += gap + int64(i%7)*ms
		power.Until(now, 60)
	}
	now += 1000 * ms
	power.Until(now+1000*ms, 60)
	return events, power, now
}

func TestRequestsShareThePower(t *testing.T) {
	t.Parallel()
	power := &sensor.Curve{}
	power.Until(0, 60)
	power.Until(1000*ms, 60)
	power.Until(3000*ms, 300)
	power.Until(6000*ms, 60)
	request := func(id string, from, until, tokens int64) *record.Event {
		e := event(id, from, until)
		e.RequestID, e.OutputTokens = id, record.Some(tokens)
		return e
	}
	// a runs from 1 to 3 s, b from 2 to 3 s with twice a's tokens a second; w is
	// a window around both.
	events := []record.Record{
		event("w", 1000*ms, 3000*ms), request("a", 1000*ms, 3000*ms, 200), request("b", 2000*ms, 3000*ms, 200),
	}
	for split, want := range map[string][2]float64{
		SplitTokens: {300 + 100, 200},
		SplitEqual:  {300 + 150, 150},
		SplitTime:   {300 + 200, 100},
	} {
		got, _ := run(t, Options{Sensors: board20(), Split: split}, worked(1, power, 5000*ms, 1, nil), slices.Clone(events))
		a, b, w := got["a"].Energy, got["b"].Energy, got["w"].Energy
		if math.Abs(a.Joules.V-want[0]) > 2 || math.Abs(b.Joules.V-want[1]) > 2 {
			t.Errorf("%s: a has %.1f J, b %.1f J, want %.0f and %.0f", split, a.Joules.V, b.Joules.V, want[0], want[1])
		}
		if sum := a.Joules.V + b.Joules.V; !near(sum, w.Joules.V, 1e-12) {
			t.Errorf("%s: the parts add up to %v J, the window has %v J", split, sum, w.Joules.V)
		}
		if a.SharedWith.V != 1 || b.SharedWith.V != 1 || w.SharedWith.OK {
			t.Errorf("%s: shared with %v, %v, %v others, want 1, 1 and none told", split, a.SharedWith, b.SharedWith, w.SharedWith)
		}
	}
	// What all readings come to is no evidence against the part of one.
	got, _ := run(t, Options{Sensors: board20()}, worked(1, power, 5000*ms, 1, nil), []record.Record{
		request("a", 1000*ms, 3000*ms, 100), request("b", 1000*ms, 3000*ms, 900),
	})
	for _, id := range []string{"a", "b"} {
		if e := got[id].Energy; strings.Contains(strings.Join(e.Reasons, ";"), "the readings as they are") {
			t.Errorf("%s: %v", id, e.Reasons)
		}
	}
	if _, err := New(Options{Split: "fairly"}, nil); err == nil {
		t.Error("an unknown split is taken")
	}
}

func TestWhyItIsNoBetter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		long   int64
		factor float64
		change func(*record.Sample)
		tier   string
		reason string
	}{
		"nothing":           {2000 * ms, 1, nil, Billable, ""},
		"short":             {300 * ms, 1, nil, Analysis, "billable needs more than 1 s"},
		"a lying counter":   {2000 * ms, 0.5, nil, Estimate, "the energy counter says"},
		"a GPU that is off": {2000 * ms, 1, func(s *record.Sample) { s.ReadOK, s.Error = s.TimeNS%(700*ms) != 0, "GPU_IS_LOST" }, Billable, "reads failed (GPU_IS_LOST)"},
		"a falling clock":   {2000 * ms, 1, func(s *record.Sample) { s.SMClockMHz.V -= s.TimeNS % (500 * ms) / ms * 2 }, Billable, "the SM clock was between"},
		"throttling":        {2000 * ms, 1, func(s *record.Sample) { s.ThrottleReasons = record.Some[uint64](4) }, Billable, "software power cap"},
	} {
		events, power, until := bursts(8, "decode", c.long, 800*ms, 300)
		got, _ := run(t, Options{Sensors: board20()}, worked(2, power, until, c.factor, c.change), events)
		e := got["decode3"].Energy
		want := 300 * float64(c.long) / 1e9
		if !e.Joules.OK || math.Abs(e.Joules.V-want) > max(2, 2*e.CI95J.V) {
			t.Errorf("%s: %v J ± %v, want %v", name, e.Joules, e.CI95J, want)
		}
		if e.Tier != c.tier || !strings.Contains(strings.Join(e.Reasons, "; "), c.reason) {
			t.Errorf("%s: %s because of %q, want %s because of %q", name, e.Tier, e.Reasons, c.tier, c.reason)
		}
	}
}

// TestWitnesses is the run's two witnesses, and what each verdict rests on.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	events, power, until := bursts(5, "decode", 2000*ms, 800*ms, 300)
	for factor, verdict := range map[float64]string{1: Agree, 1.01: Agree, 0.5: Disagree, 1.2: Disagree} {
		a, err := New(Options{Sensors: board20()}, func(*record.Event) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Join(&list{records: worked(5, power, until, factor, nil)}, &list{records: slices.Clone(events)}); err != nil {
			t.Fatal(err)
		}
		all := a.Agreements()
		if len(all) != 1 || all[0].Verdict != verdict || math.Abs(all[0].Ratio.V*factor-1) > 0.01 {
			t.Errorf("a counter of %g times the truth: %d verdicts, %+v, want %s", factor, len(all), all[0], verdict)
		}
	}
}

// TestDelayIsFound: a channel that is later than its response says is found to
// be, by the events' edges.
func TestDelayIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, late := range []int64{-8, 0, 12} {
		events, power, until := bursts(30, "prefill", 150*ms, 700*ms, 400)
		s := board20()
		s.GPUs[0].Channels[Driver].LagCI95MS = []float64{-20, 20}
		trace := worked(7, power, until, 1, nil)
		for _, r := range trace {
			if p, ok := r.(*record.Power); ok {
				p.TimeNS += late * ms
			}
		}
		got, _ := run(t, Options{Sensors: s}, trace, events)
		for i := 3; i < 30; i += 7 {
			e := got[fmt.Sprint("prefill", i)].Energy
			if math.Abs(e.Joules.V-60) > 1.5 {
				t.Errorf("%d ms late: %.2f J, want 60", late, e.Joules.V)
			}
		}
	}
}

// TestKindsHelp: events of 3 ms that a reading holds hardly anything of have
// their kind's mean, and say so.
func TestKindsHelp(t *testing.T) {
	t.Parallel()
	events, power, until := bursts(200, "prefill", 3*ms, 150*ms, 660)
	got, a := run(t, Options{Sensors: board20()}, worked(11, power, until, 1, nil), events)
	told := 0
	for _, e := range got {
		j, ok := e.Energy.Joules.Get()
		if !ok {
			continue
		}
		told++
		if math.Abs(j-1.98) > max(e.Energy.CI95J.V*2, 0.05) {
			t.Errorf("%s: %.3f ± %.3f J, want 1.98", e.ID, j, e.Energy.CI95J.V)
		}
	}
	if told == 0 {
		t.Log("none of 200 events of 3 ms has an energy of its own")
	}
	for _, s := range a.Summaries() {
		if m, ok := s.EnergyMeanJ.Get(); ok && s.Phase == "prefill" && math.Abs(m-1.98) > 0.1 {
			t.Errorf("mean %.3f J, want 1.98", m)
		}
	}
}

func TestTicker(t *testing.T) {
	t.Parallel()
	// A channel updated each 100 ms, 37 ms after the full, read each 23 ms: once
	// some updates are seen their times are known far better than by one bracket.
	var c ticker
	c.period = 100e6
	update := func(ns int64) int64 { return (ns - 37*ms) / (100 * ms) }
	c.begin(0)
	worst, n := 0.0, 0
	for ns := 23 * ms; ns < 20_000*ms; ns += 23 * ms {
		made, off, fresh := c.look(ns-23*ms, ns, update(ns) != update(ns-23*ms))
		if !fresh || ns < 5000*ms {
			continue
		}
		n++
		worst = max(worst, math.Abs(float64(made-(update(ns)*100*ms+37*ms))), off)
	}
	if n < 140 || worst > 3e6 {
		t.Errorf("%d updates, off by %.1f ms at worst, want 150 within 3", n, worst/1e6)
	}
	// One that never changes is taken as made anew each period.
	c = ticker{period: 100e6}
	c.begin(0)
	n = 0
	for ns := 50 * ms; ns <= 100_000*ms; ns += 50 * ms {
		if _, _, fresh := c.look(ns-50*ms, ns, false); fresh {
			n++
		}
	}
	if n < 900 || n > 1001 {
		t.Errorf("%d updates of a value that stands, in 1000 periods", n)
	}
}

// TestGPUsAddUp: an event on two GPUs has the joules of both, also where one of
// them is told of nothing.
func TestGPUsAddUp(t *testing.T) {
	t.Parallel()
	events, power, until := bursts(8, "decode", 1500*ms, 700*ms, 300)
	trace := worked(13, power, until, 1, nil)
	for _, r := range slices.Clone(trace) {
		switch r := r.(type) {
		case *record.Power:
			c := *r
			c.GPU, c.PowerW = 1, 2*r.PowerW
			trace = append(trace, &c)
		case *record.Sample:
			c := *r
			c.GPU = 1
			trace = append(trace, &c)
		}
	}
	slices.SortStableFunc(trace, record.Compare)
	for i, e := range events {
		e.(*record.Event).GPUs = [][]int{{0}, {1}, {0, 1}}[i%3]
	}
	got, a := run(t, Options{Sensors: board20()}, trace, events)
	for i := range events {
		e := got[fmt.Sprint("decode", i)]
		want := []float64{450, 900, 1350}[i%3]
		if j, ok := e.Energy.Joules.Get(); !ok || math.Abs(j-want) > 2*e.Energy.CI95J.V+1 {
			t.Errorf("GPUs %v: %v ± %v J, want %v", e.GPUs, e.Energy.Joules, e.Energy.CI95J, want)
		}
	}
	if all := a.Agreements(); len(all) != 2 || all[0].Verdict != Agree || all[1].Verdict != Unknown {
		t.Errorf("agreements %+v, want one that agrees and one that has no counter", all)
	}
}

// A GPU that an event names twice has its energy once.
func TestGPUNamedTwice(t *testing.T) {
	power := &sensor.Curve{}
	power.Until(0, 200)
	power.Until(5000*ms, 200)
	e := event("e", 1000*ms, 3000*ms)
	e.GPUs = []int{0, 0}
	for _, method := range []string{Auto, Driver} {
		got, _ := run(t, Options{Method: method, Sensors: board20()}, worked(1, power, 5000*ms, 1, nil), []record.Record{e})
		if j := got["e"].Energy.Joules.V; math.Abs(j-400) > 4 {
			t.Errorf("%s: %v J, want 400", method, j)
		}
	}
}

// TestIdleIsSharedAsPowerIs: what requests have above idle, and what is left of the
// time without one, adds up to the energy of all the time less idle power × time.
func TestIdleIsSharedAsPowerIs(t *testing.T) {
	t.Parallel()
	const idle, idleSE = 60, 0.5
	power := &sensor.Curve{}
	power.Until(1000*ms, idle)
	power.Until(11000*ms, 300)
	power.Until(16000*ms, idle)
	request := func(id, phase string, from, until, tokens int64) *record.Event {
		e := event(phase, from, until)
		e.RequestID, e.Phase, e.OutputTokens = id, phase, record.Some(tokens)
		return e
	}
	// a has two phases, b is beside the second of them and goes on, c comes to
	// both of them for a moment. Nothing goes on from 10 s to 12 s.
	requests := []record.Record{
		request("a", "before", 1000*ms, 2500*ms, 100), request("a", "decode", 2500*ms, 6000*ms, 300),
		request("b", "b", 3000*ms, 10000*ms, 200), request("c", "c", 5500*ms, 5650*ms, 7), request("d", "d", 12000*ms, 14000*ms, 9),
	}
	windows := []record.Record{event("idle", 10000*ms, 12000*ms), event("all", 1000*ms, 14000*ms)}
	seconds := map[string]map[string]float64{
		SplitEqual: {"before": 1.5, "decode": 0.5 + 2.85/2 + 0.15/3, "b": 2.85/2 + 0.15/3 + 4, "c": 0.05, "d": 2},
		SplitTime: {
			"before": 1.5, "decode": 0.5 + 2.85*3.5/10.5 + 0.15*3.5/10.65, "b": 2.85*7/10.5 + 0.15*7/10.65 + 4, "c": 0.15 * 0.15 / 10.65, "d": 2,
		},
		SplitTokens: nil,
	}
	for split, want := range seconds {
		o := Options{Sensors: board20(), Split: split, Idle: map[int]float64{0: idle}, IdleSE: map[int]float64{0: idleSE}}
		events := slices.Concat(requests, windows)
		slices.SortStableFunc(events, record.Compare)
		got, a := run(t, o, worked(1, power, 16000*ms, 1, nil), events)
		joules, above, charged := got["idle"].Energy.Joules.V, got["idle"].Energy.OperationalJ.V, 2.0
		for _, r := range requests {
			e := got[r.(*record.Event).ID]
			j := e.Energy
			s := j.ChargedS.Or(e.Duration())
			joules, above, charged = joules+j.Joules.V, above+j.OperationalJ.V, charged+s
			if j.ChargedS.OK != (j.SharedWith.V > 0) {
				t.Errorf("%s, %s: shared with %v, and charged with %v s", split, e.ID, j.SharedWith, j.ChargedS)
			}
			if w, ok := want[e.ID]; ok && !near(s, w, 1e-12) {
				t.Errorf("%s, %s is charged with %v s, want %v", split, e.ID, s, w)
			}
			if w := j.Joules.V - idle*s; !near(j.OperationalJ.V, w, 1e-12) {
				t.Errorf("%s, %s: %v J above idle, want %v", split, e.ID, j.OperationalJ, w)
			}
			if w := math.Hypot(j.CI95J.V, z95*idleSE*s); !near(j.OperationalCI95J.V, w, 1e-12) {
				t.Errorf("%s, %s: ± %v J above idle, want %v", split, e.ID, j.OperationalCI95J, w)
			}
		}
		whole := got["all"]
		if !near(charged, whole.Duration(), 1e-12) || !near(joules, whole.Energy.Joules.V, 1e-12) {
			t.Errorf("%s: %v s and %v J in all, of %v s and %v J", split, charged, joules, whole.Duration(), whole.Energy.Joules)
		}
		if w := whole.Energy.Joules.V - idle*whole.Duration(); !near(above, w, 1e-12) || whole.Energy.OperationalJ.V != w {
			t.Errorf("%s: %v J above idle in all, %v in the window, want %v", split, above, whole.Energy.OperationalJ, w)
		}
		w := got["before"].Energy.OperationalJ.V + got["decode"].Energy.OperationalJ.V
		if s := a.Summaries(); !slices.ContainsFunc(s, func(s *record.Summary) bool {
			return s.Phase == "request" && s.Events == 1 && near(s.OperationalTotalJ.V, w, 1e-12)
		}) {
			t.Errorf("%s: %+v, want a request of %v J above idle", split, s, w)
		}
	}
}

// Requests on several GPUs need not share each of them.
func TestIdleOfSeveralGPUsIsSharedAsPowerIs(t *testing.T) {
	t.Parallel()
	power := &sensor.Curve{}
	power.Until(1000*ms, 60)
	power.Until(5000*ms, 300)
	power.Until(8000*ms, 60)
	var trace []record.Record
	for gpu := range 2 {
		for _, r := range worked(uint64(gpu), power, 8000*ms, 1, nil) {
			switch r := r.(type) {
			case *record.Sample:
				r.GPU = gpu
			case *record.Power:
				r.GPU = gpu
			case *record.Counter:
				r.GPU = gpu
			}
			trace = append(trace, r)
		}
	}
	slices.SortStableFunc(trace, record.Compare)
	on := func(id, request string, from, until int64, gpus ...int) *record.Event {
		e := event(id, from, until)
		e.RequestID, e.GPUs = request, gpus
		return e
	}
	events := []record.Record{
		on("both", "r", 1000*ms, 5000*ms, 0, 1), on("one", "s", 2000*ms, 4000*ms, 1), on("all", "", 1000*ms, 5000*ms, 0, 1),
	}
	for name, idle := range map[string]map[int]float64{"two": {0: 50, 1: 100}, "one": {1: 100}} {
		got, _ := run(t, Options{Sensors: board20(), Split: SplitEqual, Idle: idle}, trace, slices.Clone(events))
		both, one := got["both"].Energy, got["one"].Energy
		if !near(one.ChargedS.V, 1, 1e-12) || !near(one.OperationalJ.V, one.Joules.V-100, 1e-12) {
			t.Errorf("%s: one is charged with %v s and has %v of %v J above idle", name, one.ChargedS, one.OperationalJ, one.Joules)
		}
		if name == "one" {
			if !near(both.ChargedS.V, 3.5, 1e-12) || both.OperationalJ.OK {
				t.Errorf("both are charged with %v s, want 4 s and 3 s, and have %v J above what is not known", both.ChargedS, both.OperationalJ)
			}
			continue
		}
		if !near(both.OperationalJ.V, both.Joules.V-50*4-100*3, 1e-12) || !near(both.ChargedS.V, 10./3, 1e-12) {
			t.Errorf("both are charged with %v s and have %v of %v J above idle", both.ChargedS, both.OperationalJ, both.Joules)
		}
		if sum, w := both.OperationalJ.V+one.OperationalJ.V, got["all"].Energy; !near(sum, w.OperationalJ.V, 1e-12) {
			t.Errorf("%v J above idle in all, the window has %v", sum, w.OperationalJ)
		}
	}
}
