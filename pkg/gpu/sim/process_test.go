package sim

import (
	"math"
	"os"
	"reflect"
	"testing"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// told is what the driver says of processes from one look to the next.
func told(t *testing.T, d *Device) []record.Process {
	t.Helper()
	var b gpu.ProcessBatch
	if err := d.GPUs()[0].ReadProcesses(&b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Entries {
		if e := &b.Entries[i]; e.StartNS != b.Entries[0].StartNS || e.TimeNS != b.Entries[0].TimeNS {
			t.Errorf("%+v: not of the same time as the first", *e)
		}
	}
	return b.Entries
}

// TestProcesses has two loads at once, then one, then none, and beside them one
// that no process is told of.
func TestProcesses(t *testing.T) {
	t.Parallel()
	own := int64(os.Getpid())
	of := func(pid int64, s Segment) Segment { s.PID = pid; return s }
	memory := run(10, 30, 0)
	memory.Memory, memory.VRAMMB = 0.3, 1024
	d, c := watch(t, newLoad(t, Setup{}, of(own, run(10, 20, 0.6)), of(1<<40, memory), run(40, 50, 1), of(own, run(40, 50, 1))), 10)
	// The driver looks every 100 ms: what is told is of whole looks.
	c.Advance(5 * second)
	first := told(t, d)
	if len(first) != 2 {
		t.Fatalf("%+v: want two processes", first)
	}
	if until := first[0].TimeNS; until > at(15) || until < at(14.9) || first[0].StartNS > at(10) || first[0].StartNS < at(9.9) {
		t.Errorf("from %d until %d", first[0].StartNS, until)
	}
	// The first look is up to 100 ms before the loads began.
	for i, want := range []record.Process{
		{PID: record.Some(own), SMUtil: record.Some(60.0), MemUtil: record.Some(0.0), Name: gpu.ProcessName(own), VRAMUsedMB: record.Some(d.boards[0].eye.vramContextMB)},
		{PID: record.Some(int64(1 << 40)), SMUtil: record.Some(30.0), MemUtil: record.Some(30.0), VRAMUsedMB: record.Some(d.boards[0].eye.vramContextMB + 1024)},
	} {
		got := first[i]
		got.SMUtil.V, got.MemUtil.V = math.Round(got.SMUtil.V/2)*2, math.Round(got.MemUtil.V/2)*2
		got.StartNS, got.TimeNS = 0, 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("\n got %+v\nwant %+v", got, want)
		}
	}
	if again := told(t, d); len(again) != 0 {
		t.Errorf("before the driver has looked again: %+v", again)
	}
	c.Advance(10 * second) // the first ends half-way
	second15 := told(t, d)
	if len(second15) != 2 || second15[0].StartNS != first[0].TimeNS {
		t.Fatalf("%+v: want two processes from %d on", second15, first[0].TimeNS)
	}
	near(t, "one that ends half-way", second15[0].SMUtil.V, 30, 1)
	c.Advance(6 * second)
	if got := told(t, d); len(got) != 1 || got[0].PID.V != 1<<40 {
		t.Errorf("%+v: want the one that is left", got)
	}
	c.Advance(2 * second)
	if got := told(t, d); len(got) != 1 || got[0].PID.OK || got[0].SMUtil.OK || got[0].Error != "" {
		t.Errorf("%+v: want that none is at work", got)
	}
	c.Advance(8 * second)
	told(t, d)
	c.Advance(4 * second)
	if got := told(t, d); len(got) != 1 || got[0].SMUtil.V != 50 {
		t.Errorf("%+v: want half of a GPU that two want whole", got)
	}
}

func TestSegmentOfNoProcess(t *testing.T) {
	t.Parallel()
	s := run(1, 2, 1)
	s.PID = -1
	if err := newLoad(t, Setup{}).Append(s); err == nil {
		t.Error("a pid below 0 was taken")
	}
}
