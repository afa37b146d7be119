package poll

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

var everyChannel = map[string]time.Duration{gpu.Sample: 0, gpu.Power: 0, gpu.Counter: 100 * time.Millisecond, gpu.GPM: 200 * time.Millisecond, gpu.Process: time.Second}

// The counter's call is dear: beside the driver's power samples it is a check.
func TestUsualPeriods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		channels map[string]time.Duration
		lacks    string
		counters int
	}{
		{map[string]time.Duration{gpu.Counter: 0}, "", 31},
		{map[string]time.Duration{gpu.Counter: 0, gpu.Power: 0}, "", 4},
		{map[string]time.Duration{gpu.Counter: 0, gpu.Power: 0}, gpu.Power, 31},
		{map[string]time.Duration{gpu.Counter: 500 * time.Millisecond, gpu.Power: 0}, "", 7},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out kept
			g := &fake{}
			if c.lacks != "" {
				g.channels = map[string]string{gpu.Counter: "ok"}
			}
			if _, err := Run(t.Context(), []gpu.GPU{g}, bubble{}, Config{Channels: c.channels, Duration: 3 * time.Second}, &out); err != nil {
				t.Fatal(err)
			}
			if len(out.counters) != c.counters {
				t.Errorf("%v without %q: %d counter records, want %d", c.channels, c.lacks, len(out.counters), c.counters)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out kept
		begin := bubble{}.Now()
		p, err := Run(t.Context(), []gpu.GPU{&fake{index: 0}, &fake{index: 3}}, bubble{}, Config{
			Channels: everyChannel,
			Duration: 2950 * time.Millisecond,
		}, &out)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Duration(bubble{}.Now() - begin); took != lead+2950*time.Millisecond {
			t.Errorf("Run took %v", took)
		}
		wantTicks(t, &out, 0, upTo(30))
		wantTicks(t, &out, 3, upTo(30))
		wantOnTime(t, &out)
		for _, s := range out.samples {
			dt, ok := s.DtS.Get()
			if first := s.Tick.V == 0; ok == first || !first && dt != 0.1 {
				t.Errorf("tick %d: dt_s = %v, %v", s.Tick.V, dt, ok)
			}
		}
		// Power at 0, 1, 2 s and the end; the counter at each tick and the end;
		// GPM every 200 ms from the second call, and the end.
		if n, m, g := len(out.powers), len(out.counters), len(out.gpms); n != 2*4 || m != 2*31 || g != 2*15 {
			t.Errorf("%d power, %d counter, %d gpm records; want 8, 62, 30", n, m, g)
		}
		if n := len(out.processes); n != 2*4 {
			t.Errorf("%d process records, want 8: each second, and at the end", n)
		}

		if p.Overall.SamplesTotal != 60 || len(p.GPUs) != 2 || p.GPUs[1].GPU.V != 3 || p.GPUs[1].SamplesTotal != 30 {
			t.Errorf("account: %+v", p)
		}
		if o := p.Overall; o.Quality != "good" || o.SchedulingQuality != "strict" || o.DroppedTicks != 0 || o.TargetPeriodMS != 100 {
			t.Errorf("overall: %+v", o)
		}
		want := record.Channel{Calls: 4, Records: 4, Clock: "monotonic"}
		got := p.GPUs[0].Channels[gpu.Power]
		if got.Calls != want.Calls || got.Records != want.Records || got.Clock != want.Clock || got.CallMaxMS != record.Some(0.0) {
			t.Errorf("power channel: %+v, want %+v", got, want)
		}
		if c := p.Overall.Channels[gpu.GPM]; c.Calls != 32 || c.Records != 30 {
			t.Errorf("gpm channel of both GPUs: %+v", c)
		}
	})
}

// A driver that takes one call at a time, as NVIDIA's does, keeps the grid's
// reading waiting only when a slow call happens to last into the next tick.
func TestSlowCallsAreOffBeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		driver := make(chan struct{}, 1) // a mutex would stop the bubble's time
		call := func(d time.Duration) {
			driver <- struct{}{}
			time.Sleep(d)
			<-driver
		}
		waited := time.Duration(0)
		g := &fake{
			sample: func(int, *record.Sample) {
				begin := bubble{}.Now()
				call(100 * time.Microsecond)
				waited = max(waited, time.Duration(bubble{}.Now()-begin)-100*time.Microsecond)
			},
			power:   func(int, *gpu.PowerBatch) error { call(8 * time.Millisecond); return nil },
			counter: func(int, *record.Counter) { call(20 * time.Millisecond) },
			gpm:     func(int, *record.GPM) (bool, error) { call(9 * time.Millisecond); return true, nil },
			process: func(int, *gpu.ProcessBatch) error { call(9 * time.Millisecond); return nil },
		}
		var out kept
		if _, err := Run(t.Context(), []gpu.GPU{g}, bubble{}, Config{Channels: everyChannel, Duration: 5 * time.Second}, &out); err != nil {
			t.Fatal(err)
		}
		if len(out.samples) != 50 || len(out.counters) != 51 || waited > 0 {
			t.Errorf("%d samples, %d counter records; a reading waited for %v", len(out.samples), len(out.counters), waited)
		}
	})
}

func TestSlowCounterMovesNoTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &fake{counter: func(_ int, c *record.Counter) {
			time.Sleep(109 * time.Millisecond)
			c.EnergyMilliJ = record.Some(int64(1))
		}}
		var out kept
		p, err := Run(t.Context(), []gpu.GPU{slow}, bubble{}, Config{
			Channels: map[string]time.Duration{gpu.Sample: 10 * time.Millisecond, gpu.Counter: 20 * time.Millisecond},
			Duration: 2 * time.Second,
		}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantTicks(t, &out, 0, upTo(200))
		wantOnTime(t, &out)
		// A call of 109 ms leaves one tick of 20 ms in 120 ms.
		if n := len(out.counters); n != 18 {
			t.Errorf("%d counter records in 2 s, want one every 120 ms and the last: 18", n)
		}
		if c := p.GPUs[0].Channels[gpu.Counter]; c.CallP50MS.V != 109 || c.CallMaxMS.V != 109 {
			t.Errorf("counter calls: %+v, want 109 ms", c)
		}
	})
}

func TestHungCallStopsOnlyItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer synctest.Wait()
		defer close(release)
		hangs := &fake{index: 0, sample: func(n int, _ *record.Sample) {
			if n == 4 {
				<-release
			}
		}}
		var out kept
		begin := bubble{}.Now()
		p, err := Run(t.Context(), []gpu.GPU{hangs, &fake{index: 1}}, bubble{}, Config{
			Channels: map[string]time.Duration{gpu.Sample: 0, gpu.Counter: 0},
			Duration: 2 * time.Second,
		}, &out)
		var hung *HungError
		if !errors.As(err, &hung) || !slices.Equal(hung.Calls, []string{"GPU 0 sample"}) {
			t.Errorf("Run = %v, want a HungError for GPU 0 sample", err)
		}
		if took := time.Duration(bubble{}.Now() - begin); took > 2*time.Second+lead+patience {
			t.Errorf("Run took %v", took)
		}
		wantTicks(t, &out, 0, upTo(3))
		wantTicks(t, &out, 1, upTo(20))
		wantOnTime(t, &out)
		if n := len(out.counters); n != 2*21 {
			t.Errorf("%d counter records, want 42: the GPU's other channel goes on", n)
		}
		if got := p.GPUs[0].DroppedTicks; got != 17 {
			t.Errorf("GPU 0 dropped %d ticks, want 17", got)
		}
	})
}

// A reading that takes longer than the period costs the ticks that it covers and
// no other: the next one is on the grid, on time and alone.
func TestSlowReadingNeverBursts(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		takes time.Duration
		want  []int64 // ticks of 2 s at 100 ms
	}{
		{5 * ms, upTo(20)},
		{99 * ms, upTo(20)},
		{100 * ms, upTo(20)},
		{101 * ms, []int64{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}},
		{240 * ms, []int64{0, 3, 6, 9, 12, 15, 18}},
		{400 * ms, []int64{0, 4, 8, 12, 16}},
		{401 * ms, []int64{0, 5, 10, 15}},
	} {
		t.Run(c.takes.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slow := &fake{sample: func(_ int, s *record.Sample) { time.Sleep(c.takes) }}
				var out kept
				p, err := Run(t.Context(), []gpu.GPU{slow, &fake{index: 1}}, bubble{}, Config{
					Channels: map[string]time.Duration{gpu.Sample: 100 * ms},
					Duration: 2 * time.Second,
				}, &out)
				if err != nil {
					t.Fatal(err)
				}
				wantTicks(t, &out, 0, c.want)
				wantTicks(t, &out, 1, upTo(20))
				wantOnTime(t, &out)
				if got := p.GPUs[0].DroppedTicks; got != int64(20-len(c.want)) {
					t.Errorf("%d dropped ticks in the account, want %d", got, 20-len(c.want))
				}
			})
		})
	}
}

// A counter that goes back was reset: the values stand as they were read, and
// the account says how often.
func TestCounterThatGoesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		values := []int64{1000, 1100, 1100, -1, 1200, 7, 8, 3, 3}
		f := &fake{counter: func(n int, c *record.Counter) {
			if v := values[min(n, len(values))-1]; v < 0 {
				c.Error = string(gpu.ErrTimeout) // a failed read is no reset
			} else {
				c.EnergyMilliJ = record.Some(v)
			}
		}}
		var out kept
		p, err := Run(t.Context(), []gpu.GPU{f}, bubble{}, Config{Channels: map[string]time.Duration{gpu.Counter: 0}, Duration: time.Second}, &out)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if want := (record.Opt[int64]{V: v, OK: true}); v >= 0 && out.counters[i].EnergyMilliJ != want {
				t.Errorf("reading %d is %+v, want %d", i, out.counters[i], v)
			}
		}
		if c := p.GPUs[0].Channels[gpu.Counter]; c.Gaps != 2 {
			t.Errorf("%d gaps, want 2: %+v", c.Gaps, c)
		}
	})
}

func TestHangThatEndsIsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stalls := &fake{sample: func(n int, s *record.Sample) {
			if n == 3 {
				time.Sleep(720 * time.Millisecond)
				s.TimeNS = bubble{}.Now()
			}
		}}
		var out kept
		p, err := Run(t.Context(), []gpu.GPU{stalls}, bubble{}, Config{
			Channels: map[string]time.Duration{gpu.Sample: 0},
			Duration: 2 * time.Second,
		}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantTicks(t, &out, 0, append(upTo(3), upTo(20)[10:]...))
		wantOnTime(t, &out)
		if g := p.GPUs[0]; g.DroppedTicks != 7 || g.GapCount != 1 || g.MaxGapMS.V != 820 || g.ContinuityQuality != "degraded" {
			t.Errorf("account of the stall: %+v", g)
		}
	})
}

// The sink stands still for 15 s, longer than the store lasts: ticks are
// dropped, none is late, and what was read before comes out complete.
func TestFullQueueDropsTicks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		out := kept{}
		out.write = func(r record.Record) error {
			if len(out.samples) == 100 {
				time.Sleep(15 * time.Second)
			}
			return nil
		}
		p, err := Run(t.Context(), []gpu.GPU{&fake{}}, bubble{}, Config{
			Channels: map[string]time.Duration{gpu.Sample: 10 * ms},
			Duration: 20 * time.Second,
		}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantOnTime(t, &out)
		for _, s := range out.samples {
			if off := s.TimeNS - out.samples[0].TimeNS - s.Tick.V*int64(10*ms); off != 0 {
				t.Fatalf("tick %d was read %v after its time", s.Tick.V, time.Duration(off))
			}
		}
		// 1 s goes out at once, 10 s wait in the store (one record is being
		// written), then it is full until 16 s.
		want := append(upTo(1100), upTo(2000)[1601:]...)
		if got := out.ticks(0); len(got) < 1490 || len(got) > 1510 || !slices.Equal(got[:1100], want[:1100]) || got[len(got)-1] != 1999 {
			t.Errorf("%d samples, the last of tick %d; want about %d and tick 1999", len(got), got[len(got)-1], len(want))
		}
		if got := p.GPUs[0].DroppedTicks; got != 2000-int64(len(out.samples)) {
			t.Errorf("%d dropped and %d written of 2000 ticks", got, len(out.samples))
		}
	})
}

// The power buffer has more than the store holds: the channel waits, and
// nothing is lost.
func TestSlowChannelWaitsForTheSink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const each = 1000
		n := int64(0)
		f := &fake{power: func(_ int, b *gpu.PowerBatch) error {
			for range each {
				n++
				b.Entries = append(b.Entries, record.Power{TimeNS: n})
			}
			return nil
		}}
		out := kept{write: func(record.Record) error {
			time.Sleep(time.Millisecond / 2)
			return nil
		}}
		p, err := Run(t.Context(), []gpu.GPU{f}, bubble{}, Config{
			Channels: map[string]time.Duration{gpu.Sample: 100 * time.Millisecond, gpu.Power: 0},
			Duration: 3 * time.Second,
		}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantOnTime(t, &out)
		wantTicks(t, &out, 0, upTo(30))
		for i, r := range out.powers {
			if r.TimeNS != int64(i+1) {
				t.Fatalf("entry %d is number %d", i+1, r.TimeNS)
			}
		}
		if c := p.GPUs[0].Channels[gpu.Power]; int64(len(out.powers)) != n || c.Records != n || n != 4*each {
			t.Errorf("%d entries read, %d written, %d counted; want %d", n, len(out.powers), c.Records, 4*each)
		}
	})
}

func TestCancelIsARegularEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		clock  clock.Clock
		period time.Duration
		hang   bool
		within time.Duration
		want   int64
	}{
		{"usual", bubble{}, 100 * time.Millisecond, false, 100 * time.Millisecond, 11},
		{"long period", bubble{}, time.Hour, false, 100 * time.Millisecond, 1},
		{"hung counter", bubble{}, 100 * time.Millisecond, true, patience, 11},
		{"late wake-up", sleepy{}, 100 * time.Millisecond, false, 200 * time.Millisecond, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer synctest.Wait()
				defer close(release)
				f := &fake{counter: func(int, *record.Counter) {
					if c.hang {
						<-release
					}
				}}
				ctx, cancel := context.WithCancel(t.Context())
				var at int64
				time.AfterFunc(1050*time.Millisecond, func() {
					at = bubble{}.Now()
					cancel()
				})
				var out kept
				p, err := Run(ctx, []gpu.GPU{f}, c.clock, Config{Channels: map[string]time.Duration{gpu.Sample: c.period, gpu.Counter: 0}}, &out)
				var hung *HungError
				if c.hang != errors.As(err, &hung) || !c.hang && err != nil {
					t.Errorf("Run = %v", err)
				}
				if late := time.Duration(bubble{}.Now() - at); late > c.within {
					t.Errorf("Run ended %v after it was cancelled, want %v", late, c.within)
				}
				wantTicks(t, &out, 0, upTo(c.want))
				if p.Overall.SamplesTotal != c.want || p.Overall.DroppedTicks != 0 {
					t.Errorf("account: %+v", p.Overall)
				}
			})
		})
	}
}

func TestSinkFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		out := kept{}
		out.write = func(record.Record) error {
			if len(out.samples) == 5 {
				return full
			}
			return nil
		}
		begin := bubble{}.Now()
		p, err := Run(t.Context(), []gpu.GPU{&fake{}}, bubble{}, Config{Channels: everyChannel}, &out)
		if err != full {
			t.Errorf("Run = %v, want %v", err, full)
		}
		if took := time.Duration(bubble{}.Now() - begin); took > time.Second {
			t.Errorf("Run ended %v after its start", took)
		}
		if len(out.samples) != 5 || p.Overall.SamplesTotal < 5 {
			t.Errorf("%d samples written, account %+v", len(out.samples), p.Overall)
		}
	})
}

func TestFlushedInTime(t *testing.T) {
	t.Parallel()
	for _, period := range []time.Duration{time.Millisecond, 90 * time.Millisecond, 3 * time.Second} {
		t.Run(period.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out kept
				_, err := Run(t.Context(), []gpu.GPU{&fake{}}, bubble{}, Config{
					Channels: map[string]time.Duration{gpu.Sample: period},
					Duration: 10 * time.Second,
				}, &out)
				if err != nil || len(out.samples) == 0 || len(out.buffered) != 0 {
					t.Errorf("Run = %v with %d samples, %d of them not flushed", err, len(out.samples), len(out.buffered))
				}
				if out.longest > defaultFlush {
					t.Errorf("a record waited %v for its flush", out.longest)
				}
				// Long after the last flush the next is at once: no wake-up of
				// its own.
				if period > defaultFlush && out.longest > 0 {
					t.Errorf("a record every %v waited %v for its flush", period, out.longest)
				}
			})
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{
			sample: func(n int, s *record.Sample) {
				if n%3 == 0 {
					*s = record.Sample{TimeNS: s.TimeNS, Error: string(gpu.ErrLost)}
				}
			},
			power: func(n int, b *gpu.PowerBatch) error {
				b.Overflow = n == 2
				return map[bool]error{true: gpu.ErrTimeout}[n == 3]
			},
			counter: func(n int, c *record.Counter) { c.Error = string(gpu.ErrUnknown) },
			gpm:     func(n int, g *record.GPM) (bool, error) { return false, errors.New("odd") },
			process: func(n int, b *gpu.ProcessBatch) error {
				if n == 2 {
					return gpu.ErrTimeout
				}
				b.Entries = append(b.Entries, record.Process{PID: record.Some(int64(n)), Error: map[bool]string{true: string(gpu.ErrImplausible)}[n == 3]})
				return nil
			},
		}
		var out kept
		p, err := Run(t.Context(), []gpu.GPU{f}, bubble{}, Config{Channels: everyChannel, Duration: 3 * time.Second}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantTicks(t, &out, 0, upTo(30))
		// A call that failed is a record of the time for which it should have told.
		if len(out.processes) != 4 || out.processes[1].PID.OK || out.processes[1].Error != string(gpu.ErrTimeout) ||
			out.processes[1].TimeNS-out.processes[1].StartNS != 1e9 {
			t.Errorf("processes: %+v", out.processes)
		}
		g := p.GPUs[0]
		if g.ReadErrors != 10 || g.SamplesValid != 20 || g.Errors[string(gpu.ErrLost)] != 10 {
			t.Errorf("samples: %+v", g)
		}
		if len(out.counters) != 31 || out.counters[0].EnergyMilliJ.OK {
			t.Errorf("%d counter records, want 31 without a value", len(out.counters))
		}
		for channel, want := range map[string]record.Channel{
			gpu.Power:   {Calls: 4, Gaps: 1, Errors: map[string]int64{string(gpu.ErrTimeout): 1}},
			gpu.Counter: {Calls: 31, Records: 31, Errors: map[string]int64{string(gpu.ErrUnknown): 31}},
			gpu.GPM:     {Calls: 16, Errors: map[string]int64{"odd": 16}},
			gpu.Process: {Calls: 4, Records: 4, Errors: map[string]int64{string(gpu.ErrTimeout): 1, string(gpu.ErrImplausible): 1}},
		} {
			got := g.Channels[channel]
			if got.Calls != want.Calls || got.Records != want.Records || got.Gaps != want.Gaps || !maps.Equal(got.Errors, want.Errors) {
				t.Errorf("%s: %+v, want %+v", channel, got, want)
			}
		}
	})
}

func TestChannelThatIsNotOffered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bare := &fake{index: 1, channels: map[string]string{gpu.Sample: "ok", gpu.Power: string(gpu.ErrNotSupported)}}
		if ok, why := Offers(bare, gpu.Power); ok || why != "NVML_ERROR_NOT_SUPPORTED" {
			t.Errorf("Offers(power) = %v, %q", ok, why)
		}
		if ok, why := Offers(bare, gpu.GPM); ok || why == "" {
			t.Errorf("Offers(gpm) = %v, %q", ok, why)
		}
		var out kept
		_, err := Run(t.Context(), []gpu.GPU{&fake{}, bare}, bubble{}, Config{Channels: everyChannel, Duration: time.Second}, &out)
		if err != nil {
			t.Fatal(err)
		}
		wantTicks(t, &out, 0, upTo(10))
		wantTicks(t, &out, 1, upTo(10))
		if bare.powers+bare.counters+bare.gpms+bare.processes != 0 {
			t.Error("a channel was called that the GPU does not offer")
		}
		_, err = Run(t.Context(), []gpu.GPU{bare}, bubble{}, Config{Channels: map[string]time.Duration{gpu.Power: 0}}, &out)
		if err == nil {
			t.Error("Run with nothing to poll succeeded")
		}
	})
}

// BenchmarkTick is one tick of one GPU from the reading to the sink.
func BenchmarkTick(b *testing.B) {
	p := newPoller([]gpu.GPU{&fake{}}, clock.System(), Config{Channels: map[string]time.Duration{gpu.Sample: 0}}, &null{})
	w, last := p.workers[0], int64(-1)
	b.ReportAllocs()
	for k := int64(0); b.Loop(); k++ {
		last = w.tick(k, 55_000, last)
		p.put(<-p.queue)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func TestTickAllocatesNothing(t *testing.T) {
	p := newPoller([]gpu.GPU{&fake{}}, clock.System(), Config{Channels: map[string]time.Duration{gpu.Sample: 0}}, &null{})
	w := p.workers[0]
	k, last := int64(0), int64(-1)
	if n := testing.AllocsPerRun(10000, func() {
		last = w.tick(k, 55_000, last)
		p.put(<-p.queue)
		k++
	}); n != 0 {
		t.Errorf("%v allocations a tick", n)
	}
}

// null is a sink that drops all.
type null struct{}

func (null) Write(record.Record) error { return nil }
func (null) Flush() error              { return nil }

func TestOffers(t *testing.T) {
	for state, want := range map[string]bool{
		"ok":                                true,
		string(gpu.ErrLost):                 true,
		string(gpu.ErrTimeout):              true,
		string(gpu.ErrNotSupported):         false,
		string(gpu.ErrNoFunction):           false,
		"no clock fits the buffer's stamps": false,
		"":                                  false,
	} {
		g := &fake{channels: map[string]string{gpu.Counter: state}}
		if ok, why := Offers(g, gpu.Counter); ok != want || ok == (why != "") {
			t.Errorf("a channel that is %q: offered %v (%s)", state, ok, why)
		}
	}
}
