package thermal_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
	"joulepipe/pkg/thermal"
)

const second = 1e9

// sensor reads a temperature that is a function of time in seconds: 10 times a
// second, with noise, rounded to whole degrees.
type sensor struct {
	seed  uint64
	noise float64
	fine  bool // not rounded
	true  func(t float64) float64
}

func (x sensor) samples(from, until float64) []*record.Sample {
	rng := rand.New(rand.NewPCG(x.seed, 7))
	var out []*record.Sample
	for k := int64(math.Round(from * 10)); float64(k) <= until*10; k++ {
		c := x.true(float64(k)/10) + x.noise*rng.NormFloat64()
		if !x.fine {
			c = math.Round(c)
		}
		out = append(out, &record.Sample{TimeNS: 1000*second + k*second/10, ReadOK: true, TempC: record.Some(c)})
	}
	return out
}

// heating is the curve of one thermal resistance and one capacity.
func heating(start, end, tau float64) func(float64) float64 {
	return func(t float64) float64 { return end - (end-start)*math.Exp(-t/tau) }
}

func ramp(start, perMin float64) func(float64) float64 {
	return func(t float64) float64 { return start + perMin*t/60 }
}

// outcome is all that a soak said.
type outcome struct {
	steps  []record.Soak
	finals []*record.Soak
}

func (o outcome) last() *record.Soak { return o.finals[len(o.finals)-1] }

func soak(t testing.TB, o thermal.Options, samples []*record.Sample) outcome {
	t.Helper()
	s, err := thermal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	var out outcome
	for _, r := range samples {
		if step := s.Observe(r); step != nil {
			out.steps = append(out.steps, *step)
		}
	}
	out.finals = s.Finish()
	return out
}

// leastSquares is the slope of a curve's own least-squares line over the 300 s
// up to t, in °C/min.
func leastSquares(f func(float64) float64, t float64) float64 {
	var sxy, sxx float64
	for k := range 3000 {
		x := (float64(k)+0.5)/10 - 150
		sxy += x * f(t+x-150)
		sxx += x * x
	}
	return 60 * sxy / sxx
}

func TestHeatingSettles(t *testing.T) {
	t.Parallel()
	predicted := 0
	for _, tt := range []struct{ start, end, tau float64 }{{40, 70, 90}, {40, 60, 150}, {35, 75, 240}, {80, 50, 120}} {
		curve := heating(tt.start, tt.end, tt.tau)
		want := 300.0
		for math.Abs(leastSquares(curve, want)) >= 0.4 {
			want++
		}
		for seed := range uint64(5) {
			out := soak(t, thermal.DefaultOptions(), sensor{seed: seed, noise: 0.3, true: curve}.samples(0, 1700))
			last := out.last()
			if last.State != thermal.Equilibrium || math.Abs(last.DurationS-want) > 30 {
				t.Errorf("%+v: %s after %.0f s, want equilibrium after %.0f s", tt, last.State, last.DurationS, want)
			}
			if !last.Rule["seed"] || !last.Rule["margin"] || math.Abs(last.SlopeCPerMin.V) >= 0.4 || math.Abs(last.WindowS.V-300) > 1e-9 {
				t.Errorf("%+v: %+v", tt, last)
			}
			if c, ok := last.PredictedC.Get(); ok && math.Abs(c-tt.end) > 1 {
				t.Errorf("%+v: predicted %g, want %g", tt, c, tt.end)
			} else if ok {
				predicted++
			}
			steepest, high := last.MaxSlopeCPerMin.V, max(tt.start, tt.end)
			if (steepest > 0) != (tt.end > tt.start) || math.Abs(steepest) < math.Abs(leastSquares(curve, 300)) || math.Abs(last.TempMaxC.V-high) > 1 {
				t.Errorf("%+v: steepest %g, hottest %g", tt, steepest, last.TempMaxC.V)
			}
		}
	}
	if predicted < 18 {
		t.Errorf("a prediction in %d of 20", predicted)
	}
}

func TestWindowMustBeFull(t *testing.T) {
	t.Parallel()
	still := func(float64) float64 { return 55 }
	out := soak(t, thermal.DefaultOptions(), sensor{true: still}.samples(0, 299.9))
	for _, step := range out.steps {
		if step.State != thermal.Warming {
			t.Fatalf("%s after %.0f s", step.State, step.DurationS)
		}
	}
	if last := out.last(); last.State != thermal.Interrupted || last.Rule["seed"] || !strings.Contains(last.Reason, "no full window of 5m0s") {
		t.Errorf("got %+v", last)
	}
	if first := out.steps[0]; first.SlopeCPerMin.OK || first.WindowS.OK || first.TempC.V != 55 {
		t.Errorf("first record has a slope: %+v", first)
	}
	out = soak(t, thermal.DefaultOptions(), sensor{true: still}.samples(0, 400))
	last := out.last()
	if last.State != thermal.Equilibrium || last.DurationS != 300 || last.SlopeCPerMin.V != 0 || !last.Rule["rigorous"] || last.PredictedC.V != 55 {
		t.Errorf("got %+v", last)
	}
	// A reading that stands still may hide a drift of a degree.
	if ci := last.SlopeCI95.V; math.Abs(ci-0.3) > 0.01 {
		t.Errorf("± %g °C/min, want 0.3", ci)
	}
}

// The interval has to hold the true slope, whatever the phase of the rounding.
func TestSlopeError(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, perMin := range []float64{0, 0.1, 0.3, 0.7, 2, -1} {
		for _, noise := range []float64{0, 0.1, 0.5} {
			outside, n := 0, 0
			for seed := range uint64(20) {
				o := thermal.DefaultOptions()
				o.Slope, o.Every = 1e-9, time.Minute // to the end
				out := soak(t, o, sensor{seed: seed, noise: noise, true: ramp(60+float64(seed)/20, perMin)}.samples(0, 300))
				last := out.last()
				n++
				if math.Abs(last.SlopeCPerMin.V-perMin) > last.SlopeCI95.V {
					outside++
				}
				if ci := last.SlopeCI95.V; ci < 0.3 || ci > 0.9 {
					t.Errorf("slope %g, noise %g: ± %g", perMin, noise, ci)
				}
			}
			if outside > 1 {
				t.Errorf("slope %g, noise %g: outside its interval in %d of %d", perMin, noise, outside, n)
			}
		}
	}
	// A sensor that does not round has no more than its noise.
	o := thermal.DefaultOptions()
	o.Slope = 1e-9
	if last := soak(t, o, sensor{noise: 0.1, fine: true, true: ramp(60.05, 0.3)}.samples(0, 300)).last(); last.SlopeCI95.V > 0.02 || math.Abs(last.SlopeCPerMin.V-0.3) > 0.02 {
		t.Errorf("fine: %g ± %g", last.SlopeCPerMin.V, last.SlopeCI95.V)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		perMin, until          float64
		state                  string
		seed, margin, rigorous bool
		at                     float64
	}{
		{"steep", 0.6, 900, thermal.Interrupted, false, false, false, 900},
		{"below, one window", 0.45, 500, thermal.Equilibrium, true, false, true, 500},
		{"below, two windows", 0.45, 900, thermal.Equilibrium, true, true, true, 600},
		{"well below", 0.3, 900, thermal.Equilibrium, true, true, true, 300},
		{"falling", -0.6, 900, thermal.Interrupted, false, false, false, 900},
		{"time-out", 0.6, 2000, thermal.Timeout, false, false, false, 1800},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Not rounded, so that the slopes are exact and have next to no error.
			last := soak(t, thermal.DefaultOptions(), sensor{fine: true, true: ramp(50.01, tt.perMin)}.samples(0, tt.until)).last()
			want := map[string]bool{"seed": tt.seed, "margin": tt.margin, "rigorous": tt.rigorous, "settled": false}
			if last.State != tt.state || !reflect.DeepEqual(last.Rule, want) || math.Abs(last.DurationS-tt.at) > 1 {
				t.Errorf("got %+v, want %+v", last, tt)
			}
			if last.State == thermal.Timeout && !strings.Contains(last.Reason, "slope 0.6 °C/min") {
				t.Errorf("reason %q", last.Reason)
			}
		})
	}
}

// A slope that passes by less than its error passes the seed rule alone.
func TestRigorous(t *testing.T) {
	t.Parallel()
	last := soak(t, thermal.DefaultOptions(), sensor{noise: 0.2, true: ramp(50, 0.35)}.samples(0, 400)).last()
	if last.State != thermal.Equilibrium || !last.Rule["seed"] || last.Rule["rigorous"] {
		t.Errorf("got %+v", last)
	}
}

func TestPredictionOfARamp(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for seed := range uint64(5) {
		for _, perMin := range []float64{0.2, 0.3, 0.55, 1, 3} {
			for _, fine := range []bool{perMin < 1, true} {
				last := soak(t, thermal.DefaultOptions(), sensor{seed: seed, noise: 0.01, fine: fine, true: ramp(40, perMin)}.samples(0, 600)).last()
				if last.PredictedC.OK {
					t.Errorf("fine %v: a rise of %g °C/min ends at %g °C", fine, perMin, last.PredictedC.V)
				}
			}
		}
	}
}

// A poller slower than the window's steps does not lengthen the window.
func TestSlowPoller(t *testing.T) {
	t.Parallel()
	var slow []*record.Sample
	for i, s := range (sensor{true: func(t float64) float64 {
		if t < 100 {
			return 40
		}
		return 60
	}}).samples(0, 900) {
		if i%25 == 0 {
			slow = append(slow, s)
		}
	}
	if last := soak(t, thermal.DefaultOptions(), slow).last(); last.State != thermal.Equilibrium || last.DurationS < 390 || last.DurationS > 405 {
		t.Errorf("got %+v", last)
	}
}

func TestHoles(t *testing.T) {
	t.Parallel()
	x := sensor{true: func(float64) float64 { return 50 }}
	samples := append(x.samples(0, 200), x.samples(229, 300)...)
	if last := soak(t, thermal.DefaultOptions(), append(samples, x.samples(300.1, 900)...)).last(); last.DurationS != 300 {
		t.Errorf("a hole of 29 s: %s after %g s", last.State, last.DurationS)
	}
	samples = append(x.samples(0, 200), x.samples(231, 900)...)
	if last := soak(t, thermal.DefaultOptions(), samples).last(); last.State != thermal.Equilibrium || math.Abs(last.DurationS-531) > 1 {
		t.Errorf("a hole of 31 s: %s after %g s, want 531", last.State, last.DurationS)
	}
	// Readings that failed are a hole as well, whatever they say.
	samples = x.samples(0, 900)
	for _, s := range samples[2000:2400] {
		s.ReadOK, s.TempC = false, record.Some(0.0)
	}
	for _, s := range samples[:10] {
		s.TempC = record.Some(math.NaN())
	}
	if last := soak(t, thermal.DefaultOptions(), samples).last(); math.Abs(last.DurationS-(540-1)) > 1 || last.TempMaxC.V != 50 || last.TempStartC.V != 50 {
		t.Errorf("failed readings: %+v", last)
	}
}

func TestTrip(t *testing.T) {
	t.Parallel()
	levels := func(cs ...float64) (samples []*record.Sample) {
		for i, c := range cs {
			s := &record.Sample{TimeNS: int64(i+1) * second, ReadOK: true, TempC: record.Some(c)}
			if c == 0 {
				s.ReadOK = false
			}
			samples = append(samples, s)
		}
		return samples
	}
	for _, tt := range []struct {
		name    string
		trips   int
		temps   []float64
		state   string
		at      float64 // duration
		count   int
		tripped string // one letter a sample: t tripped after it, - not
	}{
		{"one reading", 1, []float64{82, 83, 82, 95, 70, 70}, thermal.Interrupted, 5, 0, "------"},
		{"two readings", 1, []float64{82, 83, 84, 60}, thermal.ThermalTrip, 2, 1, "--tt"},
		{"resumes", 2, []float64{83, 83, 82, 81, 80, 81, 80, 80, 81}, thermal.Interrupted, 8, 1, "-tttttt--"},
		{"does not resume on failed readings", 2, []float64{83, 83, 0, 0, 0, 80}, thermal.ThermalTrip, 5, 1, "-ttttt"},
		{"second trip", 2, []float64{84, 84, 79, 79, 84, 84, 70}, thermal.ThermalTrip, 5, 2, "-tt--tt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := thermal.DefaultOptions()
			o.Trips = tt.trips
			s, err := thermal.New(o)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, r := range levels(tt.temps...) {
				s.Observe(r)
				got += map[bool]string{true: "t", false: "-"}[s.Tripped()]
			}
			finals := s.Finish()
			last := finals[0]
			if got != tt.tripped || last.State != tt.state || last.Trips != tt.count || last.DurationS != tt.at {
				t.Errorf("%s, %+v, want %s, %+v", got, last, tt.tripped, tt)
			}
		})
	}
}

// What was measured before a trip says nothing about the load after it.
func TestWindowAfterTrip(t *testing.T) {
	t.Parallel()
	o := thermal.DefaultOptions()
	o.Trips = 3
	out := soak(t, o, sensor{true: func(t float64) float64 {
		switch {
		case t < 100 || t >= 120:
			return 79
		}
		return 84
	}}.samples(0, 900))
	last := out.last()
	if last.State != thermal.Equilibrium || last.Trips != 1 || math.Abs(last.DurationS-420) > 1.1 {
		t.Errorf("got %+v", last)
	}
	tripped := 0
	for _, step := range out.steps {
		if step.State == thermal.Tripped {
			tripped++
		}
	}
	if tripped != 20 {
		t.Errorf("%d records of the trip, want 20", tripped)
	}
}

func TestSeveralGPUs(t *testing.T) {
	t.Parallel()
	pair := func(a, b func(float64) float64, until float64) (samples []*record.Sample) {
		one := sensor{true: b}.samples(0, until)
		for i, s := range (sensor{true: a}).samples(0, until) {
			one[i].GPU = 1
			samples = append(samples, s, one[i])
		}
		return samples
	}
	still := func(float64) float64 { return 70 }
	t.Run("waits for the last", func(t *testing.T) {
		t.Parallel()
		out := soak(t, thermal.DefaultOptions(), pair(still, heating(30, 50, 150), 1700))
		if len(out.finals) != 2 || out.last().GPU != 0 || out.last().State != thermal.Equilibrium || out.last().DurationS < 500 || out.finals[0].State != thermal.Equilibrium {
			t.Errorf("got %+v", out.last())
		}
	})
	t.Run("one too hot", func(t *testing.T) {
		t.Parallel()
		out := soak(t, thermal.DefaultOptions(), pair(still, ramp(80, 6), 400))
		if last := out.last(); last.State != thermal.ThermalTrip || last.GPU != 1 || out.finals[0].State != thermal.ThermalTrip {
			t.Errorf("got %+v", last)
		}
	})
	t.Run("one falls silent", func(t *testing.T) {
		t.Parallel()
		samples := pair(still, still, 280)
		samples = append(samples, sensor{true: still}.samples(280.1, 600)...)
		out := soak(t, thermal.DefaultOptions(), samples)
		if last := out.last(); last.State != thermal.Interrupted {
			t.Errorf("got %+v", last)
		}
	})
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	x := sensor{true: func(float64) float64 { return 60 }}
	bits := x.samples(0, 3)
	for i, s := range bits {
		s.ThrottleReasons = record.Some(uint64(0x1 | 0x2 | 0x10 | 0x100))
		if i == 15 {
			s.ThrottleReasons = record.Some(uint64(0x4 | 0x40))
		}
	}
	out := soak(t, thermal.DefaultOptions(), bits)
	want := []string{"software power cap", "hardware thermal slowdown"}
	if got := out.last().ThrottleReasons; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for i, step := range out.steps {
		if (len(step.ThrottleReasons) > 0) != (i == 2) {
			t.Errorf("record %d: %q", i, step.ThrottleReasons)
		}
	}
	for name, tt := range map[string]struct {
		util int64
		want []string
	}{"under load": {99, []string{thermal.ClockDrop}}, "idle": {20, nil}} {
		clocks := x.samples(0, 30)
		for i, s := range clocks {
			s.UtilGPU, s.SMClockMHz = record.Some(tt.util), record.Some(int64(1980))
			if i >= 150 {
				s.SMClockMHz = record.Some(int64(1500))
			}
		}
		if got := soak(t, thermal.DefaultOptions(), clocks).last().ThrottleReasons; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestOrderAndNothing(t *testing.T) {
	t.Parallel()
	s, err := thermal.New(thermal.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	if s.Observe(&record.Sample{TimeNS: 5, ReadOK: true}); s.Begun() || s.Finish() != nil {
		t.Error("a soak without a temperature")
	}
	if s, err = thermal.New(thermal.DefaultOptions()); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []int64{100, 200, 150, 200} {
		s.Observe(&record.Sample{TimeNS: ns * second, ReadOK: true, TempC: record.Some(50.0)})
	}
	if s.Disordered() != 2 || !s.Begun() {
		t.Errorf("%d out of order", s.Disordered())
	}
	s.Interrupt("why")
	if last := s.Finish()[0]; last.State != thermal.Interrupted || last.Reason != "why" || !last.Final || last.DurationS != 100 {
		t.Errorf("got %+v", last)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*thermal.Options){
		"window": func(o *thermal.Options) { o.Window = 0 },
		"every":  func(o *thermal.Options) { o.Every = 0 },
		"max":    func(o *thermal.Options) { o.Max = 0 },
		"slope":  func(o *thermal.Options) { o.Slope = math.NaN() },
		"resume": func(o *thermal.Options) { o.Resume = o.TripC },
		"trips":  func(o *thermal.Options) { o.Trips = 0 },
	} {
		o := thermal.DefaultOptions()
		change(&o)
		if _, err := thermal.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The recording's 60 s at 690 W: 41 °C to 61 °C within seconds, then flat, and
// held down by the power limit.
func TestH200(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../testdata/h200/trace.ndjson.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := thermal.DefaultOptions()
	o.Window = 20 * time.Second
	o.Slope = 3
	s, err := thermal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	in := stream.NewReader(f, "trace")
	for in.Scan() {
		if r, ok := in.Record().(*record.Sample); ok && r.TimeNS >= 393305825330 && r.TimeNS <= 453330780912 {
			s.Observe(r)
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	last := s.Finish()[0]
	if last.State != thermal.Equilibrium || last.DurationS < 20 || last.DurationS > 50 || last.MaxSlopeCPerMin.V < 20 ||
		math.Abs(last.TempEndC.V-61) > 1 || !reflect.DeepEqual(last.ThrottleReasons, []string{"software power cap"}) {
		t.Errorf("got %+v", last)
	}
	if last.ThrottleSource != thermal.FromBits || last.PowerCapped != record.Some(true) || last.Overheated != record.Some(false) || last.QuantumC.V != 1 {
		t.Errorf("got %+v", last)
	}
	if last.PredictedC.OK && (last.PredictedHighC.V < 61.5 || last.PredictedLowC.V > 62.5) {
		t.Errorf("predicted %g to %g °C, it read 61 and 62 in its last seconds", last.PredictedLowC.V, last.PredictedHighC.V)
	}
}

func BenchmarkObserve(b *testing.B) {
	samples := sensor{noise: 0.3, true: heating(40, 70, 600)}.samples(0, 1800)
	o := thermal.DefaultOptions()
	o.Slope = 1e-9
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		soak(b, o, samples)
		n += len(samples)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// A prediction is made in between two samples of a live trace.
func BenchmarkPrediction(b *testing.B) {
	for name, curve := range map[string]func(float64) float64{"settled": heating(40, 70, 60), "slow": heating(40, 70, 300)} {
		b.Run(name, func(b *testing.B) {
			o := thermal.DefaultOptions()
			o.Slope = 1e-9 // to the end
			s, err := thermal.New(o)
			if err != nil {
				b.Fatal(err)
			}
			for _, r := range (sensor{noise: 0.2, true: curve}).samples(0, 1200) {
				s.Observe(r)
			}
			for b.Loop() {
				if !s.Finish()[0].PredictedC.OK {
					b.Fatal("no prediction")
				}
			}
		})
	}
}

// A soak that is being watched: the caller acts on Tripped and Over.
func ExampleSoak() {
	s, err := thermal.New(thermal.DefaultOptions())
	if err != nil {
		fmt.Println(err)
		return
	}
	for t := int64(0); !s.Over(); t++ {
		s.Observe(&record.Sample{TimeNS: t * second, ReadOK: true, TempC: record.Some(61.0)})
	}
	for _, r := range s.Finish() {
		fmt.Printf("%s after %.0f s, %.1f ± %.1f °C/min\n", r.State, r.DurationS, r.SlopeCPerMin.V, r.SlopeCI95.V)
	}
	// Output: equilibrium after 300 s, 0.0 ± 0.3 °C/min
}

// The memory's temperature is told beside the core's, where it was read.
func TestMemoryTemperature(t *testing.T) {
	t.Parallel()
	samples := sensor{true: heating(40, 60, 90)}.samples(0, 700)
	for i, r := range samples {
		if i%2 == 0 {
			r.MemTempC = record.Some(r.TempC.V + 9)
		}
	}
	samples[1000].MemTempC = record.Some(95.0)
	out := soak(t, thermal.DefaultOptions(), samples)
	if got := out.last().MemTempMaxC; got != record.Some(95.0) {
		t.Errorf("at most %v °C, want 95", got)
	}
	if r := soak(t, thermal.DefaultOptions(), sensor{true: heating(40, 60, 90)}.samples(0, 700)).last(); r.MemTempC.OK || r.MemTempMaxC.OK {
		t.Errorf("a memory temperature that nobody read: %+v", r)
	}
}
