package clock

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

func sleepUntil(ns int64) {
	ts := unix.NsecToTimespec(ns)
	// An absolute sleep that a signal ended goes on without drift. EINVAL, the
	// only other failure, is a time before the clock's start.
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
}

func precise(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Where the kernel refuses, sleeps are a little later, and lateness is
	// recorded with every sample: no reason to stop.
	if slack, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil {
		if unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) == nil {
			defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0)
		}
	}
	f()
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
