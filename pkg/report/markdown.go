package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// compose makes the report for people: what the numbers can be used for first,
// the evidence after it.
func (r *Run) compose() *page {
	p := &page{}
	r.summary(p)
	r.claimTable(p)
	r.course(p)
	r.baseline(p)
	r.response(p)
	r.memory(p)
	r.energy(p)
	r.curves(p)
	r.channelTable(p)
	r.soak(p)
	r.throttling(p)
	r.poller(p)
	r.faults(p)
	r.checkTables(p)
	r.decisions(p)
	r.limits(p)
	r.configuration(p)
	r.artifacts(p)
	return p
}

// Markdown writes the report as Markdown. Its figures are links to those that
// Figures gives.
func (r *Run) Markdown(w io.Writer) error {
	var b bytes.Buffer
	for _, k := range r.compose().parts {
		switch {
		case k.title != "":
			fmt.Fprintf(&b, "# %s\n\n", k.title)
		case k.head != "":
			fmt.Fprintf(&b, "## %s\n\n", k.head)
		case k.sub != "":
			fmt.Fprintf(&b, "### %s\n\n", k.sub)
		case k.words != "":
			fmt.Fprintf(&b, "%s\n\n", k.words)
		case k.table != nil:
			fmt.Fprintf(&b, "%s\n", k.table)
		case k.front != nil:
			fmt.Fprintf(&b, "**%s** %s\n\n", k.front.Answer, markup.Replace(k.front.Because))
		case k.figure != nil:
			fmt.Fprintf(&b, "![%s](figures/%s.svg)\n\n", text(k.figure.Title), k.figure.Name)
		default:
			for _, item := range k.bullets {
				fmt.Fprintf(&b, "- %s\n", item)
			}
			for i, item := range k.steps {
				fmt.Fprintf(&b, "%d. %s\n", i+1, item)
			}
			b.WriteByte('\n')
		}
	}
	_, err := w.Write(append(bytes.TrimRight(b.Bytes(), "\n"), '\n'))
	return err
}

// Verdicts writes the checks as lines for a terminal.
func (r *Run) Verdicts(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range r.Checks {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Verdict, c.ID, cmp.Or(c.Figure, c.Reason), cmp.Or(c.Threshold, absent))
	}
	return t.Flush()
}

// course is the run from beginning to end.
func (r *Run) course(p *page) {
	p.head("The run", r.Trace.File)
	if r.Trace.File == "" {
		p.unmeasured(traceFile)
		return
	}
	p.figure(r, "power")
}

// curves is energy against batch size and context (TR122 §7).
func (r *Run) curves(p *page) {
	p.head("Joule curve", r.events())
	if r.events() == "" {
		p.unmeasured(eventsFile)
		return
	}
	t := columns("Fit over batch sizes", ">Observations", ">J a step", ">± 95 %", ">J a token", ">± 95 %", "Says")
	for i := range r.Overall {
		s := &r.Overall[i]
		if c := s.JouleCurve; c != nil {
			t.row(work(s), number(c.Observations), optional(c.StepJ), optional(c.StepCI95J), optional(c.TokenJ), optional(c.TokenCI95J), text(strings.Join(c.Reasons, "; ")))
		}
	}
	if len(t.rows) > 0 {
		p.say("A token takes step / batch + token: what the batch shares, and what no batch saves.")
		p.table(t)
	}
	p.figure(r, "joule-curve")
	p.figure(r, "tokens")
}

// faults is what went wrong, and when.
func (r *Run) faults(p *page) {
	p.head("Faults over the run", r.Trace.File)
	if r.Trace.File == "" {
		p.unmeasured(traceFile)
		return
	}
	p.figure(r, "faults")
}

// unmeasured says that a part is missing because a file is, and why that matters.
func (p *page) unmeasured(k kind) {
	p.say("Not measured: no %s: %s. %s.", code(k.name()), contents[k].why, sentence(contents[k].how))
}

// section heads what the report says of one file, and says so where there is
// none.
func (r *Run) section(p *page, title string, k kind) (there bool) {
	p.head(title, r.files[k])
	if r.files[k] == "" {
		p.unmeasured(k)
		return false
	}
	return true
}

// sentence begins with a capital letter.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (r *Run) claimTable(p *page) {
	p.head("Claims")
	t := columns("Claim", "?Status", "Evidence", "From")
	for _, c := range r.Claims {
		t.row(c.Title, status(string(c.Status), c.Status == Validated), text(c.Evidence), cmp.Or(files(c.From...), absent))
	}
	p.table(t)
}

// status sets off what is not as it should be.
func status(s string, good bool) string {
	if good {
		return s
	}
	return "**" + s + "**"
}

// How many rows of kinds of work and of events the report lists; the file has
// them all.
const (
	summariesShown = 40
	eventsShown    = 20
)

func (r *Run) energy(p *page) {
	p.head("Energy", r.events())
	switch {
	case r.events() == "":
		p.unmeasured(eventsFile)
		return
	case !r.Attributed:
		p.say("Not measured: %s, none with joules. %s.", plural(len(r.Events), "event"), sentence(contents[joulesFile].how))
		return
	case len(r.Summaries) == 0:
		p.say("By phase and batch: not measured: there are no summary records; nvattrib writes one for each phase and batch.")
	default:
		r.summaries(p)
	}
	p.figure(r, "events")
	t := columns("Event", "Phase", ">Batch", ">Duration, s", ">Readings", ">In gaps", ">J", ">± 95 %", ">Above idle, J", "Quality", "Tier", "By")
	for i := range r.Events[:min(len(r.Events), eventsShown)] {
		e := &r.Events[i]
		cells := []string{code(e.ID), code(e.Phase), optionalCount(e.BatchSize), fixed(e.Duration(), 3)}
		if j := e.Energy; j != nil {
			cells = append(cells, count(j.PowerSamples), optionalPercent(j.GapFraction), optional(j.Joules), optional(j.CI95J), optional(j.OperationalJ),
				text(j.Quality), text(j.Tier), text(j.Method))
		} else {
			cells = append(cells, slices.Repeat([]string{absent}, len(t.heads)-len(cells))...)
		}
		t.row(cells...)
	}
	which := plural(len(r.Events), "event")
	if len(r.Events) > eventsShown {
		which = fmt.Sprintf("The first %d of %s", eventsShown, which)
	}
	p.say("%s; the file has the reasons for their tiers.", which)
	p.table(t)
}

func (r *Run) summaries(p *page) {
	t := columns("Work", ">n", ">Mean, s", ">Mean, J", ">± 95 %", ">σ, J", ">Above idle, J", ">J/token", ">Tokens/s", ">W", "Quality", "Tier")
	shown := r.Summaries[:min(len(r.Summaries), summariesShown)]
	for i := range shown {
		s := &shown[i]
		mean := absent
		if s.Events > 0 {
			mean = fixed(s.DurationS/float64(s.Events), 3)
		}
		t.row(work(s), count(s.Events), mean, optional(s.EnergyMeanJ), optional(s.CI95J), optional(s.EnergyStdJ), optional(s.OperationalMeanJ), optional(s.JoulesPerToken),
			optional(s.TokensPerSecond), optional(s.PowerMeanW), tallied(s.Quality, energy.Good, energy.Gappy, energy.NoData), tiers(s))
	}
	which := "By phase, model and batch size"
	if len(shown) < len(r.Summaries) {
		which += fmt.Sprintf(", the first %d of %d", len(shown), len(r.Summaries))
	}
	p.say("%s. Means are over the events that have joules; joules per token are gross.", which)
	p.table(t)
}

func (r *Run) channelTable(p *page) {
	p.head("Channels against each other", r.Trace.File)
	if r.Trace.File == "" {
		p.unmeasured(traceFile)
	} else if len(r.Comparisons) == 0 {
		p.say("Not measured: %s.", text(r.Check("counter-agreement").Reason))
	} else {
		r.ratios(p)
	}
	if r.Trace.File != "" {
		p.figure(r, "mismatch")
	}
}

// response is what each channel made of a known load (TR122 §5).
func (r *Run) response(p *page) {
	if !r.section(p, "Instrument response", sensorFile) {
		return
	}
	for _, s := range r.Sensors {
		p.say("Response of GPU %d to a known load, from %s; to be used: %s.", s.GPU, code(r.files[sensorFile]), code(s.Use))
		t := columns("Channel", "Kind", ">Update, ms", ">Window, ms", ">Lag, ms", ">Rise, ms", ">Gain", "?Test")
		for _, name := range slices.Sorted(maps.Keys(s.Channels)) {
			c := s.Channels[name]
			verdict, passed := tested(c)
			t.row(code(name), text(string(c.Class)), optional(c.UpdateMS), optional(c.WindowMS), optional(c.LagMS), optional(c.RiseMS), optional(c.Gain),
				status(text(verdict), passed))
		}
		p.table(t)
	}
	p.figure(r, "response")
}

// ratiosShown is how many kinds of stretches are compared on the page.
const ratiosShown = 40

// ratios is the table of each channel's energy over the counter's, with what
// its departures mean.
func (r *Run) ratios(p *page) {
	names := slices.DeleteFunc(slices.Clone(compared[:]), func(channel string) bool {
		return !slices.ContainsFunc(r.Comparisons, func(c Comparison) bool { return c.Channel == channel })
	})
	heads := []string{"Over", ">n", ">s", ">Counter, J"}
	same := r.sameRatios()
	if same {
		names = slices.DeleteFunc(names, func(n string) bool { return n == energy.PowerUse })
	}
	for _, n := range names {
		if same && n == energy.Average {
			n = "average = power"
		}
		heads = append(heads, ">"+n)
	}
	t := columns(heads...)
	off := map[string][]string{}
	for rest := r.Comparisons; len(rest) > 0 && len(t.rows) < ratiosShown; {
		c := rest[0]
		n := slices.IndexFunc(rest, func(o Comparison) bool { return !o.over(c) })
		if n < 0 {
			n = len(rest)
		}
		name := c.where(code)
		cells := []string{name, count(c.Stretches), fixed(c.Seconds, 1), figure(c.CounterJ)}
		for _, channel := range names {
			k := slices.IndexFunc(rest[:n], func(o Comparison) bool { return o.Channel == channel })
			if k < 0 {
				cells = append(cells, absent)
				continue
			}
			bad := r.off(rest[k])
			cells = append(cells, status(fixed(rest[k].Ratio(), 3), !bad))
			if bad {
				off[channel] = append(off[channel], fmt.Sprintf("%s of %s", fixed(rest[k].Ratio(), 2), name))
			}
		}
		t.row(cells...)
		rest = rest[n:]
	}
	p.say("Energy by each channel over that by the energy counter: for the run second by second, and for events of %s and longer by what ran in the second before them. Bold is off by more than %s and, for each event, %s of the highest power, as late as the counter itself can be.",
		length(r.Limits.CompareMin), share(r.Limits.CounterTolerance), length(counterLag))
	p.table(t)
	var notes []string
	for _, channel := range names {
		if len(off[channel]) == 0 {
			continue
		}
		note := fmt.Sprintf("%s reads %s.", code(channel), strings.Join(off[channel], ", "))
		if channel == energy.Average || channel == energy.PowerUse {
			note += " A mean over the last second misses what an event has just begun to take, and counts it in what follows: use `driver` or `counter` for events."
		}
		notes = append(notes, note)
	}
	switch {
	case same && r.Trace.averages:
		notes = append(notes, "`power` (nvmlDeviceGetPowerUsage) is the `average` (field 185) here.")
	case same:
		notes = append(notes, "The trace has no field 185: `average` stands for `power` (nvmlDeviceGetPowerUsage), which is the same mean on most boards since Ampere.")
	}
	p.list(notes)
}

// sameRatios says that power_w and the average cannot be told apart, as on
// boards where the one is the other.
func (r *Run) sameRatios() bool {
	var power, average []float64
	for _, c := range r.Comparisons {
		switch c.Channel {
		case energy.PowerUse:
			power = append(power, c.Ratio())
		case energy.Average:
			average = append(average, c.Ratio())
		}
	}
	return slices.EqualFunc(power, average, func(a, b float64) bool { return math.Abs(a-b) < 0.0005 }) && len(power) > 0
}

func (r *Run) baseline(p *page) {
	if !r.section(p, "Baseline", idleFile) {
		return
	}
	for _, b := range r.Baselines {
		t := columns(fmt.Sprintf("GPU %d", b.GPU), ">Value", "Meaning")
		t.row("Idle power, mean", trimmed(b.MeanW)+" W", "subtracted for every second of an event")
		t.row("Idle power, σ", unit(b.StdW, "W"), "of single readings, not of the mean")
		t.row("Standard error of the mean", unit(b.SEMW, "W"), "as if readings were independent: a lower bound")
		least := "smallest reading"
		if w, ok := b.MinW.Get(); ok && w < record.FloorW {
			least = "below 5 W: suspect, kept in the mean"
		}
		t.row("Idle power, min", unit(b.MinW, "W"), least)
		t.row("Idle power, max", unit(b.MaxW, "W"), "largest reading")
		t.row("Readings below 5 W", optionalPercent(b.FloorFraction), "stale readings of the sensor")
		t.row("Outliers beyond 2 σ", optionalPercent(b.OutlierFraction), "bursts of something else")
		t.row("Temperature", unit(b.TempC, "°C"), "where the run started from")
		t.row("Utilisation, p95", unit(b.UtilP95, "%"), "above 10 % the GPU was not idle")
		t.row("Fake idle", fmt.Sprint(b.FakeIdle), text(cmp.Or(strings.Join(b.FakeIdleReasons, ", "), "nothing else was seen to use the GPU")))
		t.row("State", text(b.State), "a context or a loaded model idles higher")
		t.row("Duration", unit(b.DurationS, "s"), "without settling and holes")
		t.row("Samples", optionalCount(b.Samples), "valid readings")
		p.table(t)
	}
	p.figure(r, "baseline")
}

func (r *Run) poller(p *page) {
	p.head("Poller", r.Trace.File)
	if r.Trace.File == "" {
		p.unmeasured(traceFile)
		return
	}
	if r.Trace.Said == nil {
		p.say("The trace has no account of its poller; these figures are computed from its samples.")
	}
	all := []record.PollerStats{r.Trace.Poller().Overall}
	if gpus := r.Trace.Poller().GPUs; len(gpus) > 1 {
		all = append(all, gpus...)
	}
	heads := []string{"Statistic", ">Overall"}
	for _, s := range all[1:] {
		heads = append(heads, fmt.Sprintf(">GPU %d", s.GPU.Or(0)))
	}
	t := columns(heads...)
	row := func(name string, of func(*record.PollerStats) string) {
		cells := []string{name}
		for i := range all {
			cells = append(cells, of(&all[i]))
		}
		t.row(cells...)
	}
	row("Target period, ms", func(s *record.PollerStats) string { return limit(s.TargetPeriodMS) })
	row("Median dt, ms", func(s *record.PollerStats) string { return optionalFixed(s.MedianDtMS, 2) })
	row("p95 dt, ms", func(s *record.PollerStats) string { return optionalFixed(s.P95DtMS, 2) })
	row("Longest spacing, ms", func(s *record.PollerStats) string { return optionalFixed(s.MaxGapMS, 2) })
	row("Gaps above "+length(r.Limits.GapDt), func(s *record.PollerStats) string { return count(s.GapCount) })
	row("Time in gaps", func(s *record.PollerStats) string { return optionalPercent(s.GapFraction) })
	row("Median lateness, ms", func(s *record.PollerStats) string { return optionalFixed(s.MedianLatenessMS, 3) })
	row("p95 lateness, ms", func(s *record.PollerStats) string { return optionalFixed(s.P95LatenessMS, 3) })
	row("Samples", func(s *record.PollerStats) string { return count(s.SamplesTotal) })
	row("Valid", func(s *record.PollerStats) string { return count(s.SamplesValid) })
	row("Read errors", func(s *record.PollerStats) string { return count(s.ReadErrors) })
	row("Below 5 W", func(s *record.PollerStats) string { return count(s.FloorSuspect) })
	row("Dropped ticks", func(s *record.PollerStats) string {
		if r.Trace.Said == nil && !r.Trace.Ticked() {
			return absent
		}
		return count(s.DroppedTicks)
	})
	row("CPU time, s", func(s *record.PollerStats) string { return optional(s.CPUSeconds) })
	row("Scheduling", func(s *record.PollerStats) string { return text(s.SchedulingQuality) })
	row("Continuity", func(s *record.PollerStats) string { return text(s.ContinuityQuality) })
	p.table(t)
	p.figure(r, "spacing")
	r.histogram(p)
	r.gaps(p)
	r.slowChannels(p)
}

// histogram draws the spacings of samples.
func (r *Run) histogram(p *page) {
	const width = 40
	bins := r.Trace.Poller().Overall.DtHistogram
	total, most := int64(0), int64(0)
	for _, b := range bins {
		total += b.Count
		most = max(most, b.Count)
	}
	if most <= 0 {
		return
	}
	p.say("Spacing of samples. On a kept grid a late sample is followed by a short spacing, so that both bins beside the target fill.")
	t := columns(">dt, ms", ">Samples", ">Share", "")
	for _, b := range bins {
		if b.Count <= 0 {
			continue
		}
		name := "from " + limit(b.LoMS)
		if hi, ok := b.HiMS.Get(); ok {
			name = limit(b.LoMS) + "–" + limit(hi)
		}
		bar := int(math.Ceil(width * float64(b.Count) / float64(most)))
		t.row(name, count(b.Count), percent(float64(b.Count)/float64(total)), strings.Repeat("█", bar))
	}
	p.table(t)
}

// gaps lists the longest gaps and what was running.
func (r *Run) gaps(p *page) {
	t := columns(">GPU", ">At, s", ">Gap, s", ">Longest read, s", "During")
	for _, g := range r.Trace.GPUs {
		for _, gap := range g.Gaps {
			t.row(count(g.Index), fixed(seconds(gap.StartNS-r.Trace.FirstNS), 3), fixed(gap.Seconds, 3), optionalFixed(gap.ReadS, 3), r.during(gap))
		}
	}
	if len(t.rows) == 0 {
		return
	}
	p.say("The longest gaps between valid samples:")
	p.table(t)
}

// during names the first event that a gap touches.
func (r *Run) during(g Gap) string {
	end := g.StartNS + int64(g.Seconds*1e9)
	for i := range r.Events {
		if e := &r.Events[i]; e.StartNS < end && e.EndNS > g.StartNS {
			return code(cmp.Or(e.ID, e.Phase))
		}
	}
	return "no event"
}

func (r *Run) slowChannels(p *page) {
	channels := r.Trace.Poller().Overall.Channels
	if len(channels) == 0 {
		return
	}
	p.say("Slow channels, each on its own thread:")
	t := columns("Channel", ">Calls", ">Records", ">Errors", ">Overflows", ">Call p50, ms", ">p95, ms", ">max, ms")
	for _, name := range slices.Sorted(maps.Keys(channels)) {
		c := channels[name]
		failed := int64(0)
		for _, n := range c.Errors {
			failed += n
		}
		t.row(code(name), count(c.Calls), count(c.Records), count(failed), count(c.Gaps),
			optional(c.CallP50MS), optional(c.CallP95MS), optional(c.CallMaxMS))
	}
	p.table(t)
}

func (r *Run) throttling(p *page) {
	p.head("Temperature and throttling", r.Trace.File)
	if r.Trace.File == "" {
		p.unmeasured(traceFile)
		return
	}
	t := columns(">GPU", ">Start", ">End", ">Hottest", ">Most power", "Slowed down by", ">Samples", ">Share")
	for _, g := range r.Trace.GPUs {
		row := func(reason, samples, share string) {
			t.row(count(g.Index), unit(g.TempFirstC, "°C"), unit(g.TempLastC, "°C"), unit(g.TempMaxC, "°C"), unit(g.PowerMaxW, "W"), reason, samples, share)
		}
		switch {
		case g.ThrottleRead == 0:
			row("not measured", absent, absent)
		case len(g.Throttled) == 0:
			row("nothing", "0", "0.00 %")
		}
		for _, reason := range slices.Sorted(maps.Keys(g.Throttled)) {
			n := g.Throttled[reason]
			row(reason, count(n), percent(float64(n)/float64(g.ThrottleRead)))
		}
	}
	p.table(t)
	if c := r.Check("no-throttling"); c.Verdict != Pass || r.capped() > 0 {
		p.say("%s.", text(sentence(c.Reason)))
	}
	p.figure(r, "clock")
}

func (r *Run) soak(p *page) {
	if !r.section(p, "Heat soak", soakFile) {
		return
	}
	for i := range r.Soaks {
		s := &r.Soaks[i]
		t := columns(fmt.Sprintf("GPU %d", s.GPU), ">Value")
		t.row("End state", text(s.State))
		t.row("Reason", text(s.Reason))
		t.row("Duration", span(s.DurationS))
		t.row("Temperature, start", unit(s.TempStartC, "°C"))
		t.row("Temperature, end", unit(s.TempEndC, "°C"))
		t.row("Temperature, max", unit(s.TempMaxC, "°C"))
		slope := unit(s.SlopeCPerMin, "°C/min")
		if w, ok := s.SlopeCI95.Get(); ok && s.SlopeCPerMin.OK {
			slope = trimmed(s.SlopeCPerMin.V) + " ± " + trimmed(w) + " °C/min"
		}
		t.row("Slope at the end", slope)
		t.row("Steepest slope", unit(s.MaxSlopeCPerMin, "°C/min"))
		t.row("Window", unit(s.WindowS, "s"))
		for _, rule := range slices.Sorted(maps.Keys(s.Rule)) {
			t.row("Rule "+code(rule), map[bool]string{true: "pass", false: "fail"}[s.Rule[rule]])
		}
		t.row("Throttling", text(cmp.Or(strings.Join(s.ThrottleReasons, ", "), "none")))
		t.row("Thermal trips", count(s.Trips))
		p.table(t)
	}
	p.figure(r, "soak")
}

func (r *Run) checkTables(p *page) {
	p.head("Checks")
	for _, list := range []struct{ title, of string }{
		{"Guarantee contract (TR122 §10.7)", guarantees},
		{"Invariants (TR122 §2)", invariants},
		{"Operational checklist (TR122 §10.4)", checklist},
		{"Further checks", ""},
	} {
		t := columns("Check", "What", "?Verdict", "This run", "Asked", "From")
		for _, c := range r.Checks {
			listed := c.in(guarantees) || c.in(invariants) || c.in(checklist)
			if list.of != "" && !c.in(list.of) || list.of == "" && listed {
				continue
			}
			t.row(code(c.ID), c.Title, status(string(c.Verdict), c.Verdict == Pass), text(cmp.Or(c.Figure, c.Reason)), text(c.Threshold), cmp.Or(files(c.From...), absent))
		}
		p.sub(list.title)
		p.table(t)
	}
}

func (r *Run) decisions(p *page) {
	p.head("Production decision rule (TR122 §10.5)")
	t := columns("If", "This run", "?Applies", "Then")
	for _, d := range r.Decisions {
		applies := map[bool]string{true: "**yes**", false: "no"}[d.Applies]
		if d.Here == "not measured" {
			applies = "not judged"
		}
		t.row(d.If, text(d.Here), applies, d.Then)
	}
	p.table(t)
}

func (r *Run) limits(p *page) {
	p.head("Limits of this run")
	var items []string
	say := func(format string, args ...any) { items = append(items, fmt.Sprintf(format, args...)) }
	if r.Trace.Simulated() {
		say("The device was simulated. No figure here is a property of hardware.")
	}
	say("No external meter was read: every joule carries the calibration of the board's own sensor, which published comparisons put within some 5 %%. Ratios of figures of one board are better than that.")
	if len(r.Trace.GPUs) == 1 {
		say("One GPU was measured; energy of links between GPUs, of the host and of cooling is outside.")
	}
	if n := r.short(); n > 0 {
		say("%s shorter than %s: their joules rest on few readings.", plural(n, "event"), length(r.Limits.LongEvent))
	}
	for _, m := range r.Missing {
		say("No %s: %s. %s.", code(m.Path), m.Why, sentence(m.How))
	}
	if h := r.Trace.Header; h != nil {
		for _, g := range h.GPUs {
			for _, channel := range slices.Sorted(maps.Keys(g.Channels)) {
				if why := g.Channels[channel]; why != "ok" {
					say("GPU %d has no channel %s: %s.", g.Index, code(channel), text(why))
				}
			}
		}
	} else if r.Trace.File != "" {
		say("The trace has no header: which GPU, driver and power limit is not known, nor whether the trace is whole.")
	}
	for _, g := range r.Trace.GPUs {
		if g.Disordered > 0 {
			say("GPU %d: %s went back in time and were left out.", g.Index, plural(int(g.Disordered), "sample"))
		}
	}
	for _, problem := range r.Problems {
		say("%s", text(problem))
	}
	p.list(items)
}

// short counts the events that cannot be expected to be billable.
func (r *Run) short() int {
	n := 0
	for i := range r.Events {
		if r.Events[i].EndNS-r.Events[i].StartNS < r.Limits.LongEvent.Nanoseconds() {
			n++
		}
	}
	return n
}

func (r *Run) configuration(p *page) {
	p.head("Configuration", r.Trace.File)
	h := r.Trace.Header
	if h == nil {
		p.say("Not recorded: there is no header of a trace.")
		return
	}
	t := columns("Field", "Value")
	// What was not recorded has no row.
	row := func(field, value string) {
		if value != absent {
			t.row(field, value)
		}
	}
	row("Run", code(h.RunID))
	row("Host", code(h.Host))
	row("Tool", code(strings.TrimSpace(h.Tool+" "+h.Version)))
	if h.Git != nil {
		row("Commit", code(h.Git.Hash))
		row("Changed tree", fmt.Sprint(h.Git.Dirty))
	}
	row("Period", length(time.Duration(h.PeriodNS)))
	for _, g := range h.GPUs {
		name := func(field string) string { return fmt.Sprintf("GPU %d %s", g.Index, field) }
		row(name("name"), text(g.Name))
		row(name("UUID"), code(g.UUID))
		row(name("driver"), code(g.Driver))
		row(name("CUDA"), code(g.CUDA))
		row(name("architecture"), code(g.Arch))
		row(name("memory"), unit(g.VRAMTotalMB, "MiB"))
		row(name("power limit"), unit(g.PowerLimitW, "W"))
		row(name("default power limit"), unit(g.PowerLimitDefaultW, "W"))
		row(name("slowdown"), unit(g.TempSlowdownC, "°C"))
		row(name("shutdown"), unit(g.TempShutdownC, "°C"))
		row(name("MIG"), onOff(g.MIG))
		row(name("persistence"), onOff(g.Persistence))
		row(name("bus"), code(g.PCI))
	}
	for _, b := range r.Baselines {
		if c := b.Conditions; c != nil {
			name := func(field string) string { return fmt.Sprintf("GPU %d %s when idle", b.GPU, field) }
			row(name("SM clock"), megahertz(c.SMClockMHz))
			row(name("memory clock"), megahertz(c.MemClockMHz))
			row(name("performance state"), optionalCount(c.PState))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(h.Config)) {
		row("asked: "+code(key), code(fmt.Sprint(h.Config[key])))
	}
	p.table(t)
}

func megahertz(o record.Opt[int64]) string {
	if v, ok := o.Get(); ok {
		return count(v) + " MHz"
	}
	return absent
}

func onOff(o record.Opt[bool]) string {
	switch v, ok := o.Get(); {
	case !ok:
		return absent
	case v:
		return "on"
	}
	return "off"
}

func (r *Run) artifacts(p *page) {
	p.head("Artifacts")
	t := columns("File", "Holds", ">Size", "SHA-256")
	for _, a := range r.Artifacts {
		t.row(code(a.Path), cmp.Or(a.Holds, "other"), size(a.Bytes), "`"+a.SHA256+"`")
	}
	p.table(t)
}
