package sensor

import (
	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// step is how the channel answers single long steps of the load: their height
// and the time from 10 to 90 %.
func (b *board) step(c *Channel, rows []row) {
	if b.load == nil {
		return
	}
	var ages, parts, heights []float64
	edges := b.load.edges
	for i, e := range edges {
		if !e.rise && !e.fall {
			continue
		}
		before, after := e.at-longMS, e.at+longMS
		if i > 0 && (edges[i-1].rise || edges[i-1].fall) {
			before = max(before, edges[i-1].at)
		}
		for _, n := range edges[i+1:] {
			if n.rise || n.fall {
				after = min(after, n.at)
				break
			}
		}
		if e.at-before < longMS*0.8 || after-e.at < longMS*0.8 {
			continue
		}
		var from, until []float64
		for _, r := range rows {
			switch {
			case r.at > e.at-300 && r.at < e.at-100:
				from = append(from, r.value)
			case r.at > e.at+1400 && r.at < after:
				until = append(until, r.value)
			}
		}
		if len(from) == 0 || len(until) == 0 {
			continue
		}
		lo, hi := stats.Quantile(from, 0.5), stats.Quantile(until, 0.5)
		height := hi - lo
		if e.fall {
			height = -height
		}
		heights = append(heights, height)
		if height < 1 {
			continue
		}
		for _, r := range rows {
			if r.at > e.at-150 && r.at < e.at+longMS {
				ages, parts = append(ages, r.at-e.at), append(parts, (r.value-lo)/(hi-lo))
			}
		}
	}
	if len(heights) == 0 {
		return
	}
	delta := stats.Quantile(heights, 0.5)
	c.DeltaWatts = record.Some(delta)
	if age, part := stats.Isotonic(ages, parts); len(age) > 0 {
		if t10, ok10 := crossing(age, part, 0.1); ok10 {
			if t90, ok90 := crossing(age, part, 0.9); ok90 {
				c.RiseMS = record.Some(t90 - t10)
			}
		}
	}
	if rise, ok := c.RiseMS.Get(); ok || delta <= 10 {
		c.Pass = record.Some(delta > 10 && rise < 300)
	}
}

// crossing is when a rising series reaches a level, on straight lines between
// its points.
func crossing(x, y []float64, level float64) (at float64, ok bool) {
	for i := 1; i < len(x); i++ {
		if y[i-1] < level && y[i] >= level {
			return x[i-1] + (level-y[i-1])/(y[i]-y[i-1])*(x[i]-x[i-1]), true
		}
	}
	return 0, false
}

// gain is the energy of a channel over the counter's, from the counter's first
// tick to its last.
func (b *board) gain(r *readings) (gain record.Opt[float64]) {
	n := b.channels[record.ChannelCounter]
	if n == nil || len(n.runs) < 3 {
		return gain
	}
	a, z := n.runs[1], n.runs[len(n.runs)-1]
	from, until := (a.before+a.first)/2, (z.before+z.first)/2
	if len(r.runs) == 0 || r.runs[0].first > until || until-from < 5e9 {
		return gain
	}
	for i, u := range n.runs[1:] {
		if u.value < n.runs[i].value {
			return gain // the driver was loaded anew
		}
	}
	curve := Curve{}
	for i, u := range r.runs {
		if r.stamps {
			curve.Until(u.first, u.value)
			continue
		}
		if i == 0 {
			curve.Until(u.first, u.value)
		} else {
			curve.Until((u.before+u.first)/2, r.runs[i-1].value)
		}
	}
	joules := (z.value - a.value) / 1e3
	if joules <= 0 || float64(curve.at[0]) > float64(from)+2e9 || curve.at[len(curve.at)-1] < float64(until)-2e9 {
		return gain
	}
	return record.Some(curve.Mean(from, until) * float64(until-from) / 1e9 / joules)
}
