package sensor_test

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// simulated is a sensor of random shape before a load of random switches.
type simulated struct {
	model   sensor.Model
	power   sensor.Curve
	toggles []int64
	reads   []*record.Sample
}

const second = int64(time.Second)

func simulate(seed uint64) *simulated {
	rng := rand.New(rand.NewPCG(seed, 7))
	between := func(lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
	ms := func(v float64) time.Duration { return time.Duration(v * 1e6) }
	update := between(15, 120)
	s := &simulated{model: sensor.Model{
		Update: ms(update),
		Phase:  ms(between(0, update)),
		Window: ms(math.Exp(between(math.Log(0.15*update), math.Log(1000)))),
		Lag:    ms(between(0, 60)),
	}}
	// The board takes the load with a time constant of its own: an exponential
	// in steps of a millisecond.
	tau, idle, full := between(0.1, 12), between(50, 150), between(250, 700)
	at, on, watts := 3*second, false, idle
	s.power.Until(0, idle)
	s.power.Until(at, idle)
	for at < 25*second {
		s.toggles = append(s.toggles, at)
		on = !on
		hold := between(40, 700)
		if rng.IntN(8) == 0 {
			hold = between(2200, 3500)
		}
		target := idle
		if on {
			target = full
		}
		for end := at + int64(hold*1e6); at < end; {
			const step = int64(time.Millisecond) / 2
			next := min(at+step, end)
			f := math.Exp(-float64(next-at) / 1e6 / tau)
			mean := target + (watts-target)*(1-f)*tau/(float64(next-at)/1e6)
			watts = target + (watts-target)*f
			at = next
			s.power.Until(at, mean)
		}
	}
	// Noise belongs to an update, not to a read of it.
	noise := map[int64]float64{}
	poll := update / 10
	for ns := second; ns < at; ns += int64(poll * between(0.7, 1.3) * 1e6) {
		tick := (ns - int64(s.model.Phase)) / int64(s.model.Update)
		if _, ok := noise[tick]; !ok {
			noise[tick] = rng.NormFloat64()
		}
		w := s.model.Reading(&s.power, ns) + noise[tick]
		s.reads = append(s.reads, &record.Sample{TimeNS: ns, ReadOK: true, PowerInstantW: record.Some(math.Round(w*1000) / 1000)})
	}
	return s
}

func (s *simulated) fit(t *testing.T) *sensor.Channel {
	f := sensor.NewFitter()
	for _, r := range s.reads {
		f.Observe(r)
	}
	for _, ns := range s.toggles {
		f.Toggle(ns)
	}
	found, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return found.Channel(0, record.ChannelInstant)
}

// Of random sensors each parameter has to lie in its interval in about 95 % of
// cases, and no window that is told may be far from the truth. With
// JOULEPIPE_LONG in the environment it is two hundred sensors.
func TestIntervals(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	sensors, least, most := 12, 0.75, 1.0
	if os.Getenv("JOULEPIPE_LONG") != "" {
		sensors, least, most = 200, 0.92, 0.98
	}
	inside := map[string]int{}
	told := 0
	for seed := range uint64(sensors) {
		s := simulate(seed)
		c := s.fit(t)
		update, window, lag := s.model.Update.Seconds()*1e3, s.model.Window.Seconds()*1e3, s.model.Lag.Seconds()*1e3
		good := func(what string, ok bool) {
			if ok {
				inside[what]++
			} else {
				t.Logf("sensor %d (update %.2f, window %.2f, lag %.2f ms): %s outside of %+v", seed, update, window, lag, what, *c)
			}
		}
		good("update", math.Abs(c.UpdateMS.V-update) <= 1.96*c.UpdateSE.V)
		in := func(ci []float64, v float64) bool { return len(ci) == 2 && ci[0] <= v && v <= ci[1] }
		good("window", in(c.WindowCI95MS, window))
		good("lag", in(c.LagCI95MS, lag))
		if w, ok := c.WindowMS.Get(); ok && c.Ambiguous == nil {
			told++
			if width := c.WindowCI95MS[1] - c.WindowCI95MS[0]; math.Abs(w-window) > width+0.05*window {
				t.Errorf("sensor %d: window %.1f ms told with certainty as %.1f ms %.1f", seed, window, w, c.WindowCI95MS)
			}
		}
	}
	for _, what := range []string{"update", "window", "lag"} {
		share := float64(inside[what]) / float64(sensors)
		t.Logf("%s: inside in %.1f %%", what, 100*share)
		if share < least || share > most {
			t.Errorf("%s: inside its interval in %.1f %% of %d sensors", what, 100*share, sensors)
		}
	}
	t.Logf("window told of %d of %d", told, sensors)
	if told < sensors*3/4 {
		t.Errorf("the window of only %d of %d sensors is told", told, sensors)
	}
}
