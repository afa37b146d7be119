//go:build linux && cgo

package nvml

import (
	"math"
	"sync/atomic"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// board is one GPU. Each channel's goroutine owns its own part; only the handle
// is common to all.
type board struct {
	dev  *Device
	info record.GPU

	handle    atomic.Pointer[handle]
	searching atomic.Bool
	searched  atomic.Int64 // when the last search began

	sample  sampler
	power   buffer
	counter call
	gpm     units
	process processes
}

// handle is one of the handles that a GPU has in the course of a run. A call
// that started before a GPU was lost and ends after it was found marks the old
// handle, not the new one.
type handle struct {
	nv.Device
	lost atomic.Uint32 // the nv.Return that said so, 0 while it is good
}

// searchEvery is the least time between two searches for a lost GPU.
const searchEvery = int64(time.Second)

func newBoard(d *Device, index int) *board {
	b := &board{
		dev:     d,
		info:    record.GPU{Index: index},
		sample:  newSampler(d),
		power:   buffer{call: d.lookUp("nvmlDeviceGetSamples")},
		counter: d.lookUp("nvmlDeviceGetTotalEnergyConsumption"),
		gpm:     newUnits(d),
		process: newProcesses(d),
	}
	b.searched.Store(math.MinInt64 / 2)
	dev, ret := d.lib.DeviceGetHandleByIndex(index)
	h := &handle{Device: dev}
	h.lost.Store(uint32(ret))
	b.handle.Store(h)
	if ret == nv.SUCCESS {
		b.describe(dev)
		b.probe()
	}
	b.info.Channels = b.channels(nv.Return(h.lost.Load()))
	if ret == nv.SUCCESS && b.ofModule(h) {
		b.info.Channels[Module] = "ok"
	}
	return b
}

// Info describes the GPU as it was found at Open.
func (b *board) Info() record.GPU { return b.info }

// probe reads every channel once, to learn what there is.
func (b *board) probe() {
	b.ReadSample(new(record.Sample))
	b.ReadPower(new(gpu.PowerBatch))
	b.ReadCounter(new(record.Counter))
	b.ReadGPM(new(record.GPM))
	b.gpm.forget()
	b.ReadProcesses(new(gpu.ProcessBatch))
}

// ofModule says whether the board measures a module's power beside its own.
func (b *board) ofModule(h *handle) bool {
	if !b.sample.fields[0].call.live() || h.lost.Load() != 0 {
		return false
	}
	module := []nv.FieldValue{{FieldId: nv.FI_DEV_POWER_INSTANT, ScopeId: nv.POWER_SCOPE_MODULE}}
	if h.GetFieldValues(module) != nv.SUCCESS || nv.Return(module[0].NvmlReturn) != nv.SUCCESS {
		return false
	}
	mw, ok := number(module[0].Value, nv.ValueType(module[0].ValueType))
	return ok && mw > 0
}

// channels are what the probe found, and the fields that samples will lack.
// lost is the error that kept it from asking.
func (b *board) channels(lost nv.Return) map[string]string {
	state := func(c *call) string {
		switch {
		case c.worked:
			return "ok"
		case c.ret != nv.SUCCESS:
			return string(name(c.ret))
		}
		return string(name(lost))
	}
	s := &b.sample
	m := map[string]string{
		gpu.Sample:            state(&s.usage),
		record.ChannelInstant: state(&s.fields[0].call),
		record.ChannelAverage: state(&s.fields[1].call),
		gpu.Power:             state(&b.power.call),
		gpu.Counter:           state(&b.counter),
		gpu.GPM:               state(&b.gpm.call),
		gpu.Process:           state(&b.process.call),
	}
	if m[record.ChannelInstant] == "ok" || m[record.ChannelAverage] == "ok" {
		m[gpu.Sample] = "ok" // a power reading will do
	}
	for i := range s.readings {
		if r := &s.readings[i]; !r.call.worked {
			m[r.name] = state(&r.call)
		}
	}
	return m
}

// current is the handle to read with, or nil and why there is none. Then the
// GPU is being looked for.
func (b *board) current() (*handle, nv.Return) {
	h := b.handle.Load()
	lost := nv.Return(h.lost.Load())
	if lost == nv.SUCCESS {
		return h, nv.SUCCESS
	}
	b.search()
	return nil, lost
}

// reach is the handle to make that call with, or why it cannot be made.
func (b *board) reach(c *call) (*handle, error) {
	if !c.live() {
		return nil, name(c.ret)
	}
	h, lost := b.current()
	if h == nil {
		return nil, name(lost)
	}
	return h, nil
}

// search looks for the GPU in a goroutine of its own, since NVML may take
// seconds to attach a GPU, which the grid of the others cannot wait for.
func (b *board) search() {
	now := b.dev.clock()
	if now-b.searched.Load() < searchEvery || !b.searching.CompareAndSwap(false, true) {
		return
	}
	b.searched.Store(now)
	b.dev.finders.Go(func() {
		defer b.searching.Store(false)
		var dev nv.Device
		var ret nv.Return
		if b.info.UUID != "" {
			dev, ret = b.dev.lib.DeviceGetHandleByUUID(b.info.UUID)
		} else { // it has not been seen yet
			dev, ret = b.dev.lib.DeviceGetHandleByIndex(b.info.Index)
		}
		if ret == nv.SUCCESS {
			b.handle.Store(&handle{Device: dev})
		}
	})
}

// done keeps how a call through h ended.
func (h *handle) done(c *call, r nv.Return) {
	c.done(r)
	h.note(r)
}

// note sees whether the outcome of a call means that the GPU is lost.
func (h *handle) note(r nv.Return) {
	if gone(r) {
		h.lost.CompareAndSwap(0, uint32(r))
	}
}
