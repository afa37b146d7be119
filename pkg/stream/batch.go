package stream

import (
	"sync"

	"joulepipe/pkg/record"
)

// Batcher is a Reader that can also hand on many records at once, which is
// what long traces want: it reads ahead on goroutines of its own and makes no
// record of what comes in numbers. The readers of [NewReader] and [Merge] are
// Batchers. Use either Scan or ScanBatch of a reader; a bad
// line, a cut stream and a failure come out of both alike.
type Batcher interface {
	Reader
	// ScanBatch goes on to the next batch. It is false at the end and on an
	// I/O failure.
	ScanBatch() bool
	// Batch is the current batch, valid until the next ScanBatch.
	Batch() *Batch
	// Stop ends the goroutines of a reader that is given up before its end.
	Stop()
}

// Batch is records that stand in a row in a stream: samples and power entries
// as columns, the rest as records.
type Batch struct {
	Runs    []Run // in the order of the stream
	Samples Samples
	Powers  Powers
	Others  []record.Record // what they point to may be kept

	lines  []int64                       // of Others
	room   []*[eventsAtOnce]record.Event // for events among them
	events int                           // so far
}

// Run is so many records in a row that are of one kind and one GPU and have the
// same values. They follow in their columns on those of the runs before.
type Run struct {
	Kind record.Kind // KindSample, KindPower, or empty: of Others
	GPU  int
	Has  Has // of samples
	N    int
}

// Has says which values a row of [Samples] has.
type Has uint8

// The values that a sample may have. What stands in the column of one that is
// absent means nothing.
const (
	HasPower Has = 1 << iota
	HasInstant
	HasAverage
	HasSMClock
	HasThrottle
)

// Samples are what attribution asks of samples, a column each: their power and
// what held it down. Other fields were read and left out. A sample whose read
// failed is not here but among the batch's others, with these fields and its
// error.
type Samples struct {
	TimeNS                               []int64
	PowerW, PowerInstantW, PowerAverageW []float64
	SMClockMHz                           []int64
	ThrottleReasons                      []uint64
}

// Powers are entries of the driver's sample buffer.
type Powers struct {
	TimeNS []int64
	PowerW []float64
}

// Sample is row i, of a run of which those are, as a record: it goes into those
// fields of r that samples have here.
func (s *Samples) Sample(r *record.Sample, i int, of Run) {
	r.TimeNS, r.GPU, r.ReadOK = s.TimeNS[i], of.GPU, true
	r.PowerW = valueIf(of.Has&HasPower != 0, s.PowerW, i)
	r.PowerInstantW = valueIf(of.Has&HasInstant != 0, s.PowerInstantW, i)
	r.PowerAverageW = valueIf(of.Has&HasAverage != 0, s.PowerAverageW, i)
	r.SMClockMHz = valueIf(of.Has&HasSMClock != 0, s.SMClockMHz, i)
	r.ThrottleReasons = valueIf(of.Has&HasThrottle != 0, s.ThrottleReasons, i)
}

// valueIf is row i of a column that a sample has, or no value.
func valueIf[T record.Number](has bool, column []T, i int) (v record.Opt[T]) {
	if has {
		v = record.Some(column[i])
	}
	return v
}

// grow makes room for another row, whose number it is. Columns are as long as
// they have room; fit makes them as long as they have rows.
func (s *Samples) grow(rows int) {
	if rows < len(s.TimeNS) {
		return
	}
	n := max(1024, 2*rows)
	s.TimeNS = longer(s.TimeNS, n)
	s.PowerW = longer(s.PowerW, n)
	s.PowerInstantW = longer(s.PowerInstantW, n)
	s.PowerAverageW = longer(s.PowerAverageW, n)
	s.SMClockMHz = longer(s.SMClockMHz, n)
	s.ThrottleReasons = longer(s.ThrottleReasons, n)
}

func (s *Samples) fit(n int) {
	s.TimeNS = s.TimeNS[:n]
	s.PowerW, s.PowerInstantW, s.PowerAverageW = s.PowerW[:n], s.PowerInstantW[:n], s.PowerAverageW[:n]
	s.SMClockMHz, s.ThrottleReasons = s.SMClockMHz[:n], s.ThrottleReasons[:n]
}

func (p *Powers) grow(rows int) {
	if rows < len(p.TimeNS) {
		return
	}
	n := max(1024, 2*rows)
	p.TimeNS, p.PowerW = longer(p.TimeNS, n), longer(p.PowerW, n)
}

func longer[T any](column []T, n int) []T {
	out := make([]T, n)
	copy(out, column)
	return out
}

// filling is a batch being filled.
type filling struct {
	Batch
	samples, powers int // rows so far
	columns         Samples
	entries         Powers
	ready           bool    // Samples and Powers are as they are to be handed on
	own             Samples // room for those, of an encoding that is columns itself
}

// begin empties the batch.
func (b *filling) begin() {
	b.samples, b.powers, b.ready = 0, 0, false
	b.Runs, b.lines = b.Runs[:0], b.lines[:0]
	clear(b.Others)
	b.Others, b.events = b.Others[:0], 0
}

// eventsAtOnce is for how many events there is room in one piece of memory.
const eventsAtOnce = 64

// event is room for one. It is the batch's own, as the batch is.
func (b *filling) event() *record.Event {
	i := b.events
	b.events++
	if i == len(b.room)*eventsAtOnce {
		b.room = append(b.room, new([eventsAtOnce]record.Event))
	}
	return &b.room[i/eventsAtOnce][i%eventsAtOnce]
}

// end makes the batch fit to be handed on.
func (b *filling) end() *Batch {
	if b.ready {
		return &b.Batch
	}
	b.Samples, b.Powers = b.columns, b.entries
	b.Samples.fit(b.samples)
	b.Powers.TimeNS, b.Powers.PowerW = b.entries.TimeNS[:b.powers], b.entries.PowerW[:b.powers]
	return &b.Batch
}

// count adds to the last run, or begins one.
func (b *filling) count(r Run) {
	if i := len(b.Runs) - 1; i >= 0 && b.Runs[i].GPU == r.GPU && b.Runs[i].Has == r.Has && b.Runs[i].Kind == r.Kind {
		b.Runs[i].N += r.N
		return
	}
	b.Runs = append(b.Runs, r)
}

// add takes in a record that belongs to a reader.
func (b *filling) add(rec record.Record, line int64) {
	switch r := rec.(type) {
	case *record.Sample:
		if !r.ReadOK || r.Error != "" {
			break
		}
		i := b.samples
		s := &b.columns
		s.grow(i)
		has := Has(0)
		if r.PowerW.OK {
			has |= HasPower
		}
		if r.PowerInstantW.OK {
			has |= HasInstant
		}
		if r.PowerAverageW.OK {
			has |= HasAverage
		}
		if r.SMClockMHz.OK {
			has |= HasSMClock
		}
		if r.ThrottleReasons.OK {
			has |= HasThrottle
		}
		s.TimeNS[i] = r.TimeNS
		s.PowerW[i], s.PowerInstantW[i], s.PowerAverageW[i] = r.PowerW.V, r.PowerInstantW.V, r.PowerAverageW.V
		s.SMClockMHz[i], s.ThrottleReasons[i] = r.SMClockMHz.V, r.ThrottleReasons.V
		b.samples++
		b.count(Run{record.KindSample, r.GPU, has, 1})
		return
	case *record.Power:
		i := b.powers
		b.entries.grow(i)
		b.entries.TimeNS[i], b.entries.PowerW[i] = r.TimeNS, r.PowerW
		b.powers++
		b.count(Run{record.KindPower, r.GPU, 0, 1})
		return
	}
	b.Others = append(b.Others, b.keep(rec))
	b.lines = append(b.lines, line)
	b.count(Run{N: 1})
}

// keep is a copy of a record that shares nothing with the reader it came from and
// is valid as long as the batch; what it points to is its own for good.
func (b *filling) keep(rec record.Record) record.Record {
	switch r := rec.(type) {
	case *record.Event:
		c := b.event()
		r.CloneInto(c)
		return c
	case *record.Marker:
		c := owned(r)
		c.Extra = record.CloneFields(r.Extra)
		return c
	case *record.Sample:
		return &record.Sample{
			TimeNS: r.TimeNS, GPU: r.GPU, PowerW: r.PowerW, PowerInstantW: r.PowerInstantW, PowerAverageW: r.PowerAverageW,
			SMClockMHz: r.SMClockMHz, ThrottleReasons: r.ThrottleReasons, ReadOK: r.ReadOK, Error: r.Error,
		}
	case *record.Counter:
		return owned(r)
	case *record.GPM:
		return owned(r)
	case *record.Process:
		return owned(r)
	case *record.Header:
		return owned(r)
	case *record.Soak:
		return owned(r)
	case *record.Summary:
		return owned(r)
	case *record.Agreement:
		return owned(r)
	case *record.End:
		return owned(r)
	}
	return rec // a *SyntaxError, which is made for each
}

func owned[T any](r *T) *T {
	c := *r
	return &c
}

// batches is what one encoding does for ScanBatch.
type batches interface {
	// next is the next batch, or what decoder.next ends with.
	next() (*Batch, error)
	// line is the number of the last line or row of the batches handed on.
	line() int64
	stop()
}

// producer fills batches in the order of the stream.
type producer interface {
	// produce adds some records to the batch. It fails as decoder.next does,
	// after what it has added.
	produce(b *filling) error
	line() int64
}

// ahead is the batches of a producer that runs on a goroutine of its own.
type ahead struct {
	made chan made
	free chan *filling
	quit chan struct{}
	once sync.Once
	last made
}

// made is a batch, the line it goes to, and what it ends with.
type made struct {
	batch *filling
	line  int64
	err   error
}

// batchesAhead is how many batches there are: one is filled, one waits, one is
// looked at.
const batchesAhead = 3

func readAhead(p producer) batches {
	a := &ahead{made: make(chan made, batchesAhead), free: make(chan *filling, batchesAhead), quit: make(chan struct{})}
	for range batchesAhead {
		a.free <- new(filling)
	}
	go func() {
		for {
			select {
			case <-a.quit:
				return
			case b := <-a.free:
				b.begin()
				err := p.produce(b)
				a.made <- made{b, p.line(), err} // has room for all of them
				if err != nil {
					return
				}
			}
		}
	}()
	return a
}

func (a *ahead) next() (*Batch, error) {
	if a.last.err != nil {
		return nil, a.last.err
	}
	if a.last.batch != nil {
		a.free <- a.last.batch
	}
	a.last = <-a.made
	if a.last.err != nil && len(a.last.batch.Runs) == 0 {
		return nil, a.last.err
	}
	return a.last.batch.end(), nil
}

func (a *ahead) line() int64 { return a.last.line }

func (a *ahead) stop() { a.once.Do(func() { close(a.quit) }) }

// recordsAtOnce is about how many records a batch has that are read one after the
// other.
const recordsAtOnce = 2048
