package load

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

const ms = int64(time.Millisecond)

// lease is what a bench was asked for, and when.
type leased struct {
	level             Level
	from, until, when int64
}

// bench is a device that notes what it gets.
type bench struct {
	Idle
	clock  clock.Clock
	leases []leased
	fail   int // the call that fails, counted from 1
}

func (b *bench) Apply(l Level, from, until int64) error {
	b.leases = append(b.leases, leased{l, from, until, b.clock.Now()})
	if len(b.leases) == b.fail {
		return errors.New("the bench is on fire")
	}
	return nil
}

// rough is a clock whose sleepers oversleep: late gives by how much, from the
// time asked for.
type rough struct {
	*clock.Fake
	late func(ns int64) int64
}

func (r rough) SleepUntil(ns int64) {
	if ns > r.Now() {
		r.Fake.SleepUntil(ns + r.late(ns))
	}
}

// play plays a plan from second 10 on a clock that oversleeps, and returns the
// events and what was leased.
func play(t *testing.T, ctx context.Context, plan Plan, late func(int64) int64) ([]*record.Event, []leased) {
	t.Helper()
	c := rough{clock.NewFake(10e9), late}
	dev := &bench{Idle: Idle{0}, clock: c}
	var events []*record.Event
	err := Play(ctx, c, dev, plan, func(r record.Record) error {
		e := r.(*record.Event)
		if now := c.Now(); now < e.EndNS {
			t.Errorf("%s is told %d ms before its end", e.ID, (e.EndNS-now)/ms)
		}
		events = append(events, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, dev.leases
}

func punctual(int64) int64 { return 0 }

func field(e *record.Event, name string) string {
	if i := slices.IndexFunc(e.Extra, func(f record.Field) bool { return f.Name == name }); i >= 0 {
		return string(e.Extra[i].Value)
	}
	return ""
}

// Whatever the sleeps do, cycle k begins at t0 + k (low + high), and the load
// of each part is exactly as long as its event.
func TestSquareHasNoDrift(t *testing.T) {
	t.Parallel()
	const low, high, cycles = 130 * time.Millisecond, 270 * time.Millisecond, 500
	plan := Square{Low: low, High: high, Cycles: cycles, Kernel: BF16}.Plan()
	for name, late := range map[string]func(int64) int64{
		"punctual":  punctual,
		"7 ms late": func(int64) int64 { return 7 * ms },
		"erratic":   func(ns int64) int64 { return ns / ms * 31 % 90 * ms },
	} {
		events, leases := play(t, context.Background(), plan, late)
		if len(events) != 2*cycles {
			t.Fatalf("%s: %d events", name, len(events))
		}
		t0 := events[0].StartNS
		if t0 != 10e9+int64(lead) {
			t.Errorf("%s: begins at %d", name, t0)
		}
		for i, e := range events {
			start := t0 + int64(i/2)*int64(low+high)
			end := start + int64(low)
			phase := "square_low"
			if i%2 == 1 {
				start, end, phase = end, end+int64(high), "square_high"
			}
			if e.StartNS != start || e.EndNS != end || e.Phase != phase || !slices.Equal(e.GPUs, []int{0}) || field(e, "load_gap_s") != "" {
				t.Fatalf("%s: event %d is %s [%d, %d] %s: want %s [%d, %d]", name, i, e.Phase, e.StartNS, e.EndNS, e.Extra, phase, start, end)
			}
		}
		at := t0
		for _, l := range leases {
			if l.from != at || l.until-l.from > int64(lease) || l.when > l.from || l.until-l.when > int64(lead+lease) {
				t.Fatalf("%s: lease [%d, %d] taken at %d; the one before ended at %d", name, l.from, l.until, l.when, at)
			}
			at = l.until
			e := events[slices.IndexFunc(events, func(e *record.Event) bool { return e.EndNS >= l.until })]
			if l.from < e.StartNS || (l.level.Compute > 0) != (e.Phase == "square_high") {
				t.Fatalf("%s: lease %+v in %s [%d, %d]", name, l, e.Phase, e.StartNS, e.EndNS)
			}
		}
		if last := events[len(events)-1].EndNS; at != last {
			t.Errorf("%s: load until %d, events until %d", name, at, last)
		}
	}
}

// A process that is held up longer than its load is leased for has a pause in
// it, says so, and is in time again afterwards.
func TestPauseIsTold(t *testing.T) {
	t.Parallel()
	plan := Square{Low: time.Second, High: time.Second, Cycles: 3, Kernel: FP32}.Plan()
	// The sleep to 11.2 s, for the lease from 11.3 s on, ends at 11.75 s.
	held := func(ns int64) int64 {
		if ns == 11200*ms {
			return 550 * ms
		}
		return 0
	}
	events, leases := play(t, context.Background(), plan, held)
	for i, e := range events {
		want := ""
		if i == 1 {
			want = "0.45"
		}
		if got := field(e, "load_gap_s"); got != want || e.StartNS != 10100*ms+int64(i)*1e9 {
			t.Errorf("%s begins at %d with a gap of %q: want %q", e.ID, e.StartNS, got, want)
		}
	}
	for i := 1; i < len(leases); i++ {
		if gap := leases[i].from - leases[i-1].until; gap != 0 && (gap != 450*ms || leases[i].from != 11750*ms) {
			t.Errorf("pause of %d ms before %d", gap/ms, leases[i].from)
		}
	}
}

// An interrupted event ends where its load does.
func TestInterruption(t *testing.T) {
	t.Parallel()
	plan := Infer{Shape: shape(t, "llama-3.1-8b"), Batches: []int{2}, Prompts: []int{512}, Gens: []int{100}, Reps: 2, Gap: time.Second}.Plan(boards["h200"])
	for at := int64(9900); at < 15000; at += 97 {
		ctx, cancel := context.WithCancel(context.Background())
		events, leases := play(t, ctx, plan, func(ns int64) int64 {
			if ns >= at*ms {
				cancel()
			}
			return 0
		})
		cancel()
		if len(leases) == 0 {
			if len(events) > 0 {
				t.Errorf("stopped at %d ms: %d events without a load", at, len(events))
			}
			continue
		}
		end := leases[len(leases)-1].until
		if end > (at+300)*ms {
			t.Errorf("stopped at %d ms: load until %d", at, end/ms)
		}
		for i, e := range events {
			cut := i == len(events)-1 && field(e, "interrupted") == "true"
			whole := e.TokensPerSecond.OK && (e.InputTokens.OK != e.OutputTokens.OK)
			if cut && (e.EndNS != end || e.InputTokens.OK || e.OutputTokens.OK || e.TokensPerSecond.OK) || !cut && (!whole || e.EndNS > end || field(e, "interrupted") != "") {
				t.Errorf("stopped at %d ms: event %d of %d is %+v, load until %d", at, i, len(events), e, end)
			}
		}
	}
}

// What ran before a failure is told.
func TestFailures(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(10e9)
	plan := Square{Low: 200 * time.Millisecond, High: 200 * time.Millisecond, Cycles: 3, Kernel: FP32}.Plan()
	dev := &bench{Idle: Idle{0}, clock: c, fail: 4}
	var events []*record.Event
	err := Play(context.Background(), c, dev, plan, func(r record.Record) error {
		events = append(events, r.(*record.Event))
		return nil
	})
	if err == nil || len(dev.leases) != 4 || len(events) != 2 {
		t.Fatalf("%v after %d leases, %d events", err, len(dev.leases), len(events))
	}
	if e := events[1]; e.EndNS != dev.leases[2].until || field(e, "interrupted") != "true" {
		t.Errorf("the event under way is %+v", e)
	}

	dev = &bench{Idle: Idle{0}, clock: c}
	full, told := errors.New("disk full"), 0
	err = Play(context.Background(), c, dev, plan, func(record.Record) error { told++; return full })
	if !errors.Is(err, full) || told != 1 || len(dev.leases) > 6 {
		t.Errorf("%v after %d records, %d leases", err, told, len(dev.leases))
	}
}

func TestExperiment(t *testing.T) {
	t.Parallel()
	c := clock.NewFake(5)
	var names []string
	emit := func(r record.Record) error {
		switch r := r.(type) {
		case *record.Marker:
			names = append(names, r.Name+string(r.Extra[0].Value))
			if r.TimeNS != c.Now() {
				t.Errorf("%s at %d: it is %d", r.Name, r.TimeNS, c.Now())
			}
		case *record.Event:
			names = append(names, r.Phase)
		}
		return nil
	}
	work := func() error {
		return Play(context.Background(), c, Idle{}, Steady{Duration: time.Second, Event: record.Event{Phase: "idle"}}.Plan(), emit)
	}
	if err := Experiment("base", c, emit, work); err != nil {
		t.Fatal(err)
	}
	if want := []string{`start_experiment"base"`, "idle", `end_experiment"base"`}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}
