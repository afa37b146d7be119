package sim

import (
	"math"
	"time"
)

const (
	refreshNS  = int64(100 * time.Millisecond) // how often the driver looks at everything but its power samples
	stallMinNS = int64(100 * time.Millisecond)
	stallMaxNS = int64(240 * time.Millisecond)
	floorW     = 1.2 // what a stale power reading says
)

// eye is how the driver sees a GPU: late, through windows, with noise and
// faults. What it sees is a function of the time and of the GPU's history.
type eye struct {
	*profile
	*history
	dice  dice
	rates rates
}

// tick is the last update before or at an instant, of something that is
// updated every period: its number and its time. Each GPU has a phase of its
// own.
func (e *eye) tick(at, period int64) (number, when int64) {
	phase := e.origin + int64(float64(period)*e.dice.uniform(forPhase, period))
	number = (at - phase) / period
	if at < phase && (at-phase)%period != 0 {
		number--
	}
	return number, phase + number*period
}

// refresh is when the driver last looked.
func (e *eye) refresh(at int64) int64 {
	_, when := e.tick(at, refreshNS)
	return when
}

// reading is what a power reading says at an instant, in watts. All of them come
// from a cache, which is stale now and then while the board sleeps.
func (e *eye) reading(s sensor, at int64) float64 {
	number, when := e.tick(at, int64(s.period))
	if e.state(when).mode == deep && e.dice.hit(forFloor, number, e.rates.floor) {
		return floorW
	}
	until := when - int64(s.lag)
	return e.seen(s.what, number, until-int64(s.window), until)
}

// seen is the mean power of a window with its noise, in whole milliwatts. The
// noise grows with the square of the power, as the unrest of a load does, and
// is smaller in long windows.
func (e *eye) seen(what, number, from, until int64) float64 {
	watts := e.mean(from, until)
	noise := e.noise * watts * watts / e.limitW * math.Sqrt(float64(driverPeriodNS)/float64(until-from))
	return max(0, math.Round(1e3*(watts+noise*e.dice.normal(what, number)))/1e3)
}

// state is that of the GPU at an instant.
func (e *eye) state(at int64) state { return e.at((at - e.origin) / stepNS) }

// counter is what the energy counter says at an instant, in millijoules.
func (e *eye) counter(at int64) int64 {
	_, when := e.tick(at, refreshNS)
	joules := e.energy(when - int64(e.counterLag)).minus(joules{})
	return max(0, int64(math.Floor(1e3*joules)))
}

// vram is what is allocated at an instant, in MiB.
func (e *eye) vram(at int64) float64 {
	l := &e.load[e.load.index(at)].load
	return min(e.vramIdleMB+e.vramContextMB*float64(l.held())+l.vram, e.vramMB)
}

// stalled is until when a call that comes at an instant has to wait, because a
// context or an allocation is being made; the instant itself if it has not.
func (e *eye) stalled(at int64) int64 {
	until := at
	for i := e.load.index(at); i > 0 && e.load[i].from > at-stallMaxNS; i-- {
		was, is := &e.load[i-1].load, &e.load[i].load
		if is.held() <= was.held() && is.vram <= was.vram {
			continue
		}
		after := e.load[i].from - e.origin
		if e.dice.hit(forStall, after, e.rates.stall) {
			length := stallMinNS + int64(float64(stallMaxNS-stallMinNS)*e.dice.uniform(forStallTime, after))
			until = max(until, e.load[i].from+length)
		}
	}
	return until
}
