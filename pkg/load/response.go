package load

import (
	"fmt"
	"math/rand/v2"
	"time"

	"joulepipe/pkg/record"
)

// Response is the load of the instrument response test. Everything in it has
// random lengths of its own, so that it does not keep step with a sensor: long
// steps tell the height and the rise, a pseudo-random binary sequence and square
// waves of periods around the sensor's update its window and lag, and bursts
// between rests what becomes of short work.
type Response struct {
	Steps  int           // long steps up, each with one down
	Update time.Duration // about the sensor's update period
	Seed   uint64
	Kernel Kernel
}

// The parts of the test, as its events have it in their field part.
const (
	partStep   = "step"
	partRandom = "random"
	partSquare = "square"
	partBurst  = "burst"
)

// Plan has an event of phase response for each stretch of load; what lies
// between them is none, and the context stays.
func (r Response) Plan() Plan {
	return func(yield func(Step) bool) {
		rng := rand.New(rand.NewPCG(r.Seed, 1))
		between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(rng.Int64N(int64(hi-lo)+1)) }
		k := 0
		rest := func(d time.Duration) bool { return yield(Step{d, r.Kernel.Level(0), nil}) }
		load := func(part string, d time.Duration) bool {
			e := record.Event{
				ID:    fmt.Sprintf("response_%s_%d", part, k),
				Phase: "response",
				Extra: []record.Field{extra("part", part), extra("kernel", r.Kernel)},
			}
			k++
			return yield(Step{d, r.Kernel.Level(1), &e})
		}
		ok := rest(between(2500*time.Millisecond, 3*time.Second))
		for i := 0; ok && i < r.Steps; i++ {
			ok = load(partStep, between(2500*time.Millisecond, 3500*time.Millisecond)) && rest(between(2500*time.Millisecond, 3500*time.Millisecond))
		}
		ok = ok && load(partStep, between(2*time.Second, 2500*time.Millisecond)) && rest(r.Update/2)
		for on, chips := range runs(511) {
			if !ok {
				return
			}
			// A chip is a quarter of the update, and none is like the next.
			d := time.Duration(chips) * between(r.Update/5, r.Update*3/10)
			if on {
				ok = load(partRandom, d)
			} else {
				ok = rest(d)
			}
		}
		for _, ratio := range []float64{0.67, 0.83, 1.21, 1.47, 0.31, 2.3} {
			half := time.Duration(ratio * float64(r.Update) / 2)
			for until := 20 * r.Update; ok && until > 0; until -= 2 * half {
				ok = load(partSquare, half) && rest(half)
			}
			ok = ok && rest(between(0, r.Update))
		}
		for range 4 {
			for _, share := range []float64{0.1, 0.2, 0.5, 1, 2} {
				ok = ok && rest(between(600*time.Millisecond, 600*time.Millisecond+r.Update)) &&
					load(partBurst, time.Duration(share*float64(r.Update)))
			}
		}
		if ok {
			rest(2 * time.Second)
		}
	}
}

// runs are the lengths of the equal stretches of a pseudo-random binary
// sequence of so many bits, in turn on and off, beginning with on: the
// m-sequence of x⁹ + x⁵ + 1, which has the autocorrelation of noise.
func runs(bits int) func(func(bool, int) bool) {
	return func(yield func(bool, int) bool) {
		state, last, n := uint(0x1ff), true, 0
		for range bits {
			on := state&1 == 1
			state = state>>1 | (state&1^state>>4&1)<<8
			if on != last {
				if !yield(last, n) {
					return
				}
				last, n = on, 0
			}
			n++
		}
		yield(last, n)
	}
}
