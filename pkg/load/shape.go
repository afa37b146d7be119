package load

import (
	"fmt"
	"time"

	"joulepipe/pkg/record"
)

// Square is a square wave: cycles of low, then high.
type Square struct {
	Low, High time.Duration
	Cycles    int
	Kernel    Kernel // of the high part; its context and memory stay through the low one
}

// Plan has an event square_low and one square_high for each cycle, whose number
// is the field cycle.
func (s Square) Plan() Plan {
	return func(yield func(Step) bool) {
		for k := range s.Cycles {
			for _, part := range []struct {
				phase string
				len   time.Duration
				level Level
			}{
				{"square_low", s.Low, s.Kernel.Level(0)},
				{"square_high", s.High, s.Kernel.Level(1)},
			} {
				e := record.Event{
					ID:    fmt.Sprintf("%s_%d", part.phase, k),
					Phase: part.phase,
					Extra: []record.Field{extra("cycle", k), extra("kernel", s.Kernel)},
				}
				if !yield(Step{part.len, part.level, &e}) {
					return
				}
			}
		}
	}
}

// Steady is one level all the time, or none.
type Steady struct {
	Duration time.Duration
	Level    Level
	Event    record.Event // what is told of it
}

// Plan is the one step.
func (s Steady) Plan() Plan {
	return func(yield func(Step) bool) { yield(Step{s.Duration, s.Level, &s.Event}) }
}
