package sim

import (
	"maps"
	"math"
	"slices"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// add takes in a segment of load.
func (b *board) add(s *Segment) {
	b.eye.add(s)
	if s.PID == 0 {
		return
	}
	t := b.processes[s.PID]
	if t == nil {
		if b.processes == nil {
			b.processes = map[int64]*timeline{}
		}
		empty := newTimeline()
		t = &empty
		b.processes[s.PID] = t
	}
	t.add(s)
}

// ReadProcesses tells of each process what it did since Open or the last call,
// up to the driver's last look.
func (b *board) ReadProcesses(batch *gpu.ProcessBatch) error {
	batch.Clock = "monotonic"
	now, err := b.call()
	defer b.dev.mu.Unlock()
	if err != nil {
		return err
	}
	if fault := b.fault(forProcessError, now); fault != "" {
		return fault
	}
	from, until := b.toldUntil, b.eye.refresh(now)
	if until <= from {
		return nil
	}
	b.toldUntil = until
	before := len(batch.Entries)
	pids := slices.Sorted(maps.Keys(b.processes))
	for i, did := range b.did(pids, from, until) {
		if did == (work{}) {
			continue
		}
		t := *b.processes[pids[i]]
		l := &t[t.index(until)].load
		batch.Entries = append(batch.Entries, record.Process{
			StartNS: from, TimeNS: until, GPU: b.index, PID: record.Some(pids[i]),
			SMUtil: record.Some(math.Round(100 * did.busy)), MemUtil: record.Some(math.Round(100 * did.memory)),
			Name: gpu.ProcessName(pids[i]), VRAMUsedMB: record.Some(b.eye.vramContextMB*float64(l.held()) + l.vram),
		})
	}
	if len(batch.Entries) == before {
		batch.Entries = append(batch.Entries, record.Process{StartNS: from, TimeNS: until, GPU: b.index})
	}
	return nil
}

// work is the shares of a time with a kernel of a process running, and with its
// memory traffic.
type work struct{ busy, memory float64 }

// did is what the processes did between two instants. Where they want more
// than there is, they take turns.
func (b *board) did(pids []int64, from, until int64) []work {
	all := make([]work, len(pids))
	cuts := []int64{from, until}
	lines := []timeline{b.eye.load}
	for _, pid := range pids {
		lines = append(lines, *b.processes[pid])
	}
	for _, t := range lines {
		for i := t.index(from) + 1; i < len(t) && t[i].from < until; i++ {
			cuts = append(cuts, t[i].from)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	now := make([]work, len(pids))
	for i := 1; i < len(cuts); i++ {
		at := cuts[i-1]
		part := float64(cuts[i]-at) / float64(until-from)
		rest := lines[0][lines[0].index(at)].load // of processes that are not told of
		var sum work
		for j, t := range lines[1:] {
			l := &t[t.index(at)].load
			u := l.use()
			now[j] = work{u.busy, u.memory}
			sum.busy += u.busy
			sum.memory += u.memory
			rest.compute -= l.compute
			rest.memory -= l.memory
		}
		sum.busy += max(rest.compute, rest.memory, 0)
		sum.memory += max(rest.memory, 0)
		for j, u := range now {
			all[j].busy += part * u.busy / max(sum.busy, 1)
			all[j].memory += part * u.memory / max(sum.memory, 1)
		}
	}
	return all
}
