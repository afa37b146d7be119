package thermal

import (
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// Reasons given where a GPU does not say why: under high utilisation its clock,
// or the throughput of what runs on it, fell well below what it had been.
const (
	ClockDrop      = "clock drop under load"
	ThroughputDrop = "throughput drop under load"
)

// Sources of throttle reasons, the values of [record.Soak].ThrottleSource.
const (
	FromBits  = "bits"      // the driver's own mask
	FromFalls = "heuristic" // what fell; only where there is no mask
)

const (
	dropShare  = 0.9 // of the long median, below which the short one has dropped
	loaded     = 90  // per cent of utilisation that are load
	clockShort = 5   // seconds of load
	clockLong  = 60
	workShort  = 3 // events of one kind
	workLong   = 15
)

// Bits that say whether the power limit or the heat holds a GPU down. The bits
// of hardware slowdown and power brake are of neither alone.
const (
	powerBits   = 0x4
	thermalBits = 0x20 | 0x40
)

// throttle gathers the reasons of a GPU.
type throttle struct {
	read         bool
	recent, all  uint64 // bits
	fallen, fell falls  // since the last record, and ever
	clock        trend
	second       int64   // of the clock's mean that is being made
	sum, n       float64 // of the clock in it
	util         int64
	work         map[string]*trend // throughput, by kind of event
}

type falls struct{ clock, work bool }

func (t *throttle) observe(s *record.Sample) {
	if bits, ok := s.ThrottleReasons.Get(); ok {
		t.read = true
		t.recent |= bits
		t.all |= bits
	}
	clock, ok := s.SMClockMHz.Get()
	if util, known := s.UtilGPU.Get(); known {
		t.util = util
	}
	if !ok || s.UtilGPU.Or(0) < loaded {
		// Clocks that fall because the load does are no throttling, and a clock
		// that rises again after it takes a moment.
		t.clock.pause()
		t.sum, t.n = 0, 0
		return
	}
	if second := s.TimeNS / 1e9; second != t.second {
		if t.n > 0 && t.clock.add(t.sum/t.n, clockShort, clockLong) {
			t.fallen.clock, t.fell.clock = true, true
		}
		t.second, t.sum, t.n = second, 0, 0
	}
	t.sum += float64(clock)
	t.n++
}

// observeWork takes in how fast an event of some kind was.
func (t *throttle) observeWork(kind string, tokensPerSecond float64) {
	if t.util < loaded {
		return
	}
	if t.work == nil {
		t.work = map[string]*trend{}
	}
	if t.work[kind] == nil {
		t.work[kind] = &trend{}
	}
	if t.work[kind].add(tokensPerSecond, workShort, workLong) {
		t.fallen.work, t.fell.work = true, true
	}
}

// trend is a quantity's last values.
type trend struct {
	values []float64
	recent int // values since the last pause
}

func (t *trend) pause() { t.recent = 0 }

// add takes in a value and says whether the median of the last short ones is a
// drop from that of the last long ones. It takes twice as many as short before
// there is anything to fall from.
func (t *trend) add(v float64, short, long int) bool {
	if t.values = append(t.values, v); len(t.values) > long {
		t.values = t.values[1:]
	}
	t.recent++
	n := len(t.values)
	return t.recent >= short && n >= 2*short &&
		stats.Median(t.values[n-short:]) < dropShare*stats.Median(t.values[:n-short])
}

// tell puts the reasons of the whole soak, or those since they were last asked
// for, into a record.
func (t *throttle) tell(r *record.Soak, whole bool) {
	bits, fell := t.recent, t.fallen
	if whole {
		bits, fell = t.all, t.fell
	}
	t.recent, t.fallen = 0, falls{}
	if t.read {
		r.ThrottleSource = FromBits
		r.ThrottleReasons = record.Throttling(bits)
		r.PowerCapped = record.Some(bits&powerBits != 0)
		r.Overheated = record.Some(bits&thermalBits != 0)
		return
	}
	if t.clock.values == nil && t.work == nil {
		return
	}
	r.ThrottleSource = FromFalls
	for _, f := range []struct {
		fell   bool
		reason string
	}{{fell.clock, ClockDrop}, {fell.work, ThroughputDrop}} {
		if f.fell {
			r.ThrottleReasons = append(r.ThrottleReasons, f.reason)
		}
	}
	r.ThrottleReasons = slices.Clip(r.ThrottleReasons)
}
