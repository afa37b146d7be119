package baseline

import (
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// NEff is how many independent readings the ticks are worth, by three methods;
// the least of them counts.
type NEff struct {
	Geyer      float64 `json:"geyer"`           // initial monotone sequence of the autocovariance
	BatchMeans float64 `json:"batch_means"`     // batches of √n ticks
	Bootstrap  float64 `json:"block_bootstrap"` // moving blocks of twice the autocorrelation time
}

// EnergyNoise is the standard deviation of the energy that an idle GPU takes
// over a time: the noise of an event's energy for its idle part.
type EnergyNoise struct {
	Seconds float64 `json:"seconds"`
	// MeasuredJ is that of all windows of the length in the baseline.
	MeasuredJ float64 `json:"sigma_joules"`
	// RootJ is σ·√(T·dt), TR122's formula for independent readings dt apart.
	RootJ   float64 `json:"sigma_joules_sqrt"`
	Windows int     `json:"windows"` // that do not overlap
}

// energyNoise is the noise over 0.1 s, 0.3 s, 1 s and so on up to a fifth of the
// longest stretch without a hole; below one tick there is none.
func energyNoise(ticks []tick, update float64) (table []EnergyNoise) {
	stretches := unbroken(ticks)
	longest := 0
	for _, s := range stretches {
		longest = max(longest, len(s))
	}
	_, sd := stats.MeanSD(watts(ticks))
	for _, seconds := range []float64{0.02, 0.1, 0.3, 1, 3, 10, 30, 100, 300} {
		n := int(math.Round(seconds / update))
		if n < 1 || n > longest/5 || math.Abs(float64(n)*update/seconds-1) > 0.2 {
			continue
		}
		var energies []float64
		apart := 0
		for _, s := range stretches {
			if len(s) < n {
				continue
			}
			apart += len(s) / n
			sum := 0.0
			for i, w := range s {
				if sum += w; i >= n {
					sum -= s[i-n]
				}
				if i >= n-1 {
					energies = append(energies, sum*seconds/float64(n))
				}
			}
		}
		_, noise := stats.MeanSD(energies)
		table = append(table, EnergyNoise{seconds, noise, sd * math.Sqrt(seconds*update), apart})
	}
	return table
}

// unbroken are the powers of each stretch without a hole.
func unbroken(ticks []tick) (stretches [][]float64) {
	w := watts(ticks)
	from := 0
	for i := 1; i <= len(ticks); i++ {
		if i == len(ticks) || !ticks[i].joined {
			stretches = append(stretches, w[from:i])
			from = i
		}
	}
	return stretches
}

// Drift is how idle power changes over the baseline: the slope of a line.
type Drift struct {
	WattsPerHour float64 `json:"watts_per_hour"`
	SE           float64 `json:"watts_per_hour_se"`
	// HalfRangeW is how far the line is from the mean at the baseline's ends.
	HalfRangeW float64 `json:"half_range_watts"`
	// Shown says that the slope is more than two standard errors from 0.
	Shown bool `json:"shown"`
}

func drift(ticks []tick, skip []bool) *Drift {
	var x, y []float64
	for i, t := range ticks {
		if skip == nil || !skip[i] {
			x, y = append(x, float64(t.ns-ticks[0].ns)/3.6e12), append(y, t.watts)
		}
	}
	line, ok := stats.FitLine(x, y)
	if !ok {
		return nil
	}
	half := math.Abs(line.Slope) * (x[len(x)-1] - x[0]) / 2
	return &Drift{line.Slope, line.SlopeSE, half, math.Abs(line.Slope) > 2*line.SlopeSE}
}

// Segment is a stretch of the baseline in which the GPU's settings and its
// power stood still.
type Segment struct {
	FromS      float64             `json:"from_s"` // from the first reading
	UntilS     float64             `json:"until_s"`
	Watts      float64             `json:"watts"` // mean
	SE         record.Opt[float64] `json:"watts_se,omitzero"`
	Ticks      int                 `json:"ticks"`
	PState     record.Opt[int64]   `json:"pstate,omitzero"`
	SMClockMHz record.Opt[int64]   `json:"sm_clock_mhz,omitzero"`
	MemClock   record.Opt[int64]   `json:"mem_clock_mhz,omitzero"`
	// Began is what changed: "window", "settings" or "power".
	Began string `json:"began,omitempty"`
}

// leastSegmentS is the shortest segment in seconds: what is shorter belongs to
// the one before it.
const leastSegmentS = 3

// segments divides the ticks by window and settings first, and each part by
// change points of the power. Skipped ticks have no part in it.
func segments(all []tick, skip []bool, update float64) (list []Segment) {
	var ticks []tick
	for i, t := range all {
		if skip == nil || !skip[i] {
			ticks = append(ticks, t)
		}
	}
	if len(ticks) == 0 {
		return nil
	}
	start := ticks[0].ns
	least := max(2, int(leastSegmentS/update))
	from := 0
	began := ""
	for i := 1; i <= len(ticks); i++ {
		next := ""
		if i < len(ticks) {
			switch {
			case ticks[i].window != ticks[from].window:
				next = "window"
			case ticks[i].setting != ticks[from].setting && i-from >= least:
				next = "settings"
			default:
				continue
			}
		}
		part := ticks[from:i]
		edge := 0
		for _, at := range append(steps(part, update), len(part)) {
			s := part[edge:at]
			w := watts(s)
			mean, sd := stats.MeanSD(w)
			segment := Segment{
				FromS: float64(s[0].ns-start) / 1e9, UntilS: float64(s[len(s)-1].ns-start)/1e9 + update,
				Watts: mean, Ticks: len(s), Began: began,
				PState: s[0].setting.pstate, SMClockMHz: s[0].setting.sm, MemClock: s[0].setting.mem,
			}
			if len(s) > 1 {
				segment.SE = record.Some(sd / math.Sqrt(stats.CountIndependent(w).Least()))
			}
			list = append(list, segment)
			edge, began = at, "power"
		}
		from, began = i, next
	}
	return list
}

// steps are where the power of neighbouring ticks goes over to another level.
// Noise that is correlated wanders and seems to step: what a step has to be
// worth goes by the noise of the means, taken from short stretches, so that the
// steps themselves are not in it. Power that only drifts has none.
func steps(ticks []tick, update float64) []int {
	// Ticks are averaged by the second, so that long baselines cost little.
	block := max(1, int(math.Round(1/update)))
	n := len(ticks) / block
	least := max(1, int(math.Ceil(leastSegmentS/(update*float64(block)))))
	if n < 2*least || n < 8 {
		return nil
	}
	w := watts(ticks)
	means := make([]float64, n)
	for i := range means {
		means[i], _ = stats.MeanSD(w[i*block : (i+1)*block])
		if block == 1 {
			means[i] = w[i]
		}
	}
	// The long-run variance of a block, the median of that of stretches.
	stretch := max(12, n/10)
	var noise []float64
	for from := 0; from+stretch <= n; from += stretch {
		part := means[from : from+stretch]
		_, sd := stats.MeanSD(part)
		tau := stats.Tau(part)
		// What is slower than a stretch shifts its mean and is not in its deviation.
		noise = append(noise, sd*sd*tau/(1-tau/float64(stretch)))
	}
	if len(noise) == 0 {
		noise = []float64{math.Pow(stats.Scatter(means), 2)}
	}
	penalty := 4 * stats.Median(noise) * math.Log(float64(n))
	at := stats.Changes(means, penalty, least)
	if len(at) == 0 {
		return nil
	}
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i)
	}
	if line, ok := stats.FitLine(x, means); ok {
		stepped, from := penalty*float64(len(at)), 0
		for _, until := range append(append([]int(nil), at...), n) {
			_, sd := stats.MeanSD(means[from:until])
			if until-from > 1 {
				stepped += sd * sd * float64(until-from-1)
			}
			from = until
		}
		if line.Residual+penalty <= stepped {
			return nil
		}
	}
	for i := range at {
		at[i] *= block
	}
	return at
}
