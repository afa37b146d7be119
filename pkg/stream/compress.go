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
			m := &members{in: in, r: new(gzip.Reader)}
			if err := m.begin(); err != nil {
				return nil, err
			}
			return m, nil
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

// members reads a gzip file, which is members one after the other. A header may be cut
// where the decompressor takes the end for that of the file: in the name.
type members struct {
	in *bufio.Reader
	r  *gzip.Reader
}

// begin goes on to the next member, of which there is something.
func (m *members) begin() error {
	err := m.r.Reset(m.in)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	m.r.Multistream(false)
	return err
}

func (m *members) Read(p []byte) (n int, err error) {
	for {
		if n, err = m.r.Read(p); err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // it says so again
		}
		if _, err = m.in.Peek(1); err == nil {
			err = m.begin()
		}
		if err != nil {
			return 0, err
		}
	}
}

func (m *members) Close() error { return m.r.Close() }

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
