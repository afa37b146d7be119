package report

import (
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/record"
)

// Status is what became of a claim.
type Status string

// The statuses, from best to worst: what failed is worse than what was not
// tried.
const (
	Validated Status = "validated"
	Degraded  Status = "degraded"   // it holds, with a reservation
	Open      Status = "not judged" // the run shows neither
	Failed    Status = "failed"     // the run shows that it does not hold
)

var statuses = []Status{Validated, Degraded, Open, Failed}

// Claim is a statement that rests on checks.
type Claim struct {
	Title    string   `json:"claim"`
	Status   Status   `json:"status"`
	Evidence string   `json:"evidence"` // the figures, or what is wrong
	Checks   []string `json:"checks"`   // ids of those that decided
	From     []string `json:"from"`     // files
}

// statement is a claim and what it rests on: core checks make or break it, the
// first of them the most telling; supporting ones can only degrade it.
type statement struct {
	title         string
	core, support []string
}

// claims are TR122's (§1.2), and two on the energy.
var claims = []statement{
	{"Idle power is established, with its variability", []string{"idle-baseline"}, []string{"idle-samples", "sensor-floor"}},
	{"Samples keep the grid", []string{"grid-adherence"}, []string{"dropped-ticks"}},
	{"The trace is continuous", []string{"gap-fraction"}, []string{"continuity-good", "trace-complete", "inputs-readable"}},
	{"The GPU reached thermal equilibrium", []string{"thermal-equilibrium"}, []string{"thermal-safety", "no-throttling"}},
	{"Work is separated into phases", []string{"events-in-trace"}, []string{"event-alignment"}},
	{"The sensor follows load transitions", []string{"instrument-response"}, nil},
	{"Integrated power is the energy that the board counted", []string{"counter-agreement"}, []string{"counter-monotone"}},
	{"Joules of single events stand", []string{"energy-gating", "no-data-gating", "baseline-subtraction", "sample-validity"}, []string{"per-event-joules", "event-channel"}},
}

// uses are what the numbers of a run are wanted for, easiest first (§9.4).
var uses = []statement{
	{"Energy of the whole run", []string{"run-energy"}, []string{"counter-agreement", "counter-monotone", "inputs-readable", "trace-complete"}},
	{"Mean energy of a phase", []string{"events-in-trace", "energy-gating"}, []string{"event-channel", "gap-fraction", "no-throttling"}},
	{"Energy above idle", []string{"idle-baseline", "baseline-subtraction"}, []string{"idle-samples", "sensor-floor"}},
	{"Joules of a single event of 1 s or longer", []string{"per-event-joules", "energy-gating", "continuity-good"}, []string{"event-channel"}},
	{"Steady-state performance", []string{"thermal-equilibrium"}, []string{"no-throttling", "thermal-safety"}},
}

// state judges statements by the run's checks.
func (r *Run) state(all []statement) []Claim {
	var out []Claim
	for _, s := range all {
		out = append(out, r.claim(s))
	}
	return out
}

func (r *Run) claim(s statement) Claim {
	claim := Claim{Title: s.title, Status: Validated, From: []string{}}
	var deciding []Check
	lower := func(to Status, c Check) {
		if slices.Index(statuses, to) > slices.Index(statuses, claim.Status) {
			claim.Status = to
			deciding = nil
		}
		if to == claim.Status {
			deciding = append(deciding, c)
		}
	}
	for _, id := range s.core {
		switch c := r.Check(id); c.Verdict {
		case Fail:
			lower(Failed, c)
		case NotJudged:
			lower(Open, c)
		}
	}
	for _, id := range s.support {
		if c := r.Check(id); c.Verdict == Fail {
			lower(Degraded, c)
		}
	}
	var evidence []string
	if claim.Status == Validated {
		deciding = []Check{r.Check(s.core[0])}
		evidence = []string{deciding[0].Figure}
	}
	for _, c := range deciding {
		claim.Checks = append(claim.Checks, c.ID)
		claim.From = append(claim.From, c.From...)
		if c.Verdict != Pass && !slices.Contains(evidence, c.Reason) {
			evidence = append(evidence, c.Reason)
		}
	}
	slices.Sort(claim.From)
	claim.From = slices.Compact(claim.From)
	claim.Evidence = strings.Join(evidence, "; ")
	return claim
}

// Decision is one line of TR122's production decision rule (§10.5).
type Decision struct {
	If      string `json:"if"`
	Here    string `json:"here"` // what this run has
	Applies bool   `json:"applies"`
	Then    string `json:"then"`
}

func (r *Run) decide() []Decision {
	fake := Decision{If: "`fake_idle_flag` is true", Here: "not measured", Then: "stop, and fix the environment before benchmarking"}
	if len(r.Baselines) > 0 {
		fake.Applies = slices.ContainsFunc(r.Baselines, func(b baseline.Idle) bool { return b.FakeIdle })
		fake.Here = strconv.FormatBool(fake.Applies)
	}
	soak := Decision{If: "the heat soak timed out", Here: "not measured", Then: "cooling may be insufficient: results may include throttling"}
	if len(r.Soaks) > 0 {
		i := slices.IndexFunc(r.Soaks, func(s record.Soak) bool { return s.State == "timeout" })
		soak.Applies = i >= 0
		soak.Here = plain(r.Soaks[max(i, 0)].State)
	}
	continuity := r.Check("continuity-good")
	degraded := Decision{If: "the poller is degraded", Here: "not measured", Applies: continuity.Verdict == Fail, Then: "trust aggregate energy only, not that of events"}
	if continuity.Verdict != NotJudged {
		degraded.Here = continuity.Figure
	}
	return []Decision{fake, soak, degraded}
}

// end says how the run ended and why, in the words of TR122 §3.4.
func (r *Run) end() (state, reason string) {
	ended := func(state string) bool {
		return slices.ContainsFunc(r.Soaks, func(s record.Soak) bool { return s.Final && s.State == state })
	}
	switch {
	case ended("thermal_trip"):
		return "aborted", "thermal_trip"
	case ended("interrupted"):
		return "aborted", "interrupted"
	case ended("timeout"):
		return "timeout", "timeout"
	case r.Trace.File == "":
		return "aborted", "no_trace"
	case r.Trace.Cut != "":
		return "aborted", "trace_cut"
	case ended("equilibrium"):
		return "completed", "equilibrium"
	case r.Check("continuity-good").Verdict == Fail:
		return "completed", "poller_degraded"
	}
	return "completed", "end_of_trace"
}
