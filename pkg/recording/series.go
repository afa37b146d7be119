package recording

import (
	"math"
	"slices"

	"joulepipe/pkg/stats"
)

// series is a channel's readings, in runs of the same value.
type series struct {
	runs  []run
	reads int64
	held  int64
}

// run is a value that was read from first to last. idle says that all its reads
// came with no use of the GPU.
type run struct {
	first, last int64
	value       float64
	idle        bool
}

func (s *series) add(ns int64, w float64) { s.addUsed(ns, w, false) }

func (s *series) addUsed(ns int64, w float64, idle bool) {
	s.reads++
	if n := len(s.runs); n > 0 {
		l := &s.runs[n-1]
		if ns <= l.last {
			return
		}
		if w == l.value {
			s.held++
			if idle == l.idle {
				l.last = ns
				return
			}
		}
	}
	s.runs = append(s.runs, run{ns, ns, w, idle})
}

// spacing is the usual one of the runs, ms.
func (s *series) spacing() float64 {
	var d []float64
	for i := 1; i < len(s.runs); i++ {
		d = append(d, float64(s.runs[i].first-s.runs[i-1].first)/1e6)
	}
	if len(d) == 0 {
		return 100
	}
	slices.Sort(d)
	return max(1, stats.Quantile(d, 0.5))
}

// even is the series as it stood at even times, NaN where it was not read for
// five of them, and the step between these, s. Long ones are looked at more coarsely.
func (s *series) even(step float64) (values []float64, idle []bool, _ float64) {
	const most = 1 << 20
	first, last := s.runs[0].first, s.runs[len(s.runs)-1].last
	if n := float64(last-first) / 1e9 / step; n > most {
		step *= n / most
	}
	ns := step * 1e9
	i := 0
	for k := 0; ; k++ {
		at := first + int64((float64(k)+0.5)*ns)
		if at > last {
			return values, idle, step
		}
		for i+1 < len(s.runs) && s.runs[i+1].first <= at {
			i++
		}
		r := s.runs[i]
		v := r.value
		if i+1 < len(s.runs) && float64(s.runs[i+1].first-r.last) > 5*ns && at > r.last {
			v = math.NaN()
		}
		values, idle = append(values, v), append(idle, r.idle)
	}
}

// scatter is the noise of a series between its steps, W: by the differences of
// neighbours, of which most are no step.
func scatter(values []float64) float64 {
	var d []float64
	for i := 1; i < len(values); i++ {
		if x := math.Abs(values[i] - values[i-1]); !math.IsNaN(x) {
			d = append(d, x)
		}
	}
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return stats.Quantile(d, 0.5) / 0.954
}

// sorted is the values in order, without those that are none.
func sorted(values []float64) []float64 {
	s := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(s)
	if len(s) == 0 {
		s = []float64{0}
	}
	return s
}
