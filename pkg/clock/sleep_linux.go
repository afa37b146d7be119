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
// kernel, as in clock_nanosleep, is no later, but it costs three times as much:
// the runtime looks after a thread in a system call dozens of times before it
// lets it be.
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
	ts := unix.NsecToTimespec(ns)
	// An absolute sleep that a signal ended goes on without drift. EINVAL, the
	// only other failure, is a time before the clock's start.
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) == unix.EINTR {
	}
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
