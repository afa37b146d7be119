package baseline

import (
	"cmp"
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// keptMost is how many values of a GPU are kept: an hour of the driver's 50 Hz.
// From there on neighbours are merged, two and two, as often as it takes.
const keptMost = 180_000

// setting is what a GPU was set to when a value was read.
type setting struct{ pstate, sm, mem record.Opt[int64] }

// value is a power and for how long it was read.
type value struct {
	fromNS, lastNS int64 // its first reading, and its last
	watts          float64
	merged         int64 // values that it is the mean of
	window         int
	setting        setting
}

// kept is the power of a GPU over time: a value for each stretch of equal
// readings, so that a poller that is faster than the sensor keeps no more than
// the sensor has.
type kept struct {
	values []value
	held   bool  // equal neighbours are one value that was read twice
	group  int64 // values that are merged into one; 0 is 1
	most   int   // keptMost, but in tests

	repeats, stoodNS int64 // readings equal to the one before, and the time between the two
}

func (k *kept) add(ns int64, watts float64, window int, s setting) {
	if n := len(k.values); n > 0 && k.held {
		if last := &k.values[n-1]; last.merged == 1 && last.watts == watts && last.window == window && last.setting == s {
			k.repeats, k.stoodNS = k.repeats+1, k.stoodNS+ns-last.lastNS
			last.lastNS = ns
			return
		}
	}
	k.append(value{ns, ns, watts, 1, window, s})
	if len(k.values) >= cmp.Or(k.most, keptMost) {
		k.group = 2 * max(k.group, 1)
		all := k.values
		k.values = k.values[:0]
		for _, v := range all { // never writes ahead of what it reads
			k.append(v)
		}
	}
}

// append appends a value, or merges it into the last one where that is not
// full yet.
func (k *kept) append(v value) {
	if n := len(k.values); n > 0 {
		if last := &k.values[n-1]; last.merged+v.merged <= k.group && last.window == v.window && last.setting == v.setting {
			last.watts += (v.watts - last.watts) * float64(v.merged) / float64(last.merged+v.merged)
			last.merged += v.merged
			last.lastNS = v.lastNS
			return
		}
	}
	k.values = append(k.values, v)
}

// tick is one update of the sensor.
type tick struct {
	ns      int64
	watts   float64
	joined  bool // follows the tick before without a hole
	run     int  // ticks of the value that it is one of
	setting setting
	window  int
}

// ticks are the updates that the values are made of, on the sensor's grid: the
// update is the usual time between two changes, and a value that stood for
// several of them counts once for each. Where nothing ever changed it is the time
// between two readings.
func (k *kept) ticks(gapNS int64) (ticks []tick, updateNS int64) {
	var between []float64
	for i := 1; i < len(k.values); i++ {
		a, b := &k.values[i-1], &k.values[i]
		if a.window == b.window && b.fromNS-a.lastNS <= gapNS {
			between = append(between, float64(b.fromNS-a.fromNS))
		}
	}
	update := math.Round(stats.Median(between))
	spacing := update
	if k.repeats > 0 {
		spacing = float64(k.stoodNS) / float64(k.repeats)
	}
	if len(between) == 0 {
		spacing = max(spacing, 1) // not NaN, either
		update = spacing
	}
	for i := range k.values {
		v := &k.values[i]
		until := v.lastNS + int64(spacing)
		if i+1 < len(k.values) {
			next := &k.values[i+1]
			if next.window == v.window && next.fromNS-v.lastNS <= gapNS {
				until = next.fromNS
			}
		}
		joined := false
		if i > 0 {
			before := &k.values[i-1]
			joined = before.window == v.window && v.fromNS-before.lastNS <= gapNS
		}
		count := 1
		if k.held {
			count = max(1, int(math.Round(float64(until-v.fromNS)/update)))
		}
		for j := range count {
			ticks = append(ticks, tick{
				ns: v.fromNS + int64(float64(j)*update), watts: v.watts, joined: joined || j > 0,
				run: count, setting: v.setting, window: v.window,
			})
		}
	}
	return ticks, int64(update)
}

// watts are the ticks' powers.
func watts(ticks []tick) []float64 {
	w := make([]float64, len(ticks))
	for i := range ticks {
		w[i] = ticks[i].watts
	}
	return w
}

// joules is the energy counter over time: its changes, each with the middle of
// the call that first showed it.
type joules struct {
	changes []change
	stride  int64 // one change in so many is kept; 0 is 1
	seen    int64
	last    record.Opt[int64]
}

type change struct {
	ns     int64
	milliJ int64
	window int
}

func (j *joules) add(c *record.Counter, window int) {
	mJ, ok := c.EnergyMilliJ.Get()
	if !ok {
		return
	}
	before, known := j.last.Get()
	j.last = c.EnergyMilliJ
	if !known || mJ == before {
		return
	}
	if mJ < before { // it was reset: what came before cannot be joined to it
		j.changes, j.stride, j.seen = j.changes[:0], 0, 0
	}
	if j.seen++; j.seen%max(j.stride, 1) != 0 {
		return
	}
	j.changes = append(j.changes, change{c.BeforeNS + (c.TimeNS-c.BeforeNS)/2, mJ, window})
	if len(j.changes) >= keptMost {
		j.stride = 2 * max(j.stride, 1)
		i := 0
		j.changes = slices.DeleteFunc(j.changes, func(change) bool { i++; return i%2 == 0 })
	}
}

// power is the mean power of all the time between the first and the last change
// of each window, its standard error that of two changes found late by the
// counter's spacing at most. ok is false below ten changes.
func (j *joules) power() (w, se float64, ok bool) {
	mJ, ns, n, edges := int64(0), int64(0), 0, 0
	for i := 1; i < len(j.changes); i++ {
		a, b := j.changes[i-1], j.changes[i]
		if a.window != b.window {
			edges++
			continue
		}
		mJ, ns, n = mJ+b.milliJ-a.milliJ, ns+b.ns-a.ns, n+1
	}
	if n < 10 {
		return 0, 0, false
	}
	w = float64(mJ) / float64(ns) * 1e6
	late := float64(ns) / float64(n) / math.Sqrt(12)
	return w, w * late * math.Sqrt(2*float64(edges+1)) / float64(ns), true
}
