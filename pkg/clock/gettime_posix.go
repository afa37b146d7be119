//go:build linux || darwin

package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

func read(id int32) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic("clock: clock_gettime: " + err.Error()) // the ids are fixed and old
	}
	return ts.Nano()
}

func now() int64 { return read(unix.CLOCK_MONOTONIC) }

func cpuTime() (time.Duration, bool) {
	return time.Duration(read(unix.CLOCK_PROCESS_CPUTIME_ID)), true
}
