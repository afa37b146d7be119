package poll

import (
	"maps"
	"math"
	"time"

	"joulepipe/pkg/record"
)

// DefaultGap is the spacing of valid samples beyond which there is a gap.
const DefaultGap = 250 * time.Millisecond

// What TR122 (2.7, 9.1) asks of a trace.
const (
	strictWithin = 0.01                   // of the target period, for the median spacing
	longGap      = 500 * time.Millisecond // one of these is too much
	gappyFrom    = 0.01                   // gap_fraction
)

// edges are the bounds of the bins of dt_histogram in milliseconds. They are
// the same for every period, so that runs compare; 0–50, 50–100 and 100–150
// show TR122's picture of a 100 ms grid: a tick that wakes late is followed by
// a shorter spacing, so half of the spacings lie on either side of the target.
var edges = [...]float64{0, 1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 500, 1000}

// Stats is the punctuality of one GPU's samples, added in the order of their
// time as they are polled or as an archived trace has them. It uses the same
// memory for a minute and a month; its quantiles are within 0.05 % of the
// exact ones, its counts, sums and extremes exact. The zero Stats is of GPU 0
// without a target.
type Stats struct {
	GPU    int
	Period time.Duration // target; 0: not known, scheduling is not judged
	Gap    time.Duration // longer spacings of valid samples are gaps; 0: DefaultGap

	total, valid, failed, floor, dropped int64
	errors                               map[string]int64

	ticks           int64 // the next tick on the grid
	last, lastValid int64 // ns; of the last sample if total, of the last valid one if valid
	dt, lateness    histogram
	bins            [len(edges)]int64
	gaps            int64
	gapNS, spanNS   int64 // of the gaps together; of all spacings of valid samples
	longestNS       int64
}

// Add counts a sample. Valid is one whose reading succeeded (read_ok).
//
// The spacings of valid samples make the gaps; those of all samples, failed or
// not, the dt quantiles, since a failed reading is punctual all the same. A
// time that goes back (another run's samples) begins anew, without a spacing.
func (s *Stats) Add(r *record.Sample) {
	if s.total > 0 && r.TimeNS >= s.last {
		dt := since(s.last, r.TimeNS)
		s.dt.add(dt)
		s.bins[bin(float64(dt)/1e6)]++
	}
	s.total++
	s.last = r.TimeNS

	if late, ok := r.LateUS.Get(); ok {
		s.lateness.add(int64(math.Round(late * 1e3)))
	}
	if tick, ok := r.Tick.Get(); ok {
		if tick < s.ticks {
			s.ticks = 0 // another run's grid
		}
		s.dropped += tick - s.ticks
		s.ticks = tick + 1
	}
	if r.Error != "" {
		if s.errors == nil {
			s.errors = map[string]int64{}
		}
		s.errors[r.Error]++
	}
	if !r.ReadOK {
		s.failed++
		return
	}

	if s.valid > 0 && r.TimeNS >= s.lastValid {
		d := since(s.lastValid, r.TimeNS)
		s.spanNS = min(s.spanNS, math.MaxInt64-d) + d
		s.longestNS = max(s.longestNS, d)
		if d > int64(s.gap()) {
			s.gaps++
			s.gapNS += d
		}
	}
	s.valid++
	s.lastValid = r.TimeNS
	if w, ok := power(r); ok && w < record.FloorW {
		s.floor++
	}
}

// Due says that the grid has had n ticks: those among them that no sample came
// of count as dropped.
func (s *Stats) Due(n int64) {
	if n > s.ticks {
		s.dropped += n - s.ticks
		s.ticks = n
	}
}

// Record is the account so far, with the samples' GPU.
func (s *Stats) Record() record.PollerStats {
	r := s.account()
	r.GPU = record.Some(s.GPU)
	return r
}

// Account is the punctuality of all GPUs together and of each. The overall
// quantiles are of all their spacings, the overall gap_fraction is of the sum
// of their spans.
func Account(all []*Stats) record.Poller {
	var p record.Poller
	var sum Stats
	for _, s := range all {
		p.GPUs = append(p.GPUs, s.Record())
		sum.merge(s)
	}
	p.Overall = sum.account()
	return p
}

func (s *Stats) merge(o *Stats) {
	s.Period, s.Gap = o.Period, o.Gap
	s.total += o.total
	s.valid += o.valid
	s.failed += o.failed
	s.floor += o.floor
	s.dropped += o.dropped
	if s.errors == nil && len(o.errors) > 0 {
		s.errors = map[string]int64{}
	}
	for name, n := range o.errors {
		s.errors[name] += n
	}
	s.dt.merge(&o.dt)
	s.lateness.merge(&o.lateness)
	for i, n := range o.bins {
		s.bins[i] += n
	}
	s.gaps += o.gaps
	s.gapNS += o.gapNS
	s.spanNS += o.spanNS
	s.longestNS = max(s.longestNS, o.longestNS)
}

func (s *Stats) account() record.PollerStats {
	r := record.PollerStats{
		SamplesTotal:     s.total,
		SamplesValid:     s.valid,
		ReadErrors:       s.failed,
		Errors:           maps.Clone(s.errors),
		FloorSuspect:     s.floor,
		DroppedTicks:     s.dropped,
		TargetPeriodMS:   float64(s.Period) / 1e6,
		MedianDtMS:       s.dt.quantile(0.5),
		P95DtMS:          s.dt.quantile(0.95),
		GapCount:         s.gaps,
		MedianLatenessMS: s.lateness.quantile(0.5),
		P95LatenessMS:    s.lateness.quantile(0.95),
	}
	if s.spanNS > 0 {
		r.MaxGapMS = record.Some(float64(s.longestNS) / 1e6)
		r.GapFraction = record.Some(float64(s.gapNS) / float64(s.spanNS))
	}
	if s.dt.n > 0 {
		for i, lo := range edges {
			b := record.Bin{LoMS: lo, Count: s.bins[i]}
			if i+1 < len(edges) {
				b.HiMS = record.Some(edges[i+1])
			}
			r.DtHistogram = append(r.DtHistogram, b)
		}
		r.ContinuityQuality = s.continuity()
		r.Quality = r.ContinuityQuality
	}
	if median, ok := r.MedianDtMS.Get(); ok && s.Period > 0 {
		r.SchedulingQuality = "strict"
		if math.Abs(median-r.TargetPeriodMS) > strictWithin*r.TargetPeriodMS {
			r.SchedulingQuality = "loose"
			r.Quality = "degraded"
		}
	}
	return r
}

// continuity is "degraded" by a long gap, by many gaps, and where hardly a
// reading succeeded.
func (s *Stats) continuity() string {
	if s.spanNS == 0 || s.longestNS > int64(longGap) || float64(s.gapNS) >= gappyFrom*float64(s.spanNS) {
		return "degraded"
	}
	return "good"
}

func (s *Stats) gap() time.Duration {
	if s.Gap == 0 {
		return DefaultGap
	}
	return s.Gap
}

// bin is the bin that a spacing falls into.
func bin(ms float64) int {
	i := len(edges) - 1
	for edges[i] > ms {
		i--
	}
	return i
}

// since is the time from a to a later b; a trace from elsewhere may hold stamps
// further apart than an int64 reaches.
func since(a, b int64) int64 {
	if d := b - a; d >= 0 {
		return d
	}
	return math.MaxInt64
}

// power is the first of the sample's readings of the board's power.
func power(r *record.Sample) (float64, bool) {
	for _, p := range [...]record.Opt[float64]{r.PowerW, r.PowerInstantW, r.PowerAverageW} {
		if p.OK {
			return p.V, true
		}
	}
	return 0, false
}
