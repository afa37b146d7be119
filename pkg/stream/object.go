package stream

import (
	"encoding/json"
	"errors"
	"slices"

	"joulepipe/pkg/record"
)

// parse reads any object into the form of its kind. That is nil for a kind that
// is not known: more may come.
func (f *forms) parse(line []byte) (*form, *fault) {
	pairs, bad := appendPairs(f.pairs[:0], line)
	if bad != nil {
		return nil, bad
	}
	f.pairs = pairs
	fm, bad := f.formOf(pairs)
	if fm == nil || bad != nil {
		return nil, bad
	}
	fm.clear()
	seen, bad := f.fill(fm, pairs)
	if bad == nil {
		bad = f.finish(fm, seen)
	}
	return fm, bad
}

// formOf is the form for an object, by its member record or else by its fields.
// It is nil for a kind that is not known.
func (f *forms) formOf(pairs []pair) (*form, *fault) {
	find := func(name string) int {
		return slices.IndexFunc(pairs, func(p pair) bool { return string(p.name) == name })
	}
	if i := find("record"); i >= 0 {
		p := &pairs[i]
		if s, q := scanString(p.raw, 0); q == len(p.raw) {
			return f.of[record.Kind(s)], nil
		}
		var kind record.Kind
		if json.Unmarshal(p.raw, &kind) != nil {
			return nil, &fault{column: p.offset + 1, msg: "record is not the name of a kind"}
		}
		return f.of[kind], nil
	}
	kind := guess(func(name string) bool { return find(name) >= 0 })
	if kind == "" {
		return nil, &fault{
			msg:  "a record of no known kind",
			hint: `name it ("record"), or give it t_start_ns and t_end_ns (an event) or t_ns and power_w (a sample)`,
		}
	}
	return f.of[kind], nil
}

// fillFrom fills in the form from an object.
func (f *forms) fillFrom(fm *form, object []byte) (seen uint64, bad *fault) {
	f.pairs, bad = appendPairs(f.pairs[:0], object)
	if bad != nil {
		return 0, bad
	}
	return f.fill(fm, f.pairs)
}

// fill fills in the form from the members of an object and says which fields it
// found.
func (f *forms) fill(fm *form, pairs []pair) (seen uint64, bad *fault) {
	marks := uint64(0) // of energy among the members
	for i := range pairs {
		if j, ok := fm.index[string(pairs[i].name)]; ok {
			marks |= fm.marks & (1 << j)
		}
	}
	for i := range pairs {
		p := &pairs[i]
		p.field = -1
		name := f.intern(p.name)
		j, ok := fm.index[alias(fm.kind, name)]
		if ok && (fm.energy>>j&1 == 0 || marks != 0) {
			p.field = j
			absent, bad := f.setJSON(&fm.fields[j], p.raw, p.offset)
			if bad != nil {
				return 0, bad
			}
			if !absent {
				seen |= 1 << j
			}
			continue
		}
		if name == "record" {
			continue
		}
		switch string(p.raw) {
		case "NaN", "Infinity", "-Infinity":
			continue
		}
		if !json.Valid(p.raw) {
			return 0, badJSON(p.raw, p.offset)
		}
		if fm.extra != nil {
			*fm.extra = append(*fm.extra, record.Field{Name: name, Value: p.raw})
		}
	}
	return seen, nil
}

// appendLine writes a record as a JSON object.
func (f *forms) appendLine(b []byte, r record.Record) ([]byte, error) {
	fm, fields, err := f.load(r)
	if err != nil {
		return nil, err
	}
	b = append(b, fm.open...)
	for i := range fields {
		fd := &fields[i]
		if fd.ok != nil && !*fd.ok {
			continue // most have no value
		}
		if b, err = appendJSON(b, fd); err != nil {
			return nil, err
		}
	}
	if fm.extra != nil {
		b = appendExtra(b, *fm.extra)
	}
	return append(b, '}'), nil
}

// pair is one member of a JSON object, its value as it stands in the line.
type pair struct {
	name   []byte
	raw    []byte
	offset int // of raw in the line
	field  int // of the form that it fills, negative: none
}

// appendPairs splits a JSON object into its members without judging the values.
func appendPairs(pairs []pair, b []byte) ([]pair, *fault) {
	p := skipSpace(b, 0)
	if p == len(b) || b[p] != '{' {
		return nil, &fault{column: p + 1, msg: "not a JSON object", hint: "a stream has one JSON object a line"}
	}
	for first := true; ; first = false {
		p = skipSpace(b, p+1)
		if first && p < len(b) && b[p] == '}' {
			break
		}
		name, q := scanString(b, p)
		if q < 0 {
			if q = skipValue(b, p); q < 0 || b[p] != '"' {
				return nil, badJSON(b, 0)
			}
			var s string
			if json.Unmarshal(b[p:q], &s) != nil {
				return nil, badJSON(b, 0)
			}
			name = []byte(s)
		}
		if p = skipSpace(b, q); p == len(b) || b[p] != ':' {
			return nil, badJSON(b, 0)
		}
		p = skipSpace(b, p+1)
		if q = skipValue(b, p); q < 0 {
			return nil, badJSON(b, 0)
		}
		pairs = append(pairs, pair{name: name, raw: b[p:q:q], offset: p})
		if p = skipSpace(b, q); p == len(b) || b[p] != ',' && b[p] != '}' {
			return nil, badJSON(b, 0)
		}
		if b[p] == '}' {
			break
		}
	}
	if p = skipSpace(b, p+1); p < len(b) {
		return nil, &fault{column: p + 1, msg: "more after the JSON object", hint: "a stream has one JSON object a line"}
	}
	return pairs, nil
}

func skipSpace(b []byte, p int) int {
	for p < len(b) && (b[p] == ' ' || b[p] == '\t' || b[p] == '\r' || b[p] == '\n') {
		p++
	}
	return p
}

// skipValue is the position after the JSON value at b[p:], found by its
// brackets and quotes alone; negative when it does not end.
func skipValue(b []byte, p int) int {
	depth := 0
	for start := p; p < len(b); p++ {
		switch b[p] {
		case '"':
			for p++; p < len(b) && b[p] != '"'; p++ {
				if b[p] == '\\' {
					p++
				}
			}
			if p >= len(b) {
				return -1
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 {
				if p == start {
					return -1
				}
				return p
			}
			depth--
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				if p == start {
					return -1
				}
				return p
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return p + 1
		}
	}
	return -1
}

// badJSON says where b, which stands at offset in its line, stops being JSON.
func badJSON(b []byte, offset int) *fault {
	var v any
	bad := &fault{column: offset + 1, msg: "not JSON"}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, &v); errors.As(err, &syntax) {
		bad.column = offset + max(1, int(syntax.Offset))
		bad.msg = "not JSON: " + syntax.Error()
		if at := int(syntax.Offset) - 1; at >= 0 && at < len(b) && (b[at] == 'N' || b[at] == 'I') {
			bad.hint = "JSON has no NaN or Infinity: leave the field out"
		}
	}
	return bad
}
