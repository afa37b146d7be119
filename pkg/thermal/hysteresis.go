package thermal

import (
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// hysteresis compares the SM clock at the same temperature on the way up and on
// the way down, under load both times (TR122.E).
type hysteresis struct {
	width   float64 // °C of a bin
	falling bool
	turn    float64 // the extreme since the last change of direction, °C
	any     bool
	pending []reading // since the extreme: of this direction or of the next
	bins    map[int]*[2][]float64
	second  int64
	sum     reading
	n       float64
}

type reading struct{ celsius, mhz float64 }

// reversal is how many quanta back from the extreme are a change of direction,
// and not chatter.
const reversal = 2

func (h *hysteresis) observe(s *record.Sample, quantum float64) {
	c, mhz, util := s.TempC.V, s.SMClockMHz, s.UtilGPU
	if !mhz.OK || util.Or(0) < loaded {
		return
	}
	if second := s.TimeNS / 1e9; second != h.second {
		if h.n > 0 {
			h.add(reading{h.sum.celsius / h.n, h.sum.mhz / h.n}, max(quantum, 0.5))
		}
		h.second, h.sum, h.n = second, reading{}, 0
	}
	h.sum.celsius += c
	h.sum.mhz += float64(mhz.V)
	h.n++
}

// add takes in the mean of a second.
func (h *hysteresis) add(r reading, quantum float64) {
	if h.bins == nil {
		h.bins = map[int]*[2][]float64{}
		h.width = max(1, quantum)
	}
	further := r.celsius - h.turn
	if h.falling {
		further = -further
	}
	switch {
	case !h.any || further >= 0:
		h.any, h.turn = true, r.celsius
		h.settle()
	case further <= -reversal*quantum:
		h.falling, h.turn = !h.falling, r.celsius
		h.settle()
	}
	h.pending = append(h.pending, r)
}

// settle counts the pending readings to the direction that they are now known
// to be of.
func (h *hysteresis) settle() {
	way := 0
	if h.falling {
		way = 1
	}
	for _, r := range h.pending {
		bin := int(math.Floor(r.celsius/h.width + 0.5))
		if h.bins[bin] == nil {
			h.bins[bin] = &[2][]float64{}
		}
		h.bins[bin][way] = append(h.bins[bin][way], r.mhz)
	}
	h.pending = h.pending[:0]
}

// least is how many seconds each way a bin needs.
const least = 3

// tell puts the loop's area into a record: over the temperatures that were
// passed both ways, the clock on the way up less that on the way down.
func (h *hysteresis) tell(r *record.Soak) {
	area, variance, span := 0.0, 0.0, 0.0
	for _, both := range h.bins {
		if len(both[0]) < least || len(both[1]) < least {
			continue
		}
		for way, clocks := range both {
			mean, sd := stats.MeanSD(clocks)
			area += h.width * mean * float64(1-2*way)
			variance += h.width * h.width * sd * sd * stats.Tau(clocks) / float64(len(clocks))
		}
		span += h.width
	}
	if span == 0 {
		return
	}
	r.Hysteresis = record.Some(area)
	r.HysteresisCI95 = record.Some(stats.Z95 * math.Sqrt(variance))
	r.HysteresisC = record.Some(span)
}
