package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

// worst is the largest of a figure over all GPUs, by what the poller says and
// by what the samples show.
func (t *Trace) worst(of func(record.PollerStats) record.Opt[float64]) record.Opt[float64] {
	var w record.Opt[float64]
	for _, p := range t.accounts() {
		w = highest(w, of(p))
	}
	return w
}

func (r *Run) gridAdherence(c *Check) {
	target := r.Trace.Seen.Overall.TargetPeriodMS
	tolerance := r.Limits.GridTolerance
	c.Threshold = fmt.Sprintf("within %s of %s ms", share(tolerance), limit(target))
	median, off := 0.0, -1.0
	for _, p := range r.Trace.accounts() {
		if m, ok := p.MedianDtMS.Get(); ok && math.Abs(m-target) > off {
			median, off = m, math.Abs(m-target)
		}
	}
	if off < 0 {
		c.lacks("fewer than two samples")
		return
	}
	c.Figure = "median " + fixed(median, 2) + " ms"
	c.measure(off/target, "<=", tolerance, "share")
	c.settle(off <= tolerance*target, "the median spacing is %s off its target", percent(off/target))
}

func (r *Run) continuityFlag(c *Check) {
	c.Threshold = "degraded above " + length(r.Limits.MaxGap)
	gap, ok := r.Trace.worst(func(p record.PollerStats) record.Opt[float64] { return p.MaxGapMS }).Get()
	if !ok {
		c.lacks("fewer than two valid samples")
		return
	}
	flag := cmp.Or(r.Trace.Poller().Overall.ContinuityQuality, "not said")
	c.Figure = fmt.Sprintf("longest spacing %s ms, %s", fixed(gap, 1), plain(flag))
	unflagged := 0.0
	if flag != "degraded" {
		unflagged = gap
	}
	c.measure(unflagged, "<=", float64(r.Limits.MaxGap)/1e6, "ms")
	c.settle(gap <= float64(r.Limits.MaxGap)/1e6 || flag == "degraded", "a gap of %s ms is not flagged", fixed(gap, 1))
}

func (r *Run) continuityGood(c *Check) {
	c.Threshold = "no gap above " + length(r.Limits.MaxGap) + ", < " + share(r.Limits.MaxGapFraction) + " in gaps"
	seen, said := r.Trace.Seen.Overall, r.Trace.Poller().Overall
	if seen.ContinuityQuality == "" {
		c.lacks("fewer than two valid samples")
		return
	}
	gap := r.Trace.worst(func(p record.PollerStats) record.Opt[float64] { return p.MaxGapMS }).Or(0)
	part := r.Trace.worst(func(p record.PollerStats) record.Opt[float64] { return p.GapFraction }).Or(0)
	good := gap <= float64(r.Limits.MaxGap)/1e6 && part < r.Limits.MaxGapFraction
	// A poller that calls itself degraded for reasons that its figures do not
	// show has seen what the samples do not.
	d := Default()
	unexplained := said.ContinuityQuality == "degraded" && said.MaxGapMS.Or(0) <= float64(d.MaxGap)/1e6 && said.GapFraction.Or(0) < d.MaxGapFraction
	word := "good"
	if !good || unexplained {
		word = "degraded"
	}
	c.Figure = "continuity " + word
	c.measure(gap, "<=", float64(r.Limits.MaxGap)/1e6, "ms")
	if unexplained && good {
		c.settle(false, "the poller calls itself degraded")
		return
	}
	c.settle(good, "%s above %s, %s of the time, the longest %s ms", plural(int(seen.GapCount), "spacing"), length(r.Limits.GapDt),
		percent(part), fixed(gap, 1))
}

func (r *Run) gapFraction(c *Check) {
	c.Threshold = "< " + share(r.Limits.MaxGapFraction)
	part, ok := r.Trace.worst(func(p record.PollerStats) record.Opt[float64] { return p.GapFraction }).Get()
	if !ok {
		c.lacks("fewer than two valid samples")
		return
	}
	c.Figure = percent(part) + " of the time in gaps"
	c.measure(part, "<", r.Limits.MaxGapFraction, "share")
	c.settle(part < r.Limits.MaxGapFraction, "spacings above %s take %s of the trace%s", length(r.Limits.GapDt), percent(part), r.held())
}

// held says in how many of the gaps the poller waited for the driver.
func (r *Run) held() string {
	held := int64(0)
	for _, g := range r.Trace.GPUs {
		held += g.HeldGaps
	}
	if held == 0 {
		return ""
	}
	return fmt.Sprintf(", in %d of %d the driver took so long to answer", held, r.Trace.Seen.Overall.GapCount)
}

func (r *Run) droppedTicks(c *Check) {
	c.Threshold = "counted by the poller, < " + share(r.Limits.MaxGapFraction)
	if !r.Trace.Ticked() {
		c.lacks("the samples carry no ticks: a missing one cannot be told")
		return
	}
	said, seen := r.Trace.Poller().Overall.DroppedTicks, r.Trace.Seen.Overall.DroppedTicks
	part := float64(max(said, seen)) / float64(r.Trace.Seen.Overall.SamplesTotal+said)
	c.Figure = fmt.Sprintf("%d of %d (%s)", said, r.Trace.Seen.Overall.SamplesTotal+said, percent(part))
	c.measure(part, "<", r.Limits.MaxGapFraction, "share")
	if seen > said {
		c.settle(false, "%d ticks are missing in the trace, the poller knows of %d", seen, said)
		return
	}
	c.settle(part < r.Limits.MaxGapFraction, "%s of the ticks have no sample", percent(part))
}

func (r *Run) sensorFloor(c *Check) {
	c.Threshold = "≤ " + share(r.Limits.MaxFloorFraction)
	a := r.Trace.Seen.Overall
	if a.SamplesValid == 0 {
		c.lacks("no valid sample")
		return
	}
	part := float64(a.FloorSuspect) / float64(a.SamplesValid)
	c.Figure = fmt.Sprintf("%d (%s)", a.FloorSuspect, percent(part))
	c.measure(part, "<=", r.Limits.MaxFloorFraction, "share")
	c.settle(part <= r.Limits.MaxFloorFraction, "%s of the readings are below %g W, where no board idles: they pull every mean down", percent(part), record.FloorW)
}

func (r *Run) noThrottling(c *Check) {
	c.Threshold = "0 samples"
	read := int64(0)
	for _, g := range r.Trace.GPUs {
		read += g.ThrottleRead
	}
	if read == 0 {
		c.lacks("the trace has no throttle reasons")
		return
	}
	if len(r.Events) == 0 {
		c.lacks("no events: nothing says when measuring was going on")
		return
	}
	samples, held := int64(0), int64(0)
	var bad offenders
	for i := range r.Events {
		e := &r.Events[i]
		for _, g := range e.GPUs {
			t := r.Trace.inside(e, g)
			samples += t.valid
			held += t.throttled
			if t.throttled > 0 {
				bad.add(e, "slowed down in %d of %d samples", t.throttled, t.valid)
			}
		}
	}
	c.Figure = fmt.Sprintf("%d of %d samples", held, samples)
	c.measure(float64(held), "<=", 0, "samples")
	bad.settle(c)
	if capped := r.capped(); c.Verdict == Pass && capped > 0 {
		c.Reason = fmt.Sprintf("at its power limit in %d samples of the trace, which is how a loaded board works", capped)
	}
}

// capped counts the samples at the power limit.
func (r *Run) capped() (n int64) {
	for _, g := range r.Trace.GPUs {
		n += g.capped
	}
	return n
}

func (r *Run) thermalSafety(c *Check) {
	c.Threshold = "< " + limit(r.Limits.MaxTempC) + " °C"
	var hottest record.Opt[float64]
	for _, g := range r.Trace.GPUs {
		hottest = highest(hottest, g.TempMaxC)
	}
	trips := 0
	for _, s := range r.Soaks {
		trips += s.Trips
		hottest = highest(hottest, s.TempMaxC)
	}
	t, ok := hottest.Get()
	if !ok {
		c.lacks("no temperature was read")
		return
	}
	c.Figure = "at most " + trimmed(t) + " °C"
	c.measure(t, "<", r.Limits.MaxTempC, "°C")
	c.settle(t < r.Limits.MaxTempC && trips == 0, "reached %s °C, %s", trimmed(t), plural(trips, "trip"))
}

func (r *Run) metadata(c *Check) {
	c.Threshold = "all three"
	h := r.Trace.Header
	if h == nil {
		c.settle(false, "the trace has no header")
		return
	}
	var lacking, have []string
	note := func(what, value string) {
		if value == "" {
			lacking = append(lacking, what)
		} else {
			have = append(have, value)
		}
	}
	for _, g := range r.Trace.GPUs {
		info := r.Trace.info(g.Index)
		limit := ""
		if w, ok := info.PowerLimitW.Get(); ok {
			limit = trimmed(w) + " W"
		}
		note(fmt.Sprintf("driver of GPU %d", g.Index), info.Driver)
		note(fmt.Sprintf("power limit of GPU %d", g.Index), limit)
	}
	hash := ""
	if h.Git != nil {
		hash = h.Git.Hash[:min(len(h.Git.Hash), 12)]
	}
	note("commit of the build", hash)
	c.Figure = plain(strings.Join(have, ", "))
	c.measure(float64(len(lacking)), "<=", 0, "missing")
	c.settle(len(lacking) == 0, "not recorded: %s", strings.Join(lacking, ", "))
}

func (r *Run) inputsReadable(c *Check) {
	c.Threshold = "no bad line, no cut file"
	for _, name := range r.files {
		if name != "" {
			c.From = append(c.From, name)
		}
	}
	c.Figure = plural(len(r.Problems), "problem")
	c.measure(float64(len(r.Problems)), "<=", 0, "problems")
	if len(r.Problems) > 0 {
		c.settle(false, "%s", r.Problems[0])
		return
	}
	c.settle(true, "")
}

func (r *Run) traceComplete(c *Check) {
	c.Threshold = "1 header, 1 end"
	pollers := r.Trace.Records[record.KindHeader]
	c.Figure = plural(int(pollers), "poller") + ", " + span(r.Trace.Seconds())
	if r.Trace.Header == nil {
		c.lacks("a trace without a header cannot tell that it is whole")
		return
	}
	var found []string
	if r.Trace.Cut != "" || !r.Trace.Ended {
		found = append(found, "cut: "+cmp.Or(r.Trace.Cut, "no end record"))
	}
	if pollers > 1 {
		found = append(found, fmt.Sprintf("the poller was started %d times", pollers))
	}
	c.faults(found)
}

func (r *Run) runEnergy(c *Check) {
	c.Threshold = "≥ " + share(1-r.Limits.MaxGapFraction) + " of the time"
	if len(r.Trace.GPUs) == 0 {
		c.lacks("no samples")
		return
	}
	var figures, found []string
	least := 1.0 // share of the time, on the GPU that is known least of
	for _, g := range r.Trace.GPUs {
		i := slices.IndexFunc(r.Costs, func(o Cost) bool { return o.GPU == g.Index })
		if i < 0 {
			found = append(found, fmt.Sprintf("no second of GPU %d has its energy", g.Index))
			least = 0
			continue
		}
		k := r.Costs[i]
		figures = append(figures, fmt.Sprintf("%s of GPU %d over %s (%s)", joules(k.Joules), g.Index, span(k.Seconds), k.Channel))
		// The seconds that a trace begins and ends in are not whole.
		least = min(least, (k.Seconds+2)/max(r.Trace.Seconds(), math.SmallestNonzeroFloat64))
		if k.Seconds+2 < (1-r.Limits.MaxGapFraction)*r.Trace.Seconds() {
			found = append(found, fmt.Sprintf("GPU %d: known for %s of %s", g.Index, span(k.Seconds), span(r.Trace.Seconds())))
		}
	}
	c.Figure = strings.Join(figures, "; ")
	c.measure(least, ">=", 1-r.Limits.MaxGapFraction, "share")
	c.faults(found)
}

func (r *Run) counterMonotone(c *Check) {
	c.Threshold = "0 steps back"
	read, back := int64(0), int64(0)
	var found []string
	for _, g := range r.Trace.GPUs {
		read += g.Counted
		back += g.CounterBack
		if g.CounterBack > 0 {
			found = append(found, fmt.Sprintf("the counter of GPU %d was reset: the driver was loaded again, or the board reset", g.Index))
		}
		if g.stuck() {
			found = append(found, fmt.Sprintf("the counter of GPU %d stood still: no board draws nothing", g.Index))
		}
	}
	if read == 0 {
		c.lacks("the trace has no energy counter")
		return
	}
	c.Figure = fmt.Sprintf("%d in %d readings", back, read)
	c.measure(float64(back), "<=", 0, "steps")
	c.faults(found)
}

func (r *Run) counterAgreement(c *Check) {
	c.Threshold = "within " + share(r.Limits.CounterTolerance)
	var figures, found []string
	worst := 0.0
	for _, g := range r.Trace.GPUs {
		i := slices.IndexFunc(r.Comparisons, func(k Comparison) bool { return k.Phase == "" && k.GPU == g.Index })
		if i < 0 {
			continue
		}
		k := r.Comparisons[i]
		figures = append(figures, fmt.Sprintf("%s over counter %s, %s", k.Channel, fixed(k.Ratio(), 3), span(k.Seconds)))
		worst = max(worst, math.Abs(k.Ratio()-1))
		if r.off(k) {
			found = append(found, fmt.Sprintf("%s is %s off the counter over the run", k.Channel, percent(math.Abs(k.Ratio()-1))))
		}
	}
	if len(figures) == 0 {
		c.lacks("no second of the trace has both the energy counter and a power channel")
		return
	}
	c.Figure = strings.Join(figures, "; ")
	c.measure(worst, "<=", r.Limits.CounterTolerance, "share")
	c.faults(found)
}
