package energy

import (
	"math"

	"joulepipe/pkg/record"
)

// groupKey is what a summary is of.
type groupKey struct {
	phase, model string
	batch        record.Opt[int64]
}

// group gathers the events of one key.
type group struct {
	record.Summary
	mean, m2             float64 // Welford's running mean and sum of squares of the joules
	operational, seconds float64 // of the events that have energy
	withIdle             int
	tokens               int64   // of the events that have energy
	tokenJoules          float64 // and their joules
	out                  int64   // output tokens of all events
	outSeconds           float64
}

// maxGroups bounds the summaries: phases and models come from the input.
const maxGroups = 1 << 16

// account adds a finished event to its group.
func (a *Attributor) account(e *record.Event, systematicJ float64) {
	key := groupKey{e.Phase, e.Model, e.BatchSize}
	g := a.groups[key]
	if g == nil {
		if len(a.order) == maxGroups {
			return
		}
		g = &group{Summary: record.Summary{
			Phase: e.Phase, Model: e.Model, BatchSize: e.BatchSize, Method: a.opts.Method,
			Quality: map[string]int{}, Tier: map[string]int{},
		}}
		a.groups[key] = g
		a.order = append(a.order, g)
	}
	d := e.Duration()
	g.Events++
	g.DurationS += d
	g.Quality[e.Energy.Quality]++
	g.Tier[e.Energy.Tier]++
	if n := e.OutputTokens.Or(0); n > 0 {
		g.out += n
		g.outSeconds += d
	}
	j, ok := e.Energy.Joules.Get()
	if !ok {
		return
	}
	g.WithEnergy++
	g.seconds += d
	delta := j - g.mean
	g.mean += delta / float64(g.WithEnergy)
	g.m2 += delta * (j - g.mean)
	if o, ok := e.Energy.OperationalJ.Get(); ok {
		g.operational += o
		g.withIdle++
	}
	if n := tokens(e); n > 0 {
		g.tokens += n
		g.tokenJoules += j
	}
}

// Summaries are the figures of each phase, model and batch size, in the order
// of their first event's end. Means are over the events that have energy.
func (a *Attributor) Summaries() []*record.Summary {
	var out []*record.Summary
	for _, g := range a.order {
		s := g.Summary
		if n := float64(g.WithEnergy); n > 0 {
			s.EnergyMeanJ = some(g.mean)
			s.EnergyTotalJ = some(g.mean * n)
			if n > 1 {
				s.EnergyStdJ = some(math.Sqrt(g.m2 / (n - 1)))
			}
			if g.withIdle == g.WithEnergy {
				s.OperationalMeanJ = some(g.operational / n)
				s.OperationalTotalJ = some(g.operational)
			}
			if g.seconds > 0 {
				s.PowerMeanW = some(g.mean * n / g.seconds)
			}
			if g.tokens > 0 {
				s.JoulesPerToken = some(g.tokenJoules / float64(g.tokens))
			}
		}
		if g.outSeconds > 0 {
			s.TokensPerSecond = some(float64(g.out) / g.outSeconds)
		}
		out = append(out, &s)
	}
	return out
}
