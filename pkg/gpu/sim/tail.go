package sim

import (
	"bytes"
	"errors"
	"io"
)

// maxLine is the longest line of a load file, in bytes.
const maxLine = 1 << 20

// tail reads what is appended to a file, line by line. A last line without its
// end is waited for.
type tail struct {
	file io.ReaderAt
	name string
	at   int64  // offset up to which the file was read
	line int64  // lines taken
	rest []byte // what was read after the last end of a line
	buf  []byte
	err  error // the first; nothing is read after it
}

func newTail(file io.ReaderAt, name string) *tail {
	return &tail{file: file, name: name, buf: make([]byte, 64<<10)}
}

// lines hands on the lines that are new, without their ends. It fails with the
// file's error, or with take's as a *record.SyntaxError, and goes on failing.
func (t *tail) lines(take func(line []byte) error) error {
	for t.err == nil {
		n, err := t.file.ReadAt(t.buf, t.at)
		t.at += int64(n)
		t.rest = append(t.rest, t.buf[:n]...)
		used := 0
		for t.err == nil {
			end := bytes.IndexByte(t.rest[used:], '\n')
			if end < 0 {
				break
			}
			line := bytes.TrimSpace(t.rest[used : used+end])
			used += end + 1
			t.line++
			if len(line) == 0 {
				continue
			}
			if err := take(line); err != nil {
				t.err = malformed(t.name, t.line, err)
			}
		}
		t.rest = t.rest[:copy(t.rest, t.rest[used:])]
		switch {
		case t.err != nil:
		case len(t.rest) > maxLine:
			t.err = malformed(t.name, t.line+1, errors.New("the line does not end"))
		case err == io.EOF:
			return nil
		case err != nil:
			t.err = err
		}
	}
	return t.err
}
