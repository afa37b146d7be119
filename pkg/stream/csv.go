package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"joulepipe/pkg/record"
)

// csvReader reads rows under a line of column names.
type csvReader struct {
	rows    rows
	lines   *lines
	heading []byte // the line of column names
	count   int64  // of rows under it
	cells   [][]byte
	scratch []byte // cells that were in quotes
	smi     bool   // the table is nvidia-smi's
	shapes  plains // of rows under these names
}

func newCSVReader(r io.Reader) decoder {
	return &csvReader{rows: rows{forms: newForms()}, lines: newLines(r)}
}

func newCSVBatches(r io.Reader) batches {
	d := newCSVReader(r).(*csvReader)
	return readAhead(csvBatches{d})
}

// csvBatches reads rows that are like those before them into columns.
type csvBatches struct{ *csvReader }

func (d csvBatches) produce(b *filling) error {
	for rows := int64(0); rows < recordsAtOnce; {
		l := d.lines
		end := l.to + bytes.LastIndexByte(l.buf[l.to:l.end], '\n') + 1
		p, n := d.shapes.read(l.buf, l.to, end, b)
		if n > 0 {
			l.pass(p, n)
			d.count += n
		} else {
			rec, err := d.next()
			if err != nil {
				return err
			}
			b.add(rec, d.line())
			if n = 1; p < end { // it was there, and had none of the shapes
				d.learn(rec)
			}
		}
		if rows += n; !d.lines.ready() {
			break
		}
	}
	return nil
}

// learn takes the shape of the row that the record was just read from.
func (d csvBatches) learn(rec record.Record) {
	l := d.lines
	raw := l.buf[l.from:l.to]
	if d.smi || !inColumns(rec) || !l.whole() || bytes.IndexByte(raw, '"') >= 0 || !d.shapes.pay() {
		return
	}
	line := chomp(raw[:len(raw)-1])
	var pairs []pair
	at := 0
	for i, cell := range d.cells {
		if len(cell) > 0 { // else it counts as text
			pairs = append(pairs, pair{name: []byte(d.rows.names[i]), raw: cell, offset: at})
		}
		at += len(cell) + 1
	}
	d.shapes.keep(newPlain(d.rows.forms.of[rec.Kind()], line, pairs, string(raw[len(line):])))
}

func (d *csvReader) line() int64 { return d.lines.count }

func (d *csvReader) next() (record.Record, error) {
	for {
		line, row, bad, err := d.row()
		if err == errLineTooLong {
			return &record.SyntaxError{Line: row, Msg: err.Error()}, nil
		}
		if err == io.EOF && d.count == 0 && d.heading != nil && d.rows.kindAt >= 0 {
			// The names are written together with the first row.
			return nil, cutError("no row after the column names")
		}
		if err != nil {
			return nil, err
		}
		if skipSpace(line, 0) == len(line) {
			continue
		}
		if d.isHeading(line) {
			if bad == nil {
				bad = d.setHeading(line)
			}
			if bad != nil {
				return nil, &record.SyntaxError{Line: row, Column: bad.column, Msg: bad.msg, Hint: bad.hint}
			}
			continue
		}
		d.count++
		var rec record.Record
		if bad == nil {
			rec, bad = d.decode(line)
		}
		if !d.lines.whole() {
			if bad == nil && d.cutUnseen() {
				bad = &fault{msg: "the last row is incomplete"}
			}
			if bad != nil {
				d.lines.cut("the last row is incomplete")
			}
		}
		if bad != nil {
			return &record.SyntaxError{Line: row, Column: bad.column, Msg: bad.msg, Hint: bad.hint}, nil
		}
		if rec != nil {
			return rec, nil
		}
	}
}

// cutUnseen says that a last row without an end of line, though it has all its
// cells, may be cut all the same: the input is known to be, or the object that
// ends a row of this package's is not there.
func (d *csvReader) cutUnseen() bool {
	return d.lines.err != io.EOF || d.rows.jsonAt >= 0 && len(d.cells[d.rows.jsonAt]) == 0
}

// row is the next row, cut into cells, and the number of its first line. A
// quoted cell can go over several lines.
func (d *csvReader) row() (line []byte, row int64, bad *fault, err error) {
	line, err = d.lines.next()
	row = d.lines.count
	if err != nil || d.splitPlain(line) {
		return line, row, nil, err
	}
	first := d.lines.to - d.lines.from
	open := bytes.Count(line, quote) % 2
	for open != 0 {
		longer, err := d.lines.extend()
		if err != nil {
			break
		}
		open ^= bytes.Count(longer[len(line):], quote) % 2
		line = longer
	}
	if open == 0 {
		bad = d.split(line)
	}
	if open != 0 || bad != nil {
		// A quote out of place spoils its line, not those up to the next quote.
		line = d.lines.back(first, row)
		bad = d.split(line)
	}
	return line, row, bad, nil
}

var quote = []byte{'"'}

// isHeading says whether the line names columns: the first does, and so does
// the first of a stream that was appended to another.
func (d *csvReader) isHeading(line []byte) bool {
	if d.heading == nil || bytes.Equal(line, d.heading) {
		return true
	}
	if c := line[0]; c != 'r' && c != 't' {
		return false
	}
	first, _, _ := bytes.Cut(line, []byte(","))
	switch string(first) {
	case "record", "t_ns", "t_start_ns", "t_before_ns", "timestamp":
		return true
	}
	return false
}

func (d *csvReader) setHeading(line []byte) *fault {
	d.heading = append(d.heading[:0], line...)
	d.count = 0
	d.shapes = newPlains()
	names := make([]string, len(d.cells))
	for i, cell := range d.cells {
		names[i] = string(bytes.ToValidUTF8(bytes.TrimSpace(cell), replacement))
	}
	own, ok := fromSMI(names)
	if d.smi = ok; ok {
		names = own
	}
	return d.rows.name(names)
}

// splitPlain cuts a row into its cells, if none is in quotes.
func (d *csvReader) splitPlain(line []byte) bool {
	cells, start := d.cells[:0], 0
	for p, c := range line {
		switch c {
		case ',':
			cells = append(cells, line[start:p])
			start = p + 1
		case '"':
			return false
		}
	}
	d.cells = append(cells, line[start:])
	return true
}

// split cuts a row into its cells, which are valid until the next row.
func (d *csvReader) split(line []byte) *fault {
	cells := d.cells[:0]
	scratch := d.scratch[:0]
	for p := 0; ; p++ {
		cell, q := line[p:], len(line)
		if p < len(line) && line[p] == '"' {
			start := len(scratch)
			for q = p + 1; ; q++ {
				i := bytes.IndexByte(line[q:], '"')
				if i < 0 {
					return &fault{column: p + 1, msg: "a quoted cell does not end"}
				}
				scratch = append(scratch, line[q:q+i]...)
				if q += i + 1; q == len(line) || line[q] != '"' {
					break
				}
				scratch = append(scratch, '"')
			}
			if q < len(line) && line[q] != ',' {
				return &fault{column: q + 1, msg: "a cell goes on after its closing quote"}
			}
			cell = scratch[start:len(scratch):len(scratch)]
		} else {
			if i := bytes.IndexByte(cell, ','); i >= 0 {
				q = p + i
				cell = cell[:i]
			}
			if i := bytes.IndexByte(cell, '"'); i >= 0 {
				return &fault{column: p + i + 1, msg: "a quote inside a cell that is not quoted"}
			}
		}
		cells = append(cells, cell)
		if p = q; p == len(line) {
			d.cells, d.scratch = cells, scratch
			return nil
		}
	}
}

// decode reads one row. The record is nil for a kind that is not known.
func (d *csvReader) decode(line []byte) (record.Record, *fault) {
	if len(d.cells) != len(d.rows.names) {
		return nil, &fault{
			msg:  fmt.Sprintf("row of %d cells under %d column names", len(d.cells), len(d.rows.names)),
			hint: "leave a cell empty where there is no value",
		}
	}
	if d.smi {
		if at, bad := plainSMI(d.rows.names, d.cells); bad != nil {
			bad.column = byteOf(line, at)
			return nil, bad
		}
	}
	rec, at, bad := d.rows.decode(d)
	if bad != nil && at >= 0 {
		bad.column = byteOf(line, at)
	}
	return rec, bad
}

func (d *csvReader) set(fd *field, column int) (absent bool, bad *fault) {
	cell := d.cells[column]
	if len(cell) == 0 {
		return true, nil
	}
	if fd.typ < text && d.rows.forms.scan(fd, cell, 0) == len(cell) {
		return false, nil
	}
	return d.rows.forms.setText(fd, cell)
}

func (d *csvReader) text(column int) []byte { return d.cells[column] }

// json is a cell as it stands if that is JSON, else as a string.
func (d *csvReader) json(column int) json.RawMessage {
	cell := d.cells[column]
	switch {
	case len(cell) == 0:
		return nil
	case json.Valid(cell):
		return bytes.Clone(cell)
	}
	return appendString(nil, string(cell))
}

// byteOf is the byte, from 1, at which the n-th cell of a row begins.
func byteOf(line []byte, n int) int {
	quoted := false
	for p, c := range line {
		switch {
		case n == 0:
			return p + 1
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			n--
		}
	}
	return len(line) + 1
}

// replacement stands for bytes that are no UTF-8, as in encoding/json.
var replacement = []byte("\ufffd")

// setText fills in a field from a cell that is not empty, and not as plain as
// JSON has it.
func (f *forms) setText(fd *field, cell []byte) (absent bool, bad *fault) {
	switch p := fd.ptr.(type) {
	case *string:
		if !utf8.Valid(cell) {
			cell = bytes.ToValidUTF8(cell, replacement)
		}
		*p = f.text(fd, cell)
		return false, nil
	case *bool:
		if v, err := strconv.ParseBool(string(cell)); err == nil { // "True", as Python has it
			*p = v
			return false, nil
		}
	case *record.Opt[bool]:
		if v, err := strconv.ParseBool(string(cell)); err == nil {
			*p = record.Some(v)
			return false, nil
		}
	case *[]int:
		for _, s := range strings.FieldsFunc(string(cell), func(r rune) bool { return strings.ContainsRune(" ,;[]", r) }) {
			v, err := strconv.Atoi(s)
			if err != nil {
				return false, badValue(fd, appendString(nil, string(cell)), 0, err)
			}
			*p = append(*p, v)
		}
		return false, nil
	}
	switch cell = bytes.ToLower(bytes.TrimSpace(cell)); string(cell) {
	case "", "nan", "inf", "-inf", "null", "none", "n/a", "[n/a]":
		return true, nil
	}
	if absent, bad = f.setJSON(fd, cell, 0); bad == nil {
		return absent, nil
	}
	// ".5" and "+1" are numbers, though not in JSON.
	if v, err := strconv.ParseFloat(string(cell), 64); err == nil && finite(v) {
		return f.setJSON(fd, appendFloat(nil, v), 0)
	}
	return false, badValue(fd, appendString(nil, string(cell)), 0, nil)
}

// csvWriter writes a line of column names before the first record, and a row
// for each.
type csvWriter struct {
	table *table
	w     io.Writer
	buf   []byte
	rest  []byte
	begun bool
}

func newCSVWriter(w io.Writer) Writer {
	return &csvWriter{table: newTable(), w: w}
}

func (e *csvWriter) Write(r record.Record) error {
	fm, fields, err := e.table.forms.load(r)
	if err != nil {
		return err
	}
	if e.rest, err = e.table.appendRest(e.rest[:0], fm, fields); err != nil {
		return err
	}
	b := e.buf
	if !e.begun {
		b = append(b, "record"...)
		for _, c := range e.table.columns {
			b = append(append(b, ','), c.name...)
		}
		b = append(b, ",json\n"...)
		e.begun = true
	}
	b = append(b, fm.kind...)
	for _, i := range e.table.layouts[fm.id].field {
		b = append(b, ',')
		if i >= 0 {
			b = appendCell(b, &fm.fields[i])
		}
	}
	b = append(b, ',')
	if len(e.rest) > 0 {
		b = appendText(b, e.rest)
	}
	e.buf = append(b, '\n')
	if len(e.buf) >= flushSize {
		return e.Flush()
	}
	return nil
}

func appendCell(b []byte, fd *field) []byte {
	b, ok := appendNumber(b, "", fd)
	if ok {
		return b
	}
	switch p := fd.ptr.(type) {
	case *string:
		b = appendText(b, []byte(*p))
	case *[]int:
		for i, v := range *p {
			if i > 0 {
				b = append(b, ' ')
			}
			b = strconv.AppendInt(b, int64(v), 10)
		}
	}
	return b
}

// appendText writes a cell, in quotes if it needs them.
func appendText(b, cell []byte) []byte {
	if !bytes.ContainsAny(cell, "\",\r\n") {
		return append(b, cell...)
	}
	b = append(b, '"')
	for _, c := range cell {
		if c == '"' {
			b = append(b, '"')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

func (e *csvWriter) Flush() error {
	b := e.buf
	e.buf = b[:0]
	if len(b) == 0 {
		return nil
	}
	_, err := e.w.Write(b)
	return err
}

func (e *csvWriter) Close() error { return e.Flush() }
