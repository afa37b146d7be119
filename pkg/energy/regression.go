package energy

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// design is the events of a group that have the same tokens; past maxDesigns,
// about the same.
type design struct {
	key
	input, output, context float64 // tokens, on average

	n            int
	mean, m2     float64 // of the joules, and the sum of squares about it
	variance     float64 // J², of the events' own noise, added up
	systematic   float64 // J, one standard deviation, added up
	withInterval int
}

// key is the tokens of a design.
type key struct {
	input, output int64
	coarse        bool // in quarters of an octave
}

// designs are those of a group. What a regression needs of the events is all
// here, so that the events need not be kept.
type designs struct {
	list   []*design
	index  map[key]*design
	missed int // events without a place
}

// maxDesigns bounds the designs of all groups together. Then come as many
// coarse ones: a mean over neighbouring tokens is still an observation, only
// its scatter is no longer that of repetitions.
const maxDesigns = 1 << 14

// add takes in an event. held is how many designs there are in all groups.
func (d *designs) add(input, output int64, batch float64, joules float64, own spread, held *int) {
	if input < 0 || output < 0 || input+output == 0 {
		return
	}
	at := d.index[key{input, output, false}]
	if at == nil {
		k := key{input: input, output: output}
		if *held >= maxDesigns {
			k = key{quarterOctave(input), quarterOctave(output), true}
		}
		if at = d.index[k]; at == nil {
			if *held >= 2*maxDesigns {
				d.missed++
				return
			}
			if d.index == nil {
				d.index = map[key]*design{}
			}
			at = &design{key: k}
			d.index[k] = at
			d.list = append(d.list, at)
			*held++
		}
	}
	at.n++
	n, in, out := float64(at.n), float64(input), float64(output)
	at.input += (in - at.input) / n
	at.output += (out - at.output) / n
	at.context += ((in*out+out*out/2)/batch - at.context) / n
	delta := joules - at.mean
	at.mean += delta / n
	at.m2 += delta * (joules - at.mean)
	at.systematic += own.systematic
	if own.told {
		at.withInterval++
		at.variance += own.variance
	}
}

func quarterOctave(tokens int64) int64 {
	if tokens == 0 {
		return 0
	}
	return 1 + int64(4*math.Log2(float64(tokens)))
}

// tokens is what [tokens] is for the design's events, on average.
func (d *design) tokens() float64 {
	if d.output > 0 {
		return d.output
	}
	return d.input
}

// problem is a fit of the designs' joules to terms.
type problem struct {
	designs []*design
	terms   [][]float64 // by term, of each design

	variance []float64 // J², of an event of each design; of 1 where nothing tells
	told     bool      // the events' own intervals did
}

// count is the events, and how many of them can scatter about the fit: of a
// coarse design only the mean can.
func (p *problem) count() (events, free int) {
	for _, d := range p.designs {
		events += d.n
		if free++; !d.coarse {
			free += d.n - 1
		}
	}
	return events, free
}

// weigh finds the variance of an event of each design: its own noise, and what
// lies between events beside (Paule and Mandel 1982: so much that the residuals
// come out as large as their variances). Where events have no intervals all
// have the same variance, whatever it is.
func (p *problem) weigh() (ok bool) {
	p.told = true
	p.variance = make([]float64, len(p.designs))
	own := make([]float64, len(p.designs))
	for i, d := range p.designs {
		p.variance[i] = 1
		own[i] = d.variance / float64(d.n)
		p.told = p.told && d.withInterval == d.n && own[i] > 0
	}
	if !p.told {
		_, ok = p.solve()
		return ok
	}
	excess := func(between float64) float64 {
		for i, v := range own {
			p.variance[i] = v + between
		}
		var s solved
		s, ok = p.solve()
		return s.chi2() - s.free
	}
	if excess(0) <= 0 || !ok {
		return ok
	}
	low, high := 0.0, slices.Max(own)
	for excess(high) > 0 {
		low, high = high, 4*high
	}
	for high-low > 1e-3*high {
		if middle := (low + high) / 2; excess(middle) > 0 {
			low = middle
		} else {
			high = middle
		}
	}
	excess(high)
	return ok
}

// solved is a problem's solution.
type solved struct {
	stats.Regression
	free     float64 // degrees of freedom
	pure     float64 // sum of squares of repetitions about their means, over their variances
	pureFree int
}

// chi2 is the sum of squares about the fit, over the variances.
func (s *solved) chi2() float64 { return s.Residual + s.pure }

// solve fits the terms to the designs' means; their scatter within comes on
// top.
func (p *problem) solve() (s solved, ok bool) {
	mean, weights := make([]float64, len(p.designs)), p.weights()
	for i, d := range p.designs {
		mean[i] = d.mean
		if !d.coarse {
			s.pure += d.m2 / p.variance[i]
			s.pureFree += d.n - 1
		}
	}
	_, free := p.count()
	s.free = float64(free - len(p.terms))
	s.Regression, ok = stats.Regress(p.terms, mean, weights)
	return s, ok
}

func (p *problem) weights() []float64 {
	w := make([]float64, len(p.designs))
	for i, d := range p.designs {
		w[i] = float64(d.n) / p.variance[i]
	}
	return w
}

// halfWidths are of the coefficients' 95 % intervals. An error that all events
// share moves the coefficients as if it were joules of the events.
func (p *problem) halfWidths(s *solved) []float64 {
	shared := make([]float64, len(p.designs))
	for i, d := range p.designs {
		shared[i] = d.systematic / float64(d.n)
	}
	moved, _ := stats.Regress(p.terms, shared, p.weights())
	scale := s.chi2() / s.free
	if p.told {
		scale = max(1, scale)
	}
	half := make([]float64, len(p.terms))
	for j := range half {
		half[j] = halfWidth(math.Sqrt(scale*s.Covariance.At(j, j)), s.free, moved.Coefficients[j])
	}
	return half
}

// lack is the test of the form of the fit, nil where there are no repetitions
// or no designs to spare.
func (p *problem) lack(s *solved) *record.LackOfFit {
	free := len(p.designs) - len(p.terms)
	if free < 1 || s.pureFree < 1 || !(s.pure > p.rounding()) {
		return nil
	}
	f := s.Residual / float64(free) / (s.pure / float64(s.pureFree))
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil
	}
	return &record.LackOfFit{F: f, Freedom: free, PureFreedom: s.pureFree, P: stats.FTail(f, float64(free), float64(s.pureFree))}
}

// rounding is a sum of squares that may be nothing but errors of arithmetic.
func (p *problem) rounding() (sum float64) {
	for i, d := range p.designs {
		sum += 1e-20 * float64(d.n) * d.mean * d.mean / p.variance[i]
	}
	return sum
}

// aicc is Akaike's criterion, corrected for few observations; the lower the
// better.
func (p *problem) aicc() float64 {
	s, ok := p.solve()
	n, k := s.free+float64(len(p.terms)), float64(len(p.terms)+1)
	if !ok || n <= k+1 {
		return math.Inf(1)
	}
	return n*math.Log(max(s.chi2(), p.rounding())/n) + 2*k + 2*k*(k+1)/(n-k-1)
}

// term is a column of the designs and where its coefficient goes.
type term struct {
	name     string
	of       func(*design) float64
	joules   *opt
	interval *opt
}

// regress fits the group's joules to its tokens; nil where there is nothing to
// fit.
func (g *group) regress() *record.Regression {
	p := &problem{designs: g.designs.list}
	events, free := p.count()
	if events < 2 {
		return nil
	}
	r := &record.Regression{Fit: fitOf(p, g.designs.missed)}
	why := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	terms, same := g.terms(r)
	switch {
	case len(terms) == 1 && same == "":
		why("no event has output tokens")
		return r
	case len(terms) == 1:
		why("every event has %s: what a token takes needs events of several lengths", same)
		return r
	case same != "":
		terms[0].joules, terms[0].interval = nil, nil
		why("every event has %s: what they take cannot be told from what is fixed, which is left out", same)
	}
	if free < 3+len(terms) {
		why("%s", tooFew(free, len(terms)))
		return r
	}
	p.use(terms)
	if !p.weigh() {
		why("input and output tokens go in step: only events that vary them apart tell what each takes")
		return r
	}
	s, _ := p.solve()
	half := p.halfWidths(&s)
	context := term{"joules_per_context_token", func(d *design) float64 { return d.context }, &r.ContextJ, &r.ContextCI95J}
	wide := &problem{designs: p.designs}
	wide.use(append(slices.Clone(terms), context))
	if free >= 3+len(wide.terms) && wide.weigh() {
		without := s.Coefficients
		with, _ := wide.solve()
		odds := wide.odds(p.terms)
		if odds > 1 {
			p, s, half, terms = wide, with, wide.halfWidths(&with), append(terms, context)
		}
		// The form that was not taken may be the right one, and a coefficient
		// off by what lies between the two (Buckland, Burnham and Augustin 1997).
		doubt := 1 / (1 + max(odds, 1/odds))
		for j := range without {
			half[j] = math.Hypot(half[j], stats.Z95*math.Sqrt(doubt)*(with.Coefficients[j]-without[j]))
		}
	}
	p.conclude(&r.Fit, &s, terms, half)
	return r
}

// terms are those that the group's events can tell, the fixed one first, and
// which tokens all events have as many of.
func (g *group) terms(r *record.Regression) (terms []term, same string) {
	terms = []term{{"fixed_joules", func(*design) float64 { return 1 }, &r.FixedJ, &r.FixedCI95J}}
	tokens := []term{
		{"joules_per_input_token", func(d *design) float64 { return d.input }, &r.InputJ, &r.InputCI95J},
		{"joules_per_output_token", func(d *design) float64 { return d.output }, &r.OutputJ, &r.OutputCI95J},
	}
	names := []string{"input tokens", "output tokens"}
	if g.Phase == phaseDecode {
		tokens, names = tokens[1:], names[1:]
	}
	var alike []string
	for i, t := range tokens {
		switch low, high := extent(g.designs.list, t.of); {
		case low < high:
			terms = append(terms, t)
		case high > 0:
			alike = append(alike, fmt.Sprintf("%.0f %s", high, names[i]))
		}
	}
	return terms, strings.Join(alike, " and ")
}

// odds are how much likelier p is than p with those terms instead, by Akaike's
// criterion (AICc); both have p's variances, or they were not comparable.
func (p *problem) odds(terms [][]float64) float64 {
	other := &problem{designs: p.designs, terms: terms, variance: p.variance, told: p.told}
	return math.Exp((other.aicc() - p.aicc()) / 2)
}

func (p *problem) use(terms []term) {
	p.terms = make([][]float64, len(terms))
	for j, t := range terms {
		for _, d := range p.designs {
			p.terms[j] = append(p.terms[j], t.of(d))
		}
	}
}

func extent(list []*design, of func(*design) float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, d := range list {
		low, high = min(low, of(d)), max(high, of(d))
	}
	return low, high
}

func tooFew(n, coefficients int) string {
	return fmt.Sprintf("%d observations, %d are needed for %d coefficients", n, 3+coefficients, coefficients)
}

// fitOf is what is known of a fit before it is made.
func fitOf(p *problem, missed int) record.Fit {
	f := record.Fit{Designs: len(p.designs)}
	f.Observations, _ = p.count()
	if missed > 0 {
		f.Reasons = append(f.Reasons, fmt.Sprintf("%d events are left out: more different tokens than can be held", missed))
	}
	return f
}

// conclude puts the coefficients where they belong, with the doubts about them.
func (p *problem) conclude(f *record.Fit, s *solved, terms []term, half []float64) {
	why := func(format string, args ...any) { f.Reasons = append(f.Reasons, fmt.Sprintf(format, args...)) }
	for i, t := range terms {
		if t.joules == nil {
			continue
		}
		joules, half := s.Coefficients[i], half[i]
		*t.joules, *t.interval = some(joules), some(half)
		switch {
		case math.Abs(joules) <= half:
			why("%s is consistent with 0", t.name)
		case joules < 0:
			why("%s is below 0, beyond its interval: the form of the fit is wrong", t.name)
		}
	}
	f.LackOfFit = p.lack(s)
	if l := f.LackOfFit; l != nil && l.P < 0.05 {
		why("the means of repetitions lie farther from the fit than repetitions scatter (F(%d, %d) = %.3g, p = %.2g): the form of the fit is wrong", l.Freedom, l.PureFreedom, l.F, l.P)
	}
}

// jouleCurve fits the energy of the groups of one phase and model to their
// batch sizes; nil where there are not two sizes with tokens.
func jouleCurve(groups []*group) *record.JouleCurve {
	c := &record.JouleCurve{}
	p := &problem{}
	var steps, all []float64
	missed := 0
	for _, g := range groups {
		if len(g.designs.list) == 0 {
			continue
		}
		b := g.batch()
		c.BatchSizes = append(c.BatchSizes, int(b))
		missed += g.designs.missed
		for _, d := range g.designs.list {
			p.designs = append(p.designs, d)
			steps, all = append(steps, d.tokens()/b), append(all, d.tokens())
		}
	}
	if len(c.BatchSizes) < 2 {
		return nil
	}
	slices.Sort(c.BatchSizes)
	c.Fit = fitOf(p, missed)
	p.terms = [][]float64{steps, all}
	if _, free := p.count(); free < 3+len(p.terms) {
		c.Reasons = append(c.Reasons, tooFew(free, len(p.terms)))
		return c
	}
	if !p.weigh() {
		c.Reasons = append(c.Reasons, "the batch sizes do not tell a step from a token")
		return c
	}
	s, _ := p.solve()
	p.conclude(&c.Fit, &s, []term{
		{name: "joules_per_step", joules: &c.StepJ, interval: &c.StepCI95J},
		{name: "joules_per_token", joules: &c.TokenJ, interval: &c.TokenCI95J},
	}, p.halfWidths(&s))
	if n := steps[0]; slices.Min(steps) == slices.Max(steps) {
		c.FixedJ, c.FixedCI95J = some(n*c.StepJ.V), some(n*c.StepCI95J.V)
	}
	return c
}

// curves are summaries over the batch sizes of each phase and model that has
// several.
func curves(groups []*group) (out []*record.Summary) {
	type work struct{ phase, model string }
	of := map[work][]*group{}
	var order []work
	for _, g := range groups {
		if g.BatchSize.Or(0) < 1 {
			continue
		}
		w := work{g.Phase, g.Model}
		if of[w] == nil {
			order = append(order, w)
		}
		of[w] = append(of[w], g)
	}
	for _, w := range order {
		c := jouleCurve(of[w])
		if c == nil {
			continue
		}
		s := &record.Summary{Phase: w.phase, Model: w.model, Over: "batch_size", Method: of[w][0].Method, JouleCurve: c}
		for _, g := range of[w] {
			s.Events += g.Events
			s.WithEnergy += g.WithEnergy
			s.DurationS += g.DurationS
		}
		out = append(out, s)
	}
	return out
}
