// Package clock is the one clock of joulepipe: CLOCK_MONOTONIC in nanoseconds
// as an int64, read by the operating system's call, so that stamps of different
// processes of one machine compare. Python's time.perf_counter_ns is the same
// clock on Linux. It stops for nobody who sets the time of day, and starts anew
// with each boot; [BootID] tells boots apart and [Pair] ties the clock to the
// time of day.
//
// On macOS the clock is that system's CLOCK_MONOTONIC. Elsewhere it is the time
// of day when the process started, carried on by the runtime's own monotonic
// clock: stamps of one process compare, those of two only as well as the time
// of day does.
package clock

import (
	"context"
	"time"
)

// Clock is what code that waits asks for, so that tests need not wait.
type Clock interface {
	// Now is the time in nanoseconds. The clock never goes back.
	Now() int64
	// SleepUntil returns once Now is ns or later, at once if it is already.
	SleepUntil(ns int64)
}

// System is the machine's clock: [Now], and sleeps to an absolute time, which
// on Linux end some tens of microseconds late.
func System() Clock { return system{} }

type system struct{}

func (system) Now() int64          { return Now() }
func (system) SleepUntil(ns int64) { sleepUntil(ns) }

// Precise runs f with a clock whose sleeps end on time whatever the rest of the
// process does. On Linux it is c, or where c is the machine's clock, one for a thread
// of f's own that sleeps in the kernel, which does not round that. Such sleeps cost
// more processor time than those of [System], which end up to 10 ms late while another
// goroutine's system call is all that the process does.
func Precise(c Clock, f func(Clock)) {
	if _, ok := c.(system); !ok {
		f(c)
		return
	}
	precise(f)
}

// Now is the monotonic time in nanoseconds.
func Now() int64 { return now() }

// Uptime is the time since the machine started in nanoseconds, with the time
// that it was suspended: CLOCK_BOOTTIME on Linux. [Now] stands still meanwhile
// there, so that the two grow apart by the length of each suspend. On other
// systems it is Now.
func Uptime() int64 { return uptime() }

// pairTries is how often Pair reads the clocks. A try costs well under a
// microsecond, and one of so many is all but sure not to be interrupted.
const pairTries = 16

// Pair is one instant on both clocks: monotonic, and nanoseconds of Unix time.
// The wall clock is read between two readings of the monotonic clock, several
// times, and the tightest bracket counts.
func Pair() (monoNS, unixNS int64) {
	width := int64(1<<63 - 1)
	for range pairTries {
		before := Now()
		wall := time.Now().UnixNano()
		after := Now()
		if w := after - before; w < width {
			width = w
			monoNS, unixNS = before+w/2, wall
		}
	}
	return monoNS, unixNS
}

// BootID names this boot of the machine, in which the monotonic clock started;
// it is empty where the system has no such name.
func BootID() string { return bootID() }

// CPUTime is the processor time that this process has used on all its threads;
// ok is false where the system does not say.
func CPUTime() (d time.Duration, ok bool) { return cpuTime() }

// slice is how long [Sleep] goes without looking whether it was cancelled.
const slice = 50 * time.Millisecond

// Sleep sleeps until c reaches ns or ctx ends, whichever comes first, and
// returns ctx's error. A cancelled sleep may last 100 ms longer; the end of an
// undisturbed one is as exact as [Clock.SleepUntil].
func Sleep(ctx context.Context, c Clock, ns int64) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := c.Now()
		if now >= ns {
			return nil
		}
		if _, ok := c.(system); ok && ns-now > 2*int64(slice) {
			sleep(ctx, ns)
			continue
		}
		// A remainder shorter than a slice joins the last one: no wake-up comes
		// just before the one that counts.
		if ns-now < 2*int64(slice) {
			c.SleepUntil(ns)
		} else {
			c.SleepUntil(now + int64(slice))
		}
	}
}
