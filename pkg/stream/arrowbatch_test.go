package stream

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// arrowTable is batches of samples as another program would make them, of
// rows that grow from 1 by so many or, where that is 0, of benchRows.
func arrowTable(tb testing.TB, batches, rows int, power func(i int) (w float64, ok bool), options ...ipc.Option) []byte {
	tb.Helper()
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "temp_c", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "power_w", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "fan", Type: arrow.PrimitiveTypes.Float64},
		{Name: "t_ns", Type: arrow.PrimitiveTypes.Int64},
		{Name: "util_gpu", Type: arrow.PrimitiveTypes.Uint8},
	}, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(options, ipc.WithSchema(schema))...)
	i := 0
	rowsOf := func(n int) int {
		if rows == 0 {
			return benchRows
		}
		return 1 + n*rows%3000
	}
	for n := range batches {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for range rowsOf(n) {
			if i%3 == 0 {
				b.Field(0).(*array.Int32Builder).AppendNull()
			} else {
				b.Field(0).(*array.Int32Builder).Append(int32(i % 90))
			}
			if v, ok := power(i); ok {
				b.Field(1).(*array.Float64Builder).Append(v)
			} else {
				b.Field(1).(*array.Float64Builder).AppendNull()
			}
			b.Field(2).(*array.Float64Builder).Append(math.NaN())
			b.Field(3).(*array.Int64Builder).Append(int64(i) * 1e8)
			b.Field(4).(*array.Uint8Builder).Append(uint8(i))
			i++
		}
		if err := w.Write(b.NewRecord()); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// TestColumns reads Arrow's own columns as it reads them row by row, whatever
// is amiss with them and wherever the stream ends.
func TestColumns(t *testing.T) {
	t.Parallel()
	whole := arrowTable(t, 6, 997, func(i int) (float64, bool) { return 300 + float64(i%100), true })
	tables := [][]byte{
		whole,
		append(bytes.Clone(whole), whole...),
		arrowTable(t, 6, 997, func(i int) (float64, bool) { return 300, i%2000 != 2 }),
		arrowTable(t, 6, 997, func(i int) (float64, bool) { return 300 / float64(i%1500), true }),
		arrowTable(t, 6, 997, func(i int) (float64, bool) { return 300, true }, ipc.WithZstd()),
	}
	for _, data := range tables {
		sameInBatches(t, data, asItIs)
		sameInBatches(t, data, func(r io.Reader) io.Reader { return someBytes{r, 777} })
		for range 4 {
			sameInBatches(t, data[:rand.IntN(len(data))], asItIs)
		}
	}
	step := 17
	if testing.Short() {
		step = 170
	}
	for n := 0; n < 1500; n += step {
		sameInBatches(t, whole[:n], asItIs)
	}
	many := NewReader(bytes.NewReader(whole), "t")
	for many.ScanBatch() {
		if b := many.Batch(); len(b.Runs) != 1 || b.Samples.PowerInstantW != nil {
			t.Error("a batch did not come as the columns that it is")
		}
	}
}

// TestColumnsOfAFile does so where a column that nobody wants is passed over in a
// file, and where the file ends in it.
func TestColumnsOfAFile(t *testing.T) {
	t.Parallel()
	const rows = 12_000
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "t_ns", Type: arrow.PrimitiveTypes.Int64}, {Name: "power_w", Type: arrow.PrimitiveTypes.Float64}, {Name: "temp_c", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	for n := range 2 {
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		for i := range rows {
			b.Field(0).(*array.Int64Builder).Append(int64(n*rows+i) * 1e8)
			b.Field(1).(*array.Float64Builder).Append(300 + float64(i%100))
			b.Field(2).(*array.Float64Builder).Append(50)
		}
		if err := w.Write(b.NewRecord()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "t.arrow")
	for _, less := range []int{0, 4, 8, 9, 10_000, 8 * rows, 8*rows + 100, 2 * 8 * rows, 4 * 8 * rows} {
		data := out.Bytes()[:out.Len()-less]
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		sameInBatches(t, data, func(io.Reader) io.Reader {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return f
		})
	}
}

// TestColumnsInParts reads a batch that is longer than what is read at a time, with a
// row in its last part that has no power.
func TestColumnsInParts(t *testing.T) {
	t.Parallel()
	const rows = portion + 1500
	schema := arrow.NewSchema([]arrow.Field{{Name: "power_w", Type: arrow.PrimitiveTypes.Float64}, {Name: "t_ns", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	for i := range rows {
		w := 300 + float64(i%100)
		if i == portion+7 {
			w = math.Inf(1)
		}
		b.Field(0).(*array.Float64Builder).Append(w)
		b.Field(1).(*array.Int64Builder).Append(int64(i) * 1e8)
	}
	var out bytes.Buffer
	w := ipc.NewWriter(&out, ipc.WithSchema(schema))
	if err := errors.Join(w.Write(b.NewRecord()), w.Close()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "t.arrow")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(io.Reader) io.Reader {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	sameInBatches(t, out.Bytes(), file)
	// What is cut off while it is read is missed as what was cut off before.
	in, from, _, err := open(file(nil))
	if err != nil {
		t.Fatal(err)
	}
	d := &arrowBatches{arrowReader: newArrowReader(in).(*arrowReader), from: from}
	var first filling
	if err := d.produce(&first); err != nil || len(first.end().Samples.TimeNS) != portion {
		t.Fatalf("the first part is not of %d rows: %v", portion, err)
	}
	if err := os.Truncate(name, portion); err != nil {
		t.Fatal(err)
	}
	var cut cutError
	if err := d.produce(&filling{}); !errors.As(err, &cut) {
		t.Errorf("a file that is cut while it is read ends with %v", err)
	}
}
