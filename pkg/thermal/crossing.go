package thermal

import (
	"math"
	"time"

	"joulepipe/pkg/stats"
)

// crossings are the moments at which readings first reached a further quantum.
// There the temperature is known without the error of rounding.
type crossings struct {
	holdNS int64 // that a reading must stay, to have been more than chatter
	level  float64
	any    bool
	next   float64 // beyond level, seen since sinceNS
	since  int64
	at     []crossing // the window's, the oldest first
}

// crossing is when the temperature went through a boundary between readings.
type crossing struct {
	ns      int64
	celsius float64
}

// newCrossings are none. A reading counts when it has held for 5 s, less in
// windows below 5 minutes.
func newCrossings(window time.Duration) crossings {
	return crossings{holdNS: int64(min(5*time.Second, window/60))}
}

func (x *crossings) clear() { x.any, x.since, x.at = false, 0, x.at[:0] }

// add takes in a reading; quantum is what readings are rounded to.
func (x *crossings) add(ns int64, c, quantum float64, lengthNS int64) {
	for len(x.at) > 0 && x.at[0].ns < ns-lengthNS {
		x.at = x.at[1:]
	}
	switch {
	case !x.any:
		x.any, x.level = true, c
	case math.Abs(c-x.level) < quantum/2 || quantum == 0:
		x.since = 0
	case x.since == 0 || (c > x.level) != (x.next > x.level):
		x.since, x.next = ns, c
	case ns-x.since >= x.holdNS:
		// The reading closest to the old level of those that have held.
		x.at = append(x.at, crossing{x.since, (x.level + x.next) / 2})
		x.level, x.since = x.next, 0
		x.add(ns, c, quantum, lengthNS)
	case math.Abs(c-x.level) < math.Abs(x.next-x.level):
		x.next = c
	}
}

// slope is that of the temperature over a window in °C/min, from the crossings
// in it, and the half-width of its interval. One that goes back and forth, and
// none at all, say that the drift was less than a quantum.
func (x *crossings) slope(quantum float64, length time.Duration) (perMin, ci float64) {
	bound := quantum / length.Minutes()
	if len(x.at) < 2 {
		for range x.at {
			perMin = bound / 2 * sign(x.level-x.at[0].celsius)
		}
		return perMin, bound
	}
	var minutes, celsius []float64
	for _, c := range x.at {
		minutes = append(minutes, float64(c.ns-x.at[0].ns)/float64(time.Minute))
		celsius = append(celsius, c.celsius)
	}
	if l, ok := stats.FitLine(minutes, celsius); ok {
		return l.Slope, max(stats.Z95*l.SlopeSE, bound/float64(len(x.at)))
	}
	n := len(x.at) - 1
	return (celsius[n] - celsius[0]) / minutes[n], bound
}

func sign(v float64) float64 { return math.Copysign(1, v) }
