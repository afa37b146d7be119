package energy

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// TestStraddle: a channel that is read as often as it is updated may be read
// just before and just after an update in turn, and then which one a reading
// shows is in doubt.
func TestStraddle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		early, late int64 // of each fifth read, and of the others, ns after an update
		step        float64
		doubt       bool
	}{
		"far from updates":     {30 * ms, 30 * ms, 0.001, false},
		"about updates":        {-ms, ms, 0.001, true},
		"values hardly change": {30 * ms, 30 * ms, 1, false},
	} {
		rng := rand.New(rand.NewPCG(1, 30))
		r := builtin(Instant)
		r.update = 0.1
		track := newTrack(Instant, r)
		watts := make([]float64, 500)
		for i := range watts {
			watts[i] = math.Round((60+0.3*rng.NormFloat64())/c.step) * c.step
		}
		for k := int64(1); k < 400; k++ {
			ns := 100*k*ms + c.late
			if k%5 == 0 {
				ns = 100*k*ms + c.early
			}
			track.at(ns, watts[ns/(100*ms)])
		}
		if doubt := track.doubt() > 0; doubt != c.doubt {
			t.Errorf("%s: in doubt: %v (%.3f of the reads)", name, doubt, track.straddled)
		}
	}
}

// TestEdgeInAGap: readings are missing about the ends of events. What goes on
// before the gap goes on until the event's end, not the gap's beginning.
func TestEdgeInAGap(t *testing.T) {
	t.Parallel()
	events, power, until := bursts(12, "decode", 1500*ms, 1200*ms, 300)
	var trace []record.Record
	for _, r := range worked(17, power, until, 1, nil) {
		p, keep := r.(*record.Power)
		for i, e := range events {
			e := e.(*record.Event)
			keep = keep && (i%2 == 0 || p.TimeNS < e.EndNS-400*ms || p.TimeNS > e.EndNS+300*ms)
		}
		if keep {
			trace = append(trace, r)
		}
	}
	got, _ := run(t, Options{Sensors: board20()}, trace, events)
	for i := range events {
		e := got[fmt.Sprint("decode", i)]
		j, ok := e.Energy.Joules.Get()
		if off := math.Abs(j - 450); !ok || off > 2*e.Energy.CI95J.V || off > 0.1*450 {
			t.Errorf("%s: %v ± %v J, want 450", e.ID, e.Energy.Joules, e.Energy.CI95J)
		}
	}
}

// TestTicksAreWholePeriods: as reads tell more and more closely when the counter
// moves, its ticks do not become longer or shorter.
func TestTicksAreWholePeriods(t *testing.T) {
	t.Parallel()
	track := newTrack(Counter, builtin(Counter))
	for k := int64(1); k < 300; k++ {
		ns := 100*k*ms + 95*ms - 3*k*ms/10
		track.count(ns-ms, ns, 6000*(ns/(100*ms)))
	}
	moved := false
	for i, u := range track.updates[1:] {
		if math.Abs(u.value-60) > 1e-9 || math.Abs(u.joules.minus(track.updates[i].joules)-6*math.Round(u.window*10)) > 1e-9 {
			t.Errorf("tick %d: %.6f W over %.6f s, want 60", i, u.value, u.window)
		}
		moved = moved || (u.ns-track.updates[i].ns)%(100*ms) != 0
	}
	if !moved {
		t.Error("no tick was found to be elsewhere: nothing was tested")
	}
}

// TestInTime is the variance for steps that a sensor always sees the same part of.
func TestInTime(t *testing.T) {
	t.Parallel()
	r := builtin(Instant)
	r.window, r.update, r.coverage = 0.025, 0.1, 0.25
	sees := r
	sees.coverage = 1
	of := func(seconds float64, tokens int64, r response, counter float64) float64 {
		e := record.Event{EndNS: int64(seconds * 1e9), OutputTokens: record.Some(tokens)}
		s := &share{event: &pending{event: e}, joules: 100}
		s.drift[1*perChannel+paramGain], s.drift[2*perChannel+paramGain] = counter, 100-counter
		tracks := []*track{newTrack(Driver, builtin(Driver)), newTrack(Counter, builtin(Counter)), newTrack(Instant, r), newTrack(Average, builtin(Average))}
		return math.Sqrt(s.unseen(tracks))
	}
	if sd := of(4, 80, r, 0); sd < 3 || sd > 8 { // steps of 50 ms
		t.Errorf("two steps to an update: %.2f %% of the energy, want some 5", sd)
	}
	if sd := of(4, 93, r, 0); sd > 1 { // of 43 ms
		t.Errorf("steps that readings go through: %.2f %% of the energy", sd)
	}
	if got, want := of(4, 80, r, 50), of(4, 80, r, 0)/2; math.Abs(got/want-1) > 1e-9 {
		t.Errorf("beside the counter, which half of it is by: %.2f %%, want %.2f", got, want)
	}
	if sd := of(4, 80, sees, 0); sd != 0 {
		t.Errorf("a sensor that sees all of the time: %.2f %% of the energy", sd)
	}
	if sd := of(4, 1, r, 0); sd != 0 {
		t.Errorf("one token: %.2f %% of the energy", sd)
	}
}

// TestAnotherWindow is how likely it is that a channel has another window, or another time
// constant, than the one that was taken.
func TestAnotherWindow(t *testing.T) {
	t.Parallel()
	tried := []trial{
		{window: 0.025, tau: 0.01, delay: 0.03, fits: 900}, {window: 0.060, tau: 0.01, delay: 0.04, fits: 900},
		{window: 0.1, tau: 0.01, delay: 0.04, fits: 1100},
	}
	if g := another(tried, tried[1]); g.window != 0.025 || math.Abs(g.later+0.01) > 1e-9 || math.Abs(g.odds-0.5) > 0.001 {
		t.Errorf("as likely as the one taken: %+v", g)
	}
	if g := another(tried[1:], tried[1]); g.odds > 1e-4 {
		t.Errorf("far less likely: %+v", g)
	}
	best := tried[1]
	best.tauSE, best.with = 0.002, 0.5
	if g := another(tried[1:2], best); g.window != 0.060 || math.Abs(g.tau-0.012) > 1e-9 || math.Abs(g.later-0.001) > 1e-9 || g.odds != 1 {
		t.Errorf("slower by 2 ms: %+v", g)
	}
	if g := another(tried, best); g.window != 0.025 || g.odds < 0.501 || g.odds > 0.6 {
		t.Errorf("another window, and slower by 2 ms: %+v", g)
	}
	best.tauSE = 0.0001
	if g := another(tried[1:2], best); g.odds != 0 {
		t.Errorf("slower by 0.1 ms: %+v", g)
	}
}

// TestSlowness: by which time constant and delay readings are likelier is what the likelihood says.
func TestSlowness(t *testing.T) {
	t.Parallel()
	p := around(130*ms, 5e6, -200*ms, -150*ms, 250*ms, 300*ms)
	p.noise.jump = 400
	p.chains[0] = chain{0.006, 0.004}
	for k := range 20 {
		at := -0.15 + 0.02*float64(k)
		w := 60.0
		if at > 0.005 && at < 0.140 {
			w = 390 + 10*math.Sin(float64(k))
		}
		p.readings = append(p.readings, reading{at: at, window: 0.020, value: w})
	}
	s := settleIn(t, p)
	likely := func(tau, later float64) float64 {
		p.chains[0] = chain{0.006 + tau, 0.004 - tau + later}
		s.weigh(p)
		l, ok := s.solve(p, p.noise, 0, true)
		if !ok {
			t.Fatal("no solution")
		}
		return -l / 2
	}
	const by = 1e-5
	slow := (likely(by, 0) - likely(-by, 0)) / (2 * by)
	late := (likely(0, by) - likely(0, -by)) / (2 * by)
	likely(0, 0)
	got := s.slowness(p, 0)
	for _, x := range []struct{ got, want float64 }{{got.slow * p.scale, slow}, {got.late * p.scale, late}} {
		if math.Abs(x.got/x.want-1) > 0.1 || math.Abs(x.want) < 10 {
			t.Errorf("slope %.1f /s, the likelihood's is %.1f /s", x.got, x.want)
		}
	}
	if got.slows*got.lates <= got.both*got.both || got.slows <= 0 {
		t.Errorf("%+v is no curvature", got)
	}
}

// TestTimeConstant: of a board of which nothing was measured the driver's readings tell with
// which time constant it follows the work, and of which window they are means; where
// the counter is beside them, it is of the same board.
func TestTimeConstant(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ tau, ripple float64 }{{0.002, 0}, {0.0045, 0}, {0.010, 0}, {0.003, 0.25}, {0.006, 0.25}} {
		tau := x.tau
		rng := rand.New(rand.NewPCG(1, 36))
		power := &sensor.Curve{}
		watts, now := 60.0, int64(0)
		asks := func(ns int64, w float64) { // in steps of half a millisecond
			for until := now + ns; now < until; {
				step := min(until-now, ms/2)
				now += step
				watts = w + (watts-w)*math.Exp(-float64(step)/1e9/tau)
				power.Until(now, watts)
			}
		}
		asks(20_000*ms, 60)
		var events []record.Record
		for i := range 40 {
			from, long := now, 50*ms+rng.Int64N(350*ms)
			up := 450 * x.ripple * float64(1-2*rng.IntN(2))
			for until := from + long; now < until; up = -up {
				asks(min(until-now, 6*ms), 450+up)
			}
			e := event(fmt.Sprint("burst", i), from, now)
			e.Phase = "burst"
			events = append(events, e)
			asks(300*ms+rng.Int64N(500*ms), 60)
		}
		asks(3000*ms, 60)
		var trace []record.Record
		for ns := 200 * ms; ns < now-100*ms; ns += 20 * ms {
			trace = append(trace, &record.Power{TimeNS: ns, PowerW: power.Mean(ns-22*ms, ns-2*ms) + 0.5*rng.NormFloat64()})
		}
		got, a := run(t, Options{}, trace, events)
		far := 0
		for _, r := range events {
			e := r.(*record.Event)
			want, x := 450*e.Duration(), got[e.ID].Energy
			if !x.Joules.OK || math.Abs(x.Joules.V-want) > 2*x.CI95J.V || x.CI95J.V > 0.1*want {
				far++
			}
		}
		follows := func(a *Attributor, where string) *track {
			d := a.inOrder()[0].power.named[Driver]
			late := d.response.delay(d.response.window) + d.shift
			least := 0.002
			if x.ripple > 0 {
				least = 0.004
			}
			if width, want := d.response.width(), tau*tau+0.02*0.02/12; math.Abs(math.Sqrt(width)-math.Sqrt(want)) > least/2 || math.Abs(late-0.012-tau) > least {
				t.Errorf("%s: τ %.1f ms, a mean over %.0f ms and %.1f ms late, want %.1f, 20 and %.1f", where, 1e3*d.response.tau, 1e3*d.response.window, 1e3*late, 1e3*tau, 12+1e3*tau)
			}
			return d
		}
		follows(a, "alone")
		// Of a sensor that was measured the delay alone, which is off by as much as is said of it.
		for _, off := range []float64{-7, 7} {
			c := &sensor.Channel{
				UpdateMS: record.Some(20.0), WindowMS: record.Some(20.0), WindowCI95MS: []float64{19.9, 20.1}, TauMS: record.Some(1e3 * tau),
				LagMS: record.Some(2 + off), LagCI95MS: []float64{off - 12, off + 16}, Coverage: record.Some(1.0), Class: sensor.Instant,
			}
			_, a := run(t, Options{Sensors: &sensor.Sensors{GPUs: []sensor.GPU{{Channels: map[string]*sensor.Channel{Driver: c}}}}}, trace, events)
			if d := a.inOrder()[0].power.named[Driver]; math.Abs(d.response.lag+d.shift-0.002) > 0.001+0.002*4*x.ripple {
				t.Errorf("τ %.1f ms, ripples of %g: the lag is %.1f ms, want 2", 1e3*tau, x.ripple, 1e3*(d.response.lag+d.shift))
			}
		}
		if far > 2 {
			t.Errorf("τ %.1f ms: %d of 40 bursts are off", 1e3*tau, far)
		}
		for ns := 200 * ms; ns < now-100*ms; ns += 20 * ms {
			mJ := int64(power.Mean(0, ns/(100*ms)*100*ms) * float64(ns/(100*ms)*100*ms) / 1e6)
			trace = append(trace, &record.Counter{BeforeNS: ns, TimeNS: ns + ms/10, EnergyMilliJ: record.Some(mJ)})
		}
		slices.SortStableFunc(trace, func(x, y record.Record) int {
			from, _ := x.When()
			to, _ := y.When()
			return cmp.Compare(from, to)
		})
		_, a = run(t, Options{}, trace, events)
		d := follows(a, "beside the counter")
		if c := a.inOrder()[0].power.named[Counter]; c.response.tau != d.response.tau || c.response.delay(c.response.window) != builtin(Counter).delay(c.response.window) {
			t.Errorf("the counter follows power with %.1f ms, %.1f ms late, the driver's buffer with %.1f", 1e3*c.response.tau, 1e3*c.response.delay(c.response.window), 1e3*d.response.tau)
		}
	}
}

// TestJumpsOfAKind: a burst that no reading shows may be as large as others are.
func TestJumpsOfAKind(t *testing.T) {
	t.Parallel()
	s := &share{event: &pending{event: record.Event{Phase: "burst"}}}
	var held []*patch
	for i := range 10 {
		p := &patch{edges: []edge{{int64(i), s, true}}}
		for k := range 4 {
			w := 60.0
			if i > 0 && k == 2 {
				w = 400
			}
			p.readings = append(p.readings, reading{at: float64(k), window: 0.02, value: w})
		}
		held = append(held, p)
	}
	l := learner{jumps: kindsOf(held).jumps}
	held[0].noise.jump = held[0].step()
	if own, kind := held[0].step(), l.noise(held[0]).jump; own > 30 || kind < 600 {
		t.Errorf("own readings say %.0f W, its kind %.0f, want some 20 and some 700", own, kind)
	}
}

// around is a patch around a burst from 0 until its end, ns, with cells of fine ns there.
func around(end int64, fine float64, lo, from, until, hi int64) *patch {
	s := &share{event: &pending{event: record.Event{EndNS: end, Phase: "burst"}}}
	return &patch{
		cells: &cells{}, lo: lo, from: from, until: until, hi: hi, fine: fine,
		cuts: []int64{0, end}, edges: []edge{{0, s, true}, {end, s, false}}, noise: prior,
	}
}

// settleIn is the solver that has just solved a patch, and settled it.
func settleIn(t *testing.T, p *patch) *solver {
	t.Helper()
	s := &solver{}
	s.lay(p)
	s.weigh(p)
	if _, ok := s.solve(p, p.noise, twice, false); !ok {
		t.Fatal("no solution")
	}
	s.settle(p)
	return s
}

// untold is the tracks of a board of which nothing was measured.
func untold() (tracks []*track) {
	for _, name := range trackNames {
		tracks = append(tracks, newTrack(name, builtin(name)))
	}
	return tracks
}

// TestSway: a reading that is wholly after a burst says that the burst may have
// been anything, and by its slope there nothing of its being late; were it a little
// earlier it would say that the burst was none.
func TestSway(t *testing.T) {
	t.Parallel()
	p := around(30*ms, 5e6, -200*ms, -150*ms, 150*ms, 200*ms)
	p.noise.jump = 400
	p.blind[2] = 0.010
	for _, at := range []float64{-0.115, -0.015, 0.0565, 0.1565} {
		p.readings = append(p.readings, reading{at: at, window: 0.025, value: 60, channel: 2})
	}
	tracks := untold()
	solve := settleIn(t, p)
	before := append([]float64(nil), p.joules...)
	slope := p.drift(2*perChannel + paramLate)[1]
	p.readings[2].value = 80 // as one that reaches 1.5 ms into a burst of some 400 W would be
	for i := range p.rows {
		p.rows[i].value = p.readings[i].value
	}
	solve.solve(p, p.noise, twice, false)
	solve.settle(p)
	slope = max(math.Abs(slope), math.Abs(p.drift(2*perChannel + paramLate)[1]))
	solve.sway(p, tracks)
	late, early := p.drift(2*perChannel + paramLate)[1], p.drift(2*perChannel + paramEarly)[1]
	if most := max(math.Abs(late), math.Abs(early)); most < 2*slope || most*0.010 < 0.05 {
		t.Errorf("%.3f J late and %.3f J early of %.3f J, by its slope %.3f J", late*0.010, early*0.010, before[1], slope*0.010)
	}
	if was := p.chains[2].lag; was != 0 {
		t.Errorf("the channel is left %.4f s later", was)
	}
}

// TestVague: a read that comes late shows the update after the one that it is thought
// to, and the next read, in time, the same again. When that was made is not known.
func TestVague(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		late, poll int64 // ns
		vague      int
	}{
		"one late":     {20 * ms, 100 * ms, 1},
		"none late":    {0, 100 * ms, 0},
		"read oftener": {0, 20 * ms, 0},
	} {
		rng := rand.New(rand.NewPCG(1, 31))
		r := builtin(Instant)
		r.update = 0.1
		track := newTrack(Instant, r)
		watts := make([]float64, 500)
		for i := range watts {
			watts[i] = 60 + 0.3*rng.NormFloat64()
		}
		for ns := c.poll; ns < 40_000*ms; ns += c.poll {
			at := ns
			if ns == 30_000*ms {
				at += c.late
			}
			track.at(at, watts[(at+98*ms)/(100*ms)]) // updates are 2 ms after the reads
		}
		var vague []int64
		for _, u := range track.updates {
			if u.vague {
				vague = append(vague, u.ns)
			}
		}
		if len(vague) != c.vague || c.vague == 1 && (vague[0] < 29_800*ms || vague[0] > 30_100*ms) {
			t.Errorf("%s: updates at %v ns are in doubt, want %d", name, vague, c.vague)
		}
	}
}

// quarter is a GPU whose instantaneous power is the mean of a quarter of the time, told.
func quarter() *sensor.Sensors {
	return &sensor.Sensors{GPUs: []sensor.GPU{{Channels: map[string]*sensor.Channel{Instant: {
		UpdateMS: record.Some(100.0), WindowMS: record.Some(25.0), WindowCI95MS: []float64{24.9, 25.1},
		LagMS: record.Some(0.0), LagCI95MS: []float64{-0.5, 0.5}, Coverage: record.Some(0.25),
	}}}}}
}

// TestPartTime: what power does where a sensor does not see it is not what a reading
// says of the cell that it sees a part of, and goes by a walk that is found from little.
func TestPartTime(t *testing.T) {
	t.Parallel()
	sd := func(window, coverage float64) float64 {
		b := quarter()
		c := b.GPUs[0].Channels[Instant]
		c.WindowMS, c.WindowCI95MS, c.Coverage = record.Some(window), []float64{window - 0.1, window + 0.1}, record.Some(coverage)
		rng := rand.New(rand.NewPCG(1, 33))
		var trace, events []record.Record
		for ns := 20 * ms; ns < 20_000*ms; ns += 100 * ms {
			w := 60 + 0.3*rng.NormFloat64()
			if ns > 10_000*ms && ns < 12_000*ms {
				w = 300 + 20*rng.NormFloat64()
			}
			trace = append(trace, &record.Sample{TimeNS: ns, ReadOK: true, PowerInstantW: record.Some(w)})
		}
		events = append(events, event("e", 10_000*ms, 12_000*ms))
		got, _ := run(t, Options{Sensors: b}, trace, events)
		return got["e"].Energy.CI95J.V
	}
	if all, part := sd(100, 1), sd(25, 0.25); part < 1.1*all {
		t.Errorf("± %.2f J by a sensor that sees a quarter of the time, ± %.2f J by one that sees all", part, all)
	}
}

// TestTurn: a channel that is read as often as it is updated is read just before
// each update at first, and then just after, so that readings are older at first than later.
func TestTurn(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 32))
	power := &sensor.Curve{}
	power.Until(0, 60)
	now := 20_000 * ms
	power.Until(now, 60)
	var events []record.Record
	for i := range 60 {
		long := 150*ms + rng.Int64N(250*ms)
		e := event(fmt.Sprint("burst", i), now, now+long)
		e.Phase = "burst"
		events = append(events, e)
		now += long
		power.Until(now, 450)
		now += 300*ms + rng.Int64N(700*ms)
		power.Until(now, 60)
	}
	power.Until(now+3000*ms, 60)
	middle := (20_000*ms + now) / 2
	var trace []record.Record
	for ns := 200 * ms; ns < now+2000*ms; ns += 100 * ms {
		made := ns
		if ns < middle {
			made -= 99 * ms
		}
		s := &record.Sample{TimeNS: ns, ReadOK: true}
		s.PowerInstantW = record.Some(power.Mean(made-25*ms, made) + 0.3*rng.NormFloat64())
		trace = append(trace, s)
	}
	got, _ := run(t, Options{Sensors: quarter()}, trace, events)
	good := 0
	for i, r := range events {
		e := r.(*record.Event)
		x := got[e.ID].Energy
		j, ok := x.Joules.Get()
		if !ok {
			continue
		}
		want := 450 * e.Duration()
		if off := math.Abs(j - want); off > 2*x.CI95J.V {
			t.Errorf("burst %d: %.2f ± %.2f J, want %.2f", i, j, x.CI95J.V, want)
		}
		if x.CI95J.V < 0.1*want {
			good++
		}
	}
	if good < 30 {
		t.Errorf("%d of 60 bursts are known to 10 %%, want 30", good)
	}
}

// TestMiss: what is known of a burst by one reading alone is not known where that reading
// may be of another update.
func TestMiss(t *testing.T) {
	t.Parallel()
	sd := func(doubt float64) float64 {
		p := around(80*ms, 25e6, -300*ms, -250*ms, 350*ms, 400*ms)
		p.noise.jump, p.doubt[2] = 800, doubt
		for k := range 6 {
			p.readings = append(p.readings, reading{at: -0.2 + 0.1*float64(k), window: 0.1, value: 60, channel: 2})
		}
		tracks := untold()
		solve := settleIn(t, p)
		solve.sway(p, tracks)
		return math.Sqrt(p.cov[1*p.segments+1])
	}
	if sure, unsure := sd(0), sd(0.1); sure > 1 || unsure < 10 {
		t.Errorf("± %.2f J, and ± %.2f J where the update is in doubt: want less than 1, and some 20", sure, unsure)
	}
}

// TestNoiseByFewReadings: a slow channel's rest is too short for means of many
// readings, but its readings tell by themselves that their noise has a memory.
func TestNoiseByFewReadings(t *testing.T) {
	t.Parallel()
	of := func(memory, sd float64) float64 {
		all := 0.0
		for seed := range uint64(50) {
			rng := rand.New(rand.NewPCG(seed, 34))
			var b blocks
			noise := rng.NormFloat64()
			for range 40 {
				noise = memory*noise + math.Sqrt(1-memory*memory)*rng.NormFloat64()
				b.compare(60 + sd*noise)
			}
			all += b.short() / 50
		}
		return all
	}
	if white, red, none := of(0, 0.5), of(0.5, 0.5), of(0, 0); white < 0.2 || white > 0.6 || red < 0.5 || red > 1.2 || none != 0 {
		t.Errorf("%.2f W² of white noise, %.2f of noise with a memory, %.2f of none, want some 0.25, 0.75 and 0", white, red, none)
	}
	var b blocks
	for range 100 * mostApart { // rests too short for blocks
		b.compare(60)
		b.interrupt()
		b.compare(60)
	}
	if len(b.next) > mostApart {
		t.Errorf("%d readings are kept of a long trace", len(b.next))
	}
	for range blockOf * (fewBlocks + 1) {
		b.compare(60)
		b.add(60)
	}
	if v := b.short(); len(b.apart) < fewBlocks || v != 0 {
		t.Errorf("%.2f W² by few readings where there are many", v)
	}
}

// TestSpreadOfAKind: estimates that differ no more than their variances say may still be of
// events that differ, and readings that tell nothing of an event do not make it the mean
// of its kind.
func TestSpreadOfAKind(t *testing.T) {
	t.Parallel()
	x, v := []float64{98, 102, 99, 101, 97, 103, 100, 100}, make([]float64, 8)
	for i := range v {
		v[i] = 4
	}
	if _, between := heterogeneity(x, v); between != 0 {
		t.Errorf("between %.2f W², want 0: they differ by their variances", between)
	}
	if most := spreadAtMost(x, v); most < 2 || most > 16 {
		t.Errorf("%.2f W² at most, want some 6", most)
	}
	if most := spreadAtMost(x[:1], v[:1]); most != 0 {
		t.Errorf("%.2f W² of one event", most)
	}
	// Each of a thousand is 10 J by its own readings, give or take.
	of := func(sd float64) float64 {
		var held []*patch
		for i := range int64(1000) {
			e := record.Event{StartNS: i * 1000 * ms, EndNS: i*1000*ms + 100*ms, Phase: "burst"}
			s := &share{event: &pending{event: e}}
			held = append(held, &patch{
				edges: []edge{{e.StartNS, s, true}, {e.EndNS, s, false}}, readings: make([]reading, 1), segments: 3,
				joules: []float64{6, 10, 6}, cov: []float64{1, 0, 0, 0, sd * sd, 0, 0, 0, 1},
			})
		}
		g := groups{map[kind]*pool{}}
		g.shrink(held, nil)
		return math.Sqrt(held[0].cov[4])
	}
	if sd := of(5); sd < 0.2 {
		t.Errorf("± %.3f J of one that its kind tells: no two are as alike as that", sd)
	}
	if sd := of(0.03); sd > 0.03 {
		t.Errorf("± %.3f J of one that its own readings tell to 0.03 J", sd)
	}
}

// TestRestAsLongAsItIs: while it is found out when the counter ticks, so many ticks seem to take
// less or more time than they do. Power between patches is no other for that.
func TestRestAsLongAsItIs(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for k := int64(1); k < 300; k++ {
		ns := 100*k*ms + 95*ms - 3*k*ms/10
		trace = append(trace, &record.Counter{BeforeNS: ns - ms, TimeNS: ns, EnergyMilliJ: record.Some(6000 * (ns / (100 * ms)))})
	}
	got, _ := run(t, Options{Sensors: board20()}, trace, []record.Record{event("e", 2000*ms, 25_000*ms)})
	if x := got["e"].Energy; math.Abs(x.Joules.V-60*23) > 0.05 {
		t.Errorf("%.3f ± %.3f J in 23 s, want 1380", x.Joules.V, x.CI95J.V)
	}
}

// TestOneTickMoreOrLess: reads a second apart do not show which ticks they have.
func TestOneTickMoreOrLess(t *testing.T) {
	t.Parallel()
	sd := func(apart float64) float64 {
		track := newTrack(Counter, builtin(Counter))
		track.spacing = apart * 1e9
		p := around(3000*ms, 200e6, -3000*ms, -2000*ms, 5000*ms, 6000*ms)
		p.noise.jump, p.noise.sd[1], p.noise.busy = 400, 0.1, 1
		for at := -2.0; at < 6; at++ {
			u := update{value: 200, window: 1}
			p.readings = append(p.readings, reading{at: at, window: u.window, value: u.value, tick: track.tick(&u), channel: 1})
		}
		settleIn(t, p)
		return math.Sqrt(p.cov[1*p.segments+1])
	}
	if often, seldom := sd(0.1), sd(1); seldom < often+1 {
		t.Errorf("± %.2f J where each tick is read, ± %.2f J where one in ten is: want more, by a part of a tick of 20 J", often, seldom)
	}
}

// TestWidth: a burst that is all inside a mean over a second is that mean times the
// second, and known as well as the second is.
func TestWidth(t *testing.T) {
	t.Parallel()
	p := around(300*ms, 50e6, -1500*ms, -1300*ms, 1600*ms, 1900*ms)
	p.noise.jump, p.wide[3] = 1000, 0.005
	for k := range 30 {
		at := -1.2 + 0.1*float64(k)
		inside := max(0, min(0.3, at)-max(0, at-1))
		p.readings = append(p.readings, reading{at: at, window: 1, value: 60 + 390*inside, channel: 3})
	}
	p.chains[3].tau = 1e-4
	solve := settleIn(t, p)
	by, wider := p.drift(3*perChannel+paramWindow), make([]float64, p.segments)
	p.chains[3].lag -= 0.0025
	solve.window(p, 3, 1.005)
	solve.differ(p, wider, 0.005)
	if by == nil || wider[1] < 50 || math.Abs(by[1]+wider[1]) > 10 {
		t.Errorf("%.1f J for each second by which it is wider, of %.1f J: want %.1f, as its readings show", by, p.joules[1], wider)
	}
	for window, want := range map[float64]float64{1000: 0.01, 100: 0} {
		c := &sensor.Channel{
			UpdateMS: record.Some(100.0), WindowMS: record.Some(window), WindowCI95MS: []float64{window - 19.6, window + 19.6},
			LagMS: record.Some(0.0), LagCI95MS: []float64{-0.5, 0.5}, Coverage: record.Some(1.0),
		}
		if se := respond(Average, c).windowSE; math.Abs(se-want) > 1e-4 {
			t.Errorf("the window of %.0f ms is known to %.4f s about its middle, want %.4f", window, se, want)
		}
	}
}
