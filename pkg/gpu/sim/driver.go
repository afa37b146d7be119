package sim

import (
	"time"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// The driver's own power samples: it looks every 20 ms or so and keeps the last
// 119.
const (
	driverPeriodNS = int64(20 * time.Millisecond)
	driverJitterNS = int64(3500 * time.Microsecond)
	driverKept     = 119
)

// window is the end of the driver's window of that number, in whole
// microseconds. A window begins where the one before it ends: together they
// see all of the time.
func (e *eye) window(number int64) int64 {
	_, phase := e.tick(e.origin, driverPeriodNS)
	late := e.dice.uniform(forWindow, number)
	end := phase + number*driverPeriodNS + int64(late*late*float64(driverJitterNS))
	return end - end%1000
}

// lastWindow is the number of the last window that is over.
func (e *eye) lastWindow(at int64) int64 {
	number, _ := e.tick(at, driverPeriodNS)
	first, _ := e.tick(e.origin, driverPeriodNS)
	if number -= first; e.window(number) > at {
		number--
	}
	return number
}

// harvest appends the windows after seen that are over and still kept, and
// returns the number of the last.
func (e *eye) harvest(b *gpu.PowerBatch, index int, seen, at int64) int64 {
	last := e.lastWindow(at)
	first := seen + 1
	if first <= last-driverKept {
		first = last - driverKept + 1
		b.Overflow = seen != unharvested
	}
	for number := first; number <= last; number++ {
		from, until := e.window(number-1), e.window(number)
		b.Entries = append(b.Entries, record.Power{TimeNS: until, GPU: index, PowerW: e.seen(forDriver, number, from, until)})
	}
	return max(seen, last)
}
