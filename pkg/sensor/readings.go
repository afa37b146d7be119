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
	update, updateSE float64
	phaseSE          float64   // in the middle of a part
	parts            []stretch // in order; between two of them the clock slipped
}

// stretch is a part of a clock that keeps time: updates number first to last,
// at phase + number · update.
type stretch struct {
	phase       float64
	first, last int
}

func (g grid) at(s stretch, n int) float64 { return s.phase + float64(n)*g.update }

// near is the update next to a time; ok is false where the clock slipped about
// then.
func (g grid) near(at float64) (update float64, ok bool) {
	for _, s := range g.parts {
		if n := int(math.Round((at - s.phase) / g.update)); n >= s.first && n <= s.last {
			return g.at(s, n), true
		}
	}
	return 0, false
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
	var near []float64 // half of those that are kept
	limit := 3 * stats.Quantile(half, 0.5)
	for i, c := range r.runs[1:] {
		// A change that a stall of the poller hid is no news of the clock.
		if half[i] <= limit {
			mid = append(mid, (float64(c.before-origin)+float64(c.first-origin))/2e6)
			near = append(near, half[i])
		}
	}
	period := spacing(mid, 2*poll)
	g.update = period
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
	g.update, g.updateSE = line.Slope, line.SlopeSE
	g.phaseSE = math.Sqrt(line.Residual / float64(len(mid)-2) / line.NEff)
	g.parts = []stretch{{line.Intercept, int(k[0]), int(k[len(k)-1])}}
	off, row := 0, 0
	for i, m := range mid {
		if math.Abs(m-g.at(g.parts[0], int(k[i]))) > near[i]+exact*g.update {
			if row++; row == 3 {
				off += 3
			} else if row > 3 {
				off++
			}
		} else {
			row = 0 // one or two alone were late
		}
	}
	if float64(off) > mostOff*float64(len(mid)) {
		slipping, ok := slips(mid, near, period)
		if !ok {
			return g, "update: the changes keep no regular clock"
		}
		return slipping, ""
	}
	// Polls that keep step with the updates see them all at one phase, and no
	// number of them says where between two polls they are.
	var earliest, latest []float64
	for i, m := range mid {
		earliest, latest = append(earliest, m-near[i]-k[i]*g.update), append(latest, m+near[i]-k[i]*g.update)
	}
	if open := stats.Quantile(latest, 0.01) - stats.Quantile(earliest, 0.99); open > 0 {
		g.phaseSE = math.Hypot(g.phaseSE, open/math.Sqrt(12))
	}
	return g, ""
}

const (
	exact   = 0.02  // share of its period by which a clock may be off at an update, beside what polling hides
	mostOff = 0.02  // share of the updates that may be off by more, three or more in a row
	fade    = 1e-4  // the same from one update to the next, adding up
	tight   = 0.005 // the same as exact, within a stretch of a clock that slips
)

// slips is the clock of a driver that is held up now and then, and keeps time
// again from where it is then: so does the H200's while another process makes a
// context.
func slips(mid, half []float64, update float64) (g grid, ok bool) {
	update = pace(mid, update)
	for range 5 {
		if g, ok = keeping(number(mid, half, update), mid, half); !ok {
			return g, false
		}
		update = g.update
	}
	return g, true
}

// pace is the period over some twenty changes, most of them without a slip. It
// is where they agree best and not their median, for polls in step with the
// clock leave few values to choose from.
func pace(mid []float64, about float64) float64 {
	best, most := about, math.Inf(-1)
	for period := about * 0.996; period < about*1.004; period *= 1.00005 {
		agree := 0.0
		for i := 20; i < len(mid); i++ {
			agree += math.Cos(2 * math.Pi * (mid[i] - mid[i-20]) / period)
		}
		if agree > most {
			best, most = period, agree
		}
	}
	return best
}

// numbered are the changes of one stretch: which they are, and their numbers.
type numbered struct {
	i []int
	k []float64
}

func (n *numbered) add(i int, k float64) { n.i, n.k = append(n.i, i), append(n.k, k) }

// number numbers the changes by a period. One that is off alone is left out,
// the second one in a row begins a new stretch.
func number(mid, half []float64, update float64) []numbered {
	parts := make([]numbered, 1)
	late := -1                                // the change before, where it was off
	zero, lo, hi := mid[0], -half[0], half[0] // the phase lies from zero + lo to zero + hi
	off := func(i int, rest float64) bool {
		return rest-half[i] > hi+tight*update || rest+half[i] < lo-tight*update
	}
	for i, m := range mid {
		n := math.Round((m - zero - (lo+hi)/2) / update)
		rest := m - zero - n*update
		if off(i, rest) {
			if late < 0 {
				late = i
				continue
			}
			parts = append(parts, numbered{})
			zero, lo, hi = mid[late], -half[late], half[late]
			n = math.Round((m - zero) / update)
			if rest = m - zero - n*update; off(i, rest) {
				zero, lo, hi, n, rest = m, -half[i], half[i], 0, 0
			} else {
				parts[len(parts)-1].add(late, 0)
			}
		}
		late = -1
		parts[len(parts)-1].add(i, n)
		// What is known of the phase fades, for the period is not exact.
		lo, hi = max(lo, rest-half[i])-fade*update, min(hi, rest+half[i])+fade*update
		if lo > hi {
			lo, hi = hi, lo
		}
	}
	return parts
}

// keeping is the clock that keeps time in each stretch: one period for all, and
// a phase for each that is long enough to trust. ok is false where a quarter of
// the changes lie in none of them.
func keeping(parts []numbered, mid, half []float64) (g grid, ok bool) {
	var sxx, sxy float64
	var kMean, midMean []float64
	for _, p := range parts {
		kSum, midSum, n := 0.0, 0.0, float64(len(p.i))
		for j, i := range p.i {
			kSum += p.k[j]
			midSum += mid[i]
		}
		kMean, midMean = append(kMean, kSum/n), append(midMean, midSum/n)
		for j, i := range p.i {
			dk := p.k[j] - kSum/n
			sxx += dk * dk
			sxy += dk * (mid[i] - midSum/n)
		}
	}
	if !(sxx > 0) {
		return g, false
	}
	g.update = sxy / sxx
	used, residual := 0, 0.0
	var widths []float64
	for n, p := range parts {
		if len(p.i) < 4 {
			continue
		}
		line := stretch{phase: midMean[n] - g.update*kMean[n], first: int(p.k[0]), last: int(p.k[len(p.k)-1])}
		earliest, latest := math.Inf(-1), math.Inf(1)
		for j, i := range p.i {
			rest := mid[i] - g.at(line, int(p.k[j]))
			residual += rest * rest
			earliest, latest = max(earliest, rest-half[i]), min(latest, rest+half[i])
		}
		used += len(p.i)
		widths = append(widths, max(0, latest-earliest))
		g.parts = append(g.parts, line)
	}
	if used < len(mid)*3/4 {
		return g, false
	}
	g.updateSE = math.Sqrt(residual / float64(used) / sxx)
	width, _ := stats.MeanSD(widths)
	g.phaseSE = math.Hypot(width/math.Sqrt(12), math.Sqrt(residual)/float64(used))
	return g, true
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
	for _, s := range g.parts {
		for n := s.first; n < s.last; n++ {
			at := zero + g.at(s, n)
			if v, ok := r.at(origin+int64((at+g.update/2)*1e6), int64(g.update*0.3e6)); ok {
				rows = append(rows, row{at, v})
			}
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
			tick, ok := g.near(at - zero)
			if !ok {
				continue
			}
			at = zero + tick
		}
		if b.value > a.value {
			rows = append(rows, row{at, (b.value - a.value) / ms})
		}
	}
	return rows
}
