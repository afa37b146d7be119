package poll

import (
	"math"
	"math/bits"

	"joulepipe/pkg/record"
)

// subBits is the resolution of a histogram: each power of two is cut into
// 2^subBits bins, so that a value taken for the middle of its bin is wrong by
// no more than 1/2^(subBits+1), 0.05 %. That also tells a median 1 % off its
// target from one that is not, whatever the target.
const subBits = 10

// histogram counts durations in nanoseconds for as long as one likes, in
// memory that depends on their range alone: 8 KiB for each power of two that
// occurred. The zero histogram is empty.
type histogram struct {
	octaves  [64 - subBits]*[1 << subBits]int64
	n        int64
	min, max int64
}

// add counts ns; the clock does not go back, so less than 0 counts as 0.
func (h *histogram) add(ns int64) {
	ns = max(ns, 0)
	if h.n == 0 || ns < h.min {
		h.min = ns
	}
	h.max = max(h.max, ns)
	h.n++
	octave, sub := 0, ns
	if top := bits.Len64(uint64(ns)); top > subBits {
		octave = top - subBits
		sub = ns>>(octave-1) - 1<<subBits
	}
	if h.octaves[octave] == nil {
		h.octaves[octave] = new([1 << subBits]int64)
	}
	h.octaves[octave][sub]++
}

// merge adds what o has counted.
func (h *histogram) merge(o *histogram) {
	if o.n == 0 {
		return
	}
	if h.n == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.n += o.n
	for i, from := range o.octaves {
		if from == nil {
			continue
		}
		if h.octaves[i] == nil {
			h.octaves[i] = new([1 << subBits]int64)
		}
		for j, n := range from {
			h.octaves[i][j] += n
		}
	}
}

// at is the value of that rank in ascending order, from 0. The first and the
// last are exact.
func (h *histogram) at(rank int64) float64 {
	switch {
	case rank <= 0:
		return float64(h.min)
	case rank >= h.n-1:
		return float64(h.max)
	}
	for octave, bins := range h.octaves {
		if bins == nil {
			continue
		}
		for sub, n := range bins {
			if rank -= n; rank >= 0 {
				continue
			}
			if octave == 0 {
				return float64(sub)
			}
			width := float64(int64(1) << (octave - 1))
			mid := (float64(sub+1<<subBits) + 0.5) * width
			return min(max(mid, float64(h.min)), float64(h.max))
		}
	}
	panic("poll: a histogram counts less than its total")
}

// quantile is the q-quantile in milliseconds, to the nanosecond, between two
// values on a straight line (Hyndman and Fan's type 7, as NumPy and R have it).
func (h *histogram) quantile(q float64) (ms record.Opt[float64]) {
	if h.n == 0 {
		return ms
	}
	rank, part := math.Modf(q * float64(h.n-1))
	v := h.at(int64(rank))
	if part > 0 {
		v += part * (h.at(int64(rank)+1) - v)
	}
	return record.Some(math.Round(v) / 1e6)
}
