package stream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// arrowMeta bounds the metadata of a message: some hundred bytes a column.
const arrowMeta = 16 << 20

// arrowMessages cuts an IPC stream into its messages. The library's own reader
// believes every length it finds, and takes a stream that ends inside a message
// for one that ends.
type arrowMessages struct {
	in   *bufio.Reader
	meta []byte // of the message whose body is next, nil: not read
	err  error  // what there was instead
	body []byte
}

func (m *arrowMessages) Retain()  {}
func (m *arrowMessages) Release() {}

// Message is the next message, io.EOF at the end of the stream, or a cutError.
func (m *arrowMessages) Message() (*ipc.Message, error) {
	meta, size, err := m.peek()
	if err != nil {
		return nil, err
	}
	m.meta = nil
	if m.body, err = m.read(m.body, size); err != nil {
		return nil, err
	}
	return ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(m.body)), nil
}

// peek is the metadata of the next message, and the size of its body.
func (m *arrowMessages) peek() (meta []byte, size int, err error) {
	if m.meta == nil && m.err == nil {
		m.meta, m.err = m.begin()
	}
	if m.err != nil {
		return nil, 0, m.err
	}
	n := ipc.NewMessage(memory.NewBufferBytes(m.meta), memory.NewBufferBytes(nil)).BodyLen()
	if n < 0 || n > arrowLimit {
		return nil, 0, fmt.Errorf("message of %d bytes", n)
	}
	return m.meta, int(n), nil
}

// begin reads the metadata of a message.
func (m *arrowMessages) begin() ([]byte, error) {
	var prefix [8]byte
	if n, err := io.ReadFull(m.in, prefix[:]); err != nil {
		if n == 0 && err == io.EOF {
			return nil, io.EOF
		}
		return nil, cutInside(err)
	}
	if binary.LittleEndian.Uint32(prefix[:]) != 0xffffffff {
		return nil, errors.New("no message where one should begin")
	}
	n := binary.LittleEndian.Uint32(prefix[4:])
	if n == 0 {
		return nil, io.EOF
	}
	if n > arrowMeta {
		return nil, fmt.Errorf("message with %d bytes of metadata", n)
	}
	meta, err := m.read(nil, int(n))
	if err != nil {
		return nil, err
	}
	if err := flatbuffer(meta).check(); err != nil {
		return nil, err
	}
	return meta, nil
}

// read reads n bytes into b, which grows with what comes, not with what was
// promised.
func (m *arrowMessages) read(b []byte, n int) ([]byte, error) {
	b = b[:0]
	for len(b) < n {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, min(n, max(2*len(b), 1<<20))), b...)
		}
		k, err := io.ReadFull(m.in, b[len(b):min(n, cap(b))])
		if b = b[:len(b)+k]; err != nil {
			return b, cutInside(err)
		}
	}
	return b, nil
}

// cutInside is the error for an input that ends inside a message.
func cutInside(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return cutError("unexpected EOF in an Arrow message")
	}
	return err
}

// flatbuffer is the metadata of a message in the FlatBuffers encoding. Positions
// that lead out of it panic, as those in the library do; the reader recovers.
type flatbuffer []byte

func (b flatbuffer) u16(p int) int { return int(binary.LittleEndian.Uint16(b[p:])) }
func (b flatbuffer) u32(p int) int { return int(binary.LittleEndian.Uint32(b[p:])) }
func (b flatbuffer) i64(p int) int { return int(int64(binary.LittleEndian.Uint64(b[p:]))) }

// slot is where the n-th field of the table at p stands, 0 if it is absent.
func (b flatbuffer) slot(p, n int) int {
	vtable := p - int(int32(b.u32(p)))
	if 4+2*n >= b.u16(vtable) {
		return 0
	}
	if at := b.u16(vtable + 4 + 2*n); at != 0 {
		return p + at
	}
	return 0
}

// vector is where the first element of the vector in the n-th field of the
// table at p stands, and how many there are.
func (b flatbuffer) vector(p, n int) (at, count int, err error) {
	if at = b.slot(p, n); at == 0 {
		return 0, 0, nil
	}
	at += b.u32(at)
	count = b.u32(at)
	if at += 4; count > (len(b)-at)/4 {
		return 0, 0, fmt.Errorf("list of %d entries in %d bytes", count, len(b))
	}
	return at, count, nil
}

// check looks at those lengths in a schema by which the library allocates, and
// at its depth, to which the library recurses.
func (b flatbuffer) check() error {
	const headerType, header, schema = 1, 2, 1
	message := b.u32(0)
	typ, at := b.slot(message, headerType), b.slot(message, header)
	if typ == 0 || at == 0 {
		return errors.New("message without a header")
	}
	if b[typ] != schema {
		return nil
	}
	const fields, metadata = 1, 2
	budget := 1 << 16
	table := at + b.u32(at)
	if _, _, err := b.vector(table, metadata); err != nil {
		return err
	}
	return b.checkFields(table, fields, 16, &budget)
}

// checkFields goes through the fields in the n-th field of the table at p, and
// those inside them.
func (b flatbuffer) checkFields(p, n, depth int, budget *int) error {
	const children, metadata = 5, 6
	at, count, err := b.vector(p, n)
	if err != nil {
		return err
	}
	if *budget -= count; *budget < 0 || depth == 0 && count > 0 {
		return errors.New("schema with too many columns")
	}
	for i := range count {
		field := at + 4*i
		field += b.u32(field)
		if _, _, err := b.vector(field, metadata); err != nil {
			return err
		}
		if err := b.checkFields(field, children, depth-1, budget); err != nil {
			return err
		}
	}
	return nil
}
