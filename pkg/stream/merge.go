package stream

import (
	"errors"
	"math"

	"joulepipe/pkg/record"
)

// merge reads several streams as one. It holds one record of each: the reader
// that a record came from goes on only when the next is asked for.
type merge struct {
	heads []head // of the streams that go on, in the order they were given
	given int    // index of the head that was handed on; negative at first
	errs  []error
	fill  filling
	now   *Batch
}

// head is the front of one stream.
type head struct {
	r    Reader
	when int64 // orders the record; of those without a time, that of the one before
}

func newMerge(readers []Reader) Batcher {
	if len(readers) == 1 {
		if r, ok := readers[0].(Batcher); ok {
			return r
		}
	}
	m := &merge{given: -1}
	for _, r := range readers {
		m.heads = append(m.heads, head{r, math.MinInt64})
	}
	return m
}

func (m *merge) Scan() bool {
	if m.given >= 0 {
		m.advance(m.given)
	} else {
		for i := len(m.heads) - 1; i >= 0; i-- {
			m.advance(i)
		}
	}
	m.given = 0
	for i := range m.heads {
		if m.heads[i].when < m.heads[m.given].when {
			m.given = i
		}
	}
	return len(m.heads) > 0
}

// advance goes on in one stream, and leaves it out when it has ended.
func (m *merge) advance(i int) {
	if i >= len(m.heads) {
		return
	}
	h := &m.heads[i]
	if h.r.Scan() {
		if t, ok := h.r.Record().When(); ok {
			h.when = t
		}
		return
	}
	if err := h.r.Err(); err != nil {
		m.errs = append(m.errs, err)
	}
	m.heads = append(m.heads[:i], m.heads[i+1:]...)
}

func (m *merge) Record() record.Record {
	if len(m.heads) == 0 {
		return nil
	}
	return m.heads[m.given].r.Record()
}

func (m *merge) Err() error { return errors.Join(m.errs...) }

// ScanBatch goes on by one record: what the others of the streams have next is
// not known before it is asked for.
func (m *merge) ScanBatch() bool {
	m.now = nil
	if !m.Scan() {
		return false
	}
	m.fill.begin()
	m.fill.add(m.Record(), 0)
	m.now = m.fill.end()
	return true
}

func (m *merge) Batch() *Batch { return m.now }

func (m *merge) Stop() {
	for _, h := range m.heads {
		if r, ok := h.r.(Batcher); ok {
			r.Stop()
		}
	}
}
