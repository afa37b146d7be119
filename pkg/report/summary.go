package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// summary is the first screen: what did it cost, can it be believed, what is
// to be done next.
func (r *Run) summary(p *page) {
	title := "Energy report"
	if id := r.id(); id != "" {
		title += " " + code(id)
	}
	p.parts = append(p.parts, part{title: title})
	p.say("%s", r.subject())
	if r.Trace.Simulated() {
		p.say("**SIMULATED DEVICE: no hardware was measured. These figures test the tools and say nothing of any GPU.**")
	}
	p.parts = append(p.parts, part{front: r.Front})
	r.cost(p)
	r.belief(p)
	r.next(p)
	p.say("Figures carry four significant digits; %s was not measured. Joules are gross, idle power included, unless they say “above idle”.", absent)
}

// id is what the run calls itself.
func (r *Run) id() string {
	if h := r.Trace.Header; h != nil {
		return h.RunID
	}
	return r.EventsRun
}

// subject says in a line what was measured, when and for how long.
func (r *Run) subject() string {
	var parts []string
	if h := r.Trace.Header; h != nil {
		for _, g := range h.GPUs {
			parts = append(parts, fmt.Sprintf("GPU %d %s, driver %s", g.Index, text(g.Name), text(g.Driver)))
		}
		if h.UnixNS > 0 {
			parts = append(parts, time.Unix(0, h.UnixNS).UTC().Format("2006-01-02 15:04 UTC"))
		}
	}
	if r.Trace.File == "" {
		parts = append(parts, "no trace")
	} else {
		parts = append(parts, "trace of "+span(r.Trace.Seconds()), plural(int(r.Trace.Seen.Overall.SamplesTotal), "sample"))
	}
	return strings.Join(append(parts, plural(len(r.Events), "event")), " · ")
}

// costsShown is how many rows of energy the first screen has.
const costsShown = 6

func (r *Run) cost(p *page) {
	var said []string
	for _, c := range r.Costs {
		said = append(said, fmt.Sprintf("GPU %d took %s in %s, %s W on average (%s, %s).", c.GPU, joules(c.Joules), span(c.Seconds), figure(c.Joules/c.Seconds),
			channelNames[c.Channel], code(r.Trace.File)))
	}
	if len(said) == 0 {
		said = append(said, "Energy of the run: not measured.")
	}
	for _, b := range r.Baselines {
		said = append(said, fmt.Sprintf("Idle, GPU %d takes %s W (%s).", b.GPU, trimmed(b.MeanW), code(r.files[idleFile])))
	}
	p.say("**What did it cost?** %s", strings.Join(said, " "))
	if len(r.Summaries) == 0 {
		p.say("Energy of phases: not measured: %s.", r.unattributed())
		return
	}
	// Work with tokens first, then by what it took.
	most := slices.Clone(r.Summaries)
	slices.SortStableFunc(most, func(a, b record.Summary) int {
		switch {
		case a.JoulesPerToken.OK != b.JoulesPerToken.OK && a.JoulesPerToken.OK:
			return -1
		case a.JoulesPerToken.OK != b.JoulesPerToken.OK:
			return 1
		}
		return cmp.Compare(b.EnergyTotalJ.Or(0), a.EnergyTotalJ.Or(0))
	})
	t := columns("Work", ">Events", ">J each", ">Above idle, J", ">J/token", ">W", "Good for")
	for _, s := range most[:min(len(most), costsShown)] {
		t.row(work(&s), count(s.Events), optional(s.EnergyMeanJ), optional(s.OperationalMeanJ), optional(s.JoulesPerToken), optional(s.PowerMeanW), tiers(&s))
	}
	p.table(t)
	if len(most) > costsShown {
		p.say("The %d of %d kinds of work with tokens, or else with the most energy, in %s; all of them under [Energy](#energy).", costsShown, len(most), code(r.events()))
	}
}

// unattributed says why there is no energy of phases.
func (r *Run) unattributed() string {
	switch {
	case r.events() == "":
		return "nothing says what the GPU was doing"
	case !r.Attributed:
		return "no event in " + code(r.events()) + " has joules"
	}
	return code(r.events()) + " has no summary records"
}

// work names what a summary is of.
func work(s *record.Summary) string {
	name := code(s.Phase)
	if s.Model != "" {
		name += " " + code(s.Model)
	}
	if b, ok := s.BatchSize.Get(); ok {
		name += " batch " + count(b)
	}
	return name
}

// tiers are how many events of a summary are good for what.
func tiers(s *record.Summary) string {
	return tallied(s.Tier, energy.Billable, energy.Analysis, energy.Estimate, energy.Refused)
}

// tallied writes the counts that are not 0, in that order of their names.
func tallied(n map[string]int, names ...string) string {
	var parts []string
	for _, name := range names {
		if n[name] > 0 {
			parts = append(parts, count(n[name])+" "+name)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), absent)
}

// channelNames say in words where a channel's readings come from.
var channelNames = map[string]string{
	energy.Counter:  "energy counter",
	energy.Driver:   "the driver's sample buffer",
	energy.Instant:  "`power_instant_w`",
	energy.Average:  "`power_average_w`",
	energy.PowerUse: "`power_w`",
}

// useWords are what a claim's status means for one who wants to use a number.
var useWords = map[Status]string{Validated: "yes", Degraded: "with care", Failed: "**no**", Open: "not judged"}

// doubted says how many checks are in the way, nothing where there is none.
func (r *Run) doubted() string {
	failed, open := 0, 0
	for _, c := range r.Doubts() {
		if c.Verdict == Fail {
			failed++
		} else {
			open++
		}
	}
	var what []string
	if failed > 0 {
		what = append(what, plural(failed, "check")+" failed")
	}
	if open > 0 {
		what = append(what, plural(open, "check")+" could not be judged")
	}
	return strings.Join(what, ", ")
}

func (r *Run) belief(p *page) {
	if what := r.doubted(); what == "" {
		p.say("**Can I believe it?** Yes, the run stands: every check of TR122's guarantees, invariants and checklist passed.")
	} else {
		p.say("**Can I believe it?** Not as a whole: %s. Of its numbers:", what)
	}
	t := columns("Use", "?Can it be used", "Because")
	for _, u := range r.Uses {
		t.row(u.Title, useWords[u.Status], text(u.Evidence))
	}
	p.table(t)
}

// step is something to do, and the checks that ask for it.
type step struct {
	remedy  string
	ids     []string
	reasons []string
}

func (s *step) words() string {
	return fmt.Sprintf("%s (%s: %s)", sentence(s.remedy), files(s.ids...), text(strings.Join(s.reasons, "; ")))
}

// steps are what there is to do, in the order of the checks.
func (r *Run) steps() []*step {
	var all []*step
	for _, c := range r.Doubts() {
		i := slices.IndexFunc(all, func(s *step) bool { return s.remedy == c.Remedy })
		if i < 0 {
			i = len(all)
			all = append(all, &step{remedy: c.Remedy})
		}
		s := all[i]
		s.ids = append(s.ids, c.ID)
		if !slices.Contains(s.reasons, c.Reason) {
			s.reasons = append(s.reasons, c.Reason)
		}
	}
	return all
}

func (r *Run) next(p *page) {
	steps := r.steps()
	switch {
	case len(steps) == 0 && r.Trace.Simulated():
		p.say("**What do I do next?** Measure a GPU: these numbers are of none.")
		return
	case len(steps) == 0:
		p.say("**What do I do next?** Nothing is in the way of publishing these numbers.")
		return
	}
	p.say("**What do I do next?**")
	var items []string
	for _, s := range steps {
		items = append(items, s.words())
	}
	p.steps(items)
}
