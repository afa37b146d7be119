package energy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// list is a stream.Reader over records in memory.
type list struct {
	records []record.Record
	at      int
}

func (l *list) Scan() bool            { l.at++; return l.at <= len(l.records) }
func (l *list) Record() record.Record { return l.records[l.at-1] }
func (l *list) Err() error            { return nil }

func run(t testing.TB, opts Options, trace, events []record.Record) (map[string]record.Event, *Attributor) {
	t.Helper()
	out := map[string]record.Event{}
	a, err := New(opts, func(e *record.Event) error {
		out[e.ID] = *e.Clone()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Join(&list{records: trace}, &list{records: events}); err != nil {
		t.Fatal(err)
	}
	return out, a
}

func sample(ns int64, w float64) *record.Sample {
	return &record.Sample{TimeNS: ns, ReadOK: true, PowerW: record.Some(w), PowerInstantW: record.Some(w)}
}

func event(id string, from, to int64) *record.Event {
	return &record.Event{ID: id, StartNS: from, EndNS: to}
}

const ms = int64(1e6)

// near asks for relative agreement.
func near(got, want, rel float64) bool {
	return math.Abs(got-want) <= rel*math.Max(math.Abs(got), math.Abs(want))
}

// rational is TR122's rule by rational arithmetic over a list: the trapezoid
// between neighbouring samples inside, spacings to the event's ends included.
func rational(samples []*record.Sample, e *record.Event, idle, gap float64) (n int, joules, operational, clamped, gapS, widest *big.Rat) {
	r := func(v float64) *big.Rat { return new(big.Rat).SetFloat64(v) }
	s := func(ns int64) *big.Rat { return big.NewRat(ns, 1e9) }
	joules, clamped, gapS, widest = new(big.Rat), new(big.Rat), new(big.Rat), new(big.Rat)
	over := func(v float64) *big.Rat {
		d := new(big.Rat).Sub(r(v), r(idle))
		if d.Sign() < 0 {
			return new(big.Rat)
		}
		return d
	}
	spacing := func(d *big.Rat) {
		if d.Cmp(r(gap)) > 0 {
			gapS.Add(gapS, d)
		}
		if d.Cmp(widest) > 0 {
			widest = d
		}
	}
	half := big.NewRat(1, 2)
	var last *record.Sample
	for _, x := range samples {
		if !x.ReadOK || x.TimeNS < e.StartNS || x.TimeNS > e.EndNS {
			continue
		}
		n++
		if last == nil {
			spacing(s(x.TimeNS - e.StartNS))
		} else {
			dt := s(x.TimeNS - last.TimeNS)
			spacing(dt)
			add := func(to, a, b *big.Rat) {
				v := new(big.Rat).Add(a, b)
				to.Add(to, v.Mul(v.Mul(v, half), dt))
			}
			add(joules, r(last.PowerW.V), r(x.PowerW.V))
			add(clamped, over(last.PowerW.V), over(x.PowerW.V))
		}
		last = x
	}
	if last == nil {
		spacing(s(e.EndNS - e.StartNS))
	} else {
		spacing(s(e.EndNS - last.TimeNS))
	}
	operational = new(big.Rat).Sub(joules, new(big.Rat).Mul(r(idle), s(e.EndNS-e.StartNS)))
	return
}

func TestTR122AgreesWithRationalArithmetic(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	const idle = 20.709
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var trace, events []record.Record
		var samples []*record.Sample
		now := int64(1e12)
		for range 600 {
			switch rng.IntN(25) {
			case 0:
				now += rng.Int64N(900 * ms)
			default:
				now += 90*ms + rng.Int64N(20*ms)
			}
			s := sample(now, float64(rng.IntN(150000))/1000)
			s.ReadOK = rng.IntN(20) > 0
			samples = append(samples, s)
			trace = append(trace, s)
		}
		for i := range 80 {
			from := samples[rng.IntN(len(samples))].TimeNS
			if rng.IntN(3) > 0 {
				from -= rng.Int64N(200 * ms)
			}
			to := from + rng.Int64N(3000*ms)
			if rng.IntN(5) == 0 {
				to = samples[rng.IntN(len(samples))].TimeNS
			}
			if to < from {
				from, to = to, from
			}
			events = append(events, event(fmt.Sprint(i), from, to))
		}
		got, _ := run(t, Options{Method: TR122, Idle: map[int]float64{0: idle}}, trace, events)
		if len(got) != len(events) {
			t.Fatalf("seed %d: %d events came out of %d", seed, len(got), len(events))
		}
		for _, r := range events {
			e := r.(*record.Event)
			g := got[e.ID].Energy
			n, joules, operational, clamped, gapS, widest := rational(samples, e, idle, 0.25)
			if g.PowerSamples != int64(n) {
				t.Fatalf("seed %d event %s: %d samples, want %d", seed, e.ID, g.PowerSamples, n)
			}
			f := func(r *big.Rat) float64 { v, _ := r.Float64(); return v }
			if d := e.Duration(); d > 0 && !near(g.GapFraction.V, f(gapS)/d, 1e-12) {
				t.Errorf("seed %d event %s: gap fraction %v, want %v", seed, e.ID, g.GapFraction.V, f(gapS)/d)
			}
			if !near(g.MaxGapS.V, f(widest), 1e-12) {
				t.Errorf("seed %d event %s: longest spacing %v, want %v", seed, e.ID, g.MaxGapS.V, f(widest))
			}
			if g.Joules.OK != (n >= 2) {
				t.Fatalf("seed %d event %s: joules %v with %d samples", seed, e.ID, g.Joules, n)
			}
			if n < 2 {
				continue
			}
			for _, c := range []struct {
				name      string
				got, want float64
			}{
				{"energy", g.Joules.V, f(joules)},
				{"clamped", g.OperationalClamped.V, f(clamped)},
			} {
				if !near(c.got, c.want, 1e-12) {
					t.Errorf("seed %d event %s: %s %v, want %v", seed, e.ID, c.name, c.got, c.want)
				}
			}
			// A difference of nearly equal numbers is compared by their size.
			if math.Abs(g.OperationalJ.V-f(operational)) > 1e-12*f(joules) {
				t.Errorf("seed %d event %s: operational %v, want %v", seed, e.ID, g.OperationalJ.V, f(operational))
			}
		}
	}
}

// TestFarIntoALongTrace is why curves keep their total in two parts.
func TestFarIntoALongTrace(t *testing.T) {
	t.Parallel()
	c := newCurve(DefaultRules(), 0, false)
	c.begin(0, 700)
	c.at.joules = sum{hi: 1e12 / 3}
	p := &pending{progress: progress{left: 1}}
	s := &span{startNS: 1000 * ms, endNS: 1011 * ms, event: p}
	c.watch(s)
	for i := int64(1); i < 300; i++ {
		c.extend(i*7*ms, 123.456, 123.456, true)
	}
	want := 123.456 * 0.011
	if got := s.end.joules.minus(s.start.joules); !near(got, want, 1e-13) {
		t.Errorf("energy of a short event after 3e11 J = %.17g, want %.17g", got, want)
	}
}

func TestEnergyIsAdditive(t *testing.T) {
	t.Parallel()
	for _, method := range []string{Instant, Average, PowerUse, Driver, Counter} {
		rng := rand.New(rand.NewPCG(7, 7))
		var trace, events []record.Record
		now, mJ := int64(0), int64(5000)
		for i := range 4000 {
			now += 15*ms + rng.Int64N(10*ms)
			w := 100 + 500*float64(rng.IntN(2))
			if i%5 == 0 {
				mJ += rng.Int64N(60000)
			}
			trace = append(trace, sample(now, w), &record.Power{TimeNS: now, PowerW: w},
				&record.Counter{BeforeNS: now, TimeNS: now + 3*ms, EnergyMilliJ: record.Some(mJ)})
		}
		cuts := []int64{1000 * ms, 2500 * ms, 2501 * ms, 9000*ms + 7, 40000 * ms}
		for i, from := range cuts {
			for j, to := range cuts[i+1:] {
				events = append(events, event(fmt.Sprintf("%d-%d", i, i+1+j), from, to))
			}
		}
		got, a := run(t, Options{Method: method}, trace, events)
		whole := got["0-4"].Energy.Joules.V
		parts := 0.0
		for i := range 4 {
			e := got[fmt.Sprintf("%d-%d", i, i+1)]
			if i == 1 { // one millisecond: no readings, so no number; the rest of the pair instead
				parts += got["1-3"].Energy.Joules.V - got["2-3"].Energy.Joules.V
				if e.Energy.Joules.OK || e.Energy.Quality != NoData {
					t.Errorf("%s: a 1 ms event has %v J", method, e.Energy.Joules)
				}
				continue
			}
			parts += e.Energy.Joules.V
		}
		if whole < 1000 || !near(whole, parts, 1e-12) {
			t.Errorf("%s: whole %v J, parts %v J", method, whole, parts)
		}
		if a.Disordered() != 0 {
			t.Errorf("%s: %d readings out of order", method, a.Disordered())
		}
	}
}

// TestCounterFindsTheStep drives a counter that ticks every 100 ms with a load
// of known edges: the tick that holds an edge is divided where it must be.
func TestCounterFindsTheStep(t *testing.T) {
	t.Parallel()
	const low, high = 124.0, 665.0
	exact := func(ns int64) float64 { // joules at ns; high from 5.037 s to 8.061 s
		s := float64(ns) / 1e9
		return low*s + (high-low)*(math.Max(0, s-5.037)-math.Max(0, s-8.061))
	}
	var trace []record.Record
	for ns := int64(0); ns < 12_000*ms; ns += 20 * ms {
		tickNS := ns / (100 * ms) * (100 * ms) // last tick
		trace = append(trace, &record.Counter{BeforeNS: ns + 5*ms, TimeNS: ns + 15*ms, EnergyMilliJ: record.Some(int64(math.Round(exact(tickNS) * 1000)))})
	}
	events := []record.Record{
		event("before", 2_000*ms, 5_037*ms), event("high", 5_037*ms, 8_061*ms), event("after", 8_061*ms, 11_000*ms),
	}
	got, _ := run(t, Options{Method: Counter}, trace, events)
	for _, r := range events {
		e := r.(*record.Event)
		want := exact(e.EndNS) - exact(e.StartNS)
		j := got[e.ID].Energy
		if !near(j.Joules.V, want, 1e-3) {
			t.Errorf("%s: %v J, want %v", e.ID, j.Joules.V, want)
		}
		if j.Tier != Billable {
			t.Errorf("%s: tier %s, want billable", e.ID, j.Tier)
		}
	}
}

// A counter that is read once a second shows values of up to a tick before: its
// energies are off by half a tick at an event's edges, not by half a second.
func TestCounterReadSlowly(t *testing.T) {
	t.Parallel()
	const low, high = 124.0, 665.0
	exact := func(ns int64) float64 { // joules at ns; high from 10 s to 20 s
		s := float64(ns) / 1e9
		return low*s + (high-low)*(math.Max(0, s-10)-math.Max(0, s-20))
	}
	for _, phase := range []int64{3, 37, 95} { // ms from a tick to the read
		var trace []record.Record
		for ns := phase * ms; ns < 30_000*ms; ns += 1000 * ms {
			tickNS := ns / (100 * ms) * (100 * ms)
			trace = append(trace, &record.Counter{BeforeNS: ns - ms, TimeNS: ns + ms, EnergyMilliJ: record.Some(int64(math.Round(exact(tickNS) * 1000)))})
		}
		events := []record.Record{event("all", 3_000*ms, 27_000*ms), event("inside", 12_000*ms, 18_000*ms), event("high", 10_000*ms, 20_000*ms)}
		got, _ := run(t, Options{Method: Counter}, trace, events)
		for _, r := range events {
			e := r.(*record.Event)
			want := exact(e.EndNS) - exact(e.StartNS)
			if j := got[e.ID].Energy.Joules; math.Abs(j.V-want) > 2*0.05*(high-low)+0.001*want {
				t.Errorf("%s, read %d ms after a tick: %v J, want %v", e.ID, phase, j, want)
			}
		}
	}
}

// A counter misses nothing between its readings: what makes holes of an event is
// how much of it lies outside of them.
func TestCounterHolesAreAtTheEdges(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for ns := int64(0); ns < 60_000*ms; ns += 1000 * ms {
		if ns > 20_000*ms && ns < 35_000*ms {
			continue
		}
		trace = append(trace, &record.Counter{BeforeNS: ns - ms, TimeNS: ns + ms, EnergyMilliJ: record.Some(ns / ms * 200)})
	}
	got, _ := run(t, Options{Method: Counter}, trace, []record.Record{
		event("long", 1_500*ms, 19_500*ms), event("over the hole", 2_100*ms, 50_100*ms), event("ends in it", 10_100*ms, 30_000*ms), event("short", 40_500*ms, 43_500*ms),
	})
	for id, want := range map[string]struct {
		quality, tier string
		fraction      float64
	}{
		"long": {Good, Estimate, 1.0 / 18}, "over the hole": {Good, Billable, 0.9 / 48}, "ends in it": {Gappy, Refused, 10.9 / 19.9}, "short": {Gappy, Refused, 1.0 / 3},
	} {
		e := got[id].Energy
		// A reading is half a tick old.
		if e.Quality != want.quality || e.Tier != want.tier || !near(e.GapFraction.V, want.fraction, 0.1) {
			t.Errorf("%s: %s, %s, %.4f in gaps (%q), want %+v", id, e.Quality, e.Tier, e.GapFraction.V, e.Reasons, want)
		}
	}
}

func TestCounterReset(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for i := range int64(400) {
		mJ := 1e6 + 10000*(i/5)
		if i >= 200 {
			mJ = 10000 * ((i - 200) / 5)
		}
		trace = append(trace, &record.Counter{BeforeNS: i * 20 * ms, TimeNS: i*20*ms + 3*ms, EnergyMilliJ: record.Some(mJ)})
	}
	got, _ := run(t, Options{Method: Counter}, trace, []record.Record{
		event("before", 500*ms, 3000*ms), event("across", 3000*ms, 5000*ms), event("after", 5000*ms, 7000*ms),
	})
	for id, want := range map[string]float64{"before": 250, "after": 200} {
		if j := got[id].Energy.Joules; !near(j.V, want, 1e-9) {
			t.Errorf("%s: %v J, want %v", id, j.V, want)
		}
	}
	e := got["across"].Energy
	if e.Joules.OK || e.Tier != Refused || !strings.Contains(strings.Join(e.Reasons, " "), "reset") {
		t.Errorf("across the reset: %+v, want no joules and the reason", e)
	}
}

func TestGates(t *testing.T) {
	t.Parallel()
	every := func(from, to, step int64) (trace []record.Record) {
		for ns := from; ns <= to; ns += step {
			trace = append(trace, sample(ns, 100))
		}
		return trace
	}
	grid := every(0, 20_000*ms, 100*ms)
	hole := slices.DeleteFunc(slices.Clone(grid), func(r record.Record) bool {
		ns, _ := r.When()
		return ns > 5_000*ms && ns < 5_300*ms
	})
	big := slices.DeleteFunc(slices.Clone(grid), func(r record.Record) bool {
		ns, _ := r.When()
		return ns > 5_000*ms && ns < 5_600*ms
	})
	for _, c := range []struct {
		name          string
		trace         []record.Record
		from, to      int64
		method        string
		quality, tier string
		samples       int64
	}{
		{"nothing inside", grid, 110 * ms, 190 * ms, TR122, NoData, Refused, 0},
		{"one inside", grid, 90 * ms, 110 * ms, TR122, NoData, Refused, 1},
		{"edges count", grid, 100 * ms, 200 * ms, TR122, Gappy, Estimate, 2},
		{"three", grid, 100 * ms, 300 * ms, TR122, Good, Estimate, 3},
		{"long", grid, 1_000 * ms, 2_100 * ms, TR122, Good, Billable, 12},
		{"exactly a second", grid, 1_000 * ms, 2_000 * ms, TR122, Good, Estimate, 11},
		{"gap of 15 %", hole, 4_000 * ms, 6_000 * ms, TR122, Gappy, Refused, 19},
		{"gap of 4 %", hole, 4_000 * ms, 11_500 * ms, TR122, Good, Billable, 74},
		{"gap of 6 %", hole, 4_000 * ms, 9_000 * ms, TR122, Good, Estimate, 49},
		{"a hole beyond half a second", big, 4_000 * ms, 19_000 * ms, TR122, Gappy, Billable, 146},
		{"no length", grid, 100 * ms, 100 * ms, TR122, NoData, Refused, 1},
		{"averaged and short", grid, 1_000 * ms, 4_000 * ms, Average, Good, Estimate, 31},
		{"averaged and long", grid, 1_000 * ms, 7_000 * ms, Average, Good, Billable, 61},
	} {
		got, _ := run(t, Options{Method: c.method}, c.trace, []record.Record{event("e", c.from, c.to)})
		e := got["e"].Energy
		if e.Quality != c.quality || e.Tier != c.tier || e.PowerSamples != c.samples {
			t.Errorf("%s: %s, %s, %d samples; want %s, %s, %d", c.name, e.Quality, e.Tier, e.PowerSamples, c.quality, c.tier, c.samples)
		}
		if e.Joules.OK == (c.quality == NoData) {
			t.Errorf("%s: joules %v with quality %s", c.name, e.Joules, e.Quality)
		}
		if c.tier != Billable && c.tier != Estimate && len(e.Reasons) == 0 {
			t.Errorf("%s: %s without a reason", c.name, c.tier)
		}
	}
}

func TestEventsBeyondTheTrace(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for ns := 10_000 * ms; ns <= 20_000*ms; ns += 100 * ms {
		trace = append(trace, sample(ns, 100))
	}
	got, _ := run(t, Options{Method: PowerUse}, trace, []record.Record{
		event("held at the start", 9_900*ms, 12_000*ms),
		event("held at the end", 18_000*ms, 20_100*ms),
		event("begins too early", 9_000*ms, 12_000*ms),
		event("ends too late", 18_000*ms, 21_000*ms),
		event("before", 1*ms, 2*ms),
		event("after", 30_000*ms, 31_000*ms),
	})
	for _, id := range []string{"held at the start", "held at the end"} {
		if j := got[id].Energy.Joules; !near(j.V, 210, 1e-9) {
			t.Errorf("%s: %v J, want 210", id, j)
		}
	}
	for _, id := range []string{"begins too early", "ends too late", "before", "after"} {
		e := got[id].Energy
		if e.Joules.OK || e.Tier != Refused || len(e.Reasons) != 1 {
			t.Errorf("%s: %+v, want refused with one reason", id, e)
		}
	}
}

func TestAutoTakesTheBestThereIs(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	mJ := int64(0)
	for i := range int64(500) {
		ns := i * 20 * ms
		s := sample(ns, 100)
		if i < 400 {
			mJ += 2000
		}
		trace = append(trace, s, &record.Counter{BeforeNS: ns, TimeNS: ns, EnergyMilliJ: record.Some(mJ)})
		if i < 200 {
			trace = append(trace, &record.Power{TimeNS: ns, PowerW: 100})
		}
	}
	got, _ := run(t, Options{}, trace, []record.Record{
		event("all", 1_000*ms, 2_000*ms), event("no buffer", 5_000*ms, 6_000*ms), event("no counter either", 8_500*ms, 9_500*ms),
	})
	for id, want := range map[string]string{"all": "auto:driver+counter", "no buffer": "auto:counter+instant", "no counter either": "auto:instant+average"} {
		e := got[id].Energy
		if e.Method != want || !near(e.Joules.V, 100, 1e-6) {
			t.Errorf("%s: %v J by %s, want 100 by %s", id, e.Joules, e.Method, want)
		}
	}
}

// TestAbsentChannelHoldsNothingBack is what keeps auto in constant memory on a
// trace that has only one of the channels: it holds two batches, the one that is
// solved and the next, and no more.
func TestAbsentChannelHoldsNothingBack(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	a, err := New(Options{}, func(e *record.Event) error {
		if e.Energy.Method != "auto:average" || !(math.Abs(e.Energy.Joules.V-50) <= e.Energy.CI95J.V) {
			t.Fatalf("%s at %d: %v J by %s, want 50 by auto:average: %q", e.ID, e.StartNS/ms, e.Energy.Joules, e.Energy.Method, e.Energy.Reasons)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(46_000) {
		ns := i * 100 * ms
		if i%10 == 0 {
			if err := a.Event(event("e", ns+10*ms, ns+510*ms)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Observe(sample(ns, 100)); err != nil {
			t.Fatal(err)
		}
		held := len(a.open)
		for _, c := range a.only.channels {
			held = max(held, len(c.line().starts), len(c.line().ends))
		}
		if held > maxHeld+100 {
			t.Fatalf("%d events are held after %d samples", held, i)
		}
	}
	if err := a.Finish(); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralGPUsAddUp(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for ns := int64(0); ns < 5_000*ms; ns += 100 * ms {
		for g := range 3 {
			s := sample(ns, float64(100*(g+1)))
			s.GPU = g
			trace = append(trace, s)
		}
	}
	both := event("both", 1_000*ms, 3_000*ms)
	both.GPUs = []int{0, 2}
	two := event("two", 1_000*ms, 3_000*ms)
	two.GPUs = []int{1}
	lost := event("lost", 1_000*ms, 3_000*ms)
	lost.GPUs = []int{0, 7}
	got, _ := run(t, Options{Method: PowerUse, Idle: map[int]float64{0: 10, 2: 30}}, trace, []record.Record{both, two, lost})
	if e := got["both"].Energy; !near(e.Joules.V, 800, 1e-9) || !near(e.OperationalJ.V, 720, 1e-9) {
		t.Errorf("both: %v J, %v J above idle; want 800, 720", e.Joules, e.OperationalJ)
	}
	if e := got["two"].Energy; !near(e.Joules.V, 400, 1e-9) || e.OperationalJ.OK {
		t.Errorf("two: %v J, %v J above idle; want 400 and none", e.Joules, e.OperationalJ)
	}
	if e := got["lost"].Energy; e.Joules.OK || e.Tier != Refused || !strings.Contains(strings.Join(e.Reasons, ""), "GPU 7") {
		t.Errorf("lost: %+v, want refused for GPU 7", e)
	}
}

func TestThrottlingIsSaid(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for ns := int64(0); ns < 5_000*ms; ns += 100 * ms {
		s := sample(ns, 100)
		s.ThrottleReasons = record.Some(uint64(0x1))
		if ns == 2_500*ms {
			s.ThrottleReasons = record.Some(uint64(0x40))
		}
		trace = append(trace, s)
	}
	got, _ := run(t, Options{Method: TR122}, trace, []record.Record{
		event("hot", 2_000*ms, 3_000*ms), event("cool", 3_000*ms, 4_000*ms),
	})
	if e := got["hot"].Energy; !e.Throttled.V || !slices.Contains(e.Reasons, "hardware thermal slowdown in 1 of 11 samples") {
		t.Errorf("hot: %+v", e)
	}
	if e := got["cool"].Energy; !e.Throttled.OK || e.Throttled.V {
		t.Errorf("cool: throttled %+v, want false: idle is no throttling", e.Throttled)
	}
}

func TestOrderAndNesting(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for ns := int64(0); ns < 10_000*ms; ns += 100 * ms {
		trace = append(trace, sample(ns, 100))
	}
	var order []string
	a, err := New(Options{Method: PowerUse}, func(e *record.Event) error {
		order = append(order, e.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The file has the block after what it encloses, as a program that logs at the end of a block does.
	err = a.Join(&list{records: trace}, &list{records: []record.Record{
		event("b", 2_000*ms, 3_000*ms), event("c", 4_000*ms, 5_000*ms), event("block", 1_000*ms, 6_000*ms), event("a", 1_500*ms, 2_500*ms),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "c", "block"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestUntimelyEventIsRefusedNotGuessed(t *testing.T) {
	t.Parallel()
	var trace, events []record.Record
	for i := range int64(readAhead + 100) {
		trace = append(trace, sample(i*ms, 100))
		events = append(events, event(fmt.Sprint(i), i*ms+100, i*ms+200))
	}
	events = append(events, event("late", 5*ms, 50*ms))
	got, _ := run(t, Options{Method: PowerUse}, trace, events)
	e := got["late"].Energy
	if e.Joules.OK || e.Tier != Refused || len(e.Reasons) != 1 || !strings.Contains(e.Reasons[0], "sort") {
		t.Errorf("late: %+v, want refused with the way out", e)
	}
	if len(got) != len(events) {
		t.Errorf("%d events came out of %d", len(got), len(events))
	}
}

func TestClocks(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	trace = append(trace, &record.Header{BootID: "one", TimeNS: 5_000 * ms, UnixNS: 1_700_000_000e9})
	for ns := int64(0); ns < 10_000*ms; ns += 100 * ms {
		trace = append(trace, sample(ns, 100))
	}
	wall := &record.Event{ID: "wall", StartUnixNS: record.Some(int64(1_700_000_001e9)), EndUnixNS: record.Some(int64(1_700_000_003e9))}
	got, _ := run(t, Options{Method: PowerUse}, trace, []record.Record{&record.Header{BootID: "two"}, wall})
	if e := got["wall"]; e.StartNS != 6_000*ms || !near(e.Energy.Joules.V, 200, 1e-9) {
		t.Errorf("wall-clock event at %d ns with %v J, want 6 s and 200 J", e.StartNS, e.Energy.Joules)
	}
	a, _ := New(Options{}, func(*record.Event) error { return nil })
	err := a.Join(&list{records: trace}, &list{records: []record.Record{&record.Header{BootID: "two"}, event("e", 1, 2)}})
	var clash *ClockError
	if !errors.As(err, &clash) || clash.TraceBoot != "one" || clash.EventBoot != "two" {
		t.Errorf("two boots: %v, want a ClockError", err)
	}
}

// Events of a length that is all that there are numbers for are beyond the trace, and
// nothing comes out that is below 0.
func TestEventsAsLongAsCanBe(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	trace = append(trace, &record.Header{TimeNS: 5_000 * ms, UnixNS: 1_700_000_000e9})
	for ns := int64(0); ns < 10_000*ms; ns += 100 * ms {
		s := sample(ns, 100)
		s.PowerInstantW = record.Some(100.0)
		trace = append(trace, s, &record.Power{TimeNS: ns, PowerW: 100},
			&record.Counter{BeforeNS: ns, TimeNS: ns, EnergyMilliJ: record.Some(ns / ms * 100)})
	}
	phase := func(id string, from, to int64) *record.Event {
		e := event(id, from, to)
		e.Phase, e.RequestID, e.OutputTokens = id, "r", record.Some(int64(1))
		return e
	}
	early := event("early", math.MinInt64, -2)
	wall := &record.Event{ID: "wall", StartUnixNS: record.Some(int64(math.MinInt64)), EndUnixNS: record.Some(int64(-1))}
	for _, method := range Methods() {
		got, a := run(t, Options{Method: method, Idle: map[int]float64{0: 20}}, trace, []record.Record{
			early, wall, phase("prefill", 1, math.MaxInt64), phase("decode", 2, math.MaxInt64), event("later", 6000*ms, 8000*ms),
		})
		if e := got["wall"]; e.StartNS != math.MinInt64 || e.EndNS >= 0 {
			t.Errorf("%s: the event from %d to %d of the wall clock is from %d to %d", method, int64(math.MinInt64), -1, e.StartNS, e.EndNS)
		}
		for _, id := range []string{"early", "wall", "prefill", "decode"} {
			if e := got[id].Energy; e == nil || e.Joules.OK || e.Tier != Refused || len(e.Reasons) == 0 {
				t.Errorf("%s, %s: %+v", method, id, e)
			}
		}
		if e := got["later"].Energy; !near(e.Joules.V, 200, 1e-3) {
			t.Errorf("%s: %v J after it, want 200", method, e.Joules)
		}
		for _, s := range a.Summaries() {
			if s.DurationS < 0 {
				t.Errorf("%s: %s of %v s", method, s.Phase, s.DurationS)
			}
		}
	}
}

func TestReadingsOutOfOrderAreCounted(t *testing.T) {
	t.Parallel()
	trace := []record.Record{sample(0, 100), sample(100*ms, 100), sample(50*ms, 9999), sample(100*ms, 9999), sample(200*ms, 100), sample(300*ms, 100)}
	got, a := run(t, Options{Method: PowerUse}, trace, []record.Record{event("e", 0, 300*ms)})
	if j := got["e"].Energy.Joules.V; !near(j, 30, 1e-12) || a.Disordered() != 2 {
		t.Errorf("%v J with %d out of order, want 30 with 2", j, a.Disordered())
	}
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	var trace, events []record.Record
	for ns := int64(0); ns < 10_000*ms; ns += 100 * ms {
		trace = append(trace, sample(ns, 50+float64(ns/(1_000*ms))*10))
	}
	for i := range int64(4) {
		e := event(fmt.Sprint(i), (2*i+1)*1_000*ms, (2*i+2)*1_000*ms)
		e.Phase, e.BatchSize, e.OutputTokens = "decode", record.Some(int64(2)), record.Some(int64(64))
		events = append(events, e)
	}
	events = append(events, &record.Event{ID: "x", Phase: "prefill", StartNS: 9_010 * ms, EndNS: 9_020 * ms})
	got, a := run(t, Options{Method: TR122, Idle: map[int]float64{0: 40}}, trace, events)
	sums := a.Summaries()
	if len(sums) != 2 {
		t.Fatalf("%d summaries, want 2", len(sums))
	}
	total, squares := 0.0, 0.0
	for i := range 4 {
		total += got[fmt.Sprint(i)].Energy.Joules.V
	}
	for i := range 4 {
		squares += math.Pow(got[fmt.Sprint(i)].Energy.Joules.V-total/4, 2)
	}
	d := sums[0]
	if d.Phase != "decode" || d.Events != 4 || d.WithEnergy != 4 || !near(d.EnergyTotalJ.V, total, 1e-12) ||
		!near(d.EnergyStdJ.V, math.Sqrt(squares/3), 1e-12) || !near(d.JoulesPerToken.V, total/256, 1e-12) ||
		!near(d.TokensPerSecond.V, 64, 1e-12) || !near(d.OperationalTotalJ.V, total-160, 1e-12) || !near(d.PowerMeanW.V, total/4, 1e-12) {
		t.Errorf("decode: %+v, total %v", d, total)
	}
	if p := sums[1]; p.Events != 1 || p.WithEnergy != 0 || p.EnergyMeanJ.OK || p.Quality[NoData] != 1 || p.Tier[Refused] != 1 {
		t.Errorf("prefill: %+v, want an event without energy", p)
	}
}

func FuzzConserves(f *testing.F) {
	f.Add(uint64(1), 300, 5)
	f.Add(uint64(2), 10, 40)
	f.Fuzz(func(t *testing.T, seed uint64, n, cuts int) {
		if n < 4 || n > 2000 || cuts < 1 || cuts > 50 {
			t.Skip()
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		var trace []record.Record
		now := int64(0)
		for range n {
			now += 1 + rng.Int64N(300*ms)
			trace = append(trace, sample(now, rng.Float64()*700))
		}
		first, _ := trace[0].When()
		at := []int64{first, now}
		for range cuts {
			at = append(at, first+rng.Int64N(now-first+1))
		}
		slices.Sort(at)
		c := newCurve(DefaultRules(), 0, false)
		p := &pending{}
		spans := make([]*span, len(at)-1)
		for i := range spans {
			spans[i] = &span{startNS: at[i], endNS: at[i+1], event: p}
			c.watch(spans[i])
		}
		whole := &span{startNS: first, endNS: now, event: p}
		c2 := newCurve(DefaultRules(), 0, false)
		c2.watch(whole)
		for _, c := range []*curve{c, c2} {
			q := &polled{*c, usage}
			for _, r := range trace {
				q.observe(r)
			}
			q.finish()
		}
		total := 0.0
		for _, s := range spans {
			j := s.end.joules.minus(s.start.joules)
			if j < 0 || s.start.fate != placed || s.end.fate != placed {
				t.Fatalf("part from %d to %d: %v J, %v %v", s.startNS, s.endNS, j, s.start.fate, s.end.fate)
			}
			total += j
		}
		if want := whole.end.joules.minus(whole.start.joules); !near(total, want, 1e-9) {
			t.Fatalf("parts %v J, whole %v J", total, want)
		}
	})
}

// TestRequestsAtTheSameTime: a method that does not divide the power says so of events that
// have it together. Those are requests on one GPU, and not of two processes.
func TestRequestsAtTheSameTime(t *testing.T) {
	t.Parallel()
	on := func(id, request string, from, until int64, more ...record.Field) *record.Event {
		e := event(id, from*ms, until*ms)
		e.RequestID, e.GPUs, e.Extra = request, []int{0}, more
		return e
	}
	pid := func(n string) record.Field { return record.Field{Name: "pid", Value: json.RawMessage(n)} }
	far := on("far", "e", 1000, 5000)
	far.GPUs = []int{1}
	wide := on("wide", "f", 4900, 5900)
	wide.GPUs = []int{0, 1}
	events := []record.Record{
		on("window", "", 1000, 9000), on("a", "a", 1000, 3000), on("whole", "a", 1000, 4000), far,
		on("b", "b", 2500, 4500), on("at once", "z", 2600, 2600),
		wide, on("alone", "c", 5900, 7500), on("seven", "d", 7500, 9000, pid("7")), on("eight", "g", 7500, 9000, pid("8")),
	}
	beside := map[string]int{"a": 1, "whole": 1, "b": 2, "far": 1, "wide": 1}
	steady := make([]record.Record, 0, 4000)
	for ns := int64(0); ns <= 12_000*ms; ns += 20 * ms {
		for g := range 2 {
			s := sample(ns, 200)
			s.GPU, s.PowerInstantW, s.PowerAverageW = g, record.Some(200.0), record.Some(200.0)
			steady = append(steady, s, &record.Power{TimeNS: ns, GPU: g, PowerW: 200},
				&record.Counter{BeforeNS: ns, TimeNS: ns, GPU: g, EnergyMilliJ: record.Some(ns / ms * 200)})
		}
	}
	for method, want := range map[string]map[string]int{
		Driver: beside, Counter: beside, Instant: beside, Average: beside, PowerUse: beside,
		TR122: {}, Auto: {},
	} {
		got, a := run(t, Options{Method: method}, steady, slices.Clone(events))
		for id, e := range got {
			said := ""
			for _, r := range e.Energy.Reasons {
				if strings.Contains(r, "shares its time with") {
					said += r
				}
			}
			words := ""
			switch n := want[id]; {
			case n == 1:
				words = "shares its time with an event of another request: its joules are of all of them; --method auto divides them"
			case n > 1:
				words = fmt.Sprintf("shares its time with %d events of other requests: its joules are of all of them; --method auto divides them", n)
			}
			if said != words {
				t.Errorf("%s, %s: %q, want %q", method, id, said, words)
			}
			if e.Energy.SharedWith.OK && method != Auto {
				t.Errorf("%s, %s: shared with %v", method, id, e.Energy.SharedWith)
			}
			if words != "" && e.Energy.Tier != Estimate {
				t.Errorf("%s, %s is good for %s", method, id, e.Energy.Tier)
			}
			if method == TR122 && e.Duration() >= 2 && e.Energy.Tier != Billable {
				t.Errorf("tr122, %s is good for %s", id, e.Energy.Tier)
			}
		}
		n := len(beside)
		switch method {
		case TR122:
			n += 2 // it takes no notice of processes
		case Auto:
			n = 0
		}
		if got := a.Undivided(); got != int64(n) {
			t.Errorf("%s: %d events are undivided, want %d", method, got, n)
		}
		if len(a.running) > 0 {
			t.Errorf("%s: %d requests go on at the end", method, len(a.running))
		}
	}
}

// TestCrossing: events that cross as requests do are counted where no request_id tells of
// them, and frames, neighbours, other GPUs and other processes are not.
func TestCrossing(t *testing.T) {
	t.Parallel()
	pid := func(n string) record.Field { return record.Field{Name: "pid", Value: json.RawMessage(n)} }
	on := func(from, until int64, gpus []int, more ...record.Field) *record.Event {
		e := event(fmt.Sprint(from, until, gpus, more), from*ms, until*ms)
		e.GPUs, e.Extra = gpus, more
		return e
	}
	both, first, second := []int{0, 1}, []int{0}, []int{1}
	request := on(1500, 2500, first)
	request.RequestID = "a"
	many := []*record.Event{on(0, 1000, first)}
	for i := range int64(3 * maxWindows) {
		many = append(many, on(10+i, 2000+i, first))
	}
	for name, c := range map[string]struct {
		events []*record.Event
		want   int64
	}{
		"frames":        {[]*record.Event{on(0, 3000, first), on(0, 2000, first), on(500, 2000, first), on(2000, 3000, first)}, 0},
		"neighbours":    {[]*record.Event{on(0, 1000, first), on(1000, 2000, first), on(2000, 3000, first)}, 0},
		"crossing":      {[]*record.Event{on(0, 1000, first), on(500, 1500, first), on(1200, 2000, first), on(1200, 1900, first)}, 3},
		"a request":     {[]*record.Event{on(1000, 2000, first), request}, 0},
		"other GPUs":    {[]*record.Event{on(0, 1000, first), on(500, 1500, second)}, 0},
		"a GPU of two":  {[]*record.Event{on(0, 1000, second), on(500, 1500, both), on(1400, 2400, first), on(1450, 2600, second)}, 3},
		"two processes": {[]*record.Event{on(0, 1000, first, pid("7")), on(500, 1500, first, pid("8"))}, 0},
		"one and all":   {[]*record.Event{on(0, 1000, first), on(500, 1500, first, pid("8"))}, 0},
		"one process":   {[]*record.Event{on(0, 1000, first, pid("7")), on(500, 1500, first, pid("7"))}, 1},
		"no length":     {[]*record.Event{on(0, 1000, first), on(500, 500, first)}, 0},
		"very many":     {many, int64(len(many) - 1)},
	} {
		var events, trace []record.Record
		for _, e := range c.events {
			events = append(events, e)
		}
		for ns := int64(0); ns <= 4000*ms; ns += 20 * ms {
			trace = append(trace, &record.Power{TimeNS: ns, PowerW: 200}, &record.Power{TimeNS: ns, GPU: 1, PowerW: 200})
		}
		for _, method := range []string{Auto, Driver} {
			if _, a := run(t, Options{Method: method}, trace, events); a.Crossing() != c.want {
				t.Errorf("%s, %s: %d events cross others, want %d", name, method, a.Crossing(), c.want)
			}
		}
	}
}
