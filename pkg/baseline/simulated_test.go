package baseline_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/record"
)

// scene is what a simulated H200 does while its idle power is measured, with
// times in seconds from the beginning.
type scene struct {
	name    string
	load    func(rng *rand.Rand, add func(from, until float64, s sim.Segment))
	options func(*baseline.Options)
	seconds float64
	windows []float64 // from, until, …
	reason  string    // part of one of the reasons; empty: a true idle
}

var scenes = []scene{
	{name: "true idle, no context"},
	{name: "true idle, context", load: context},
	{name: "true idle, model resident", load: func(_ *rand.Rand, add func(float64, float64, sim.Segment)) {
		add(0, 1e3, sim.Segment{Context: true, VRAMMB: 16000})
	}},
	{name: "true idle in two windows", load: context, seconds: 150, windows: []float64{0, 70, 80, 150}},
	{name: "busy at 15 %", reason: "utilisation p95", load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
		context(rng, add)
		for at := 0.0; at < 75; at += 0.2 {
			add(at, at+0.03, sim.Segment{Compute: 1})
		}
	}},
	{name: "bursts of 20 ms, one in 2 s", reason: "bursts in", load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
		context(rng, add)
		for at := rng.ExpFloat64() * 2; at < 75; at += 0.1 + rng.ExpFloat64()*1.9 {
			add(at, at+0.02, sim.Segment{Compute: 1})
		}
	}},
	{name: "a context comes", reason: "varied from", load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
		add(15+50*rng.Float64(), 1e3, sim.Segment{Context: true})
	}},
	{name: "a light load begins, 2 %", reason: "power went from", load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
		context(rng, add)
		add(20+40*rng.Float64(), 1e3, sim.Segment{Compute: 0.02})
	}},
	{name: "memory of another process", reason: "another process holds it", load: context,
		options: func(o *baseline.Options) { o.State = baseline.NoContext }},
	{name: "memory comes", reason: "another process came or went", load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
		context(rng, add)
		add(15+50*rng.Float64(), 1e3, sim.Segment{VRAMMB: 500})
	}},
	{name: "power above the known idle", reason: "is known to idle at", load: context,
		options: func(o *baseline.Options) { o.ExpectW = 79 }},
	{name: "a server left behind by a run", reason: "from the first window to the last", seconds: 230, windows: []float64{0, 70, 160, 230},
		load: func(rng *rand.Rand, add func(float64, float64, sim.Segment)) {
			context(rng, add)
			add(80, 155, sim.Segment{Compute: 1})
			add(155, 1e3, sim.Segment{Compute: 0.01})
		}},
}

func context(_ *rand.Rand, add func(float64, float64, sim.Segment)) {
	add(0, 1e3, sim.Segment{Context: true})
}

// play is the outcome of a scene on one simulated GPU, polled at 10 Hz with the
// energy counter.
func (s scene) play(t *testing.T, seed uint64) baseline.Idle {
	t.Helper()
	const origin = 1
	file := filepath.Join(t.TempDir(), fmt.Sprint(seed))
	defer os.Remove(file)
	load, err := sim.OpenLoad(file, sim.Setup{Seed: seed, OriginNS: origin, Faults: sim.Faults{StallRate: record.Some(0.0)}})
	if err != nil {
		t.Fatal(err)
	}
	defer load.Close()
	at := func(seconds float64) int64 { return origin + int64(seconds*second) }
	if s.load != nil {
		s.load(rand.New(rand.NewPCG(seed, 3)), func(from, until float64, segment sim.Segment) {
			segment.FromNS, segment.UntilNS = at(from), at(until)
			if err := load.Append(segment); err != nil {
				t.Fatal(err)
			}
		})
	}
	now := clock.NewFake(at(1))
	device, err := sim.Open(sim.Options{File: file, Clock: now})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	o := baseline.DefaultOptions()
	o.Settle, o.MinDuration = 10*time.Second, 60*time.Second
	for i := 0; i+1 < len(s.windows); i += 2 {
		o.Windows = append(o.Windows, record.Window{FromNS: at(s.windows[i]), UntilNS: at(s.windows[i+1])})
	}
	if s.options != nil {
		s.options(&o)
	}
	m, err := baseline.NewMeter(o)
	if err != nil {
		t.Fatal(err)
	}
	seconds := s.seconds
	if seconds == 0 {
		seconds = 75
	}
	board := device.GPUs()[0]
	m.Observe(&record.Header{GPUs: []record.GPU{board.Info()}})
	for tick := 10; float64(tick) < seconds*10; tick++ {
		now.SleepUntil(at(float64(tick) / 10))
		var sample record.Sample
		board.ReadSample(&sample)
		m.Observe(&sample)
		var counter record.Counter
		board.ReadCounter(&counter)
		m.Observe(&counter)
	}
	got, without := m.Result()
	if len(got) != 1 {
		t.Fatalf("seed %d: %v", seed, without)
	}
	return got[0]
}

// Every cause of a fake idle is caught in 95 % of the runs or more, and a true
// idle is called a fake one in 5 % or fewer.
func TestSimulatedIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			fake, named := 0, 0
			var other, watts []string
			for seed := range seeds {
				i := s.play(t, seed+1)
				if i.FakeIdle {
					fake++
				}
				if slices.ContainsFunc(i.FakeIdleReasons, func(r string) bool { return strings.Contains(r, s.reason) }) {
					named++
				}
				if s.reason == "" && i.FakeIdle || seed == 0 || !slices.ContainsFunc(i.FakeIdleReasons, func(r string) bool { return strings.Contains(r, s.reason) }) && s.reason != "" {
					other = append(other, i.FakeIdleReasons...)
					w, se := i.Watts()
					watts = append(watts, fmt.Sprintf("%.2f ± %.2f W, n_eff %.0f, %s", w, se, i.NEff.V, i.Doubts))
				}
			}
			t.Logf("%-30s fake %5.1f %%, by its own reason %5.1f %% of %d; %s; %.300q", s.name, 100*float64(fake)/float64(seeds), 100*float64(named)/float64(seeds), seeds, watts[0], other)
			if s.reason == "" && fake*20 > int(seeds) {
				t.Errorf("%d of %d true idles were called fake: %q", fake, seeds, other)
			}
			if s.reason != "" && named*20 < int(seeds)*19 {
				t.Errorf("caught by its own reason in %d of %d", named, seeds)
			}
		})
	}
}
