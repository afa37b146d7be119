package thermal

import "joulepipe/pkg/record"

// ClockDrop is the reason given where a GPU does not say why: under high
// utilisation its clock fell well below what it had reached.
const ClockDrop = "clock drop under load"

// A clock below this share of the highest one seen is a drop, when the GPU is
// at least so busy (per cent).
const (
	dropShare = 0.9
	loaded    = 90
)

// throttle gathers the reasons of a GPU.
type throttle struct {
	recent, all   uint64 // bits
	dropped, drop bool   // a drop since the last record, and ever
	highest       int64  // SM clock under load, MHz
}

func (t *throttle) observe(s *record.Sample) {
	if bits, ok := s.ThrottleReasons.Get(); ok {
		t.recent |= bits
		t.all |= bits
		return
	}
	clock, ok := s.SMClockMHz.Get()
	if !ok || s.UtilGPU.Or(0) < loaded {
		return
	}
	t.highest = max(t.highest, clock)
	if float64(clock) < dropShare*float64(t.highest) {
		t.dropped, t.drop = true, true
	}
}

// names are the reasons of the whole soak, or those since they were last asked
// for.
func (t *throttle) names(whole bool) []string {
	bits, drop := t.recent, t.dropped
	if whole {
		bits, drop = t.all, t.drop
	}
	t.recent, t.dropped = 0, false
	names := record.Throttling(bits)
	if drop {
		names = append(names, ClockDrop)
	}
	return names
}
