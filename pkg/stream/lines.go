package stream

import (
	"bytes"
	"errors"
	"io"
)

// maxLine is the longest line that is read. Prompts and answers in events make
// long lines; a binary file mistaken for text makes endless ones.
const maxLine = 64 << 20

var errLineTooLong = errors.New("line longer than 64 MiB")

// lines reads lines of any length up to limit. A line is valid until the next.
type lines struct {
	r     io.Reader
	limit int
	buf   []byte // with slack
	from  int    // the current line is buf[from:to]
	to    int
	end   int   // of what was read
	err   error // what reading ended with
	count int64 // number of the line at to, less one
}

func newLines(r io.Reader) *lines {
	return &lines{r: r, limit: maxLine, buf: make([]byte, 256<<10+slack)}
}

// next goes on to the next line, without its end of line. One that is too long
// is passed over.
func (l *lines) next() ([]byte, error) {
	l.from = l.to
	line, err := l.extend()
	if err == errLineTooLong {
		l.skip()
	}
	return line, err
}

// extend makes the current line longer by the line that follows. On an error
// the line stays as it was.
func (l *lines) extend() ([]byte, error) {
	searched := l.to - l.from
	for {
		if i := bytes.IndexByte(l.buf[l.from+searched:l.end], '\n'); i >= 0 {
			l.to = l.from + searched + i + 1
			l.count++
			return chomp(l.buf[l.from : l.to-1]), nil
		}
		searched = l.end - l.from
		if searched >= l.limit {
			return nil, errLineTooLong
		}
		if l.err != nil {
			if l.to == l.end {
				return nil, l.err
			}
			l.to = l.end
			l.count++
			return chomp(l.buf[l.from:l.to]), nil
		}
		l.fill()
	}
}

// ready says that another line has been read already.
func (l *lines) ready() bool { return bytes.IndexByte(l.buf[l.to:l.end], '\n') >= 0 }

// pass goes on to buf[to:], which is so many lines further on.
func (l *lines) pass(to int, count int64) {
	l.from, l.to = to, to
	l.count += count
}

// whole says whether the current line had its end of line.
func (l *lines) whole() bool { return l.to > l.from && l.buf[l.to-1] == '\n' }

// fill reads more behind the current line, which it keeps.
func (l *lines) fill() {
	if l.from > 0 {
		copy(l.buf, l.buf[l.from:l.end])
		l.to -= l.from
		l.end -= l.from
		l.from = 0
	} else if l.end == len(l.buf)-slack {
		grown := make([]byte, min(2*len(l.buf), l.limit+1+slack))
		copy(grown, l.buf)
		l.buf = grown
	}
	for range 100 {
		n, err := l.r.Read(l.buf[l.end : len(l.buf)-slack])
		l.end += n
		l.err = err
		if n > 0 || err != nil {
			return
		}
	}
	l.err = io.ErrNoProgress
}

// skip drops what there is of a line that is too long, and the rest of it.
func (l *lines) skip() {
	l.count++
	for {
		l.from, l.to, l.end = 0, 0, 0
		if l.err != nil {
			return
		}
		l.fill()
		if i := bytes.IndexByte(l.buf[:l.end], '\n'); i >= 0 {
			l.to = i + 1
			return
		}
	}
}

// back makes the current line as short as its first n bytes again, and count
// the number of its last line.
func (l *lines) back(n int, count int64) []byte {
	l.to = l.from + n
	l.count = count
	return chomp(bytes.TrimSuffix(l.buf[l.from:l.to], []byte("\n")))
}

// cut makes the end of the input, once reached, one that must not be there.
func (l *lines) cut(why string) {
	if l.err == io.EOF {
		l.err = cutError(why)
	}
}

func chomp(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}
