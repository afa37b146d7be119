//go:build linux && cgo

package nvml

import (
	"cmp"
	"maps"
	"math"
	"runtime"
	"slices"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// processes is how far the driver's account of processes has been read. It has
// a sample for each process that was at work since the stamp that it is asked
// for, and averages over that time.
type processes struct {
	call   call
	memory call
	stamps
	asked bool
	edge  int64            // until when all is told, monotonic ns
	until map[uint32]int64 // stamps of the last samples of those that may still be at work, monotonic ns
}

// The driver makes samples in its own time, of up to a second, and none of a
// process that was not at work. No sample means that there was no work once
// there has been none for longer than resting; in the last sampled of the time
// there may have been some all the same.
const (
	resting = int64(1500 * time.Millisecond)
	sampled = int64(time.Second)
)

func newProcesses(d *Device) processes {
	return processes{
		call:   d.lookUp("nvmlDeviceGetProcessUtilization"),
		memory: d.lookUp("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses"),
	}
}

// ReadProcesses appends what each process did since Open or since the last call.
func (b *board) ReadProcesses(batch *gpu.ProcessBatch) error {
	p := &b.process
	batch.Clock = p.clock
	h, err := b.reach(&p.call)
	if err != nil {
		return err
	}
	samples, ret := utilization(h, p.since(b.clocks()))
	if ret == nv.ERROR_NOT_FOUND {
		ret, samples = nv.SUCCESS, nil // nothing new; a lost GPU has its own code here
	}
	h.done(&p.call, ret)
	if ret != nv.SUCCESS {
		return name(ret)
	}
	clocks := b.clocks()
	if p.clock == "" && p.asked && p.learn(samples, clocks) {
		// Without a stamp to ask from, these average over all that the driver
		// keeps. Now there is one.
		if later, ret := utilization(h, uint64(max(0, p.edge-p.offset)/1000)); ret == nv.SUCCESS {
			samples, clocks = later, b.clocks()
		}
	}
	entries, err := p.take(samples, clocks, b.info.Index)
	batch.Clock = p.clock
	if err != nil || len(entries) == 0 {
		return err
	}
	if entries[0].PID.OK {
		held := p.held(h)
		for i := range entries {
			e := &entries[i]
			e.Name = gpu.ProcessName(e.PID.V)
			e.VRAMUsedMB = held[e.PID.V]
		}
	}
	batch.Entries = append(batch.Entries, entries...)
	return nil
}

// utilization asks the driver. It is asked twice, for the number of samples and
// for them, and go-nvml does not expect that there are more the second time.
func utilization(d nv.Device, since uint64) (samples []nv.ProcessUtilizationSample, ret nv.Return) {
	try := func() {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(runtime.Error); !ok {
					panic(r)
				}
				samples, ret = nil, nv.ERROR_INSUFFICIENT_SIZE
			}
		}()
		samples, ret = d.GetProcessUtilization(since)
	}
	for range 3 {
		try()
		switch {
		case ret != nv.ERROR_INSUFFICIENT_SIZE:
			return samples, ret
		case samples != nil && len(samples) == 0: // room for none is enough
			return nil, nv.ERROR_NOT_FOUND
		}
	}
	return nil, ret
}

// take moves the new ones among the samples to the monotonic clock. Each covers
// the time since the one of its process before it or, if that has rested, since
// the newest that the last call told of any, or since none was at work.
func (p *processes) take(samples []nv.ProcessUtilizationSample, clocks [3]instant, index int) ([]record.Process, error) {
	now := clocks[2].now
	if p.mixed(clocks) {
		return nil, ErrClockSet
	}
	// Some drivers leave places of the list empty.
	samples = slices.DeleteFunc(samples, func(s nv.ProcessUtilizationSample) bool { return s.TimeStamp <= p.seen || s.Pid == 0 })
	first := !p.asked
	if len(samples) == 0 {
		return p.rest(clocks, index), nil
	}
	slices.SortFunc(samples, func(x, y nv.ProcessUtilizationSample) int {
		return cmp.Or(cmp.Compare(x.TimeStamp, y.TimeStamp), cmp.Compare(x.Pid, y.Pid))
	})
	stamp := samples[len(samples)-1].TimeStamp
	newest := int64(stamp) * 1000
	p.span = max(p.span, newest-int64(samples[0].TimeStamp)*1000)
	offset, ok := p.fit(clocks, newest, p.age(now))
	if !ok && !first {
		return nil, ErrUnknownClock
	}
	p.asked, p.seen, p.seenNS = true, stamp, newest+offset
	if !ok {
		// All of them are long over, so that nothing tells their clock.
		p.edge = now
		return nil, nil
	}
	if p.until == nil {
		p.until = make(map[uint32]int64)
	}
	var entries []record.Process
	for _, s := range samples {
		t := int64(s.TimeStamp)*1000 + offset
		start, again := p.until[s.Pid]
		switch {
		case again && t <= start:
			continue // the clock was set back: this one was read before
		case !again || t-start > resting && start < p.edge:
			start = p.edge
		}
		p.until[s.Pid] = t
		e := record.Process{StartNS: min(start, t), TimeNS: t, GPU: index, PID: record.Some(int64(s.Pid))}
		if s.SmUtil <= 100 && s.MemUtil <= 100 {
			e.SMUtil, e.MemUtil = record.Some(float64(s.SmUtil)), record.Some(float64(s.MemUtil))
		} else {
			e.Error = string(gpu.ErrImplausible)
		}
		entries = append(entries, e)
	}
	p.edge = newest + offset
	p.forget()
	if first {
		return nil, nil // of before
	}
	slices.SortStableFunc(entries, func(x, y record.Process) int { return cmp.Compare(x.StartNS, y.StartNS) })
	return entries, nil
}

// rest is a record of the time in which no process was at work, once that is
// sure. What comes then is to be averaged from its end on.
func (p *processes) rest(clocks [3]instant, index int) []record.Process {
	now := clocks[2].now
	if !p.asked {
		p.asked, p.edge = true, now
		return nil
	}
	until := now - sampled
	if now-p.edge <= resting || until <= p.edge {
		return nil
	}
	idle := record.Process{StartNS: p.edge, TimeNS: until, GPU: index}
	p.edge = until
	p.forget()
	for _, c := range clocks {
		if stamp := (c.now - sampled) / 1000; c.clock == p.clock && stamp > int64(p.seen) {
			p.seen, p.seenNS = uint64(stamp), until
		}
	}
	return []record.Process{idle}
}

// forget drops processes that have rested.
func (p *processes) forget() {
	maps.DeleteFunc(p.until, func(_ uint32, until int64) bool { return p.edge-until > resting })
}

// learn finds the clock that new samples are stamped with.
func (p *processes) learn(samples []nv.ProcessUtilizationSample, clocks [3]instant) bool {
	newest := uint64(0)
	for _, s := range samples {
		newest = max(newest, s.TimeStamp)
	}
	if newest <= p.seen {
		return false
	}
	_, ok := p.fit(clocks, int64(newest)*1000, p.age(clocks[2].now))
	return ok
}

// age is how old the newest sample may be, ns: all that are new were made since
// the last call.
func (p *processes) age(now int64) int64 {
	if !p.asked {
		return int64(oldest)
	}
	return int64(oldest) + max(0, now-p.edge)
}

// held is the memory that processes hold, MiB by pid, as far as it is told.
func (p *processes) held(h *handle) map[int64]record.Opt[float64] {
	if !p.memory.live() || h.lost.Load() != 0 {
		return nil
	}
	list, ret := h.GetComputeRunningProcesses()
	h.done(&p.memory, ret)
	if ret != nv.SUCCESS {
		return nil
	}
	held := make(map[int64]record.Opt[float64], len(list))
	for _, x := range list {
		if x.UsedGpuMemory != math.MaxUint64 { // all ones: NVML's "no value"
			held[int64(x.Pid)] = record.Some(float64(x.UsedGpuMemory) / mib)
		}
	}
	return held
}
