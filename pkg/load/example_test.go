package load_test

import (
	"context"
	"fmt"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
)

// A square wave on a device that is left alone, on a clock that does not wait:
// what is told of it, in seconds after its start.
func ExamplePlay() {
	plan := load.Square{Low: 3 * time.Second, High: 2 * time.Second, Cycles: 2, Kernel: load.FP32}.Plan()
	c := clock.NewFake(-100e6) // Play begins 100 ms later
	err := load.Play(context.Background(), c, load.Idle{0}, plan, func(r record.Record) error {
		e := r.(*record.Event)
		fmt.Printf("%s from %d s to %d s\n", e.ID, e.StartNS/1e9, e.EndNS/1e9)
		return nil
	})
	fmt.Println(err)
	// Output:
	// square_low_0 from 0 s to 3 s
	// square_high_0 from 3 s to 5 s
	// square_low_1 from 5 s to 8 s
	// square_high_1 from 8 s to 10 s
	// <nil>
}
