package stream

import (
	"bufio"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"joulepipe/pkg/record"
)

// headerKey is where a schema's metadata holds the header, as its NDJSON line.
const headerKey = "joulepipe.header"

// batchRows is how many rows make a batch, unless Flush comes before.
const batchRows = 16 << 10

// kindNames is the dictionary of the column record.
var kindNames = []record.Kind{
	record.KindHeader, record.KindSample, record.KindPower, record.KindCounter, record.KindGPM,
	record.KindEvent, record.KindMarker, record.KindSoak, record.KindSummary, record.KindAgreement, record.KindEnd,
	record.KindProcess,
}

var kindType = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}

func arrowType(t columnType) arrow.DataType {
	switch t {
	case whole:
		return arrow.PrimitiveTypes.Int64
	case natural:
		return arrow.PrimitiveTypes.Uint64
	case small:
		return arrow.PrimitiveTypes.Int32
	case real:
		return arrow.PrimitiveTypes.Float64
	case truth:
		return arrow.FixedWidthTypes.Boolean
	case text:
		return arrow.BinaryTypes.String
	case ints:
		return arrow.ListOf(arrow.PrimitiveTypes.Int32)
	}
	panic("stream: internal error: column without a type")
}

// arrowWriter gathers rows column by column and writes them in batches.
//
// It fills the columns' buffers itself: the builders of package array take a
// call for each of the many cells that are empty.
type arrowWriter struct {
	table   *table
	out     *bufio.Writer
	ipc     *ipc.Writer // nil before the first record
	schema  *arrow.Schema
	kinds   []int8
	kindOf  map[record.Kind]int8
	names   arrow.Array // kindNames
	columns []arrowCells
	rest    arrowCells
	scratch []byte
	rows    int
	begun   bool // a batch is out, and the schema before it
}

// arrowCells is a column of the batch that is being filled.
type arrowCells struct {
	typ     columnType
	data    arrow.DataType
	present int
	valid   []byte   // bit by row
	wide    []uint64 // whole, natural, real: their 64 bits
	narrow  []int32  // small by row; ints one after another
	bits    []byte   // truth by row
	chars   []byte   // text one after another
	ends    []int32  // of texts and lists that are present; one more than filled
}

func newArrowWriter(w io.Writer) Writer {
	e := &arrowWriter{
		table:  newTable(),
		out:    bufio.NewWriterSize(w, flushSize),
		kindOf: make(map[record.Kind]int8),
		kinds:  make([]int8, 0, batchRows),
		rest:   newArrowCells(text),
	}
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for i, kind := range kindNames {
		e.kindOf[kind] = int8(i)
		b.Append(string(kind))
	}
	e.names = b.NewArray()
	for _, c := range e.table.columns {
		e.columns = append(e.columns, newArrowCells(c.typ))
	}
	return e
}

func newArrowCells(t columnType) arrowCells {
	c := arrowCells{typ: t, data: arrowType(t), valid: make([]byte, batchRows/8)}
	switch t {
	case whole, natural, real:
		c.wide = make([]uint64, batchRows)
	case small:
		c.narrow = make([]int32, batchRows)
	case truth:
		c.bits = make([]byte, batchRows/8)
	case text, ints:
		c.ends = make([]int32, 1, batchRows+1)
	}
	return c
}

func (e *arrowWriter) Write(r record.Record) error {
	fm, fields, err := e.table.forms.load(r)
	if err != nil {
		return err
	}
	if e.ipc == nil {
		header, ok := r.(*record.Header)
		if err := e.begin(header); ok || err != nil {
			return err
		}
	}
	e.scratch, err = e.table.appendRest(e.scratch[:0], fm, fields)
	if err != nil {
		return err
	}
	place := e.table.layouts[fm.id].field
	for c, i := range place {
		if i >= 0 && (e.columns[c].typ == small || e.columns[c].typ == ints) && !fits32(&fm.fields[i]) {
			return fmt.Errorf("%s of a %s does not fit the column's 32 bits", fm.fields[i].name, fm.kind)
		}
	}
	row := e.rows
	for c, i := range place {
		if i >= 0 {
			e.columns[c].put(row, &fm.fields[i])
		}
	}
	if len(e.scratch) > 0 {
		e.rest.putText(row, e.scratch)
	}
	e.kinds = append(e.kinds, e.kindOf[fm.kind])
	if e.rows++; e.rows == batchRows || len(e.rest.chars) > maxLine {
		return e.batch()
	}
	return nil
}

// begin writes the schema, with the header if the stream starts with one.
func (e *arrowWriter) begin(header *record.Header) error {
	var meta arrow.Metadata
	if header != nil {
		line, err := e.table.forms.appendLine(nil, header)
		if err != nil {
			return err
		}
		meta = arrow.NewMetadata([]string{headerKey}, []string{string(line)})
	}
	fields := []arrow.Field{{Name: "record", Type: kindType}}
	for i, c := range e.table.columns {
		fields = append(fields, arrow.Field{Name: c.name, Type: e.columns[i].data, Nullable: true})
	}
	fields = append(fields, arrow.Field{Name: "json", Type: arrow.BinaryTypes.String, Nullable: true})
	e.schema = arrow.NewSchema(fields, &meta)
	e.ipc = ipc.NewWriter(e.out, ipc.WithSchema(e.schema))
	return nil
}

// batch writes the rows gathered, which may be none.
func (e *arrowWriter) batch() error {
	n := e.rows
	index := array.NewData(kindType.IndexType, n, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int8Traits.CastToBytes(e.kinds))}, nil, 0, 0)
	cols := []arrow.Array{array.NewDictionaryArray(kindType, array.MakeFromData(index), e.names)}
	for i := range e.columns {
		cols = append(cols, e.columns[i].array(n))
	}
	cols = append(cols, e.rest.array(n))
	batch := array.NewRecord(e.schema, cols, int64(n))
	defer batch.Release()
	if err := e.ipc.Write(batch); err != nil {
		return err
	}
	e.begun = true
	e.rows = 0
	e.kinds = e.kinds[:0]
	for i := range e.columns {
		e.columns[i].reset()
	}
	e.rest.reset()
	return nil
}

// Flush writes the rows gathered as a batch; a header alone goes out before an
// empty one.
func (e *arrowWriter) Flush() error {
	if e.ipc == nil {
		return nil
	}
	if e.rows > 0 || !e.begun {
		if err := e.batch(); err != nil {
			return err
		}
	}
	return e.out.Flush()
}

func (e *arrowWriter) Close() error {
	if e.ipc == nil {
		if err := e.begin(nil); err != nil {
			return err
		}
	}
	if e.rows > 0 {
		if err := e.batch(); err != nil {
			return err
		}
	}
	if err := e.ipc.Close(); err != nil {
		return err
	}
	return e.out.Flush()
}

func fits32(fd *field) bool {
	switch p := fd.ptr.(type) {
	case *int:
		return int64(*p) == int64(int32(*p))
	case *[]int:
		for _, v := range *p {
			if int64(v) != int64(int32(v)) {
				return false
			}
		}
	}
	return true
}

// put sets the cell of a row, of which the field is absent or present.
func (c *arrowCells) put(row int, fd *field) {
	switch p := fd.ptr.(type) {
	case *record.Opt[float64]:
		if p.OK && finite(p.V) {
			c.wide[row] = math.Float64bits(p.V)
			c.mark(row)
		}
	case *record.Opt[int64]:
		if p.OK {
			c.wide[row] = uint64(p.V)
			c.mark(row)
		}
	case *int64:
		c.wide[row] = uint64(*p)
		c.mark(row)
	case *int:
		c.narrow[row] = int32(*p)
		c.mark(row)
	case *record.Opt[uint64]:
		if p.OK {
			c.wide[row] = p.V
			c.mark(row)
		}
	case *float64:
		if finite(*p) {
			c.wide[row] = math.Float64bits(*p)
			c.mark(row)
		}
	case *bool:
		c.truth(row, *p)
	case *record.Opt[bool]:
		if p.OK {
			c.truth(row, p.V)
		}
	case *string:
		if *p != "" {
			c.fill(row)
			c.chars = append(c.chars, *p...)
			c.ends = append(c.ends, int32(len(c.chars)))
			c.mark(row)
		}
	case *[]int:
		if len(*p) > 0 {
			c.fill(row)
			for _, v := range *p {
				c.narrow = append(c.narrow, int32(v))
			}
			c.ends = append(c.ends, int32(len(c.narrow)))
			c.mark(row)
		}
	}
}

func (c *arrowCells) putText(row int, s []byte) {
	c.fill(row)
	c.chars = append(c.chars, s...)
	c.ends = append(c.ends, int32(len(c.chars)))
	c.mark(row)
}

func (c *arrowCells) mark(row int) {
	c.valid[row>>3] |= 1 << (row & 7)
	c.present++
}

func (c *arrowCells) truth(row int, v bool) {
	if v {
		c.bits[row>>3] |= 1 << (row & 7)
	}
	c.mark(row)
}

// fill gives the empty texts or lists before the row their ends.
func (c *arrowCells) fill(row int) {
	for last := c.ends[len(c.ends)-1]; len(c.ends) <= row; {
		c.ends = append(c.ends, last)
	}
}

// array is the column's first n rows. It is valid until reset.
func (c *arrowCells) array(n int) arrow.Array {
	buffers := []*memory.Buffer{nil, nil}
	var children []arrow.ArrayData
	if c.present < n {
		buffers[0] = memory.NewBufferBytes(c.valid[:(n+7)/8])
	}
	switch c.typ {
	case whole, natural, real:
		buffers[1] = memory.NewBufferBytes(arrow.Uint64Traits.CastToBytes(c.wide[:n]))
	case small:
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.narrow[:n]))
	case truth:
		buffers[1] = memory.NewBufferBytes(c.bits[:(n+7)/8])
	case text:
		c.fill(n)
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.ends))
		buffers = append(buffers, memory.NewBufferBytes(c.chars))
	case ints:
		c.fill(n)
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.ends))
		values := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.narrow))
		children = []arrow.ArrayData{
			array.NewData(arrow.PrimitiveTypes.Int32, len(c.narrow), []*memory.Buffer{nil, values}, nil, 0, 0),
		}
	}
	return array.MakeFromData(array.NewData(c.data, n, buffers, children, n-c.present, 0))
}

func (c *arrowCells) reset() {
	c.present = 0
	clear(c.valid)
	clear(c.wide)
	clear(c.bits)
	c.chars = c.chars[:0]
	if c.ends != nil {
		c.ends = c.ends[:1]
		c.narrow = c.narrow[:0]
	} else {
		clear(c.narrow)
	}
}
