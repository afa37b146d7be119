package sim

import (
	"testing"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// A sample every 100 ms of a GPU under load, the file looked at each time.
func BenchmarkReadSample(b *testing.B) {
	d, c := watch(b, newLoad(b, Setup{}, run(1, 1e8, 0.7)), 10)
	g := d.GPUs()[0]
	var s record.Sample
	b.ReportAllocs()
	for b.Loop() {
		c.Advance(100 * ms)
		g.ReadSample(&s)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// A harvest of a second of the driver's samples.
func BenchmarkReadPower(b *testing.B) {
	d, c := watch(b, newLoad(b, Setup{}, run(1, 1e8, 0.7)), 10)
	g := d.GPUs()[0]
	var batch gpu.PowerBatch
	records := 0
	b.ReportAllocs()
	for b.Loop() {
		c.Advance(second)
		batch = gpu.PowerBatch{Entries: batch.Entries[:0]}
		if err := g.ReadPower(&batch); err != nil {
			b.Fatal(err)
		}
		records += len(batch.Entries)
	}
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}

// An hour of work, opened afterwards.
func BenchmarkBusyHour(b *testing.B) {
	e := newEye("h200")
	s := run(1, 1e8, 0.7)
	e.add(&s)
	hours := 0.0
	for b.Loop() {
		hours++
		e.energy(at(3600 * hours))
	}
}

// A file that was begun three days ago.
func BenchmarkOpenAfterDays(b *testing.B) {
	l := newLoad(b, Setup{}, run(10, 20, 1))
	for b.Loop() {
		d, err := Open(Options{File: l.file.Name(), Clock: clock.NewFake(at(3 * 86400))})
		if err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}
