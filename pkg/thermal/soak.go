// Package thermal follows the temperature of GPUs under a steady load: how fast
// it still rises, when it has settled, and when the load has to be taken off
// (TR122 §8). It judges samples in their own time and does nothing itself: a
// trace from last year and one that is being written are the same to it.
package thermal

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/record"
)

// States of a soak, the values of [record.Soak].State.
const (
	Warming     = "warming"      // the window is not full, or its slope too steep
	Stable      = "stable"       // the seed rule holds, the margin rule not yet
	Tripped     = "tripped"      // too hot: until it has cooled there should be no load
	Equilibrium = "equilibrium"  // the end: temperature has settled
	Timeout     = "timeout"      // the end: it did not within Options.Max
	ThermalTrip = "thermal_trip" // the end: it got too hot, too often
	Interrupted = "interrupted"  // the end: the trace, or the load, ended first
)

// The rules of equilibrium, the keys of [record.Soak].Rule. All are about the
// slope over a full window, and want it of every GPU.
const (
	Seed     = "seed"     // below the threshold (TR122 §8.2)
	Margin   = "margin"   // below 0.8 of it, or below it for two consecutive windows (§8.6)
	Rigorous = "rigorous" // below it with its error, that of rounding included
	Settled  = "settled"  // rigorous, and no more than 0.5 °C left to rise, at a power that drifts by less than 0.5 %
)

const (
	// marginShare is TR122's 0.4 °C/min for a threshold of 0.5.
	marginShare = 0.8
	// points is how many a window is cut into, so that its memory and the time
	// that a slope takes depend on neither its length nor the poller's period.
	points = 300
	// hole is the share of the window without a reading that empties it: what
	// the temperature did in there is not known.
	hole = 0.1
	// early is the share of a window from which on its slope is shown; it
	// decides nothing before the window is full.
	early = 0.2
	// latch is how many readings in a row it takes to trip and to resume, so
	// that a single false one does neither.
	latch = 2
	// A slope below the threshold may have a long way to go, where the time
	// constant is long: what has settled has neither degrees nor watts to gain.
	settledC     = 0.5
	settledShare = 0.005
	// predictions is how many are made in the time of a window.
	predictions = 20
)

// Rules are the names of the rules, the weakest first.
func Rules() []string { return []string{Seed, Margin, Rigorous, Settled} }

// Options are the rules of a soak.
type Options struct {
	Window time.Duration // that the slope is taken over
	Every  time.Duration // between two records of a GPU
	Max    time.Duration // time-out
	Slope  float64       // threshold of equilibrium, °C/min
	TripC  float64       // too hot from here on, °C
	Resume float64       // cool again from here down, °C
	Trips  int           // the trip that ends the soak, from 1
	Rule   string        // of equilibrium, that ends the soak
	LimitC float64       // the trip is at least so far below a board's own limit, °C
}

// DefaultOptions are TR122's (§8.2, Appendix C.1). The first trip ends the soak.
func DefaultOptions() Options {
	return Options{
		Window: 5 * time.Minute,
		Every:  time.Second,
		Max:    30 * time.Minute,
		Slope:  0.5,
		TripC:  83,
		Resume: 80,
		Trips:  1,
		Rule:   Margin,
		LimitC: 2,
	}
}

func (o Options) check() error {
	switch {
	case o.Window < points:
		return fmt.Errorf("a window of %v is too short", o.Window)
	case o.Every <= 0:
		return errors.New("the time between records must be positive")
	case o.Max <= 0:
		return errors.New("the time-out must be positive")
	case !(o.Slope > 0):
		return errors.New("the slope must be positive")
	case !(o.Resume < o.TripC):
		return fmt.Errorf("the soak cannot resume at %g °C, which is not below the trip at %g °C", o.Resume, o.TripC)
	case !(o.LimitC >= 0):
		return errors.New("the margin below the board's limit must not be negative")
	case !slices.Contains(Rules(), o.Rule):
		return fmt.Errorf("no rule of equilibrium %q (%s)", o.Rule, strings.Join(Rules(), ", "))
	case o.Trips < 1:
		return errors.New("the first trip that can end the soak is number 1")
	}
	return nil
}

// Soak is a soak under way. Several GPUs are one soak: it is in equilibrium
// when all of them are, and trips with the hottest. It keeps a window of
// temperatures for each and no more.
type Soak struct {
	o       Options
	gpus    map[int]*gpu
	limits  map[int]float64
	begun   bool
	startNS int64
	nowNS   int64
	tripped bool
	trips   int
	late    int64
	end     string // state at the end, empty before
	reason  string
}

// New is a soak that has seen nothing. It is an error when the options make no
// sense.
func New(o Options) (*Soak, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Soak{o: o, gpus: map[int]*gpu{}, limits: map[int]float64{}}, nil
}

// Limit tells the temperature at which a GPU slows itself down, °C. The trip
// moves below it, by Options.LimitC, where it would be above, and the
// temperature to resume at moves with it.
func (s *Soak) Limit(gpu int, slowdownC float64) { s.limits[gpu] = slowdownC }

// thresholds are where a GPU trips and where it resumes.
func (s *Soak) thresholds(index int) (trip, resume float64) {
	trip, resume = s.o.TripC, s.o.Resume
	if limit, ok := s.limits[index]; ok && limit-s.o.LimitC < trip {
		trip, resume = limit-s.o.LimitC, resume-(trip-(limit-s.o.LimitC))
	}
	return trip, resume
}

// Hot says that a sample, by itself, is at the trip of its GPU.
func (s *Soak) Hot(r *record.Sample) bool {
	trip, _ := s.thresholds(r.GPU)
	c, ok := r.TempC.Get()
	return ok && r.ReadOK && c >= trip
}

// gpu is one GPU of the soak.
type gpu struct {
	window
	grid                 grid
	crossings            crossings
	history              history
	first, last, hottest float64
	memory, memoryMax    record.Opt[float64] // °C of the memory
	seen                 bool
	readNS               int64 // last reading
	stepNS               int64 // next record
	hot                  bool
	inRow                int // readings beyond the threshold that is waited for
	throttle             throttle
	hysteresis           hysteresis
	verdict              verdict
	steepest             record.Opt[float64]
	belowNS              record.Opt[int64] // since when every full window was below the threshold
	heating              *heating          // nil: the readings are of no exponential
	whole                history           // since the load began, whatever the fans did
	began                float64           // °C
	forecast             *forecast         // nil: nothing can be foretold
	predictNS            int64             // next prediction
}

// verdict is what the window says.
type verdict struct {
	slope, ci      record.Opt[float64]
	drift, driftCI record.Opt[float64] // of power
	lengthS        float64
	rule           map[string]bool
}

// Observe takes in a sample. It returns a record for its GPU when one is due,
// otherwise nil. Samples without a temperature change nothing, and neither do
// those that follow the end.
func (s *Soak) Observe(r *record.Sample) *record.Soak {
	if s.Over() {
		return nil
	}
	c, ok := r.TempC.Get()
	g := s.gpus[r.GPU]
	if !ok || !r.ReadOK || math.IsNaN(c) || math.IsInf(c, 0) {
		if g != nil && g.hot {
			g.inRow = 0 // what was not read is not cool
		}
		return nil
	}
	if g == nil {
		g = &gpu{window: newWindow(s.o.Window), crossings: newCrossings(s.o.Window)}
		s.gpus[r.GPU] = g
	}
	if g.seen && r.TimeNS <= g.readNS {
		s.late++
		return nil
	}
	if !s.begun {
		s.begun, s.startNS, s.nowNS = true, r.TimeNS, r.TimeNS
	}
	s.nowNS = max(s.nowNS, r.TimeNS)
	switch {
	case !g.seen:
		g.seen, g.first, g.hottest, g.stepNS = true, c, c, r.TimeNS
		g.restart(r.TimeNS)
		g.began = c
	case s.stale(g, r.TimeNS):
		g.restart(r.TimeNS)
		g.began = c
	}
	g.readNS, g.last, g.hottest = r.TimeNS, c, max(g.hottest, c)
	if g.memory = r.MemTempC; g.memory.OK {
		g.memoryMax = record.Some(max(g.memoryMax.Or(g.memory.V), g.memory.V))
	}
	g.grid.add(c)
	g.throttle.observe(r)
	g.hysteresis.observe(r, g.grid.quantum())
	g.crossings.add(r.TimeNS, c, g.grid.quantum(), int64(s.o.Window))
	g.history.add(r.TimeNS, c)
	g.whole.add(r.TimeNS, c)
	g.window.add(r.TimeNS, c, power(r))

	s.trip(r.GPU, g, c)
	if s.Over() {
		return nil
	}
	if r.TimeNS < g.stepNS {
		return nil
	}
	g.stepNS += (1 + (r.TimeNS-g.stepNS)/int64(s.o.Every)) * int64(s.o.Every)
	s.judge(g)
	if r.TimeNS >= g.predictNS {
		g.predict(r.TimeNS, s.o.Window)
	}
	step := s.record(r.GPU, g, s.state())
	step.TempC = record.Some(c)
	g.throttle.tell(step, false)
	switch {
	case s.all(s.o.Rule):
		s.over(Equilibrium, "")
	case s.elapsed() >= s.o.Max:
		s.timeOut()
	}
	return step
}

// power is the reading with the least memory that a sample has.
func power(r *record.Sample) record.Opt[float64] {
	for _, watts := range []record.Opt[float64]{r.PowerInstantW, r.PowerW} {
		if watts.OK {
			return watts
		}
	}
	return r.PowerAverageW
}

// ObserveWork takes in how fast an event ran: the fall of throughput is a sign of
// throttling where a GPU gives none itself.
func (s *Soak) ObserveWork(e *record.Event) {
	rate, ok := e.TokensPerSecond.Get()
	if !ok || s.Over() {
		return
	}
	kind := fmt.Sprintf("%s %s %d %d", e.Phase, e.Model, e.BatchSize.V, e.InputTokens.V)
	for index, g := range s.gpus {
		if len(e.GPUs) == 0 || slices.Contains(e.GPUs, index) {
			g.throttle.observeWork(kind, rate)
		}
	}
}

// stale says that too long has passed by then since the GPU was read.
func (s *Soak) stale(g *gpu, ns int64) bool {
	return float64(ns-g.readNS) > hole*float64(s.o.Window)
}

// restart empties the window.
func (g *gpu) restart(ns int64) {
	g.window.clear(ns)
	g.crossings.clear()
	g.history.clear(ns)
	g.whole.clear(ns)
	g.began = g.last
	g.belowNS = record.Opt[int64]{}
	g.verdict = verdict{}
	g.heating, g.forecast, g.predictNS = nil, nil, ns
}

// predict brings the prediction up to date. It costs more than a slope, and is
// made less often.
func (g *gpu) predict(ns int64, window time.Duration) {
	g.predictNS = ns + int64(window)/predictions
	var turned bool
	if g.heating, turned = predict(&g.history, &g.window, g.grid.quantum()); turned {
		g.history.clear(ns)
	}
	g.forecast = foretell(g.heating, &g.whole, g.began, g.grid.quantum())
}

// trip keeps the latch: the load comes off when a GPU is too hot, and on again
// when all are cool.
func (s *Soak) trip(index int, g *gpu, c float64) {
	trip, resume := s.thresholds(index)
	beyond := c >= trip
	if g.hot {
		beyond = c <= resume
	}
	if !beyond {
		g.inRow = 0
		return
	}
	if g.inRow++; g.inRow < latch {
		return
	}
	g.hot, g.inRow = !g.hot, 0
	hot := false
	for _, g := range s.gpus {
		hot = hot || g.hot
	}
	if hot == s.tripped {
		return
	}
	s.tripped = hot
	if hot {
		if s.trips++; s.trips >= s.o.Trips {
			s.over(ThermalTrip, fmt.Sprintf("%g °C after %s, the trip is at %g °C", c, s.clock(), trip))
			return
		}
	}
	// What was measured under another load says nothing about this one.
	for _, g := range s.gpus {
		g.restart(s.nowNS)
	}
}

// judge brings the GPU's verdict up to date.
func (s *Soak) judge(g *gpu) {
	g.verdict = verdict{rule: map[string]bool{Seed: false, Margin: false, Rigorous: false, Settled: false}}
	length := s.nowNS - g.window.sinceNS
	full := length >= int64(s.o.Window) && !s.stale(g, s.nowNS)
	g.verdict.lengthS = min(float64(length), float64(s.o.Window)) / 1e9
	if float64(length) < early*float64(s.o.Window) {
		return
	}
	if drift, ci, ok := g.window.powerDrift(); ok {
		g.verdict.drift, g.verdict.driftCI = record.Some(drift), record.Some(ci)
	}
	slope, ci, ok := g.window.slope(g.grid.quantum())
	if !ok {
		return
	}
	g.verdict.slope, g.verdict.ci = record.Some(slope), record.Some(ci)
	if steepest, ok := g.steepest.Get(); !ok || math.Abs(slope) > math.Abs(steepest) {
		g.steepest = record.Some(slope)
	}
	b := math.Abs(slope)
	if !full || s.tripped || b >= s.o.Slope {
		g.belowNS = record.Opt[int64]{}
		return
	}
	if !g.belowNS.OK {
		g.belowNS = record.Some(s.nowNS)
	}
	g.verdict.rule[Seed] = true
	g.verdict.rule[Margin] = b < marginShare*s.o.Slope || s.nowNS-g.belowNS.V >= int64(s.o.Window)
	g.verdict.rule[Rigorous] = b+ci < s.o.Slope
	g.verdict.rule[Settled] = b+ci < s.o.Slope && g.heating != nil && math.Abs(g.heating.remaining) < settledC &&
		math.Abs(g.verdict.drift.Or(0)) < settledShare
}

// all says whether a rule holds for every GPU by its last verdict. One that has
// stopped to be read is in no equilibrium.
func (s *Soak) all(rule string) bool {
	for _, g := range s.gpus {
		if !g.verdict.rule[rule] || s.stale(g, s.nowNS) {
			return false
		}
	}
	return len(s.gpus) > 0 && !s.tripped
}

func (s *Soak) state() string {
	switch {
	case s.tripped:
		return Tripped
	case s.all(Seed):
		return Stable
	}
	return Warming
}

func (s *Soak) elapsed() time.Duration { return time.Duration(s.nowNS - s.startNS) }

func (s *Soak) clock() string { return s.elapsed().Round(100 * time.Millisecond).String() }

func (s *Soak) over(state, reason string) { s.end, s.reason = state, reason }

func (s *Soak) timeOut() {
	switch {
	case s.tripped:
		s.over(ThermalTrip, fmt.Sprintf("%s within %v", s.notCool(), s.o.Max))
	case s.o.Rule == Margin && s.all(Seed):
		s.over(Equilibrium, "without the margin of two windows: the time is over")
	default:
		s.over(Timeout, fmt.Sprintf("%s within %v", s.unsettled(), s.o.Max))
	}
}

// notCool says which GPU keeps the load off.
func (s *Soak) notCool() string {
	for _, index := range slices.Sorted(maps.Keys(s.gpus)) {
		if s.gpus[index].hot {
			_, resume := s.thresholds(index)
			return fmt.Sprintf("not below %g °C again", resume)
		}
	}
	return "not cool again"
}

// unsettled says what keeps the soak from equilibrium.
func (s *Soak) unsettled() string {
	for _, index := range slices.Sorted(maps.Keys(s.gpus)) {
		g := s.gpus[index]
		slope, ok := g.verdict.slope.Get()
		switch {
		case g.verdict.rule[s.o.Rule] || s.o.Rule == Margin && g.verdict.rule[Seed]:
			continue
		case !ok || g.verdict.lengthS < s.o.Window.Seconds():
			return fmt.Sprintf("GPU %d: no full window of %v", index, s.o.Window)
		}
		if !g.verdict.rule[Seed] {
			return fmt.Sprintf("GPU %d: slope %.3g °C/min, not below %g", index, slope, s.o.Slope)
		}
		if !g.verdict.rule[Rigorous] {
			return fmt.Sprintf("GPU %d: slope %.3g ± %.2g °C/min, not below %g for certain", index, slope, g.verdict.ci.V, s.o.Slope)
		}
		return fmt.Sprintf("GPU %d: still %s", index, g.left())
	}
	return "no temperature"
}

// left says what the GPU still has to gain.
func (g *gpu) left() string {
	switch {
	case g.heating == nil:
		return "without a foreseeable end of the rise"
	case math.Abs(g.heating.remaining) >= settledC:
		return fmt.Sprintf("%.2g °C to go", g.heating.remaining)
	}
	return fmt.Sprintf("drifting by %.2g %% of its power", 100*g.verdict.drift.V)
}

// Verdict is which rules hold for a GPU by its last record; nil when there is
// none.
func (s *Soak) Verdict(gpu int) map[string]bool {
	if g := s.gpus[gpu]; g != nil {
		return g.verdict.rule
	}
	return nil
}

// Begun says that a temperature has been read.
func (s *Soak) Begun() bool { return s.begun }

// Tripped says that a GPU is too hot, or has not cooled yet: there should be no
// load.
func (s *Soak) Tripped() bool { return s.tripped }

// TooHot says why a soak ended in a thermal trip; empty when it did not.
func (s *Soak) TooHot() string {
	if s.end == ThermalTrip {
		return s.reason
	}
	return ""
}

// Over says that the soak has ended.
func (s *Soak) Over() bool { return s.end != "" }

// Disordered is how many samples went back in time and were left out.
func (s *Soak) Disordered() int64 { return s.late }

// Interrupt ends the soak, unless it has ended, before anything was decided.
func (s *Soak) Interrupt(reason string) {
	if !s.Over() {
		s.over(Interrupted, reason)
	}
}

// Finish ends the soak, unless it has ended, because no more samples come, and
// sums it up: one final record for each GPU, the hottest last. All have the
// state of the soak as a whole. There is none when no temperature was read.
func (s *Soak) Finish() []*record.Soak {
	for _, g := range s.gpus {
		g.predict(s.nowNS, s.o.Window)
		s.judge(g)
	}
	if !s.Over() {
		switch {
		case s.tripped:
			s.over(ThermalTrip, s.notCool()+" at the end")
		case s.all(s.o.Rule):
			s.over(Equilibrium, "")
		case s.o.Rule == Margin && s.all(Seed):
			s.over(Equilibrium, "without the margin of two windows: there are no more samples")
		default:
			s.over(Interrupted, fmt.Sprintf("no more samples after %s: %s", s.clock(), s.unsettled()))
		}
	}
	var finals []*record.Soak
	for _, index := range slices.Sorted(maps.Keys(s.gpus)) {
		g := s.gpus[index]
		r := s.record(index, g, s.end)
		r.Final, r.Reason, r.Rule = true, s.reason, g.verdict.rule
		r.TempStartC, r.TempEndC, r.TempMaxC = record.Some(g.first), record.Some(g.last), record.Some(g.hottest)
		r.MemTempMaxC, r.MaxSlopeCPerMin = g.memoryMax, g.steepest
		g.throttle.tell(r, true)
		g.hysteresis.tell(r)
		finals = append(finals, r)
	}
	slices.SortStableFunc(finals, func(a, b *record.Soak) int { return cmp.Compare(a.TempEndC.V, b.TempEndC.V) })
	return finals
}

// record is what there is to say of a GPU at any time. The throttle reasons are
// those since the last record.
func (s *Soak) record(index int, g *gpu, state string) *record.Soak {
	r := &record.Soak{
		TimeNS: record.Some(s.nowNS), GPU: index, State: state, DurationS: s.elapsed().Seconds(),
		SlopeCPerMin: g.verdict.slope, SlopeCI95: g.verdict.ci,
		MemTempC: g.memory, Trips: s.trips, QuantumC: record.Some(g.grid.quantum()),
		PowerDrift: g.verdict.drift, PowerDriftCI95: g.verdict.driftCI,
	}
	if g.verdict.slope.OK {
		r.WindowS = record.Some(g.verdict.lengthS)
		perMin, ci := g.crossings.slope(r.QuantumC.V, time.Duration(g.verdict.lengthS*1e9))
		r.Crossings = record.Some(int64(len(g.crossings.at)))
		r.CrossingCPerMin, r.CrossingCI95 = record.Some(perMin), record.Some(ci)
	}
	if f := g.forecast; f != nil {
		r.PredictedC, r.PredictedLowC, r.PredictedHighC = record.Some(f.at), record.Some(f.low), record.Some(f.high)
	}
	if h := g.heating; h != nil {
		r.TauS, r.RemainingC = record.Some(h.tauS), record.Some(h.remaining)
	}
	return r
}
