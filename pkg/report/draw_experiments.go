package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/chart"
	"joulepipe/pkg/record"
)

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
			// A slope is through the middle of what it is of.
			end, w := last.DurationS, last.WindowS.V
			sum, n := 0.0, 0.0
			for i := range points {
				if s := &points[i]; s.TempC.OK && s.DurationS >= end-w {
					sum += s.TempC.V
					n++
				}
			}
			middle := last.TempEndC.V - v*w/120
			if n > 0 {
				middle = sum / n
			}
			line := chart.Mark{Kind: chart.Line, Series: 2, Dashed: true, Name: "slope of the last window"}
			area := chart.Mark{Kind: chart.Area, Series: 2, Name: "95 % of the last window's slope"}
			for k := range 21 {
				t := end - w + w*float64(k)/20
				mid := middle + v*(t-end+w/2)/60
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
			band.Kind, band.Y, band.Series, band.Name = chart.Area, nil, 6, "95 % of each slope"
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
