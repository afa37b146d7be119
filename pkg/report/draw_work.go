package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/chart"
	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// tierSigns are how events of each tier are drawn, told apart by shape as well.
var tierSigns = []struct {
	tier   string
	series int
	shape  chart.Shape
}{
	{energy.Billable, 3, chart.Circle}, {energy.Analysis, 1, chart.Square}, {energy.Estimate, 5, chart.Diamond}, {energy.Refused, 2, chart.Cross},
}

// pointsShown is how many points of a figure are drawn one by one; of more, those
// that stand out.
const pointsShown = 1500

func (r *Run) drawEvents() (*chart.Figure, string) {
	if !r.Attributed {
		return nil, "No figure of energy by event: there are no events with joules, so what a piece of work took is not known."
	}
	origin := r.originNS()
	last, least := origin, math.Inf(1)
	for i := range r.Events {
		e := &r.Events[i]
		last = max(last, min(e.StartNS, lastNS))
		if j := e.Energy; j != nil && j.Joules.V > 0 {
			least = min(least, j.Joules.V)
		}
	}
	axis, factor := timeAxis(seconds(last - origin))
	panel := chart.Panel{X: axis, Y: chart.Axis{Label: "Energy of an event, J", Log: true}}
	var said []string
	without := chart.Mark{Kind: chart.Points, Name: "without joules, at the foot", Series: 0, Shape: chart.Cross}
	for _, sign := range tierSigns {
		m := chart.Mark{Kind: chart.Points, Name: sign.tier, Series: sign.series, Shape: sign.shape}
		for i := range r.Events {
			e := &r.Events[i]
			j := e.Energy
			if j == nil || j.Tier != sign.tier || e.StartNS < origin || e.StartNS > last {
				continue
			}
			x := factor * seconds(e.StartNS-origin)
			v, ok := j.Joules.Get()
			if !ok {
				without.X, without.Y = append(without.X, x), append(without.Y, least*0.6)
				continue
			}
			w := j.CI95J.Or(math.NaN())
			m.X, m.Y, m.Lo, m.Hi = append(m.X, x), append(m.Y, v), append(m.Lo, v-w), append(m.Hi, v+w)
		}
		if len(m.X) > 0 {
			said = append(said, count(len(m.X))+" "+sign.tier)
			panel.Marks = append(panel.Marks, thin(m))
		}
	}
	if len(without.X) > 0 && !math.IsInf(least, 0) {
		said = append(said, count(len(without.X))+" without joules")
		panel.Marks = append(panel.Marks, thin(without))
	}
	if len(panel.Marks) == 0 {
		return nil, "No figure of energy by event: no event has joules in a tier that is known."
	}
	f := &chart.Figure{
		Title: "Energy of each event, with its 95 % interval", Panels: []chart.Panel{panel},
		Desc:  strings.Join(said, ", ") + ", by the time at which they began. The scale is logarithmic.",
		Heads: []string{"event_id", "phase", "batch_size", "t_start_s", "duration_s", "energy_joules", "ci95_joules", "energy_tier", "energy_quality"},
	}
	f.Rows = func(yield func(...string)) {
		for i := range r.Events {
			e := &r.Events[i]
			if j := e.Energy; j != nil {
				batch := ""
				if b, ok := e.BatchSize.Get(); ok {
					batch = count(b)
				}
				yield(e.ID, e.Phase, batch, exact(seconds(e.StartNS-origin)), exact(e.Duration()), exactly(j.Joules), exactly(j.CI95J), j.Tier, j.Quality)
			}
		}
	}
	return f, ""
}

// originNS is where time begins in figures of events: with the trace, or with the
// first event.
func (r *Run) originNS() int64 {
	if r.Trace.File != "" {
		return r.Trace.FirstNS
	}
	origin := int64(0)
	for i := range r.Events {
		if ns := r.Events[i].StartNS; i == 0 || ns < origin {
			origin = max(ns, 0)
		}
	}
	return origin
}

// thin leaves of too many points the lowest and the highest of each of some
// hundred stretches along the axis.
func thin(m chart.Mark) chart.Mark {
	if len(m.X) <= pointsShown {
		return m
	}
	const columns = pointsShown / 2
	lo, hi := slices.Min(m.X), slices.Max(m.X)
	var first, second [columns]int
	for i := range first {
		first[i], second[i] = -1, -1
	}
	for i, x := range m.X {
		k := min(int(columns*(x-lo)/(hi-lo)), columns-1)
		if first[k] < 0 || m.Y[i] < m.Y[first[k]] {
			first[k] = i
		}
		if second[k] < 0 || m.Y[i] > m.Y[second[k]] {
			second[k] = i
		}
	}
	out := m
	out.X, out.Y, out.Lo, out.Hi = nil, nil, nil, nil
	for k := range first {
		for n, i := range []int{first[k], second[k]} {
			if i < 0 || n == 1 && i == first[k] {
				continue
			}
			out.X, out.Y = append(out.X, m.X[i]), append(out.Y, m.Y[i])
			if m.Lo != nil {
				out.Lo, out.Hi = append(out.Lo, m.Lo[i]), append(out.Hi, m.Hi[i])
			}
		}
	}
	return out
}

// shapes of the series of a figure, by their number.
func shape(i int) chart.Shape {
	return []chart.Shape{chart.Circle, chart.Square, chart.Triangle, chart.Diamond, chart.Ring, chart.Cross}[i%6]
}

func (r *Run) drawCurve() (*chart.Figure, string) {
	panel := chart.Panel{X: chart.Axis{Label: "Batch size", Log: true}, Y: chart.Axis{Label: "Energy per token, J", Log: true}}
	var said []string
	var rows [][]string
	n := 0
	for i := range r.Overall {
		o := &r.Overall[i]
		if o.JouleCurve == nil || o.Over != "batch_size" || n == 6 {
			continue
		}
		m := chart.Mark{Kind: chart.Points, Series: n + 1, Shape: shape(n), Name: strings.TrimSpace(plain(o.Phase) + " " + plain(o.Model))}
		for k := range r.Summaries {
			s := &r.Summaries[k]
			b, ok := s.BatchSize.Get()
			v, is := s.JoulesPerToken.Get()
			if s.Phase != o.Phase || s.Model != o.Model || !ok || !is {
				continue
			}
			w := s.PerTokenCI95J.Or(math.NaN())
			m.X, m.Y, m.Lo, m.Hi = append(m.X, float64(b)), append(m.Y, v), append(m.Lo, v-w), append(m.Hi, v+w)
			rows = append(rows, []string{o.Phase, o.Model, count(b), exact(v), exactly(s.PerTokenCI95J), ""})
		}
		if len(m.X) < 2 {
			continue
		}
		n++
		for _, b := range m.X {
			if !slices.Contains(panel.X.Ticks, b) {
				panel.X.Ticks = append(panel.X.Ticks, b)
			}
		}
		slices.Sort(panel.X.Ticks)
		panel.Marks = append(panel.Marks, m)
		words := fmt.Sprintf("%s at %s", m.Name, plural(len(m.X), "batch size"))
		if step, ok := o.JouleCurve.StepJ.Get(); ok && o.JouleCurve.TokenJ.OK {
			fit := chart.Mark{Kind: chart.Line, Series: m.Series, Dashed: true, Name: m.Name + ", as fitted"}
			lo, hi := slices.Min(m.X), slices.Max(m.X)
			for k := range 101 {
				b := lo * math.Pow(hi/lo, float64(k)/100)
				fit.X, fit.Y = append(fit.X, b), append(fit.Y, step/b+o.JouleCurve.TokenJ.V)
				if k%10 == 0 {
					rows = append(rows, []string{o.Phase, o.Model, exact(b), "", "", exact(step/b + o.JouleCurve.TokenJ.V)})
				}
			}
			panel.Marks = append(panel.Marks, fit)
			words += fmt.Sprintf(", fitted by %s J a step and %s J a token", trimmed(step), trimmed(o.JouleCurve.TokenJ.V))
		} else {
			words += ", no fit"
		}
		said = append(said, words)
	}
	if n == 0 {
		return nil, "No joule curve: it takes joules per token at two batch sizes, with a summary over them, so what a batch saves is not known."
	}
	return &chart.Figure{
		Title: "Joule curve: energy per token against the batch size", Desc: strings.Join(said, "; ") + ".", Panels: []chart.Panel{panel},
		Heads: []string{"phase", "model", "batch_size", "joules_per_token", "ci95_joules", "fitted_joules_per_token"},
		Rows: func(yield func(...string)) {
			for _, row := range rows {
				yield(row...)
			}
		},
	}, ""
}

// contextOf is how long the prompt of each sequence of an event is, in tokens, as
// the event says or by its input tokens, which are those of all its passes; 0 where
// that is not known.
func contextOf(e *record.Event) int64 {
	if n, ok := e.Whole("context").Get(); ok {
		return n
	}
	passes := e.Whole("passes").Or(1)
	n, ok := e.InputTokens.Get()
	b := e.BatchSize.Or(1)
	if !ok || n <= 0 || b <= 0 {
		return 0
	}
	return int64(math.Round(float64(n) / float64(b) / float64(passes)))
}

func (r *Run) drawTokens() (*chart.Figure, string) {
	type key struct {
		phase, model   string
		batch, context int64
	}
	type cell struct {
		n                int
		sum, least, most float64
	}
	// A decode that does not say so itself looks back on the prompt of its request.
	prompts := map[string]int64{}
	for i := range r.Events {
		if id := r.Events[i].RequestID; id != "" {
			prompts[id] = max(prompts[id], r.contexts[i])
		}
	}
	cells := map[key]*cell{}
	for i := range r.Events {
		e := &r.Events[i]
		b, ok := e.BatchSize.Get()
		if e.Energy == nil || !ok || b <= 0 || !e.Energy.JoulesPerToken.OK {
			continue
		}
		v := e.Energy.JoulesPerToken.V
		k := key{e.Phase, e.Model, b, cmp.Or(r.contexts[i], prompts[e.RequestID])}
		c := cells[k]
		if c == nil {
			c = &cell{least: v, most: v}
			cells[k] = c
		}
		c.n++
		c.sum += v
		c.least, c.most = min(c.least, v), max(c.most, v)
	}
	order := slices.SortedFunc(maps.Keys(cells), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.phase, b.phase), cmp.Compare(a.model, b.model), cmp.Compare(a.batch, b.batch), cmp.Compare(a.context, b.context))
	})
	if len(order) == 0 {
		return nil, "No figure of joules per token: no event with joules has tokens and a batch size."
	}
	const panelsShown = 4
	var panels []chart.Panel
	contexts := map[int64]bool{}
	for from := 0; from < len(order) && len(panels) < panelsShown; {
		to := from
		for to < len(order) && order[to].phase == order[from].phase && order[to].model == order[from].model {
			to++
		}
		p := chart.Panel{
			X: chart.Axis{Label: "Context, tokens of each sequence"}, Height: 140,
			Y: chart.Axis{Label: strings.TrimSpace(plain(order[from].phase)+" "+plain(order[from].model)) + ", J/token", Zero: true},
		}
		var seen []int64
		for _, k := range order[from:to] {
			if !slices.Contains(seen, k.context) {
				seen = append(seen, k.context)
			}
		}
		// Prompts of about one length, and those of none, tell nothing of the context.
		const ticksShown = 8
		least, most := slices.Min(seen), slices.Max(seen)
		if least > 0 && len(seen) <= ticksShown {
			p.X.Log = true
			for _, n := range seen {
				p.X.Ticks = append(p.X.Ticks, float64(n))
			}
			slices.Sort(p.X.Ticks)
		}
		single := float64(most) <= 1.1*float64(least)
		if single {
			p.X = chart.Axis{Label: "Batch size", Log: true, Ticks: []float64{}}
			if most > 0 {
				p.X.Label += fmt.Sprintf(", at a context of %d tokens", least)
			}
		}
		for _, k := range order[from:to] {
			contexts[k.context] = true
			c := cells[k]
			name := fmt.Sprintf("batch %d", k.batch)
			i := slices.IndexFunc(p.Marks, func(m chart.Mark) bool { return m.Name == name })
			if single {
				i = min(0, len(p.Marks)-1)
				name = ""
			}
			if i < 0 {
				i = len(p.Marks)
				m := chart.Mark{Kind: chart.Points, Name: name, Series: i%6 + 1, Shape: shape(i)}
				if single { // of several batches
					m.Series, m.Shape = 6, chart.Ring
				}
				p.Marks = append(p.Marks, m)
			}
			m := &p.Marks[i]
			x := float64(k.context)
			if single {
				x = float64(k.batch)
				if !slices.Contains(p.X.Ticks, x) {
					p.X.Ticks = append(p.X.Ticks, x)
				}
			}
			m.X, m.Y = append(m.X, x), append(m.Y, c.sum/float64(c.n))
			m.Lo, m.Hi = append(m.Lo, c.least), append(m.Hi, c.most)
		}
		panels = append(panels, p)
		from = to
	}
	return &chart.Figure{
		Title: "Energy per token by batch and context", Panels: panels,
		Desc:  fmt.Sprintf("%s of phase, model, batch and context, over %s. Whiskers are the least and the most of the repetitions.", plural(len(order), "combination"), plural(len(contexts), "context length")),
		Heads: []string{"phase", "model", "batch_size", "context_tokens", "events", "joules_per_token_mean", "least", "most"},
		Rows: func(yield func(...string)) {
			for _, k := range order {
				c := cells[k]
				yield(k.phase, k.model, count(k.batch), count(k.context), count(c.n), exact(c.sum/float64(c.n)), exact(c.least), exact(c.most))
			}
		},
	}, ""
}

// added writes a number that is added to what stands before it.
func added(x float64) string {
	if s, negative := strings.CutPrefix(trimmed(x), "-"); negative {
		return "− " + s
	}
	return "+ " + trimmed(x)
}

func (r *Run) drawMismatch() (*chart.Figure, string) {
	m := chart.Mark{Kind: chart.Points, Name: "event", Series: 1, Shape: chart.Ring}
	for i := range r.Events {
		e := &r.Events[i]
		if e.Energy == nil {
			continue
		}
		own, ok := e.Energy.IntegratedJ.Get()
		counter, is := e.Energy.CounterJ.Get()
		if d := e.Duration(); ok && is && counter > 0 && d > 0 {
			m.X, m.Y = append(m.X, d), append(m.Y, max(math.Abs(own/counter-1), 1e-5))
		}
	}
	if len(m.X) == 0 {
		return nil, "No figure of the counter against integrated power: no event has both, so how short an event either can be trusted with is not shown."
	}
	all := m
	f := &chart.Figure{
		Title: "Energy counter against integrated power, by the length of an event",
		Heads: []string{"series", "duration_s", "mismatch"},
	}
	panel := chart.Panel{X: chart.Axis{Label: "Length of the event, s", Log: true}, Y: chart.Axis{Label: "Mismatch |integrated/counter − 1|", Log: true}, Marks: []chart.Mark{thin(m)}}
	f.Desc = fmt.Sprintf("%s of %s to %s.", plural(len(m.X), "event"), span(slices.Min(m.X)), span(slices.Max(m.X)))
	var fits []chart.Mark
	for i := range r.Agreements {
		a := &r.Agreements[i]
		c, ok := a.MismatchCS.Get()
		if !ok || !a.MismatchEpsilon.OK || len(fits) == 5 {
			continue
		}
		fit := chart.Mark{Kind: chart.Line, Series: 2 + len(fits), Dashed: true, Name: fmt.Sprintf("GPU %d: %s s/T %s", a.GPU, trimmed(c), added(a.MismatchEpsilon.V))}
		lo, hi := slices.Min(m.X), slices.Max(m.X)
		for k := range 101 {
			d := lo * math.Pow(hi/lo, float64(k)/100)
			if y := c/d + a.MismatchEpsilon.V; y >= 1e-5 {
				fit.X, fit.Y = append(fit.X, d), append(fit.Y, y)
			}
		}
		fits = append(fits, fit)
		f.Desc += fmt.Sprintf(" Of GPU %d it is %s s over the length %s %%.", a.GPU, trimmed(c), added(100*a.MismatchEpsilon.V))
	}
	panel.Marks = append(panel.Marks, fits...)
	panel.Marks = append(panel.Marks, chart.Mark{Kind: chart.Level, Y: []float64{r.Limits.CounterTolerance}, Name: "tolerated: " + share(r.Limits.CounterTolerance)})
	f.Panels = []chart.Panel{panel}
	f.Rows = func(yield func(...string)) {
		for i := range all.X {
			yield("event", exact(all.X[i]), exact(all.Y[i]))
		}
		for _, fit := range fits {
			for i := range fit.X {
				yield("fit, "+fit.Name, exact(fit.X[i]), exact(fit.Y[i]))
			}
		}
	}
	return f, ""
}
