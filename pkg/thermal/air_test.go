package thermal_test

import (
	"math"
	"testing"
	"time"

	"joulepipe/pkg/thermal"
)

// A die that has risen within seconds is foretold from then on, whether the air
// then stands still or moves it to and fro by a degree in minutes, of which no
// exponential is; one that goes on rising by degrees a minute is not, nor one
// that rises all the time.
func TestAir(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	swell := func(c, period float64) func(float64) float64 {
		return func(t float64) float64 { return 65 - 25*math.Exp(-t/3) + c*math.Sin(2*math.Pi*t/period) }
	}
	for _, tt := range []struct {
		name  string
		curve func(float64) float64
		after float64 // s
		made  int     // % of the records from then on, at least; 0: none at all
		half  float64 // °C at most, in the mean
	}{
		{"still", swell(0, 1), 45, 100, 2.6},
		{"to and fro", swell(1.2, 500), 60, 80, 3.1},
		{"goes on", func(t float64) float64 { return swell(0, 1)(t) + 2.5*t/60 }, 75, 0, 0},
		{"slow all the time", heating(40, 80, 1500), 30, 0, 0},
	} {
		o := thermal.DefaultOptions()
		o.Rule, o.Max, o.TripC, o.Every, o.Slope = thermal.Settled, 1e15, 200, 15*time.Second, 1e-9
		asked, made, held := 0, 0, 0
		width := 0.0
		for _, step := range soak(t, o, sensor{noise: 0.1, true: tt.curve}.samples(0, 600)).steps {
			if step.DurationS < tt.after {
				continue
			}
			if asked++; !step.PredictedC.OK {
				continue
			}
			made++
			low, high := step.PredictedLowC.V, step.PredictedHighC.V
			if low <= 65 && 65 <= high {
				held++
			}
			if !(low <= step.PredictedC.V && step.PredictedC.V <= high) {
				t.Errorf("%s: after %g s %g in [%g, %g] °C", tt.name, step.DurationS, step.PredictedC.V, low, high)
			}
			width += high - low
		}
		half := width / 2 / float64(max(1, made))
		t.Logf("%s: %d of %d, %d hold, ± %.2f °C in the mean", tt.name, made, asked, held, half)
		if half > tt.half {
			t.Errorf("%s: ± %.2f °C", tt.name, half)
		}
		if 100*made < tt.made*asked || tt.made == 0 && made > 0 || 10*held < 9*made {
			t.Errorf("%s: %d predictions in %d records, %d hold", tt.name, made, asked, held)
		}
	}
}

// A slow stage that has begun to show is in the forecast; a die that has stood
// still for long has none left.
func TestSlowStage(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, tt := range []struct {
		name       string
		sign       float64
		slow, tau  float64
		after      float64 // s
		above      float64 // °C that the interval reaches beyond the reading, at least
		below      float64 // and at most
		holdsLimit bool
	}{
		{"young", 1, 0, 1, 45, 5, 7, true},
		{"young, falling", -1, 0, 1, 45, 5, 7, true},
		{"old", 1, 0, 1, 900, 0.5, 2.1, true},
		{"shows", 1, 3, 200, 240, 1, 4.5, true},
		{"shows, falling", -1, 3, 200, 240, 1, 4.5, true},
	} {
		o := thermal.DefaultOptions()
		o.Rule, o.Max, o.TripC, o.Every, o.Slope = thermal.Settled, 1e15, 200, 15*time.Second, 1e-9
		curve := func(t float64) float64 {
			return 55 + tt.sign*(25-(25-tt.slow)*math.Exp(-t/4)-tt.slow*math.Exp(-t/tt.tau))
		}
		last := soak(t, o, sensor{noise: 0.1, true: curve}.samples(0, tt.after)).last()
		low, high := last.PredictedLowC.V, last.PredictedHighC.V
		limit := 55 + tt.sign*25
		reach := high - curve(tt.after)
		if tt.sign < 0 {
			reach = curve(tt.after) - low
		}
		t.Logf("%s: [%.2f, %.2f] °C at %.2f, goes to %.2f", tt.name, low, high, curve(tt.after), limit)
		if !last.PredictedC.OK || reach < tt.above || reach > tt.below || (low <= limit && limit <= high) != tt.holdsLimit {
			t.Errorf("%s: %g in [%g, %g] °C, at %g", tt.name, last.PredictedC.V, low, high, curve(tt.after))
		}
	}
}
