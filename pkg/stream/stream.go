// Package stream reads and writes streams of records: NDJSON, Arrow IPC and
// CSV, each plain, gzip (reading) or zstd, in constant memory.
//
// A stream is recognised by its first bytes. A line that cannot be read comes
// out as a *[record.SyntaxError] among the records; an I/O failure is the
// reader's Err. A stream that began with a header and ended without its end
// record was cut: what it had is handed on, and Err is a *[TruncatedError].
// Several streams one after another in one file are read as one.
package stream

import (
	"fmt"
	"io"

	"joulepipe/pkg/record"
)

// Reader hands on the records of a stream, in the manner of bufio.Scanner.
type Reader interface {
	// Scan goes on to the next record. It is false at the end and on an I/O
	// failure.
	Scan() bool
	// Record is the current record. It and all it points to belong to the
	// reader and are valid until the next Scan; copy what you keep.
	Record() record.Record
	// Err is nil after a clean end, a *TruncatedError after a cut stream, or
	// what reading failed with.
	Err() error
}

// Writer takes records. It buffers; nothing is sure to be out before Close
// (or Flush, for a live reader).
type Writer interface {
	Write(record.Record) error
	Flush() error // hand on what is buffered; compressed streams end a block
	Close() error // flush and write the encoding's trailer; the io.Writer stays open
}

// Format is an encoding of a stream.
type Format string

// The encodings.
const (
	NDJSON Format = "ndjson"
	Arrow  Format = "arrow"
	CSV    Format = "csv"
)

// Compression of what is written.
type Compression string

// The compressions.
const (
	None Compression = "none"
	Zstd Compression = "zstd"
)

// TruncatedError says that a stream was cut.
type TruncatedError struct {
	File string
	Line int64  // last line or row read
	Why  string // "no end record", "unexpected EOF in gzip", …
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("%s: cut short after line %d: %s", e.File, e.Line, e.Why)
}

// ParseFormat is the Format of that name.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case NDJSON, Arrow, CSV:
		return f, nil
	}
	return "", fmt.Errorf("unknown format %q (ndjson, arrow or csv)", s)
}

// ParseCompression is the Compression of that name.
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(s); c {
	case None, Zstd:
		return c, nil
	}
	return "", fmt.Errorf("unknown compression %q (none or zstd)", s)
}

// NewReader reads the stream in r, whatever its encoding. name stands in
// errors. If r's first bytes are of no known stream the first Scan is false
// and Err says so.
func NewReader(r io.Reader, name string) Batcher { return newReader(r, name) }

// NewWriter writes a stream to w.
func NewWriter(w io.Writer, f Format, c Compression) (Writer, error) { return newWriter(w, f, c) }

// Merge reads several streams as one, ordered by time; records of equal time,
// and those without one, keep the order of their streams. Each input must be
// in order itself for the outcome to be.
func Merge(readers ...Reader) Batcher { return newMerge(readers) }
