package energy

import (
	"fmt"
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// groupKey is what a summary is of.
type groupKey struct {
	phase, model string
	batch        record.Opt[int64]
	context      record.Opt[int64] // absent: of all contexts
}

// keyOf is the narrowest group of an event. Its context is how many tokens each of
// its prompts has, as a further field tells: of a decode they are no input.
func keyOf(e *record.Event) groupKey {
	return groupKey{e.Phase, e.Model, e.BatchSize, e.Whole("context")}
}

// group gathers the events of one key: its repetitions.
type group struct {
	record.Summary
	key         groupKey
	quality     [3]int  // how many events, by qualities
	tier        [4]int  // by tiers
	energy      moments // joules, operational joules of the events that have energy
	perToken    moments // tokens, joules of those that have tokens too
	operational float64 // J, added up
	seconds     float64
	withIdle    int
	own         spread // of those, added up
	gain        opt
	joint       struct {
		mean, se float64 // J
		ok       bool
	}
	designs    designs
	out        int64 // output tokens of all events
	outSeconds float64
	contexts   []*group // its events by their contexts
	without    bool     // some have none
}

// moments are running means of two quantities and the sums of their products
// about them (Welford).
type moments struct {
	n          int
	x, y       float64
	xx, xy, yy float64
}

func (m *moments) add(x, y float64) {
	m.n++
	dx, dy := x-m.x, y-m.y
	m.x += dx / float64(m.n)
	m.y += dy / float64(m.n)
	m.xx += dx * (x - m.x)
	m.xy += dx * (y - m.y)
	m.yy += dy * (y - m.y)
}

// tally is groups by their key, in the order in which they came.
type tally struct {
	of    map[groupKey]*group
	order []*group
}

// maxGroups bounds the summaries: phases and models come from the input.
const maxGroups = 1 << 16

// few is how many groups most inputs have: these are found before a hash of
// their key is made.
const few = 4

// group is the group of a key, nil when there are too many.
func (t *tally) group(key groupKey, method string) (g *group, made bool) {
	for _, g := range t.order[:min(few, len(t.order))] {
		if g.key == key {
			return g, false
		}
	}
	g = t.of[key]
	if g != nil || len(t.of) == maxGroups {
		return g, false
	}
	g = &group{key: key, Summary: record.Summary{
		Phase: key.phase, Model: key.model, BatchSize: key.batch, Context: key.context, Method: method,
	}}
	if t.of == nil {
		t.of = map[groupKey]*group{}
	}
	t.of[key] = g
	return g, true
}

// add takes an event in. held is how many designs there are in all groups.
func (t *tally) add(e *record.Event, systematic float64, method string, held *int) {
	key := keyOf(e)
	context := key.context
	key.context = record.Opt[int64]{}
	g, made := t.group(key, method)
	if g == nil {
		return
	}
	if made {
		t.order = append(t.order, g)
	}
	g.add(e, systematic, held)
	if key.context = context; !context.OK {
		g.without = true
		return
	}
	if c, made := t.group(key, method); c != nil {
		if made {
			g.contexts = append(g.contexts, c)
		}
		c.add(e, systematic, held)
	}
}

// account adds a finished event to its group, and to its request. systematicJ
// is one standard deviation of the part of its uncertainty that all events of a
// kind share, so that repeating them does not take it away.
func (a *Attributor) account(e *record.Event, systematicJ float64) {
	a.groups.add(e, systematicJ, a.opts.Method, &a.requests.designs)
	if whole, shared := a.requests.add(e, systematicJ); whole != nil {
		a.requests.groups.add(whole, shared, a.opts.Method, &a.requests.designs)
	}
}

// add takes in an event. held is how many designs there are in all groups.
func (g *group) add(e *record.Event, systematic float64, held *int) {
	d := e.Duration()
	g.Events++
	g.DurationS += d
	g.quality[slices.Index(qualities, e.Energy.Quality)]++
	g.tier[slices.Index(tiers, e.Energy.Tier)]++
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
	g.energy.add(j, e.Energy.OperationalJ.V)
	if o, ok := e.Energy.OperationalJ.Get(); ok {
		g.operational += o
		g.withIdle++
	}
	own := spreadOf(e.Energy, systematic)
	g.own.systematic += own.systematic
	g.own.baseline += own.baseline
	g.gain = e.Energy.GainUncertainty
	if n := tokens(e); n > 0 {
		g.perToken.add(float64(n), j)
		g.designs.add(e.InputTokens.Or(0), e.OutputTokens.Or(0), g.batch(), j, own, held)
	}
}

// batch is how many sequences an event's tokens are of.
func (g *group) batch() float64 { return float64(max(1, g.BatchSize.Or(1))) }

// pooled sets the mean energy of the group's events and its standard error, in
// joules, as a regression over all groups together has them: instead of the
// mean of the single events, and the scatter of these.
func (g *group) pooled(meanJ, seJ float64) {
	g.joint.mean, g.joint.se, g.joint.ok = meanJ, seJ, true
}

// spread is how far an event's joules may be off.
type spread struct {
	variance   float64 // J², of noise that is the event's own
	systematic float64 // J, one standard deviation of what it shares with the others
	baseline   float64 // J, likewise, of operational joules beside
	told       bool    // the event has an interval
}

// spreadOf takes an event's interval apart.
func spreadOf(e *record.Energy, systematic float64) spread {
	s := spread{systematic: systematic}
	ci, ok := e.CI95J.Get()
	if !ok {
		return s
	}
	s.told = true
	square := func(half float64) float64 { return half * half / (stats.Z95 * stats.Z95) }
	s.variance = max(0, square(ci)-systematic*systematic)
	s.baseline = math.Sqrt(max(0, square(e.OperationalCI95J.Or(ci))-square(ci)))
	return s
}

// halfWidth is of the 95 % interval of a number with a standard error that was
// estimated with that many degrees of freedom, and a systematic error of that
// standard deviation.
func halfWidth(se, freedom, systematic float64) float64 {
	return math.Hypot(stats.T95(freedom)*se, stats.Z95*systematic)
}

// maxRepetitions is what is taken for never.
const maxRepetitions = 1e9

// repetitions is how many make the half-width of the mean's interval as small
// as wanted. ok is false where none does, the systematic error being too large.
func repetitions(sd, systematic, wanted float64) (n int64, ok bool) {
	room := wanted*wanted - stats.Z95*systematic*stats.Z95*systematic
	least := stats.Z95 * sd * stats.Z95 * sd / room
	if !(room > 0) || least > maxRepetitions {
		return 0, false
	}
	// Student's t makes it a few more than that.
	n = max(2, int64(least))
	for halfWidth(sd/math.Sqrt(float64(n)), float64(n-1), systematic) > wanted {
		n++
	}
	return n, true
}

// Summaries are the figures of each phase, model and batch size, in the order
// of their first event's end; then of requests that were put together from
// their parts, where the input has none of its own; then of each phase and
// model over its batch sizes. Events of several contexts have a summary for each
// context behind that of all. Means are over the events that have energy.
func (a *Attributor) Summaries() []*record.Summary {
	groups := a.groups.order
	own := false
	for _, g := range groups {
		own = own || g.Phase == phaseRequest
	}
	if !own {
		groups = append(groups[:len(groups):len(groups)], a.requests.groups.order...)
	}
	var out []*record.Summary
	for _, g := range groups {
		out = append(out, g.summary(a.opts.Target))
		if len(g.contexts) > 1 || g.without {
			for _, c := range g.contexts {
				out = append(out, c.summary(a.opts.Target))
			}
		}
	}
	return append(out, curves(groups)...)
}

// summary is what the group's events come to, beside a precision that is asked
// for (0: none).
func (g *group) summary(target float64) *record.Summary {
	s := g.Summary
	s.Quality, s.Tier = counts(qualities, g.quality[:]), counts(tiers, g.tier[:])
	if g.outSeconds > 0 {
		s.TokensPerSecond = some(float64(g.out) / g.outSeconds)
	}
	if g.WithEnergy == 0 {
		return &s
	}
	n := float64(g.WithEnergy)
	mean := g.energy.x
	se := math.Sqrt(g.energy.xx / (n - 1) / n) // NaN of one
	s.EnergyTotalJ = some(g.energy.x * n)
	if g.joint.ok {
		mean, se = g.joint.mean, g.joint.se
	}
	s.EnergyMeanJ = some(mean)
	if g.withIdle == g.WithEnergy {
		s.OperationalMeanJ = some(g.operational/n + mean - g.energy.x)
		s.OperationalTotalJ = some(g.operational)
	}
	if g.seconds > 0 {
		s.PowerMeanW = some(g.energy.x * n / g.seconds)
	}
	if m := g.perToken; m.n > 0 {
		s.JoulesPerToken = some(m.y / m.x)
	}
	s.Regression = g.regress()
	if g.WithEnergy < 2 {
		return &s
	}
	s.EnergyStdJ = some(math.Sqrt(g.energy.xx / (n - 1)))
	systematic := g.own.systematic / n
	s.CI95J = some(halfWidth(se, n-1, systematic))
	if gain, ok := g.gain.Get(); ok {
		s.AbsoluteCI95J = some(math.Hypot(s.CI95J.V, stats.Z95*gain*mean))
	}
	if s.OperationalMeanJ.OK {
		seOperational := math.Sqrt(g.energy.yy / (n - 1) / n)
		if g.joint.ok {
			seOperational = se
		}
		s.OperationalCI95J = some(halfWidth(seOperational, n-1, math.Hypot(systematic, g.own.baseline/n)))
	}
	g.ratio(&s)
	if mean > 0 {
		s.Precision = some(s.CI95J.V / mean)
	}
	if target > 0 {
		s.TargetPrecision = some(target)
		g.plan(&s, se*math.Sqrt(n), systematic)
	}
	return &s
}

// counts is how many there are of each name, of those that there are.
func counts(names []string, n []int) map[string]int {
	of := map[string]int{}
	for i, name := range names {
		if n[i] > 0 {
			of[name] = n[i]
		}
	}
	return of
}

// ratio gives the joules per token of all events together their interval: a
// ratio of sums scatters as do the events' joules about it.
func (g *group) ratio(s *record.Summary) {
	m := g.perToken
	if m.n < 2 {
		return
	}
	n, r := float64(m.n), s.JoulesPerToken.V
	// The residuals' mean is 0.
	residual := max(0, m.yy-2*r*m.xy+r*r*m.xx)
	se := math.Sqrt(residual/(n-1)/n) / m.x
	if g.joint.ok {
		s.JoulesPerToken.V *= g.joint.mean / g.energy.x
		se = g.joint.se / m.x
	}
	s.PerTokenCI95J = some(halfWidth(se, n-1, g.own.systematic/float64(g.WithEnergy)/m.x))
}

// plan says how many repetitions of that standard deviation reach the precision
// asked for, or why none do.
func (g *group) plan(s *record.Summary, sd, systematic float64) {
	target, mean := s.TargetPrecision.V, s.EnergyMeanJ.V
	if n := len(g.designs.list); n > 1 {
		s.Reasons = append(s.Reasons, fmt.Sprintf("the events are of %d different lengths, no repetitions of one another: joules_per_token and the regression tell of them", n))
		return
	}
	if !(mean > 0) {
		s.Reasons = append(s.Reasons, "the mean energy is not above 0: no number of repetitions makes its interval a share of it")
		return
	}
	needed, ok := repetitions(sd, systematic, target*mean)
	if !ok {
		s.Reasons = append(s.Reasons, fmt.Sprintf("no number of repetitions reaches %s: %s of the mean is uncertainty that all share", percent(target), percent(stats.Z95*systematic/mean)))
		return
	}
	s.RepetitionsNeeded = record.Some(needed)
}
