package report

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"joulepipe/pkg/chart"
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
