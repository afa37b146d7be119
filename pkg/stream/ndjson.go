package stream

import (
	"bytes"
	"io"

	"joulepipe/pkg/record"
)

// ndjsonReader reads one JSON object a line.
type ndjsonReader struct {
	objects
	lines *lines
}

func newNDJSONReader(r io.Reader) decoder {
	return &ndjsonReader{objects: newObjects(), lines: newLines(r)}
}

// objects reads lines that are a JSON object each.
type objects struct {
	forms *forms
	last  *form // of the line before: the next is likely of its kind
	shape shape // of the last line that was not canonical
}

func newObjects() objects {
	f := newForms()
	return objects{forms: f, last: f.of[record.KindSample]}
}

// read reads a line. The record is nil for a blank line and for a kind that is
// not known.
func (d *objects) read(line []byte) (record.Record, *fault) {
	if len(line) == 0 || skipSpace(line, 0) == len(line) {
		return nil, nil
	}
	if fm, ok := d.canonical(line); ok {
		return fm.rec, nil
	}
	if fm, ok := d.shape.read(d.forms, line); ok {
		return fm.rec, nil
	}
	fm, bad := d.forms.parse(line)
	if fm == nil || bad != nil {
		return nil, bad
	}
	d.shape.learn(fm, line, d.forms.pairs)
	return fm.rec, nil
}

func (d *ndjsonReader) line() int64 { return d.lines.count }

func (d *ndjsonReader) next() (record.Record, error) {
	for {
		line, err := d.lines.next()
		if err == errLineTooLong {
			return &record.SyntaxError{Line: d.lines.count, Msg: err.Error()}, nil
		}
		if err != nil {
			return nil, err
		}
		rec, bad := d.read(line)
		if bad != nil {
			if !d.lines.whole() {
				d.lines.cut(incompleteLine)
			}
			return bad.at(d.lines.count), nil
		}
		if rec != nil {
			return rec, nil
		}
	}
}

const incompleteLine = "the last line is incomplete"

// at is the fault as a record.
func (f *fault) at(line int64) *record.SyntaxError {
	return &record.SyntaxError{Line: line, Column: f.column, Msg: f.msg, Hint: f.hint}
}

// canonical reads a line that stands as this package writes it: kind first,
// fields in order, no spaces, no escapes, no fields beyond. It is not ok for
// any other line, right or wrong.
func (d *objects) canonical(line []byte) (*form, bool) {
	fm := d.last
	if !hasPrefix(line, 0, fm.open) {
		if fm = d.opening(line); fm == nil {
			return nil, false
		}
		d.last = fm
	}
	fm.clear()
	p := len(fm.open)
	last := len(line) - 1
	var seen uint64
	for i := 0; p < last; {
		j := fm.follow(line, p, i)
		if j < 0 {
			return nil, false
		}
		fd := &fm.fields[j]
		if p = d.forms.scan(fd, line, p+len(fd.key)); p < 0 {
			return nil, false
		}
		seen |= 1 << j
		i = j + 1
	}
	if p != last || line[p] != '}' || seen&fm.energy != 0 && seen&fm.marks == 0 {
		return nil, false
	}
	return fm, d.forms.finish(fm, seen) == nil
}

// follow is the field whose key stands at line[p:], from the i-th on; negative
// if there is none. The one that stood there in the line before is tried first.
func (fm *form) follow(line []byte, p, i int) int {
	if i == len(fm.fields) {
		return -1
	}
	if j := fm.next[i]; hasPrefix(line, p, fm.fields[j].key) {
		return j
	}
	for j := i; j < len(fm.fields); j++ {
		if hasPrefix(line, p, fm.fields[j].key) {
			fm.next[i] = j
			return j
		}
	}
	return -1
}

// opening is the form that the line begins with, as this package writes it.
func (d *objects) opening(line []byte) *form {
	const start = `{"record":"`
	if !hasPrefix(line, 0, start) {
		return nil
	}
	if n := bytes.IndexByte(line[len(start):], '"'); n >= 0 {
		return d.forms.of[record.Kind(line[len(start):len(start)+n])]
	}
	return nil
}

func hasPrefix[S string | []byte](b []byte, p int, s S) bool {
	return len(b)-p >= len(s) && string(b[p:p+len(s)]) == string(s)
}

// flushSize is how much a text writer gathers before it writes: a file system takes
// as much at a time for two thirds of what it takes for 64 KiB pieces.
const flushSize = 256 << 10

// gathered is room for that, and for the line that is over it.
func gathered() []byte { return make([]byte, 0, flushSize+4<<10) }

// ndjsonWriter writes one JSON object a line.
type ndjsonWriter struct {
	forms *forms
	w     io.Writer
	buf   []byte
}

func newNDJSONWriter(w io.Writer) Writer {
	return &ndjsonWriter{forms: newForms(), w: w, buf: gathered()}
}

func (e *ndjsonWriter) Write(r record.Record) error {
	b, err := e.forms.appendLine(e.buf, r)
	if err != nil {
		return err // and what was written of the record is forgotten
	}
	e.buf = append(b, '\n')
	if len(e.buf) >= flushSize {
		return e.Flush()
	}
	return nil
}

func (e *ndjsonWriter) Flush() error {
	b := e.buf
	e.buf = b[:0]
	if len(b) == 0 {
		return nil
	}
	_, err := e.w.Write(b)
	return err
}

func (e *ndjsonWriter) Close() error { return e.Flush() }
