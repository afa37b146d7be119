package load

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// bubble is the clock of a synctest bubble, in which a second takes no time.
type bubble struct {
	epoch time.Time
	held  func(ns int64) time.Duration // how much longer a sleep to ns is; may be nil
}

func (b bubble) Now() int64 { return int64(time.Since(b.epoch)) + 1e9 }

func (b bubble) SleepUntil(ns int64) {
	d := time.Duration(ns - b.Now())
	if b.held != nil {
		d += b.held(ns)
	}
	time.Sleep(d)
}

// engine is a GPU that takes its time over launches, and notes them.
type engine struct {
	clock clock.Clock
	costs []Cost
	speed float64                // in times of what the costs say; 0 is 1
	pace  func(ns int64) float64 // the same, where it changes

	mu       sync.Mutex
	launches []launched // all of them
	since    int        // Begin
	fail     int        // the call of Put that fails, counted from 1
	lost     int64      // from when the GPU is lost; 0: never
	hang     int        // the launch that is never over, counted from 1
	stuck    chan struct{}
	wrong    error
}

type launched struct{ from, until int64 }

func (e *engine) Do(f func() error) error { return f() }

func (e *engine) Costs() ([]Cost, int) { return e.costs, len(e.costs) - 1 }

func (e *engine) Begin() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.launches); n > 0 && e.launches[n-1].until > e.clock.Now() {
		return errors.New("begun while the GPU is at work")
	}
	e.since = len(e.launches)
	return nil
}

func (e *engine) Put(size int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	from := e.clock.Now()
	n := len(e.launches)
	if n > e.since && e.launches[n-1].until > from {
		from = e.launches[n-1].until
	}
	if n+1 == e.fail {
		return errors.New("launch failed")
	}
	d := e.costs[size].Time
	if e.speed > 0 {
		d = time.Duration(float64(d) / e.speed)
	}
	if e.pace != nil {
		d = time.Duration(float64(d) / e.pace(from))
	}
	until := from + int64(d)
	if n+1 == e.hang {
		until = math.MaxInt64 / 2
	}
	e.launches = append(e.launches, launched{from, until})
	return nil
}

func (e *engine) Done() (n int, err error) {
	e.mu.Lock()
	if e.stuck != nil && e.hang > 0 && len(e.launches) >= e.hang {
		e.mu.Unlock()
		<-e.stuck // the driver itself hangs
		e.mu.Lock()
	}
	defer e.mu.Unlock()
	now := e.clock.Now()
	if e.lost > 0 && now >= e.lost {
		return 0, errors.New("the GPU is lost")
	}
	for n = len(e.launches); n > e.since && e.launches[n-1].until > now; n-- {
	}
	return n - e.since, nil
}

func (e *engine) End() (first, last int64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.launches[e.since].from, e.launches[len(e.launches)-1].until, nil
}

func (e *engine) Check() error { return e.wrong }

// steps are launches of 50 µs to 400 µs.
func steps() []Cost {
	var all []Cost
	for _, d := range []time.Duration{50, 100, 200, 400} {
		all = append(all, Cost{Time: d * time.Microsecond, FLOPs: float64(d) * 1e6})
	}
	return all
}

// on plays a plan on engines in a bubble and returns the events, the markers, and
// what came of it.
func on(t *testing.T, ctx context.Context, rig Rig, c clock.Clock, plan Plan, engines ...*engine) (events []*record.Event, markers []string, ran Ran, err error) {
	t.Helper()
	for i, e := range engines {
		e.clock = c
		if e.costs == nil {
			e.costs = steps()
		}
		rig.Queues = append(rig.Queues, e)
		rig.GPUs = append(rig.GPUs, i)
	}
	ran, err = rig.Run(ctx, c, plan, func(r record.Record) error {
		switch r := r.(type) {
		case *record.Event:
			events = append(events, r)
		case *record.Marker:
			markers = append(markers, r.Name)
		}
		return nil
	})
	return events, markers, ran, err
}

func number(t *testing.T, e *record.Event, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(field(e, name), 64)
	if err != nil {
		t.Errorf("%s of %s: %v", name, e.ID, err)
	}
	return v
}

// The GPU works in the events and nowhere else, all the time, and they lie on the
// grid as closely as launches are short.
func TestRigKeepsTheGrid(t *testing.T) {
	t.Parallel()
	for _, speed := range []float64{1, 0.6, 1.7} {
		synctest.Test(t, func(t *testing.T) {
			c := bubble{epoch: time.Now()}
			gpu := &engine{speed: speed}
			const low, high, cycles = 10 * time.Millisecond, 10 * time.Millisecond, 60
			events, _, ran, err := on(t, t.Context(), Rig{}, c, Square{Low: low, High: high, Cycles: cycles, Kernel: FP32}.Plan(), gpu)
			if err != nil || ran.Late > 0 || ran.Unsure != nil || ran.Hot || len(events) != 2*cycles {
				t.Fatalf("%+v, %v, %d events", ran, err, len(events))
			}
			t0, k, flops := events[0].StartNS, 0, 0.0
			for i, e := range events {
				from := t0 + int64(i)*int64(low)
				off, end := time.Duration(e.StartNS-from), time.Duration(e.EndNS-from-int64(high))
				if off < 0 || off > 200*time.Microsecond || end.Abs() > 200*time.Microsecond {
					t.Errorf("×%v: %s begins %v and ends %v off the grid", speed, e.ID, off, end)
				}
				if e.Phase == "square_low" {
					if len(e.Extra) != 2 {
						t.Errorf("%s has %s", e.ID, e.Extra)
					}
					continue
				}
				n, busy := int(number(t, e, "launches")), int64(0)
				for _, l := range gpu.launches[k : k+n] {
					if l.from < e.StartNS || l.until > e.EndNS {
						t.Fatalf("×%v: a launch [%d, %d] outside %s [%d, %d]", speed, l.from, l.until, e.ID, e.StartNS, e.EndNS)
					}
					busy += l.until - l.from
				}
				k += n
				if d := e.EndNS - e.StartNS; busy < d-150e3 || field(e, "load_gap_s") != "" {
					t.Errorf("×%v: %s of %d ns has work for %d", speed, e.ID, d, busy)
				}
				if b := number(t, e, "busy_s"); math.Abs(b-float64(busy)/1e9) > 150e-6 {
					t.Errorf("busy_s %v: it was %d ns", b, busy)
				}
				if f, l := number(t, e, "first_launch_us"), number(t, e, "last_launch_us"); f < 0 || f > 50 || l < 0 || l > 100 {
					t.Errorf("first launch %v µs after the start, last %v before the end", f, l)
				}
				flops += number(t, e, "flops")
				if r := number(t, e, "flops_per_s"); math.Abs(r/(1e12*speed)-1) > 0.06 {
					t.Errorf("×%v: %v operations a second", speed, r)
				}
			}
			if k != len(gpu.launches) || flops == 0 {
				t.Errorf("%d of %d launches are in events", k, len(gpu.launches))
			}
		})
	}
}

// A load below full intensity has that share of the time, to a launch.
func TestRigIntensity(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0, 0.02, 0.25, 0.5, 0.99} {
		synctest.Test(t, func(t *testing.T) {
			gpu := &engine{speed: 0.9}
			events, _, ran, err := on(t, t.Context(), Rig{}, bubble{epoch: time.Now()},
				Steady{Duration: 2 * time.Second, Level: BF16.Level(share), Event: record.Event{ID: "soak"}}.Plan(), gpu)
			if err != nil || len(events) != 1 {
				t.Fatalf("%v, %d events", err, len(events))
			}
			busy := 0.0
			for _, l := range gpu.launches {
				busy += float64(l.until-l.from) / 1e9
			}
			if math.Abs(busy-2*share) > 2e-3 {
				t.Errorf("intensity %v: work for %v s of 2", share, busy)
			}
			if share == 0 && len(events[0].Extra)+int(ran.Loaded) != 0 {
				t.Errorf("no load has %s", events[0].Extra)
			}
			if share > 0 && field(events[0], "last_launch_us") != "" {
				t.Error("the end of the last period is taken for that of the load")
			}
			// In 10 ms it has its share, too.
			for from := events[0].StartNS; from < events[0].EndNS; from += int64(100 * time.Millisecond) {
				part := 0.0
				for _, l := range gpu.launches {
					part += max(0, float64(min(l.until, from+100e6)-max(l.from, from))/100e6)
				}
				if math.Abs(part-share) > 0.02 {
					t.Errorf("intensity %v: %v in 100 ms", share, part)
				}
			}
		})
	}
}

// The end of ctx ends the load within what the GPU was given, about a
// millisecond.
func TestRigInterrupted(t *testing.T) {
	t.Parallel()
	plan := Square{Low: 30 * time.Millisecond, High: 70 * time.Millisecond, Cycles: 4, Kernel: FP32}.Plan()
	for at := 5 * time.Millisecond; at < 450*time.Millisecond; at += 7300 * time.Microsecond {
		synctest.Test(t, func(t *testing.T) {
			c := bubble{epoch: time.Now()}
			ctx, cancel := context.WithTimeout(t.Context(), at)
			defer cancel()
			gpu := &engine{}
			events, _, _, err := on(t, ctx, Rig{Stall: time.Second}, c, plan, gpu)
			if err != nil {
				t.Fatal(err)
			}
			over := c.Now() - 1e9
			if d := time.Duration(over) - at; d > 110*time.Millisecond { // a sleep without load lasts as long
				t.Errorf("stopped at %v, over %v later", at, d)
			}
			if n := len(gpu.launches); n > 0 {
				if d := time.Duration(gpu.launches[n-1].until-1e9) - at; d > 1300*time.Microsecond {
					t.Errorf("stopped at %v, work for %v more", at, d)
				}
			}
			for i, e := range events {
				cut := field(e, "interrupted") == "true"
				if cut != (i == len(events)-1) {
					t.Errorf("stopped at %v: event %d of %d: %s", at, i, len(events), e.Extra)
				}
				if cut && e.Phase == "square_high" && e.EndNS < gpu.launches[len(gpu.launches)-1].until {
					t.Errorf("stopped at %v: the event ends before its load", at)
				}
			}
			if at > 101*time.Millisecond && len(events) == 0 {
				t.Errorf("stopped at %v: no event", at)
			}
		})
	}
}

// A GPU that fails ends the plan; the event under way ends there, and says so.
func TestRigFails(t *testing.T) {
	t.Parallel()
	plan := Square{Low: 20 * time.Millisecond, High: 20 * time.Millisecond, Cycles: 10, Kernel: FP32}.Plan()
	for name, bad := range map[string]*engine{"a launch": {fail: 70}, "lost": {lost: 1e9 + int64(165*time.Millisecond)}} {
		synctest.Test(t, func(t *testing.T) {
			c := bubble{epoch: time.Now()}
			events, _, _, err := on(t, t.Context(), Rig{}, c, plan, &engine{}, bad)
			if err == nil || len(events) != 4 {
				t.Fatalf("%s: %v, %d events", name, err, len(events))
			}
			last := events[3]
			if field(last, "interrupted") != "true" || field(last, "error") == "" || !slices.Equal(last.GPUs, []int{0, 1}) || field(events[2], "interrupted") != "" {
				t.Errorf("%s: %s", name, last.Extra)
			}
			if at := time.Duration(c.Now() - 1e9); at > 400*time.Millisecond {
				t.Errorf("%s: over after %v", name, at)
			}
		})
	}
}

// A GPU that does nothing any more is given up, and so is a driver that does not
// return.
func TestRigHangs(t *testing.T) {
	t.Parallel()
	plan := Steady{Duration: time.Minute, Level: FP32.Level(1), Event: record.Event{ID: "soak"}}.Plan()
	for _, driver := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := bubble{epoch: time.Now()}
			bad := &engine{hang: 2000}
			if driver {
				bad.stuck = make(chan struct{})
				defer func() { close(bad.stuck); time.Sleep(time.Second) }()
			}
			events, _, _, err := on(t, t.Context(), Rig{Stall: 2 * time.Second}, c, plan, &engine{}, bad)
			stalled := (*StallError)(nil)
			if !errors.As(err, &stalled) || stalled.GPU != 1 {
				t.Fatalf("%v", err)
			}
			at := time.Duration(c.Now() - 1e9)
			if !driver {
				time.Sleep(time.Second) // the worker leaves by itself
			}
			bad.mu.Lock()
			defer bad.mu.Unlock()
			if begun := time.Duration(bad.launches[1998].until - 1e9); at-begun < 2*time.Second || at-begun > 2500*time.Millisecond {
				t.Errorf("given up %v after the last that was done", at-begun)
			}
			if len(events) != 1 || field(events[0], "error") == "" || field(events[0], "interrupted") != "true" {
				t.Fatalf("%d events: %+v", len(events), events)
			}
			if n := number(t, events[0], "launches"); n < 1000 {
				t.Errorf("the GPU that works has %v launches", n)
			}
		})
	}
}

// A process that was stopped longer than a GPU may take does not take it for
// hung.
func TestRigStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := stopped{bubble{epoch: time.Now()}, func(now int64) int64 {
			if now > 1e9+int64(400*time.Millisecond) {
				return int64(time.Minute) // the clock went on
			}
			return 0
		}}
		events, _, _, err := on(t, t.Context(), Rig{Stall: 2 * time.Second}, c,
			Steady{Duration: 61 * time.Second, Level: FP32.Level(1), Event: record.Event{ID: "soak"}}.Plan(), &engine{})
		if err != nil || len(events) != 1 || field(events[0], "interrupted") != "" {
			t.Fatalf("%v, %d events", err, len(events))
		}
		if gap := number(t, events[0], "load_gap_s"); gap < 59.9 || gap > 60.1 {
			t.Errorf("a gap of %v s", gap)
		}
	})
}

// Nor when it looks before the worker did.
func TestRigLooksAtItself(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(1e9)
	w := &worker{gpu: 3}
	w.alive.Store(1e9)
	p := ensemble{Rig: Rig{Stall: 2 * time.Second}, clock: c, workers: []*worker{w}, stop: func() {}, looked: 1e9}
	p.look()
	c.Advance(int64(time.Minute))
	if p.look(); w.lost.Load() {
		t.Fatal("a GPU was given up that nobody looked at for a minute")
	}
	for range 18 {
		c.Advance(int64(watchPeriod))
		p.look()
	}
	if w.lost.Load() {
		t.Error("given up before its time")
	}
	for range 2 {
		c.Advance(int64(watchPeriod))
		p.look()
	}
	if !w.lost.Load() || p.failed == nil {
		t.Error("not given up")
	}
}

// stopped is a clock that jumps, as it does for a process that was stopped.
type stopped struct {
	bubble
	ahead func(now int64) int64
}

func (s stopped) Now() int64 {
	now := s.bubble.Now()
	return now + s.ahead(now)
}

func (s stopped) SleepUntil(ns int64) { time.Sleep(time.Duration(ns - s.Now())) }

// Several GPUs work at the same time, and an event is all of theirs.
func TestRigOfSeveral(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fast, slow := &engine{speed: 1.5}, &engine{speed: 0.5}
		events, _, _, err := on(t, t.Context(), Rig{}, bubble{epoch: time.Now()},
			Square{Low: 50 * time.Millisecond, High: 50 * time.Millisecond, Cycles: 3, Kernel: BF16}.Plan(), fast, slow)
		if err != nil || len(events) != 6 {
			t.Fatalf("%v, %d events", err, len(events))
		}
		launches := 0
		for _, e := range events {
			if e.Phase == "square_low" {
				continue
			}
			n := int(number(t, e, "launches"))
			launches += n
			in := 0
			for _, l := range slices.Concat(fast.launches, slow.launches) {
				if l.from >= e.StartNS && l.until <= e.EndNS {
					in++
				}
			}
			if in != n {
				t.Errorf("%d launches lie in %s, which tells of %d", in, e.ID, n)
			}
			if r := number(t, e, "flops_per_s"); math.Abs(r/2e12-1) > 0.06 {
				t.Errorf("%v operations a second of two GPUs", r)
			}
			if !slices.Equal(e.GPUs, []int{0, 1}) {
				t.Errorf("of GPUs %v", e.GPUs)
			}
		}
		if launches != len(fast.launches)+len(slow.launches) {
			t.Errorf("%d launches of %d and %d", launches, len(fast.launches), len(slow.launches))
		}
	})
}

// A GPU whose clocks fall and rise again always has work, though sleeps are late.
func TestRigKeepsUp(t *testing.T) {
	t.Parallel()
	for _, late := range []int{20, 80, 300} { // µs, at least
		synctest.Test(t, func(t *testing.T) {
			dice := rand.New(rand.NewPCG(1, 2))
			c := bubble{epoch: time.Now(), held: func(int64) time.Duration { return time.Duration(late+dice.IntN(late)) * time.Microsecond }}
			gpu := &engine{pace: func(ns int64) float64 {
				if at := time.Duration(ns-1e9) % time.Second; at > 300*time.Millisecond && at < 500*time.Millisecond {
					return 0.6
				}
				return 1.1
			}}
			events, _, _, err := on(t, t.Context(), Rig{}, c, Steady{Duration: 2 * time.Second, Level: FP32.Level(1), Event: record.Event{ID: "soak"}}.Plan(), gpu)
			if err != nil || len(events) != 1 || len(gpu.launches) < 2000 {
				t.Fatalf("%v, %d events, %d launches", err, len(events), len(gpu.launches))
			}
			idle := int64(0)
			for i, l := range gpu.launches[1:] {
				idle += l.from - gpu.launches[i].until
			}
			if gap := field(events[0], "load_gap_s"); gap != "" || idle > int64(2*time.Millisecond) {
				t.Errorf("sleeps are %d µs late: nothing to do for %v of 2 s, and a gap of %q is told", late, time.Duration(idle), gap)
			}
		})
	}
}

// A process that is held up says for how long the GPU had nothing to do, and what
// it could not do at all.
func TestRigHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		once := false
		c := bubble{epoch: time.Now(), held: func(ns int64) time.Duration {
			if !once && ns > 1e9+int64(150*time.Millisecond) {
				once = true
				return 75 * time.Millisecond
			}
			return 0
		}}
		events, _, ran, err := on(t, t.Context(), Rig{}, c, Square{Low: 20 * time.Millisecond, High: 40 * time.Millisecond, Cycles: 5, Kernel: FP32}.Plan(), &engine{})
		if err != nil || ran.Late == 0 || len(events)+ran.Late != 10 {
			t.Fatalf("%+v, %v, %d events", ran, err, len(events))
		}
		whole := false
		for _, e := range events {
			whole = whole || e.EndNS-e.StartNS > int64(60*time.Millisecond) // the one that was held up
		}
		if !whole {
			t.Error("no event is as long as it took")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		once := false
		c := bubble{epoch: time.Now(), held: func(ns int64) time.Duration {
			if !once && ns > 1e9+int64(150*time.Millisecond) {
				once = true
				return 30 * time.Millisecond
			}
			return 0
		}}
		events, _, _, err := on(t, t.Context(), Rig{}, c, Steady{Duration: 200 * time.Millisecond, Level: FP32.Level(1), Event: record.Event{ID: "soak"}}.Plan(), &engine{})
		if err != nil || len(events) != 1 {
			t.Fatalf("%v, %d events", err, len(events))
		}
		if gap := number(t, events[0], "load_gap_s"); gap < 0.027 || gap > 0.031 {
			t.Errorf("a gap of %v s: the process was held up for 30 ms, with a millisecond of work", gap)
		}
	})
}

// While a GPU is too hot there is no load, and the stream tells it.
func TestRigTooHot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		cool    time.Duration // when the GPU is cool again; 0: never
		markers int
		hot     bool
	}{{"and cool again", 4 * time.Second, 2, false}, {"to the end", 0, 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			clk := bubble{epoch: time.Now()}
			g := &Guard{Max: 83, Resume: 80, Read: func() []record.Opt[float64] {
				at, temp := time.Duration(clk.Now()-1e9), 60.0
				if at > 1500*time.Millisecond && (c.cool == 0 || at < c.cool) {
					temp = 85
				}
				return []record.Opt[float64]{record.Some(temp)}
			}}
			g.Changes()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go g.Watch(ctx, clk)
			gpu := &engine{}
			events, markers, ran, err := on(t, ctx, Rig{Guard: g}, clk, Steady{Duration: 8 * time.Second, Level: FP32.Level(1), Event: record.Event{ID: "soak"}}.Plan(), gpu)
			stop()
			time.Sleep(time.Second) // for the watch's end
			if err != nil || len(events) != 1 || len(markers) != c.markers || ran.Hot != c.hot || markers[0] != "thermal_pause" {
				t.Fatalf("%s: %+v, %v, %d events, %v", c.name, ran, err, len(events), markers)
			}
			e := events[0]
			idle := float64(e.EndNS-e.StartNS) / 1e9
			for _, l := range gpu.launches {
				idle -= float64(l.until-l.from) / 1e9
			}
			if p := number(t, e, "thermal_pause_s"); math.Abs(p-idle) > 0.02 || p < 0.9 || math.Abs(p-ran.Paused.Seconds()) > 1e-6 {
				t.Errorf("%s: thermal_pause_s %v, %v s without load", c.name, p, idle)
			}
			if d := e.EndNS - e.StartNS; d < int64(7990*time.Millisecond) || field(e, "interrupted") != "" {
				t.Errorf("%s: the event is of %d ns: %s", c.name, d, e.Extra)
			}
		})
	}
}

func TestRigChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("2 + 2 is 5")
		_, _, ran, err := on(t, t.Context(), Rig{}, bubble{epoch: time.Now()}, Square{Low: 1e6, High: 5e6, Cycles: 1, Kernel: FP32}.Plan(), &engine{wrong: wrong})
		if err != nil || !errors.Is(ran.Unsure, wrong) {
			t.Errorf("%+v, %v", ran, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, full := bubble{epoch: time.Now()}, errors.New("disk full")
		gpu := &engine{clock: c, costs: steps()}
		rig := Rig{GPUs: []int{0}, Queues: []Queue{gpu}}
		told := 0
		_, err := rig.Run(t.Context(), c, Square{Low: 1e6, High: 5e6, Cycles: 1000, Kernel: FP32}.Plan(), func(record.Record) error { told++; return full })
		if !errors.Is(err, full) || told != 1 || c.Now() > 2e9 {
			t.Errorf("%v after %d records, at %d", err, told, c.Now())
		}
	})
}
