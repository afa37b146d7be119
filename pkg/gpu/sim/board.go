package sim

import (
	"fmt"
	"math"
	"time"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

const (
	unharvested = math.MinInt64 / 2 // no window of the driver has been read

	// A call of the energy counter takes 2.7 ms at the median, 7 ms in one of
	// twenty and 12 ms in one of a hundred, as on an H200. Other calls cost what
	// they cost here.
	counterCall    = 2700 * time.Microsecond
	counterTail    = 12 * time.Millisecond
	counterTailPow = 20

	gpmSpacingNS = int64(100 * time.Millisecond)
)

// board is one simulated GPU.
type board struct {
	dev   *Device
	index int
	info  record.GPU
	eye   eye // under dev's lock

	harvested int64 // last window read, by ReadPower alone
	gpmFrom   int64 // last sample taken, by ReadGPM alone
	gpmTaken  bool

	processes map[int64]*timeline // load by process, under dev's lock
	toldUntil int64               // by ReadProcesses alone, once it is open
}

func newBoard(d *Device, p *profile, index int) *board {
	setup := d.load.Setup()
	f := &setup.Faults
	dice := newDice(setup.Seed, index)
	b := &board{
		dev:   d,
		index: index,
		eye: eye{
			profile: p,
			history: newHistory(newPhysics(p, f.AmbientC.Or(p.ambientC)), setup.OriginNS),
			dice:    dice,
			rates: rates{
				readError: f.ReadErrorRate.Or(p.rates.readError),
				stall:     f.StallRate.Or(p.rates.stall),
				floor:     f.FloorRate.Or(p.rates.floor),
			},
		},
		harvested: unharvested,
	}
	b.info = record.GPU{
		Index:              index,
		UUID:               fmt.Sprintf("GPU-SIM-%016x", dice.bits(forUUID, 0)),
		Name:               p.product,
		Driver:             "sim",
		Arch:               p.arch,
		PCI:                fmt.Sprintf("00000000:%02x:00.0", index+1),
		VRAMTotalMB:        record.Some(p.vramMB),
		PowerLimitW:        record.Some(p.limitW),
		PowerLimitDefaultW: record.Some(p.limitW),
		TempSlowdownC:      record.Some(p.slowdownC),
		TempShutdownC:      record.Some(p.shutdownC),
		MIG:                record.Some(false),
		Persistence:        record.Some(true),
		Channels: map[string]string{
			gpu.Sample:  "ok",
			gpu.Power:   offered(p.driver),
			gpu.Counter: "ok",
			gpu.GPM:     offered(p.gpm),
			gpu.Process: "ok",
		},
	}
	return b
}

func offered(has bool) string {
	if has {
		return "ok"
	}
	return string(gpu.ErrNotSupported)
}

// Info describes the GPU.
func (b *board) Info() record.GPU { return b.info }

// call begins a call to the driver: it waits while the driver is held up and
// returns with the device locked. The error is that of the call.
func (b *board) call() (now int64, err error) {
	d := b.dev
	d.mu.Lock()
	for {
		if d.follow() != nil {
			return d.clock.Now(), gpu.ErrUnknown // Close says more
		}
		now = d.clock.Now()
		until := b.eye.stalled(now)
		if until <= now {
			break
		}
		d.mu.Unlock()
		d.clock.SleepUntil(until)
		d.mu.Lock()
	}
	after := now - b.eye.origin
	if d.load.setup.Faults.lost(b.index, after) {
		return now, gpu.ErrLost
	}
	return now, nil
}

// fault is the error of a call that fails by chance, "" of one that does not.
func (b *board) fault(what, now int64) gpu.Error {
	switch u := b.eye.dice.uniform(what, (now-b.eye.origin)/stepNS); {
	case u < b.eye.rates.readError/2:
		return gpu.ErrTimeout
	case u < b.eye.rates.readError:
		return gpu.ErrUnknown
	}
	return ""
}

// ReadSample reads what the driver shows at this instant.
func (b *board) ReadSample(s *record.Sample) {
	start := b.dev.clock.Now()
	now, err := b.call()
	defer b.dev.mu.Unlock()
	*s = record.Sample{
		TimeNS: now, GPU: b.index,
		Tick: s.Tick, DtS: s.DtS, LateUS: s.LateUS, // the poller's
	}
	if err != nil {
		s.Error = err.Error()
	} else {
		b.sense(s)
	}
	s.ReadUS = record.Some(float64(b.dev.clock.Now()-start) / 1e3)
}

// sense fills in the readings.
func (b *board) sense(s *record.Sample) {
	e := &b.eye
	if fault := b.fault(forSampleError, s.TimeNS); fault != "" {
		s.Error = string(fault) // and no power
	} else {
		s.ReadOK = true
		s.PowerW = record.Some(e.reading(e.usage, s.TimeNS))
		s.PowerInstantW = record.Some(e.reading(e.instant, s.TimeNS))
		s.PowerAverageW = record.Some(e.reading(e.average, s.TimeNS))
	}
	when := e.refresh(s.TimeNS)
	state := e.state(when)
	mode := &e.modes[state.mode]
	use := e.load.between(when-refreshNS, when)
	s.TempC = record.Some(math.Round(state.temp))
	s.SMClockMHz = record.Some(clockOf(mode.smMHz, state.speed))
	s.MemClockMHz = record.Some(mode.memMHz)
	s.UtilGPU = record.Some(int64(math.Round(100 * use.busy)))
	s.UtilMem = record.Some(int64(math.Round(100 * use.memory)))
	s.VRAMUsedMB = record.Some(e.vram(s.TimeNS))
	s.ThrottleReasons = record.Some(uint64(state.reasons))
	s.PState = record.Some(mode.pstate)
}

// clockOf is a share of a clock, in the steps of 15 MHz that boards have.
func clockOf(mhz, share float64) int64 { return int64(math.Round(mhz*share/15)) * 15 }

// ReadPower appends the driver's power samples since the last call; the first
// has all that are kept.
func (b *board) ReadPower(batch *gpu.PowerBatch) error {
	batch.Clock = "monotonic"
	if !b.eye.driver {
		return gpu.ErrNotSupported
	}
	now, err := b.call()
	defer b.dev.mu.Unlock()
	if err != nil {
		return err
	}
	if fault := b.fault(forDriverError, now); fault != "" {
		return fault
	}
	b.harvested = b.eye.harvest(batch, b.index, b.harvested, now)
	return nil
}

// ReadCounter reads the energy counter, which takes milliseconds.
func (b *board) ReadCounter(c *record.Counter) {
	clock := b.dev.clock
	before := clock.Now()
	now, err := b.call()
	if err == nil {
		b.dev.mu.Unlock()
		tail := math.Pow(b.eye.dice.uniform(forCounterCall, now/stepNS), counterTailPow)
		clock.SleepUntil(now + int64(counterCall) + int64(tail*float64(counterTail)))
		now, err = b.call()
	}
	defer b.dev.mu.Unlock()
	*c = record.Counter{BeforeNS: before, TimeNS: clock.Now(), GPU: b.index}
	if err != nil {
		c.Error = err.Error()
	} else if fault := b.fault(forCounterError, now); fault != "" {
		c.Error = string(fault)
	} else {
		c.EnergyMilliJ = record.Some(b.eye.counter(now))
	}
}

// ReadGPM fills in what the units did since the last call.
func (b *board) ReadGPM(g *record.GPM) (ok bool, err error) {
	if !b.eye.gpm {
		return false, gpu.ErrNotSupported
	}
	now, err := b.call()
	defer b.dev.mu.Unlock()
	if err == nil {
		if fault := b.fault(forGPMError, now); fault != "" {
			err = fault
		}
	}
	if err != nil {
		b.gpmTaken = false
		return false, err
	}
	from, pair := b.gpmFrom, b.gpmTaken
	if pair && now-from < gpmSpacingNS {
		return false, nil
	}
	b.gpmFrom, b.gpmTaken = now, true
	if !pair {
		return false, nil
	}
	use := b.eye.load.between(from, now)
	*g = record.GPM{
		StartNS: from, TimeNS: now, GPU: b.index,
		GraphicsUtil: record.Some(100 * use.busy),
		SMUtil:       record.Some(100 * use.compute),
		TensorUtil:   record.Some(100 * b.eye.tensor * use.compute),
		DRAMBWUtil:   record.Some(100 * use.memory),
	}
	return true, nil
}
