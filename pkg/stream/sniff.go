package stream

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"

	"joulepipe/pkg/record"
)

// Magic numbers of what a stream can begin with.
var (
	magicArrow = []byte{0xff, 0xff, 0xff, 0xff}
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicGzip  = []byte{0x1f, 0x8b}
	byteOrder  = []byte{0xef, 0xbb, 0xbf} // a byte order mark in UTF-8
)

// strangers are files that look like a stream to their owner and are none.
var strangers = []struct{ magic, what, hint string }{
	{"ARROW1", "an Arrow file (Feather)", "write it as an Arrow IPC stream"},
	{"PAR1", "a Parquet file", "convert it to an Arrow IPC stream, CSV or NDJSON"},
	{"[", "a JSON array", "write one JSON object a line (jq -c '.[]')"},
	{"BZh", "compressed with bzip2", "use zstd or gzip"},
	{"\xfd7zXZ", "compressed with xz", "use zstd or gzip"},
	{"\xff\xfe", "text in UTF-16", "write it in UTF-8"},
	{"PK\x03\x04", "a zip archive", "use zstd or gzip"},
}

// sniffSize is how far blank space is passed over in search of a first byte.
const sniffSize = 4 << 10

// encoding makes the readers of one Format.
type encoding struct {
	decoder func(*bufio.Reader) decoder
	batches func(in *bufio.Reader, from file) batches
}

var (
	ndjsonEncoding = &encoding{
		func(in *bufio.Reader) decoder { return newNDJSONReader(in) },
		func(in *bufio.Reader, _ file) batches { return newBlocks(in) },
	}
	arrowEncoding = &encoding{
		func(in *bufio.Reader) decoder { return newArrowReader(in) },
		func(in *bufio.Reader, from file) batches { return newArrowBatches(in, from) },
	}
	csvEncoding = &encoding{
		func(in *bufio.Reader) decoder { return newCSVReader(in) },
		func(in *bufio.Reader, _ file) batches { return newCSVBatches(in) },
	}
)

// file is what an [os.File] has beyond a reader: places in it.
type file interface {
	io.Seeker
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// open finds out what r begins with. in is what is to be read; from is the file
// that it comes from as it is, nil where there is none.
func open(r io.Reader) (in *bufio.Reader, from file, enc *encoding, err error) {
	plain := bufio.NewReaderSize(r, 64<<10)
	if in, err = decompress(plain); err != nil {
		return nil, nil, nil, err
	}
	if f, ok := r.(file); ok && in == plain {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			from = f
		}
	}
	enc, err = sniff(in)
	return in, from, enc, err
}

// sniff finds out what encoding a stream is in.
func sniff(in *bufio.Reader) (*encoding, error) {
	if b, _ := in.Peek(len(byteOrder)); bytes.Equal(b, byteOrder) {
		if _, err := in.Discard(len(b)); err != nil {
			return nil, err
		}
	}
	// Peek no further than is needed: a live stream may have no more yet.
	first, at := byte(0), 0
	for ; at < sniffSize; at++ {
		b, err := in.Peek(at + 1)
		if len(b) <= at {
			return nil, err
		}
		if first = b[at]; skipSpace(b, at) == at {
			break
		}
	}
	if first == magicArrow[0] {
		if b, _ := in.Peek(len(magicArrow)); bytes.Equal(b, magicArrow) {
			return arrowEncoding, nil
		}
	}
	if first == '{' || at == sniffSize {
		return ndjsonEncoding, nil
	}
	for _, s := range strangers {
		if s.magic[0] != first {
			continue
		}
		if b, _ := in.Peek(at + len(s.magic)); bytes.HasSuffix(b, []byte(s.magic)) {
			return nil, &record.SyntaxError{Line: 1, Msg: "this is " + s.what + ", not a stream", Hint: s.hint}
		}
	}
	if (first < ' ' || first >= 0x7f) && first < 0xc0 {
		b, _ := in.Peek(min(in.Buffered(), at+8))
		return nil, &record.SyntaxError{
			Line: 1,
			Msg:  fmt.Sprintf("not a stream: begins with %q", b[at:]),
			Hint: "NDJSON, CSV with column names, or an Arrow IPC stream, plain or compressed with zstd or gzip",
		}
	}
	return csvEncoding, nil
}
