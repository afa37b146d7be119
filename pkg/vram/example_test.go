package vram_test

import (
	"context"
	"fmt"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
	"joulepipe/pkg/vram"
)

// TR122's pattern on the pool of a simulated board of 1 GiB.
func ExampleTorture() {
	t := vram.Torture{Clock: clock.System(), Emit: func(record.Record) error { return nil }}
	trial, err := t.Try(context.Background(), "pool", vram.NewBoard(1<<30, 0).Pool(), vram.Holes{})
	if err != nil {
		panic(err)
	}
	fmt.Printf("fragmentation %.2f with holes; the request for 8 MiB %s\n", trial.Holes.Fragmentation.V, trial.Coalescing.Outcome)
	fmt.Println(trial.Adjoining.Outcome, "where holes adjoin")
	// Output:
	// fragmentation 0.49 with holes; the request for 8 MiB grew
	// joined where holes adjoin
}

// The longest context of a model of 500 MiB that takes 256 KiB for each token.
func ExampleCliff() {
	memory := vram.NewBoard(1<<30, 0).Plain()
	buffers := func(context int) []vram.Buffer {
		return []vram.Buffer{{Part: vram.Weights, Bytes: 500 * vram.MiB}, {Part: vram.KV, Bytes: int64(context) << 18}}
	}
	c := vram.Cliff{
		Clock: clock.System(), Emit: func(record.Record) error { return nil },
		Memory: memory, Buffers: buffers, Engine: &vram.Held{Memory: memory, Buffers: buffers},
		Model: "toy", Batch: 1, Window: 1 << 17,
	}
	fall, err := c.Run(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(fall.Limit, fall.MaxContext, "tokens, predicted", fall.Predicted.MaxContext)
	// Output:
	// capacity 2096 tokens, predicted 2096
}
