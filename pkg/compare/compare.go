// Package compare holds runs against one another: two boards to choose between,
// or two builds of which one may be worse. It takes figures with their
// intervals out of runs that package report has read, pairs those that are of
// the same thing, and says of each pair whether a difference is shown. A
// difference that the intervals do not show is not printed as one, and what is
// not comparable is refused, with the reason.
//
// It reads no trace and attributes nothing. Figures are kept in memory, some
// hundred bytes each.
package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/report"
	"joulepipe/pkg/stats"
)

// Side is one of the things compared: a run, or several that are repetitions
// of one another.
type Side struct {
	Name string
	Runs []*report.Run
	Dirs []string // where they were read from; as many as Runs
}

// Options say what a comparison is for.
type Options struct {
	// Regression asks whether a run is worse than the base on the same machine:
	// what is not the same there is refused, and rows may not be missing.
	Regression bool
	// MaxRegression is by how much a figure may be worse, as a share.
	MaxRegression float64
	// FailOn are the metrics that MaxRegression is asked of; none: all.
	FailOn []string
	// Scatter is by how much a figure moves from run to run, one standard
	// deviation as a share, where a side is one run and cannot tell.
	Scatter float64
	// Force compares what would be refused.
	Force bool
}

// DefaultScatter is the Scatter that nobody has measured on the machine at
// hand: idle power and clocks of a board move by some tenths of a per cent with
// its temperature.
const DefaultScatter = 0.005

// Verdict is what became of a pair of figures.
type Verdict string

// The verdicts. Better and Worse need an interval that leaves no difference
// out, and a figure of which it is known which way is better.
const (
	Better      Verdict = "better"
	Worse       Verdict = "worse"
	Differs     Verdict = "differs" // shown, where neither way is better
	NoneShown   Verdict = "no difference shown"
	NotCompared Verdict = "not compared"
)

// Comparison is what there is to say.
type Comparison struct {
	Purpose     string       `json:"purpose"` // selection | regression
	Sides       []About      `json:"sides"`   // the base first
	Differences []Difference `json:"differences"`
	Refusals    []string     `json:"refusals"` // what is not comparable, and why
	Forced      bool         `json:"forced"`   // compared all the same
	Rows        []Row        `json:"rows"`
	Tests       int          `json:"tests"`       // pairs that were held against each other
	Regressions []Regression `json:"regressions"` // beyond what was allowed
	Undecided   int          `json:"undecided"`   // pairs of which such a regression cannot be excluded
	Allowed     *float64     `json:"max_regression,omitempty"`
	Scatter     float64      `json:"run_scatter"`
	Notes       []string     `json:"notes"`

	opts Options
}

// About is what a side is.
type About struct {
	Name      string   `json:"name"`
	Dirs      []string `json:"dirs"`
	RunIDs    []string `json:"run_ids"`
	GPUs      []GPU    `json:"gpus"`
	Simulated bool     `json:"simulated"`
	Doubts    []string `json:"doubts"` // ids of checks by which a run of it does not stand
}

// GPU is what a side ran on.
type GPU struct {
	Index       int                 `json:"gpu"`
	Name        string              `json:"name,omitempty"`
	UUID        string              `json:"uuid,omitempty"`
	Driver      string              `json:"driver,omitempty"`
	PowerLimitW record.Opt[float64] `json:"power_limit_w,omitzero"`
	VRAMTotalMB record.Opt[float64] `json:"vram_total_mb,omitzero"`
}

// Difference is a condition that is not the same on all sides.
type Difference struct {
	What   string   `json:"what"`
	Values []string `json:"values"` // by side; "" where it is not told
}

// Row is one figure on every side.
type Row struct {
	Metric string   `json:"metric"`       // idle-power, joules-per-token, …
	Of     string   `json:"of,omitempty"` // GPU, channel, phase, model, …
	Unit   string   `json:"unit"`
	Better string   `json:"better,omitempty"` // lower | higher; empty: neither
	Values []Value  `json:"values"`           // by side
	Change []Change `json:"changes"`          // of each side but the base
}

// Value is a figure of one side.
type Value struct {
	Value record.Opt[float64] `json:"value,omitzero"`
	CI95  record.Opt[float64] `json:"ci95,omitzero"` // half-width, of what was repeated
	N     int                 `json:"n"`             // repetitions, readings or runs that it is of
	Exact bool                `json:"exact,omitempty"`
	Why   string              `json:"why,omitempty"` // why a value or an interval is absent
}

// Change is a figure of one side against the base.
type Change struct {
	Verdict   Verdict             `json:"verdict"`
	Ratio     record.Opt[float64] `json:"ratio,omitzero"` // over the base
	RatioCI95 []float64           `json:"ratio_ci95,omitempty"`
	Delta     record.Opt[float64] `json:"delta,omitzero"` // less the base, where a ratio says nothing
	DeltaCI95 []float64           `json:"delta_ci95,omitempty"`
	P         record.Opt[float64] `json:"p,omitzero"`       // of a difference as large by chance
	Stands    bool                `json:"stands"`           // also beside all the others that were tested (Holm)
	Reason    string              `json:"reason,omitempty"` // why it is not compared, or what to mind
	worse     float64             // share by which it is worse
	atWorst   float64             // the same at the far end of the interval
}

// Regression is a row that is worse than allowed.
type Regression struct {
	Side   string  `json:"side"`
	Metric string  `json:"metric"`
	Of     string  `json:"of,omitempty"`
	By     float64 `json:"by"` // share of the base
}

// Compare compares sides, of which the first is the base. It is an error when
// they are not comparable at all and opts do not force it: a *RefusedError.
func Compare(sides []Side, opts Options) (*Comparison, error) {
	c := &Comparison{
		Purpose: "selection", Refusals: []string{}, Differences: []Difference{}, Rows: []Row{}, Regressions: []Regression{}, Notes: []string{},
		Forced: opts.Force, Scatter: opts.Scatter, opts: opts,
	}
	if opts.Regression {
		c.Purpose, c.Allowed = "regression", &opts.MaxRegression
	}
	for _, s := range sides {
		c.Sides = append(c.Sides, about(s))
	}
	c.conditions(sides)
	if len(c.Refusals) > 0 && !opts.Force {
		return nil, &RefusedError{c.Refusals}
	}
	c.rows(sides)
	c.family()
	c.judge()
	c.notes(sides)
	return c, nil
}

// RefusedError says why sides are not comparable.
type RefusedError struct{ Reasons []string }

func (e *RefusedError) Error() string { return "not comparable: " + strings.Join(e.Reasons, "; ") }

func (c *Comparison) refuse(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.Refusals, text) {
		c.Refusals = append(c.Refusals, text)
	}
}

// rows pairs the figures of all sides by their keys, in the order of the base.
func (c *Comparison) rows(sides []Side) {
	var tables []map[string]*figure
	var order []string
	near := make([]map[string]string, len(sides))
	for i, s := range sides {
		table, keys := s.figures()
		tables = append(tables, table)
		for _, k := range keys {
			if !slices.Contains(order, k) {
				order = append(order, k)
			}
		}
		if i > 0 {
			near[i] = c.relax(tables[0], table)
		}
	}
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	common := false
	for _, key := range order {
		var any *figure
		row := Row{}
		for _, t := range tables {
			f := t[key]
			if f == nil {
				row.Values = append(row.Values, Value{Why: "not measured"})
				continue
			}
			any = cmp.Or(any, f)
			row.Values = append(row.Values, f.value())
		}
		if any == nil {
			continue // it went to another key
		}
		row.Metric, row.Of, row.Unit, row.Better = any.metric, any.of, any.unit, any.better
		for i := 1; i < len(tables); i++ {
			ch := c.change(tables[0][key], tables[i][key], near[i][key], row, sides[0], sides[i])
			common = common || ch.Verdict != NotCompared
			row.Change = append(row.Change, ch)
		}
		c.Rows = append(c.Rows, row)
	}
	if !common {
		c.refuse("no figure could be held against another")
	}
}

// change is b against the base a. near is what the one has in place of the
// other, where one is nil.
func (c *Comparison) change(a, b *figure, near string, row Row, base, side Side) Change {
	not := func(format string, args ...any) Change {
		return Change{Verdict: NotCompared, Reason: fmt.Sprintf(format, args...)}
	}
	refused := func(format string, args ...any) Change {
		ch := not(format, args...)
		if !c.opts.Force {
			c.refuse("%s: %s", strings.TrimSpace(row.Metric+" "+row.Of), ch.Reason)
		}
		return ch
	}
	if a == nil && b == nil {
		return not("neither %s nor %s has it", base.Name, side.Name)
	}
	if a == nil || b == nil {
		lacking, has := side, base
		if a == nil {
			lacking, has = base, side
		}
		if near != "" {
			return refused("%s", near)
		}
		// What a sensor does may not be told in a run; what was measured of its work must be.
		if c.opts.Regression && b == nil && c.asked(row.Metric) && !strings.HasPrefix(row.Metric, "sensor-") {
			return refused("%s has it and %s has not", has.Name, lacking.Name)
		}
		return not("%s has it and %s has not", has.Name, lacking.Name)
	}
	if c.opts.Regression && a.known && !b.known && c.asked(row.Metric) {
		return refused("%s: %s has it", cmp.Or(b.why, "not measured"), base.Name)
	}
	if why := unlike(a, b); why != "" && !c.opts.Force {
		return refused("%s", why)
	} else if why != "" {
		ch := c.test(a, b, base, side)
		ch.Reason = strings.TrimSuffix("forced: "+why+"; "+ch.Reason, "; ")
		return ch
	}
	if a.bad != "" || b.bad != "" {
		why := cmp.Or(a.bad, b.bad)
		if !c.opts.Force {
			return refused("%s", why)
		}
		ch := c.test(a, b, base, side)
		ch.Reason = strings.TrimSuffix("forced: "+why+"; "+ch.Reason, "; ")
		return ch
	}
	return c.test(a, b, base, side)
}

// test holds two figures against each other.
func (c *Comparison) test(a, b *figure, base, side Side) Change {
	if !a.known || !b.known {
		return Change{Verdict: NotCompared, Reason: cmp.Or(a.why, b.why, "not measured")}
	}
	if a.exact && b.exact {
		ch := Change{Verdict: NoneShown}
		if a.mean != 0 {
			ch.Ratio = record.Some(b.mean / a.mean)
		}
		if math.Abs(b.mean-a.mean) > max(a.se, b.se) {
			ch.Verdict, ch.Stands = direction(a.better, b.mean-a.mean), true
		}
		ch.worse = worseBy(a.better, b.mean, a.mean)
		ch.atWorst = ch.worse
		return ch
	}
	if !a.told || !b.told {
		ch := Change{Verdict: NotCompared, Reason: cmp.Or(a.why, b.why) + ": no interval, so that a difference cannot be told from noise"}
		if c.opts.Force && !a.difference && a.mean > 0 && b.mean > 0 {
			ch.Ratio = record.Some(b.mean / a.mean)
		}
		return ch
	}
	va, fa := c.variance(a, base)
	vb, fb := c.variance(b, side)
	if a.joules && !sameBoards(base, side) && !(simulated(base) && simulated(side)) {
		va, fa = known(va, fa, energy.BoardGain*a.mean)
		vb, fb = known(vb, fb, energy.BoardGain*b.mean)
	}
	if a.difference || a.mean <= 0 || b.mean <= 0 || math.Sqrt(va) > a.mean/2 {
		return conclude(a.better, b.mean-a.mean, va, fa, vb, fb, func(ch *Change, d, half float64) {
			ch.Delta, ch.DeltaCI95 = record.Some(d), []float64{d - half, d + half}
			ch.worse, ch.atWorst = worseBy(a.better, b.mean, a.mean), 0
			if a.mean > 0 {
				ch.atWorst = max(worseBy(a.better, b.mean-half, a.mean), worseBy(a.better, b.mean+half, a.mean))
			}
		})
	}
	va, vb = va/(a.mean*a.mean), vb/(b.mean*b.mean)
	return conclude(a.better, math.Log(b.mean/a.mean), va, fa, vb, fb, func(ch *Change, d, half float64) {
		lo, hi := math.Exp(d-half), math.Exp(d+half)
		ch.Ratio, ch.RatioCI95 = record.Some(math.Exp(d)), []float64{lo, hi}
		ch.worse = worseBy(a.better, math.Exp(d), 1)
		ch.atWorst = max(worseBy(a.better, lo, 1), worseBy(a.better, hi, 1))
	})
}

// variance is that of a figure with what it moves by from run to run, and its
// degrees of freedom.
func (c *Comparison) variance(f *figure, s Side) (v, freedom float64) {
	v, freedom = f.se*f.se, f.freedom
	if len(s.Runs) > 1 || f.difference {
		return v, freedom
	}
	return known(v, freedom, c.opts.Scatter*f.mean)
}

// known adds to an estimated variance one that is taken for known.
func known(v, freedom, sd float64) (float64, float64) {
	sum := v + sd*sd
	if v == 0 {
		return sum, math.Inf(1)
	}
	return sum, freedom * (sum / v) * (sum / v)
}

// conclude is Welch's test of a difference with two variances.
func conclude(better string, d, va, fa, vb, fb float64, say func(ch *Change, d, half float64)) Change {
	ch := Change{Verdict: NoneShown, P: record.Some(1.0)}
	half := 0.0
	if v := va + vb; v > 0 {
		freedom := v * v / (va*va/fa + vb*vb/fb)
		freedom = max(1, min(freedom, 1e6))
		half = stats.T95(freedom) * math.Sqrt(v)
		ch.P.V = stats.FTail(d*d/v, 1, freedom)
	} else if d != 0 {
		ch.P.V = 0
	}
	say(&ch, d, half)
	if math.Abs(d) > half {
		ch.Verdict = direction(better, d)
	}
	return ch
}

// direction is the verdict on a difference that is shown.
func direction(better string, d float64) Verdict {
	switch {
	case better == "":
		return Differs
	case (d < 0) == (better == lower):
		return Better
	}
	return Worse
}

// worseBy is the share of the base by which a figure is worse; below 0 it is
// better.
func worseBy(better string, x, base float64) float64 {
	if better == "" || base == 0 {
		return 0
	}
	if better == higher {
		return (base - x) / math.Abs(base)
	}
	return (x - base) / math.Abs(base)
}

// family marks the differences that stand beside all that were tested, by
// Holm's procedure at 5 %.
func (c *Comparison) family() {
	var tests []*Change
	for i := range c.Rows {
		for k := range c.Rows[i].Change {
			if ch := &c.Rows[i].Change[k]; ch.P.OK {
				tests = append(tests, ch)
			}
		}
	}
	slices.SortStableFunc(tests, func(a, b *Change) int { return cmp.Compare(a.P.V, b.P.V) })
	c.Tests = len(tests)
	for i, ch := range tests {
		if ch.P.V*float64(len(tests)-i) > 0.05 {
			break
		}
		ch.Stands = true
	}
}

// asked says whether a metric may fail the comparison.
func (c *Comparison) asked(metric string) bool {
	return len(c.opts.FailOn) == 0 || slices.Contains(c.opts.FailOn, metric)
}

// judge finds the regressions that are not allowed.
func (c *Comparison) judge() {
	if !c.opts.Regression {
		return
	}
	for _, row := range c.Rows {
		if !c.asked(row.Metric) || row.Better == "" {
			continue
		}
		for k, ch := range row.Change {
			switch {
			case ch.Verdict == NotCompared:
			case ch.Verdict == Worse && ch.Stands && ch.worse > c.opts.MaxRegression:
				c.Regressions = append(c.Regressions, Regression{c.Sides[k+1].Name, row.Metric, row.Of, ch.worse})
			case ch.atWorst > c.opts.MaxRegression:
				c.Undecided++
			}
		}
	}
}

// notes are what a reader must know of all rows.
func (c *Comparison) notes(sides []Side) {
	say := func(format string, args ...any) { c.Notes = append(c.Notes, fmt.Sprintf(format, args...)) }
	if c.Tests > 1 {
		say("%d pairs were tested at 95 %%: some %.2g of them differ by chance alone. Those marked * stand beside all the others (Holm, 5 %%).", c.Tests, 0.05*float64(c.Tests))
	}
	single := slices.ContainsFunc(sides, func(s Side) bool { return len(s.Runs) == 1 })
	if single && c.opts.Scatter > 0 {
		say("A run cannot tell how far its figures move from run to run: %.2g %% (one standard deviation) is taken for it. Repetitions would tell: A1,A2,A3.", 100*c.opts.Scatter)
	} else if single {
		say("Intervals are of repetitions within a run. From run to run figures move further; repetitions would tell: A1,A2,A3.")
	}
	for _, s := range sides[1:] {
		if !sameBoards(sides[0], s) && !(simulated(sides[0]) && simulated(s)) {
			say("%s and %s are different boards: watts and joules carry ±%.2g %% each for the calibration of their sensors (one standard deviation).", sides[0].Name, s.Name, 100*energy.BoardGain)
		}
	}
	if c.Undecided > 0 {
		say("Of %d pairs a regression of more than %.3g %% is not shown and cannot be excluded: repeat more.", c.Undecided, 100*c.opts.MaxRegression)
	}
	if c.Forced && len(c.Refusals) > 0 {
		say("Compared by force, though %s.", strings.Join(c.Refusals, "; "))
	}
}
