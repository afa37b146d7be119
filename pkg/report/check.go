package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

// Verdict is the outcome of a check.
type Verdict string

// The verdicts.
const (
	Pass      Verdict = "pass"
	Fail      Verdict = "fail"
	NotJudged Verdict = "not judged" // the run has not what it takes to tell
)

// Check is one condition that the run was held against.
type Check struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	Source    string   `json:"source"` // who asks for it: sections of TR122, or joulepipe
	Verdict   Verdict  `json:"verdict"`
	Figure    string   `json:"figure,omitempty"`    // what this run has
	Threshold string   `json:"threshold,omitempty"` // what is asked
	From      []string `json:"from"`                // files that the figure was computed from
	Reason    string   `json:"reason"`              // of the verdict, whichever it is
	Remedy    string   `json:"remedy,omitempty"`    // what to do about it

	// The figure and the threshold as numbers: a pass has Measured Relation
	// Limit, in Unit. Absent where nothing was judged.
	Measured record.Opt[float64] `json:"measured,omitzero"`
	Relation string              `json:"relation,omitempty"` // <, <=, >=
	Limit    record.Opt[float64] `json:"limit,omitzero"`
	Unit     string              `json:"unit,omitempty"`
}

// The lists of TR122 that checks belong to.
const (
	guarantees = "§10.7"
	invariants = "§2."
	checklist  = "§10.4"
)

// checks are all there are, in the order of reports.
var checks = []struct {
	id, title, source string
	needs             []kind // without these files it cannot be judged
	remedy            string
	judge             func(*Run, *Check)
}{
	{"grid-adherence", "samples keep the grid", "TR122 §10.7, §2.7", []kind{traceFile},
		"give the poller a core to itself, or poll less often", (*Run).gridAdherence},
	{"idle-baseline", "idle power was measured, idle and long enough", "TR122 §10.7, §10.4, §2.5", []kind{idleFile},
		"measure idle power again, with nothing else on the GPU, for two minutes and more after it has settled", (*Run).idleBaseline},
	{"event-alignment", "no short event is called good on polled power", "TR122 §10.7", []kind{joulesFile},
		"attribute again by `nvattrib --method driver` or `counter`", (*Run).eventAlignment},
	{"continuity-flag", "a long gap is flagged as degraded", "TR122 §10.7", []kind{traceFile},
		"do not trust the poller's own account; use the figures of this report", (*Run).continuityFlag},
	{"thermal-equilibrium", "steady state was held over the full window", "TR122 §10.7, §10.4", []kind{soakFile},
		"heat the GPU until nvsoak says equilibrium, then measure", (*Run).thermalEquilibrium},
	{"per-event-joules", "every event of 1 s or longer is billable", "TR122 §10.7", []kind{joulesFile},
		"make the events longer, or use means over a phase", (*Run).perEventJoules},

	{"gap-fraction", "gaps take less than their share of the trace", "TR122 §2.7", []kind{traceFile},
		"find what held the poller up (the longest gaps are listed), and measure again: the driver answers late while a process takes or gives back memory, makes a context or loads a model", (*Run).gapFraction},
	{"dropped-ticks", "every tick without a sample is accounted for", "TR122 §2.6", []kind{traceFile},
		"measure with nvpoll, which numbers its ticks; if they are numbered, find what held it up (the longest gaps are listed)", (*Run).droppedTicks},
	{"no-data-gating", "fewer than two readings are no_data", "TR122 §2.6", []kind{joulesFile},
		"attribute again with nvattrib", (*Run).noDataGating},
	{"gappy-gating", "events with gaps or few readings are not good", "TR122 §2.3, §10.3", []kind{joulesFile},
		"attribute again with nvattrib", (*Run).gappyGating},
	{"baseline-subtraction", "operational joules are energy − idle power × time", "TR122 §2.6", []kind{joulesFile, idleFile},
		"attribute again with this baseline: `nvattrib --baseline baseline.json …`", (*Run).baselineSubtraction},
	{"energy-integration", "joules are the channel's power over the event's time", "TR122 §2.6", []kind{traceFile, joulesFile},
		"attribute again with this trace", (*Run).energyIntegration},
	{"timestamp-bracketing", "events end after they begin, and the phases of a request follow one another", "TR122 §2.6", nil,
		"take the times round a synchronised call, or let `nvload exec` take them", (*Run).timestampBracketing},
	{"tier-gating", "billable events are long, well sampled and without holes", "TR122 §2.6", []kind{joulesFile},
		"attribute again with nvattrib", (*Run).tierGating},
	{"lateness", "samples come at their instant, and say by how much they do not", "TR122 §2.6", []kind{traceFile},
		"give the poller a core to itself, or poll less often", (*Run).lateness},
	{"idle-composite", "idleness was judged by use, clock and outliers together", "TR122 §2.6", []kind{idleFile},
		"measure idle power again with nvbaseline, and nothing else on the GPU", (*Run).idleComposite},
	{"one-run", "every file is of the same run", "TR122 §2.6", nil,
		"give all tools one JOULEPIPE_RUN_ID, and keep one run in a directory", (*Run).oneRun},
	{"sample-validity", "no failed reading was used", "TR122 §2.6", []kind{traceFile, joulesFile},
		"attribute again with this trace", (*Run).sampleValidity},
	{"sensor-floor", "readings below 5 W are rare", "TR122 §2.7", []kind{traceFile},
		"use the energy counter or the driver's buffer: the polled reading is stale at times", (*Run).sensorFloor},
	{"no-throttling", "no slowdown by heat or hardware while events ran", "TR122 §2.5", []kind{traceFile},
		"cool the GPU or lower its power limit, and measure again", (*Run).noThrottling},
	{"thermal-safety", "the trip temperature was not reached", "TR122 §2.5", []kind{traceFile},
		"cool the GPU, and measure again", (*Run).thermalSafety},

	{"continuity-good", "the trace is continuous", "TR122 §10.4", []kind{traceFile},
		"use energy of the run and of phases only, not of single events", (*Run).continuityGood},
	{"energy-gating", "no_data carries no joules", "TR122 §10.4", []kind{joulesFile},
		"attribute again with nvattrib", (*Run).energyGating},
	{"metadata", "driver, power limit and commit are recorded", "TR122 §10.4", []kind{traceFile},
		"measure with an nvpoll built from a checkout, on a GPU that tells its power limit", (*Run).metadata},

	{"inputs-readable", "every line was read", "joulepipe", nil,
		"find out what wrote or cut the file", (*Run).inputsReadable},
	{"trace-complete", "the trace is of one poller and has its end", "TR122 §10.6", []kind{traceFile},
		"let one nvpoll run from before the first event until after the last", (*Run).traceComplete},
	{"run-energy", "the energy of the whole run is known", "joulepipe", []kind{traceFile},
		"poll the energy counter or the driver's buffer too: `nvpoll --channels sample,power,counter`", (*Run).runEnergy},
	{"events-in-trace", "events with joules lie inside the trace, of the same run and clock", "joulepipe", []kind{traceFile, joulesFile},
		"attribute again with this trace", (*Run).eventsInTrace},
	{"idle-samples", "the idle power is the mean of the samples kept of it", "TR122 §4.6", []kind{idleFile, idleTraceFile},
		"measure idle power again, keeping the samples in the same run", (*Run).idleSamples},
	{"counter-monotone", "the energy counter goes on and never back", "joulepipe", []kind{traceFile},
		"measure again without loading the driver anew; where the counter stands still, go by the driver's samples", (*Run).counterMonotone},
	{"counter-agreement", "integrated power agrees with the energy counter", "TR122 §11.6", []kind{traceFile},
		"use the counter where it and the power channel differ", (*Run).counterAgreement},
	{"event-channel", "the channel of the joules agrees with the counter in each phase", "joulepipe", []kind{traceFile, joulesFile},
		"attribute again by `nvattrib --method driver` or `counter`", (*Run).eventChannel},
	{"instrument-response", "the power channel follows a load", "TR122 §5.3", []kind{sensorFile},
		"use the channel that sensor.json advises, or means over long phases", (*Run).instrumentResponse},
}

// judge computes every check, and what rests on them.
func (r *Run) judge() {
	for _, k := range checks {
		c := Check{ID: k.id, Title: k.title, Source: k.source, Remedy: k.remedy, From: []string{}}
		for _, need := range k.needs {
			if name := r.file(need); name != "" {
				c.From = append(c.From, name)
			} else if c.Verdict == "" {
				c.lacks("no %s", need.name())
				c.Remedy = contents[need].how
			}
		}
		if c.Verdict == "" {
			k.judge(r, &c)
		}
		switch c.Verdict {
		case Pass:
			c.Remedy = ""
			c.Reason = cmp.Or(c.Reason, c.Figure+", where "+c.Threshold+" is asked")
		case NotJudged:
			c.Measured, c.Limit, c.Relation, c.Unit = record.Opt[float64]{}, record.Opt[float64]{}, "", ""
		}
		r.Checks = append(r.Checks, c)
	}
	r.Claims = r.state(claims)
	r.Uses = r.state(uses)
	r.Decisions = r.decide()
	r.State, r.EndReason = r.end()
}

// file is what a kind of file is called here, "" if it is missing. Events that
// carry joules serve in place of the attributed ones.
func (r *Run) file(k kind) string {
	if k == joulesFile && r.files[k] == "" && r.Attributed {
		return r.files[eventsFile]
	}
	return r.files[k]
}

// Check is the check of that name.
func (r *Run) Check(id string) Check {
	i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.ID == id })
	if i < 0 {
		panic("report: no check " + id)
	}
	return r.Checks[i]
}

// Doubts are the checks because of which the run does not stand: those that
// failed, and those of TR122's guarantees, invariants and checklist that could
// not be judged.
func (r *Run) Doubts() []Check {
	var out []Check
	for _, c := range r.Checks {
		if c.Verdict == Fail || c.Verdict == NotJudged && (c.in(guarantees) || c.in(invariants) || c.in(checklist)) {
			out = append(out, c)
		}
	}
	return out
}

// in says whether one of TR122's lists asks for the check.
func (c *Check) in(list string) bool { return strings.Contains(c.Source, list) }

// measure says the figure and the threshold as numbers.
func (c *Check) measure(x float64, relation string, limit float64, unit string) {
	c.Measured, c.Relation, c.Limit, c.Unit = record.Some(x), relation, record.Some(limit), unit
}

// settle sets the verdict, and the reason where it is not a pass.
func (c *Check) settle(ok bool, reason string, args ...any) {
	c.Verdict = Pass
	if !ok {
		c.Verdict = Fail
		c.Reason = fmt.Sprintf(reason, args...)
	}
}

// lacks says why there is no verdict.
func (c *Check) lacks(reason string, args ...any) {
	c.Verdict, c.Reason = NotJudged, fmt.Sprintf(reason, args...)
}

// faults settles a check that holds when nothing is found fault with.
func (c *Check) faults(found []string) {
	if !c.Limit.OK {
		c.measure(float64(len(found)), "<=", 0, "faults")
	}
	c.settle(len(found) == 0, "%s", strings.Join(found, "; "))
}

// energies hands each attributed event to f, and says whether there was one;
// the check stays open where there was none.
func (r *Run) energies(c *Check, f func(*record.Event, *record.Energy)) bool {
	if !r.Attributed {
		c.lacks("no event in %s has joules", r.events())
		c.Remedy = contents[joulesFile].how
		return false
	}
	for i := range r.Events {
		if e := &r.Events[i]; e.Energy != nil {
			f(e, e.Energy)
		}
	}
	return true
}

// offenders counts events and remembers the first.
type offenders struct {
	n     int
	first string
}

func (o *offenders) add(e *record.Event, what string, args ...any) {
	if o.n++; o.n == 1 {
		o.first = fmt.Sprintf("%s: %s", cmp.Or(plain(e.ID), plain(e.Phase), "an event"), fmt.Sprintf(what, args...))
	}
}

func (o *offenders) settle(c *Check) {
	more := ""
	if o.n > 1 {
		more = fmt.Sprintf(", and %d more", o.n-1)
	}
	if !c.Limit.OK {
		c.measure(float64(o.n), "<=", 0, "events")
	}
	c.settle(o.n == 0, "%s%s", o.first, more)
}
