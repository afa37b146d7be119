package energy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// truth is the coefficients that events are made with.
type truth struct{ fixed, input, output, context, square float64 }

func (c truth) joules(batch, input, output int64) float64 {
	b, in, out := float64(batch), float64(input), float64(output)
	sum := c.fixed + c.input*in + c.output*out
	for i := range int(out / b) { // each generated token looks back on those before it
		sum += c.context * (in/b + float64(i) + 0.5) * b
	}
	return sum + c.square*out*out
}

// grid is events of several lengths, each so many times.
func grid(times int, make func(input, output int64) repetition) (events []repetition) {
	for range times {
		for _, input := range []int64{64, 256, 1024} {
			for _, output := range []int64{16, 64, 128, 256} {
				events = append(events, make(input, output))
			}
		}
	}
	return events
}

func TestRegressionExact(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		phase string
		batch int64
		truth truth
	}{
		{"linear", "generate", 1, truth{fixed: 3, input: 0.01, output: 0.5}},
		{"no fixed part", "generate", 1, truth{input: 0.01, output: 0.5}},
		{"below 0", "generate", 1, truth{fixed: -2, input: 0.01, output: 0.5}},
		{"context", "generate", 1, truth{fixed: 3, input: 0.01, output: 0.5, context: 1e-3}},
		{"context of a batch", "generate", 4, truth{fixed: 3, input: 0.01, output: 0.5, context: 1e-3}},
		{"a decode's prompt", "decode", 2, truth{fixed: 3, output: 0.5, context: 1e-3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			s := summaries(t, Options{}, grid(4, func(input, output int64) repetition {
				return repetition{phase: c.phase, batch: c.batch, input: input, output: output, joules: c.truth.joules(c.batch, input, output) + 1e-7*rng.NormFloat64()}
			})...)
			r := s[fmt.Sprintf("%s/%d", c.phase, c.batch)].Regression
			if r == nil || r.Observations != 48 || r.Designs != 12 {
				t.Fatalf("%+v", r)
			}
			for name, v := range map[string]struct {
				want, within float64
				got          opt
			}{
				"fixed": {c.truth.fixed, 1e-6, r.FixedJ}, "input": {c.truth.input, 1e-9, r.InputJ},
				"output": {c.truth.output, 1e-8, r.OutputJ}, "context": {c.truth.context, 1e-10, r.ContextJ},
			} {
				if absent := v.want == 0 && name != "fixed"; v.got.OK == absent && name != "context" || math.Abs(v.got.V-v.want) > v.within {
					t.Errorf("%s: %v, want %g", name, v.got, v.want)
				}
			}
			if c.truth.context != 0 && !r.ContextJ.OK {
				t.Error("no context term")
			}
			if v := r.FixedJ.V < 0; v != strings.Contains(strings.Join(r.Reasons, ";"), "fixed_joules is below 0, beyond") {
				t.Errorf("fixed %g: %q", r.FixedJ.V, r.Reasons)
			}
		})
	}
}

// What the events cannot tell is not told.
func TestRegressionRefuses(t *testing.T) {
	t.Parallel()
	same := func(n int, input, output int64) (events []repetition) {
		for i := range n {
			events = append(events, repetition{phase: "x", input: input, output: output, joules: 10 + float64(i)})
		}
		return events
	}
	steps := func(n int, input, output func(i int64) int64) (events []repetition) {
		for i := range int64(n) {
			events = append(events, repetition{phase: "x", input: input(i), output: output(i), joules: 3 + float64(input(i)) + 2*float64(output(i)) + 0.1*float64(i%3)})
		}
		return events
	}
	linear := func(a, b int64) func(int64) int64 { return func(i int64) int64 { return a + b*i } }
	for _, c := range []struct {
		name   string
		events []repetition
		reason string // "": no regression at all
	}{
		{"no tokens", []repetition{{phase: "x", joules: 1}, {phase: "x", joules: 2}}, ""},
		{"one event", same(1, 8, 64), ""},
		{"all alike", same(9, 8, 64), "every event has 8 input tokens and 64 output tokens"},
		{"a prefill's, all alike", same(9, 8, 0), "every event has 8 input tokens: what a token takes needs"},
		{"too few", steps(4, linear(0, 0), linear(10, 10)), "4 observations, 5 are needed for 2 coefficients"},
		{"in step", steps(12, linear(10, 10), linear(20, 20)), "input and output tokens go in step"},
		{"in step but for a constant", steps(12, linear(10, 10), linear(5, 20)), "input and output tokens go in step"},
	} {
		r := summaries(t, Options{}, c.events...)["x"].Regression
		switch {
		case c.reason == "" && r != nil:
			t.Errorf("%s: %+v", c.name, r)
		case c.reason != "" && (r == nil || len(r.Reasons) != 1 || !strings.Contains(r.Reasons[0], c.reason) || r.FixedJ.OK || r.InputJ.OK || r.OutputJ.OK):
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	// With one prompt throughout, a generated token can be told, and the
	// prompt's part not from the fixed one.
	r := summaries(t, Options{}, steps(12, linear(512, 0), linear(10, 10))...)["x"].Regression
	want(t, "output", r.OutputJ, 2, 1e-2)
	if r.FixedJ.OK || r.InputJ.OK || len(r.Reasons) == 0 || !strings.Contains(r.Reasons[0], "every event has 512 input tokens: what they take cannot be told from what is fixed") {
		t.Errorf("one prompt: %+v", r)
	}
}

// The 95 % intervals hold the truth in 95 % of experiments, with and without
// intervals of the events' own, with scatter between events that these do not
// have, and with an error that all share.
func TestRegressionCoverage(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	c := truth{fixed: 5, input: 0.02, output: 0.5}
	for _, k := range []struct {
		name                 string
		own, between, shared float64
		told                 bool
	}{
		{"no intervals", 0, 3, 0, false},
		{"known noise", 2, 0, 0, true},
		{"known noise and scatter", 2, 4, 0, true},
		{"a shared error", 2, 1, 3, true},
	} {
		const seeds = 1000
		var inside [3]int
		for seed := range uint64(seeds) {
			rng := rand.New(rand.NewPCG(seed, 3))
			shared := rng.NormFloat64()
			s := summaries(t, Options{}, grid(3, func(input, output int64) repetition {
				own := k.own * (0.5 + float64(output)/100) // noise grows with the length
				systematic := k.shared * float64(output) / 100
				r := repetition{phase: "x", input: input, output: output, systematic: systematic}
				r.joules = c.joules(1, input, output) + own*rng.NormFloat64() + k.between*rng.NormFloat64() + systematic*shared
				if k.told {
					r.ci = 1.96 * math.Hypot(own, systematic)
				}
				return r
			})...)
			r := s["x"].Regression
			for i, v := range []struct {
				got, half opt
				want      float64
			}{{r.FixedJ, r.FixedCI95J, c.fixed}, {r.InputJ, r.InputCI95J, c.input}, {r.OutputJ, r.OutputCI95J, c.output}} {
				if math.Abs(v.got.V-v.want) <= v.half.V {
					inside[i]++
				}
			}
		}
		t.Logf("%s: fixed %d, input %d, output %d of %d", k.name, inside[0], inside[1], inside[2], seeds)
		for _, n := range inside {
			if n < 0.92*seeds || n > 0.98*seeds {
				t.Errorf("%s: fixed %d, input %d, output %d of %d", k.name, inside[0], inside[1], inside[2], seeds)
				break
			}
		}
	}
}

// A test at 5 % rejects a true form in 5 % of experiments, and a wrong one in
// most.
func TestLackOfFit(t *testing.T) {
	t.Parallel()
	const seeds = 1000
	rejects := func(c truth) (n int) {
		for seed := range uint64(seeds) {
			rng := rand.New(rand.NewPCG(seed, 4))
			var events []repetition
			for range 4 {
				for _, input := range []int64{64, 128, 256, 512, 1024} { // a prefill has no context term
					b, in := c, float64(input)
					events = append(events, repetition{phase: "prefill", input: input, joules: b.fixed + b.input*in + b.square*in*in + rng.NormFloat64()})
				}
			}
			l := summaries(t, Options{}, events...)["prefill"].Regression.LackOfFit
			if l == nil || l.Freedom != 3 || l.PureFreedom != 15 {
				t.Fatalf("%+v", l)
			}
			if l.P < 0.05 {
				n++
			}
		}
		return n
	}
	right, wrong := rejects(truth{fixed: 5, input: 0.02}), rejects(truth{fixed: 5, input: 0.02, square: 1.5e-5})
	t.Logf("rejected: a right form %d times of %d, a wrong one %d", right, seeds, wrong)
	if right < 30 || right > 70 || wrong < 900 {
		t.Errorf("rejected: a right form %d times of %d, a wrong one %d", right, seeds, wrong)
	}
}

// The context term is taken in where there is one, and seldom where there is
// none.
func TestContextTerm(t *testing.T) {
	t.Parallel()
	const seeds = 500
	taken := func(c truth) (n int) {
		for seed := range uint64(seeds) {
			rng := rand.New(rand.NewPCG(seed, 5))
			s := summaries(t, Options{}, grid(3, func(input, output int64) repetition {
				return repetition{phase: "x", input: input, output: output, joules: c.joules(1, input, output) + 2*rng.NormFloat64()}
			})...)
			if s["x"].Regression.ContextJ.OK {
				n++
			}
		}
		return n
	}
	with, without := taken(truth{fixed: 5, input: 0.02, output: 0.5, context: 1e-4}), taken(truth{fixed: 5, input: 0.02, output: 0.5})
	t.Logf("taken in: %d of %d with one, %d without", with, seeds, without)
	if with < 0.95*seeds || without > 0.2*seeds {
		t.Errorf("taken in: %d of %d with one, %d without", with, seeds, without)
	}
}

func TestJouleCurve(t *testing.T) {
	t.Parallel()
	batches := []int64{1, 2, 4, 8, 16}
	const steps, perStep, perToken = 64, 0.6, 0.01
	run := func(times int, noise func() float64, square float64) *record.Summary {
		var events []repetition
		for range times {
			for _, b := range batches {
				events = append(events, repetition{phase: "decode", batch: b, output: steps * b,
					joules: steps*(perStep+perToken*float64(b)+square*float64(b*b)) + noise()})
			}
		}
		return summaries(t, Options{}, events...)["decodebatch_size"]
	}
	s := run(2, func() float64 { return 0 }, 0)
	c := s.JouleCurve
	want(t, "step", c.StepJ, perStep, 1e-9)
	want(t, "token", c.TokenJ, perToken, 1e-9)
	want(t, "fixed", c.FixedJ, steps*perStep, 1e-9)
	if s.Events != 10 || s.BatchSize.OK || s.Model != "m" || c.Observations != 10 || c.Designs != 5 || fmt.Sprint(c.BatchSizes) != "[1 2 4 8 16]" || c.LackOfFit != nil {
		t.Errorf("%+v %+v", s, c)
	}
	const seeds = 1000
	step, token, rejected, bent := 0, 0, 0, 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 6))
		c := run(3, rng.NormFloat64, 0).JouleCurve
		if math.Abs(c.StepJ.V-perStep) <= c.StepCI95J.V {
			step++
		}
		if math.Abs(c.TokenJ.V-perToken) <= c.TokenCI95J.V {
			token++
		}
		if c.LackOfFit.P < 0.05 {
			rejected++
		}
		if run(3, rng.NormFloat64, 1e-3).JouleCurve.LackOfFit.P < 0.05 {
			bent++
		}
	}
	t.Logf("step %d, token %d inside of %d; rejected %d, bent %d", step, token, seeds, rejected, bent)
	if min(step, token) < 920 || max(step, token) > 980 || rejected < 30 || rejected > 70 || bent < 900 {
		t.Errorf("step %d, token %d inside of %d; rejected %d, bent %d", step, token, seeds, rejected, bent)
	}
	few := summaries(t, Options{}, repetition{phase: "decode", batch: 1, output: 64, joules: 1}, repetition{phase: "decode", batch: 2, output: 128, joules: 2})["decodebatch_size"].JouleCurve
	if few.StepJ.OK || len(few.Reasons) != 1 || few.Reasons[0] != "2 observations, 5 are needed for 2 coefficients" {
		t.Errorf("of two events: %+v", few)
	}
}

// Requests are added up from events that come in between one another.
func TestRequests(t *testing.T) {
	t.Parallel()
	c := truth{fixed: 4, input: 0.01, output: 0.3}
	var events []repetition
	for i, input := range []int64{64, 128, 512, 1024, 2048, 64} {
		for j, output := range []int64{16, 64, 256} {
			id := fmt.Sprint(i, "/", j)
			whole := c.joules(1, input, output)
			prefill := c.input * float64(input)
			// Two chunks of prompt, all of them before the first decode.
			events = append(events,
				repetition{phase: "prefill", request: id, batch: 1, input: input / 2, joules: prefill / 2},
				repetition{phase: "prefill", request: id, batch: 1, input: input - input/2, joules: prefill / 2})
			events = append(events, repetition{phase: "decode", request: id, batch: 1, input: input, output: output, joules: whole - prefill})
		}
	}
	// Orphans: a decode without a beginning, a beginning without a decode, and
	// a request of its own, with another model's name, no tokens.
	events = append(events,
		repetition{phase: "decode", request: "lost", batch: 1, output: 10, joules: 1e6},
		repetition{phase: "prefill", request: "open", batch: 1, input: 10, joules: 1e6},
		repetition{phase: "warmup", request: "warm", batch: 1, joules: 1e6},
		repetition{phase: "decode", request: "warm", batch: 1, output: 5, joules: 1e6})
	s := summaries(t, Options{}, events...)["request/1"]
	if s == nil || s.Events != 18 || s.WithEnergy != 18 || s.Tier[Estimate] != 18 || s.DurationS != 54 {
		t.Fatalf("%+v", s)
	}
	want(t, "fixed", s.Regression.FixedJ, c.fixed, 1e-6)
	want(t, "input", s.Regression.InputJ, c.input, 1e-6)
	want(t, "output", s.Regression.OutputJ, c.output, 1e-6)
	sum, out := 0.0, 0.0
	for _, e := range events[:54] {
		sum += e.joules
		out += float64(e.output)
	}
	want(t, "total", s.EnergyTotalJ, sum, 1e-9)
	want(t, "per token", s.JoulesPerToken, sum/out, 1e-9)

	// A part without energy leaves the request without, and refused.
	a, _ := New(Options{}, nil)
	lost := repetition{phase: "prefill", request: "1", input: 10}.event()
	lost.Energy.Joules, lost.Energy.Quality, lost.Energy.Tier = opt{}, NoData, Refused
	a.account(lost, 0)
	a.account(repetition{phase: "decode", request: "1", output: 10, joules: 5}.event(), 0)
	if s := a.Summaries()[2]; s.Phase != "request" || s.Events != 1 || s.WithEnergy != 0 || s.Tier[Refused] != 1 || s.Quality[NoData] != 1 {
		t.Errorf("%+v", s)
	}
	// Where the input has requests of its own they are not made up.
	own := summaries(t, Options{},
		repetition{phase: "prefill", request: "1", input: 10, joules: 2},
		repetition{phase: "decode", request: "1", output: 10, joules: 5},
		repetition{phase: "request", request: "1", input: 10, output: 10, joules: 8})["request"]
	want(t, "own", own.EnergyTotalJ, 8, 0)
}

// A request's interval has its parts' noise by squares and what they share by
// sums.
func TestRequestInterval(t *testing.T) {
	t.Parallel()
	var r requests
	part := func(phase string, ci, op, systematic float64) (*record.Event, float64) {
		e := repetition{phase: phase, request: "1", input: 4, output: 4, joules: 10, ci: ci}.event()
		e.Energy.OperationalJ, e.Energy.OperationalCI95J = some(7), some(op)
		return r.add(e, systematic)
	}
	if e, _ := part("prefill", 1.96*5, 1.96*13, 3); e != nil { // noise 4, baseline 12
		t.Fatal("whole without its decode")
	}
	e, shared := part("decode", 1.96*5, 1.96*13, 4) // noise 3, baseline 12
	want(t, "interval", e.Energy.CI95J, 1.96*math.Hypot(5, 7), 1e-9)
	want(t, "operational", e.Energy.OperationalCI95J, 1.96*math.Hypot(math.Hypot(5, 7), 24), 1e-9)
	if shared != 7 {
		t.Errorf("shared %g, want 7", shared)
	}
}

// However many requests stay open, and however many lengths there are, what is
// held stays bounded, and the coefficients stay right.
func TestRegressionIsBounded(t *testing.T) {
	t.Parallel()
	a, _ := New(Options{}, nil)
	rng := rand.New(rand.NewPCG(1, 7))
	c := truth{fixed: 50, input: 0.01, output: 0.5}
	for i := range 60000 {
		input, output := 1+rng.Int64N(4000), 1+rng.Int64N(1000)
		joules := c.fixed + c.input*float64(input) + c.output*float64(output)
		a.account(repetition{phase: "x", request: fmt.Sprint(i), input: input, output: output, joules: joules + rng.NormFloat64()}.event(), 0)
	}
	if n := len(a.requests.young) + len(a.requests.old); n > 2*maxOpen || n < maxOpen {
		t.Errorf("%d open requests, want up to %d", n, 2*maxOpen)
	}
	if a.requests.designs > 2*maxDesigns || a.requests.designs < maxDesigns {
		t.Errorf("%d designs, want up to %d", a.requests.designs, 2*maxDesigns)
	}
	r := a.Summaries()[0].Regression
	if r.Observations != 60000 {
		t.Errorf("%d observations, want 60000", r.Observations)
	}
	for name, v := range map[string]struct {
		got, half opt
		want      float64
	}{"fixed": {r.FixedJ, r.FixedCI95J, c.fixed}, "input": {r.InputJ, r.InputCI95J, c.input}, "output": {r.OutputJ, r.OutputCI95J, c.output}} {
		if math.Abs(v.got.V-v.want) > 2*v.half.V || v.half.V > 0.01*v.want {
			t.Errorf("%s: %g ± %g, want %g", name, v.got.V, v.half.V, v.want)
		}
	}
}

// With no place left an event is left out, and that is said.
func TestRegressionIsFull(t *testing.T) {
	t.Parallel()
	var g group
	held := 0
	for i := range int64(20) {
		if i == 10 {
			held = 2 * maxDesigns
		}
		g.designs.add(10+i, 0, 1, 3+float64(i), spread{}, &held)
	}
	g.designs.add(12, 0, 1, 5, spread{}, &held) // has its place
	r := g.regress()
	if r.Observations != 11 || r.Designs != 10 || !strings.Contains(strings.Join(r.Reasons, ";"), "10 events are left out: more different tokens than can be held") {
		t.Errorf("%+v", r)
	}
	want(t, "input", r.InputJ, 1, 1e-9)
}
