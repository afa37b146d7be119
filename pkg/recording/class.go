package recording

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
)

// How long a mean is that is called one of a second, s, and how short a sensor's
// memory that is called instant: of some updates, for a board itself takes its
// time to follow a load.
const (
	longS   = 0.6
	instant = 3.2 // updates
	shortS  = 0.45
)

// channels says of each column what it is of.
func (g *GPU) channels(fitted *sensor.Sensors) {
	for _, name := range slices.Sorted(maps.Keys(g.series)) {
		s := g.series[name]
		c := &Channel{Reads: s.reads, Class: sensor.Unknown, Confidence: Unknown, Evidence: []string{}, votes: map[sensor.Class]int{}}
		if s.reads > 1 {
			c.Held = float64(s.held) / float64(s.reads-1)
		}
		if fitted != nil {
			if f := fitted.Channel(g.GPU, name); f != nil {
				c.UpdateMS, c.UpdateSE, c.SameAs = f.UpdateMS, f.UpdateSE, f.SameAs
			}
		}
		g.Channels[name] = c
	}
	for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
		if g.Channels[name].SameAs == "" {
			g.classify(name)
		}
	}
	g.against()
	for _, c := range g.Channels {
		if same := g.Channels[c.SameAs]; same == nil {
			c.decide()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
		c := g.Channels[name]
		if same := g.Channels[c.SameAs]; same != nil {
			c.Class, c.Confidence, c.WindowMS = same.Class, same.Confidence, same.WindowMS
			c.say("shows what %s shows", c.SameAs)
		}
	}
}

func (c *Channel) say(format string, args ...any) {
	c.Evidence = append(c.Evidence, fmt.Sprintf(format, args...))
}

// classify looks at how a channel alone answers what happened to it.
func (g *GPU) classify(name string) {
	c, s := g.Channels[name], g.series[name]
	if len(s.runs) < 20 {
		c.say("fewer than 20 changes were seen")
		return
	}
	step := g.step(name)
	if step > 0.3 {
		c.say("seen every %.3g s only: a mean over a second and an instant look alike", step)
		return
	}
	values, _, step := s.even(step)
	g.steps(c, values, step)
	g.jumps(c, values, step)
}

// answer is how a channel went from one level to another.
type answer struct {
	window, tau float64 // s: of the mean or exponential that fits best
	mean, exp   float64 // what is left of the variance by each
}

// steps looks for changes from one level to another and fits to each a mean over
// a window and an exponential.
func (g *GPU) steps(c *Channel, values []float64, step float64) {
	noise := scatter(values)
	all := sorted(values)
	span := stats.Quantile(all, 0.98) - stats.Quantile(all, 0.02)
	least := max(10, 8*noise, 0.2*span)
	before, rise, after := int(math.Ceil(0.5/step)), int(math.Ceil(1.5/step)), int(math.Ceil(0.6/step))
	before, after = max(before, 3), max(after, 3)
	var found []answer
	for k := before; k+rise+after < len(values) && len(found) < 60; k++ {
		old, spreadOld, ok := level(values[k-before : k])
		now, spreadNow, ok2 := level(values[k+rise : k+rise+after])
		h := now - old
		if !ok || !ok2 || math.Abs(h) < least || spreadOld > max(0.06*math.Abs(h), 3*noise) || spreadNow > max(0.15*math.Abs(h), 3*noise) ||
			math.Abs(values[k]-old) < max(0.04*math.Abs(h), 4*noise) {
			continue
		}
		var y []float64
		for _, v := range values[k-1 : k+rise+after] {
			y = append(y, (v-old)/h)
		}
		if slices.ContainsFunc(y, func(v float64) bool { return math.IsNaN(v) || v < -0.3 || v > 1.3 }) {
			continue
		}
		found = append(found, fit(y, step))
		k += rise
	}
	if len(found) == 0 {
		c.say("no lone step from one level of power to another")
		return
	}
	var windows, taus []float64
	for _, a := range found {
		switch {
		case min(a.mean, a.exp) > 0.02: // neither
		case a.exp < 0.4*a.mean && a.tau > 1.5*step && a.tau > 0.15:
			c.votes[sensor.Exponential]++
			taus = append(taus, a.tau)
		case a.window <= min(instant*step, shortS):
			c.votes[sensor.Instant]++
			windows = append(windows, a.window)
		case a.window >= longS:
			c.votes[sensor.Averaged]++
			windows = append(windows, a.window)
		}
	}
	if len(windows) > 0 {
		slices.Sort(windows)
		w := stats.Quantile(windows, 0.5)
		if c.votes[sensor.Averaged] > c.votes[sensor.Instant] {
			c.WindowMS = record.Some(1e3 * w)
		}
		c.say("%d of %d steps of power are answered like a mean over %.0f ms (%.0f to %.0f), the board's own rise included", len(windows), len(found), 1e3*w, 1e3*windows[0], 1e3*windows[len(windows)-1])
	}
	if len(taus) > 0 {
		slices.Sort(taus)
		c.say("%d of %d steps are answered like an exponential of %.0f ms", len(taus), len(found), 1e3*stats.Quantile(taus, 0.5))
	}
	if len(windows)+len(taus) == 0 {
		c.say("%d steps of power, none answered like any sensor: power itself did not step", len(found))
	}
}

// level is the median of values and how far they spread; ok is false where one
// is none.
func level(values []float64) (median, spread float64, ok bool) {
	s := slices.Clone(values)
	if slices.ContainsFunc(s, math.IsNaN) {
		return 0, 0, false
	}
	slices.Sort(s)
	return stats.Quantile(s, 0.5), (s[len(s)-1] - s[0]) / 2, true
}

// fit finds the mean over a window, and the exponential, that explain a step
// best: y goes from 0 to 1.
func fit(y []float64, step float64) answer {
	a := answer{mean: math.Inf(1), exp: math.Inf(1)}
	misfit := func(model func(t float64) float64, start float64) float64 {
		sum := 0.0
		for i, v := range y {
			d := v - model(float64(i)*step-start)
			sum += d * d
		}
		return sum / float64(len(y))
	}
	for part := -0.5; part <= 2.0001; part += 0.1 {
		start := part * step
		for w := step / 4; w < 1.6; w *= 1.06 {
			if m := misfit(func(t float64) float64 { return min(max(t/w, 0), 1) }, start); m < a.mean {
				a.mean, a.window = m, w
			}
		}
		for tau := step / 4; tau < 1.6; tau *= 1.06 {
			if m := misfit(func(t float64) float64 {
				if t <= 0 {
					return 0
				}
				return -math.Expm1(-t / tau)
			}, start); m < a.exp {
				a.exp, a.tau = m, tau
			}
		}
	}
	return a
}

// jumps looks at how much a channel moves from one update to the next: a mean
// over ten updates takes a tenth of a step at a time.
func (g *GPU) jumps(c *Channel, values []float64, step float64) {
	all := sorted(values)
	span := stats.Quantile(all, 0.98) - stats.Quantile(all, 0.02)
	if span < max(10, 20*scatter(values)) && span < 30 {
		c.say("power hardly moves: %.3g W", span)
		return
	}
	var jumps []float64
	for i := 1; i < len(values); i++ {
		if d := math.Abs(values[i] - values[i-1]); !math.IsNaN(d) {
			jumps = append(jumps, d/span)
		}
	}
	slices.Sort(jumps)
	if len(jumps) < 20 || step > 0.15 {
		return
	}
	third := jumps[len(jumps)-3]
	if third > 0.4 {
		c.votes[sensor.Instant] += 2
		c.say("moves by %.0f %% of its whole range within one update of %.0f ms, three times or more: no mean over a second does", 100*third, 1e3*step)
	}
}

// against holds channels against the instant one: is the other a mean of it?
func (g *GPU) against() {
	fast := g.series[record.ChannelInstant]
	name := record.ChannelInstant
	if d := g.series[record.ChannelDriver]; d != nil && len(d.runs) >= 50 {
		fast, name = d, record.ChannelDriver
	}
	if fast == nil || len(fast.runs) < 50 {
		return
	}
	f := g.Channels[name]
	for _, other := range []string{record.ChannelAverage, record.ChannelPower} {
		c := g.Channels[other]
		if c == nil || c.SameAs != "" || len(g.series[other].runs) < 20 {
			continue
		}
		window, explained, plain := meanOf(fast, g.series[other], g.step(other))
		if explained < 0.9 {
			continue
		}
		step := g.step(other)
		switch {
		case window >= longS && explained > plain+0.02:
			c.votes[sensor.Averaged] += 2
			c.strong = true
			c.WindowMS = record.Some(1e3 * window)
			c.say("is the mean of the last %.0f ms of %s: that explains %.1f %% of its variance, %s itself %.1f %%", 1e3*window, name, 100*explained, name, 100*plain)
			if name == record.ChannelInstant {
				// What it is a mean of moves faster than it.
				f.votes[sensor.Instant]++
				f.say("%s is a mean of it over %.0f ms", other, 1e3*window)
			}
		case window <= instant*step:
			c.say("follows %s as it is", name)
		}
	}
}

// meanOf finds the window over which a mean of fast explains slow best, s, and
// what share of slow's variance that and fast itself explain.
func meanOf(fast, slow *series, step float64) (window, explained, plain float64) {
	a, _, _ := fast.even(step)
	b, _, _ := slow.even(step)
	shift := int(math.Round(float64(slow.runs[0].first-fast.runs[0].first) / 1e9 / step))
	const most = 20000
	n := min(len(b), len(a)-shift, most)
	sums := make([]float64, len(a)+1)
	for i, v := range a {
		if math.IsNaN(v) {
			v = a[max(i-1, 0)]
			a[i] = v
		}
		sums[i+1] = sums[i] + v
	}
	for w := 1; float64(w)*step <= 2; w++ {
		for lag := -1; lag <= 2; lag++ {
			var x, y []float64
			for i := range max(n, 0) {
				end := i + shift + 1 - lag
				if end-w < 0 || end > len(a) || math.IsNaN(b[i]) {
					continue
				}
				m := (sums[end] - sums[end-w]) / float64(w)
				if math.IsNaN(m) {
					continue
				}
				x, y = append(x, m), append(y, b[i])
			}
			r2 := determination(x, y)
			if w == 1 {
				plain = max(plain, r2)
			}
			if r2 > explained {
				explained, window = r2, float64(w)*step
			}
		}
	}
	return window, explained, plain
}

// determination is the share of y's variance that a straight line of x explains.
func determination(x, y []float64) float64 {
	if len(x) < 20 {
		return 0
	}
	mx, sx := stats.MeanSD(x)
	my, sy := stats.MeanSD(y)
	if !(sx > 0 && sy > 0) {
		return 0
	}
	sum := 0.0
	for i := range x {
		sum += (x[i] - mx) * (y[i] - my)
	}
	r := sum / float64(len(x)-1) / sx / sy
	return r * r
}

// decide is the class that the evidence is for. Three pieces and none against
// make it sure, two likely; one is chance.
func (c *Channel) decide() {
	first, second := sensor.Unknown, sensor.Unknown
	for _, class := range []sensor.Class{sensor.Instant, sensor.Averaged, sensor.Exponential} {
		n := c.votes[class]
		switch {
		case n > c.votes[first]:
			first, second = class, first
		case n > c.votes[second]:
			second = class
		}
	}
	most, next := c.votes[first], c.votes[second]
	switch {
	case most == 0:
		return
	case most == next:
		c.say("as much speaks for %s as for %s", first, second)
		return
	case most == 1:
		c.say("one piece of evidence, for %s, is none", first)
		return
	case next == 0 && (most >= 3 || c.strong):
		c.Confidence = Sure
	case most >= 4*next:
		c.Confidence = Likely
	default:
		c.say("%d pieces of evidence for %s, %d for %s", most, first, next, second)
		return
	}
	c.Class = first
	if first != sensor.Averaged {
		c.WindowMS = record.Opt[float64]{}
	}
}
