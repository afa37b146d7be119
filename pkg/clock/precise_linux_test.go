package clock

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sleep in a thread of its own ends like any other, and with its context.
func TestPrecise(t *testing.T) {
	t.Parallel()
	f := NewFake(7)
	Precise(f, func(c Clock) {
		if c != f {
			t.Errorf("Precise made %T of a fake clock", c)
		}
	})
	ran := false
	Precise(System(), func(c Clock) {
		ran = true
		before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err == nil && before != 1 {
			t.Errorf("the kernel may round by %d ns", before)
		}
		for _, d := range []time.Duration{-time.Hour, time.Millisecond, 120 * time.Millisecond} {
			want := c.Now() + int64(d)
			if err := Sleep(t.Context(), c, want); err != nil || c.Now() < want {
				t.Errorf("Sleep(now+%v) = %v, %v early", d, err, time.Duration(want-c.Now()))
			}
		}
	})
	if !ran {
		t.Error("Precise did not run its function")
	}
}

// BenchmarkWake is how late a tick each 10 ms is while another goroutine is in a system
// call half of the time: its 95th percentile, µs.
func BenchmarkWake(b *testing.B) {
	ticks := func(b *testing.B, c Clock) {
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for at := Now(); ; at += int64(53 * time.Millisecond) {
				System().SleepUntil(at)
				nanosleep(at + int64(25*time.Millisecond))
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		var late []int64
		at := c.Now()
		for b.Loop() {
			at += int64(10 * time.Millisecond)
			c.SleepUntil(at)
			late = append(late, c.Now()-at)
		}
		slices.Sort(late)
		b.ReportMetric(float64(late[len(late)*95/100])/1e3, "µs-late")
	}
	b.Run("system", func(b *testing.B) { ticks(b, System()) })
	b.Run("precise", func(b *testing.B) { Precise(System(), func(c Clock) { ticks(b, c) }) })
}
