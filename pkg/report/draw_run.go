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
