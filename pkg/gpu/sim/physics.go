package sim

import "math"

// Time goes in steps of a millisecond, counted from the origin.
const (
	stepNS = int64(1e6)
	stepS  = 1e-3
)

// Reasons for clocks that are not the highest, as nvmlClocksEventReason has
// them.
const (
	reasonIdle      = 0x1
	reasonPowerCap  = 0x4
	reasonSlowdown  = 0x8
	reasonSWThermal = 0x20
	reasonHWThermal = 0x40
)

const (
	throttleBandC = 10.0 // °C above the limit that would take the whole clock
	slowdownBackC = 2.0  // below the slowdown temperature, where the hardware lets go
	slowestShare  = 0.2  // of the clock
	slowdownShare = 0.5  // of the clock
	capGain       = 0.01 // share of the clock, per step and excess power, that the power limit takes
	settledW      = 1e-6 // below which a change of power is over
	forever       = int64(math.MaxInt64 / 2)
)

// state is a GPU between two steps.
type state struct {
	energy  joules  // since the origin
	watts   float64 // drawn in the step before
	draw    float64 // of that, without leakage
	temp    float64 // °C
	cap     float64 // share of the clock that the power limit leaves
	speed   float64 // share of the clock that is run at
	idle    int64   // steps since the last load
	reasons uint8
	mode    uint8
	fan     bool
	slow    bool // the hardware holds the clocks down
}

// joules is an energy whose sums stay exact to a part in 1e15 over years of
// steps: what rounding takes from the sum goes to rest.
type joules struct{ sum, rest float64 }

func (j joules) plus(x float64) joules {
	sum := j.sum + x
	part := sum - j.sum
	return joules{sum, j.rest + (j.sum - (sum - part)) + (x - part)}
}

func (j joules) minus(k joules) float64 { return (j.sum - k.sum) + (j.rest - k.rest) }

// physics is a profile in its surroundings.
type physics struct {
	*profile
	ambient float64
	follow  float64 // share of a change of power that a step makes
	still   cooling
	blown   cooling
}

// cooling is how the temperature goes on by itself: in a step it becomes keep
// times what it was, and a constant.
type cooling struct {
	resistance float64 // °C per W
	keep       float64
	keepBlock  float64 // in block steps
	keepLast   float64 // in one less
}

func newPhysics(p *profile, ambient float64) *physics {
	cool := func(resistance float64) cooling {
		keep := 1 + stepS/p.heatJC*(p.leakWC-1/resistance)
		return cooling{resistance, keep, math.Pow(keep, block), math.Pow(keep, block-1)}
	}
	return &physics{
		profile: p,
		ambient: ambient,
		follow:  -math.Expm1(-stepS / p.rise.Seconds()),
		still:   cool(p.stillCW),
		blown:   cool(p.blownCW),
	}
}

// start is a board that nothing has run on for long.
func (p *physics) start() state {
	draw := p.modes[deep].watts
	fan := false
	temp := p.settled(draw, p.still.resistance)
	if temp >= p.fanOnC {
		fan = true
		temp = p.settled(draw, p.blown.resistance)
	}
	return state{
		watts: draw + p.leak(temp), draw: draw, temp: temp, cap: 1, speed: 1,
		idle: forever, reasons: reasonIdle, mode: deep, fan: fan,
	}
}

// settled is the temperature that a constant draw leads to.
func (p *physics) settled(draw, resistance float64) float64 {
	return (p.ambient + resistance*(draw-p.leakWC*p.leakRefC)) / (1 - resistance*p.leakWC)
}

// leak is what the temperature adds to the power, in watts.
func (p *physics) leak(temp float64) float64 { return p.leakWC * (temp - p.leakRefC) }

func (p *physics) cooling(fan bool) *cooling {
	if fan {
		return &p.blown
	}
	return &p.still
}

// step lets a millisecond of u pass.
func (p *physics) step(s *state, u use) {
	active := u.busy > 0
	if active {
		s.idle = 0
	} else {
		s.idle = min(s.idle+1, forever)
	}
	s.mode = p.modeAt(s.idle, u.context)

	// The clocks, of what was felt in the step before.
	heat := min(max(1-(s.temp-p.throttleC)/throttleBandC, slowestShare), 1)
	s.slow = s.temp >= p.slowdownC || s.slow && s.temp > p.slowdownC-slowdownBackC
	s.speed = min(s.cap, heat)
	if s.slow {
		s.speed = min(s.speed, slowdownShare)
	}
	s.reasons = p.reasonsOf(s, heat, active)

	// The power.
	target := p.modes[s.mode].watts + p.computeW*u.compute*s.speed*s.speed + p.memoryW*u.memory
	s.draw += (target - s.draw) * p.follow
	if math.Abs(target-s.draw) < settledW {
		s.draw = target
	}
	s.watts = s.draw + p.leak(s.temp)
	s.energy = s.energy.plus(s.watts * stepS)
	s.cap = min(max(s.cap+capGain*(1-s.watts/p.capW), slowestShare), 1)

	// The heat.
	flow := (s.temp - p.ambient) / p.cooling(s.fan).resistance
	s.temp += (s.watts - flow) * stepS / p.heatJC
	s.fan = s.temp >= p.fanOnC || s.fan && s.temp > p.fanOffC
}

func (p *physics) modeAt(idle int64, context bool) uint8 {
	switch {
	case idle == 0:
		return loaded
	case idle < p.linger:
		return lingering
	case context:
		return resident
	}
	return deep
}

func (p *physics) reasonsOf(s *state, heat float64, active bool) (r uint8) {
	if s.mode == deep {
		return reasonIdle
	}
	if active && s.cap < 1 && s.cap <= heat {
		r |= reasonPowerCap
	}
	if active && heat < 1 {
		r |= reasonSWThermal
	}
	if s.slow {
		r |= reasonSlowdown | reasonHWThermal
	}
	return r
}

// rest is a whole block of steps at once, on a board that does nothing and
// stays as it is: the temperature goes on by geometric sums. It is ok only
// where all of that holds for the whole block.
func (p *physics) rest(s state, context bool) (end state, ok bool) {
	now := p.modeAt(s.idle+1, context)
	if s.mode != now || now != p.modeAt(s.idle+block, context) || now == loaded ||
		s.draw != p.modes[now].watts || s.cap != 1 || s.slow {
		return s, false
	}
	c := p.cooling(s.fan)
	goal := p.settled(s.draw, c.resistance)
	away := s.temp - goal
	end = s
	end.temp = goal + away*c.keepBlock
	if warmest := max(s.temp, end.temp); warmest >= p.throttleC || !s.fan && warmest >= p.fanOnC {
		return s, false
	}
	if s.fan && min(s.temp, end.temp) <= p.fanOffC {
		return s, false
	}
	degrees := block*goal + away*(1-c.keepBlock)/(1-c.keep) // the steps' temperatures added up
	end.watts = s.draw + p.leak(goal+away*c.keepLast)
	end.energy = s.energy.plus((block*s.draw + p.leakWC*(degrees-block*p.leakRefC)) * stepS)
	end.idle = min(s.idle+block, forever)
	end.speed = 1
	return end, true
}
