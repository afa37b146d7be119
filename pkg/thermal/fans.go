package thermal

import (
	"math"
	"slices"

	"joulepipe/pkg/stats"
)

// What is held of fans before any reading. None of it is known of a board: it
// decides how far an interval reaches where readings do not.
const (
	// stepsPerMinute is one change in 10 min, about the time that a soak takes:
	// most fans follow the temperature in steps, and a soak goes through one. With
	// 1 in 15 the intervals of simulated runs held less than 95 % where fans change
	// (docs/validation/coverage.md).
	stepsPerMinute = 1.0 / 10
	// stepC is the mean of what a change takes from the equilibrium, or gives. A
	// step of speed is a tenth or so; what a cooler's air side resists goes with
	// the speed to the power of 0.8, and a board is 30 to 50 °C above its inlet:
	// 3 °C. Smaller changes are the likelier, as of an exponential distribution.
	stepC = 3.0
	// along is the share that lets the temperature go on the way that it goes: a
	// fan follows the temperature, and works against it.
	along = 0.1
)

// ages are minutes: the ends of the intervals, back from the last reading, of
// which each has had a change or not. One before them has been seen.
var ages = [...]float64{0, 0.25, 0.5, 1, 2, 4, 8}

// sizes are °C: the ends of the intervals that changes are tried of. Beyond the
// last there are 7 % of the distribution, which it leaves out.
var sizes = [...]float64{0, 1, 2, 3, 4, 6, 8}

// limits is where the temperature may go by curves of one time constant, after
// one change of the fans or none.
type limits struct {
	weight        float64
	at, low, high float64 // °C, with the ends of the 95 % interval
}

// unseen widens a prediction by what the fans may have done without that it
// shows. In the first minute no whole degree tells of a change, and of a slow
// cooler not in three; and a curve may have bent to one that does. A change at
// any age and of any size is tried: it is taken off the readings, and what is
// left is fitted as before. Such a fit weighs what the change is likely to have
// been beforehand, times how well it suits the readings, times how many limits
// do. The interval has 95 % of the weight. It is nil where it has become too wide
// to predict.
func (f *fit) unseen(h *heating) *heating {
	all := append(slices.Clip(h.within), f.changed(h)...)
	none, total := weight(h.within), weight(all)
	p := *h
	p.within = all
	p.low, p.high = quantile(all, 0.025*total), quantile(all, 0.975*total)
	if none < total/2 || p.limit < p.low || p.limit > p.high {
		p.limit = quantile(all, total/2)
		p.remaining += p.limit - h.limit
	}
	if p.high-p.low > widest {
		return nil
	}
	return &p
}

// changed is what the fits say that one change of the fans went before.
func (f *fit) changed(h *heating) (all []limits) {
	n := len(f.x)
	off := &fit{x: f.x, y: make([]float64, n), half: f.half, width: f.width}
	response := make([]float64, n)
	against := 1.0
	if h.rise >= 0 {
		against = -1
	}
	// How far limits reach to either side is much arithmetic, and much the same
	// for neighbouring time constants and for changes either way.
	var reach [len(ages) - 1][len(sizes) - 1]struct{ low, high float64 }
	for k := range taus {
		c := f.at(f.tau(k))
		none := c.loss
		if k%2 == 0 {
			clear(reach[:])
		}
		for j, from := range ages[:len(ages)-1] {
			until := min(ages[j+1], f.x[n-1])
			if until <= from {
				break
			}
			for i, x := range f.x {
				response[i] = 0
				if since := x - f.x[n-1] + (from+until)/2; since > 0 {
					response[i] = -math.Expm1(-since / c.tau)
				}
			}
			for _, way := range [...]struct{ sign, share float64 }{{against, 1 - along}, {-against, along}} {
				prior := stepsPerMinute * (until - from) * way.share
				loss := none
				for m, least := range sizes[:len(sizes)-1] {
					most := sizes[m+1]
					by := way.sign * (least + most) / 2
					for i, y := range f.y {
						off.y[i] = y - by*response[i]
					}
					before := loss
					off.bring(c)
					if loss = c.loss; loss > h.highest {
						if loss > before {
							break // the least loss is convex in the size
						}
						continue
					}
					r := &reach[j][m]
					if r.high == r.low {
						r.low, r.high = c.limit-off.end(c, h.highest, -1), off.end(c, h.highest, 1)-c.limit
					}
					weight := prior * between(least, most) * h.likelihood(c) * (r.low + r.high)
					spread := stats.Z95 * (most - least) / math.Sqrt(12) // of the sizes between
					all = append(all, limits{
						weight, c.limit + by,
						c.limit + by - math.Hypot(r.low, spread), c.limit + by + math.Hypot(r.high, spread),
					})
				}
			}
		}
	}
	return all
}

// between is the share of changes whose size is between two, °C.
func between(least, most float64) float64 {
	return (math.Exp(-least/stepC) - math.Exp(-most/stepC)) / -math.Expm1(-sizes[len(sizes)-1]/stepC)
}

func weight(all []limits) (sum float64) {
	for _, l := range all {
		sum += l.weight
	}
	return sum
}

// scaled are limits of another weight in all.
func scaled(all []limits, to float64) []limits {
	to /= weight(all)
	for i := range all {
		all[i].weight *= to
	}
	return all
}

// below is the weight of what is below c, of a normal distribution with another
// width on either side.
func (l limits) below(c float64) float64 {
	left, right := (l.at-l.low)/stats.Z95, (l.high-l.at)/stats.Z95
	if c < l.at {
		return l.weight * left / (left + right) * math.Erfc((l.at-c)/left/math.Sqrt2)
	}
	return l.weight * (1 - right/(left+right)*math.Erfc((c-l.at)/right/math.Sqrt2))
}

// quantile is the temperature, below which is so much weight.
func quantile(all []limits, weight float64) float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range all {
		low, high = min(low, 2*l.low-l.at), max(high, 2*l.high-l.at)
	}
	for range 20 {
		c, sum := (low+high)/2, 0.0
		for _, l := range all {
			sum += l.below(c)
		}
		if sum < weight {
			low = c
		} else {
			high = c
		}
	}
	return (low + high) / 2
}
