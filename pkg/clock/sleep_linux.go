package clock

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// timer is a timerfd. To sleep is to read from it: the runtime waits for it as
// for a socket, and the kernel rounds it to nothing. A thread that sleeps in the
// kernel, as in clock_nanosleep, costs three times as much: the runtime looks
// after a thread in a system call dozens of times before it lets it be. But it is on
// time where the runtime does not look at its sockets for 10 ms, as it does not
// while the one thread that has work is in a call.
type timer struct {
	fd   int
	file *os.File
}

var timers = sync.Pool{New: func() any {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return (*timer)(nil)
	}
	return &timer{fd, os.NewFile(uintptr(fd), "timer")}
}}

// wait returns at ns, or when the file's deadline is over; ok is false where
// there is no such timer.
func (t *timer) wait(ns int64) (ok bool) {
	if t == nil {
		return false
	}
	defer runtime.KeepAlive(t)
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(ns, 1))} // 0 is never
	if unix.TimerfdSettime(t.fd, unix.TFD_TIMER_ABSTIME, &at, nil) != nil {
		return false
	}
	var fired [8]byte
	_, err := t.file.Read(fired[:])
	return err == nil || os.IsTimeout(err)
}

func sleepUntil(ns int64) {
	t := timers.Get().(*timer)
	if t.wait(ns) {
		timers.Put(t)
		return
	}
	nanosleep(ns)
}

// nanosleep sleeps in the kernel.
func nanosleep(ns int64) {
	ts := unix.NsecToTimespec(ns)
	// An absolute sleep that a signal ended goes on without drift. EINVAL, the
	// only other failure, is a time before the clock's start.
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}

// thread is the clock of a thread of its own.
type thread struct{ system }

func (thread) SleepUntil(ns int64) { nanosleep(ns) }

func precise(f func(Clock)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Where the kernel refuses, sleeps are 50 µs later.
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		if unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) == nil {
			defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
		}
	}
	f(thread{})
}

// sleep sleeps until ns or until ctx ends, or for a slice.
func sleep(ctx context.Context, ns int64) {
	t := timers.Get().(*timer)
	if t == nil {
		sleepUntil(now() + int64(slice))
		return
	}
	stop := context.AfterFunc(ctx, func() { t.file.SetReadDeadline(time.Unix(1, 0)) })
	t.wait(ns)
	if stop() {
		timers.Put(t)
	}
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
