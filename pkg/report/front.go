package report

import (
	"fmt"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

// Front is what a reader sees first: whether the numbers of a run can be used,
// for what, the three that matter, and what to do first.
type Front struct {
	Use     string      `json:"use"`    // billing | analysis | nothing
	Answer  string      `json:"answer"` // the same in words
	Because string      `json:"because"`
	Figures []KeyFigure `json:"figures"`
	First   string      `json:"first,omitempty"` // what to do first, as Markdown; empty: nothing
}

// KeyFigure is a number that matters.
type KeyFigure struct {
	Name  string   `json:"name"`
	Value string   `json:"value"` // – where it was not measured
	Unit  string   `json:"unit,omitempty"`
	Note  string   `json:"note"` // of what it is, or why it is missing
	From  []string `json:"from"`
}

// What numbers can be used for, best first.
const (
	Billing  = "billing"
	Analysis = "analysis"
	Useless  = "nothing"
)

// The places of what the answer goes by in uses.
const (
	useRun = iota
	usePhase
	useIdle
	useEvent
	useSteady
)

// forFront concludes what the run is good for from its uses: for billing, when
// the energy of the run, of its phases and of its longer events all stand; for
// analysis, when that of the run or of its phases does, if with a reservation.
func (r *Run) forFront() *Front {
	f := &Front{Figures: []KeyFigure{r.runFigure(), r.tokenFigure(), r.idleFigure()}}
	whole, phase, single := r.Uses[useRun], r.Uses[usePhase], r.Uses[useEvent]
	holds := func(c Claim) bool { return c.Status == Validated || c.Status == Degraded }
	var why []string
	lacking := func(uses ...Claim) {
		for _, c := range uses {
			if c.Status != Validated {
				why = append(why, fmt.Sprintf("%s: %s", c.Title, c.Evidence))
			}
		}
	}
	switch {
	case whole.Status == Validated && phase.Status == Validated && single.Status == Validated:
		f.Use, f.Answer = Billing, "These numbers can be used for billing."
		why = append(why, "The energy of the run, of its phases and of its events of 1 s or longer stands, by the board's own sensor")
		lacking(r.Uses[useIdle], r.Uses[useSteady])
	case holds(whole) || holds(phase):
		f.Use, f.Answer = Analysis, "These numbers can be used for analysis, not for billing."
		lacking(whole, phase, single)
	default:
		f.Use, f.Answer = Useless, "These numbers can be used for nothing yet."
		lacking(whole, phase)
	}
	if r.Trace.Simulated() {
		f.Answer = "These numbers can be used for nothing: the device was simulated."
		why = slices.Insert(why, 0, "Of a GPU they would be good for "+f.Use)
		f.Use = Useless
	}
	if what := r.doubted(); what != "" {
		why = append(why, "In all, "+what)
	}
	f.Because = line(strings.Join(why, ". ")+".", 4*sentenceLength)
	f.First = r.first(whole, phase, single)
	return f
}

// first is what there is to do first: about the first use that does not stand, and
// else what comes first of all.
func (r *Run) first(uses ...Claim) string {
	steps := r.steps()
	for _, c := range uses {
		for _, s := range steps {
			if c.Status != Validated && slices.ContainsFunc(s.ids, func(id string) bool { return slices.Contains(c.Checks, id) }) {
				return s.words()
			}
		}
	}
	if len(steps) > 0 {
		return steps[0].words()
	}
	return ""
}

func (r *Run) runFigure() KeyFigure {
	k := KeyFigure{Name: "Energy of the run", Value: absent, From: []string{}}
	if len(r.Costs) == 0 {
		k.Note = "not measured: " + r.Check("run-energy").Reason
		return k
	}
	sum, watts := 0.0, 0.0
	longest := 0.0
	channels := map[string]bool{}
	for _, c := range r.Costs {
		sum += c.Joules
		watts += c.Joules / c.Seconds
		longest = max(longest, c.Seconds)
		channels[c.Channel] = true
	}
	k.Value, k.Unit, _ = strings.Cut(joules(sum), " ")
	whose := fmt.Sprintf("GPU %d", r.Costs[0].GPU)
	if len(r.Costs) > 1 {
		whose = plural(len(r.Costs), "GPU")
	}
	by := strings.TrimPrefix(channelNames[r.Costs[0].Channel], "the ")
	if len(channels) > 1 {
		by = "channels"
	}
	k.Note = fmt.Sprintf("%s, %s W on average over %s, by the %s", whose, figure(watts), span(longest), strings.ReplaceAll(by, "`", ""))
	k.From = append(k.From, r.Trace.File)
	return k
}

// tokenFigure is what a token took, of the model whose decodes took most energy;
// where nothing was decoded, of what has tokens.
func (r *Run) tokenFigure() KeyFigure {
	k := KeyFigure{Name: "Energy per token", Value: absent, From: []string{}}
	best := -1
	rank := func(s *record.Summary) float64 {
		x := s.EnergyTotalJ.Or(0)
		if s.Phase == "decode" {
			x += 1e18
		}
		return x
	}
	for i := range r.Summaries {
		if s := &r.Summaries[i]; s.JoulesPerToken.OK && (best < 0 || rank(s) > rank(&r.Summaries[best])) {
			best = i
		}
	}
	if best < 0 {
		k.Note = "not measured: " + r.tokenless()
		return k
	}
	of := &r.Summaries[best]
	least, most := of, of
	for i := range r.Summaries {
		s := &r.Summaries[i]
		if s.Phase != of.Phase || s.Model != of.Model || !s.JoulesPerToken.OK {
			continue
		}
		if s.JoulesPerToken.V < least.JoulesPerToken.V {
			least = s
		}
		if s.JoulesPerToken.V > most.JoulesPerToken.V {
			most = s
		}
	}
	k.Value, k.Unit = figure(least.JoulesPerToken.V), "J"
	name := strings.TrimSpace(plain(of.Phase) + " " + plain(of.Model))
	if least != most {
		k.Value += "–" + figure(most.JoulesPerToken.V)
		if a, ok := least.BatchSize.Get(); ok {
			name += fmt.Sprintf(", batch %d to %d", a, most.BatchSize.Or(0))
		}
	} else if b, ok := of.BatchSize.Get(); ok {
		name += fmt.Sprintf(", batch %d", b)
	}
	k.Note = name + ", idle power included"
	if w, ok := of.PerTokenCI95J.Get(); ok && least == most {
		k.Note += ", ± " + figure(w) + " J"
	}
	k.From = append(k.From, r.events())
	return k
}

// tokenless says why there are no joules per token.
func (r *Run) tokenless() string {
	switch {
	case r.events() == "":
		return "no events"
	case !r.Attributed:
		return "no event in " + r.events() + " has joules"
	}
	return "no event with joules has tokens"
}

func (r *Run) idleFigure() KeyFigure {
	k := KeyFigure{Name: "Idle power", Value: absent, From: []string{}}
	if len(r.Baselines) == 0 {
		k.Note = "not measured: " + r.Check("idle-baseline").Reason
		return k
	}
	b := r.Baselines[0]
	k.Value, k.Unit, k.From = trimmed(b.MeanW), "W", append(k.From, r.files[idleFile])
	k.Note = fmt.Sprintf("GPU %d", b.GPU)
	if se, ok := b.SEMEffW.Get(); ok {
		k.Note += ", ± " + trimmed(1.96*se) + " W"
	}
	if s, ok := b.DurationS.Get(); ok {
		k.Note += ", over " + span(s)
	}
	if b.FakeIdle {
		k.Note += "; the GPU was not idle"
	}
	if len(r.Baselines) > 1 {
		k.Note += fmt.Sprintf("; %d GPUs in all", len(r.Baselines))
	}
	return k
}
