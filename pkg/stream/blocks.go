package stream

import (
	"bytes"
	"io"
	"runtime"
	"sync"

	"joulepipe/pkg/record"
)

// blocks cuts NDJSON into blocks of whole lines and reads several at a time,
// each into a batch. The batches come out in the order of the input.
type blocks struct {
	order chan *block // as they were cut
	free  chan *block
	quit  chan struct{}
	once  sync.Once

	cutting sync.Mutex
	r       io.Reader
	carry   []byte // the beginning of the next block's first line
	ended   bool
	limit   int

	now   *block
	lines int64
	err   error
}

// block is a part of the input. It holds whole lines, but for what the input
// ends with.
type block struct {
	buf     []byte // n bytes of the block, and slack
	n       int
	tooLong bool  // in its place there was a line that is too long
	err     error // what comes after it
	lines   int64
	batch   filling
	done    chan struct{}
}

const (
	blockSize   = 256 << 10
	mostReaders = 4
)

func newBlocks(r io.Reader) batches {
	readers := min(runtime.GOMAXPROCS(0), mostReaders)
	n := readers + 2
	s := &blocks{r: r, limit: maxLine, order: make(chan *block, n), free: make(chan *block, n), quit: make(chan struct{})}
	for range n {
		s.free <- &block{done: make(chan struct{}, 1)}
	}
	for range readers {
		go s.work()
	}
	return s
}

// work reads blocks until the input ends.
func (s *blocks) work() {
	var o *lineParser
	for {
		var b *block
		select {
		case <-s.quit:
			return
		case b = <-s.free:
		}
		s.cutting.Lock()
		if s.ended {
			s.cutting.Unlock()
			return
		}
		s.cut(b)
		s.ended = b.err != nil
		s.order <- b // has room for all
		s.cutting.Unlock()
		if o == nil {
			o = &lineParser{objects: newObjects(), shapes: newPlains(), events: newPlains()}
		}
		o.parse(b)
		b.done <- struct{}{}
	}
}

// cut fills the block with what comes next.
func (s *blocks) cut(b *block) {
	if b.buf == nil {
		b.buf = make([]byte, blockSize+slack)
	}
	for len(b.buf) < len(s.carry)+2*slack {
		b.buf = make([]byte, 2*len(b.buf))
	}
	b.n, b.tooLong, b.err = copy(b.buf, s.carry), false, nil
	s.carry = s.carry[:0]
	for idle := 0; ; {
		room := b.buf[b.n : len(b.buf)-slack]
		n, err := s.r.Read(room)
		b.n += n
		if idle++; n > 0 {
			idle = 0
		}
		if err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		last := bytes.LastIndexByte(room[:n], '\n')
		if b.tooLong {
			// Only the line's end is of interest.
			if first := bytes.IndexByte(room[:n], '\n'); first >= 0 {
				s.carry = append(s.carry, room[first+1:n]...)
				b.n, b.err = 0, err
				if err != nil {
					s.again(b)
				}
				return
			}
			if b.n = 0; err != nil {
				b.err = err
				return
			}
			continue
		}
		switch {
		case err != nil:
			b.err = err
			return
		case last >= 0:
			s.carry = append(s.carry, room[last+1:n]...)
			b.n -= n - last - 1
			return
		case b.n >= s.limit:
			b.tooLong, b.n = true, 0
		case b.n == len(b.buf)-slack:
			grown := make([]byte, min(2*len(b.buf), s.limit+1+slack))
			copy(grown, b.buf[:b.n])
			b.buf = grown
		}
	}
}

// again lets what was carried over come before the input's end.
func (s *blocks) again(b *block) {
	s.r, b.err = failing{b.err}, nil
}

// failing is an input at its end.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (s *blocks) next() (*Batch, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.now != nil {
		s.free <- s.now
	}
	b := <-s.order
	<-b.done
	s.now = b
	for i, rec := range b.batch.Others {
		b.batch.lines[i] += s.lines
		if bad, ok := rec.(*record.SyntaxError); ok {
			bad.Line += s.lines
		}
	}
	s.lines += b.lines
	if s.err = b.err; s.err != nil {
		s.stop()
		if len(b.batch.Runs) == 0 {
			return nil, s.err
		}
	}
	return b.batch.end(), nil
}

func (s *blocks) line() int64 { return s.lines }

func (s *blocks) stop() { s.once.Do(func() { close(s.quit) }) }

// lineParser reads blocks.
type lineParser struct {
	objects
	shapes plains
	events plains // theirs
}

// parse reads a block's lines into its batch.
func (o *lineParser) parse(b *block) {
	to := &b.batch
	to.begin()
	b.lines = 0
	if b.tooLong {
		b.lines = 1
		to.add(&record.SyntaxError{Line: 1, Msg: errLineTooLong.Error()}, 1)
		if b.n == 0 {
			return
		}
	}
	clear(b.buf[b.n : b.n+slack])
	data := b.buf[:b.n+slack]
	for p := 0; p < b.n; {
		q, n := o.shapes.read(data, p, b.n, to)
		if n == 0 {
			q, n = o.events.read(data, p, b.n, to)
		}
		if p = q; n > 0 {
			b.lines += n
			continue
		}
		whole := true
		q = bytes.IndexByte(data[p:b.n], '\n')
		if q++; q == 0 {
			q, whole = b.n-p, false
		}
		raw := data[p : p+q]
		line := chomp(bytes.TrimSuffix(raw, []byte("\n")))
		p += q
		b.lines++
		rec, bad := o.read(line)
		switch {
		case bad != nil:
			to.add(bad.at(b.lines), b.lines)
			if !whole && b.err == io.EOF {
				b.err = cutError(incompleteLine)
			}
		case rec != nil:
			to.add(rec, b.lines)
			if whole {
				o.learn(rec, line, string(raw[len(line):]))
			}
		}
	}
}

// learn takes the shape of a line that had none of those known.
func (o *lineParser) learn(rec record.Record, line []byte, end string) {
	_, event := rec.(*record.Event)
	shapes := &o.shapes
	if event {
		shapes = &o.events
	}
	if !event && !inColumns(rec) || !shapes.pay() {
		return
	}
	pairs, bad := appendPairs(o.forms.pairs[:0], line)
	o.forms.pairs = pairs
	switch {
	case bad != nil:
	case event:
		shapes.keep(newPlainEvent(o.forms, line, pairs, end))
	default:
		shapes.keep(newPlain(o.forms.of[rec.Kind()], line, pairs, end))
	}
}
