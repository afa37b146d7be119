package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// channelOf is the channel behind a method of attribution.
func channelOf(method string) string {
	if method == energy.TR122 {
		return energy.PowerUse
	}
	return strings.TrimPrefix(method, energy.Auto+":")
}

// modelled says that the joules are a sensor model's, with an interval: they
// are not those of the readings inside the event.
func modelled(j *record.Energy) bool { return j.CI95J.OK }

// polled says that a channel is read on the poller's grid.
func polled(channel string) bool {
	return slices.Contains([]string{energy.PowerUse, energy.Instant, energy.Average}, channel)
}

func (r *Run) eventAlignment(c *Check) {
	c.Threshold = "none below " + length(r.Limits.ShortEvent) + " good"
	short := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if e.EndNS-e.StartNS >= r.Limits.ShortEvent.Nanoseconds() || modelled(j) || !polled(channelOf(j.Method)) {
			return
		}
		short++
		if j.Quality == energy.Good {
			bad.add(e, "good with %s s", trimmed(e.Duration()))
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%d short on polled power, %d good", short, bad.n)
	bad.settle(c)
}

func (r *Run) noDataGating(c *Check) {
	c.Threshold = "no_data below 2 readings"
	few := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if j.PowerSamples >= 2 {
			return
		}
		few++
		if j.Quality != energy.NoData {
			bad.add(e, "%s with %s", plain(j.Quality), plural(int(j.PowerSamples), "reading"))
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%d with fewer, %d not no_data", few, bad.n)
	bad.settle(c)
}

func (r *Run) gappyGating(c *Check) {
	c.Threshold = "good: ≥ 3 readings, ≤ " + share(r.Limits.GappyFraction) + " in gaps"
	good := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if j.Quality != energy.Good {
			return
		}
		good++
		switch gaps := j.GapFraction.Or(0); {
		case j.PowerSamples < 3:
			bad.add(e, "good with %s", plural(int(j.PowerSamples), "reading"))
		case gaps > r.Limits.GappyFraction:
			bad.add(e, "good with %s in gaps", percent(gaps))
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%d good, %d of them wrongly", good, bad.n)
	bad.settle(c)
}

func (r *Run) energyGating(c *Check) {
	c.Threshold = "no joules, refused"
	none := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if j.Quality != energy.NoData {
			return
		}
		none++
		switch {
		case j.Joules.OK || j.OperationalJ.OK || j.JoulesPerToken.OK:
			bad.add(e, "no_data with joules")
		case j.Tier != energy.Refused:
			bad.add(e, "no_data, yet %s", plain(j.Tier))
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%d no_data, %d of them treated as valid", none, bad.n)
	bad.settle(c)
}

func (r *Run) perEventJoules(c *Check) {
	c.Threshold = "all billable"
	long, billable := 0, 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if e.EndNS-e.StartNS < r.Limits.LongEvent.Nanoseconds() {
			return
		}
		long++
		if j.Tier == energy.Billable {
			billable++
		} else {
			bad.add(e, "%s", strings.TrimSuffix(plain(j.Tier)+", "+line(strings.Join(j.Reasons, "; "), sentenceLength), ", "))
		}
	}) {
		return
	}
	if long == 0 {
		c.lacks("no event lasts %s", length(r.Limits.LongEvent))
		return
	}
	c.Figure = fmt.Sprintf("%d of %d billable", billable, long)
	bad.settle(c)
}

func (r *Run) baselineSubtraction(c *Check) {
	c.Threshold = fmt.Sprintf("to %g of the energy", r.Limits.SubtractTolerance)
	idle := map[int]float64{}
	for _, b := range r.Baselines {
		idle[b.GPU] = b.MeanW
	}
	checked, worst := 0, 0.0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		raw, ok := j.Joules.Get()
		above, given := j.OperationalJ.Get()
		if !ok || !given {
			return
		}
		checked++
		less := 0.0
		for _, g := range e.GPUs {
			w, ok := idle[g]
			if !ok {
				bad.add(e, "operational joules, but no idle power of GPU %d", g)
				return
			}
			less += w * j.ChargedS.Or(e.Duration()) * j.ProcessShare.Or(1)
		}
		off := math.Abs(above-(raw-less)) / max(math.Abs(raw), less, math.SmallestNonzeroFloat64)
		worst = max(worst, off)
		if !(off <= r.Limits.SubtractTolerance) {
			bad.add(e, "%s J, where %s − %s J = %s J", figure(above), figure(raw), figure(less), figure(raw-less))
		}
	}) {
		return
	}
	if checked == 0 {
		c.lacks("no event has operational joules")
		return
	}
	c.Figure = fmt.Sprintf("%s, off by %s at most", plural(checked, "event"), figure(worst))
	c.measure(worst, "<=", r.Limits.SubtractTolerance, "share")
	bad.settle(c)
}

func (r *Run) sampleValidity(c *Check) {
	c.Threshold = "readings ≤ valid samples inside"
	checked := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if modelled(j) || !polled(channelOf(j.Method)) {
			return
		}
		checked++
		valid := int64(math.MaxInt64)
		for _, g := range e.GPUs {
			valid = min(valid, r.Trace.inside(e, g).valid)
		}
		if j.PowerSamples > valid {
			bad.add(e, "%s used, %d valid in the trace", plural(int(j.PowerSamples), "reading"), valid)
		}
	}) {
		return
	}
	c.Figure = fmt.Sprintf("%s on polled power, %d failed readings in the trace", plural(checked, "event"), r.Trace.Seen.Overall.ReadErrors)
	bad.settle(c)
}

func (r *Run) eventsInTrace(c *Check) {
	c.Threshold = "one run_id and boot_id, inside the trace"
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	if h := r.Trace.Header; h != nil {
		switch {
		case differ(h.BootID, r.EventsBoot):
			c.settle(false, "events and trace are of different boots: their clocks do not compare")
			return
		case differ(h.RunID, r.EventsRun):
			c.settle(false, "the events are of run %s, the trace is of %s", plain(r.EventsRun), plain(h.RunID))
			return
		}
	}
	slack := r.Limits.GapDt.Nanoseconds()
	n := 0
	var bad offenders
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if !j.Joules.OK {
			return
		}
		n++
		switch {
		case e.EndNS <= e.StartNS:
			bad.add(e, "ends before it starts")
		case e.StartNS < r.Trace.FirstNS-slack || e.EndNS > r.Trace.LastNS+slack:
			bad.add(e, "joules outside the trace")
		}
	}) {
		return
	}
	c.Figure = plural(n, "event") + " with joules"
	bad.settle(c)
}

func (r *Run) eventChannel(c *Check) {
	c.Threshold = fmt.Sprintf("within %s and %s of power", share(r.Limits.CounterTolerance), length(counterLag))
	used := map[string]bool{}
	phases := 0
	var off []string
	models := 0
	if !r.energies(c, func(e *record.Event, j *record.Energy) {
		if !j.Joules.OK {
			return
		}
		if !modelled(j) {
			used[channelOf(j.Method)] = true
			return
		}
		own, ok := j.CounterJ.Get()
		if !ok || own <= 0 || j.SharedWith.OK || e.EndNS-e.StartNS < r.Limits.CompareMin.Nanoseconds() {
			return
		}
		models++
		allowed := r.Limits.CounterTolerance*own + math.Hypot(j.CI95J.V, j.CounterCI95J.V)
		if math.Abs(j.Joules.V-own) > allowed {
			off = append(off, fmt.Sprintf("%s has %s, the counter %s", cmp.Or(plain(e.ID), plain(e.Phase), "an event"), joules(j.Joules.V), joules(own)))
		}
	}) {
		return
	}
	for _, k := range r.Comparisons {
		if k.Phase == "" || !used[k.Channel] {
			continue
		}
		phases++
		if r.off(k) {
			off = append(off, fmt.Sprintf("%s reads %s of %s", k.Channel, fixed(k.Ratio(), 2), k.where(plain)))
		}
	}
	switch {
	case phases+models > 0:
		c.Figure = fmt.Sprintf("%d of %d off", len(off), phases+models)
		c.faults(off)
	case len(used) == 1 && used[energy.Counter]:
		c.Figure = "joules are the counter's own"
		c.faults(nil)
	default:
		c.lacks("no event of %s has both the counter and the channel of its joules", length(r.Limits.CompareMin))
	}
}

func (r *Run) idleBaseline(c *Check) {
	need := r.Limits.BaselineMin.Seconds()
	c.Threshold = "not fake, ≥ " + length(r.Limits.BaselineMin)
	var figures, found []string
	timed, shortest := len(r.Baselines) > 0, math.Inf(1)
	for i := range r.Baselines {
		b := &r.Baselines[i]
		took, ok := b.DurationS.Get()
		timed = timed && ok
		f := trimmed(b.MeanW) + " W"
		if ok {
			f += " over " + span(took)
		}
		figures = append(figures, f)
		shortest = min(shortest, took)
		if !b.StdW.OK {
			found = append(found, "the scatter of the idle power (idle_watts_std) is not told")
		}
		if b.FakeIdle {
			found = append(found, "the GPU was not idle"+because(b.FakeIdleReasons))
		}
		if ok && took < 0.99*need {
			found = append(found, "the baseline is only "+span(took)+" long")
		}
		if known := r.Trace.info(b.GPU); b.UUID != "" && known.UUID != "" && b.UUID != known.UUID {
			found = append(found, fmt.Sprintf("GPU %d was another one (%s) than in the trace", b.GPU, plain(b.UUID)))
		}
		for _, doubt := range b.Doubts {
			found = append(found, line(doubt, sentenceLength))
		}
	}
	for _, g := range r.usedGPUs() {
		if !slices.ContainsFunc(r.Baselines, func(b baseline.Idle) bool { return b.GPU == g }) {
			found = append(found, fmt.Sprintf("GPU %d has none", g))
		}
	}
	c.Figure = strings.Join(figures, ", ")
	if timed {
		// A poller's last sample may come a tick early.
		c.measure(shortest, ">=", 0.99*need, "s")
	}
	c.faults(found)
	if c.Verdict == Pass && !timed {
		c.lacks("%s does not say how long it was measured", r.files[idleFile])
	}
}

// because is ": " and the reasons, or nothing.
func because(reasons []string) string {
	if len(reasons) == 0 {
		return ""
	}
	return ": " + line(strings.Join(reasons, "; "), sentenceLength)
}

// usedGPUs are the GPUs that events ran on, in order.
func (r *Run) usedGPUs() []int {
	used := map[int]bool{}
	for i := range r.Events {
		for _, g := range r.Events[i].GPUs {
			used[g] = true
		}
	}
	return slices.Sorted(maps.Keys(used))
}

func (r *Run) idleSamples(c *Check) {
	c.Threshold = "to " + share(r.Limits.IdleTolerance)
	var figures, found []string
	worst := 0.0
	if len(r.Baselines) == 0 {
		c.lacks("%s has no idle power", r.files[idleFile])
		return
	}
	for _, b := range r.Baselines {
		m := r.idle[b.GPU]
		if m.n == 0 {
			c.lacks("%s has no %s reading of GPU %d", r.files[idleTraceFile], m.channel, b.GPU)
			return
		}
		if made, ok := b.Samples.Get(); ok && made != m.n {
			c.lacks("%s has %d readings of GPU %d, the baseline was made of %d", r.files[idleTraceFile], m.n, b.GPU, made)
			return
		}
		mean := m.sum / float64(m.n)
		figures = append(figures, fmt.Sprintf("%s W in %s", trimmed(mean), plural(int(m.n), "sample")))
		worst = max(worst, math.Abs(mean-b.MeanW)/max(b.MeanW, math.SmallestNonzeroFloat64))
		if math.Abs(mean-b.MeanW) > r.Limits.IdleTolerance*b.MeanW {
			found = append(found, fmt.Sprintf("the samples of GPU %d have a mean of %s W, the baseline says %s W", b.GPU, figure(mean), figure(b.MeanW)))
		}
	}
	c.Figure = strings.Join(figures, ", ")
	c.measure(worst, "<=", r.Limits.IdleTolerance, "share")
	c.faults(found)
}

func (r *Run) thermalEquilibrium(c *Check) {
	need := r.Limits.SoakWindow.Seconds()
	c.Threshold = fmt.Sprintf("< %s °C/min over %s", limit(r.Limits.SoakSlope), length(r.Limits.SoakWindow))
	if len(r.Soaks) == 0 {
		c.lacks("no soak record in %s", r.files[soakFile])
		return
	}
	var figures, found []string
	steepest := record.Some(0.0)
	for i := range r.Soaks {
		s := &r.Soaks[i]
		figures = append(figures, fmt.Sprintf("%s, %s", plain(s.State), unit(s.SlopeCPerMin, "°C/min")))
		window, slope := s.WindowS.Or(0), math.Abs(s.SlopeCPerMin.Or(math.Inf(1)))
		steepest.V, steepest.OK = max(steepest.V, slope), steepest.OK && s.SlopeCPerMin.OK
		switch {
		case !s.Final:
			found = append(found, "the soak has no last record")
		case s.State != "equilibrium":
			found = append(found, "the soak ended in "+plain(s.State)+because(slices.DeleteFunc([]string{s.Reason}, func(s string) bool { return s == "" })))
		case window < 0.99*need:
			found = append(found, "judged over "+span(window)+" only")
		case slope >= r.Limits.SoakSlope:
			found = append(found, "the slope is "+trimmed(slope)+" °C/min")
		}
	}
	c.Figure = strings.Join(figures, "; ")
	if steepest.OK {
		c.measure(steepest.V, "<", r.Limits.SoakSlope, "°C/min")
	}
	c.faults(found)
}

func (r *Run) instrumentResponse(c *Check) {
	c.Threshold = "rise < 300 ms, > 10 W"
	if len(r.Sensors) == 0 {
		c.lacks("%s tells of no GPU", r.files[sensorFile])
		return
	}
	var figures, found []string
	for _, s := range r.Sensors {
		channel := plain(s.Use)
		if channel == "" {
			channel = "no channel"
		}
		figures = append(figures, fmt.Sprintf("GPU %d: %s", s.GPU, channel))
		switch use := s.Channels[s.Use]; {
		case use == nil:
			found = append(found, fmt.Sprintf("GPU %d: %s is not in the test", s.GPU, channel))
		case !use.Pass.Or(false):
			found = append(found, fmt.Sprintf("GPU %d: %s failed%s", s.GPU, channel, because(use.Reasons)))
		}
	}
	c.Figure = strings.Join(figures, ", ")
	c.faults(found)
}
