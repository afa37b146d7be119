package energy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
)

func TestZMeter(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	steps, square := external(t, "rtx3090-steps"), external(t, "rtx3090-square")
	fitter := sensor.NewFitter()
	for i := range steps.samples {
		fitter.Observe(&steps.samples[i])
	}
	for _, ns := range steps.toggles {
		fitter.Toggle(ns)
	}
	s, err := fitter.Finish()
	if err != nil {
		t.Fatal(err)
	}
	got, want := steps.only(energy.Instant).windows(t, energy.Auto, s, 1e9, steps.on-1e9, 0, steps.end-8e8, false, 0.02, 1)
	line, _ := stats.FitLine(got, want)
	fmt.Printf("gain line %+v of %d\n", line, len(got))
	// second gain: from plateaus of meter and readings
	plateau := func(r *recording, a, b int64) (m, n float64) {
		k := 0.0
		for _, x := range r.samples {
			if x.TimeNS >= a && x.TimeNS < b {
				n += x.PowerInstantW.V
				k++
			}
		}
		return r.meter.between(a, b) / (float64(b-a) / 1e9), n / k
	}
	m1, n1 := plateau(&steps, steps.on-1e9, steps.on-1e8)
	m2, n2 := plateau(&steps, steps.on+3e9, steps.on+58e8)
	sl := (m2 - m1) / (n2 - n1)
	fmt.Printf("plateau gain %.4f offset %.2f\n", sl, m1-sl*n1)
	var odd []int64
	for i := 0; i < len(square.toggles); i += 2 {
		odd = append(odd, square.toggles[i])
	}
	only := square.only(energy.Instant)
	for _, kind := range []string{"random", "rise to rise", "fall to fall", "rise to fall"} {
		rng := rand.New(rand.NewPCG(4, 4))
		var e2, n2_, z2, in, e1 float64
		for range 60 {
			var ev *record.Event
			switch kind {
			case "random":
				at := square.on + 3e8 + rng.Int64N(6.4e9)
				ev = &record.Event{ID: "x", Phase: "w", StartNS: at, EndNS: at + 1e9}
			default:
				k := 2 * (3 + rng.IntN(55))
				l := 20
				if kind == "fall to fall" {
					k++
				}
				if kind == "rise to fall" {
					l = 19
				}
				if k+l >= len(odd) {
					continue
				}
				ev = &record.Event{ID: "x", Phase: "w", StartNS: odd[k], EndNS: odd[k+l]}
			}
			var tr []record.Record
			for i := range only.samples {
				tr = append(tr, &only.samples[i])
			}
			done, _ := attribute(t, energy.Options{Sensors: s}, tr, []*record.Event{ev})
			e := done[0]
			if !e.Energy.Joules.OK {
				continue
			}
			f := line.Intercept*e.Duration() + line.Slope*e.Energy.Joules.V
			w := square.meter.between(e.StartNS, e.EndNS)
			e2 += (f/w - 1) * (f/w - 1)
			e1 += f/w - 1
			z := (f - w) / (line.Slope * e.Energy.CI95J.V / 1.96)
			z2 += z * z
			if math.Abs(z) < 1.96 {
				in++
			}
			n2_++
		}
		fmt.Printf("%-14s n %.0f rms %.3f%% mean %.3f%% rms z %.2f inside %.1f%%\n", kind, n2_, 100*math.Sqrt(e2/n2_), 100*e1/n2_, math.Sqrt(z2/n2_), 100*in/n2_)
	}
	// what a perfect clock could do: straight line through the meter's running energy at whole periods
	rng := rand.New(rand.NewPCG(4, 4))
	var e2, n float64
	for range 400 {
		at := square.on + 3e8 + rng.Int64N(6.4e9)
		// cumulative energy smoothed by one load period
		p := int64(100e6)
		sm := func(x int64) float64 { s := 0.0; for q := int64(-50); q < 50; q++ { s += square.meter.between(square.on, x+q*p/100) }; return s / 100 }
		est := sm(at+1e9) - sm(at)
		w := square.meter.between(at, at+1e9)
		e2 += (est/w - 1) * (est/w - 1)
		n++
	}
	fmt.Printf("ideal 100 ms boxcar, toggles unknown: rms %.3f%%\n", 100*math.Sqrt(e2/n))
}
