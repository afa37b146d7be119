package clock

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestNowNeverGoesBack(t *testing.T) {
	t.Parallel()
	last := Now()
	for range 10000 {
		n := Now()
		if n < last {
			t.Fatalf("Now went from %d to %d", last, n)
		}
		last = n
	}
}

func TestSleepUntilIsNeverEarly(t *testing.T) {
	t.Parallel()
	c := System()
	for _, d := range []time.Duration{-time.Hour, 0, 10 * time.Microsecond, time.Millisecond, 20 * time.Millisecond} {
		want := c.Now() + int64(d)
		c.SleepUntil(want)
		if got := c.Now(); got < want {
			t.Errorf("SleepUntil(now+%v) returned %v early", d, time.Duration(want-got))
		}
	}
	c.SleepUntil(-1) // before the clock's start: past
}

// The two clocks run at the same rate over a few milliseconds, so the offset of
// two pairs differs by no more than the brackets, unless the wall clock is set
// meanwhile.
func TestPair(t *testing.T) {
	t.Parallel()
	m1, u1 := Pair()
	if d := time.Since(time.Unix(0, u1)); d < 0 || d > time.Minute {
		t.Errorf("Pair: the wall clock reads %v ago", d)
	}
	time.Sleep(5 * time.Millisecond)
	m2, u2 := Pair()
	if m2 <= m1 {
		t.Errorf("Pair: monotonic went from %d to %d", m1, m2)
	}
	if d := time.Duration((u2 - m2) - (u1 - m1)); d.Abs() > time.Millisecond {
		t.Errorf("Pair: the offset of the clocks moved by %v", d)
	}
}

func TestBootID(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		if got := BootID(); got != "" {
			t.Errorf("BootID = %q on a system that has none", got)
		}
		return
	}
	if got := BootID(); got != strings.TrimSpace(string(raw)) || got == "" {
		t.Errorf("BootID = %q, want %q", got, raw)
	}
}

func TestCPUTimeGrowsWithWork(t *testing.T) {
	t.Parallel()
	before, ok := CPUTime()
	if !ok {
		t.Skipf("%s does not tell", runtime.GOOS)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		after, _ := CPUTime()
		if after-before > time.Millisecond {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("CPUTime went from %v to %v in 10 s of work", before, after)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	const hour = int64(time.Hour)
	f := NewFake(0)
	if err := Sleep(t.Context(), f, hour+1); err != nil || f.Now() != hour+1 {
		t.Errorf("Sleep = %v at %d, want nil at exactly %d", err, f.Now(), hour+1)
	}
	if err := Sleep(t.Context(), f, hour); err != nil || f.Now() != hour+1 {
		t.Errorf("Sleep into the past = %v at %d", err, f.Now())
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := cancelAfter{f, hour + int64(time.Second), cancel}
	if err := Sleep(ctx, c, 2*hour); err != context.Canceled {
		t.Errorf("Sleep = %v, want %v", err, context.Canceled)
	}
	if late := f.Now() - c.at; late < 0 || late > int64(100*time.Millisecond) {
		t.Errorf("Sleep ended %v after it was cancelled", time.Duration(late))
	}
}

// A long sleep on the machine's clock ends at once with its context, and is
// exact otherwise.
func TestLongSleep(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	begin := Now()
	if err := Sleep(ctx, System(), begin+int64(time.Hour)); err != context.Canceled {
		t.Errorf("Sleep = %v, want %v", err, context.Canceled)
	}
	if took := time.Duration(Now() - begin); took > 5*time.Second {
		t.Errorf("Sleep ended %v after it began", took)
	}
	until := Now() + int64(250*time.Millisecond)
	if err := Sleep(t.Context(), System(), until); err != nil || Now() < until {
		t.Errorf("Sleep = %v, %v early", err, time.Duration(until-Now()))
	}
}

// cancelAfter is a fake clock that cancels when it passes at.
type cancelAfter struct {
	*Fake
	at     int64
	cancel func()
}

func (c cancelAfter) SleepUntil(ns int64) {
	c.Fake.SleepUntil(ns)
	if ns >= c.at {
		c.cancel()
	}
}

func TestFake(t *testing.T) {
	t.Parallel()
	f := NewFake(100)
	f.SleepUntil(50)
	f.Advance(7)
	f.SleepUntil(200)
	f.SleepUntil(150)
	if got := f.Now(); got != 200 {
		t.Errorf("Now = %d, want 200", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("Advance(-1) did not panic")
		}
	}()
	f.Advance(-1)
}

func BenchmarkNow(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Now()
	}
}
