package sim

import (
	"math"
	"testing"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// What TR122 read of an idle laptop: mean 20.71 W, spread 9.97 W, least 1.2 W.
func TestFloorReadings(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{Profile: "rtx4080-laptop", Faults: Faults{FloorRate: record.Some(0.207)}}, run(200, 300, 0.5))
	d, c := watch(t, l, 60)
	var n, sum, squares, least float64
	least = math.Inf(1)
	for range 1200 {
		c.Advance(100 * ms)
		w := sample(d).PowerW.V
		n, sum, squares, least = n+1, sum+w, squares+w*w, min(least, w)
	}
	mean := sum / n
	near(t, "mean", mean, 20.71, 0.8)
	near(t, "spread", math.Sqrt(squares/n-mean*mean), 9.97, 0.7)
	near(t, "least", least, 1.2, 0)
	near(t, "true mean", energy(t, d, 60, 180)/120, 25.8, 0.1)
	c.SleepUntil(at(210))
	for range 500 {
		c.Advance(100 * ms)
		if s := sample(d); s.PowerW.V < record.FloorW {
			t.Fatalf("a floor reading under load: %+v", s)
		}
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	d, c := watch(t, newLoad(t, Setup{Faults: Faults{ReadErrorRate: record.Some(0.1)}}), 10)
	names := map[string]int{}
	counters := 0
	for range 2000 {
		c.Advance(10 * ms)
		s := sample(d)
		if s.ReadOK != (s.Error == "") || s.ReadOK != s.PowerW.OK || s.PowerW.OK != s.PowerInstantW.OK {
			t.Fatalf("neither read nor failed: %+v", s)
		}
		names[s.Error]++
		var r record.Counter
		d.GPUs()[0].ReadCounter(&r)
		if r.EnergyMilliJ.OK == (r.Error != "") {
			t.Fatalf("neither read nor failed: %+v", r)
		}
		if r.Error != "" {
			counters++
		}
	}
	near(t, "failed samples", float64(2000-names[""]), 200, 45)
	near(t, "failed counter readings", float64(counters), 200, 45)
	if names[string(gpu.ErrUnknown)] == 0 || names[string(gpu.ErrTimeout)] == 0 || len(names) != 3 {
		t.Errorf("errors: %v", names)
	}
}

func TestLostGPU(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{GPUs: 2, Faults: Faults{LostFromNS: 5 * second, LostUntilNS: 7 * second, LostGPU: record.Some(1)}})
	d, c := watch(t, l, 4)
	for _, step := range []struct {
		at   float64
		lost bool
	}{{4.9, false}, {5, true}, {6.9, true}, {7.1, false}} {
		c.SleepUntil(at(step.at))
		for i, g := range d.GPUs() {
			want := ""
			if step.lost && i == 1 {
				want = string(gpu.ErrLost)
			}
			var s record.Sample
			g.ReadSample(&s)
			if s.Error != want || s.ReadOK != (want == "") {
				t.Errorf("at %v s GPU %d: %+v", step.at, i, s)
			}
			if want == "" {
				continue
			}
			if s.TempC.OK || s.PowerW.OK {
				t.Errorf("readings of a lost GPU: %+v", s)
			}
			if err := g.ReadPower(&gpu.PowerBatch{}); err != gpu.ErrLost {
				t.Errorf("driver samples of a lost GPU: %v", err)
			}
			if _, err := g.ReadGPM(&record.GPM{}); err != gpu.ErrLost {
				t.Errorf("units of a lost GPU: %v", err)
			}
			if err := g.ReadProcesses(&gpu.ProcessBatch{}); err != gpu.ErrLost {
				t.Errorf("processes of a lost GPU: %v", err)
			}
			var r record.Counter
			if g.ReadCounter(&r); r.Error != want || r.EnergyMilliJ.OK {
				t.Errorf("counter of a lost GPU: %+v", r)
			}
		}
	}
}

// A call waits while a context or an allocation is made.
func TestStalls(t *testing.T) {
	t.Parallel()
	context := Segment{FromNS: at(5), UntilNS: at(60), Context: true}
	vram := Segment{FromNS: at(10), UntilNS: at(60), VRAMMB: 1000}
	for _, c := range []struct {
		name  string
		rate  float64
		at    float64
		stall bool
	}{
		{"new context", 1, 5.001, true},
		{"before it", 1, 4.999, false},
		{"after it", 1, 5.25, false},
		{"allocation", 1, 10.02, true},
		{"all given back", 1, 60.01, false},
		{"never", 0, 5.001, false},
	} {
		d, clock := watch(t, newLoad(t, Setup{Faults: Faults{StallRate: record.Some(c.rate)}}, context, vram), c.at)
		s := sample(d)
		took := float64(clock.Now()-at(c.at)) / 1e6
		if c.stall != (took > 0) || took > 240 || s.TimeNS != clock.Now() {
			t.Errorf("%s: a reading took %v ms, stamped %v ms", c.name, took, float64(s.TimeNS-at(c.at))/1e6)
		}
		if c.stall {
			near(t, c.name+", read_us", s.ReadUS.V, took*1e3, 1)
		}
	}
}

// A laptop in hot air starts with its fan on, and as warm as it stays.
func TestStartInHotAir(t *testing.T) {
	t.Parallel()
	d, _ := watch(t, newLoad(t, Setup{Profile: "rtx4080-laptop", Faults: Faults{AmbientC: record.Some(60.0)}}), 1000)
	for _, when := range []float64{0, 1, 1000} {
		s := d.boards[0].eye.state(at(when))
		near(t, "temperature", s.temp, 60+0.4*power(t, d, when), 1e-6)
		if !s.fan {
			t.Error("the fan is off")
		}
	}
}

// Hot air brings an H200 to where its hardware slows down.
func TestHotAir(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{Faults: Faults{AmbientC: record.Some(75.0)}}, run(10, 200, 1))
	d, c := watch(t, l, 9)
	near(t, "temperature before", sample(d).TempC.V, 80, 2)
	var seen uint64
	held := false // below the temperature where it began
	for range 300 {
		c.Advance(500 * ms)
		s := sample(d)
		seen |= s.ThrottleReasons.V
		if s.ThrottleReasons.V&reasonHWThermal == 0 {
			continue
		}
		if s.SMClockMHz.V > 1000 {
			t.Fatalf("not slowed down: %+v", s)
		}
		held = held || s.TempC.V <= 88
	}
	if want := uint64(reasonSWThermal | reasonHWThermal | reasonSlowdown); seen&want != want {
		t.Errorf("reasons seen: %#x, want all of %#x", seen, want)
	}
	if !held {
		t.Error("the hardware let go at the temperature where it began")
	}
}
