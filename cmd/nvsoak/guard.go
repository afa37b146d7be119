package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"
)

// guard runs the command as long as its GPUs are watched and cool. Nil, it
// guards nothing.
type guard struct {
	c       *cli.Context
	command []string
	blind   *time.Timer
	unwatch func() bool // takes back what a signal is to do

	mu   sync.Mutex
	load load // nil before the first temperature
	held bool
	over string // why it was ended, or is not to be started any more
}

func newGuard(c *cli.Context, command []string) *guard {
	g := &guard{c: c, command: command}
	g.unwatch = context.AfterFunc(c.Ctx, func() { g.stop(interrupted) })
	return g
}

// follow does to the load what the soak asks for, after each temperature; hot
// says that this one was at the trip.
func (g *guard) follow(s *thermal.Soak, hot bool) error {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over != "" {
		s.Interrupt(g.over)
		return nil
	}
	if g.load == nil {
		if hot || s.Tripped() {
			return nil
		}
		l, err := startLoad(g.command, g.c.Stderr)
		if err != nil {
			return err
		}
		g.load = l
		g.blind = time.AfterFunc(g.c.Duration("blind"), g.lost)
	}
	g.blind.Reset(g.c.Duration("blind"))
	if g.load.exited() {
		s.Interrupt(fmt.Sprintf("the load ended with status %d", g.load.status()))
	}
	if s.Over() || s.Tripped() == g.held {
		return nil
	}
	g.held = s.Tripped()
	if g.held {
		return g.load.hold()
	}
	return g.load.release()
}

// lost ends a load whose temperatures nobody sees.
func (g *guard) lost() {
	why := fmt.Sprintf("no temperature for %v, so the load was ended", g.c.Duration("blind"))
	g.c.Warnf("%s", why)
	g.stop(why)
}

// end ends the load because the soak is over, and waits for it. The load is told
// beforehand when it was too hot, which is empty when it was not.
func (g *guard) end(tooHot string) {
	if g == nil {
		return
	}
	g.unwatch()
	g.mu.Lock()
	if tooHot != "" && g.load != nil && g.over == "" {
		if err := g.load.tripped(tooHot); err != nil {
			g.c.Warnf("the load is not told of the trip: %v", err)
		}
	}
	g.mu.Unlock()
	g.stop("the soak is over")
}

func (g *guard) stop(why string) {
	g.mu.Lock()
	if g.over == "" {
		g.over = why
	}
	l := g.load
	if g.blind != nil {
		g.blind.Stop()
	}
	g.mu.Unlock()
	if l != nil {
		l.end(g.c.Duration("grace"))
	}
}

// status is the command's exit code, absent when there was none.
func (g *guard) status() record.Opt[int64] {
	if g == nil || g.load == nil {
		return record.Opt[int64]{}
	}
	return record.Some(int64(g.load.status()))
}
