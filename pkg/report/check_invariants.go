package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// energyIntegration holds the joules of events that are long enough for edges
// not to matter against the power of their channel, integrated anew over the
// event's time; those of a sensor's model against the power readings that it
// goes by.
func (r *Run) energyIntegration(c *Check) {
	c.Threshold = "within " + share(r.Limits.Integration) + " and the intervals"
	judged, worst := 0, 0.0
	var bad offenders
	number := -1
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		for number++; &r.Events[number] != e; number++ {
		}
		raw, ok := j.Joules.Get()
		if !ok || e.Duration() < r.Limits.CompareMin.Seconds() || j.SharedWith.OK {
			return // what readings come to is of all requests that shared the power
		}
		again, slack := j.IntegratedJ, 0.0
		if modelled(j) {
			slack = math.Hypot(j.CI95J.V, j.IntegratedCI95J.Or(0))
		} else {
			again = r.integrals[number].of(channelOf(j.Method))
			again.V *= j.ProcessShare.Or(1)
			if j.Method == energy.TR122 {
				slack = r.edge(e) // it takes no share of the readings at the edges
			}
		}
		if !again.OK {
			return
		}
		judged++
		off := max(0, math.Abs(raw-again.V)-slack) / max(math.Abs(again.V), math.SmallestNonzeroFloat64)
		worst = max(worst, off)
		if off > r.Limits.Integration {
			bad.add(e, "%s J, where the readings come to %s J", figure(raw), figure(again.V))
		}
	}) {
		return
	}
	if judged == 0 {
		c.lacks("no event of %s has joules whose channel the trace has", length(r.Limits.CompareMin))
		return
	}
	c.Figure = fmt.Sprintf("%s, off by %s at most", plural(judged, "event"), percent(worst))
	c.measure(worst, "<=", r.Limits.Integration, "share")
	bad.settle(c)
}

// edge is the most energy that lies between an event's edge and the reading
// next to it, at both ends, J.
func (r *Run) edge(e *record.Event) (j float64) {
	for _, g := range r.Trace.GPUs {
		if runsOn(e, g.Index) {
			j += 2 * g.PowerMaxW.Or(0) * g.stats.Period.Seconds()
		}
	}
	return j
}

// timestampBracketing looks at what can be told of the times alone: that an
// event ends after it begins, and that a request's phases do not overlap.
func (r *Run) timestampBracketing(c *Check) {
	c.Threshold = "0 out of order"
	if name := r.events(); name != "" {
		c.From = append(c.From, name)
	}
	if len(r.Events) == 0 {
		c.lacks("no events")
		c.Remedy = contents[eventsFile].how
		return
	}
	var bad offenders
	prefills := map[string]*record.Event{}
	for i := range r.Events {
		e := &r.Events[i]
		if e.EndNS <= e.StartNS {
			bad.add(e, "ends when it starts, or before")
		}
		if e.Phase == "prefill" && e.RequestID != "" {
			prefills[e.RequestID] = e
		}
	}
	for i := range r.Events {
		e := &r.Events[i]
		if p := prefills[e.RequestID]; p != nil && e.Phase == "decode" && e.StartNS < p.EndNS {
			bad.add(e, "begins %s s before its prefill ends", trimmed(seconds(p.EndNS-e.StartNS)))
		}
	}
	c.Figure = fmt.Sprintf("%s, %d out of order", plural(len(r.Events), "event"), bad.n)
	bad.settle(c)
}

func (r *Run) tierGating(c *Check) {
	c.Threshold = fmt.Sprintf("billable: > %s, > %d readings, < %s in gaps", length(r.Limits.LongEvent), r.Limits.BillableReadings, share(r.Limits.BillableGaps))
	billable := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		gaps := j.GapFraction.Or(0)
		if j.Tier == energy.Analysis && gaps >= r.Limits.GappyFraction {
			bad.add(e, "%s with %s in gaps", j.Tier, percent(gaps))
		}
		if j.Tier != energy.Billable {
			return
		}
		billable++
		switch {
		case e.EndNS-e.StartNS <= r.Limits.LongEvent.Nanoseconds():
			bad.add(e, "billable with %s s", trimmed(e.Duration()))
		case j.PowerSamples <= r.Limits.BillableReadings:
			bad.add(e, "billable with %s", plural(int(j.PowerSamples), "reading"))
		case gaps >= r.Limits.BillableGaps:
			bad.add(e, "billable with %s in gaps", percent(gaps))
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%d billable, %d tiers too good", billable, bad.n)
	bad.settle(c)
}

func (r *Run) lateness(c *Check) {
	c.Threshold = "p95 ≤ " + share(r.Limits.MaxLateness) + " of the period"
	late, ok := r.Trace.worst(func(p record.PollerStats) record.Opt[float64] { return p.P95LatenessMS }).Get()
	if !ok {
		c.lacks("nothing says how late the samples were")
		return
	}
	period := r.Trace.Seen.Overall.TargetPeriodMS
	c.Figure = "p95 " + fixed(late, 3) + " ms"
	c.measure(late, "<=", r.Limits.MaxLateness*period, "ms")
	c.settle(late <= r.Limits.MaxLateness*period, "one sample in twenty is %s ms late or more, of a period of %s ms", fixed(late, 1), limit(period))
}

// idleComposite holds the verdict of the baseline against the figures that it
// must be made of.
func (r *Run) idleComposite(c *Check) {
	c.Threshold = fmt.Sprintf("use, clock and outliers known, fake above %s %% of use", limit(r.Limits.MaxIdleUtil))
	var figures, found []string
	busiest := 0.0
	if len(r.Baselines) == 0 {
		c.lacks("%s has no idle power", r.files[idleFile])
		return
	}
	for i := range r.Baselines {
		b := &r.Baselines[i]
		use, used := b.UtilP95.Get()
		varied, clocked := b.ClockVaried.Get()
		outliers, counted := b.OutlierFraction.Get()
		if !used || !clocked || !counted {
			c.lacks("the baseline of GPU %d does not have all of idle_gpu_util_p95, clock_varied and power_outlier_fraction", b.GPU)
			return
		}
		figures = append(figures, fmt.Sprintf("use %s %%, clock varied %v, outliers %s, fake %v", trimmed(use), varied, percent(outliers), b.FakeIdle))
		if use > r.Limits.MaxIdleUtil && !b.FakeIdle {
			found = append(found, fmt.Sprintf("GPU %d was used %s %% of the time (p95) and is called idle", b.GPU, trimmed(use)))
		}
		if !b.FakeIdle {
			busiest = max(busiest, use)
		}
	}
	c.Figure = strings.Join(figures, "; ")
	c.measure(busiest, "<=", r.Limits.MaxIdleUtil, "%")
	c.faults(found)
}

// oneRun says whether what the files say of their run is one thing.
func (r *Run) oneRun(c *Check) {
	c.Threshold = "one run_id"
	ids := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.runs)) {
		c.From = append(c.From, name)
		for _, id := range r.runs[name] {
			ids[id] = append(ids[id], name)
		}
	}
	if len(ids) == 0 {
		c.lacks("no file says of which run it is")
		return
	}
	var found []string
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		found = append(found, fmt.Sprintf("%s in %s", cmp.Or(plain(id), absent), strings.Join(ids[id], ", ")))
	}
	c.Figure = fmt.Sprintf("%s in %s", plural(len(ids), "run"), plural(len(c.From), "file"))
	c.measure(float64(len(ids)), "<=", 1, "runs")
	c.settle(len(ids) == 1, "%s", strings.Join(found, "; "))
}
