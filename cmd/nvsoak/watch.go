package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"
)

const interrupted = "a signal came"

// watch is the reading of one trace.
type watch struct {
	c     *cli.Context
	o     thermal.Options
	phase *record.Phase // nil: all of the trace is the soak
	trace *cli.Input
	out   *cli.Output
	guard *guard // nil: no command

	soaks   []*soak
	n       int64
	shown   time.Time // when progress was last said
	flushed time.Time
	verdict error // the exit code of a thermal trip
}

// soak is one soak and when it was.
type soak struct {
	record.Window
	*thermal.Soak
	summed bool
}

// run reads the trace until the soak is over, or until its end.
func (w *watch) run() error {
	for !w.done() && w.trace.Scan() {
		switch r := w.trace.Record().(type) {
		case *record.Sample:
			if err := w.begin(); err != nil {
				return err
			}
			if err := w.observe(r); err != nil {
				return err
			}
		case *record.Event:
			for _, s := range w.soaks {
				if r.StartNS >= s.FromNS && r.EndNS <= s.UntilNS {
					s.ObserveWork(r)
				}
			}
		}
	}
	if err := w.trace.Err(); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	for _, s := range w.soaks {
		if w.c.Ctx.Err() != nil {
			s.Interrupt(interrupted)
		}
		if err := w.sum(s); err != nil {
			return err
		}
	}
	return w.out.Write(&record.End{Records: w.n})
}

// begin opens the output and the soaks when the trace's header has been read.
func (w *watch) begin() error {
	if w.soaks != nil {
		return nil
	}
	windows := []record.Window{{FromNS: math.MinInt64, UntilNS: math.MaxInt64}}
	if w.phase != nil {
		var err error
		if windows, err = w.phase.On(w.trace.Header()); err != nil {
			return err
		}
	}
	for _, window := range windows {
		s, err := thermal.New(w.o)
		if err != nil {
			return err
		}
		if h := w.trace.Header(); h != nil {
			for _, g := range h.GPUs {
				if limit, ok := g.TempSlowdownC.Get(); ok {
					s.Limit(g.Index, limit)
				}
			}
		}
		w.soaks = append(w.soaks, &soak{Window: window, Soak: s})
	}
	h := w.c.HeaderAfter(w.trace.Header())
	if w.guard != nil {
		h.Config["command"] = strings.Join(w.guard.command, " ")
	}
	return w.out.Write(h)
}

// done says that there is nothing left to watch. An interrupted tool reads on:
// its source is about to end.
func (w *watch) done() bool {
	if w.c.Ctx.Err() != nil {
		return false
	}
	for _, s := range w.soaks {
		if !s.Over() {
			return false
		}
	}
	return w.soaks != nil
}

func (w *watch) observe(r *record.Sample) error {
	for _, s := range w.soaks {
		if r.TimeNS > s.UntilNS {
			if err := w.sum(s); err != nil {
				return err
			}
			continue
		}
		if r.TimeNS < s.FromNS || !s.Of(r.GPU) {
			continue
		}
		step := s.Observe(r)
		if r.TempC.OK && r.ReadOK {
			if err := w.guard.follow(s.Soak, s.Hot(r)); err != nil {
				return err
			}
		}
		if step == nil {
			continue
		}
		w.progress(step)
		if err := w.write(step); err != nil {
			return err
		}
	}
	return nil
}

func (w *watch) write(r *record.Soak) error {
	w.n++
	if err := w.out.Write(r); err != nil {
		return err
	}
	if time.Since(w.flushed) < time.Second {
		return nil
	}
	w.flushed = time.Now() // somebody may be looking on
	return w.out.Flush()
}

// sum writes the last records of a soak, once, and says how it ended.
func (w *watch) sum(s *soak) error {
	if s.summed {
		return nil
	}
	s.summed = true
	finals := s.Finish()
	if n := s.Disordered(); n > 0 {
		w.c.Doubtf("%d samples go back in time and were left out", n)
	}
	if len(finals) == 0 {
		w.c.Doubtf("the trace has no temperature of the soak")
		return nil
	}
	w.guard.end(s.TooHot())
	for _, r := range finals {
		r.CommandExit = w.guard.status()
		if err := w.write(r); err != nil {
			return err
		}
	}
	last := finals[len(finals)-1]
	switch last.State {
	case thermal.Equilibrium:
		if last.Trips > 0 {
			w.c.Warnf("in equilibrium after it had been too hot %d times", last.Trips)
		}
	case thermal.ThermalTrip:
		w.verdict = cli.Errorf(cli.ExitThermalTrip, "too hot: %s", last.Reason)
	default:
		w.c.Doubtf("%s: %s", last.State, last.Reason)
	}
	return nil
}

// progress says where the soak is, on a terminal.
func (w *watch) progress(r *record.Soak) {
	if time.Since(w.shown) < 5*time.Second {
		return
	}
	w.shown = time.Now()
	slope := "no slope yet"
	if b, ok := r.SlopeCPerMin.Get(); ok {
		slope = fmt.Sprintf("%+.2f ± %.2f °C/min", b, r.SlopeCI95.Or(0))
	}
	w.c.Infof("GPU %d: %s after %.0f s: %g °C, %s", r.GPU, r.State, r.DurationS, r.TempC.V, slope)
}
