package stream

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"joulepipe/pkg/record"
)

// arrowReader reads Arrow IPC streams, its own and those of others, which are
// read by the names of their columns.
type arrowReader struct {
	in       *bufio.Reader
	rows     rows
	ipc      *ipc.Reader // nil between streams
	messages *arrowMessages
	columns  []arrowColumn
	row, n   int   // of the batch
	count    int64 // of rows read
	scratch  []byte
}

func newArrowReader(in *bufio.Reader) decoder {
	return &arrowReader{in: in, rows: rows{forms: newForms()}}
}

func (d *arrowReader) line() int64 { return d.count }

func (d *arrowReader) next() (rec record.Record, err error) {
	// The library trusts the offsets in a batch; a wrong one is a panic, here or
	// in its own code.
	defer func() {
		if p := recover(); p != nil {
			rec, err = nil, fmt.Errorf("corrupt Arrow stream: %v", p)
		}
	}()
	for {
		for d.row < d.n {
			rec, at, bad := d.rows.decode(d)
			d.row++
			d.count++
			if bad != nil {
				if at >= 0 {
					bad.msg = "column " + d.rows.names[at] + ": " + bad.msg
				}
				return &record.SyntaxError{Line: d.count, Msg: bad.msg, Hint: bad.hint}, nil
			}
			if rec != nil {
				return rec, nil
			}
		}
		if d.ipc == nil {
			header, err := d.begin()
			if header != nil || err != nil {
				return header, err
			}
		}
		if err := d.batch(); err != nil {
			return nil, err
		}
	}
}

// begin reads the schema of the stream, or of the one that follows another, and
// the header in it.
func (d *arrowReader) begin() (record.Record, error) {
	if _, err := d.in.Peek(1); err != nil {
		return nil, err
	}
	d.messages = &arrowMessages{in: d.in}
	r, err := ipc.NewReaderFromMessageReader(d.messages, ipc.WithAllocator(&boundedMemory{}))
	if err != nil {
		return nil, arrowError(err)
	}
	d.ipc = r
	schema := r.Schema()
	names := make([]string, schema.NumFields())
	d.columns = make([]arrowColumn, len(names))
	for i, f := range schema.Fields() {
		if readable(f.Type) {
			names[i] = f.Name
		}
	}
	if bad := d.rows.name(names); bad != nil {
		return nil, &record.SyntaxError{Line: 1, Msg: bad.msg, Hint: bad.hint}
	}
	meta := schema.Metadata()
	i := meta.FindKey(headerKey)
	if i < 0 {
		return nil, nil
	}
	fm, bad := d.rows.forms.parse([]byte(meta.Values()[i]))
	switch {
	case bad != nil:
		return &record.SyntaxError{Line: 1, Msg: "header: " + bad.msg, Hint: bad.hint}, nil
	case fm == nil:
		return nil, nil
	}
	return fm.rec, nil
}

// batch goes on to the next batch, or sets ipc to nil at the end of the stream.
func (d *arrowReader) batch() error {
	if !d.ipc.Next() {
		err := d.ipc.Err()
		d.ipc.Release()
		d.ipc = nil
		if err != nil {
			return arrowError(err)
		}
		return nil
	}
	batch := d.ipc.Record()
	for i := range d.columns {
		if d.rows.names[i] != "" {
			d.columns[i].load(batch.Column(i))
		}
	}
	d.row, d.n = 0, int(batch.NumRows())
	return nil
}

// arrowError tells a cut stream from a corrupt one.
func arrowError(err error) error {
	var cut cutError
	if errors.As(err, &cut) {
		return cut
	}
	return fmt.Errorf("corrupt Arrow stream: %w", err)
}

// readable says whether a column can be read. Others are passed over.
func readable(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.DictionaryType:
		_, list := t.ValueType.(arrow.ListLikeType)
		return !list && readable(t.ValueType)
	case *arrow.ListType:
		return arrow.IsInteger(t.Elem().ID())
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType, *arrow.BooleanType:
		return true
	}
	return arrow.IsInteger(t.ID()) || t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64
}

// arrowColumn is a column of the current batch, its numbers widened to 64 bits.
type arrowColumn struct {
	arr    arrow.Array
	typ    columnType // whole, natural, real, truth, text or ints
	nulls  bool
	ints   []int64
	floats []float64
	texts  interface{ Value(int) string }
	index  *array.Dictionary // of texts, where they are coded
	bools  *array.Boolean
	list   *array.List
	items  *arrowColumn
	kept   []int64 // what ints was widened into
	reals  []float64
}

func (c *arrowColumn) load(arr arrow.Array) {
	c.arr, c.nulls, c.index = arr, arr.NullN() > 0, nil
	if dict, ok := arr.(*array.Dictionary); ok {
		c.index = dict
		arr = dict.Dictionary()
	}
	switch arr := arr.(type) {
	case *array.Int64:
		c.typ, c.ints = whole, arr.Int64Values()
	case *array.Float64:
		c.typ, c.floats = real, arr.Float64Values()
	case *array.Int32:
		widen(c, arr.Int32Values())
	case *array.Int16:
		widen(c, arr.Int16Values())
	case *array.Int8:
		widen(c, arr.Int8Values())
	case *array.Uint32:
		widen(c, arr.Uint32Values())
	case *array.Uint16:
		widen(c, arr.Uint16Values())
	case *array.Uint8:
		widen(c, arr.Uint8Values())
	case *array.Uint64:
		widen(c, arr.Uint64Values())
		c.typ = natural
	case *array.Float32:
		c.typ, c.reals = real, c.reals[:0]
		for _, v := range arr.Float32Values() {
			c.reals = append(c.reals, float64(v))
		}
		c.floats = c.reals
	case *array.Boolean:
		c.typ, c.bools = truth, arr
	case *array.List:
		c.typ, c.list = ints, arr
		if c.items == nil {
			c.items = new(arrowColumn)
		}
		c.items.load(arr.ListValues())
	case interface{ Value(int) string }:
		c.typ, c.texts = text, arr
	default:
		panic(fmt.Sprintf("column of type %s", arr.DataType()))
	}
}

func widen[T int8 | int16 | int32 | uint8 | uint16 | uint32 | uint64](c *arrowColumn, values []T) {
	c.typ, c.kept = whole, c.kept[:0]
	for _, v := range values {
		c.kept = append(c.kept, int64(v))
	}
	c.ints = c.kept
}

// at is the row's position among the values, negative where it is null.
func (c *arrowColumn) at(row int) int {
	if c.nulls && c.arr.IsNull(row) {
		return -1
	}
	if c.index != nil {
		return c.index.GetValueIndex(row)
	}
	return row
}

// float is a number that is in its place, as a float64.
func (c *arrowColumn) float(i int) (v float64, ok bool) {
	switch c.typ {
	case real:
		return c.floats[i], true
	case whole:
		return float64(c.ints[i]), true
	case natural:
		return float64(uint64(c.ints[i])), true
	}
	return 0, false
}

// whole is a number that is in its place, if it is an int64.
func (c *arrowColumn) whole(i int) (v int64, ok bool) {
	switch c.typ {
	case whole:
		return c.ints[i], true
	case natural:
		return c.ints[i], c.ints[i] >= 0
	case real:
		f := c.floats[i]
		return int64(f), f == math.Trunc(f) && math.Abs(f) < maxExact
	}
	return 0, false
}

func (d *arrowReader) set(fd *field, column int) (absent bool, bad *fault) {
	c := &d.columns[column]
	i := c.at(d.row)
	if i < 0 {
		return true, nil
	}
	if c.typ == real && !finite(c.floats[i]) {
		return true, nil
	}
	ok := false
	switch p := fd.ptr.(type) {
	case *record.Opt[float64]:
		p.V, p.OK = c.float(i)
		ok = p.OK
	case *float64:
		*p, ok = c.float(i)
	case *int64:
		*p, ok = c.whole(i)
	case *record.Opt[int64]:
		p.V, p.OK = c.whole(i)
		ok = p.OK
	case *int:
		var v int64
		v, ok = c.whole(i)
		*p = int(v)
		ok = ok && int64(*p) == v
	case *record.Opt[uint64]:
		var v int64
		v, ok = c.whole(i)
		ok = ok && v >= 0 || c.typ == natural
		*p = record.Opt[uint64]{V: uint64(v), OK: ok}
	case *bool:
		*p, ok = c.truth(i)
	case *record.Opt[bool]:
		p.V, p.OK = c.truth(i)
		ok = p.OK
	case *string:
		if ok = c.typ == text; ok {
			*p = d.rows.forms.internText(c.texts.Value(i))
		} else {
			// Numbers name as well.
			*p, ok = string(c.json(i)), c.typ != ints
		}
	case *[]int:
		if ok = c.typ == ints; ok {
			from, to := c.list.ValueOffsets(i)
			for j := int(from); j < int(to) && ok; j++ {
				var v int64
				if at := c.items.at(j); at < 0 {
					ok = false
				} else if v, ok = c.items.whole(at); ok {
					*p = append(*p, int(v))
					ok = int64(int(v)) == v
				}
			}
		}
	default:
		// A list or an object of a kind that is read from JSON elsewhere.
		if c.typ == text {
			raw := []byte(c.texts.Value(i))
			return d.rows.forms.setJSON(fd, raw, 0)
		}
	}
	if !ok {
		return false, badValue(fd, c.json(i), 0, nil)
	}
	return false, nil
}

func (d *arrowReader) text(column int) []byte {
	c := &d.columns[column]
	i := c.at(d.row)
	if i < 0 || c.typ != text {
		return nil
	}
	d.scratch = append(d.scratch[:0], c.texts.Value(i)...)
	return d.scratch
}

func (d *arrowReader) json(column int) json.RawMessage {
	c := &d.columns[column]
	if i := c.at(d.row); i >= 0 {
		return c.json(i)
	}
	return nil
}

func (c *arrowColumn) truth(i int) (v, ok bool) {
	switch c.typ {
	case truth:
		return c.bools.Value(i), true
	case whole:
		return c.ints[i] == 1, c.ints[i] == 0 || c.ints[i] == 1
	}
	return false, false
}

// json is a value that is in its place; nil for a list and for what is no
// number.
func (c *arrowColumn) json(i int) json.RawMessage {
	switch c.typ {
	case whole:
		return strconv.AppendInt(nil, c.ints[i], 10)
	case natural:
		return strconv.AppendUint(nil, uint64(c.ints[i]), 10)
	case real:
		if finite(c.floats[i]) {
			return appendFloat(nil, c.floats[i])
		}
	case truth:
		return strconv.AppendBool(nil, c.bools.Value(i))
	case text:
		return appendString(nil, c.texts.Value(i))
	}
	return nil
}

// arrowLimit bounds a message and what is unpacked from it.
const arrowLimit = 1 << 30

// boundedMemory is Go's allocator with a limit on what is in use: lengths in a
// message are not to be trusted.
type boundedMemory struct {
	memory.GoAllocator
	used int
}

func (m *boundedMemory) Allocate(size int) []byte {
	m.take(size)
	return m.GoAllocator.Allocate(size)
}

func (m *boundedMemory) Reallocate(size int, b []byte) []byte {
	m.take(size - len(b))
	return m.GoAllocator.Reallocate(size, b)
}

func (m *boundedMemory) Free(b []byte) { m.used -= len(b) }

func (m *boundedMemory) take(size int) {
	if m.used += size; size > arrowLimit || m.used > arrowLimit {
		panic("a batch of more than 1 GiB")
	}
}
