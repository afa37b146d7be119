package main

import (
	"context"
	"os"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
)

// newGuard is what pauses the load when the GPUs are too hot, nil where nothing
// can.
func newGuard(c *cli.Context, all []*board, dark error) (*load.Guard, error) {
	g := &load.Guard{Max: c.Float64("max-temp"), Resume: c.Float64("resume-temp")}
	switch {
	case g.Max == 0:
		return nil, nil
	case !(g.Max > 0 && g.Max <= 120):
		return nil, c.Usagef("--max-temp %v: want degrees, or 0 for no limit", g.Max)
	case !c.IsSet("resume-temp") && g.Resume >= g.Max:
		g.Resume = g.Max - 3
	case !(g.Resume < g.Max):
		return nil, c.Usagef("--resume-temp %v: want less than --max-temp %v", g.Resume, g.Max)
	}
	g.Say = func(change load.GuardChange) {
		switch {
		case change.Unknown:
			c.Warnf("no temperature can be read: nothing pauses the load when a GPU is too hot")
		case change.Paused:
			c.Warnf("%.0f °C, the limit is %.0f: the load pauses until there are %.0f", change.TempC.V, g.Max, g.Resume)
		default:
			c.Warnf("%.0f °C: the load goes on", change.TempC.V)
		}
	}
	if dark != nil {
		c.Warnf("nothing pauses the load when a GPU is too hot: %v", dark)
		return nil, nil
	}
	g.Read = func() (temps []record.Opt[float64]) {
		for _, b := range all {
			var s record.Sample
			if b.nvml != nil {
				b.nvml.ReadSample(&s)
			}
			temps = append(temps, s.TempC)
		}
		return temps
	}
	return g, nil
}

// watchParent ends the load when the process that started this one is gone: the
// GPU works for nobody then. stop ends the watch.
func watchParent(c *cli.Context) (stop func()) {
	ctx, cancel := context.WithCancel(c.Ctx)
	c.Ctx = ctx
	on := c.Bool("watch-parent")
	if !c.IsSet("watch-parent") {
		on = c.Getenv("JOULEPIPE_TRIP_FILE") != ""
	}
	if !on {
		return cancel
	}
	parent := os.Getppid()
	go func() {
		for clock.Sleep(ctx, clock.System(), clock.Now()+int64(100*time.Millisecond)) == nil {
			if os.Getppid() != parent {
				c.Warnf("the process that started this one is gone: the load ends")
				cancel()
			}
		}
	}()
	return cancel
}
