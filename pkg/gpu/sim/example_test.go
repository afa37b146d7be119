package sim_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/record"
)

// Three seconds of work, as the usual power reading shows them at their end, and
// as they were.
func Example() {
	dir, err := os.MkdirTemp("", "sim")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "gpu.sim")

	load, err := sim.OpenLoad(file, sim.Setup{Profile: "h200", OriginNS: 1})
	if err != nil {
		log.Fatal(err)
	}
	defer load.Close()
	err = load.Append(sim.Segment{FromNS: 10e9, UntilNS: 13e9, Compute: 1, Context: true})
	if err != nil {
		log.Fatal(err)
	}

	now := clock.NewFake(10.5e9) // half a second into it
	device, err := sim.Open(sim.Options{File: file, Clock: now})
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	var s record.Sample
	device.GPUs()[0].ReadSample(&s)
	truth, err := device.Power(0, s.TimeNS)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("read %.0f W, drawn %.0f W\n", s.PowerW.Or(0), truth)
	now.SleepUntil(13e9)
	joules, err := device.Energy(0, 10e9, 13e9)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.0f J in all\n", joules)
	// Output:
	// read 330 W, drawn 665 W
	// 1994 J in all
}
