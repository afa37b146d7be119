//go:build !linux

package clock

import (
	"context"
	"time"
)

func sleepUntil(ns int64) {
	for d := ns - now(); d > 0; d = ns - now() {
		time.Sleep(time.Duration(d))
	}
}

func precise(f func(Clock)) { f(System()) }

// sleep sleeps until ns or until ctx ends.
func sleep(ctx context.Context, ns int64) {
	t := time.NewTimer(time.Duration(ns - now()))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func bootID() string { return "" }
