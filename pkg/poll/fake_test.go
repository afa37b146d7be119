package poll

import (
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// bubble is the clock of a testing/synctest bubble, whose time goes on when all
// goroutines wait.
type bubble struct{}

func (bubble) Now() int64          { return time.Now().UnixNano() }
func (bubble) SleepUntil(ns int64) { time.Sleep(time.Duration(ns - time.Now().UnixNano())) }

// sleepy is a bubble's clock whose sleeps end 60 ms late.
type sleepy struct{ bubble }

func (sleepy) SleepUntil(ns int64) { bubble{}.SleepUntil(ns + int64(60*time.Millisecond)) }

// fake is a GPU that does what the test says; what it is not told it does at
// once and well.
type fake struct {
	index    int
	channels map[string]string // nil: all ok
	sample   func(n int, s *record.Sample)
	power    func(n int, b *gpu.PowerBatch) error
	counter  func(n int, c *record.Counter)
	gpm      func(n int, g *record.GPM) (bool, error)
	process  func(n int, b *gpu.ProcessBatch) error

	samples, powers, counters, gpms, processes int // calls so far
}

func (f *fake) Info() record.GPU {
	c := f.channels
	if c == nil {
		c = map[string]string{gpu.Sample: "ok", gpu.Power: "ok", gpu.Counter: "ok", gpu.GPM: "ok", gpu.Process: "ok"}
	}
	return record.GPU{Index: f.index, Channels: c}
}

func (f *fake) ReadSample(s *record.Sample) {
	f.samples++
	s.GPU, s.TimeNS = f.index, bubble{}.Now()
	s.PowerW, s.ReadOK = record.Some(100.0), true
	if f.sample != nil {
		f.sample(f.samples, s)
	}
}

func (f *fake) ReadPower(b *gpu.PowerBatch) error {
	f.powers++
	if f.power != nil {
		return f.power(f.powers, b)
	}
	b.Entries = append(b.Entries, record.Power{GPU: f.index, TimeNS: bubble{}.Now(), PowerW: 100})
	b.Clock = "monotonic"
	return nil
}

func (f *fake) ReadCounter(c *record.Counter) {
	f.counters++
	c.GPU, c.BeforeNS = f.index, bubble{}.Now()
	if f.counter != nil {
		f.counter(f.counters, c)
	}
	c.TimeNS = bubble{}.Now()
}

func (f *fake) ReadGPM(g *record.GPM) (bool, error) {
	f.gpms++
	g.GPU, g.TimeNS = f.index, bubble{}.Now()
	if f.gpm != nil {
		return f.gpm(f.gpms, g)
	}
	return f.gpms > 1, nil
}

func (f *fake) ReadProcesses(b *gpu.ProcessBatch) error {
	f.processes++
	b.Clock = "realtime"
	if f.process != nil {
		return f.process(f.processes, b)
	}
	now := bubble{}.Now()
	b.Entries = append(b.Entries, record.Process{StartNS: now - 1, TimeNS: now, GPU: f.index, PID: record.Some(int64(7)), SMUtil: record.Some(50.0)})
	return nil
}

// kept is a sink that keeps copies, and when they became visible.
type kept struct {
	samples   []record.Sample
	powers    []record.Power
	counters  []record.Counter
	gpms      []record.GPM
	processes []record.Process
	write     func(record.Record) error // asked first, may be nil

	buffered []int64 // times at which unflushed records came
	longest  time.Duration
}

func (k *kept) Write(r record.Record) error {
	if k.write != nil {
		if err := k.write(r); err != nil {
			return err
		}
	}
	switch r := r.(type) {
	case *record.Sample:
		k.samples = append(k.samples, *r)
	case *record.Power:
		k.powers = append(k.powers, *r)
	case *record.Counter:
		k.counters = append(k.counters, *r)
	case *record.GPM:
		k.gpms = append(k.gpms, *r)
	case *record.Process:
		k.processes = append(k.processes, *r)
	}
	k.buffered = append(k.buffered, bubble{}.Now())
	return nil
}

func (k *kept) Flush() error {
	if len(k.buffered) > 0 {
		k.longest = max(k.longest, time.Duration(bubble{}.Now()-k.buffered[0]))
	}
	k.buffered = nil
	return nil
}

// ticks are the grid indices of a GPU's samples.
func (k *kept) ticks(gpu int) (ticks []int64) {
	for _, s := range k.samples {
		if s.GPU == gpu {
			ticks = append(ticks, s.Tick.V)
		}
	}
	return ticks
}

// upTo is 0, 1, … n-1.
func upTo(n int64) (ticks []int64) {
	for k := range n {
		ticks = append(ticks, k)
	}
	return ticks
}

func wantTicks(t *testing.T, k *kept, gpu int, want []int64) {
	t.Helper()
	if got := k.ticks(gpu); !slices.Equal(got, want) {
		t.Errorf("GPU %d has ticks %v, want %v", gpu, got, want)
	}
}

func wantOnTime(t *testing.T, k *kept) {
	t.Helper()
	for _, s := range k.samples {
		if late, ok := s.LateUS.Get(); !ok || late != 0 {
			t.Fatalf("tick %d of GPU %d is %v µs late, want 0", s.Tick.V, s.GPU, late)
		}
	}
}
