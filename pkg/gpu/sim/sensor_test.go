package sim

import (
	"math"
	"slices"
	"testing"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// The rise of an H200 from idle with a context to fp32 matrix products, as its
// driver's 20 ms windows saw it.
func TestH200Step(t *testing.T) {
	t.Parallel()
	d, _ := watch(t, newLoad(t, Setup{},
		Segment{FromNS: at(0), UntilNS: at(100), Context: true}, run(60, 70, 1)), 100)
	for _, c := range []struct{ end, want, tolerance float64 }{
		{0.002, 123, 15}, {0.022, 476, 25}, {0.042, 623, 15}, {0.062, 651, 10}, {0.102, 665, 5},
	} {
		got := energy(t, d, 60+c.end-0.02, 60+c.end) / 0.02
		near(t, "20 ms mean", got, c.want, c.tolerance)
	}
}

// Means of a channel over some seconds, read every 100 ms, over the truth.
func TestReadingsOfASquareWave(t *testing.T) {
	t.Parallel()
	load := []Segment{{FromNS: at(0), UntilNS: at(100), Context: true}}
	for i := range 4 {
		load = append(load, run(20+6*float64(i), 23+6*float64(i), 1))
	}
	d, c := watch(t, newLoad(t, Setup{}, load...), 19)
	type sums struct{ average, instant, truth, n float64 }
	var high, low, all sums
	for range 270 {
		c.Advance(100 * ms)
		now := float64(c.Now()-origin) / 1e9
		s := sample(d)
		if s.PowerW != s.PowerAverageW {
			t.Fatalf("the default reading %v is not the average %v", s.PowerW, s.PowerAverageW)
		}
		sort := []*sums{&all}
		if phase := math.Mod(now-20, 6); now >= 20 && now < 20+24 {
			if phase < 3 {
				sort = append(sort, &high)
			} else {
				sort = append(sort, &low)
			}
		}
		for _, to := range sort {
			to.average += s.PowerAverageW.V
			to.instant += s.PowerInstantW.V
			to.truth += energy(t, d, now-0.1, now) * 10
			to.n++
		}
	}
	near(t, "average over truth, high", high.average/high.truth, 0.85, 0.03)
	near(t, "average over truth, low", low.average/low.truth, 1.72, 0.15)
	near(t, "instant over truth, high", high.instant/high.truth, 0.99, 0.03)
	near(t, "average over truth, all", all.average/all.truth, 1, 0.01)
	if high.n != 120 || low.n != 120 {
		t.Errorf("%v and %v readings, want 120 each", high.n, low.n)
	}
}

// The instant reading sees a fifth of the time, and so aliases with load whose
// period is that of its updates.
func TestInstantAliases(t *testing.T) {
	t.Parallel()
	var ratios []float64
	for phase := range 5 {
		load := []Segment{{FromNS: at(0), UntilNS: at(30), Context: true}}
		for i := range 100 {
			from := 10 + 0.1*float64(i) + 0.02*float64(phase)
			load = append(load, run(from, from+0.05, 1))
		}
		d, c := watch(t, newLoad(t, Setup{}, load...), 12)
		sum := 0.0
		for range 50 {
			c.Advance(100 * ms)
			sum += sample(d).PowerInstantW.V
		}
		ratios = append(ratios, sum/50/(energy(t, d, 12, 17)/5))
	}
	if least, most := slices.Min(ratios), slices.Max(ratios); least > 0.7 || most < 1.3 {
		t.Errorf("instant over truth by phase: %.2f, want some below 0.7 and some above 1.3", ratios)
	}
}

func TestDriverSamples(t *testing.T) {
	t.Parallel()
	load := []Segment{{FromNS: at(0), UntilNS: at(100), Context: true}, run(20, 23, 1), run(24, 24.3, 0.7)}
	d, c := watch(t, newLoad(t, Setup{}, load...), 20)
	g := d.GPUs()[0]
	var b gpu.PowerBatch
	if err := g.ReadPower(&b); err != nil {
		t.Fatal(err)
	}
	if len(b.Entries) != 119 || b.Overflow {
		t.Fatalf("the first harvest has %d entries, overflow %v: want the 119 that are kept", len(b.Entries), b.Overflow)
	}
	for range 7 {
		c.Advance(second + 3*ms)
		if err := g.ReadPower(&b); err != nil || b.Overflow || b.Clock == "" {
			t.Fatalf("error %v, overflow %v, clock %q", err, b.Overflow, b.Clock)
		}
	}
	e := &d.boards[0].eye
	for when := at(20); when < at(25); when += 313 * ms / 100 {
		if n := e.lastWindow(when); e.window(n) > when || e.window(n+1) <= when {
			t.Fatalf("at %d the last window was over at %d, the next at %d", when, e.window(n), e.window(n+1))
		}
	}
	sum := 0.0
	for i, e := range b.Entries[1:] {
		spacing := e.TimeNS - b.Entries[i].TimeNS
		if spacing < 16*ms || spacing > 24*ms {
			t.Errorf("entries %d and %d are %d ns apart", i, i+1, spacing)
		}
		sum += e.PowerW * float64(spacing) / 1e9
		truth, err := d.Energy(0, b.Entries[i].TimeNS, e.TimeNS)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "an entry", e.PowerW, truth/(float64(spacing)/1e9), 35)
	}
	first, last := b.Entries[0].TimeNS, b.Entries[len(b.Entries)-1].TimeNS
	if age := c.Now() - last; age < 0 || age > 30*ms {
		t.Errorf("the last entry is %d ns old", age)
	}
	truth, err := d.Energy(0, first, last)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "entries over truth", sum/truth, 1, 0.01)

	b = gpu.PowerBatch{}
	c.Advance(10 * second)
	if err := g.ReadPower(&b); err != nil || !b.Overflow || len(b.Entries) != 119 {
		t.Errorf("after 10 s: error %v, overflow %v, %d entries: want an overflow and 119", err, b.Overflow, len(b.Entries))
	}
	b = gpu.PowerBatch{}
	if err := g.ReadPower(&b); err != nil || b.Overflow || len(b.Entries) != 0 {
		t.Errorf("at once again: error %v, overflow %v, %d entries: want none", err, b.Overflow, len(b.Entries))
	}
}

func TestCounter(t *testing.T) {
	t.Parallel()
	d, c := watch(t, newLoad(t, Setup{}, run(10, 15, 1)), 9)
	g := d.GPUs()[0]
	var ticks, costs []int64
	var before record.Counter
	for c.Now() < at(20) {
		var r record.Counter
		g.ReadCounter(&r)
		mj, ok := r.EnergyMilliJ.Get()
		if !ok || r.Error != "" {
			t.Fatalf("no reading: %+v", r)
		}
		costs = append(costs, r.TimeNS-r.BeforeNS)
		if last, ok := before.EnergyMilliJ.Get(); ok && mj != last {
			ticks = append(ticks, r.TimeNS)
			// The truth 25 ms before an update that was since the last read.
			least := energy(t, d, 0, float64(before.TimeNS-origin)/1e9-0.025)
			most := energy(t, d, 0, float64(r.TimeNS-origin)/1e9-0.025)
			if j := float64(mj) / 1e3; j < least-0.001 || j > most {
				t.Errorf("at %d: %v J, want %v to %v", r.TimeNS, j, least, most)
			}
		}
		before = r
	}
	near(t, "updates in 11 s", float64(len(ticks)), 110, 1)
	near(t, "from the first to the last", float64(ticks[len(ticks)-1]-ticks[0])/float64(len(ticks)-1), 1e8, 1e6)
	slices.Sort(costs)
	near(t, "median call, ms", float64(costs[len(costs)/2])/1e6, 2.9, 0.3)
	near(t, "95 of 100 calls, ms", float64(costs[len(costs)*95/100])/1e6, 6.4, 1.5)
}

func TestSoakH200(t *testing.T) {
	t.Parallel()
	load := []Segment{{FromNS: at(0), UntilNS: at(200), Context: true}, run(60, 120, 1)}
	load[1].Memory = 0.5
	d, c := watch(t, newLoad(t, Setup{}, load...), 59)
	s := sample(d)
	near(t, "temperature before", s.TempC.V, 38, 1)
	near(t, "clock before", float64(s.SMClockMHz.V), 1980, 0)
	c.Advance(21 * second)
	s = sample(d)
	near(t, "temperature after 20 s", s.TempC.V, 61, 1.5)
	c.Advance(30 * second)
	s = sample(d)
	near(t, "power at the limit", s.PowerW.V, 690, 3)
	near(t, "true power at the limit", power(t, d, 110), 690, 0.1)
	if s.ThrottleReasons.V != reasonPowerCap || s.SMClockMHz.V >= 1950 || s.SMClockMHz.V < 1500 {
		t.Errorf("at the limit: reasons %#x, clock %d", s.ThrottleReasons.V, s.SMClockMHz.V)
	}
	// 541 W of arithmetic at the full clock go with its square.
	near(t, "clock at the limit", float64(s.SMClockMHz.V), 1980*math.Sqrt((690-124-0.6*(s.TempC.V-38)-55)/541), 20)
	c.Advance(20 * second)
	s = sample(d)
	if s.ThrottleReasons.V != 0 || s.SMClockMHz.V != 1980 || s.UtilGPU.V != 0 {
		t.Errorf("afterwards: %+v", s)
	}
	c.Advance(100 * second)
	s = sample(d)
	if s.ThrottleReasons.V != reasonIdle || s.SMClockMHz.V != 345 || s.VRAMUsedMB.V != 615 {
		t.Errorf("without a context: %+v", s)
	}
	near(t, "power without a context", s.PowerW.V, 79, 1)
}

func TestLaptop(t *testing.T) {
	t.Parallel()
	full := run(100, 1000, 1)
	full.Memory, full.VRAMMB = 1, 20000
	d, c := watch(t, newLoad(t, Setup{Profile: "rtx4080-laptop"}, full, Segment{FromNS: at(1000), UntilNS: at(1100), Context: true}), 99)
	to := func(seconds float64) record.Sample {
		c.SleepUntil(at(seconds))
		return sample(d)
	}
	s := to(99)
	if s.PState.V != 8 || s.SMClockMHz.V != 210 || s.ThrottleReasons.V != reasonIdle {
		t.Errorf("idle: %+v", s)
	}
	near(t, "idle power", s.PowerW.V, 25.8, 0.3)
	near(t, "idle temperature", s.TempC.V, 40, 1)
	s = to(110)
	if s.PState.V != 0 || s.ThrottleReasons.V != reasonPowerCap || s.UtilGPU.V != 100 {
		t.Errorf("at work: %+v", s)
	}
	near(t, "memory, all of it", s.VRAMUsedMB.V, 12282, 0)
	near(t, "power at work", s.PowerW.V, 148, 3)
	s = to(990)
	if s.ThrottleReasons.V&reasonSWThermal == 0 || s.SMClockMHz.V >= 2280 {
		t.Errorf("hot: %+v", s)
	}
	near(t, "temperature when hot", s.TempC.V, 83.5, 1)
	if !d.boards[0].eye.state(at(990)).fan {
		t.Error("the fan is off at 83 °C")
	}
	if s = to(1005); s.PState.V != 2 || s.ThrottleReasons.V != 0 {
		t.Errorf("just after work: %+v", s)
	}
	if s = to(1050); s.PState.V != 8 || s.ThrottleReasons.V != 0 {
		t.Errorf("with a context: %+v", s)
	}
	if s = to(1400); s.PState.V != 8 || s.ThrottleReasons.V != reasonIdle {
		t.Errorf("long after work: %+v", s)
	}
	if d.boards[0].eye.state(at(1400)).fan {
		t.Error("the fan is on when idle")
	}
	var u record.GPM
	if _, err := d.GPUs()[0].ReadGPM(&u); err != gpu.ErrNotSupported {
		t.Errorf("GPM: %v", err)
	}
	if err := d.GPUs()[0].ReadPower(&gpu.PowerBatch{}); err != gpu.ErrNotSupported {
		t.Errorf("driver samples: %v", err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	s := run(10, 20, 0.5)
	s.Memory = 0.8
	d, c := watch(t, newLoad(t, Setup{}, s), 9.9)
	g := d.GPUs()[0]
	var u record.GPM
	if ok, err := g.ReadGPM(&u); ok || err != nil {
		t.Fatalf("the first reading: %v, %v", ok, err)
	}
	c.Advance(99 * ms)
	if ok, err := g.ReadGPM(&u); ok || err != nil {
		t.Fatalf("a reading after 99 ms: %v, %v", ok, err)
	}
	c.Advance(101 * ms)
	if ok, err := g.ReadGPM(&u); !ok || err != nil {
		t.Fatalf("a reading after 200 ms: %v, %v", ok, err)
	}
	if u.StartNS != at(9.9) || u.TimeNS != at(10.1) {
		t.Errorf("from %d to %d", u.StartNS, u.TimeNS)
	}
	near(t, "SM use", u.SMUtil.V, 25, 1e-6)
	near(t, "DRAM use", u.DRAMBWUtil.V, 40, 1e-6)
	near(t, "graphics use", u.GraphicsUtil.V, 40, 1e-6)
	c.Advance(second)
	r := sample(d)
	if r.UtilGPU.V != 80 || r.UtilMem.V != 80 {
		t.Errorf("utilisation: %+v", r)
	}
}
