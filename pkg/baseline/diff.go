package baseline

import (
	"fmt"
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// Difference is how much more idle power one baseline of a GPU has than another.
type Difference struct {
	GPU         int                 `json:"gpu"`
	BeforeW     float64             `json:"before_watts"`
	BeforeSE    float64             `json:"before_watts_se"`
	AfterW      float64             `json:"after_watts"`
	AfterSE     float64             `json:"after_watts_se"`
	DifferenceW float64             `json:"difference_watts"` // after less before
	CI95W       record.Opt[float64] `json:"ci95_watts,omitzero"`
	Shown       bool                `json:"difference_shown"`
	Verdict     string              `json:"verdict"` // in words
	Differs     []string            `json:"conditions_differ,omitempty"`
	Doubts      []string            `json:"doubts,omitempty"`
}

// Differ says in which respects two baselines are of different things, so that
// a difference of their power would say nothing: another GPU, driver, power
// limit, channel or state. What a file does not say does not differ.
func Differ(before, after Idle) (why []string) {
	var a, b Conditions
	if before.Conditions != nil {
		a = *before.Conditions
	}
	if after.Conditions != nil {
		b = *after.Conditions
	}
	for _, c := range []struct{ what, a, b string }{
		{"GPU", before.UUID, after.UUID},
		{"board", a.Name, b.Name},
		{"driver", a.Driver, b.Driver},
		{"state", before.State, after.State},
		{"channel", before.Channel, after.Channel},
		{"power limit", limit(a), limit(b)},
	} {
		if c.a != "" && c.b != "" && c.a != c.b {
			why = append(why, fmt.Sprintf("%s %s and %s", c.what, c.a, c.b))
		}
	}
	return why
}

func limit(c Conditions) string {
	if w, ok := c.PowerLimitW.Get(); ok {
		return fmt.Sprintf("%g W", w)
	}
	return ""
}

// Compare is the difference of two baselines of one GPU. Its 95 % interval has
// the standard errors of both, drift and ambiguity included, with the degrees
// of freedom of Welch and Satterthwaite. A baseline without a standard error
// leaves it out, and no difference shown.
func Compare(before, after Idle) Difference {
	d := Difference{GPU: after.GPU, Differs: Differ(before, after)}
	d.BeforeW, d.BeforeSE = before.Watts()
	d.AfterW, d.AfterSE = after.Watts()
	d.DifferenceW = d.AfterW - d.BeforeW
	for _, i := range []struct {
		name string
		Idle
	}{{"before", before}, {"after", after}} {
		if i.FakeIdle {
			d.Doubts = append(d.Doubts, i.name+": the GPU was not idle")
		}
		for _, doubt := range i.Doubts {
			d.Doubts = append(d.Doubts, i.name+": "+doubt)
		}
	}
	va, vb := d.BeforeSE*d.BeforeSE, d.AfterSE*d.AfterSE
	if va+vb == 0 {
		d.Verdict = fmt.Sprintf("%+.3g W, of unknown certainty", d.DifferenceW)
		return d
	}
	freedom := (va + vb) * (va + vb) / (va*va/before.freedom() + vb*vb/after.freedom())
	ci := stats.T95(max(1, freedom)) * math.Sqrt(va+vb)
	d.CI95W = record.Some(ci)
	d.Shown = math.Abs(d.DifferenceW) > ci
	d.Verdict = fmt.Sprintf("no difference shown: %+.3g ± %.2g W", d.DifferenceW, ci)
	if d.Shown {
		d.Verdict = fmt.Sprintf("%+.3g ± %.2g W", d.DifferenceW, ci)
	}
	return d
}

// freedom is the degrees of freedom of the standard error.
func (i Idle) freedom() float64 {
	return max(1, i.NEff.Or(float64(i.Samples.Or(math.MaxInt32)))-1)
}
