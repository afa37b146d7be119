package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/report"
	"joulepipe/pkg/stats"
	"joulepipe/pkg/vram"
)

const (
	lower  = "lower"
	higher = "higher"
)

// Metrics are the figures that runs are compared by, in the order of tables.
var Metrics = []Metric{
	{"idle-power", "Idle power", "W", lower},
	{"equilibrium-time", "Time to thermal equilibrium", "s", lower},
	{"equilibrium-temperature", "Temperature in equilibrium", "°C", lower},
	{"context-limit", "Longest context", "tokens", higher},
	{"sensor-update", "Sensor: time between updates", "ms", lower},
	{"sensor-window", "Sensor: window of the mean", "ms", lower},
	{"sensor-rise", "Sensor: rise, 10–90 %", "ms", lower},
	{"joules-per-token", "Energy per token", "J", lower},
	{"joules-per-event", "Energy per event without tokens", "J", lower},
	{"throughput", "Throughput", "tokens/s", higher},
	{"latency", "Latency", "s", lower},
	{"throttled-events", "Share of events slowed down", "", lower},
	{"peak-vram", "Most memory in use", "MiB", lower},
}

// Metric is a kind of figure: which way is better is a property of it.
type Metric struct{ ID, Title, Unit, Better string }

// rank is the place of a row's metric.
func rank(key string) int {
	metric, _, _ := strings.Cut(key, "\x00")
	return slices.IndexFunc(Metrics, func(m Metric) bool { return m.ID == metric })
}

// figure is one figure of one side.
type figure struct {
	metric, of, unit, better string

	mean, se, freedom float64
	n                 int
	known             bool // there is a value
	told              bool // there is a standard error, with its freedom
	exact             bool // a count or a search: se is its resolution
	difference        bool // a ratio says nothing, as of °C
	joules            bool // it has the calibration of the board's sensor in it
	why               string
	bad               string            // why it is of something else than it is called
	like              map[string]string // what must be the same on both sides
	loose             string            // what it is of, without what may have been mistaken
}

func (f *figure) key() string { return f.metric + "\x00" + f.of }

func (f *figure) value() Value {
	v := Value{N: f.n, Exact: f.exact, Why: f.why}
	if f.known {
		v.Value = record.Some(f.mean)
	}
	if f.told && !f.exact {
		v.CI95 = record.Some(stats.T95(f.freedom) * f.se)
	}
	return v
}

// unlike says why two figures are of different things, or "".
func unlike(a, b *figure) string {
	for _, k := range slices.Sorted(maps.Keys(a.like)) {
		if x, y := a.like[k], b.like[k]; x != "" && y != "" && x != y {
			return fmt.Sprintf("%s %s against %s", k, x, y)
		}
	}
	return ""
}

// list is figures in the order in which they came.
type list []*figure

func (l *list) add(metric, of string) *figure {
	m := Metrics[slices.IndexFunc(Metrics, func(m Metric) bool { return m.ID == metric })]
	f := &figure{metric: metric, of: of, unit: m.Unit, better: m.Better, like: map[string]string{}, freedom: math.Inf(1)}
	*l = append(*l, f)
	return f
}

// set gives a figure its value.
func (f *figure) set(mean float64, n int) {
	f.mean, f.n, f.known = mean, n, !math.IsNaN(mean) && !math.IsInf(mean, 0)
}

// doubt gives a figure its standard error.
func (f *figure) doubt(se, freedom float64) {
	if se >= 0 && !math.IsInf(se, 0) && freedom >= 1 {
		f.se, f.freedom, f.told = se, freedom, true
	}
}

// figures are those of a side, by their keys, and the keys in order.
func (s Side) figures() (map[string]*figure, []string) {
	runs := make([]map[string]*figure, len(s.Runs))
	var order []string
	for i, r := range s.Runs {
		runs[i] = map[string]*figure{}
		for _, f := range of(r) {
			if runs[i][f.key()] == nil {
				runs[i][f.key()] = f
			}
			if !slices.Contains(order, f.key()) {
				order = append(order, f.key())
			}
		}
	}
	if len(runs) == 1 {
		return runs[0], order
	}
	table := map[string]*figure{}
	for _, key := range order {
		var all []*figure
		for _, r := range runs {
			if f := r[key]; f != nil {
				all = append(all, f)
			}
		}
		table[key] = repeated(all)
	}
	return table, order
}

// repeated is one figure of several runs: their mean, and how far they scatter,
// which is no less than what each is uncertain by itself.
func repeated(runs []*figure) *figure {
	f := *runs[0]
	var values []float64
	own, exact := 0.0, true
	for _, r := range runs {
		f.bad = cmp.Or(f.bad, r.bad)
		f.bad = cmp.Or(f.bad, unlike(runs[0], r))
		if !r.known {
			f.why = cmp.Or(f.why, r.why)
			continue
		}
		values = append(values, r.mean)
		own += r.se * r.se
		exact = exact && r.exact
	}
	f.n, f.known, f.told, f.exact = len(values), len(values) > 0, false, false
	if !f.known {
		return &f
	}
	if len(values) == 1 {
		f.mean, f.why = values[0], "one run has it"
		return &f
	}
	mean, sd := stats.MeanSD(values)
	k := float64(len(values))
	f.mean = mean
	if exact && sd == 0 {
		f.exact = true
		return &f
	}
	f.why = ""
	f.doubt(max(sd/math.Sqrt(k), math.Sqrt(own)/k), k-1)
	return &f
}

// of are the figures of one run.
func of(r *report.Run) []*figure {
	var l list
	l.idle(r)
	l.soak(r)
	l.memory(r)
	l.sensors(r)
	l.events(r)
	return l
}

func gpu(n int) string { return fmt.Sprintf("GPU %d", n) }

func (l *list) idle(r *report.Run) {
	for _, b := range r.Baselines {
		f := l.add("idle-power", gpu(b.GPU))
		w, se := b.Watts()
		n := b.Samples.Or(0)
		f.set(w, int(n))
		f.joules = true
		f.like["idle state"], f.like["channel"] = b.State, b.Channel
		if b.FakeIdle {
			f.bad = "the GPU was not idle (" + cmp.Or(strings.Join(b.FakeIdleReasons, "; "), "fake_idle_flag") + ")"
		}
		if se > 0 {
			f.doubt(se, max(1, b.NEff.Or(max(2, float64(n)))-1))
		} else {
			f.why = "its standard error is not told"
		}
	}
}

func (l *list) soak(r *report.Run) {
	for i := range r.Soaks {
		s := &r.Soaks[i]
		t := l.add("equilibrium-time", gpu(s.GPU))
		if t.why = "one soak"; s.Final && s.State == "equilibrium" {
			t.set(s.DurationS, 1)
		} else {
			t.why = "no equilibrium: " + s.State
		}
		c := l.add("equilibrium-temperature", gpu(s.GPU))
		c.difference = true
		at, ok := s.PredictedC.Get()
		lo, bounded := s.PredictedLowC.Get()
		switch {
		case ok && bounded && s.PredictedHighC.OK:
			c.set(at, 1)
			c.doubt((s.PredictedHighC.V-lo)/2/stats.Z95, 1e6)
		case s.State == "equilibrium" && s.TempEndC.OK:
			c.set(s.TempEndC.V, 1)
			c.why = "one reading"
		default:
			c.why = "the rise does not bound it"
		}
	}
}

// page is what memory is handed out by, MiB.
const page = 2

func (l *list) memory(r *report.Run) {
	for _, g := range r.Memory {
		for _, k := range g.Cliff {
			f := l.add("context-limit", fmt.Sprintf("%s batch %d", k.Model, k.Batch))
			if f.exact = true; k.Limit == vram.Asked {
				f.why = "no more than that were tried"
			} else {
				f.set(float64(k.MaxContext), 1)
			}
		}
	}
	for _, g := range r.Trace.GPUs {
		if mb, ok := g.VRAMMaxMB.Get(); ok {
			f := l.add("peak-vram", gpu(g.Index))
			f.set(mb, int(g.Samples))
			f.exact, f.se = true, page
		}
	}
}

func (l *list) sensors(r *report.Run) {
	for _, g := range r.Sensors {
		for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
			c := g.Channels[name]
			if c == nil || c.SameAs != "" {
				continue
			}
			where := gpu(g.GPU) + " " + name
			if c.UpdateMS.OK {
				f := l.add("sensor-update", where)
				f.set(c.UpdateMS.V, 1)
				if c.UpdateSE.OK {
					f.doubt(c.UpdateSE.V, 1e6)
				} else {
					f.why = "its standard error is not told"
				}
			}
			if c.WindowMS.OK {
				f := l.add("sensor-window", where)
				f.set(c.WindowMS.V, 1)
				if w := c.WindowCI95MS; len(w) == 2 && len(c.Ambiguous) == 0 {
					f.doubt((w[1]-w[0])/2/stats.Z95, 1e6)
				} else {
					f.why = "several windows explain the readings"
				}
			}
			if c.RiseMS.OK {
				f := l.add("sensor-rise", where)
				f.set(c.RiseMS.V, 1)
				f.why = "one rise, fitted to all edges"
			}
		}
	}
}

// calibrations are phases whose energy is no property of anybody's work.
var calibrations = []string{"idle", "baseline", "baseline_context", "square_low", "square_high", "burst", "burst_block", "response", "warmup", "soak", "vram_torture", "vram_cliff", "vram_recovery"}

// shape is what makes events repetitions of one another.
type shape struct {
	phase, model   string
	batch, context record.Opt[int64]
	dtype          string
}

func (s shape) loose() string {
	text := s.phase
	if s.model != "" {
		text += " " + s.model
	}
	if s.batch.OK {
		text += fmt.Sprintf(" batch %d", s.batch.V)
	}
	return text
}

func (s shape) strict() string {
	var parts []string
	if s.context.OK {
		parts = append(parts, fmt.Sprintf("context %d", s.context.V))
	}
	if s.dtype != "" {
		parts = append(parts, s.dtype)
	}
	return strings.Join(parts, " ")
}

func (s shape) String() string { return strings.TrimSpace(s.loose() + " " + s.strict()) }

// kind is the events of one shape.
type kind struct {
	shape
	tokens    float64 // of each event and pass, negative where they differ
	counted   bool
	method    string
	refused   int
	perSecond []float64
	seconds   []float64 // of each pass
	joules    []float64 // of those that have any
	own       []float64 // J, standard errors of these
	of        []float64 // tokens of these
}

func (l *list) events(r *report.Run) {
	kinds := map[shape]*kind{}
	var order []*kind
	slowed, judged := 0, 0
	for i := range r.Events {
		e := &r.Events[i]
		if j := e.Energy; j != nil && j.Throttled.OK {
			judged++
			if j.Throttled.V {
				slowed++
			}
		}
		if slices.Contains(calibrations, e.Phase) || e.EndNS <= e.StartNS {
			continue
		}
		s := shape{phase: cmp.Or(e.Phase, "unnamed"), model: e.Model, batch: e.BatchSize}
		passes := 1.0
		for _, x := range e.Extra {
			switch x.Name {
			case "context":
				s.context = number(x.Value)
			case "dtype":
				_ = json.Unmarshal(x.Value, &s.dtype) // of another type it is none
			case "passes":
				if p := number(x.Value); p.V > 0 {
					passes = float64(p.V)
				}
			}
		}
		k := kinds[s]
		if k == nil {
			k = &kind{shape: s}
			kinds[s] = k
			order = append(order, k)
		}
		k.add(e, passes)
	}
	for _, k := range order {
		k.figures(l, r)
	}
	if judged > 0 {
		f := l.add("throttled-events", "")
		f.difference = true
		n := float64(judged)
		f.set(float64(slowed)/n, judged)
		p := (float64(slowed) + 1) / (n + 2) // Agresti and Caffo
		f.doubt(math.Sqrt(p*(1-p)/(n+2)), 1e6)
	}
}

func number(b json.RawMessage) (n record.Opt[int64]) {
	if json.Unmarshal(b, &n) != nil {
		return record.Opt[int64]{}
	}
	return n
}

func (k *kind) add(e *record.Event, passes float64) {
	tokens := e.OutputTokens.Or(0)
	if tokens <= 0 {
		tokens = e.InputTokens.Or(0)
	}
	each := float64(tokens) / passes
	if !k.counted {
		k.tokens, k.counted = each, true
	} else if k.tokens != each {
		k.tokens = -1
	}
	k.seconds = append(k.seconds, e.Duration()/passes)
	switch rate, ok := e.TokensPerSecond.Get(); {
	case ok:
		k.perSecond = append(k.perSecond, rate)
	case tokens > 0:
		k.perSecond = append(k.perSecond, float64(tokens)/e.Duration())
	}
	j := e.Energy
	if j == nil {
		return
	}
	if j.Tier == energy.Refused {
		k.refused++
		return
	}
	if j.Joules.OK {
		family, _, _ := strings.Cut(j.Method, ":")
		if k.method = cmp.Or(k.method, family); k.method != family {
			k.method = "mixed"
		}
		k.joules = append(k.joules, j.Joules.V)
		k.own = append(k.own, j.CI95J.Or(0)/stats.Z95)
		k.of = append(k.of, float64(tokens))
	}
}

// figures adds those of the kind.
func (k *kind) figures(l *list, r *report.Run) {
	add := func(metric string) *figure {
		f := l.add(metric, k.String())
		f.loose = k.loose()
		f.like["shape"] = k.strict()
		if k.tokens > 0 {
			f.like["tokens of an event"] = fmt.Sprintf("%g", k.tokens)
		}
		return f
	}
	k.energy(add, r)
	if len(k.perSecond) > 0 {
		add("throughput").mean95(k.perSecond)
	}
	add("latency").mean95(k.seconds)
}

// mean95 is the mean of repetitions.
func (f *figure) mean95(x []float64) {
	n := float64(len(x))
	mean, sd := stats.MeanSD(x)
	if len(x) == 1 {
		mean = x[0]
		f.why = "one repetition"
	}
	f.set(mean, len(x))
	if len(x) > 1 {
		f.doubt(sd/math.Sqrt(n), n-1)
	}
}

// energy is joules per token, or per event where there are none.
func (k *kind) energy(add func(string) *figure, r *report.Run) {
	sum, tokens := 0.0, 0.0
	for i, j := range k.joules {
		sum += j
		tokens += k.of[i]
	}
	metric := "joules-per-event"
	per := float64(len(k.joules))
	if tokens > 0 {
		metric, per = "joules-per-token", tokens
	}
	if len(k.joules) == 0 && k.refused == 0 {
		return
	}
	f := add(metric)
	f.joules = true
	f.like["method"] = k.method
	if len(k.joules) == 0 || k.refused > len(k.joules) {
		f.why = fmt.Sprintf("the joules of %d of %d events were refused", k.refused, k.refused+len(k.joules))
		return
	}
	f.set(sum/per, len(k.joules))
	n := float64(len(k.joules))
	if n < 2 {
		f.why = "one repetition"
		return
	}
	if ci, ok := k.summed(r, f.mean, tokens > 0); ok {
		f.doubt(ci/stats.T95(n-1), n-1)
		return
	}
	// How far repetitions lie from the common ratio; and what each is uncertain
	// by itself, as if all shared it.
	scatter, own := 0.0, 0.0
	for i, j := range k.joules {
		share := 1.0
		if tokens > 0 {
			share = k.of[i]
		}
		scatter += (j - f.mean*share) * (j - f.mean*share)
		own += k.own[i]
	}
	se := math.Sqrt(scatter/(n-1)*n) / per
	own /= per
	v := se*se + own*own
	f.doubt(math.Sqrt(v), (n-1)*v*v/max(se*se*se*se, 1e-12*v*v))
}

// summed is the half-width that nvattrib gives the same events, which knows how
// much of their uncertainty they share.
func (k *kind) summed(r *report.Run, mean float64, perToken bool) (ci float64, ok bool) {
	for i := range r.Summaries {
		s := &r.Summaries[i]
		if s.Phase != k.phase || s.Model != k.model || s.BatchSize != k.batch || s.WithEnergy != len(k.joules) {
			continue
		}
		value, half := s.EnergyMeanJ, s.CI95J
		if perToken {
			value, half = s.JoulesPerToken, s.PerTokenCI95J
		}
		if value.OK && half.OK && math.Abs(value.V-mean) <= 1e-6*math.Abs(mean) {
			return half.V, true
		}
	}
	return 0, false
}

// relax finds figures that one side has of nearly the same thing as the other:
// another context or number format. By force they are paired, else it says by
// their keys how they differ.
func (c *Comparison) relax(base, other map[string]*figure) map[string]string {
	near := map[string]string{}
	alone := func(a, b map[string]*figure) map[string][]*figure {
		found := map[string][]*figure{}
		for key, f := range a {
			if f.loose != "" && b[key] == nil {
				found[f.metric+"\x00"+f.loose] = append(found[f.metric+"\x00"+f.loose], f)
			}
		}
		return found
	}
	of := alone(other, base)
	for loose, mine := range alone(base, other) {
		theirs := of[loose]
		if len(theirs) == 0 {
			continue
		}
		if c.opts.Force && len(mine) == 1 && len(theirs) == 1 {
			delete(other, theirs[0].key())
			other[mine[0].key()] = theirs[0]
			continue
		}
		name := func(f *figure) string { return cmp.Or(f.like["shape"], "no shape") }
		for _, f := range mine {
			near[f.key()] = fmt.Sprintf("%s against %s", name(f), name(theirs[0]))
		}
		for _, f := range theirs {
			near[f.key()] = fmt.Sprintf("%s against %s", name(mine[0]), name(f))
		}
	}
	return near
}
