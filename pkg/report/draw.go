package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/chart"
	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// drawings are all figures there can be. Each is drawn, or says why it cannot be
// and what is not seen for it.
var drawings = []struct {
	name string
	draw func(*Run) (f *chart.Figure, lacking string)
}{
	{"power", (*Run).drawPower},
	{"baseline", (*Run).drawBaseline},
	{"response", (*Run).drawResponse},
	{"memory", (*Run).drawMemory},
	{"composition", (*Run).drawComposition},
	{"events", (*Run).drawEvents},
	{"joule-curve", (*Run).drawCurve},
	{"tokens", (*Run).drawTokens},
	{"mismatch", (*Run).drawMismatch},
	{"soak", (*Run).drawSoak},
	{"clock", (*Run).drawClock},
	{"spacing", (*Run).drawSpacing},
	{"faults", (*Run).drawFaults},
}

// FigureNames are the names of all figures that a report can have.
func FigureNames() []string {
	var names []string
	for _, d := range drawings {
		names = append(names, d.name)
	}
	return names
}

func (r *Run) draw() {
	r.undrawn = map[string]string{}
	for _, d := range drawings {
		f, lacking := d.draw(r)
		if f == nil {
			r.undrawn[d.name] = lacking
			continue
		}
		f.Name = d.name
		r.Figures = append(r.Figures, f)
	}
}

// figure puts a figure on the page, or says what is missing for it.
func (p *page) figure(r *Run, name string) {
	for _, f := range r.Figures {
		if f.Name == name {
			p.parts = append(p.parts, part{figure: f})
			return
		}
	}
	if why := r.undrawn[name]; why != "" {
		p.say("%s", text(why))
	}
}

// timeAxis is an axis of time in the unit that suits so many seconds; times are
// to be multiplied by the factor.
func timeAxis(s float64) (a chart.Axis, factor float64) {
	switch {
	case s > 3*3600:
		return chart.Axis{Label: "Time, h"}, 1.0 / 3600
	case s > 10*60:
		return chart.Axis{Label: "Time, min"}, 1.0 / 60
	}
	return chart.Axis{Label: "Time, s"}, 1
}

// drawn makes a line of an envelope.
func (e *envelope) drawn(originNS int64, factor float64, series int, name string) chart.Mark {
	m := chart.Mark{Kind: chart.Line, Series: series, Name: name}
	for t, b := range e.all(originNS) {
		if b.broken && len(m.X) > 0 {
			m.X, m.Y, m.Lo, m.Hi = append(m.X, math.NaN()), append(m.Y, math.NaN()), append(m.Lo, math.NaN()), append(m.Hi, math.NaN())
		}
		m.X, m.Y, m.Lo, m.Hi = append(m.X, t*factor), append(m.Y, b.sum/float64(b.n)), append(m.Lo, b.least), append(m.Hi, b.most)
	}
	return m
}

// rows hands out what an envelope holds as cells of a table, after what says
// whose it is.
func (e *envelope) rows(originNS int64, yield func(...string), whose ...string) {
	half := float64(e.widthNS) / 2e9
	for t, b := range e.all(originNS) {
		yield(append(slices.Clone(whose), exact(t-half), exact(t+half), exact(b.least), exact(b.sum/float64(b.n)), exact(b.most), count(b.n))...)
	}
}

// exact writes a number for programs; what is none is empty.
func exact(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return ""
	}
	return strconv.FormatFloat(x, 'g', 9, 64)
}

func exactly(o record.Opt[float64]) string {
	if v, ok := o.Get(); ok {
		return exact(v)
	}
	return ""
}

func number(n int) string { return strconv.Itoa(n) }

// pictured are the GPUs that there is something to be drawn of, in order.
func (r *Run) pictured() []int { return slices.Sorted(maps.Keys(r.Trace.pictures)) }

// series numbers the lines of a figure of several GPUs.
func series(i int) int { return []int{6, 2, 1, 3, 4, 5}[i%6] }

// sharpest is the channel of a GPU that shows most of its power.
func (p *picture) sharpest() (channel string, e *envelope) {
	for _, channel := range []string{record.ChannelDriver, record.ChannelInstant, record.ChannelPower, record.ChannelAverage} {
		if e := p.power[channel]; e.n > 0 {
			return channel, e
		}
	}
	return "", nil
}

// phasesShaded is how many kinds of work have a colour of their own.
const phasesShaded = 5

// shaded is when the events of each phase ran, the phases that took most time first;
// what is left over is one.
func (r *Run) shaded() (names []string, lanes []*lane) {
	type phase struct {
		lane    lane
		seconds float64
	}
	all := map[string]*phase{}
	parts := slices.ContainsFunc(r.Events, func(e record.Event) bool { return e.Phase == "prefill" || e.Phase == "decode" })
	for i := range r.Events {
		e := &r.Events[i]
		from, until := max(e.StartNS, r.Trace.FirstNS), min(e.EndNS, r.Trace.LastNS)
		if until <= from || parts && e.Phase == "request" {
			continue
		}
		name := cmp.Or(plain(e.Phase), "unnamed")
		p := all[name]
		if p == nil {
			p = &phase{}
			all[name] = p
		}
		p.lane.mark(r.Trace.FirstNS, from, until)
		p.seconds += seconds(until - from)
	}
	order := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b].seconds, all[a].seconds), cmp.Compare(a, b))
	})
	if len(order) > phasesShaded {
		var rest lane
		for _, name := range order[phasesShaded:] {
			for _, s := range all[name].lane.stretches() {
				rest.mark(r.Trace.FirstNS, r.Trace.FirstNS+int64(s.from*1e9), r.Trace.FirstNS+int64(s.until*1e9))
			}
		}
		order = append(order[:phasesShaded:phasesShaded], "other work")
		all["other work"] = &phase{lane: rest}
	}
	for _, name := range order {
		names, lanes = append(names, name), append(lanes, &all[name].lane)
	}
	return names, lanes
}

func (r *Run) drawPower() (*chart.Figure, string) {
	t := r.Trace
	if len(t.pictures) == 0 {
		return nil, "No figure of power over the run: there is no trace, so nothing shows what the GPU took, and when."
	}
	axis, factor := timeAxis(t.Seconds())
	axis.Fixed, axis.Hi = true, max(t.Seconds(), 1e-3)*factor
	f := &chart.Figure{Title: "Power and temperature over the run", Heads: []string{"series", "gpu", "from_s", "until_s", "least", "mean", "most", "readings"}}
	power := chart.Panel{X: axis, Y: chart.Axis{Label: "Power, W", Zero: true}}
	temp := chart.Panel{X: axis, Y: chart.Axis{Label: "Temperature, °C"}, Height: 110}
	names, lanes := r.shaded()
	for i, name := range names {
		m := chart.Mark{Kind: chart.Band, Name: name, Series: (i + 1) % (phasesShaded + 1)}
		for _, s := range lanes[i].stretches() {
			m.X, m.X1 = append(m.X, s.from*factor), append(m.X1, s.until*factor)
		}
		power.Marks, temp.Marks = append(power.Marks, m), append(temp.Marks, m)
	}
	var said []string
	gaps := 0
	for i, gpu := range r.pictured() {
		p := t.pictures[gpu]
		if stretches := p.lanes[laneGap].stretches(); len(stretches) > 0 {
			m := chart.Mark{Kind: chart.Band, Name: "gap: no valid sample", Series: 2, Strong: true}
			for _, s := range stretches {
				m.X, m.X1 = append(m.X, s.from*factor), append(m.X1, s.until*factor)
			}
			gaps += int(p.lanes[laneGap].times)
			power.Marks = append(power.Marks, m)
		}
		if channel, e := p.sharpest(); e != nil {
			power.Marks = append(power.Marks, e.drawn(t.FirstNS, factor, series(i), fmt.Sprintf("GPU %d, %s", gpu, channel)))
			least, most := e.ends()
			said = append(said, fmt.Sprintf("GPU %d took %s to %s W (%s)", gpu, trimmed(least), trimmed(most), channel))
		}
		if p.temp.n > 0 {
			temp.Marks = append(temp.Marks, p.temp.drawn(t.FirstNS, factor, series(i), ""))
			least, most := p.temp.ends()
			said = append(said, fmt.Sprintf("was at %s to %s °C", trimmed(least), trimmed(most)))
		}
	}
	if len(said) == 0 {
		return nil, "No figure of power over the run: the trace has neither power nor temperature."
	}
	f.Desc = fmt.Sprintf("Over %s, %s. The line is the mean of each column, its paler part goes from the least to the most. Shaded are %s. %s without valid samples.", span(t.Seconds()), strings.Join(said, ", "), cmp.Or(strings.Join(names, ", "), "no events"), plural(gaps, "gap"))
	power.X.Bare = true
	f.Panels = []chart.Panel{power, temp}
	if p := t.pictures[r.pictured()[0]]; p.temp.n == 0 {
		power.X.Bare = false
		f.Panels = []chart.Panel{power}
	}
	f.Rows = func(yield func(...string)) {
		for _, gpu := range r.pictured() {
			p := t.pictures[gpu]
			if channel, e := p.sharpest(); e != nil {
				e.rows(t.FirstNS, yield, channel+"_w", number(gpu))
			}
			p.temp.rows(t.FirstNS, yield, "temp_c", number(gpu))
			for _, s := range p.lanes[laneGap].stretches() {
				yield("gap", number(gpu), exact(s.from), exact(s.until), "", "", "", count(s.times))
			}
		}
		for i, name := range names {
			for _, s := range lanes[i].stretches() {
				yield("phase "+name, "", exact(s.from), exact(s.until), "", "", "", count(s.times))
			}
		}
	}
	return f, ""
}

// ends are the least and the most of a series.
func (e *envelope) ends() (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, b := range e.all(0) {
		least, most = min(least, b.least), max(most, b.most)
	}
	return least, most
}

func (r *Run) drawBaseline() (*chart.Figure, string) {
	i := slices.IndexFunc(r.Baselines, func(b baseline.Idle) bool { return r.idle[b.GPU] != nil && r.idle[b.GPU].series.n > 1 })
	if i < 0 {
		return nil, "No figure of the baseline: its samples were not kept (" + cmp.Or(r.files[idleTraceFile], "no "+idleTraceFile.name()) + "), so a burst, a drift or a second level of idle power could not be seen."
	}
	b := &r.Baselines[i]
	m := r.idle[b.GPU]
	origin := m.series.originNS
	axis, factor := timeAxis(seconds(m.series.lastNS - origin))
	f := &chart.Figure{
		Title: fmt.Sprintf("Idle power of GPU %d over time, and how it is distributed", b.GPU),
		Desc:  fmt.Sprintf("%s of the channel %s, from %s to %s. The mean is %s W.", plural(int(m.n), "reading"), m.channel, unit(b.MinW, "W"), unit(b.MaxW, "W"), trimmed(b.MeanW)),
		Heads: []string{"series", "from", "until", "least_w", "mean_w", "most_w", "readings"},
	}
	f.Panels = []chart.Panel{{X: axis, Y: chart.Axis{Label: "Idle power, W"}, Height: 140, Marks: []chart.Mark{
		m.series.drawn(origin, factor, 6, "readings"), {Kind: chart.Level, Y: []float64{b.MeanW}, Series: 2, Name: "mean", Dashed: true},
	}}}
	bars := chart.Mark{Kind: chart.Bars, Series: 6}
	keys := slices.Sorted(maps.Keys(m.spread.bins))
	for _, k := range keys {
		bars.X, bars.X1 = append(bars.X, float64(k)*m.spread.width), append(bars.X1, float64(k+1)*m.spread.width)
		bars.Y = append(bars.Y, float64(m.spread.bins[k]))
	}
	marks := []chart.Mark{bars}
	var xs, density []float64
	if x := b.Mixture; x != nil && len(keys) > 0 {
		lo, hi := float64(keys[0])*m.spread.width, float64(keys[len(keys)-1]+1)*m.spread.width
		for k := range 401 {
			w := lo + (hi-lo)*float64(k)/400
			d := x.LowWeight*normal(w, x.LowW, x.LowSigmaW) + (1-x.LowWeight)*normal(w, x.HighW, x.HighSigmaW)
			xs, density = append(xs, w), append(density, d*m.spread.width*float64(m.n))
		}
		marks = append(marks, chart.Mark{Kind: chart.Line, Series: 2, Name: "two levels, as fitted", X: xs, Y: density})
		f.Desc += fmt.Sprintf(" Two levels were found: %s W, %s of the time, and %s W (%s).", trimmed(x.LowW), percent(x.LowWeight), trimmed(x.HighW), strings.ReplaceAll(plain(x.Verdict), "_", " "))
	}
	f.Panels = append(f.Panels, chart.Panel{X: chart.Axis{Label: "Idle power, W"}, Y: chart.Axis{Label: "Readings", Zero: true}, Height: 140, Marks: marks})
	f.Rows = func(yield func(...string)) {
		m.series.rows(origin, yield, "over time, s")
		for i := range bars.X {
			yield("distribution, W", exact(bars.X[i]), exact(bars.X1[i]), "", "", "", exact(bars.Y[i]))
		}
		for i := range xs {
			yield("two levels, W", exact(xs[i]), "", "", "", "", exact(density[i]))
		}
	}
	return f, ""
}

// normal is the density of the normal distribution; a level without width has
// none.
func normal(x, mean, sigma float64) float64 {
	if !(sigma > 0) {
		return 0
	}
	z := (x - mean) / sigma
	return math.Exp(-z*z/2) / (sigma * math.Sqrt(2*math.Pi))
}

func (r *Run) drawResponse() (*chart.Figure, string) {
	for _, gpu := range r.pictured() {
		rise := r.Trace.pictures[gpu].rise
		if len(rise.edges) == 0 || len(rise.channels) == 0 {
			continue
		}
		f := &chart.Figure{
			Title: fmt.Sprintf("A switched load as GPU %d's sensors show it", gpu),
			Heads: []string{"channel", "after_ms", "mean_w", "least_w", "most_w", "readings", "fitted_w"},
		}
		panel := chart.Panel{X: chart.Axis{Label: "After the load was switched on, ms"}, Y: chart.Axis{Label: "Power, W", Zero: true}}
		fitted := map[string]func(float64) float64{}
		var channels []string
		for _, channel := range []string{record.ChannelDriver, record.ChannelInstant, record.ChannelPower, record.ChannelAverage} {
			if rise.channels[channel] == nil || r.sameAs(gpu, channel) != "" && rise.channels[r.sameAs(gpu, channel)] != nil {
				continue
			}
			channels = append(channels, channel)
			n := len(channels)
			m := chart.Mark{Kind: chart.Line, Series: n, Name: channel}
			for i, b := range rise.channels[channel] {
				if b.n > 0 {
					m.X, m.Y = append(m.X, 1e3*rise.at(i)), append(m.Y, b.sum/float64(b.n))
				}
			}
			panel.Marks = append(panel.Marks, m)
			if answer := r.answer(gpu, channel, rise); answer != nil {
				fitted[channel] = answer
				m := chart.Mark{Kind: chart.Line, Series: n, Name: channel + ", as fitted", Dashed: true}
				for ms := -1e3 * foldBefore.Seconds(); ms <= float64(rise.untilNS)/1e6; ms += 5 {
					m.X, m.Y = append(m.X, ms), append(m.Y, answer(ms))
				}
				panel.Marks = append(panel.Marks, m)
			}
		}
		f.Panels = []chart.Panel{panel}
		f.Desc = fmt.Sprintf("%s of a square wave laid over each other, by the channels %s, each the mean of 10 ms. What the poller reads is up to one period older than what the sensor shows.", plural(len(rise.edges), "rising edge"), strings.Join(channels, ", "))
		f.Rows = func(yield func(...string)) {
			for _, channel := range channels {
				for i, b := range rise.channels[channel] {
					if b.n == 0 {
						continue
					}
					model := ""
					if answer := fitted[channel]; answer != nil {
						model = exact(answer(1e3 * rise.at(i)))
					}
					yield(channel, exact(1e3*rise.at(i)), exact(b.sum/float64(b.n)), exact(b.least), exact(b.most), count(b.n), model)
				}
			}
		}
		return f, ""
	}
	return nil, "No figure of the response: no event square_high follows a square_low in the trace, so how fast the sensors follow a load cannot be seen."
}

// sameAs is the channel whose readings a channel has, by the sensor test.
func (r *Run) sameAs(gpu int, channel string) string {
	for _, s := range r.Sensors {
		if c := s.Channels[channel]; s.GPU == gpu && c != nil {
			return c.SameAs
		}
	}
	return ""
}

// answer is what the fitted sensor shows of a step between the levels of the
// square wave, nil where nothing was fitted.
func (r *Run) answer(gpu int, channel string, rise *fold) func(ms float64) float64 {
	low, ok := rise.level(channel, -foldBefore.Seconds(), -0.05)
	high, is := rise.level(channel, 0.7*float64(rise.untilNS)/1e9, float64(rise.untilNS)/1e9)
	for _, s := range r.Sensors {
		c := s.Channels[channel]
		if s.GPU != gpu || c == nil || !ok || !is {
			continue
		}
		if chain, told := c.Chain(); told {
			return func(ms float64) float64 { return low + (high-low)*chain.Answer(ms) }
		}
	}
	return nil
}

func (r *Run) drawMemory() (*chart.Figure, string) {
	t := r.Trace
	axis, factor := timeAxis(t.Seconds())
	axis.Fixed, axis.Hi = true, max(t.Seconds(), 1e-3)*factor
	panel := chart.Panel{X: axis, Y: chart.Axis{Label: "Memory in use, MiB", Zero: true}, Height: 160}
	var said []string
	for i, gpu := range r.pictured() {
		e := t.pictures[gpu].memory
		if e.n == 0 {
			continue
		}
		panel.Marks = append(panel.Marks, e.drawn(t.FirstNS, factor, series(i), fmt.Sprintf("GPU %d", gpu)))
		least, most := e.ends()
		said = append(said, fmt.Sprintf("GPU %d between %s and %s MiB", gpu, fixed(least, 0), fixed(most, 0)))
		if total, ok := t.info(gpu).VRAMTotalMB.Get(); ok {
			panel.Marks = append(panel.Marks, chart.Mark{Kind: chart.Level, Y: []float64{total}, Series: 2, Dashed: true, Name: fmt.Sprintf("all there is on GPU %d", gpu)})
		}
	}
	if len(said) == 0 {
		return nil, "No figure of memory over time: the trace does not have it, so what a model took, and whether it was given back, cannot be seen."
	}
	return &chart.Figure{
		Title: "Memory in use over the run", Desc: "In use were on " + strings.Join(said, ", ") + ".", Panels: []chart.Panel{panel},
		Heads: []string{"series", "gpu", "from_s", "until_s", "least", "mean", "most", "readings"},
		Rows: func(yield func(...string)) {
			for _, gpu := range r.pictured() {
				t.pictures[gpu].memory.rows(t.FirstNS, yield, "vram_used_mb", number(gpu))
			}
		},
	}, ""
}

func (r *Run) drawComposition() (*chart.Figure, string) {
	names := partNames
	marks := make([]chart.Mark, len(names))
	for k := range marks {
		marks[k] = chart.Mark{Kind: chart.Cells, Name: names[k], Series: (k + 1) % len(names)}
	}
	var categories []string
	var rows [][]string
	for _, g := range r.Memory {
		for _, c := range g.Cliff {
			parts := composition(&c.Peak)
			at, row := 0.0, float64(len(categories))
			whose := fmt.Sprintf("%s, batch %d", plain(c.Model), c.Batch)
			categories = append(categories, whose)
			for k, part := range parts {
				mb, ok := part.Get()
				if !ok {
					continue
				}
				m := &marks[k]
				strength := 1.0
				if k == len(names)-1 { // free
					strength = 0.25
				}
				m.X, m.X1, m.Y = append(m.X, at), append(m.X1, at+mb), append(m.Y, strength)
				m.Lo, m.Hi = append(m.Lo, row-0.3), append(m.Hi, row+0.3)
				rows = append(rows, []string{whose, number(c.Peak.Context), names[k], exact(mb)})
				at += mb
			}
		}
	}
	if len(categories) == 0 {
		return nil, "No figure of what memory is made of: no search for the longest context is in " + cmp.Or(r.files[vramFile], vramFile.name()) + "."
	}
	return &chart.Figure{
		Title:  "What memory is made of at the longest context",
		Desc:   fmt.Sprintf("For %s, in MiB: weights, keys and values, activations, the allocator's overhead, the CUDA context, the driver and others, and what is free.", strings.Join(categories, "; ")),
		Panels: []chart.Panel{{X: chart.Axis{Label: "Memory, MiB", Zero: true}, Y: chart.Axis{Categories: categories}, Height: float64(36 * len(categories)), Marks: marks}},
		Heads:  []string{"model", "context_tokens", "part", "mib"},
		Rows: func(yield func(...string)) {
			for _, row := range rows {
				yield(row...)
			}
		},
	}, ""
}

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

func (r *Run) drawTokens() (*chart.Figure, string) {
	type key struct {
		phase, model   string
		batch, context int64
	}
	type cell struct {
		n                int
		sum, least, most float64
	}
	// A decode looks back on the prompt of its request.
	prompts := map[string]int64{}
	for i := range r.Events {
		if e := &r.Events[i]; e.RequestID != "" && e.InputTokens.V > prompts[e.RequestID] {
			prompts[e.RequestID] = e.InputTokens.V
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
		k := key{e.Phase, e.Model, b, 0}
		if n := e.InputTokens.Or(prompts[e.RequestID]); n > 0 {
			k.context = int64(math.Round(float64(n) / float64(b)))
		}
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
		least, most := slices.Min(seen), slices.Max(seen)
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
				p.Marks = append(p.Marks, chart.Mark{Kind: chart.Points, Name: name, Series: i%6 + 1, Shape: shape(i)})
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
		fit := chart.Mark{Kind: chart.Line, Series: 2 + len(fits), Dashed: true, Name: fmt.Sprintf("GPU %d: %s s/T %+.4f", a.GPU, trimmed(c), a.MismatchEpsilon.V)}
		lo, hi := slices.Min(m.X), slices.Max(m.X)
		for k := range 101 {
			d := lo * math.Pow(hi/lo, float64(k)/100)
			if y := c/d + a.MismatchEpsilon.V; y >= 1e-5 {
				fit.X, fit.Y = append(fit.X, d), append(fit.Y, y)
			}
		}
		fits = append(fits, fit)
		f.Desc += fmt.Sprintf(" Of GPU %d it is %s s over the length, %+.2f %%.", a.GPU, trimmed(c), 100*a.MismatchEpsilon.V)
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

func (r *Run) drawSoak() (*chart.Figure, string) {
	for _, gpu := range slices.Sorted(maps.Keys(r.warm)) {
		points := r.warm[gpu].points
		var temp, slope chart.Mark
		for i := range points {
			s := &points[i]
			t := s.TempC
			if s.Final && !t.OK {
				t = s.TempEndC
			}
			if v, ok := t.Get(); ok {
				temp.X, temp.Y = append(temp.X, s.DurationS), append(temp.Y, v)
			}
			if v, ok := s.SlopeCPerMin.Get(); ok {
				w := s.SlopeCI95.Or(0)
				slope.X, slope.Y = append(slope.X, s.DurationS), append(slope.Y, v)
				slope.Lo, slope.Hi = append(slope.Lo, v-w), append(slope.Hi, v+w)
			}
		}
		if len(temp.X) < 3 {
			continue
		}
		axis, factor := timeAxis(temp.X[len(temp.X)-1])
		axis.Fixed, axis.Hi = true, max(temp.X[len(temp.X)-1], 1e-3)*factor
		for i := range temp.X {
			temp.X[i] *= factor
		}
		for i := range slope.X {
			slope.X[i] *= factor
		}
		temp.Kind, temp.Series, temp.Name = chart.Line, 6, "temperature"
		last := &points[len(points)-1]
		f := &chart.Figure{
			Title: fmt.Sprintf("Heat soak of GPU %d", gpu),
			Desc:  fmt.Sprintf("From %s to %s in %s, %s.", unit(last.TempStartC, "°C"), unit(last.TempEndC, "°C"), span(last.DurationS), plain(strings.ReplaceAll(last.State, "_", " "))),
			Heads: []string{"duration_s", "temp_c", "slope_c_per_min", "slope_ci95", "predicted_equilibrium_c"},
			Rows: func(yield func(...string)) {
				for i := range points {
					s := &points[i]
					yield(exact(s.DurationS), exactly(s.TempC), exactly(s.SlopeCPerMin), exactly(s.SlopeCI95), exactly(s.PredictedC))
				}
			},
		}
		above := chart.Panel{X: axis, Y: chart.Axis{Label: "Temperature, °C"}, Height: 160, Marks: []chart.Mark{temp}}
		if v, ok := last.SlopeCPerMin.Get(); ok && last.WindowS.OK && last.TempEndC.OK {
			end, w := last.DurationS, last.WindowS.V
			line := chart.Mark{Kind: chart.Line, Series: 2, Dashed: true, Name: "slope of the last window"}
			area := chart.Mark{Kind: chart.Area, Series: 2, Name: "its 95 % band"}
			for k := range 21 {
				t := end - w + w*float64(k)/20
				mid := last.TempEndC.V + v*(t-end+w/2)/60 - v*w/120
				half := last.SlopeCI95.Or(0) * math.Abs(t-end+w/2) / 60
				line.X, line.Y = append(line.X, t*factor), append(line.Y, mid)
				area.X, area.Lo, area.Hi = append(area.X, t*factor), append(area.Lo, mid-half), append(area.Hi, mid+half)
			}
			above.Marks = append([]chart.Mark{area}, above.Marks...)
			above.Marks = append(above.Marks, line)
			f.Desc += fmt.Sprintf(" The slope of the last window was %s ± %s °C/min.", trimmed(v), optional(last.SlopeCI95))
		}
		if v, ok := last.PredictedC.Get(); ok {
			level := chart.Mark{Kind: chart.Level, Series: 1, Dashed: true, Name: "predicted equilibrium", Y: []float64{v}}
			if last.PredictedLowC.OK && last.PredictedHighC.OK {
				level.Lo, level.Hi = []float64{last.PredictedLowC.V}, []float64{last.PredictedHighC.V}
			}
			above.Marks = append(above.Marks, level)
			f.Desc += fmt.Sprintf(" Equilibrium is predicted at %s °C.", trimmed(v))
		}
		f.Panels = []chart.Panel{above}
		if len(slope.X) > 1 {
			band := slope
			band.Kind, band.Y, band.Series, band.Name = chart.Area, nil, 6, "95 % of the slope"
			limit := []float64{r.Limits.SoakSlope}
			most := max(4*r.Limits.SoakSlope, 2*quantile(slope.Y, 0.75))
			f.Panels[0].X.Bare = true
			f.Panels = append(f.Panels, chart.Panel{
				X: axis, Y: chart.Axis{Label: "Slope, °C/min", Fixed: true, Lo: -most / 4, Hi: most}, Height: 110,
				Marks: []chart.Mark{band, {Kind: chart.Line, Series: 6, X: slope.X, Y: slope.Y},
					{Kind: chart.Level, Series: 2, Y: limit, Name: "equilibrium is below " + trimmed(r.Limits.SoakSlope) + " °C/min"}},
			})
		}
		return f, ""
	}
	return nil, "No figure of the heat soak: its course was not recorded, so whether the GPU had settled cannot be seen."
}

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

func (r *Run) drawClock() (*chart.Figure, string) {
	var panels []chart.Panel
	var said []string
	for _, gpu := range r.pictured() {
		heat := r.Trace.pictures[gpu].heat
		if len(heat) == 0 || len(panels) == 2 {
			continue
		}
		cells := chart.Mark{Kind: chart.Cells, Series: 1}
		most := int64(0)
		for _, n := range heat {
			most = max(most, n)
		}
		for _, c := range sortedCells(heat) {
			cells.X, cells.X1 = append(cells.X, float64(c.temp)-0.5), append(cells.X1, float64(c.temp)+0.5)
			cells.Lo, cells.Hi = append(cells.Lo, float64(c.clock*clockStep)), append(cells.Hi, float64((c.clock+1)*clockStep))
			cells.Y = append(cells.Y, 0.2+0.8*math.Log1p(float64(heat[c]))/math.Log1p(float64(most)))
		}
		panels = append(panels, chart.Panel{
			X: chart.Axis{Label: fmt.Sprintf("Temperature of GPU %d, °C", gpu)}, Y: chart.Axis{Label: "SM clock, MHz", Zero: true}, Height: 180, Marks: []chart.Mark{cells},
		})
		said = append(said, fmt.Sprintf("GPU %d was at %s to %s °C and %s to %s MHz", gpu, trimmed(slices.Min(cells.X)+0.5), trimmed(slices.Max(cells.X1)-0.5),
			trimmed(slices.Min(cells.Lo)), trimmed(slices.Max(cells.Hi))))
	}
	if len(panels) == 0 {
		return nil, "No figure of clock against temperature: the samples do not have both, so a clock that falls with heat cannot be seen."
	}
	return &chart.Figure{
		Title: "Clock against temperature", Desc: strings.Join(said, ". ") + ". The stronger the colour, the more samples.", Panels: panels,
		Heads: []string{"gpu", "temp_c", "sm_clock_from_mhz", "sm_clock_until_mhz", "samples"},
		Rows: func(yield func(...string)) {
			for _, gpu := range r.pictured() {
				heat := r.Trace.pictures[gpu].heat
				for _, c := range sortedCells(heat) {
					yield(number(gpu), count(c.temp), count(c.clock*clockStep), count((c.clock+1)*clockStep), count(heat[c]))
				}
			}
		},
	}, ""
}

func sortedCells(heat map[heatCell]int64) []heatCell {
	return slices.SortedFunc(maps.Keys(heat), func(a, b heatCell) int {
		return cmp.Or(cmp.Compare(a.temp, b.temp), cmp.Compare(a.clock, b.clock))
	})
}

func (r *Run) drawSpacing() (*chart.Figure, string) {
	f := &chart.Figure{Title: "Spacing and lateness of samples", Heads: []string{"series", "from_ms", "until_ms", "samples"}}
	var rows [][]string
	bins := r.Trace.Poller().Overall.DtHistogram
	first, last := len(bins), -1
	for i, b := range bins {
		if b.Count > 0 {
			first, last = min(first, i), i
		}
	}
	if last >= 0 {
		p := chart.Panel{X: chart.Axis{Label: "Spacing of samples, ms"}, Y: chart.Axis{Label: "Samples", Log: true, Fixed: true, Lo: 0.7, Hi: 10}, Height: 130}
		bars := chart.Mark{Kind: chart.Bars, Series: 1}
		total := int64(0)
		for i, b := range bins[first : last+1] {
			name := limit(b.LoMS) + "–"
			if hi, ok := b.HiMS.Get(); ok {
				name += limit(hi)
			} else {
				name = "≥" + limit(b.LoMS)
			}
			p.X.Categories = append(p.X.Categories, name)
			bars.X, bars.X1, bars.Y = append(bars.X, float64(i)-0.4), append(bars.X1, float64(i)+0.4), append(bars.Y, float64(b.Count))
			p.Y.Hi = max(p.Y.Hi, 1.5*float64(b.Count))
			total += b.Count
			rows = append(rows, []string{"spacing", exact(b.LoMS), exactly(b.HiMS), count(b.Count)})
		}
		p.Marks = []chart.Mark{bars}
		f.Panels = append(f.Panels, p)
		f.Desc = fmt.Sprintf("%s from %s to %s ms.", plural(int(total), "spacing"), p.X.Categories[0], p.X.Categories[len(p.X.Categories)-1])
	}
	var late [lateBins]int64
	read := int64(0)
	for _, p := range r.Trace.pictures {
		read += p.lateRead
		for i, n := range p.late {
			late[i] += n
		}
	}
	if read > 0 {
		p := chart.Panel{X: chart.Axis{Label: "Lateness, ms", Log: true}, Y: chart.Axis{Label: "Samples", Log: true, Fixed: true, Lo: 0.7, Hi: 10}, Height: 130}
		bars := chart.Mark{Kind: chart.Bars, Series: 6}
		for i, n := range late {
			if n == 0 {
				continue
			}
			from, until := math.Exp2(float64(i)/latePerOct)/1e3, math.Exp2(float64(i+1)/latePerOct)/1e3
			bars.X, bars.X1, bars.Y = append(bars.X, from), append(bars.X1, until), append(bars.Y, float64(n))
			p.Y.Hi = max(p.Y.Hi, 1.5*float64(n))
			rows = append(rows, []string{"lateness", exact(from), exact(until), count(n)})
		}
		p.Marks = []chart.Mark{bars}
		f.Panels = append(f.Panels, p)
		f.Desc += fmt.Sprintf(" Lateness of %s: median %s ms, p95 %s ms.", plural(int(read), "sample"),
			optionalFixed(r.Trace.Poller().Overall.MedianLatenessMS, 3), optionalFixed(r.Trace.Poller().Overall.P95LatenessMS, 3))
	}
	if len(f.Panels) == 0 {
		return nil, "No figure of the poller's punctuality: there are not two samples, so what the grid was like cannot be seen."
	}
	f.Rows = func(yield func(...string)) {
		for _, row := range rows {
			yield(row...)
		}
	}
	return f, ""
}

func (r *Run) drawFaults() (*chart.Figure, string) {
	if r.Trace.File == "" {
		return nil, "No figure of faults: there is no trace to find them in."
	}
	type fault struct {
		name string
		*lane
	}
	var faults []fault
	gpus := r.pictured()
	for _, gpu := range gpus {
		p := r.Trace.pictures[gpu]
		for i := range p.lanes {
			if p.lanes[i].times == 0 {
				continue
			}
			name := laneNames[i]
			if len(gpus) > 1 {
				name = fmt.Sprintf("GPU %d: %s", gpu, name)
			}
			faults = append(faults, fault{name, &p.lanes[i]})
		}
	}
	origin := r.Trace.FirstNS
	for _, name := range slices.Sorted(maps.Keys(r.Trace.markers)) {
		faults = append(faults, fault{"marked " + cmp.Or(plain(name), "without a name"), r.Trace.markers[name]})
	}
	refused := &lane{}
	for i := range r.Events {
		e := &r.Events[i]
		from, until := max(e.StartNS, origin), min(e.EndNS, r.Trace.LastNS)
		if e.Energy != nil && e.Energy.Quality != energy.Good && until > from {
			refused.mark(origin, from, until)
		}
	}
	if refused.times > 0 {
		faults = append(faults, fault{"event with gaps or no data", refused})
	}
	trips := &lane{}
	for _, gpu := range slices.Sorted(maps.Keys(r.warm)) {
		before := 0
		for _, s := range r.warm[gpu].points {
			if ns, ok := s.TimeNS.Get(); ok && s.Trips > before && ns >= origin && ns <= r.Trace.LastNS {
				trips.mark(origin, ns, ns)
			}
			before = max(before, s.Trips)
		}
	}
	if trips.times > 0 {
		faults = append(faults, fault{"thermal trip", trips})
	}
	if r.Trace.Cut != "" {
		cut := &lane{}
		cut.mark(origin, r.Trace.LastNS, r.Trace.LastNS)
		faults = append(faults, fault{"the trace was cut", cut})
	}
	if len(faults) == 0 {
		return nil, "No fault was recorded: no gap, no failed or suspect reading, no dropped tick, no slowdown."
	}
	axis, factor := timeAxis(r.Trace.Seconds())
	axis.Fixed, axis.Lo, axis.Hi = true, 0, factor*max(r.Trace.Seconds(), 1e-3)
	panel := chart.Panel{X: axis, Height: float64(26 * len(faults))}
	var said []string
	for i, k := range faults {
		panel.Y.Categories = append(panel.Y.Categories, k.name)
		m := chart.Mark{Kind: chart.Cells, Series: 2}
		if strings.HasSuffix(k.name, laneNames[laneCap]) {
			m.Series = 6 // which is no fault
		}
		for _, s := range k.stretches() {
			m.X, m.X1, m.Y = append(m.X, s.from*factor), append(m.X1, s.until*factor), append(m.Y, 1)
			m.Lo, m.Hi = append(m.Lo, float64(i)-0.32), append(m.Hi, float64(i)+0.32)
		}
		panel.Marks = append(panel.Marks, m)
		said = append(said, fmt.Sprintf("%s, %s", k.name, plural(int(k.times), "time")))
	}
	return &chart.Figure{
		Title: "Faults over the run", Desc: sentence(strings.Join(said, "; ")) + ".", Panels: []chart.Panel{panel},
		Heads: []string{"fault", "from_s", "until_s", "times"},
		Rows: func(yield func(...string)) {
			for _, k := range faults {
				for _, s := range k.stretches() {
					yield(k.name, exact(s.from), exact(s.until), count(s.times))
				}
			}
		},
	}, ""
}
