package stream

import (
	"errors"
	"fmt"
	"io"

	"joulepipe/pkg/record"
)

// decoder is what one encoding does for a reader.
type decoder interface {
	// next is the next record, or io.EOF at the end, or a cutError where the
	// input is cut, or what reading failed with. Its SyntaxErrors lack the
	// file's name.
	next() (record.Record, error)
	// line is the number of the last line or row read.
	line() int64
}

// cutError says that the input ends where it must not, and why that is known.
type cutError string

func (e cutError) Error() string { return string(e) }

// reader finds out the encoding, and watches that every header has its end.
type reader struct {
	name string
	src  io.Reader
	dec  decoder
	rec  record.Record
	many batches // instead of dec, once ScanBatch was called
	now  *Batch
	open bool // a header waits for its end
	cut  *TruncatedError
	err  error
	done bool
}

func newReader(r io.Reader, name string) Batcher {
	return &reader{name: name, src: r}
}

func (r *reader) Record() record.Record { return r.rec }

func (r *reader) Err() error { return r.err }

func (r *reader) Scan() bool {
	r.rec = nil
	if r.done {
		return false
	}
	if r.dec == nil {
		in, _, enc, err := open(r.src)
		if err != nil {
			return r.stop(err)
		}
		r.dec = enc.decoder(in)
	}
	rec, err := r.dec.next()
	if err != nil {
		return r.stop(err)
	}
	r.watch(rec, r.dec.line())
	r.rec = rec
	return true
}

func (r *reader) Batch() *Batch { return r.now }

func (r *reader) ScanBatch() bool {
	r.now = nil
	if r.done {
		return false
	}
	if r.many == nil {
		in, from, enc, err := open(r.src)
		if err != nil {
			return r.stop(err)
		}
		r.many = enc.batches(in, from)
	}
	b, err := r.many.next()
	if err != nil {
		return r.stop(err)
	}
	for i, rec := range b.Others {
		r.watch(rec, b.lines[i])
	}
	r.now = b
	return true
}

func (r *reader) Stop() {
	r.done = true
	if r.many != nil {
		r.many.stop()
	}
}

// watch notes what a record says of the stream.
func (r *reader) watch(rec record.Record, line int64) {
	switch rec := rec.(type) {
	case *record.Header:
		if r.open {
			r.truncated("a new header before the end record", line)
		}
		r.open = true
	case *record.End:
		r.open = false
	case *record.SyntaxError:
		rec.File = r.name
	}
}

// stop settles what the stream ended with.
func (r *reader) stop(err error) bool {
	r.done = true
	line := int64(0)
	switch {
	case r.dec != nil:
		line = r.dec.line()
	case r.many != nil:
		line = r.many.line()
	}
	var (
		cut    cutError
		syntax *record.SyntaxError
	)
	switch {
	case err == io.EOF:
		if r.open {
			r.truncated("no end record", line)
		}
	case errors.As(err, &cut):
		r.truncated(string(cut), line)
	case errors.As(err, &syntax):
		syntax.File = r.name
		r.err = syntax
		return false
	default:
		r.err = fmt.Errorf("%s: %w", r.name, err)
		return false
	}
	if r.cut != nil {
		r.err = r.cut
	}
	return false
}

// truncated keeps the first reason why the stream is not whole.
func (r *reader) truncated(why string, line int64) {
	if r.cut == nil {
		r.cut = &TruncatedError{File: r.name, Line: line, Why: why}
	}
}
