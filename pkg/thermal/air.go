package thermal

import (
	"math"
	"sort"

	"joulepipe/pkg/stats"
)

// What is held beforehand of a cooler's slow stages and of the air. An
// exponential that suits whole degrees knows of neither, and was wrong for both
// on an H200 (docs/validation/testdata): that read 66 °C half a minute after its
// load began, 67 after two minutes, 69 after five, and 66 to 67 from six to
// nine. The one of testdata/h200 read 61 for most of a minute, and 62 from then
// on. Another board read 59 after half a minute, and rose for all of nine, to 64.
const (
	// slowShare is the standard deviation of what a stage below the die, a heat
	// sink or a chassis, adds to the rise so far when it has shown nothing yet. It
	// adds nothing or some of the way that the rise went, never the other way. Of the
	// rise from the first reading under load to half a minute later, three recordings
	// added 23, 24 and 25 %, by their highest two minutes, and one of a minute 5 % till
	// its end: 21 % in root mean square. From idle, where two of them began, it is 11
	// and 20 %. Boards under the same power differ by as much, which no reading of the
	// first minutes shows. It was 7 %, of the minutes that two had then; the next one
	// held no prediction of its first 150 s.
	slowShare = 0.2
	// airC is the standard deviation of what air changes a temperature by from one
	// few minutes to the next, °C, where an exponential suits the readings, and
	// restless where none does, so that something else moves them: in the
	// recording of 9 minutes the means of two minutes were 1.1 °C (rms) off those
	// of the 90 s before.
	airC     = 0.5
	restless = 1.2
	// What is held of air weighs as much as so many minutes of readings.
	airMinutes = 6.0
	// lately is the minutes of readings that tell where a temperature stands, and
	// soonest how long after the beginning of the load one can.
	lately, soonest = 3.0, 0.45
	// quick is the fastest drift that may be the air's, °C/min, over half of lately:
	// the recording had 1.15. A rise, or the fans, are faster.
	quick = 1.2
	// ahead is how much more than the last minutes moved by the next ones may.
	ahead = 1.5
	// finished is how many time constants a rise takes; unknown is the one that a
	// cooler is believed to have where the temperature has hardly moved, minutes.
	finished, unknown = 4.0, 3.0
)

// slowTaus are the time constants that a slow stage may have, minutes, all as
// likely.
var slowTaus = [...]float64{0.5, 1, 2, 4, 8}

// forecast is where the temperature goes, °C, with the ends of the 95 %
// interval.
type forecast struct{ at, low, high float64 }

// foretell gives a prediction room for slow stages and for air. Without one,
// where the readings are of no exponential, the temperature stays about where it
// has been in the last minutes, once the rise is over. It is nil before, and
// where the interval is too wide to predict. all is the temperatures since the
// load began at first °C.
func foretell(p *heating, all *history, first, quantum float64) (f *forecast) {
	s := stand(all, first, quantum)
	switch {
	case s == nil:
		return nil
	case p != nil:
		f = s.widen(p, quantum)
	default:
		f = s.stay(quantum)
	}
	if f == nil || f.high-f.low > widest {
		return nil
	}
	return f
}

// standing is where a temperature has been lately, and what its rise was.
type standing struct {
	minutes      float64 // since the load began
	rise         float64 // since then, °C
	tau          float64 // of the rise, if it is over, minutes
	span         float64 // minutes that are looked at
	before, last float64 // mean of the first half of the span and of the second
	scatter      float64 // of means of half a minute, beyond rounding, °C²
}

// stand is nil too early after the beginning of the load.
func stand(all *history, first, quantum float64) *standing {
	f := &fit{}
	for _, b := range all.bins {
		f.add(b)
	}
	n := len(f.x)
	if n < 4 || f.x[n-1]-f.x[0] < soonest {
		return nil
	}
	now := f.x[n-1]
	s := &standing{minutes: now - f.x[0], tau: unknown}
	s.span = min(lately, s.minutes/2)
	s.before, s.last = f.mean(now-s.span, now-s.span/2), f.mean(now-s.span/2, math.Inf(1))
	s.rise = s.last - first
	// A share of 1 − 1/e of the rise at most takes a time constant.
	most := first
	for _, y := range f.y {
		if (y-most)*s.rise > 0 {
			most = y
		}
	}
	if math.Abs(most-first) > 3*quantum {
		i := 0
		for math.Abs(f.y[i]-first) < -math.Expm1(-1)*math.Abs(most-first) {
			i++
		}
		s.tau = max(f.x[i], soonest/20)
	}
	from := max(now-2*lately, f.x[0]+s.minutes/3)
	mean, halves := f.mean(from, math.Inf(1)), 0.0
	for until := math.Nextafter(now, math.Inf(1)); until-0.5 >= from; until -= 0.5 {
		off := f.mean(until-0.5, until) - mean
		s.scatter += off * off
		halves++
	}
	s.scatter = max(0, s.scatter/max(1, halves-1)-quantum*quantum/12)
	return s
}

// mean of what was from a minute on and before another; the next one's where
// nothing was.
func (f *fit) mean(from, until float64) float64 {
	i, j := sort.SearchFloat64s(f.x, from), sort.SearchFloat64s(f.x, until)
	if i >= j {
		i = min(i, len(f.y)-1)
		j = i + 1
	}
	sum := 0.0
	for _, y := range f.y[i:j] {
		sum += y
	}
	return sum / float64(j-i)
}

// widen is a prediction with what it knows nothing of. Its limits are as likely
// as before, and each reaches farther.
func (s *standing) widen(p *heating, quantum float64) *forecast {
	rise := max(math.Abs(p.rise), math.Abs(s.rise))
	var shift, down, up, air float64
	if s.minutes*60 > over*p.tauS {
		// What the curve moves by is no other stage's. Where it begins within the
		// span, what was before says nothing.
		span := s.span * 60 / p.tauS
		curve := p.remaining * (math.Exp(span*3/4) - math.Exp(span/4))
		air = s.wander(airC)
		sd := math.Hypot(0.3*quantum, air/2)
		if !(math.Abs(curve) <= math.Abs(p.rise)) {
			curve, sd = 0, math.Inf(1)
		}
		shift, down, up = s.slow(rise, s.last-s.before-curve, sd)
	} else {
		// Where a part of the rise has been seen, air is taken for some of that.
		air = airC
		if p.rise != 0 {
			air /= min(max(1-p.remaining/p.rise, 0.3), 1)
		}
		shift, down, up = s.slow(rise, 0, math.Inf(1))
	}
	down, up = stats.Z95*math.Hypot(air, down), stats.Z95*math.Hypot(air, up)
	total := weight(p.within)
	var wider []limits
	for _, l := range p.within {
		if l.weight > 1e-6*total {
			at := l.at + shift
			wider = append(wider, limits{l.weight, at, at - math.Hypot(l.at-l.low, down), at + math.Hypot(l.high-l.at, up)})
		}
	}
	total = weight(wider)
	f := &forecast{low: quantile(wider, 0.025*total), high: quantile(wider, 0.975*total)}
	f.at = min(max(p.limit+shift, f.low), f.high)
	return f
}

// stay is the forecast of a temperature that has risen and moves as air does, or
// as the fans have made it. It is nil where it moves by more, or rises still.
func (s *standing) stay(quantum float64) *forecast {
	moved := s.last - s.before
	if s.minutes < finished*s.tau || math.Abs(moved) > max(0.75*quantum, quick*s.span/2) {
		return nil
	}
	// Of what it moved by, a cooler of this time constant has so much left.
	left := 1 / math.Expm1(s.span/2/s.tau)
	air := s.wander(restless)
	shift, down, up := s.slow(math.Abs(s.rise), moved*max(0, 1-2*left), math.Hypot(0.3*quantum, air/2))
	off := math.Hypot(air, left*math.Hypot(0.25*quantum, 0.3*air))
	down, up = stats.Z95*math.Hypot(off, down), stats.Z95*math.Hypot(off, up)
	if moved > 0 {
		up = math.Hypot(up, ahead*moved)
	} else {
		down = math.Hypot(down, ahead*moved)
	}
	at := s.last + shift + left*moved
	return &forecast{at, at - down, at + up}
}

// wander is the standard deviation of what air does from the last minutes to the
// next ones, °C: as held beforehand, and as the readings scatter, of which two
// differ by twice the variance.
func (s *standing) wander(before float64) float64 {
	had := min(2*lately, s.minutes*2/3)
	return math.Sqrt((airMinutes*before*before + had*2*s.scatter) / (airMinutes + had))
}

// slow is what a slow stage adds to the last half of the span, °C: the mean, and
// standard deviations down and up. moved is by how much the halves differ, with
// its error.
func (s *standing) slow(rise, moved, sd float64) (shift, down, up float64) {
	sign := math.Copysign(1, s.rise)
	weight, sum, squares := 0.0, 0.0, 0.0
	for _, tau := range slowTaus {
		earlier, later := math.Exp(-(s.minutes-s.span*3/4)/tau), math.Exp(-(s.minutes-s.span/4)/tau)
		for k := range 11 {
			share := 0.3 * float64(k) // of slowShare
			part := slowShare * share * rise
			off := (sign*moved - part*(earlier-later)) / sd
			w := math.Exp(-share*share/2 - min(off*off, 40)/2) // what no stage explains, none has to
			weight += w
			sum += w * part * later
			squares += w * part * later * part * later
		}
	}
	mean := sum / weight
	up = math.Sqrt(max(0, squares/weight-mean*mean))
	down = min(up, mean)
	if sign < 0 {
		return -mean, up, down
	}
	return mean, down, up
}
