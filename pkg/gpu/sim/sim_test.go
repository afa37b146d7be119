package sim

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// Times of the tests, after the origin, which is 1: 0 would be set to now.
const (
	ms     = int64(time.Millisecond)
	second = int64(time.Second)
	origin = int64(1)
)

func at(seconds float64) int64 { return origin + int64(seconds*1e9) }

// newLoad is a new load file with these segments. What goes wrong by chance is
// off unless the setup has it.
func newLoad(t testing.TB, s Setup, segments ...Segment) *Load {
	t.Helper()
	s.OriginNS = origin
	for _, rate := range []*record.Opt[float64]{&s.Faults.ReadErrorRate, &s.Faults.StallRate, &s.Faults.FloorRate} {
		if !rate.OK {
			*rate = record.Some(0.0)
		}
	}
	l, err := OpenLoad(filepath.Join(t.TempDir(), "gpu.sim"), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	add(t, l, segments...)
	return l
}

func add(t testing.TB, l *Load, segments ...Segment) {
	t.Helper()
	for _, s := range segments {
		if err := l.Append(s); err != nil {
			t.Fatal(err)
		}
	}
}

// watch opens the file of l for a clock that stands at so many seconds after
// the origin.
func watch(t testing.TB, l *Load, seconds float64) (*Device, *clock.Fake) {
	t.Helper()
	c := clock.NewFake(at(seconds))
	d, err := Open(Options{File: l.file.Name(), Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, c
}

func run(from, until, compute float64) Segment {
	return Segment{FromNS: at(from), UntilNS: at(until), Compute: compute, Context: true}
}

func energy(t testing.TB, d *Device, from, until float64) float64 {
	t.Helper()
	e, err := d.Energy(0, at(from), at(until))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func power(t testing.TB, d *Device, seconds float64) float64 {
	t.Helper()
	w, err := d.Power(0, at(seconds))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func sample(d *Device) record.Sample {
	var s record.Sample
	d.GPUs()[0].ReadSample(&s)
	return s
}

func near(t testing.TB, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: got %v, want %v ± %v", what, got, want, tolerance)
	}
}

// randomLoad is load of all kinds within so many seconds: long and short, on
// and off the grid of steps, overlapping, contexts without load.
func randomLoad(r *rand.Rand, seconds float64, n int) []Segment {
	segments := make([]Segment, n)
	for i := range segments {
		from := r.Float64() * seconds
		s := run(from, from+math.Pow(10, 1.5*r.Float64()-2), r.Float64())
		switch r.IntN(4) {
		case 0:
			s.Compute = 0
		case 1:
			s.Memory, s.VRAMMB = r.Float64(), 1000*r.Float64()
		case 2:
			s.FromNS -= (s.FromNS - origin) % ms
		}
		segments[i] = s
	}
	return segments
}

func TestEnergyIsTheIntegralOfPower(t *testing.T) {
	t.Parallel()
	const day = 86400.0
	for _, profile := range Profiles() {
		for name, start := range map[string]float64{"first seconds": 0, "after three days": 3 * day} {
			t.Run(profile+" "+name, func(t *testing.T) {
				t.Parallel()
				r := rand.New(rand.NewPCG(1, 2))
				load := randomLoad(r, 20, 60)
				for i := range load {
					load[i].FromNS += int64(start) * second
					load[i].UntilNS += int64(start) * second
				}
				d, _ := watch(t, newLoad(t, Setup{Profile: profile}, load...), start+60)
				for range 20 {
					from := start + 50*r.Float64()
					until := from + math.Pow(10, 4*r.Float64()-3) // 1 ms to 10 s
					sum := 0.0
					for a := at(from); a < at(until); {
						b := min(a+ms-(a-origin)%ms, at(until))
						w, err := d.Power(0, a)
						if err != nil {
							t.Fatal(err)
						}
						sum += w * float64(b-a) / 1e9
						a = b
					}
					near(t, "energy", energy(t, d, from, until)/sum, 1, 1e-9)
				}
			})
		}
	}
}

// view is all that can be seen of a GPU at an instant.
type view struct {
	state                                     state
	energy                                    joules
	usage, instant, average, vram, window     float64
	counter, number, refreshed, stalled, util int64
}

func look(e *eye, when int64) view {
	v := view{
		state:     e.state(when),
		energy:    e.energy(when),
		usage:     e.reading(e.usage, when),
		instant:   e.reading(e.instant, when),
		average:   e.reading(e.average, when),
		vram:      e.vram(when),
		counter:   e.counter(when),
		number:    e.lastWindow(when),
		refreshed: e.refresh(when),
		stalled:   e.stalled(when),
	}
	v.window = e.seen(forDriver, v.number, e.window(v.number-1), e.window(v.number))
	v.util = int64(100 * e.load.between(v.refreshed-refreshNS, v.refreshed).busy)
	return v
}

// newEye is a GPU without a device, with everything that happens by chance.
func newEye(profile string) *eye {
	p, err := findProfile(profile)
	if err != nil {
		panic(err)
	}
	return &eye{profile: p, history: newHistory(newPhysics(p, p.ambientC), origin), dice: newDice(7, 0), rates: rates{stall: 0.5, floor: 0.2}}
}

// What is seen at an instant does not depend on what was looked at before.
func TestOrderOfLookingDoesNotMatter(t *testing.T) {
	t.Parallel()
	for _, profile := range Profiles() {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(3, 4))
			load := randomLoad(r, 40, 80)
			load = append(load, run(300, 301, 1), run(3000, 3010, 0.5)) // with blocks of rest between
			var times []int64
			for range 40 {
				times = append(times, at(60*r.Float64()), at(4000*r.Float64()))
			}
			inOrder := map[int64]view{}
			for _, when := range times {
				e := newEye(profile) // has looked at nothing else
				for i := range load {
					e.add(&load[i])
				}
				inOrder[when] = look(e, when)
			}
			once := newEye(profile)
			for i := range load {
				once.add(&load[i])
			}
			for _, i := range r.Perm(len(times)) {
				if got, want := look(once, times[i]), inOrder[times[i]]; got != want {
					t.Fatalf("at %.6f s:\ngot  %+v\nwant %+v", float64(times[i]-origin)/1e9, got, want)
				}
			}
		})
	}
}

// Load that is told of late changes the past as if it had been known.
func TestLateLoadRewritesThePast(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for round := range 5 {
		load := randomLoad(r, 60, 40)
		load = append(load, run(1000, 1001, 1), run(500, 501, 1))
		known, late := newEye("h200"), newEye("h200")
		for i := range load {
			known.add(&load[i])
			late.add(&load[i])
			late.energy(at(120 * r.Float64())) // goes too far
			if i%10 == 0 {
				late.energy(at(2000 * r.Float64()))
				late.energy(at(60 * r.Float64())) // and looks back
			}
		}
		for range 30 {
			when := at(100 * r.Float64())
			if got, want := look(late, when), look(known, when); got != want {
				t.Fatalf("round %d at %.6f s:\ngot  %+v\nwant %+v", round, float64(when-origin)/1e9, got, want)
			}
		}
		if got, want := look(late, at(2000)), look(known, at(2000)); got != want {
			t.Fatalf("round %d, long after:\ngot  %+v\nwant %+v", round, got, want)
		}
	}
}

// The past is looked at anew once its load has changed.
func TestLateLoadBeforeWhereWasLooked(t *testing.T) {
	t.Parallel()
	known, late := newEye("h200"), newEye("h200")
	s := run(20, 20.2, 1)
	known.add(&s)
	late.energy(at(100))
	late.energy(at(20.5))
	late.add(&s)
	late.energy(at(100))
	if got, want := look(late, at(20.6)), look(known, at(20.6)); got != want {
		t.Errorf("\ngot  %+v\nwant %+v", got, want)
	}
}

func TestTwoDevicesSeeOneGPU(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{GPUs: 2})
	c := clock.NewFake(at(1))
	var devices [2]*Device
	for i := range devices {
		d, err := Open(Options{File: l.file.Name(), Clock: c})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		devices[i] = d
	}
	other, err := OpenLoad(l.file.Name(), Setup{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r := rand.New(rand.NewPCG(7, 8))
	most := 0.0
	for range 200 {
		c.Advance(r.Int64N(200 * ms))
		to := l
		if r.IntN(2) == 0 {
			to = other
		}
		from := c.Now() + r.Int64N(300*ms) - 100*ms
		add(t, to, Segment{GPU: r.IntN(2), FromNS: from, UntilNS: from + r.Int64N(second) + 1, Compute: r.Float64()})
		for g := range 2 {
			var s [2]record.Sample
			for i, d := range devices {
				d.GPUs()[g].ReadSample(&s[i])
				s[i].ReadUS = record.Opt[float64]{}
			}
			if s[0] != s[1] {
				t.Fatalf("GPU %d:\n%+v\n%+v", g, s[0], s[1])
			}
			most = max(most, s[0].PowerInstantW.V)
		}
	}
	if most < 300 {
		t.Errorf("no more than %v W were seen under load", most)
	}
}

func TestRestIsSteps(t *testing.T) {
	t.Parallel()
	for _, profile := range Profiles() {
		p, err := findProfile(profile)
		if err != nil {
			t.Fatal(err)
		}
		ph := newPhysics(p, p.ambientC)
		for _, context := range []bool{false, true} {
			s := ph.start()
			s.temp += 5
			for range 10 {
				ph.step(&s, use{context: context}) // takes the mode up
			}
			for range 1000 {
				ph.step(&s, use{context: context})
			}
			end, ok := ph.rest(s, context)
			if !ok {
				t.Fatalf("%s, context %v: a GPU at rest does not rest: %+v", profile, context, s)
			}
			for range block {
				ph.step(&s, use{context: context})
			}
			near(t, "temperature", end.temp, s.temp, 1e-9)
			near(t, "power", end.watts, s.watts, 1e-9)
			near(t, "energy", end.energy.minus(s.energy), 0, 1e-9*s.energy.sum)
			end.temp, end.watts, end.energy, end.idle = s.temp, s.watts, s.energy, s.idle
			if end != s {
				t.Errorf("%s, context %v: at once %+v, by steps %+v", profile, context, end, s)
			}
		}
	}
}

// A board that works, cools down or is about to change may not be skipped.
func TestNoRest(t *testing.T) {
	t.Parallel()
	p, _ := findProfile("rtx4080-laptop")
	ph := newPhysics(p, p.ambientC)
	for name, change := range map[string]func(*state){
		"just loaded":     func(s *state) { s.idle = 0; s.mode = loaded },
		"power falls":     func(s *state) { s.draw += 10 },
		"clocks limited":  func(s *state) { s.cap = 0.9 },
		"mode will end":   func(s *state) { s.idle = p.linger - block/2; s.mode = lingering; s.draw = p.modes[lingering].watts },
		"fan will stop":   func(s *state) { s.fan = true; s.temp = p.fanOffC + 0.1 },
		"fan will start":  func(s *state) { s.temp = p.fanOnC + 0.1 },
		"heat holds":      func(s *state) { s.fan = true; s.temp = p.throttleC + 5 },
		"held by slowing": func(s *state) { s.slow = true },
	} {
		s := ph.start()
		if _, ok := ph.rest(s, false); !ok {
			t.Fatal("the start is no rest")
		}
		change(&s)
		if _, ok := ph.rest(s, false); ok {
			t.Errorf("%s: was skipped", name)
		}
	}
}

// A month of rest has 2.6 billion steps, which would take a minute or more.
func TestIdleIsSkipped(t *testing.T) {
	t.Parallel()
	const month = 30 * 86400.0
	started := time.Now()
	d, _ := watch(t, newLoad(t, Setup{}, run(10, 20, 1), Segment{FromNS: at(month - 86400), UntilNS: at(month), Context: true}), month+10)
	near(t, "power without a context", power(t, d, month/2), 79, 1)
	near(t, "power with a context", power(t, d, month-10), 124, 1)
	near(t, "energy of a day", energy(t, d, 1000, 1000+86400)/86400, power(t, d, 1000), 1e-6)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("a month took %v", took)
	}
	if n := len(d.boards[0].eye.marks); n > 8000 {
		t.Errorf("%d marks were kept of a month", n)
	}
}

func TestConcurrentReadings(t *testing.T) {
	t.Parallel()
	l, err := OpenLoad(filepath.Join(t.TempDir(), "gpu.sim"), Setup{GPUs: 2, Faults: Faults{StallRate: record.Some(0.0)}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := Open(Options{File: l.file.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var all sync.WaitGroup
	all.Go(func() {
		for range 50 {
			now := clock.Now()
			if err := l.Append(Segment{GPU: 1, FromNS: now - ms, UntilNS: now + 5*ms, Compute: 0.5, PID: 7}); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	for _, g := range d.GPUs() {
		var s record.Sample
		var b gpu.PowerBatch
		var c record.Counter
		var u record.GPM
		for name, read := range map[string]func() bool{
			gpu.Sample:  func() bool { g.ReadSample(&s); return s.ReadOK },
			gpu.Power:   func() bool { return g.ReadPower(&b) == nil },
			gpu.Counter: func() bool { g.ReadCounter(&c); return c.EnergyMilliJ.OK },
			gpu.GPM:     func() bool { _, err := g.ReadGPM(&u); return err == nil },
			gpu.Process: func() bool { return g.ReadProcesses(new(gpu.ProcessBatch)) == nil },
			"truth": func() bool {
				_, err := d.Energy(g.Info().Index, 0, clock.Now())
				return err == nil
			},
		} {
			all.Go(func() {
				for end := clock.Now() + 100*ms; clock.Now() < end; {
					if !read() {
						t.Errorf("GPU %d: no reading of %s", g.Info().Index, name)
						return
					}
				}
			})
		}
	}
	all.Wait()
}
