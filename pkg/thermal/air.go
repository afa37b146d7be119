package thermal

import (
	"math"
	"sort"

	"joulepipe/pkg/stats"
)

// What is held of a cooler's slow stages and of the air before any reading. An
// exponential that suits whole degrees knows of neither, and was wrong for both
// on an H200 (docs/validation/testdata): 66 °C half a minute after the load
// began, 67 after two, 69 after five, and 66 to 67 from six to nine. The one of
// testdata/h200 read 61 for most of a minute, and 62 from then on.
const (
	// slowShare is the standard deviation of what a stage below the die, a heat
	// sink or the air in a chassis, still adds to the rise so far, of which it has
	// shown nothing: the recordings had 4 to 8 %.
	slowShare = 0.06
	// airC is the standard deviation of what the air adds, °C, for minutes. The
	// recording's means of a minute had 1.0, simulated coolers have none or up to
	// as much.
	airC     = 0.6
	restless = 1.2
	// airMinutes of readings weigh as much as that in what the air is taken for,
	// and airPart of them is independent: the air remembers for minutes.
	airMinutes = 6.0
	// quick is the fastest drift that may be the air's, °C/min. The recording's
	// had 0.9 over two minutes, a change of fans has several degrees.
	quick = 1.2
	// ahead is how much of what the last minutes moved, the ones that follow may
	// move further by.
	ahead = 1.5
	// settled is how many time constants a rise takes, and unknown one that a
	// temperature which hardly moved is believed to have, minutes.
	settled, unknown = 4.0, 3.0
	// lately is the minutes that tell where a temperature that is of no exponential
	// stands; it takes soonest from the beginning of the load.
	lately, soonest = 3.0, 0.5
)

// slowTaus are the time constants that a slow stage may have, minutes.
var slowTaus = [...]float64{0.5, 1, 2, 4, 8}

// forecast is where the temperature goes, °C, with the 95 % interval.
type forecast struct{ at, low, high float64 }

// foretell widens what the fits of a prediction say by what air and slow stages
// may do. Where there is none, since what was read is no exponential, the
// temperature goes where it has been in the last minutes, if the rise is over:
// nil where it is not. all is everything since the load began at first °C.
func foretell(p *heating, all *history, first, quantum float64) *forecast {
	s := stand(all, first, quantum)
	if s == nil {
		return nil
	}
	if p == nil {
		return s.stands(quantum)
	}
	open := 1.0 // share of the rise that has been seen
	if p.rise != 0 {
		open = min(max(1-p.remaining/p.rise, 0.3), 1)
	}
	rise := max(math.Abs(p.rise), math.Abs(s.rise))
	air := airC / open
	mean, sd := s.prior(rise)
	if s.minutes*60 > over*p.tauS {
		// The curve has had its part of what the last minutes moved.
		span := s.span * 60 / p.tauS
		expected := p.remaining * (math.Exp(span*3/4) - math.Exp(span/4))
		air = s.wander(airC)
		mean, sd = s.further(rise, math.Copysign(1, s.rise)*expected, air, quantum)
	}
	air *= stats.Z95
	if s.rise < 0 {
		mean = -mean
	}
	slow := stats.Z95 * sd
	less := min(slow, math.Abs(mean)*stats.Z95)
	up, down := slow, less
	if s.rise < 0 {
		up, down = less, slow
	}
	widened := make([]limits, 0, len(p.within))
	none, total := 0.0, 0.0
	for _, l := range p.within {
		widened = append(widened, limits{
			l.weight, l.at + mean,
			l.at + mean - math.Hypot(l.at-l.low, math.Hypot(air, down)),
			l.at + mean + math.Hypot(l.high-l.at, math.Hypot(air, up)),
		})
		total += l.weight
	}
	_ = none
	f := &forecast{p.limit + mean, quantile(widened, 0.025*total), quantile(widened, 0.975*total)}
	if f.high-f.low > widest {
		return nil
	}
	f.at = min(max(f.at, f.low), f.high)
	return f
}

// standing is where a temperature has been lately.
type standing struct {
	minutes, rise float64 // since the load began
	span          float64 // minutes that are looked at
	before, last  float64 // mean of the first and of the second half of it
	tau           float64 // minutes, after which most of the rise had been
	scatter       float64 // of half minutes about their mean, °C²
}

func stand(all *history, first, quantum float64) *standing {
	f := &fit{}
	for _, b := range all.bins {
		f.add(b)
	}
	n := len(f.x)
	if n < 4 || f.x[n-1]-f.x[0] < soonest*0.9 {
		return nil
	}
	s := &standing{minutes: f.x[n-1] - f.x[0]}
	now := f.x[n-1]
	s.span = min(lately, s.minutes/2)
	s.before, s.last = f.mean(now-s.span, now-s.span/2), f.mean(now-s.span/2, now+1)
	s.rise = s.last - first
	// The fastest part of the rise tells the time constant, if it is over.
	s.tau = unknown
	most := first
	for _, y := range f.y {
		if (y-most)*s.rise > 0 {
			most = y
		}
	}
	if math.Abs(most-first) > 3*quantum {
		for i, y := range f.y {
			if math.Abs(y-first) > -math.Expm1(-1)*math.Abs(most-first) {
				s.tau = max(f.x[i], soonest/20)
				break
			}
		}
	}
	from := now - 2*lately
	if from < f.x[0]+s.minutes/3 {
		from = f.x[0] + s.minutes/3
	}
	mean, k := f.mean(from, now+1), 0.0
	for at := now; at-0.5 >= from; at -= 0.5 {
		r := f.mean(at-0.5, at+1e-9) - mean
		s.scatter += r * r
		k++
	}
	if k > 1 {
		s.scatter /= k - 1
	}
	s.scatter = max(0, s.scatter-quantum*quantum/12)
	return s
}

// mean of the bins from a minute on until before another; of the nearest where
// there is none.
func (f *fit) mean(from, until float64) float64 {
	i, j := sort.SearchFloat64s(f.x, from), sort.SearchFloat64s(f.x, until)
	if i >= j {
		i = min(i, len(f.x)-1)
		return f.y[i]
	}
	sum := 0.0
	for _, y := range f.y[i:j] {
		sum += y
	}
	return sum / float64(j-i)
}

// wander is the standard deviation, °C, of what the air does from the last
// minutes to the next ones: as it is held beforehand, and as the last minutes
// were, the difference of two of which has twice their variance.
func (s *standing) wander(before float64) float64 {
	had := min(2*lately, s.minutes*2/3)
	return math.Sqrt((airMinutes*before*before + had*2*s.scatter) / (airMinutes + had))
}

// prior is what a slow stage still adds where nothing has been seen of it.
func (s *standing) prior(rise float64) (mean, sd float64) {
	for _, tau := range slowTaus {
		left := rise * math.Exp(-s.minutes/tau)
		mean += slowShare * left * math.Sqrt(2/math.Pi) / 2 / float64(len(slowTaus))
		sd += slowShare * slowShare * left * left / float64(len(slowTaus))
	}
	return mean, math.Sqrt(sd)
}

// further is what a slow stage still adds to the last half of the span, by what
// it moved over the span beside what was expected.
func (s *standing) further(rise, expected, air, quantum float64) (mean, sd float64) {
	sign := math.Copysign(1, s.rise)
	moved := sign * (s.last - s.before - expected)
	error2 := math.Pow(0.3*quantum, 2) + math.Pow(0.5*air, 2)*min(1, s.span/lately)
	weight, sum, squares := 0.0, 0.0, 0.0
	for _, tau := range slowTaus {
		for k := range 11 {
			share := 0.3 * slowShare * float64(k)
			part := func(ago float64) float64 { return share * rise * math.Exp(-(s.minutes-ago)/tau) }
			by := part(s.span*3/4) - part(s.span/4)
			left := part(s.span / 4)
			// What no stage explains is none's.
			off := min((moved-by)*(moved-by)/error2, 40)
			w := math.Exp(-share*share/2/slowShare/slowShare - off/2)
			weight += w
			sum += w * left
			squares += w * left * left
		}
	}
	mean = sum / weight
	return mean, math.Sqrt(max(0, squares/weight-mean*mean))
}

// stands is the forecast of a temperature that stays where it is.
func (s *standing) stands(quantum float64) *forecast {
	moved := s.last - s.before
	if math.Abs(moved) > max(0.75*quantum, quick*s.span/2) || s.minutes < settled*s.tau {
		return nil
	}
	air := s.wander(restless)
	// A cooler with this time constant has so much left of what it moved.
	left := 1 / math.Expm1(s.span/2/s.tau)
	error2 := math.Pow(0.25*quantum, 2) + math.Pow(0.3*air, 2)*min(1, s.span/lately)
	mean, sd := s.further(math.Abs(s.rise), math.Copysign(1, s.rise)*moved*min(1, 2*left), air, quantum)
	off := math.Hypot(air, left*math.Sqrt(error2))
	up, down := math.Hypot(off, sd), math.Hypot(off, min(sd, mean))
	if s.rise < 0 {
		mean, up, down = -mean, down, up
	}
	mean += left * moved
	f := &forecast{s.last + mean, 0, 0}
	up, down = stats.Z95*up, stats.Z95*down
	if moved > 0 {
		up = math.Hypot(up, ahead*moved)
	} else {
		down = math.Hypot(down, ahead*moved)
	}
	f.low, f.high = f.at-down, f.at+up
	if f.high-f.low > widest {
		return nil
	}
	return f
}
