package baseline

import (
	"fmt"
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// What two levels of idle power can be.
const (
	FloorArtefact = "floor_artefact"  // the lower one is no power: a stale or missing reading of the sensor
	LowPowerState = "low_power_state" // the lower one is real: the board slept
	TwoLevels     = "two_levels"      // both are plausible powers
	Undecided     = "undecided"       // nothing in the trace tells which
)

// Mixture is idle power that has two levels.
type Mixture struct {
	Verdict     string  `json:"verdict"`
	Why         string  `json:"why,omitempty"`
	LowWeight   float64 `json:"low_weight"` // share of the ticks that are of the lower level
	LowWeightSE float64 `json:"low_weight_se"`
	LowW        float64 `json:"low_watts"`
	LowSigmaW   float64 `json:"low_sigma_watts"`
	HighW       float64 `json:"high_watts"`
	HighSigmaW  float64 `json:"high_sigma_watts"`

	floor     []bool // ticks that are of a suspect floor; nil for two plausible levels
	byCounter bool   // the verdict is the energy counter's
}

// mixture finds two levels, nil where there is one. Readings below
// [record.FloorW] or a quarter of the median are a suspect floor: which the
// energy counter tells from a real low-power state, or else how long they
// last, whether they are all alike, and what the clocks did.
func mixture(ticks []tick, j *joules) *Mixture {
	w := watts(ticks)
	if len(w) < 10 {
		return nil
	}
	median := stats.Median(w)
	limit := max(record.FloorW, median/4)
	below := 0
	for _, v := range w {
		if v < limit {
			below++
		}
	}
	if below > 0 && below < len(w) && median >= record.FloorW {
		return floor(ticks, w, limit, below, j)
	}
	scatter := stats.Scatter(w)
	lo, hi := stats.Quantile(w, 0.005), stats.Quantile(w, 0.995)
	fit, ok := stats.FitMixture(w, (lo+hi)/2, max(1e-3, scatter/20))
	if !ok || fit.Weight < 0.01 || fit.Weight > 0.99 {
		return nil
	}
	apart := (fit.High.Mean - fit.Low.Mean) / math.Hypot(fit.High.SD, fit.Low.SD) * math.Sqrt2
	n := float64(len(w))
	// Correlated values say less: three parameters more have to be worth it by
	// the number of independent ones, which within a level are more than overall.
	worth := stats.CountIndependent(residuals(w, &fit)).Least()
	if apart < 3 || fit.Gain*worth/n < 1.5*math.Log(n)+5 {
		return nil
	}
	return levels(TwoLevels, "both are powers that the board can take", w, &fit)
}

// residuals are the values less the mean of their component.
func residuals(w []float64, m *stats.Mixture) []float64 {
	out := make([]float64, len(w))
	for i, v := range w {
		out[i] = v - m.High.Mean - m.Share[i]*(m.Low.Mean-m.High.Mean)
	}
	return out
}

func levels(verdict, why string, w []float64, fit *stats.Mixture) *Mixture {
	return &Mixture{
		Verdict: verdict, Why: why, LowWeight: fit.Weight, LowWeightSE: weightSE(fit.Share, fit.Weight),
		LowW: fit.Low.Mean, LowSigmaW: fit.Low.SD, HighW: fit.High.Mean, HighSigmaW: fit.High.SD,
	}
}

func weightSE(share []float64, weight float64) float64 {
	return math.Sqrt(weight * (1 - weight) / stats.CountIndependent(share).Least())
}

func floor(ticks []tick, w []float64, limit float64, below int, j *joules) *Mixture {
	suspect := make([]bool, len(w))
	share := make([]float64, len(w))
	var low, high []float64
	for i, v := range w {
		if suspect[i] = v < limit; suspect[i] {
			low, share[i] = append(low, v), 1
		} else {
			high = append(high, v)
		}
	}
	lowMean, lowSD := stats.MeanSD(low)
	highMean, highSD := stats.MeanSD(high)
	if len(low) < 2 {
		lowSD = 0
	}
	weight := float64(below) / float64(len(w))
	m := &Mixture{
		LowWeight: weight, LowWeightSE: weightSE(share, weight),
		LowW: lowMean, LowSigmaW: lowSD, HighW: highMean, HighSigmaW: highSD,
		floor: suspect,
	}
	m.Verdict, m.Why = Undecided, "no energy counter, and the suspect readings look like either"
	if share, se, ok := floorShare(ticks, suspect, lowMean, highMean, j); ok {
		during := highMean - share*(highMean-lowMean)
		switch artefact, real := share/se, (1-share)/se; {
		case real > 3 && real > math.Abs(artefact):
			m.byCounter, m.Verdict = true, FloorArtefact
			m.Why = fmt.Sprintf("during them the energy counter shows %.1f W, not %.1f W", during, lowMean)
		case artefact > 3 && artefact > math.Abs(real):
			m.byCounter, m.Verdict = true, LowPowerState
			m.Why = fmt.Sprintf("the energy counter shows %.1f W during them, too", during)
		default:
			m.Why = "the energy counter is too coarse to tell, and the suspect readings look like either"
		}
		if m.byCounter {
			return m
		}
	}
	brief, alike := 0, 0
	differ := 0
	usual := usualSetting(ticks, suspect)
	for i, t := range ticks {
		if !suspect[i] {
			continue
		}
		if t.setting != usual {
			differ++
		}
		if stretch(suspect, i) <= 2 {
			brief++
		}
		if t.watts == low[0] {
			alike++
		}
	}
	switch most := (9*below + 9) / 10; {
	case differ >= most:
		m.Verdict, m.Why = LowPowerState, "clocks or performance state changed with them; no energy counter to confirm it"
	case brief >= most:
		m.Verdict, m.Why = FloorArtefact, "none lasts longer than two updates; no energy counter to confirm it"
	case alike >= most && below >= 3:
		m.Verdict, m.Why = FloorArtefact, fmt.Sprintf("all are the same %g W to the last digit; no energy counter to confirm it", low[0])
	}
	return m
}

// stretch is how many suspect ticks are in a row around i.
func stretch(suspect []bool, i int) int {
	from, until := i, i
	for from > 0 && suspect[from-1] {
		from--
	}
	for until+1 < len(suspect) && suspect[until+1] {
		until++
	}
	return until - from + 1
}

// usualSetting is the most frequent setting of the ticks that are not suspect.
func usualSetting(ticks []tick, suspect []bool) (usual setting) {
	count := map[setting]int{}
	for i, t := range ticks {
		if !suspect[i] {
			if count[t.setting]++; count[t.setting] > count[usual] {
				usual = t.setting
			}
		}
	}
	return usual
}

// floorShare is how far the counter's power fell during suspect readings, as a
// share of how far the readings fell: 0 for readings that are wrong, 1 for those
// that are right. It compares the counter with itself, over stretches with many
// suspect readings and with few, so that neither its gain nor that of the power
// readings matters.
func floorShare(ticks []tick, suspect []bool, low, high float64, j *joules) (share, se float64, ok bool) {
	var x, y []float64
	i := 0
	for from := 0; from < len(j.changes); {
		until := from + 1
		for until < len(j.changes) && j.changes[until].window == j.changes[from].window &&
			(j.changes[until].ns-j.changes[from].ns < 2e9 || until-from < 10) {
			until++
		}
		if until >= len(j.changes) || j.changes[until].window != j.changes[from].window {
			from = until
			continue
		}
		a, b := j.changes[from], j.changes[until]
		n, floors := 0, 0
		for ; i < len(ticks) && ticks[i].ns < b.ns; i++ {
			if ticks[i].ns >= a.ns {
				n++
				if suspect[i] {
					floors++
				}
			}
		}
		if n > 0 {
			x = append(x, float64(floors)/float64(n))
			y = append(y, float64(b.milliJ-a.milliJ)/float64(b.ns-a.ns)*1e6)
		}
		from = until
	}
	line, ok := stats.FitLine(x, y)
	if !ok || len(x) < 6 {
		return 0, 0, false
	}
	fell := high - low
	// A counter without noise still steps: by a part of a change in each stretch.
	return -line.Slope / fell, max(line.SlopeSE/fell, 1e-6), true
}
