//go:build !linux

package clock

import (
	"runtime"
	"time"
)

func sleepUntil(ns int64) {
	for d := ns - now(); d > 0; d = ns - now() {
		time.Sleep(time.Duration(d))
	}
}

func precise(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f()
}

func bootID() string { return "" }
