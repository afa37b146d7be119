package stream

import "slices"

// shape is how the members of an object stood in its line: the text between
// their values, byte for byte. Other programs' lines are not canonical, but
// what one program writes differs from line to line in the values alone.
type shape struct {
	form   *form // nil: none is known
	line   []byte
	slots  []slot
	tail   int // where the text after the last value begins
	filled uint64
}

// slot is a value's place: the text before it in the shape's line, and its field.
type slot struct{ from, to, field int }

// learn takes the shape of a line that was parsed into pairs. There is none
// where a member is no field: what it is worth only parse knows.
func (s *shape) learn(fm *form, line []byte, pairs []pair) {
	*s = shape{line: s.line, slots: s.slots[:0]}
	for i := range pairs {
		p := &pairs[i]
		if string(p.name) == "record" {
			continue // its value counts as text: it does not change
		}
		if p.field < 0 {
			return
		}
		s.slots = append(s.slots, slot{s.tail, p.offset, p.field})
		s.tail = p.offset + len(p.raw)
		s.filled |= 1 << p.field
	}
	s.form, s.line = fm, append(s.line[:0], line...)
}

// read fills in the form from a line of this shape. It is not ok for any other
// line, right or wrong.
func (s *shape) read(f *forms, line []byte) (*form, bool) {
	fm := s.form
	if fm == nil {
		return nil, false
	}
	if fm.filled != s { // else the same fields are written over, and there were no others
		fm.clear()
		fm.filled = s
	}
	p := 0
	for i := range s.slots {
		at := &s.slots[i]
		text := s.line[at.from:at.to]
		if !hasPrefix(line, p, text) {
			return nil, false
		}
		if p = f.scan(&fm.fields[at.field], line, p+len(text)); p < 0 {
			return nil, false
		}
	}
	return fm, slices.Equal(line[p:], s.line[s.tail:]) && f.finish(fm, s.filled) == nil
}
