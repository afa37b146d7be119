package energy_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// stage is a trace to lay events upon.
type stage struct {
	name        string
	trace       []record.Record
	opts        energy.Options
	from, until int64 // ns, in which events may lie
	grain       int64 // ns, from one reading to the next
}

var (
	stagesOnce sync.Once
	allStages  []stage
)

// stages are a minute of the H200 with its bursts, and simulated boards.
func stages(t testing.TB) []stage {
	t.Helper()
	stagesOnce.Do(func() {
		h200 := stage{name: "H200", grain: 20e6, opts: energy.Options{Sensors: sensors(t, h200Sensor)}}
		records(t, h200Events, func(r record.Record) {
			if e, ok := r.(*record.Event); ok && e.Phase == "burst_block" && h200.from == 0 {
				h200.from, h200.until = e.StartNS-5e9, e.StartNS+45e9
			}
		})
		records(t, h200Trace, func(r record.Record) {
			if ns, ok := r.When(); !ok || ns < h200.from-10e9 || ns > h200.until+10e9 {
				return
			}
			switch r := r.(type) { // a record is the reader's own until the next
			case *record.Sample:
				c := *r
				h200.trace = append(h200.trace, &c)
			case *record.Power:
				c := *r
				h200.trace = append(h200.trace, &c)
			case *record.Counter:
				c := *r
				h200.trace = append(h200.trace, &c)
			}
		})
		allStages = append(allStages, h200)
		for i, g := range rigs() {
			s := g.scene(uint64(i), perturbed)
			grain := int64(1e9)
			for _, e := range g.eyes {
				grain = min(grain, int64(max(e.update, e.poll)*1e6))
			}
			allStages = append(allStages, stage{g.name, s.trace, s.opts, 12e9, int64((s.job.now - 14) * 1e9), grain})
		}
	})
	if len(allStages) < 2 {
		t.Fatal("the stages could not be made")
	}
	return allStages
}

// sorted is events in the order of their starts, as they have to be given.
func sorted(events []*record.Event) []*record.Event {
	slices.SortStableFunc(events, func(a, b *record.Event) int { return cmp.Compare(a.StartNS, b.StartNS) })
	return events
}

// joulesOf is what the events of a run come to, by event_id.
func (s *stage) joulesOf(t testing.TB, o energy.Options, events []*record.Event) map[string]record.Opt[float64] {
	t.Helper()
	done, _ := attribute(t, o, s.trace, sorted(events))
	if len(done) != len(events) {
		t.Fatalf("%s: %d of %d events came out", s.name, len(done), len(events))
	}
	of := map[string]record.Opt[float64]{}
	for _, e := range done {
		of[e.ID] = e.Energy.Joules
	}
	return of
}

// checkAddsUp lays random events upon a stage: what two halves have, the whole
// has, and what events and the gaps between them have, the time around them
// has. It says how many sums it could make.
func checkAddsUp(t testing.TB, s *stage, seed uint64) (sums int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 30))
	var events []*record.Event
	add := func(id, phase string, from, until int64) {
		events = append(events, &record.Event{ID: id, Phase: phase, StartNS: from, EndNS: until})
	}
	at := func() int64 { return s.from + rng.Int64N(s.until-s.from) }
	const triples, pieces = 12, 15
	for i := range triples {
		x := []int64{at(), at(), at()}
		if i%3 == 0 { // short ones, close to each other
			x[1], x[2] = x[0]+1+rng.Int64N(4e8), x[0]+1+rng.Int64N(4e8)
		}
		slices.Sort(x)
		if x[0] == x[1] || x[1] == x[2] {
			continue
		}
		add(fmt.Sprint("ab", i), "front", x[0], x[1])
		add(fmt.Sprint("bc", i), "back", x[1], x[2])
		add(fmt.Sprint("ac", i), "whole", x[0], x[2])
	}
	// Phases and background, which have the whole time between them.
	cuts := []int64{s.from, s.until}
	for range pieces - 1 {
		cuts = append(cuts, at())
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i := range len(cuts) - 1 {
		add(fmt.Sprint("piece", i), []string{"prefill", "decode", "background"}[i%3], cuts[i], cuts[i+1])
	}
	add("all", "all", s.from, s.until)

	of := s.joulesOf(t, s.opts, events)
	same := func(what string, whole record.Opt[float64], parts ...record.Opt[float64]) {
		sum := 0.0
		for _, p := range parts {
			if !p.OK {
				return
			}
			sum += p.V
		}
		if !whole.OK {
			return
		}
		sums++
		if !(math.Abs(sum-whole.V) <= 1e-9*math.Max(1, math.Abs(whole.V))) {
			t.Errorf("%s, seed %d: %s: the parts have %.9f J, the whole %.9f J", s.name, seed, what, sum, whole.V)
		}
	}
	for i := range triples {
		same(fmt.Sprint("halves ", i), of[fmt.Sprint("ac", i)], of[fmt.Sprint("ab", i)], of[fmt.Sprint("bc", i)])
	}
	var parts []record.Opt[float64]
	for i := range len(cuts) - 1 {
		parts = append(parts, of[fmt.Sprint("piece", i)])
	}
	same("phases and background", of["all"], parts...)
	return sums
}

// checkSplits lays requests upon a stage that overlap as they like: their parts
// and what lies in none of them are the whole.
func checkSplits(t testing.TB, s *stage, seed uint64) (sums int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 31))
	for _, split := range energy.Splits() {
		var events []*record.Event
		var busy [][2]int64
		at := s.from + 1e9
		for i := 0; at < s.until-14e9; i++ {
			mid := at + 1e8 + s.grain + rng.Int64N(5e8)
			until := mid + 1e8 + s.grain + rng.Int64N(3e9)
			id := fmt.Sprint("request", i)
			events = append(events,
				&record.Event{ID: id + "p", Phase: "prefill", RequestID: id, StartNS: at, EndNS: mid, InputTokens: record.Some(100 + rng.Int64N(4000))},
				&record.Event{ID: id + "d", Phase: "decode", RequestID: id, StartNS: mid, EndNS: until, OutputTokens: record.Some(rng.Int64N(200))})
			busy = append(busy, [2]int64{at, until})
			if i%4 < 3 { // the next comes before it ends
				at += rng.Int64N(until - at)
			} else {
				at += 8e9
			}
		}
		slices.SortFunc(busy, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
		at = s.from
		for _, b := range busy {
			if b[0] > at {
				events = append(events, &record.Event{ID: fmt.Sprint("residue", at), Phase: "residue", StartNS: at, EndNS: b[0]})
			}
			at = max(at, b[1])
		}
		if at < s.until {
			events = append(events, &record.Event{ID: fmt.Sprint("residue", at), Phase: "residue", StartNS: at, EndNS: s.until})
		}
		events = append(events, &record.Event{ID: "all", Phase: "all", StartNS: s.from, EndNS: max(at, s.until)})
		o := s.opts
		o.Split, o.Idle = split, map[int]float64{0: idleW}
		done, _ := attribute(t, o, s.trace, sorted(events))
		var all, sum, above float64
		known := len(done) == len(events)
		for _, e := range done {
			known = known && e.Energy.OperationalJ.OK
			if e.ID == "all" {
				all = e.Energy.Joules.V
				whole := e.Energy.OperationalJ.V
				above -= whole
				known = known && whole == all-idleW*e.Duration()
			} else {
				sum += e.Energy.Joules.V
				above += e.Energy.OperationalJ.V
			}
		}
		if !known {
			continue
		}
		sums++
		if !(math.Abs(sum-all) <= 1e-9*math.Abs(all)) {
			t.Errorf("%s, seed %d, split by %s: parts and residue have %.9f J, the whole %.9f J", s.name, seed, split, sum, all)
		}
		if !(math.Abs(above) <= 1e-9*math.Abs(all)) {
			t.Errorf("%s, seed %d, split by %s: parts and residue have %.9f J above idle more than the whole", s.name, seed, split, above)
		}
	}
	return sums
}

func TestPartsAddUp(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	times := uint64(runs(1))
	for _, s := range stages(t) {
		halves, splits := 0, 0
		for seed := range times {
			halves += checkAddsUp(t, &s, seed)
			splits += checkSplits(t, &s, seed)
		}
		// What is refused has no sum; a stage that has none shows nothing.
		t.Logf("%s: %d sums of halves and pieces, %d of requests", s.name, halves, splits)
		if halves == 0 || splits == 0 {
			t.Errorf("%s: no sum could be made", s.name)
		}
	}
}

func FuzzPartsAddUp(f *testing.F) {
	f.Add(uint64(0), uint8(0))
	f.Add(uint64(1), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, which uint8) {
		all := stages(t)
		s := &all[int(which)%len(all)]
		checkAddsUp(t, s, seed)
		checkSplits(t, s, seed)
	})
}

// TestManyAreManyTimesOne is bursts that are all alike: each is the mean of
// them within its interval (chi²), the mean is the truth within its own, and a
// window around them all has as much as they and the idling between them.
func TestManyAreManyTimesOne(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	const n, seconds, watts = 40, 0.15, 450
	var b strings.Builder
	fmt.Fprintf(&b, "%-24s %7s %26s %14s %20s", "sensor", "events", "mean of one, J", "chi²/freedom", "all, J")
	for i, g := range rigs() {
		rng := rand.New(rand.NewPCG(uint64(i), 32))
		j := newJob(rng, 0.008)
		from := j.now
		block := &record.Event{ID: "block", Phase: "block", StartNS: int64(from * 1e9)}
		for range n {
			j.do("burst", seconds, watts, flat)
			j.rest(j.between(0.6, 1.2))
		}
		block.EndNS = int64(j.now * 1e9)
		j.truth["block"] = j.joules(block)
		j.rest(13)
		s := g.film(rng, j, trouble{}, -1, told)
		done, a := attribute(t, s.opts, s.trace, sorted(append(j.events, block)))
		var mean, ci float64
		for _, m := range a.Summaries() {
			if m.Phase == "burst" {
				mean, ci = m.EnergyMeanJ.V, m.CI95J.V
				if off := math.Abs(mean - seconds*watts); m.EnergyMeanJ.OK && (!m.CI95J.OK || off > 3.3/1.96*ci) {
					t.Errorf("%s: the mean of %d bursts is %.3f ± %.3f J, the truth %.3f", g.name, m.WithEnergy, mean, ci, seconds*watts)
				}
			}
		}
		var all verdict
		var sum, weight float64
		var given []verdict
		for _, e := range done {
			v := rate(e, j.truth[e.ID])
			switch {
			case e.ID == "block":
				all = v
			case v.told && !math.IsNaN(v.z):
				sd := e.Energy.CI95J.V / 1.96
				sum, weight = sum+e.Energy.Joules.V/(sd*sd), weight+1/(sd*sd)
				given = append(given, v)
			}
		}
		if math.IsNaN(all.z) || math.Abs(all.z) > 3.3 {
			t.Errorf("%s: the window around %d bursts has %v ± %v J, the truth is %.1f (z %.1f)", g.name, n, all.e.Energy.Joules, all.e.Energy.CI95J, all.truth, all.z)
		}
		if len(given) < n/2 {
			fmt.Fprintf(&b, "\n%-24s %7d", g.name, len(given))
			continue
		}
		chi, freedom := 0.0, float64(len(given)-1)
		for _, v := range given {
			off := (v.e.Energy.Joules.V - sum/weight) / (v.e.Energy.CI95J.V / 1.96)
			chi += off * off
		}
		fmt.Fprintf(&b, "\n%-24s %7d %7.3f ± %5.3f of %7.3f %14.2f %9.2f of %7.2f", g.name, len(given), mean, ci, seconds*watts, chi/freedom, all.e.Energy.Joules.V, all.truth)
		if p := stats.FTail(chi/freedom, freedom, 1e6); p < 0.001 {
			t.Errorf("%s: %d bursts that are alike differ by more than their intervals say: chi² %.0f of %.0f", g.name, len(given), chi, freedom)
		}
	}
	t.Log(b.String())
}
