package stream

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
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
	piece  [32 << 10]byte
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

func newArrowBatches(in *bufio.Reader) batches {
	return readAhead(&arrowBatches{arrowReader: newArrowReader(in).(*arrowReader)})
}

func (d *arrowBatches) produce(b *filling) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("corrupt Arrow stream: %v", p)
		}
	}()
	for len(b.Runs) == 0 || d.row < d.n {
		switch {
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
			if ok, err := d.direct(b); ok || err != nil {
				return arrowFailure(err)
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

// direct reads the next message if it is a batch of which only columns are
// wanted. It is not ok for any other, which is left where it is.
func (d *arrowBatches) direct(b *filling) (ok bool, err error) {
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
	for _, w := range d.wanted {
		if fb.i64(node+pair*w.field+8) != 0 || fb.i64(buffer+pair*(2*w.field+1)+8) < 8*rows {
			return false, nil
		}
	}

	d.messages.meta = nil
	s, sound, done := &b.own, true, 0
	for _, w := range d.wanted {
		from := fb.i64(buffer + pair*(2*w.field+1))
		if err := d.skip(from - done); err != nil {
			return false, err
		}
		if w.whole != nil {
			err = d.wholes(w.whole(s), rows)
		} else {
			sound, err = d.numbers(w.number(s), rows, sound)
		}
		if err != nil {
			return false, err
		}
		done = from + 8*rows
	}
	if err := d.skip(size - done); err != nil {
		return false, err
	}
	if sound {
		d.count += int64(rows)
		b.count(Run{Kind: record.KindSample, Has: d.has, N: rows})
		b.Samples, b.Powers, b.ready = *s, Powers{}, true
		return true, nil
	}
	for i := range rows {
		d.count++
		r := s.Sample(i, Run{Has: d.has})
		for _, p := range []*record.Opt[float64]{&r.PowerW, &r.PowerInstantW, &r.PowerAverageW} {
			if p.OK && !finite(p.V) {
				*p = record.Opt[float64]{}
			}
		}
		r.ReadOK = r.PowerW.OK || r.PowerInstantW.OK || r.PowerAverageW.OK
		b.add(&r, d.count)
	}
	return true, nil
}

func (d *arrowBatches) skip(n int) error {
	_, err := d.in.Discard(n)
	return cutInside(err)
}

// believed is how many values a batch may promise before any has come.
const believed = 1 << 18

// pieces reads a column of so many values of eight bytes.
func (d *arrowBatches) pieces(values int, take func([]byte)) error {
	for left := 8 * values; left > 0; {
		b := d.piece[:min(left, len(d.piece))]
		if _, err := io.ReadFull(d.in, b); err != nil {
			return cutInside(err)
		}
		take(b)
		left -= len(b)
	}
	return nil
}

func (d *arrowBatches) wholes(to *[]int64, n int) error {
	column := slices.Grow((*to)[:0], min(n, believed))
	err := d.pieces(n, func(b []byte) {
		column = slices.Grow(column, len(b)/8)
		for ; len(b) >= 8; b = b[8:] {
			column = append(column, int64(binary.LittleEndian.Uint64(b)))
		}
	})
	*to = column
	return err
}

// numbers says whether all numbers so far are ones that can stand in a record.
func (d *arrowBatches) numbers(to *[]float64, n int, sound bool) (bool, error) {
	column := slices.Grow((*to)[:0], min(n, believed))
	err := d.pieces(n, func(b []byte) {
		column = slices.Grow(column, len(b)/8)
		for ; len(b) >= 8; b = b[8:] {
			v := math.Float64frombits(binary.LittleEndian.Uint64(b))
			sound = sound && finite(v)
			column = append(column, v)
		}
	})
	*to = column
	return sound, err
}
