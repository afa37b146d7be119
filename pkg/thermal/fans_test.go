package thermal_test

import (
	"testing"
	"time"

	"joulepipe/pkg/thermal"
)

// What a change of the fans takes from a slow cooler's equilibrium is within the
// interval before whole degrees tell of it, on the way up and on the way down;
// a fast one, which would tell, has a narrow interval all the same.
func TestUnseenChange(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	const changed = 400.0
	for _, tt := range []struct {
		name          string
		start, end    float64
		tau           float64
		by            float64 // °C that the change gives
		after         float64 // s, when the soak ends
		least, widest float64 // °C
		held          bool
	}{
		{"slow, rising", 40, 65, 200, -1.5, 40, 2, 8, true},
		{"slow, falling", 75, 50, 200, 1.5, 40, 2, 8, true},
		{"fast, steady", 40, 65, 20, 0, 40, 0.5, 4, true},
		{"fast, by surprise", 40, 65, 20, -6, 5, 0.5, 8, false},
	} {
		made, held := 0, 0
		for seed := range uint64(6) {
			r := run{start: tt.start, end: tt.end + float64(seed)/6, tau: tt.tau, fans: []change{{changed, -tt.by}}}
			o := thermal.DefaultOptions()
			o.Rule, o.Max, o.TripC, o.Every = thermal.Settled, 1e15, 200, 15*time.Second
			o.Slope = 1e-9 // to the end
			x := sensor{seed: seed, noise: 0.1, true: r.at}
			last := soak(t, o, x.sparse(changed+tt.after)).last()
			if !last.PredictedC.OK {
				continue
			}
			made++
			low, high := last.PredictedLowC.V, last.PredictedHighC.V
			goal := r.goal(changed + tt.after)
			if low <= goal && goal <= high {
				held++
			}
			if high-low < tt.least || high-low > tt.widest || !(low <= last.PredictedC.V && last.PredictedC.V <= high) {
				t.Errorf("%s: %g in [%g, %g] °C", tt.name, last.PredictedC.V, low, high)
			}
		}
		if made < 4 {
			t.Errorf("%s: %d predictions", tt.name, made)
		}
		if (held >= made-1) != tt.held {
			t.Errorf("%s: %d of %d held", tt.name, held, made)
		}
	}
}
