package sched

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/clock"
)

const ms = int64(time.Millisecond)

func TestFrom(t *testing.T) {
	t.Parallel()
	g := Grid{Start: 1000, Period: 10}
	for _, c := range []struct{ ns, want int64 }{
		{-5, 0}, {999, 0}, {1000, 0}, {1001, 1}, {1009, 1}, {1010, 1}, {1011, 2}, {1995, 100},
	} {
		if got := g.From(c.ns); got != c.want {
			t.Errorf("From(%d) = %d, want %d", c.ns, got, c.want)
		}
		if at := g.At(g.From(c.ns)); at < c.ns {
			t.Errorf("At(From(%d)) = %d, in the past", c.ns, at)
		}
	}
}

// walk runs the loop that every user of a grid has: wait for a tick, read,
// look for the next. read says how long the reading of tick k takes.
func walk(t *testing.T, g Grid, c *clock.Fake, ticks int, read func(k int64) int64) (seen, late []int64, dropped int64) {
	t.Helper()
	k := int64(-1)
	for range ticks {
		next, missed := g.Next(k, c.Now())
		l, err := g.Wait(t.Context(), c, next)
		if err != nil {
			t.Fatal(err)
		}
		k = next
		seen, late, dropped = append(seen, k), append(late, l), dropped+missed
		c.Advance(read(k))
	}
	return seen, late, dropped
}

func TestStalls(t *testing.T) {
	t.Parallel()
	const period = 100 * ms
	for _, c := range []struct {
		name    string
		stall   int64 // what the reading of tick 2 takes
		next    int64 // the tick after it
		dropped int64
	}{
		{"no stall", 0, 3, 0},
		{"within the period", period - 1, 3, 0},
		{"exactly one period", period, 3, 0},
		{"1.5 periods", 3 * period / 2, 4, 1},
		{"7 periods", 7 * period, 9, 6},
		{"1000 periods", 1000 * period, 1002, 999},
		{"1000 periods and a nanosecond", 1000*period + 1, 1003, 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := Grid{Start: 5 * ms, Period: period}
			seen, late, dropped := walk(t, g, clock.NewFake(0), 5, func(k int64) int64 {
				if k == 2 {
					return c.stall
				}
				return ms
			})
			if want := []int64{0, 1, 2, c.next, c.next + 1}; !slices.Equal(seen, want) || dropped != c.dropped {
				t.Errorf("ticks %v with %d dropped, want %v with %d", seen, dropped, want, c.dropped)
			}
			if !slices.Equal(late, make([]int64, 5)) {
				t.Errorf("late by %v: a stall must not make the next tick late", late)
			}
		})
	}
}

// A reading longer than the period lowers the rate to every second or third
// tick; readings never follow one another without a wait.
func TestPeriodShorterThanTheRead(t *testing.T) {
	t.Parallel()
	const period = 10 * ms
	for _, c := range []struct{ read, step int64 }{{11 * ms, 2}, {25 * ms, 3}, {100 * ms, 10}, {101 * ms, 11}} {
		t.Run(fmt.Sprint(time.Duration(c.read)), func(t *testing.T) {
			t.Parallel()
			const n = 50
			seen, late, dropped := walk(t, Grid{Period: period}, clock.NewFake(0), n, func(int64) int64 { return c.read })
			for i, k := range seen {
				if k != int64(i)*c.step || late[i] != 0 {
					t.Fatalf("reading %d is of tick %d, %d ns late; want tick %d on time", i, k, late[i], int64(i)*c.step)
				}
			}
			if want := (n - 1) * (c.step - 1); dropped != want {
				t.Errorf("%d ticks dropped, want %d", dropped, want)
			}
		})
	}
}

func TestMillionTicksWithoutDrift(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	g := Grid{Start: 12345, Period: 33_333_333} // 30 Hz, not a whole number of ms
	c := lateClock{Fake: clock.NewFake(0)}
	k := int64(-1)
	for range n {
		next, missed := g.Next(k, c.Now())
		late, err := g.Wait(t.Context(), &c, next)
		if err != nil || missed != 0 {
			t.Fatalf("tick %d: %d dropped, %v", next, missed, err)
		}
		if late < 0 || late >= ms {
			t.Fatalf("tick %d is %d ns late: wake-ups that are late by less than 1 ms added up", next, late)
		}
		k = next
	}
	if want := int64(12345 + (n-1)*33_333_333); k != n-1 || g.At(k) != want {
		t.Errorf("tick %d at %d, want %d at %d", k, g.At(k), n-1, want)
	}
}

// lateClock wakes up to 1 ms late, by a different amount each time.
type lateClock struct {
	*clock.Fake
	i int64
}

func (c *lateClock) SleepUntil(ns int64) {
	c.i++
	c.Fake.SleepUntil(ns + c.i*7919*1009%ms)
}

func TestLateWake(t *testing.T) {
	t.Parallel()
	g := Grid{Period: 10 * ms}
	c := clock.NewFake(0)
	c.Advance(34 * ms)
	if late, err := g.Wait(t.Context(), c, 2); late != 14*ms || err != nil {
		t.Errorf("Wait(2) at 34 ms = %d, %v; want %d late", late, err, 14*ms)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := clock.NewFake(0)
	if _, err := (Grid{Period: ms}).Wait(ctx, c, 7); err != context.Canceled || c.Now() != 0 {
		t.Errorf("Wait = %v at %d, want %v at once", err, c.Now(), context.Canceled)
	}
}

func BenchmarkNext(b *testing.B) {
	g := Grid{Start: 17, Period: 100 * ms}
	b.ReportAllocs()
	k, now := int64(-1), int64(0)
	for b.Loop() {
		k, _ = g.Next(k, now)
		now += 99 * ms
	}
}
