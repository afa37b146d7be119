package recording

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// eventsShown is how many events are told one by one.
const eventsShown = 20

// Text writes the assessment for people: what can be got out of the recording
// first, why after it.
func (a *Assessment) Text(w io.Writer) error {
	var b strings.Builder
	for i, g := range a.GPUs {
		if i > 0 {
			b.WriteString("\n")
		}
		g.text(&b)
	}
	if a.BadLines > 0 {
		fmt.Fprintf(&b, "\n%d lines could not be read\n", a.BadLines)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (g *GPU) text(b *strings.Builder) {
	say := func(indent int, format string, args ...any) {
		fmt.Fprintf(b, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, args...))
	}
	name := fmt.Sprintf("GPU %d", g.GPU)
	if g.Name != "" {
		name += ", " + line(g.Name)
	}
	say(0, "%s: what this recording is good for", name)
	g.answer(say)
	if len(g.Events) > 0 {
		n := g.Tiers()
		var parts []string
		for _, tier := range slices.Backward(tiers) {
			if n[tier] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n[tier], tier))
			}
		}
		say(1, "its %d events: %s", len(g.Events), strings.Join(parts, ", "))
	}
	say(0, "Sensors")
	for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
		c := g.Channels[name]
		text := fmt.Sprintf("%s: %s (%s)", name, c.Class, c.Confidence)
		if c.Class == sensor.Unknown {
			text = name + ": unknown"
		}
		if ms, ok := c.WindowMS.Get(); ok {
			text += fmt.Sprintf(", a mean over about %.2g s", ms/1e3)
		}
		if u, ok := c.UpdateMS.Get(); ok {
			text += fmt.Sprintf(", a new value every %.4g ms", u)
		} else {
			text += ", how often it updates is not seen"
		}
		say(1, "%s; %.0f %% of the reads repeat the one before", text, 100*c.Held)
		for _, e := range c.Evidence {
			say(2, "- %s", e)
		}
	}
	if n := g.Counter.Readings; n > 0 {
		say(1, "energy counter: %d readings", n)
	} else {
		say(1, "energy counter: none")
	}
	g.pollText(say)
	i := &g.Idle
	say(0, "Idle")
	if v, ok := i.Watts.Get(); ok {
		say(1, "%.1f %% of the time (%.0f s), by %s: %.4g ± %.2g W (%s)", 100*i.Share, i.Seconds, i.By, v, i.CI95.Or(math.NaN()), i.Confidence)
	} else {
		say(1, "not told")
	}
	for _, d := range i.Doubts {
		say(2, "- %s", d)
	}
	if len(g.Warnings) > 0 {
		say(0, "Mind that")
	}
	for _, w := range g.Warnings {
		say(1, "- %s", w)
	}
	if len(g.Events) > 0 {
		say(0, "Events")
	}
	for k, e := range g.Events {
		if k == eventsShown {
			say(1, "and %d more (--json has all)", len(g.Events)-k)
			break
		}
		text := fmt.Sprintf("%s, %.3g s: %s", line(e.ID+" "+e.Phase), e.Seconds, e.Tier)
		if v, ok := e.Joules.Get(); ok {
			text += fmt.Sprintf(", %.4g J", v)
			if ci, ok := e.CI95.Get(); ok {
				text += fmt.Sprintf(" ± %.2g", ci)
			}
		}
		if len(e.Reasons) > 0 {
			text += ": " + line(strings.Join(e.Reasons, "; "))
		}
		say(1, "%s", text)
	}
}

// answer says from what length on events are good for what.
func (g *GPU) answer(say func(indent int, format string, args ...any)) {
	b := g.Billing
	if b == nil || len(b.Rungs) == 0 {
		say(1, "nothing: too few readings")
		return
	}
	shortest, said := math.Inf(1), false
	for _, k := range []struct {
		tier string
		from record.Opt[float64]
	}{{energy.Billable, b.BillableS}, {energy.Analysis, b.AnalysisS}, {energy.Estimate, b.EstimateS}} {
		if s, ok := k.from.Get(); ok && s < shortest {
			say(1, "events of %g s and longer: %s", s, k.tier)
			shortest, said = s, true
		}
	}
	because := ""
	for _, r := range b.Rungs {
		if r.Tier == energy.Refused && r.Why != "" && r.Seconds < shortest {
			because = ", because " + r.Why
		}
	}
	switch {
	case !said:
		say(1, "events up to %g s: nothing%s", b.Rungs[len(b.Rungs)-1].Seconds, because)
	case shortest > b.Rungs[0].Seconds:
		say(1, "below %g s: nothing%s", shortest, because)
	}
	if !b.BillableS.OK && said {
		say(1, "none that was tried is billable")
	}
	say(1, "by a trial of known work of %g to %g s through this recording's readings: %s", b.Rungs[0].Seconds, b.Rungs[len(b.Rungs)-1].Seconds, b.Assumed)
	if edge, ok := b.Edge.Get(); ok {
		say(1, "and by the %d stretches of work that its own power shows: their ends are known to %.2g s", b.Stretches, edge)
	}
	say(1, "the calibration of the board's own sensor, some %.2g %%, is in all of it", 100*energy.BoardGain)
}

func (g *GPU) pollText(say func(indent int, format string, args ...any)) {
	p := &g.Polls
	if p.Reads == 0 {
		return
	}
	say(0, "Polls")
	ms, ok := p.PeriodMS.Get()
	if !ok {
		say(1, "one sample")
		return
	}
	text := fmt.Sprintf("%d samples over %.4g s, every %.4g ms (95 %% within %.4g ms, jitter %.2g %%)", p.Reads, g.DurationS, ms, p.P95MS.V, 100*p.Jitter.V)
	if grain, ok := p.GrainMS.Get(); ok && grain >= 1 {
		text += fmt.Sprintf(", times to %g ms", grain)
	}
	say(1, "%s", text)
	how := "by their spacing"
	if p.Ticked {
		how = "by their numbers"
	}
	say(1, "%d missing (%s), %d gaps above %g s, the longest spacing %.3g s", p.Dropped, how, p.Gaps, gapS, p.MaxGapS)
}

// line makes one line of printable characters of what stood in a file.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:199]) + "…"
	}
	return strings.TrimSpace(s)
}
