// Package sim is a GPU in software, behind the interface of a real one: what
// runs on it is a file, what it draws and how warm it gets follows from that
// by physics, and the driver's view of it is as late, averaged and unreliable
// as a real driver's. The truth can be asked for beside it.
//
// The load file is NDJSON: a first line, [Setup], and a [Segment] a line.
// Whoever puts load on the GPU appends to it, whoever watches the GPU follows
// it, and as the GPU's state is a function of the file and of the time alone,
// all of them see the same GPU:
//
//	{"record":"sim","schema":"joulepipe-sim/1","profile":"h200","seed":1,"gpus":1,"origin_ns":0,"boot_id":""}
//	{"record":"load","gpu":0,"from_ns":5000000000,"until_ns":8000000000,"compute":1,"memory":0.1,"vram_mb":2048,"context":true,"pid":4711}
//
// A segment may begin in the past; then the GPU's past since then is another
// one, and the energy counter may be found to have gone back.
package sim

import (
	"fmt"
	"sync"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
)

// Options choose the device. Profile and Seed are those of a file that is new;
// where there is one already, they must be empty or the same.
type Options struct {
	File    string      // the load file; empty is DefaultFile
	Profile string      // one of Profiles
	Seed    uint64      // of the noise
	Clock   clock.Clock // nil is the machine's
}

// Device is a set of simulated GPUs. Its methods and those of its GPUs may be
// called by several goroutines at once.
type Device struct {
	load  *Load
	clock clock.Clock
	gpus  []gpu.GPU

	mu     sync.Mutex // of tail and of what the boards see
	tail   *tail
	boards []*board
}

// Open opens a load file, as [OpenLoad] does, and leads its GPUs on to this
// instant. A line of the file that cannot be read is an error, a
// *[record.SyntaxError]; one that comes later makes all readings fail from then
// on, and is what Close returns.
func Open(o Options) (*Device, error) {
	l, err := OpenLoad(o.File, Setup{Profile: o.Profile, Seed: o.Seed})
	if err != nil {
		return nil, err
	}
	p, err := findProfile(l.Setup().Profile)
	if err != nil {
		l.Close()
		return nil, err
	}
	d := &Device{load: l, clock: o.Clock, tail: newTail(l.file, l.file.Name())}
	if d.clock == nil {
		d.clock = clock.System()
	}
	for i := range l.Setup().GPUs {
		b := newBoard(d, p, i)
		d.boards = append(d.boards, b)
		d.gpus = append(d.gpus, b)
	}
	if err := d.follow(); err != nil {
		l.Close()
		return nil, err
	}
	for _, b := range d.boards {
		now := d.clock.Now()
		b.eye.power(now)
		b.toldUntil = b.eye.refresh(now)
	}
	return d, nil
}

// GPUs are the simulated GPUs in index order.
func (d *Device) GPUs() []gpu.GPU { return d.gpus }

// Close closes the load file, and returns what was wrong with it.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load.Close(); err != nil {
		return err
	}
	return d.tail.err
}

// follow takes what the load file has gained. The device is locked.
func (d *Device) follow() error {
	return d.tail.lines(func(line []byte) error {
		if d.tail.line == 1 {
			return nil // the setup, which OpenLoad has read
		}
		s, err := decodeSegment(line, len(d.boards))
		if err == nil {
			d.boards[s.GPU].add(&s)
		}
		return err
	})
}

// Energy is the exact energy in joules that a GPU drew between two instants of
// the monotonic clock, so far as its load is known now. Before the origin it
// idles. Neither instant can be in the future.
func (d *Device) Energy(gpu int, fromNS, untilNS int64) (joules float64, err error) {
	if untilNS < fromNS {
		return 0, fmt.Errorf("energy from %d until %d: the end is before the start", fromNS, untilNS)
	}
	err = d.ask(gpu, untilNS, func(e *eye) { joules = e.energy(untilNS).minus(e.energy(fromNS)) })
	return joules, err
}

// Power is the exact power in watts that a GPU draws at an instant of the
// monotonic clock, which is not in the future. It is constant through each
// millisecond from the origin on.
func (d *Device) Power(gpu int, atNS int64) (watts float64, err error) {
	err = d.ask(gpu, atNS, func(e *eye) { watts = e.power(atNS) })
	return watts, err
}

// ask looks at a GPU whose load is known until an instant.
func (d *Device) ask(gpu int, untilNS int64, look func(*eye)) error {
	if gpu < 0 || gpu >= len(d.boards) {
		return fmt.Errorf("no GPU %d among the %d of this device", gpu, len(d.boards))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.follow(); err != nil {
		return err
	}
	if now := d.clock.Now(); untilNS > now {
		return fmt.Errorf("what GPU %d draws at %d is not known yet: it is %d", gpu, untilNS, now)
	}
	look(&d.boards[gpu].eye)
	return nil
}
