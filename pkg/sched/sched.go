// Package sched is the sampling grid: instants t_k = t_0 + k·T, worked out anew
// for every tick, so that no lateness adds up. It counts and compares; the
// waiting is a clock's.
//
// The rule is one reading for a tick and never a burst. Who comes back after
// later ticks have passed goes on with the next one in the future; those between are
// dropped, and can be told by their missing indices.
package sched

import (
	"context"

	"joulepipe/pkg/clock"
)

// Grid is the instants Start + k·Period, k = 0, 1, 2, …
type Grid struct {
	Start  int64 // ns of the monotonic clock
	Period int64 // ns, > 0
}

// At is the instant of tick k in nanoseconds.
func (g Grid) At(k int64) int64 { return g.Start + k*g.Period }

// From is the first tick at or after the instant ns: the number of ticks that
// lie before it.
func (g Grid) From(ns int64) int64 {
	if ns <= g.Start {
		return 0
	}
	return (ns-g.Start-1)/g.Period + 1
}

// Next is the tick that follows tick k for one who is done with k at the
// instant now, and how many were dropped between the two. Before the first
// tick, k is -1.
func (g Grid) Next(k, now int64) (next, dropped int64) {
	next = max(k+1, g.From(now))
	return next, next - k - 1
}

// Wait sleeps until tick k and returns by how many nanoseconds it woke late.
// The error is ctx's.
func (g Grid) Wait(ctx context.Context, c clock.Clock, k int64) (late int64, err error) {
	at := g.At(k)
	if err := clock.Sleep(ctx, c, at); err != nil {
		return 0, err
	}
	return c.Now() - at, nil
}
