package sensor

import (
	"math"
	"sort"

	"joulepipe/pkg/stats"
)

// readings are one channel's values as they were polled, in runs of the same
// value: what changed between two reads is known to have changed then, no
// better.
type readings struct {
	runs   []run
	reads  int
	stamps bool // each value has its own time stamp: nothing is polled
}

// run is a value that was read from first to last; the read before, at before,
// showed another.
type run struct {
	before, first, last int64
	value               float64
}

func (r *readings) add(ns int64, value float64) {
	r.reads++
	before := ns
	if n := len(r.runs); n > 0 {
		l := &r.runs[n-1]
		if ns <= l.last {
			return
		}
		if value == l.value && !r.stamps {
			l.last = ns
			return
		}
		before = l.last
	}
	if r.stamps {
		before = ns
	}
	r.runs = append(r.runs, run{before, ns, ns, value})
}

// poll is the mean spacing of reads, in ms.
func (r *readings) poll() float64 {
	if r.reads < 2 {
		return 0
	}
	return float64(r.runs[len(r.runs)-1].last-r.runs[0].first) / float64(r.reads-1) / 1e6
}

// at is the value read nearest to ns; ok is false where no read stood within
// reach of it.
func (r *readings) at(ns, reach int64) (v float64, ok bool) {
	i := sort.Search(len(r.runs), func(i int) bool { return r.runs[i].first > ns })
	best := reach + 1
	if i > 0 {
		if best = min(best, max(0, ns-r.runs[i-1].last)); best <= reach {
			v, ok = r.runs[i-1].value, true
		}
	}
	if i < len(r.runs) && r.runs[i].first-ns < best {
		v, ok = r.runs[i].value, true
	}
	return v, ok
}

// grid is a channel's update clock, ms since the channel's first read.
type grid struct {
	phase, update float64
	updateSE      float64
	phaseSE       float64 // in the middle of the trace
	first, last   int     // number of the first and last update
}

// updates fits the channel's grid: the changes, each known to lie between two
// reads, are numbered by the spacing found so far and a line is drawn through
// them, again until the numbers stay. The least spacing (Zeus) and the median
// one fail where a value repeats.
func (r *readings) updates() (g grid, reason string) {
	if len(r.runs) < 20 {
		return g, "update: fewer than 20 changes were seen"
	}
	poll := r.poll()
	if r.stamps {
		return r.stamped(), ""
	}
	var mid, half []float64
	origin := r.runs[0].first
	for _, c := range r.runs[1:] {
		half = append(half, float64(c.first-c.before)/2e6)
	}
	censored := 0.0 // variance that polling adds
	limit := 3 * stats.Quantile(half, 0.5)
	for i, c := range r.runs[1:] {
		// A change that a stall of the poller hid is no news of the clock.
		if half[i] <= limit {
			mid = append(mid, (float64(c.before-origin)+float64(c.first-origin))/2e6)
			censored += half[i] * half[i] / 3
		}
	}
	censored /= float64(len(mid))
	g.update = spacing(mid, 2*poll)
	if g.update < 2.5*poll {
		return g, "update: the channel changes at nearly every read; poll faster to see its clock"
	}
	k := make([]float64, len(mid))
	for i := 1; i < len(mid); i++ {
		k[i] = k[i-1] + math.Round((mid[i]-mid[i-1])/g.update)
	}
	var line stats.Line
	for range 5 {
		l, ok := stats.FitLine(k, mid)
		if !ok {
			return g, "update: no clock fits the changes"
		}
		line = l
		same := true
		for i, m := range mid {
			n := math.Round((m - l.Intercept) / l.Slope)
			same = same && n == k[i]
			k[i] = n
		}
		if same {
			break
		}
	}
	g.phase, g.update, g.updateSE = line.Intercept, line.Slope, line.SlopeSE
	g.phaseSE = math.Sqrt(line.Residual / float64(len(mid)-2) / line.NEff)
	g.first, g.last = int(k[0]), int(k[len(k)-1])
	jitter := math.Sqrt(max(0, line.Residual/float64(len(mid)-2)-censored))
	if jitter > g.update/4 {
		return g, "update: the changes keep no regular clock"
	}
	return g, ""
}

// stamped is the spacing of a channel that stamps its values itself. Its clock
// may be uneven and stop for a while, so that no grid goes through it all.
func (r *readings) stamped() (g grid) {
	var all, near []float64
	for i, c := range r.runs[1:] {
		all = append(all, float64(c.first-r.runs[i].first)/1e6)
	}
	hole := 1.75 * stats.Quantile(all, 0.5)
	for _, d := range all {
		if d < hole {
			near = append(near, d)
		}
	}
	var sd float64
	g.update, sd = stats.MeanSD(near)
	g.updateSE = sd * math.Sqrt(stats.Tau(near)/float64(len(near)))
	return g
}

// spacing is the longest period with which the changes keep time. Changes that
// keep time with a period keep it with half of it too, so that the longest
// good one is meant.
func spacing(mid []float64, shortest float64) float64 {
	d := make([]float64, 0, len(mid))
	for i := 1; i < len(mid); i++ {
		d = append(d, mid[i]-mid[i-1])
	}
	longest := 1.2 * stats.Quantile(d, 0.75)
	best, at := 0.0, longest
	for period := longest; period >= shortest; period /= 1.002 {
		sum, n := 0.0, 0.0
		for _, v := range d {
			if v < 20*period {
				sum += math.Cos(2 * math.Pi * v / period)
				n++
			}
		}
		if score := sum / max(n, 1); score > best+0.2 || score > best && period > at/1.5 {
			best, at = score, period
		}
	}
	return at
}

// row is what the sensor showed from one update on.
type row struct {
	at    float64 // ms since the fitter's origin
	value float64
}

// rows is what the channel showed after each of its updates: of the grid where
// there is one, read half-way to the next update, so that neither repeats nor
// late reads matter; else of each read that brought a change.
func (r *readings) rows(g grid, regular bool, origin int64) []row {
	var rows []row
	if r.stamps || !regular {
		for _, c := range r.runs {
			rows = append(rows, row{(float64(c.before-origin) + float64(c.first-origin)) / 2e6, c.value})
		}
		return rows
	}
	zero := float64(r.runs[0].first-origin) / 1e6
	for n := g.first; n < g.last; n++ {
		at := zero + g.phase + float64(n)*g.update
		if v, ok := r.at(origin+int64((at+g.update/2)*1e6), int64(g.update*0.3e6)); ok {
			rows = append(rows, row{at, v})
		}
	}
	return rows
}

// increments are a counter's rises, in watts over each tick.
func (r *readings) increments(g grid, regular bool, origin int64) []row {
	var rows []row
	for i := 2; i < len(r.runs); i++ {
		a, b := r.runs[i-1], r.runs[i]
		from, until := float64(a.before+a.first)/2, float64(b.before+b.first)/2
		ms := (until - from) / 1e6
		at := (until - float64(origin)) / 1e6
		if regular {
			ticks := math.Round(ms / g.update)
			if ticks != 1 {
				continue
			}
			ms = g.update
			zero := float64(r.runs[0].first-origin) / 1e6
			n := math.Round((at - zero - g.phase) / g.update)
			at = zero + g.phase + n*g.update
		}
		if b.value > a.value {
			rows = append(rows, row{at, (b.value - a.value) / ms})
		}
	}
	return rows
}
