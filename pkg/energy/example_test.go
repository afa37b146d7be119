package energy_test

import (
	"fmt"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// A program that polls and knows its own events can attribute as it goes.
func Example() {
	idle := map[int]float64{0: 60} // W, of GPU 0
	a, err := energy.New(energy.Options{Method: energy.PowerUse, Idle: idle}, func(e *record.Event) error {
		j, op := e.Energy.Joules.Or(0), e.Energy.OperationalJ.Or(0)
		fmt.Printf("%s: %.0f J, %.0f J above idle, %s\n", e.ID, j, op, e.Energy.Quality)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	second := int64(1e9)
	if err := a.Event(&record.Event{ID: "request 1", StartNS: 1 * second, EndNS: 3 * second}); err != nil {
		fmt.Println(err)
		return
	}
	for t := int64(0); t <= 4*second; t += second / 10 {
		s := &record.Sample{TimeNS: t, PowerW: record.Some(260.0), ReadOK: true}
		if err := a.Observe(s); err != nil {
			fmt.Println(err)
			return
		}
	}
	if err := a.Finish(); err != nil {
		fmt.Println(err)
	}
	// Output: request 1: 520 J, 400 J above idle, good
}
