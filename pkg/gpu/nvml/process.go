//go:build linux && cgo

package nvml

import (
	"cmp"
	"math"
	"runtime"
	"slices"

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
	edge  int64            // from when on a process works that the last call did not tell of, monotonic ns
	until map[uint32]int64 // stamps of those that it told of, monotonic ns
}

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
	if !p.call.live() {
		return name(p.call.ret)
	}
	h, lost := b.current()
	if h == nil {
		return name(lost)
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
// the time since the one of its process before it or, if the last call had
// none, since the newest of all that the last call told, or since that call.
func (p *processes) take(samples []nv.ProcessUtilizationSample, clocks [3]instant, index int) ([]record.Process, error) {
	now := clocks[2].now
	if p.mixed(clocks) {
		return nil, ErrClockSet
	}
	// Some drivers leave places of the list empty.
	samples = slices.DeleteFunc(samples, func(s nv.ProcessUtilizationSample) bool { return s.TimeStamp <= p.seen || s.Pid == 0 })
	first := !p.asked
	if len(samples) == 0 {
		var idle []record.Process
		if !first {
			idle = []record.Process{{StartNS: min(p.edge, now), TimeNS: now, GPU: index}}
		}
		p.asked, p.edge = true, now
		clear(p.until)
		for _, c := range clocks {
			// What comes is to be averaged from here on.
			if c.clock == p.clock && c.now > 0 {
				p.seen, p.seenNS = uint64(c.now/1000), now
			}
		}
		return idle, nil
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
	var entries []record.Process
	until := make(map[uint32]int64, len(samples))
	for _, s := range samples {
		t := int64(s.TimeStamp)*1000 + offset
		start, again := until[s.Pid]
		if !again {
			if start, again = p.until[s.Pid]; !again {
				start = p.edge
			}
		}
		if again && t <= start {
			continue // the clock was set back: this one was read before
		}
		until[s.Pid] = t
		e := record.Process{StartNS: min(start, t), TimeNS: t, GPU: index, PID: record.Some(int64(s.Pid))}
		if s.SmUtil <= 100 && s.MemUtil <= 100 {
			e.SMUtil, e.MemUtil = record.Some(float64(s.SmUtil)), record.Some(float64(s.MemUtil))
		} else {
			e.Error = string(gpu.ErrImplausible)
		}
		entries = append(entries, e)
	}
	p.asked, p.seen, p.seenNS = true, stamp, newest+offset
	if !ok {
		// All of them are long over, so that nothing tells their clock.
		p.edge, p.until = now, nil
		return nil, nil
	}
	p.edge, p.until = newest+offset, until
	if first {
		return nil, nil // of before
	}
	slices.SortStableFunc(entries, func(x, y record.Process) int { return cmp.Compare(x.StartNS, y.StartNS) })
	return entries, nil
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
