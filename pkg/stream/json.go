package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
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
			*ptr = f.text(fd, s)
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
	ascii := byte(0)
	for q := p; q < len(b); q++ {
		switch c := b[q]; {
		case c == '"':
			if ascii >= utf8.RuneSelf && !utf8.Valid(b[p:q]) {
				return nil, -1
			}
			return b[p:q], q + 1
		case c == '\\' || c < ' ':
			return nil, -1
		default:
			ascii |= c
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

// setJSON fills in a field from its JSON value. absent: the value is null, or
// not a finite number as Python writes it.
func (f *forms) setJSON(fd *field, raw []byte, offset int) (absent bool, bad *fault) {
	switch string(raw) {
	case "null", "NaN", "Infinity", "-Infinity":
		return true, nil
	}
	if f.scan(fd, raw, 0) == len(raw) {
		return false, nil
	}
	switch p := fd.ptr.(type) {
	case *int64:
		return false, setWhole(p, fd, raw, offset)
	case *int:
		return false, setWhole(p, fd, raw, offset)
	case *string:
		// A number where a name is wanted (request_id, event_id) names as well.
		if c := raw[0]; (c == '-' || c-'0' <= 9) && json.Valid(raw) {
			*p = f.text(fd, raw)
			return false, nil
		}
	}
	if err := json.Unmarshal(raw, fd.ptr); err != nil {
		return false, badValue(fd, raw, offset, err)
	}
	return false, nil
}

// setWhole takes 37.0 for the integer 37, as [record.Opt] does.
func setWhole[T int | int64](p *T, fd *field, raw []byte, offset int) *fault {
	var v record.Opt[T]
	if err := json.Unmarshal(raw, &v); err != nil {
		return badValue(fd, raw, offset, err)
	}
	*p = v.V
	return nil
}

// badValue says what was expected of the value at offset.
func badValue(fd *field, raw []byte, offset int, err error) *fault {
	if !json.Valid(raw) {
		return badJSON(raw, offset)
	}
	want := ""
	switch fd.ptr.(type) {
	case *int64, *int, *record.Opt[int64]:
		want = "a whole number of 64 bits"
	case *record.Opt[uint64]:
		want = "a whole number of 64 bits from 0"
	case *float64, *record.Opt[float64]:
		want = "a number"
	case *bool, *record.Opt[bool]:
		want = "true or false"
	case *string:
		want = "a string"
	case *[]int:
		want = "a list of GPU numbers"
	default:
		return &fault{column: offset + 1, msg: fmt.Sprintf("%s: %v", fd.name, err)}
	}
	return &fault{column: offset + 1, msg: fmt.Sprintf("%s is %s, not %s", fd.name, clip(raw), want)}
}

// clip is a value short enough for a message.
func clip(raw []byte) []byte {
	if len(raw) > 40 {
		return append(bytes.ToValidUTF8(raw[:37:37], nil), "..."...)
	}
	return raw
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
	if p, ok := fd.ptr.(*string); ok {
		if *p != "" || !fd.omit {
			b = appendString(append(b, fd.key...), *p)
		}
		return b, nil
	}
	b, ok := appendNumber(b, fd.key, fd)
	if ok {
		return b, nil
	}
	if p, ok := fd.ptr.(*[]int); ok {
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
	ascii := byte(0)
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c == '"' || c == '\\' {
			return appendQuoted(b, s)
		}
		ascii |= c
	}
	if ascii >= utf8.RuneSelf && !utf8.ValidString(s) {
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
