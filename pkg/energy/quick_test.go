package energy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

func TestQuick(t *testing.T) {
	if os.Getenv("QUICK") == "" {
		t.Skip()
	}
	n, _ := strconv.Atoi(os.Getenv("QUICK"))
	type sens struct {
		name           string
		update, window float64
		poll           float64
		driver         bool
	}
	for _, sn := range []sens{{"100/100 poll 100", 100, 100, 100, false}, {"100/100 poll 20", 100, 100, 20, false}, {"1000/100", 100, 1000, 20, false}, {"25/100", 100, 25, 20, false}, {"20/20", 20, 20, 100, true}, {"hold 500", 500, 500, 50, false}} {
		type stat struct{ n, in, big, refused, rel float64 }
		by := map[string]*stat{}
		for seed := range n {
			rng := rand.New(rand.NewPCG(uint64(seed), 7))
			var curve sensor.Curve
			now := int64(0)
			cum := 0.0
			var ev []*record.Event
			truth := map[string]float64{}
			add := func(name string, s, w float64) {
				d := int64(s * 1e9)
				if name != "" {
					e := &record.Event{ID: fmt.Sprint(len(ev)), Phase: name, StartNS: now, EndNS: now + d, GPUs: []int{0}}
					ev = append(ev, e)
					truth[e.ID] = w * float64(d) / 1e9
				}
				now += d
				cum += w * s
				curve.Until(now, w)
			}
			add("", 20, 60)
			for i := range 40 {
				add("prefill", 0.08+0.3*rng.Float64(), 300*(1+.03*rng.NormFloat64()))
				add("decode", 0.3+1.5*rng.Float64(), 180*(1+.03*rng.NormFloat64()))
				add("", 0.2+rng.Float64(), 60)
				if i%4 == 0 {
					add("idle", 0.3+rng.Float64(), 60)
					add("", 0.5+rng.Float64(), 60)
				}
			}
			add("", 12, 60)
			ms := func(v float64) time.Duration { return time.Duration(v * 1e6) }
			m := sensor.Model{Update: ms(sn.update), Window: ms(sn.window), Phase: ms(rng.Float64() * sn.update)}
			name := "instant"
			if sn.driver {
				name = "driver"
			}
			if sn.window >= 500 {
				name = "average"
			}
			ch := &sensor.Channel{UpdateMS: record.Some(sn.update), UpdateSE: record.Some(sn.update * 1e-5), WindowMS: record.Some(sn.window), WindowCI95MS: []float64{sn.window * .99, sn.window * 1.01}, LagMS: record.Some(0.0), LagCI95MS: []float64{-1, 1}, Coverage: record.Some(min(1, sn.window/sn.update))}
			ss := &sensor.Sensors{GPUs: []sensor.GPU{{GPU: 0, Channels: map[string]*sensor.Channel{name: ch}}}}
			var got []*record.Event
			a, err := New(Options{Sensors: ss}, func(e *record.Event) error { c := *e; got = append(got, &c); return nil })
			if err != nil {
				t.Fatal(err)
			}
			next := 0
			give := func(ns int64) {
				for next < len(ev) && ev[next].StartNS <= ns {
					if err := a.Event(ev[next]); err != nil {
						t.Fatal(err)
					}
					next++
				}
			}
			step := int64(sn.poll * 1e6)
			if sn.driver {
				step = int64(sn.update * 1e6)
			}
			for k := int64(1); k*step < now; k++ {
				ns := k * step
				if sn.driver {
					ns += int64(m.Phase)
					w := m.Reading(&curve, ns) + .5*rng.NormFloat64()
					give(ns)
					a.Observe(&record.Power{TimeNS: ns, PowerW: w})
					continue
				}
				ns += int64(3e5 * rng.NormFloat64())
				u := int64(m.Update)
				tick := ns - ((ns-int64(m.Phase))%u+u)%u
				r2 := rand.New(rand.NewPCG(uint64(seed), uint64(tick)))
				w := m.Reading(&curve, tick) + .5*r2.NormFloat64()
				w = math.Round(w*1000) / 1000
				s := &record.Sample{TimeNS: ns, ReadOK: true}
				if name == "instant" {
					s.PowerInstantW = record.Some(w)
				} else {
					s.PowerAverageW = record.Some(w)
				}
				give(ns)
				a.Observe(s)
			}
			give(now)
			if err := a.Finish(); err != nil {
				t.Fatal(err)
			}
			for _, e := range got {
				s := by[e.Phase]
				if s == nil {
					s = &stat{}
					by[e.Phase] = s
				}
				j, ok := e.Energy.Joules.Get()
				if !ok {
					s.refused++
					continue
				}
				ci := e.Energy.CI95J.V
				z := (j - truth[e.ID]) / (ci / 1.96)
				s.n++
				if math.Abs(z) < 1.96 {
					s.in++
				}
				if math.Abs(z) > 4 {
					s.big++
				}
				s.rel += (j/truth[e.ID] - 1) * (j/truth[e.ID] - 1)
				if os.Getenv("V") != "" && math.Abs(z) > 3 {
					fmt.Println(sn.name, seed, e.ID, e.Phase, e.Duration(), j, truth[e.ID], ci)
				}
			}
		}
		for _, k := range []string{"prefill", "decode", "idle"} {
			s := by[k]
			fmt.Printf("%-18s %-8s n %5.0f refused %3.0f cover %.3f |z|>4 %.4f rms %.4f\n", sn.name, k, s.n, s.refused, s.in/s.n, s.big/s.n, math.Sqrt(s.rel/s.n))
		}
	}
}
