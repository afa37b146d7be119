package stream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"joulepipe/pkg/record"
)

// zstdWindow bounds the memory that a zstd stream can make its reader take.
// Level 19 asks for 8 MiB; only --long and --ultra ask for more.
const zstdWindow = 128 << 20

// decompress is what is inside of in, one layer deep, or in itself.
func decompress(in *bufio.Reader) (*bufio.Reader, error) {
	b, err := in.Peek(1)
	if err != nil {
		return nil, err
	}
	var inner io.Reader
	switch b[0] {
	case magicGzip[0]:
		if b, _ := in.Peek(len(magicGzip)); !bytes.Equal(b, magicGzip) {
			return in, nil
		}
		inner = &unpacker{name: "gzip", open: func() (io.ReadCloser, error) {
			r, err := gzip.NewReader(in)
			if err != nil {
				return nil, err
			}
			return r, nil
		}}
	case magicZstd[0]:
		if b, _ := in.Peek(len(magicZstd)); !bytes.Equal(b, magicZstd) {
			return in, nil
		}
		inner = &unpacker{name: "zstd", open: func() (io.ReadCloser, error) {
			r, err := zstd.NewReader(in,
				zstd.WithDecoderConcurrency(1),
				zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(zstdWindow))
			if err != nil {
				return nil, err
			}
			return r.IOReadCloser(), nil
		}}
	default:
		return in, nil
	}
	out := bufio.NewReaderSize(inner, 64<<10)
	b, err = out.Peek(len(magicZstd))
	if bytes.Equal(b, magicZstd) || bytes.HasPrefix(b, magicGzip) {
		return nil, &record.SyntaxError{Line: 1, Msg: "compressed twice", Hint: "unpack it once"}
	}
	if len(b) == 0 {
		return nil, err
	}
	return out, nil
}

// unpacker decompresses, tells a cut input from a corrupt one, and releases the
// decompressor when it is done.
type unpacker struct {
	name string
	open func() (io.ReadCloser, error)
	r    io.ReadCloser
	err  error
}

func (u *unpacker) Read(p []byte) (n int, err error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.r == nil {
		u.r, err = u.open()
	}
	if err == nil {
		n, err = u.r.Read(p)
	}
	if err == nil {
		return n, nil
	}
	if u.r != nil {
		u.r.Close()
	}
	switch {
	case err == io.EOF:
		u.err = io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		u.err = cutError("unexpected EOF in " + u.name)
	default:
		u.err = fmt.Errorf("%s: %w", u.name, err)
	}
	return n, u.err
}

// compressed is a writer into a compressor.
type compressed struct {
	Writer
	zstd *zstd.Encoder
}

func (c *compressed) Flush() error {
	if err := c.Writer.Flush(); err != nil {
		return err
	}
	return c.zstd.Flush()
}

func (c *compressed) Close() error {
	return errors.Join(c.Writer.Close(), c.zstd.Close())
}
