package poll

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/record"
)

// exact is the q-quantile of type 7, in milliseconds.
func exact(ns []int64, q float64) float64 {
	s := slices.Sorted(slices.Values(ns))
	rank := q * float64(len(s)-1)
	i := int(rank)
	v := float64(s[i])
	if i+1 < len(s) {
		v += (rank - float64(i)) * float64(s[i+1]-s[i])
	}
	return v / 1e6
}

func TestHistogramAgainstExactQuantiles(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func(n int, f func() float64) []int64 {
		v := make([]int64, n)
		for i := range v {
			v[i] = int64(f())
		}
		return v
	}
	for _, c := range []struct {
		name string
		ns   []int64
	}{
		{"one", []int64{123_456_789}},
		{"two far apart", []int64{100, 2_000_000_000}},
		{"all equal", slices.Repeat([]int64{100_000_000}, 999)},
		{"zero", []int64{0, 0, 0, 1}},
		{"bin bounds", []int64{1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096}},
		{"largest", []int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 62, 1}},
		{"days", []int64{3 * 86400e9, 2 * 86400e9, 86400e9}},
		{"jitter about 100 ms", draw(20000, func() float64 { return 1e8 + 5e4*rng.NormFloat64() })},
		{"lateness", draw(20000, func() float64 { return 5e4 * math.Exp(rng.NormFloat64()) })},
		{"two modes", draw(10001, func() float64 { return 99e6 + 2e6*float64(rng.IntN(2)) })},
		{"uniform", draw(5000, func() float64 { return 1e9 * rng.Float64() })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var h, half histogram
			for i, v := range c.ns {
				if i%2 == 0 {
					h.add(v)
				} else {
					half.add(v)
				}
			}
			h.merge(&half)
			for _, q := range []float64{0, 0.01, 0.25, 0.5, 0.95, 0.999, 1} {
				want := exact(c.ns, q)
				got, ok := h.quantile(q).Get()
				if !ok || math.Abs(got-want) > 0.0005*want+1e-6 {
					t.Errorf("quantile(%v) of %d values = %v, %v; want %v within 0.05 %% and 1 ns", q, len(c.ns), got, ok, want)
				}
			}
		})
	}
	var none histogram
	if q := none.quantile(0.5); q.OK {
		t.Errorf("the median of nothing is %v", q.V)
	}
}

// trace makes samples of these times in milliseconds; a negative time is a
// reading that failed.
func trace(ms ...float64) []record.Sample {
	var out []record.Sample
	for _, at := range ms {
		s := record.Sample{TimeNS: int64(math.Abs(at) * 1e6), ReadOK: at >= 0}
		if s.ReadOK {
			s.PowerW = record.Some(50.0)
		} else {
			s.Error = "NVML_ERROR_UNKNOWN"
		}
		out = append(out, s)
	}
	return out
}

// every is n times at that period, from 0.
func every(period float64, n int) (ms []float64) {
	for i := range n {
		ms = append(ms, float64(i)*period)
	}
	return ms
}

func TestStats(t *testing.T) {
	t.Parallel()
	type opt = record.Opt[float64]
	some := record.Some[float64]
	for _, c := range []struct {
		name                            string
		samples                         []record.Sample
		total, valid, errors, gaps      int64
		median, max, fraction           opt
		scheduling, continuity, quality string
	}{
		{name: "nothing"},
		{name: "one sample", samples: trace(5), total: 1, valid: 1},
		{name: "two samples", samples: trace(0, 100), total: 2, valid: 2,
			median: some(100), max: some(100), fraction: some(0), scheduling: "strict", continuity: "good", quality: "good"},
		{name: "1 % slow", samples: trace(every(101, 50)...), total: 50, valid: 50,
			median: some(101), max: some(101), fraction: some(0), scheduling: "strict", continuity: "good", quality: "good"},
		{name: "1.2 % slow", samples: trace(every(101.2, 50)...), total: 50, valid: 50,
			median: some(101.2), max: some(101.2), fraction: some(0), scheduling: "loose", continuity: "good", quality: "degraded"},
		{name: "250 ms is no gap", samples: trace(0, 100, 200, 450, 550), total: 5, valid: 5,
			median: some(100), max: some(250), fraction: some(0), scheduling: "strict", continuity: "good", quality: "good"},
		{name: "gaps of 40 % of the time", samples: trace(0, 100, 200, 600, 700, 800, 900, 1000), total: 8, valid: 8, gaps: 1,
			median: some(100), max: some(400), fraction: some(0.4), scheduling: "strict", continuity: "degraded", quality: "degraded"},
		{name: "short gap in a long trace", samples: trace(append(every(100, 1000), 99900+300)...), total: 1001, valid: 1001, gaps: 1,
			median: some(100), max: some(300), fraction: some(300. / 100200), scheduling: "strict", continuity: "good", quality: "good"},
		{name: "500 ms is not too long", samples: trace(append(every(100, 1000), 99900+500)...), total: 1001, valid: 1001, gaps: 1,
			median: some(100), max: some(500), fraction: some(500. / 100400), scheduling: "strict", continuity: "good", quality: "good"},
		{name: "501 ms is", samples: trace(append(every(100, 1000), 99900+501)...), total: 1001, valid: 1001, gaps: 1,
			median: some(100), max: some(501), fraction: some(501. / 100401), scheduling: "strict", continuity: "degraded", quality: "degraded"},
		{name: "failed readings are punctual and leave a gap", samples: trace(0, 100, -200, -300, 400, 500), total: 6, valid: 4, errors: 2, gaps: 1,
			median: some(100), max: some(300), fraction: some(0.6), scheduling: "strict", continuity: "degraded", quality: "degraded"},
		{name: "nothing valid", samples: trace(-100, -200, -300), total: 3, errors: 3,
			median: some(100), scheduling: "strict", continuity: "degraded", quality: "degraded"},
		{name: "time goes back", samples: append(trace(1000, 1100), trace(0, 100)...), total: 4, valid: 4,
			median: some(100), max: some(100), fraction: some(0), scheduling: "strict", continuity: "good", quality: "good"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &Stats{GPU: 2, Period: 100 * time.Millisecond}
			for i := range c.samples {
				s.Add(&c.samples[i])
			}
			r := s.Record()
			if r.GPU != record.Some(2) || r.TargetPeriodMS != 100 {
				t.Errorf("GPU %v, target %v ms", r.GPU, r.TargetPeriodMS)
			}
			if r.SamplesTotal != c.total || r.SamplesValid != c.valid || r.ReadErrors != c.errors || r.GapCount != c.gaps {
				t.Errorf("total %d, valid %d, errors %d, gaps %d; want %d, %d, %d, %d", r.SamplesTotal, r.SamplesValid, r.ReadErrors, r.GapCount, c.total, c.valid, c.errors, c.gaps)
			}
			if r.Errors["NVML_ERROR_UNKNOWN"] != c.errors {
				t.Errorf("errors = %v", r.Errors)
			}
			check := func(name string, got, want opt) {
				if got.OK != want.OK || math.Abs(got.V-want.V) > 0.0005*want.V {
					t.Errorf("%s = %v, want %v", name, got, want)
				}
			}
			check("median_dt_ms", r.MedianDtMS, c.median)
			check("max_gap_ms", r.MaxGapMS, c.max)
			check("gap_fraction", r.GapFraction, c.fraction)
			if r.SchedulingQuality != c.scheduling || r.ContinuityQuality != c.continuity || r.Quality != c.quality {
				t.Errorf("quality %q, %q, %q; want %q, %q, %q", r.SchedulingQuality, r.ContinuityQuality, r.Quality, c.scheduling, c.continuity, c.quality)
			}
		})
	}
}

func TestDroppedTicks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ticks []int64
		due   int64
		want  int64
	}{
		{[]int64{0, 1, 2}, 3, 0},
		{[]int64{0, 1, 2}, 10, 7},
		{[]int64{0, 5, 6}, 7, 4},
		{[]int64{3, 4}, 5, 3},
		{[]int64{0, 1, 0, 2}, 0, 1}, // a second run
		{nil, 4, 4},
	} {
		var s Stats
		for i, k := range c.ticks {
			s.Add(&record.Sample{TimeNS: int64(i), Tick: record.Some(k)})
		}
		s.Due(c.due)
		if got := s.Record().DroppedTicks; got != c.want {
			t.Errorf("ticks %v of %d: %d dropped, want %d", c.ticks, c.due, got, c.want)
		}
	}
	var s Stats
	s.Add(&record.Sample{}) // a trace without ticks, CSV
	if got := s.Record().DroppedTicks; got != 0 {
		t.Errorf("%d dropped of a trace without a grid", got)
	}
}

func TestFloorSuspect(t *testing.T) {
	t.Parallel()
	some := record.Some[float64]
	var s Stats
	for _, r := range []record.Sample{
		{ReadOK: true, PowerW: some(1.2)},
		{ReadOK: true, PowerW: some(4.999), PowerInstantW: some(90)},
		{ReadOK: true, PowerInstantW: some(3)},
		{ReadOK: true, PowerW: some(5)},
		{ReadOK: true},
		{ReadOK: false, PowerW: some(1)},
	} {
		s.Add(&r)
	}
	if got := s.Record().FloorSuspect; got != 3 {
		t.Errorf("%d floor-suspect, want 3", got)
	}
}

func TestDtHistogram(t *testing.T) {
	t.Parallel()
	var s Stats
	for _, r := range trace(0, 0.5, 1.5, 50.5, 150.5, 250.4, 500.4, 1500.4, 9500) {
		s.Add(&r)
	}
	bins := s.Record().DtHistogram
	got := map[string]int64{}
	for i, b := range bins {
		if i > 0 && bins[i-1].HiMS != record.Some(b.LoMS) {
			t.Errorf("bin %d begins at %v, the one before ends at %v", i, b.LoMS, bins[i-1].HiMS)
		}
		if b.Count > 0 {
			got[fmt.Sprintf("%v-%v", b.LoMS, b.HiMS.Or(math.Inf(1)))] = b.Count
		}
	}
	want := map[string]int64{"0-1": 1, "1-2": 1, "20-50": 1, "50-100": 1, "100-150": 1, "250-500": 1, "1000-+Inf": 2}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dt_histogram = %v, want %v", got, want)
	}
	if last := bins[len(bins)-1]; last.HiMS.OK {
		t.Errorf("the last bin ends at %v", last.HiMS)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	a := &Stats{GPU: 0, Period: 100 * time.Millisecond}
	b := &Stats{GPU: 1, Period: 100 * time.Millisecond}
	for _, r := range trace(every(100, 11)...) {
		r.LateUS = record.Some(50.0)
		a.Add(&r)
	}
	for _, r := range trace(0, 400, 800, -900, 1000) {
		r.LateUS = record.Some(150.0)
		b.Add(&r)
	}
	b.Due(11)
	p := Account([]*Stats{a, b})
	o := p.Overall
	if o.GPU.OK || len(p.GPUs) != 2 || p.GPUs[0].GapCount != 0 || p.GPUs[1].GapCount != 2 {
		t.Errorf("account: %+v", p)
	}
	if o.SamplesTotal != 16 || o.SamplesValid != 15 || o.ReadErrors != 1 || o.GapCount != 2 || o.MaxGapMS.V != 400 {
		t.Errorf("overall: %+v", o)
	}
	if want := 800. / 2000; o.GapFraction.V != want {
		t.Errorf("overall gap_fraction = %v, want %v", o.GapFraction.V, want)
	}
	if o.MedianDtMS.V != 100 || o.SchedulingQuality != "strict" || o.Quality != "degraded" {
		t.Errorf("overall: %+v", o)
	}
	if m := o.MedianLatenessMS.V; math.Abs(m-0.05) > 0.0001 {
		t.Errorf("median lateness = %v ms, want 0.05", m)
	}
}

func BenchmarkStatsAdd(b *testing.B) {
	s := Stats{Period: 100 * time.Millisecond}
	r := record.Sample{ReadOK: true, PowerW: record.Some(100.0), LateUS: record.Some(55.0)}
	b.ReportAllocs()
	for b.Loop() {
		r.TimeNS += 100_000_000 + r.TimeNS%1000
		s.Add(&r)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
