package stream

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"joulepipe/pkg/record"
)

// arrowBatches reads batches of samples as the columns that they are, and only
// those that are wanted, where no value is amiss. Others go row by row.
type arrowBatches struct {
	*arrowReader
	of     *arrowMessages // the stream that wanted is about
	wanted []wanted       // none: not to be read so
	has    Has
	from   file  // that the stream is in, nil: none
	size   int64 // of it, as it was
	body   body  // of the batch that is being read so
}

// body is where the wanted columns of a batch are.
type body struct {
	rows, done int
	size       int   // bytes
	columns    []int // where each begins in the body
	start      int64 // of the body in the file
	parts      bool  // the file lets each column be read in parts
}

// wanted is a column that has a place in [Samples].
type wanted struct {
	field  int // of the schema
	whole  func(*Samples) *[]int64
	number func(*Samples) *[]float64
}

var wantedWhole = map[string]func(*Samples) *[]int64{
	"t_ns":         func(s *Samples) *[]int64 { return &s.TimeNS },
	"sm_clock_mhz": func(s *Samples) *[]int64 { return &s.SMClockMHz },
}

var wantedNumbers = map[string]func(*Samples) *[]float64{
	"power_w":         func(s *Samples) *[]float64 { return &s.PowerW },
	"power_instant_w": func(s *Samples) *[]float64 { return &s.PowerInstantW },
	"power_average_w": func(s *Samples) *[]float64 { return &s.PowerAverageW },
}

var hasOf = map[string]Has{
	"power_w": HasPower, "power_instant_w": HasInstant, "power_average_w": HasAverage, "sm_clock_mhz": HasSMClock,
}

func newArrowBatches(in *bufio.Reader, from file) batches {
	return readAhead(&arrowBatches{arrowReader: newArrowReader(in).(*arrowReader), from: from})
}

func (d *arrowBatches) produce(b *filling) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Arrow stream: %v", p)
		}
	}()
	for len(b.Runs) == 0 || d.row < d.n {
		switch {
		case d.body.done < d.body.rows:
			if err := d.columns(b); err != nil {
				return arrowFailure(err)
			}
		case d.row < d.n && len(b.Others)+b.samples+b.powers >= recordsAtOnce:
			return nil
		case d.row < d.n:
			rec, err := d.next()
			if err != nil {
				return err
			}
			b.add(rec, d.count)
		case d.ipc == nil:
			header, err := d.begin()
			if err != nil {
				return err
			}
			if header != nil {
				b.add(header, d.count)
			}
		default:
			if d.of != d.messages {
				d.of = d.messages
				d.want()
			}
			ok, err := d.direct()
			if err != nil {
				return arrowFailure(err)
			}
			if ok {
				continue
			}
			if err := d.batch(); err != nil {
				return err
			}
		}
	}
	return nil
}

// arrowFailure is arrowError for what may be none.
func arrowFailure(err error) error {
	if err == nil {
		return nil
	}
	return arrowError(err)
}

// want finds the columns that are wanted, if every column is of a kind that
// cannot be at fault: then none needs to be looked at but those.
func (d *arrowBatches) want() {
	d.wanted, d.has = nil, 0
	fm := d.rows.kind
	if fm == nil || fm.kind != record.KindSample || d.rows.jsonAt >= 0 {
		return
	}
	var all []wanted
	has, timed := Has(0), false
	for i, f := range d.ipc.Schema().Fields() {
		id := f.Type.ID()
		if !arrow.IsInteger(id) && id != arrow.FLOAT32 && id != arrow.FLOAT64 {
			return
		}
		j, ok := fm.index[f.Name]
		if !ok {
			continue
		}
		w := wanted{field: i, whole: wantedWhole[f.Name], number: wantedNumbers[f.Name]}
		switch {
		case w.whole != nil && id == arrow.INT64:
			timed = timed || f.Name == "t_ns"
		case w.number != nil && id == arrow.FLOAT64:
		case w.whole == nil && w.number == nil && fm.fields[j].typ == real && fm.need>>j&1 == 0:
			continue
		case w.whole == nil && w.number == nil && fm.fields[j].typ == whole && arrow.IsInteger(id) && id != arrow.UINT64:
			continue
		default:
			return
		}
		has |= hasOf[f.Name]
		all = append(all, w)
	}
	if timed && has&(HasPower|HasInstant|HasAverage) != 0 {
		d.wanted, d.has = all, has
	}
}

// direct goes on to the next message if it is a batch of which only columns are
// wanted. It is not ok for any other, which is left where it is.
func (d *arrowBatches) direct() (ok bool, err error) {
	if len(d.wanted) == 0 {
		return false, nil
	}
	meta, size, err := d.messages.peek()
	if err != nil {
		return false, nil // comes again
	}
	const (
		headerType, header, recordBatch           = 1, 2, 3
		length, nodes, buffers, compression, pair = 0, 1, 2, 3, 16
	)
	fb := flatbuffer(meta)
	message := fb.u32(0)
	if fb[fb.slot(message, headerType)] != recordBatch {
		return false, nil
	}
	table := fb.slot(message, header)
	table += fb.u32(table)
	at := fb.slot(table, length)
	if at == 0 || fb.slot(table, compression) != 0 {
		return false, nil
	}
	rows := fb.i64(at)
	node, nodeCount, err := fb.vector(table, nodes)
	if err != nil {
		return false, nil
	}
	buffer, bufferCount, err := fb.vector(table, buffers)
	if err != nil {
		return false, nil
	}
	fields := d.ipc.Schema().NumFields()
	if rows <= 0 || rows > arrowLimit/8 || nodeCount != fields || bufferCount != 2*fields {
		return false, nil
	}
	last := 0
	for i := range fields {
		if fb.i64(node+pair*i) != rows {
			return false, nil
		}
		data := buffer + pair*(2*i+1)
		from, n := fb.i64(data), fb.i64(data+8)
		if from < last || n < 0 || from > size || n > size-from {
			return false, nil
		}
		last = from + n
	}
	columns := d.body.columns[:0]
	for _, w := range d.wanted {
		data := buffer + pair*(2*w.field+1)
		if fb.i64(node+pair*w.field+8) != 0 || fb.i64(data+8) < 8*rows {
			return false, nil
		}
		columns = append(columns, fb.i64(data))
	}
	d.messages.meta = nil
	d.body = body{rows: rows, size: size, columns: columns}
	if d.from == nil || size < worthSeeking {
		return true, nil
	}
	at64, err := d.from.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, err
	}
	d.body.start, d.body.parts = at64-int64(d.in.Buffered()), true
	return true, d.skip(size)
}

// portion is how many rows are read at a time where columns can be read in parts:
// what was read is still in the processor's cache when it is added up.
const portion = 1 << 16

// columns reads rows of the batch that is being read.
func (d *arrowBatches) columns(b *filling) (err error) {
	of := &d.body
	n, passed := of.rows, 0
	if of.parts {
		n = min(n-of.done, portion)
	}
	s, sound := &b.own, true
	for i, w := range d.wanted {
		var in io.Reader = d.in
		if of.parts {
			in = io.NewSectionReader(d.from, of.start+int64(of.columns[i]+8*of.done), int64(8*n))
		} else if err := d.skip(of.columns[i] - passed); err != nil {
			return err
		}
		if w.whole != nil {
			err = wholes(in, w.whole(s), n)
		} else {
			sound, err = numbers(in, w.number(s), n, sound)
		}
		if err != nil {
			return err
		}
		passed = of.columns[i] + 8*n
	}
	if !of.parts {
		if err := d.skip(of.size - passed); err != nil {
			return err
		}
	}
	of.done += n
	if sound {
		d.count += int64(n)
		b.count(Run{Kind: record.KindSample, Has: d.has, N: n})
		b.Samples, b.Powers, b.ready = *s, Powers{}, true
		return nil
	}
	var r record.Sample
	for i := range n {
		d.count++
		s.Sample(&r, i, Run{Has: d.has})
		for _, p := range []*record.Opt[float64]{&r.PowerW, &r.PowerInstantW, &r.PowerAverageW} {
			if p.OK && !finite(p.V) {
				*p = record.Opt[float64]{}
			}
		}
		r.ReadOK = r.PowerW.OK || r.PowerInstantW.OK || r.PowerAverageW.OK
		b.add(&r, d.count)
	}
	return nil
}

// worthSeeking is how many bytes take about as long to read as a seek.
const worthSeeking = 64 << 10

// skip passes over so many bytes, in a file without reading them.
func (d *arrowBatches) skip(n int) error {
	held := d.in.Buffered()
	if d.from == nil || n < held+worthSeeking {
		_, err := d.in.Discard(n)
		return cutInside(err)
	}
	if _, err := d.in.Discard(held); err != nil {
		return err
	}
	at, err := d.from.Seek(int64(n-held), io.SeekCurrent)
	if err != nil || at <= d.size {
		return err
	}
	info, err := d.from.Stat()
	if err != nil {
		return err
	}
	if d.size = info.Size(); at > d.size { // where there is nothing to read, a seek goes all the same
		return cutInside(io.ErrUnexpectedEOF)
	}
	return nil
}

// believed is how many values a batch may promise before any has come.
const believed = 1 << 18

// values reads so many values of a column into it, which grows with what comes.
// Values are little-endian, eight bytes each.
func values[T int64 | float64](in io.Reader, column []T, n int, bytesOf func([]T) []byte) ([]T, error) {
	column = column[:0]
	for len(column) < n {
		k := len(column)
		column = slices.Grow(column, min(n-k, max(believed, cap(column)-k)))
		column = column[:min(n, cap(column))]
		if _, err := io.ReadFull(in, bytesOf(column[k:])); err != nil {
			return column[:k], cutInside(err)
		}
	}
	return column, nil
}

func wholes(in io.Reader, to *[]int64, n int) (err error) {
	*to, err = values(in, *to, n, arrow.Int64Traits.CastToBytes)
	if bigEndian {
		for i, v := range *to {
			(*to)[i] = int64(bits.ReverseBytes64(uint64(v)))
		}
	}
	return err
}

// numbers says whether all numbers so far are ones that can stand in a record.
func numbers(in io.Reader, to *[]float64, n int, sound bool) (bool, error) {
	column, err := values(in, *to, n, arrow.Float64Traits.CastToBytes)
	*to = column
	if bigEndian {
		for i, v := range column {
			column[i] = math.Float64frombits(bits.ReverseBytes64(math.Float64bits(v)))
		}
	}
	// The exponent of what is no number is all ones: one more, and the sign turns.
	const exponent, one = 0x7ff << 52, 1 << 52
	infinite := uint64(0)
	for _, v := range column {
		infinite |= math.Float64bits(v)&exponent + one
	}
	return sound && infinite>>63 == 0, err
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1
