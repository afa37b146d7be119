package baseline

import (
	"math"

	"joulepipe/pkg/record"
)

// tally is what is kept of the readings of one stretch of time, or of several.
type tally struct {
	n, floor        int64
	mean, m2        float64 // Welford's running mean, and sum of squared deviations
	minW, maxW      float64
	byMilliwatt     map[int64]int64 // readings, for the outliers
	util            [101]int64      // samples, by per cent
	temps           int64
	tempSum         float64
	sm, mem, pstate span
	vram            float64 // last, MiB
	hasVRAM         bool
	failed          int64
	coveredNS       int64 // between neighbouring readings no further apart than the limit
	longestNS       int64
	kept            kept
	joules          joules
	leastVRAM       float64 // MiB, as is mostVRAM
	mostVRAM        float64
	leastC, mostC   float64
	byWindow        map[int]*warmth
}

// warmth is the temperature of a window: a sum of readings.
type warmth struct {
	n   int64
	sum float64
}

// power takes in a reading that came so long after the one before it in the
// same window, 0 for the window's first.
func (t *tally) power(w float64, afterNS, gapNS int64) {
	if t.n == 0 {
		t.minW, t.maxW, t.byMilliwatt = w, w, map[int64]int64{}
	}
	t.n++
	delta := w - t.mean
	t.mean += delta / float64(t.n)
	t.m2 += delta * (w - t.mean)
	t.minW, t.maxW = min(t.minW, w), max(t.maxW, w)
	t.byMilliwatt[int64(math.Round(w*1e3))]++
	if w < record.FloorW {
		t.floor++
	}
	t.longestNS = max(t.longestNS, afterNS)
	if afterNS <= gapNS {
		t.coveredNS += afterNS
	}
}

// context takes in what else a sample of that window says.
func (t *tally) context(s *record.Sample, window int) {
	if u, ok := s.UtilGPU.Get(); ok && u >= 0 && u <= 100 {
		t.util[u]++
	}
	if c, ok := s.TempC.Get(); ok && !math.IsNaN(c) && !math.IsInf(c, 0) {
		if t.temps == 0 {
			t.leastC, t.mostC = c, c
		}
		t.leastC, t.mostC = min(t.leastC, c), max(t.mostC, c)
		t.temps++
		t.tempSum += c
		if t.byWindow == nil {
			t.byWindow = map[int]*warmth{}
		}
		if t.byWindow[window] == nil {
			t.byWindow[window] = &warmth{}
		}
		t.byWindow[window].n++
		t.byWindow[window].sum += c
	}
	t.sm.add(s.SMClockMHz)
	t.mem.add(s.MemClockMHz)
	t.pstate.add(s.PState)
	if v, ok := s.VRAMUsedMB.Get(); ok {
		if !t.hasVRAM {
			t.leastVRAM, t.mostVRAM = v, v
		}
		t.leastVRAM, t.mostVRAM = min(t.leastVRAM, v), max(t.mostVRAM, v)
		t.vram, t.hasVRAM = v, true
	}
}

// std is the standard deviation of single readings; it takes two.
func (t *tally) std() (float64, bool) {
	if t.n < 2 {
		return 0, false
	}
	return math.Sqrt(max(0, t.m2) / float64(t.n-1)), true
}

// outliers is the share of readings beyond 2 standard deviations.
func (t *tally) outliers() float64 {
	std, ok := t.std()
	if !ok {
		return 0
	}
	// Half a milliwatt is what counting by milliwatts can be wrong by.
	limit := 2*std*1e3 + 0.5
	var out int64
	for mW, n := range t.byMilliwatt {
		if math.Abs(float64(mW)-t.mean*1e3) > limit {
			out += n
		}
	}
	return float64(out) / float64(t.n)
}

// utilP95 is the least utilisation that 95 % of the samples do not exceed.
func (t *tally) utilP95() (float64, bool) {
	var total int64
	for _, n := range t.util {
		total += n
	}
	if total == 0 {
		return 0, false
	}
	var below int64
	for u, n := range t.util {
		below += n
		if below*100 >= total*95 {
			return float64(u), true
		}
	}
	return 100, true
}

// span is the least and greatest of a setting that ought to stand still.
type span struct {
	known  bool
	lo, hi int64
}

func (s *span) add(v record.Opt[int64]) {
	x, ok := v.Get()
	switch {
	case !ok:
	case !s.known:
		*s = span{true, x, x}
	default:
		s.lo, s.hi = min(s.lo, x), max(s.hi, x)
	}
}

func (s *span) varied() bool { return s.lo != s.hi }
