package sensor

import (
	"math"
	"sort"
	"time"
)

// Model is a sensor: at each update it shows the mean power of the window that
// ended a lag before. The zero Window shows the power of one instant.
type Model struct {
	Update time.Duration // spacing of updates
	Phase  time.Duration // of the update grid: updates are at Phase + n·Update
	Window time.Duration
	Lag    time.Duration
}

// Model is the forward model of a channel whose window and update are known,
// with an update at 0.
func (c *Channel) Model() (m Model, ok bool) {
	window, ok := c.WindowMS.Get()
	update, updates := c.UpdateMS.Get()
	if !ok || !updates {
		return m, false
	}
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	return Model{Update: ms(update), Window: ms(window), Lag: ms(c.LagMS.Or(0))}, true
}

// Chain is how board and sensor together follow a switch of the load: an
// exponential approach, a mean over a window, a lag.
type Chain struct {
	WindowMS, LagMS, TauMS float64
}

// Chain is how a channel follows a switch of the load, and false where its lag
// is not told. A window that is bounded only is taken as short as it may be.
func (c *Channel) Chain() (chain Chain, ok bool) {
	lag, ok := c.LagMS.Get()
	if !ok || len(c.WindowCI95MS) != 2 {
		return chain, false
	}
	return Chain{WindowMS: c.WindowMS.Or(c.WindowCI95MS[0]), LagMS: lag, TauMS: c.TauMS.Or(0)}, true
}

// Answer is how far a reading has followed a step of the load that was ms ago,
// from 0 to 1.
func (c Chain) Answer(ms float64) float64 {
	ms -= c.LagMS
	if c.WindowMS < narrowMS {
		c.WindowMS = narrowMS
	}
	return (c.ramp(ms) - c.ramp(ms-c.WindowMS)) / c.WindowMS
}

// ramp is the integral of the exponential approach, up to x after its start.
func (c Chain) ramp(x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case c.TauMS < 1e-6:
		return x
	default:
		return x + c.TauMS*math.Expm1(-x/c.TauMS)
	}
}

// Reading is what the sensor shows at ns of that power, in watts.
func (m Model) Reading(p *Curve, ns int64) float64 {
	if m.Update > 0 {
		ns -= floorMod(ns-int64(m.Phase), int64(m.Update))
	}
	until := ns - int64(m.Lag)
	if m.Window <= 0 {
		return p.Mean(until-1, until)
	}
	return p.Mean(until-int64(m.Window), until)
}

func floorMod(a, b int64) int64 { return (a%b + b) % b }

// Curve is power over time, constant between its points; what lies before the
// first and after the last is as they are.
type Curve struct {
	at     []float64 // ns, ascending
	watts  []float64 // from at[i-1] until at[i]
	joules []float64 // until at[i], ×1e9
}

// Until appends that power was watts from the last point until ns. Points must
// ascend; others are passed over.
func (c *Curve) Until(ns int64, watts float64) {
	at, n := float64(ns), len(c.at)
	switch {
	case n == 0:
		c.joules = append(c.joules, 0)
	case at <= c.at[n-1]:
		return
	default:
		c.joules = append(c.joules, c.joules[n-1]+watts*(at-c.at[n-1]))
	}
	c.at, c.watts = append(c.at, at), append(c.watts, watts)
}

// Mean is the mean power, in watts, from one time to a later one.
func (c *Curve) Mean(fromNS, untilNS int64) float64 {
	return c.mean(float64(fromNS), float64(untilNS))
}

func (c *Curve) mean(from, until float64) float64 {
	return (c.integral(until) - c.integral(from)) / (until - from)
}

func (c *Curve) integral(at float64) float64 {
	n := len(c.at)
	i := sort.SearchFloat64s(c.at, at)
	switch {
	case n == 0:
		return math.NaN()
	case i == n:
		return c.joules[n-1] + c.watts[n-1]*(at-c.at[n-1])
	default:
		return c.joules[i] - c.watts[i]*(c.at[i]-at)
	}
}

// covers says whether the curve has points around a stretch.
func (c *Curve) covers(from, until float64) bool {
	n := len(c.at)
	return n > 0 && from >= c.at[0] && until <= c.at[n-1]
}
