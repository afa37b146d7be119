package load

import (
	"errors"
	"math"
	"os"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/record"
)

// boards are what the simulated boards can do, by their profile: figures of
// NVIDIA's data sheets.
var boards = map[string]Board{
	"h200":           {FLOPS: 989e12, Bandwidth: 4.8e12},
	"rtx4080-laptop": {FLOPS: 67.7e12, Bandwidth: 432e9},
}

// Sim is a simulated Device: load is lines in its load file.
type Sim struct {
	load  *sim.Load
	info  []record.GPU
	gpus  []int
	board Board
	pid   int64
}

// OpenSim opens the simulated device and takes the GPUs that want names, as
// [gpu.Select] does.
func OpenSim(o sim.Options, want []string) (*Sim, error) {
	dev, err := sim.Open(o)
	if err != nil {
		return nil, err
	}
	d := &Sim{pid: int64(os.Getpid())}
	selected, err := gpu.Select(dev.GPUs(), want)
	for _, g := range selected {
		d.info = append(d.info, g.Info())
		d.gpus = append(d.gpus, g.Info().Index)
	}
	if err := errors.Join(err, dev.Close()); err != nil {
		return nil, err
	}
	d.load, err = sim.OpenLoad(o.File, sim.Setup{Profile: o.Profile, Seed: o.Seed})
	if err != nil {
		return nil, err
	}
	d.board = boards[d.load.Setup().Profile]
	return d, nil
}

// Info describes the GPUs.
func (d *Sim) Info() []record.GPU { return d.info }

// Board is what each of them can do.
func (d *Sim) Board() Board { return d.board }

// GPUs are their indices.
func (d *Sim) GPUs() []int { return d.gpus }

// VRAM is the memory in MiB of each.
func (d *Sim) VRAM() float64 {
	least := math.Inf(1)
	for _, g := range d.info {
		least = min(least, g.VRAMTotalMB.Or(0))
	}
	return least
}

// Apply adds a segment to the load file for each GPU.
func (d *Sim) Apply(l Level, fromNS, untilNS int64) error {
	for _, g := range d.gpus {
		if err := d.load.Append(sim.Segment{
			GPU: g, FromNS: fromNS, UntilNS: untilNS,
			Compute: l.Compute, Memory: l.Memory, VRAMMB: l.VRAMMB, Context: l.Context, PID: d.pid,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the load file.
func (d *Sim) Close() error { return d.load.Close() }
