package main

import (
	"encoding/json"
	"math"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// feed writes the poller's records, counts them, and says what happens to the
// GPUs and to the machine's clocks meanwhile.
type feed struct {
	stream.Writer
	warn    func(format string, args ...any)
	clocks  clocks
	records int64
	lost    map[int]bool
}

func (f *feed) Write(r record.Record) error {
	if s, ok := r.(*record.Sample); ok {
		f.watch(s)
	}
	for _, m := range f.clocks.moved() {
		f.warn("%s", m.text)
		if err := f.put(m.marker()); err != nil {
			return err
		}
	}
	return f.put(r)
}

func (f *feed) put(r record.Record) error {
	f.records++
	return f.Writer.Write(r)
}

// watch says when a GPU falls off the bus and when it is back.
func (f *feed) watch(s *record.Sample) {
	switch lost := s.Error == string(gpu.ErrLost); {
	case lost && !f.lost[s.GPU]:
		f.warn("GPU %d is lost (%s); its readings fail until it is back", s.GPU, s.Error)
	case s.ReadOK && !lost && f.lost[s.GPU]:
		f.warn("GPU %d is back", s.GPU)
	default:
		return
	}
	if f.lost == nil {
		f.lost = map[int]bool{}
	}
	f.lost[s.GPU] = !f.lost[s.GPU]
}

// clocks sees the wall clock being set and the machine being suspended, by how
// the clocks move against one another.
type clocks struct {
	now  func() (mono, up, wall int64) // ns
	last struct{ mono, up, wall int64 }
}

// readClocks is one instant on the clock of the records, on the one that runs
// on in a suspend, and on the wall clock. It is called for every record: one
// look is enough unless this thread was held up in the middle of it, which would
// pass for a move of the clocks.
func readClocks() (mono, up, wall int64) {
	width := int64(math.MaxInt64)
	for try := 0; try < 16 && width > apart/10; try++ {
		before := clock.Now()
		u, w := clock.Uptime(), time.Now().UnixNano()
		if d := clock.Now() - before; d < width {
			width, mono, up, wall = d, before+d/2, u, w
		}
	}
	return mono, up, wall
}

// Two looks at the clocks are less than this apart by chance, and by the
// discipline of the wall clock no more than one part in 1000 of the time
// between them.
const apart = int64(10 * time.Millisecond)

// move is a jump of a clock.
type move struct {
	name string // of its marker
	atNS int64  // when it was seen, monotonic
	ns   int64
	text string
}

// moved is what happened since the last call.
func (c *clocks) moved() (all []move) {
	mono, up, wall := c.now()
	last := c.last
	c.last.mono, c.last.up, c.last.wall = mono, up, wall
	if last.mono == 0 {
		return nil
	}
	ran := up - last.up // all the time there was
	if asleep := ran - (mono - last.mono); asleep > apart {
		all = append(all, move{"suspend", mono, asleep,
			"the machine was suspended for " + time.Duration(asleep).String() + ": the trace's clock stood still"})
	}
	if set := wall - last.wall - ran; max(set, -set) > apart+ran/1000 {
		all = append(all, move{"clock_set", mono, set,
			"the wall clock was set by " + time.Duration(set).String() + ": wall-clock times after that do not join by the header"})
	}
	return all
}

// marker is the move as a record of the trace.
func (m move) marker() *record.Marker {
	seconds, _ := json.Marshal(float64(m.ns) / 1e9) // a finite number
	return &record.Marker{Name: m.name, TimeNS: m.atNS, Extra: []record.Field{{Name: "seconds", Value: seconds}}}
}
