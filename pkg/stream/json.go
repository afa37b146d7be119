package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"unicode/utf8"

	"joulepipe/pkg/record"
)

// scan reads the JSON value at b[p:] into the field where that is quick and
// plain: numbers without exponent, strings without escapes, true and false. It
// returns the position after the value, or a negative one where the value needs
// encoding/json.
func (f *forms) scan(fd *field, b []byte, p int) int {
	switch ptr := fd.ptr.(type) {
	case *record.Opt[float64]:
		v, q := scanFloat(b, p)
		*ptr = record.Opt[float64]{V: v, OK: q > 0}
		return q
	case *record.Opt[int64]:
		v, q := scanInt(b, p)
		*ptr = record.Opt[int64]{V: v, OK: q > 0}
		return q
	case *int64:
		v, q := scanInt(b, p)
		*ptr = v
		return q
	case *int:
		v, q := scanInt(b, p)
		if int64(int(v)) != v {
			return -1
		}
		*ptr = int(v)
		return q
	case *record.Opt[uint64]:
		v, q := scanInt(b, p)
		if v < 0 {
			return -1
		}
		*ptr = record.Opt[uint64]{V: uint64(v), OK: q > 0}
		return q
	case *float64:
		v, q := scanFloat(b, p)
		*ptr = v
		return q
	case *bool:
		v, q := scanBool(b, p)
		*ptr = v
		return q
	case *record.Opt[bool]:
		v, q := scanBool(b, p)
		*ptr = record.Opt[bool]{V: v, OK: q > 0}
		return q
	case *string:
		s, q := scanString(b, p)
		if q > 0 {
			*ptr = f.intern(s)
		}
		return q
	case *[]int:
		return scanInts(ptr, b, p)
	}
	return -1
}

func scanBool(b []byte, p int) (bool, int) {
	switch {
	case bytes.HasPrefix(b[p:], []byte("true")):
		return true, p + len("true")
	case bytes.HasPrefix(b[p:], []byte("false")):
		return false, p + len("false")
	}
	return false, -1
}

// scanString is the inside of the JSON string at b[p:], if it has no escapes.
func scanString(b []byte, p int) ([]byte, int) {
	if p >= len(b) || b[p] != '"' {
		return nil, -1
	}
	p++
	for q := p; q < len(b); q++ {
		switch c := b[q]; {
		case c == '"':
			if !utf8.Valid(b[p:q]) {
				return nil, -1
			}
			return b[p:q], q + 1
		case c == '\\' || c < ' ':
			return nil, -1
		}
	}
	return nil, -1
}

func scanInts(ptr *[]int, b []byte, p int) int {
	if p >= len(b) || b[p] != '[' {
		return -1
	}
	list := (*ptr)[:0]
	for p++; p < len(b); p++ {
		v, q := scanInt(b, p)
		if q < 0 || q >= len(b) || int64(int(v)) != v {
			return -1
		}
		list = append(list, int(v))
		switch p = q; b[p] {
		case ']':
			*ptr = list
			return p + 1
		case ',':
		default:
			return -1
		}
	}
	return -1
}

// pair is one member of a JSON object, its value as it stands in the line.
type pair struct {
	name   []byte
	raw    []byte
	offset int // of raw in the line
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
		pairs = append(pairs, pair{name, b[p:q:q], p})
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

// appendNumber writes key and the field's value if the field is of a type that
// needs no quotes; ok is false if it is not. Of a field that is absent nothing
// is written, not even the key.
func appendNumber(b []byte, key string, fd *field) (out []byte, ok bool) {
	switch p := fd.ptr.(type) {
	case *record.Opt[float64]:
		if p.OK && finite(p.V) {
			b = appendFloat(append(b, key...), p.V)
		}
	case *record.Opt[int64]:
		if p.OK {
			b = strconv.AppendInt(append(b, key...), p.V, 10)
		}
	case *int64:
		if *p != 0 || !fd.omit {
			b = strconv.AppendInt(append(b, key...), *p, 10)
		}
	case *int:
		if *p != 0 || !fd.omit {
			b = strconv.AppendInt(append(b, key...), int64(*p), 10)
		}
	case *record.Opt[uint64]:
		if p.OK {
			b = strconv.AppendUint(append(b, key...), p.V, 10)
		}
	case *bool:
		if *p || !fd.omit {
			b = strconv.AppendBool(append(b, key...), *p)
		}
	case *float64:
		if finite(*p) {
			b = appendFloat(append(b, key...), *p)
		}
	case *record.Opt[bool]:
		if p.OK {
			b = strconv.AppendBool(append(b, key...), p.V)
		}
	default:
		return b, false
	}
	return b, true
}

// appendJSON writes the field as a member of an object that is not empty.
func appendJSON(b []byte, fd *field) ([]byte, error) {
	b, ok := appendNumber(b, fd.key, fd)
	if ok {
		return b, nil
	}
	switch p := fd.ptr.(type) {
	case *string:
		if *p != "" || !fd.omit {
			b = appendString(append(b, fd.key...), *p)
		}
		return b, nil
	case *[]int:
		for i, v := range *p {
			if i == 0 {
				b = append(append(b, fd.key...), '[')
			} else {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, int64(v), 10)
		}
		if len(*p) > 0 {
			b = append(b, ']')
		}
		return b, nil
	}
	v := reflect.ValueOf(fd.ptr).Elem()
	if fd.omit && (v.IsZero() || v.Kind() != reflect.Pointer && v.Len() == 0) {
		return b, nil
	}
	raw, err := json.Marshal(fd.ptr)
	return append(append(b, fd.key...), raw...), err
}

// appendExtra writes further fields as members of an object that is not empty.
func appendExtra(b []byte, extra []record.Field) []byte {
	for _, x := range extra {
		b = append(appendString(append(b, ','), x.Name), ':')
		if bytes.ContainsAny(x.Value, "\r\n") {
			var line bytes.Buffer
			// The value was found valid before: it compacts.
			_ = json.Compact(&line, x.Value)
			b = append(b, line.Bytes()...)
		} else {
			b = append(b, bytes.TrimSpace(x.Value)...)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			return appendQuoted(b, s)
		}
	}
	if !utf8.ValidString(s) {
		return appendQuoted(b, s)
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendQuoted(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic("stream: internal error: " + err.Error()) // a string always marshals
	}
	return append(b, quoted...)
}
