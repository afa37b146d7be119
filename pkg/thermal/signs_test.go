package thermal_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"
)

// clocked is a sample a tenth of a second after the one before it.
func clocked(k int, celsius float64, mhz, util int64) *record.Sample {
	return &record.Sample{
		TimeNS: 1000*second + int64(k)*second/10, ReadOK: true, TempC: record.Some(celsius),
		SMClockMHz: record.Some(mhz), UtilGPU: record.Some(util),
	}
}

// Where there is no mask, what fell at high utilisation is the sign; what
// varies as loads do is none.
func TestFalls(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	for _, tt := range []struct {
		name string
		at   func(k int) (mhz, util int64)
		want []string
	}{
		{"steady", func(int) (int64, int64) { return 1980, 99 }, nil},
		{"noise", func(int) (int64, int64) { return 1900 + rng.Int64N(120), 99 }, nil},
		{"a moment", func(k int) (int64, int64) {
			if k%200 < 15 {
				return 1200, 99
			}
			return 1980, 99
		}, nil},
		{"the load ends", func(k int) (int64, int64) {
			if k > 300 {
				return 345, 0
			}
			return 1980, 99
		}, nil},
		{"comes and goes", func(k int) (int64, int64) {
			if k%100 < 50 {
				return 345, 3
			}
			return 1980, 99
		}, nil},
		{"bursts that begin slowly", func(k int) (int64, int64) {
			switch {
			case k%100 < 50:
				return 345, 3
			case k%100 < 60:
				return 1000, 99
			}
			return 1980, 99
		}, nil},
		{"a tenth less, nearly", func(k int) (int64, int64) {
			if k > 300 {
				return 1800, 99
			}
			return 1980, 99
		}, nil},
		{"falls", func(k int) (int64, int64) {
			if k > 300 {
				return 1700, 99
			}
			return 1980, 99
		}, []string{thermal.ClockDrop}},
	} {
		s, err := thermal.New(thermal.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		for k := range 600 {
			mhz, util := tt.at(k)
			s.Observe(clocked(k, 60, mhz, util))
		}
		last := s.Finish()[0]
		if !reflect.DeepEqual(last.ThrottleReasons, tt.want) || last.ThrottleSource != thermal.FromFalls || last.PowerCapped.OK {
			t.Errorf("%s: %q from %q", tt.name, last.ThrottleReasons, last.ThrottleSource)
		}
	}
}

// A mask that says nothing is the last word, whatever the clocks do; it tells
// the power limit from the heat, and settings from both.
func TestMaskComesFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		bits            uint64
		names           []string
		capped, thermal bool
	}{
		{"none", 0, nil, false, false},
		{"idle, settings, sync boost, display", 0x1 | 0x2 | 0x10 | 0x100, nil, false, false},
		{"power cap", 0x4, []string{"software power cap"}, true, false},
		{"slowdown", 0x8, []string{"hardware slowdown"}, false, false},
		{"software thermal", 0x20, []string{"software thermal slowdown"}, false, true},
		{"hardware thermal", 0x40, []string{"hardware thermal slowdown"}, false, true},
		{"power brake", 0x80, []string{"power brake"}, false, false},
		{"two", 0x24, []string{"software power cap", "software thermal slowdown"}, true, true},
	} {
		s, err := thermal.New(thermal.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		for k := range 600 {
			mhz := int64(1980)
			if k > 300 {
				mhz = 1000
			}
			r := clocked(k, 60, mhz, 99)
			r.ThrottleReasons = record.Some(tt.bits)
			s.Observe(r)
		}
		last := s.Finish()[0]
		if !reflect.DeepEqual(last.ThrottleReasons, tt.names) || last.ThrottleSource != thermal.FromBits ||
			last.PowerCapped != record.Some(tt.capped) || last.Overheated != record.Some(tt.thermal) {
			t.Errorf("%s: %+v", tt.name, last)
		}
	}
}

func TestThroughputFalls(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		rate func(i int) (float64, int64)
		want []string
	}{
		{"steady", func(i int) (float64, int64) { return 100 + float64(i%3), 1 }, nil},
		{"falls", func(i int) (float64, int64) { return 100 - 30*float64(i/10), 1 }, []string{thermal.ThroughputDrop}},
		{"batches differ", func(i int) (float64, int64) { return 100 / float64(1+i%2), int64(1 + i%2) }, nil},
	} {
		s, err := thermal.New(thermal.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			s.Observe(clocked(i, 60, 1980, 99))
			rate, batch := tt.rate(i)
			s.ObserveWork(&record.Event{Phase: "decode", BatchSize: record.Some(batch), TokensPerSecond: record.Some(rate)})
		}
		if got := s.Finish()[0].ThrottleReasons; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

// The clock at a temperature depends on where that comes from, or does not.
func TestHysteresis(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, tt := range []struct {
		name string
		gap  float64 // MHz more on the way up
		down bool
	}{{"a loop", 40, true}, {"no loop", 0, true}, {"only up", 40, false}} {
		outside := 0
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 9))
			o := thermal.DefaultOptions()
			o.Slope = 1e-9 // to the end
			s, err := thermal.New(o)
			if err != nil {
				t.Fatal(err)
			}
			for k := range 4000 {
				celsius, clock := 50+float64(k)/100, 1980.0
				if k >= 2000 {
					celsius, clock = 90-float64(k)/100, 1980-tt.gap
				}
				if k >= 2000 && !tt.down {
					break
				}
				clock += -4*(celsius-50) + 5*rng.NormFloat64()
				s.Observe(clocked(k, math.Round(celsius), int64(math.Round(clock)), 99))
			}
			last := s.Finish()[0]
			if !tt.down {
				if last.Hysteresis.OK {
					t.Errorf("%s: %g MHz·°C", tt.name, last.Hysteresis.V)
				}
				continue
			}
			if span := last.HysteresisC.V; span < 17 || span > 21 {
				t.Fatalf("%s: over %g °C, want 20", tt.name, span)
			}
			want := tt.gap * last.HysteresisC.V
			if ci := last.HysteresisCI95.V; ci <= 0 || ci > 60 {
				t.Errorf("%s: ± %g", tt.name, ci)
			}
			if math.Abs(last.Hysteresis.V-want) > last.HysteresisCI95.V {
				outside++
			}
		}
		if outside > 3 {
			t.Errorf("%s: outside its interval in %d of 20", tt.name, outside)
		}
	}
}

// What the readings are rounded to, and the slope by when they change.
func TestQuantumAndCrossings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		quantum, perMin float64
		until           float64
		crossings       int64
	}{
		{1, 1, 300, 5}, {0.5, 1, 300, 10}, {0.25, -1, 300, 20}, {2, 1, 600, 2}, {1, 0, 300, 0}, {1, 0.1, 300, 0},
	} {
		o := thermal.DefaultOptions()
		o.Slope = 1e-9
		s, err := thermal.New(o)
		if err != nil {
			t.Fatal(err)
		}
		for k := range int(tt.until*10) + 1 {
			// From just above a boundary, so that the crossings are a quantum apart.
			c := 40.05 + tt.perMin*float64(k)/600
			s.Observe(clocked(k, math.Round(c/tt.quantum)*tt.quantum, 1980, 99))
		}
		last := s.Finish()[0]
		if math.Abs(last.QuantumC.V-tt.quantum) > 1e-9 && tt.until == 300 {
			t.Errorf("%+v: found %g °C", tt, last.QuantumC.V)
		}
		if d := last.Crossings.V - tt.crossings; tt.until == 300 && (d < -1 || d > 1) {
			t.Errorf("%+v: %d crossings", tt, last.Crossings.V)
		}
		if math.Abs(last.CrossingCPerMin.V-tt.perMin) > last.CrossingCI95.V+1e-9 {
			t.Errorf("%+v: %g ± %g °C/min by crossings", tt, last.CrossingCPerMin.V, last.CrossingCI95.V)
		}
	}
}

// Readings that flicker between two values cross nothing.
func TestChatter(t *testing.T) {
	t.Parallel()
	s, err := thermal.New(thermal.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	for k := range 2900 {
		s.Observe(clocked(k, 60+float64(k/7%2), 1980, 99))
	}
	if last := s.Finish()[0]; last.Crossings.V != 0 || math.Abs(last.CrossingCPerMin.V) > last.CrossingCI95.V {
		t.Errorf("%d crossings, %g °C/min", last.Crossings.V, last.CrossingCPerMin.V)
	}
}

func TestPowerDrift(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		share   float64 // of the power, in 5 minutes
		settled bool
	}{{0, true}, {0.002, true}, {0.02, false}, {-0.02, false}} {
		o := thermal.DefaultOptions()
		o.Rule = thermal.Settled
		s, err := thermal.New(o)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for k := range 3100 {
			r := clocked(k, 60, 1980, 99)
			r.PowerW = record.Some(500 * (1 + tt.share*float64(k)/3000 + 0.001*rng.NormFloat64()))
			s.Observe(r)
		}
		last := s.Finish()[0]
		if math.Abs(last.PowerDrift.V-tt.share) > max(2*last.PowerDriftCI95.V, 0.05*math.Abs(tt.share)) || last.Rule[thermal.Settled] != tt.settled {
			t.Errorf("%+v: %g ± %g, settled %v", tt, last.PowerDrift.V, last.PowerDriftCI95.V, last.Rule[thermal.Settled])
		}
		if !tt.settled && last.State != thermal.Interrupted {
			t.Errorf("%+v: %s", tt, last.State)
		}
	}
}

// The board's own limit moves the trip down, never up; what was not read
// breaks the row of cool readings.
func TestLimitAndFailedReads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		limit   float64 // 0: none known
		temps   []float64
		tripped string
	}{
		{"no limit", 0, []float64{82, 82, 83, 83}, "---t"},
		{"far limit", 95, []float64{82, 82, 83, 83}, "---t"},
		{"near limit", 80, []float64{77, 78, 78, 76, 76, 75, 75}, "--tttt-"},
		{"a failed read between cool ones", 0, []float64{83, 83, 80, 0, 80, 80}, "-tttt-"},
		{"a failed read between hot ones", 0, []float64{83, 0, 83}, "--t"},
	} {
		o := thermal.DefaultOptions()
		o.Trips = 2
		s, err := thermal.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if tt.limit > 0 {
			s.Limit(0, tt.limit)
		}
		got := ""
		for k, c := range tt.temps {
			r := clocked(k, c, 1980, 99)
			r.ReadOK = c > 0
			s.Observe(r)
			got += map[bool]string{true: "t", false: "-"}[s.Tripped()]
		}
		if got != tt.tripped {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.tripped)
		}
	}
}
