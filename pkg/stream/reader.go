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
	open bool // a header waits for its end
	cut  *TruncatedError
	err  error
	done bool
}

func newReader(r io.Reader, name string) Reader {
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
		dec, err := open(r.src)
		if err != nil {
			return r.stop(err)
		}
		r.dec = dec
	}
	rec, err := r.dec.next()
	if err != nil {
		return r.stop(err)
	}
	switch rec := rec.(type) {
	case *record.Header:
		if r.open {
			r.truncated("a new header before the end record")
		}
		r.open = true
	case *record.End:
		r.open = false
	case *record.SyntaxError:
		rec.File = r.name
	}
	r.rec = rec
	return true
}

// stop settles what the stream ended with.
func (r *reader) stop(err error) bool {
	r.done = true
	var (
		cut    cutError
		syntax *record.SyntaxError
	)
	switch {
	case err == io.EOF:
		if r.open {
			r.truncated("no end record")
		}
	case errors.As(err, &cut):
		r.truncated(string(cut))
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
func (r *reader) truncated(why string) {
	if r.cut != nil {
		return
	}
	r.cut = &TruncatedError{File: r.name, Why: why}
	if r.dec != nil {
		r.cut.Line = r.dec.line()
	}
}
