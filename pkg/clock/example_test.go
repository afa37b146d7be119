package clock_test

import (
	"fmt"
	"time"

	"joulepipe/pkg/clock"
)

// A loop on a grid sleeps until absolute times, so that its lateness does not
// add up. A fake clock runs through its schedule at once.
func Example() {
	var c clock.Clock = clock.NewFake(0) // clock.System() in life
	for k := range int64(3) {
		c.SleepUntil(k * int64(100*time.Millisecond))
		fmt.Println(time.Duration(c.Now()))
	}
	// Output:
	// 0s
	// 100ms
	// 200ms
}
