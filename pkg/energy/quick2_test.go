package energy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

func TestQuick2(t *testing.T) {
	if os.Getenv("QUICK") == "" {
		t.Skip()
	}
	for _, d := range []float64{0.02, 0.1, 0.3, 1, 3, 10} {
		var e2, v2, n, in float64
		for seed := range 40 {
			rng := rand.New(rand.NewPCG(uint64(seed), 9))
			ch := &sensor.Channel{UpdateMS: record.Some(20.0), WindowMS: record.Some(20.0), WindowCI95MS: []float64{19.8, 20.2}, LagMS: record.Some(0.0), LagCI95MS: []float64{-1, 1}, Coverage: record.Some(1.0)}
			ss := &sensor.Sensors{GPUs: []sensor.GPU{{GPU: 0, Channels: map[string]*sensor.Channel{"driver": ch}}}}
			a, _ := New(Options{Sensors: ss}, func(e *record.Event) error {
				j := e.Energy.Joules.V
				s := e.Energy.CI95J.V / 1.96
				if !e.Energy.Joules.OK {
					return nil
				}
				n++
				e2 += (j - 60*e.Duration()) * (j - 60*e.Duration())
				v2 += s * s
				if math.Abs(j-60*e.Duration()) < 1.96*s {
					in++
				}
				return nil
			})
			next := int64(5e9)
			k := 0
			for ns := int64(0); ns < int64(40*(d+2)*1e9)+20e9; ns += 20e6 {
				if ns > next && k < 40 {
					s := next + int64(3e7*rng.Float64())
					if s < ns {
						s = ns
					}
					a.Event(&record.Event{ID: fmt.Sprint(k), Phase: "idle", StartNS: s, EndNS: s + int64(d*1e9)})
					next = s + int64(d*1e9) + int64(1e9*(0.3+rng.Float64()))
					k++
				}
				a.Observe(&record.Power{TimeNS: ns, PowerW: 60 + .5*rng.NormFloat64()})
			}
			a.Finish()
		}
		fmt.Printf("d %.2f n %.0f cover %.3f rms %.4f predicted %.4f white %.4f\n", d, n, in/n, math.Sqrt(e2/n), math.Sqrt(v2/n), .5*math.Sqrt(.02*d))
	}
}
