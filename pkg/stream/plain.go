package stream

import (
	"encoding/binary"
	"math/bits"

	"joulepipe/pkg/record"
)

// A plain is the shape of lines that have a row of a batch's columns, made for
// reading one line after the other without a look at where they end: the text
// between the values, byte for byte, and what becomes of each value.
type plain struct {
	kind   record.Kind
	has    Has
	places []place
	tail   fixed // with the end of line
}

// place is a value, and the text before it.
type place struct {
	text fixed
	to   role
	last widths
}

// widths are how many digits the last value at a place had, before the point and
// after it. Most have as many as the one before: where the next text begins is
// then known before the digits are counted, and the processor goes on there.
type widths struct{ whole, decimals width }

type width uint8

// of is n. It is read from memory, which n is only compared with.
func (w *width) of(n int) int {
	if int(*w) != n {
		*w = width(n)
	}
	return int(*w)
}

// role is where a value goes.
type role uint8

const (
	toTime role = iota
	toGPU
	toPower
	toInstant
	toAverage
	toSMClock
	toThrottle
	toNowhere // a whole number
	toNothing // a number
)

// fixed is a text to compare with, up to 16 bytes of it eight at a time.
type fixed struct {
	text      string
	low, high uint64
	mask      uint64 // of low
	behind    int    // where high begins
}

func newFixed(text string) fixed {
	f := fixed{text: text}
	var b [16]byte
	switch n := copy(b[:], text); {
	case len(text) <= 8:
		f.mask = 1<<(8*n) - 1
		f.low = binary.LittleEndian.Uint64(b[:])
	case len(text) <= 16:
		f.mask = 1<<64 - 1
		f.behind = n - 8
		f.low, f.high = binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[f.behind:])
	}
	return f
}

// slack is how many bytes of nothing there must be after what is read by plain
// and by digits.
const slack = 64

// at says whether the text stands at b[p:].
func (f *fixed) at(b []byte, p int) bool {
	if len(f.text) > 16 {
		return hasPrefix(b, p, f.text)
	}
	return binary.LittleEndian.Uint64(b[p:])&f.mask == f.low &&
		(f.behind == 0 || binary.LittleEndian.Uint64(b[p+f.behind:]) == f.high)
}

// outline goes over the members of a line. place is told the text before each, and
// says whether its value has a place of its own, or counts as text as that of "record"
// does. tail is what follows the last place, with the bytes end that the line ended with;
// ok is false where place says so, or a member comes twice.
func outline(line []byte, pairs []pair, end string, place func(p *pair, text fixed) (own, ok bool)) (tail fixed, seen map[string]bool, ok bool) {
	seen = map[string]bool{}
	from := 0
	for i := range pairs {
		p := &pairs[i]
		name := string(p.name)
		if seen[name] {
			return fixed{}, nil, false
		}
		seen[name] = true
		if name == "record" {
			continue
		}
		own, ok := place(p, newFixed(string(line[from:p.offset])))
		if !ok {
			return fixed{}, nil, false
		}
		if own {
			from = p.offset + len(p.raw)
		}
	}
	return newFixed(string(line[from:]) + end), seen, true
}

// newPlain is the shape of a line that was read into rec; nil if there is none.
// The pairs are its members, end the bytes that it ended with.
func newPlain(fm *form, line []byte, pairs []pair, end string) lineShape {
	s := &plain{kind: fm.kind}
	if s.kind != record.KindSample && s.kind != record.KindPower {
		return nil
	}
	sure := false
	tail, seen, ok := outline(line, pairs, end, func(p *pair, text fixed) (own, ok bool) {
		name := string(p.name)
		if name == "read_ok" {
			raw := string(p.raw)
			sure = true
			return false, raw == "true" || raw == "True" // Python's
		}
		j, known := fm.index[name]
		if !known {
			return false, false
		}
		var to role
		switch name {
		case "t_ns":
			to = toTime
		case "gpu":
			to = toGPU
		case "power_w":
			to, s.has, sure = toPower, s.has|HasPower, true
		case "power_instant_w":
			to, s.has, sure = toInstant, s.has|HasInstant, true
		case "power_average_w":
			to, s.has, sure = toAverage, s.has|HasAverage, true
		case "sm_clock_mhz":
			to, s.has = toSMClock, s.has|HasSMClock
		case "throttle_reasons":
			to, s.has = toThrottle, s.has|HasThrottle
		default:
			switch fm.fields[j].typ {
			case whole, small:
				to = toNowhere
			case real:
				to = toNothing
			default:
				return false, false
			}
		}
		s.places = append(s.places, place{text: text, to: to})
		return true, true
	})
	if !ok || !sure || !seen["t_ns"] || s.kind == record.KindPower && !seen["power_w"] {
		return nil
	}
	s.tail = tail
	return s
}

// plains are the shapes that lines had lately, the latest first.
type plains struct {
	of     [4]lineShape
	credit int
}

// lineShape is a plain or a plainEvent.
type lineShape interface {
	// read reads lines of this shape from b[p:] into the batch, until one is of
	// another or begins at b[end] or later. It says where that begins and how many
	// there were.
	read(b []byte, p, end int, to *filling) (next int, lines int64)
}

func newPlains() plains { return plains{credit: 16 * learnCost} }

// learnCost is how many lines must have been read by their shape before another
// shape is learnt: where every line has its own there is nothing to learn.
const learnCost = 16

// pay says whether another shape may be learnt.
func (s *plains) pay() bool {
	if s.credit < learnCost {
		return false
	}
	s.credit -= learnCost
	return true
}

// keep takes a shape, unless it is nil.
func (s *plains) keep(p lineShape) {
	if p != nil {
		copy(s.of[1:], s.of[:])
		s.of[0] = p
	}
}

// inColumns says whether a record has a row of columns.
func inColumns(rec record.Record) bool {
	switch rec.(type) {
	case *record.Sample, *record.Power:
		return true
	}
	return false
}

// read reads lines of these shapes that begin before b[end], as many as there are
// in a row from b[p:] on.
func (s *plains) read(b []byte, p, end int, to *filling) (next int, lines int64) {
	for i, of := range s.of {
		if of == nil {
			break
		}
		if next, lines = of.read(b, p, end, to); lines > 0 {
			s.credit = min(s.credit+int(lines), 1<<16)
			copy(s.of[1:i+1], s.of[:i])
			s.of[0] = of
			return next, lines
		}
	}
	return p, 0
}

func (s *plain) read(b []byte, p, end int, to *filling) (next int, lines int64) {
	row, sample := to.powers, false
	if s.kind == record.KindSample {
		row, sample = to.samples, true
	}
	c := &to.columns
	gpu, fresh, has := 0, 0, s.has
	if !sample {
		has = 0
	}
	for p < end {
		if sample {
			to.columns.grow(row)
		} else {
			to.entries.grow(row)
		}
		start, on := p, int64(0)
		for i := range s.places {
			at := &s.places[i]
			if !at.text.at(b, p) {
				p = -1
				break
			}
			p += len(at.text.text)
			switch at.to {
			case toTime:
				var v int64
				v, p = wholeAt(b, p, &at.last)
				if sample {
					c.TimeNS[row] = v
				} else {
					to.entries.TimeNS[row] = v
				}
			case toGPU:
				on, p = wholeAt(b, p, &at.last)
			case toPower:
				var v float64
				v, p = decimalAt(b, p, &at.last)
				if sample {
					c.PowerW[row] = v
				} else {
					to.entries.PowerW[row] = v
				}
			case toInstant:
				c.PowerInstantW[row], p = decimalAt(b, p, &at.last)
			case toAverage:
				c.PowerAverageW[row], p = decimalAt(b, p, &at.last)
			case toSMClock:
				c.SMClockMHz[row], p = wholeAt(b, p, &at.last)
			case toThrottle:
				var v int64
				v, p = wholeAt(b, p, &at.last)
				c.ThrottleReasons[row] = uint64(v)
			case toNowhere:
				p = passWhole(b, p, &at.last)
			case toNothing:
				p = passDecimal(b, p, &at.last)
			}
			if p < 0 {
				break
			}
		}
		if p < 0 || !s.tail.at(b, p) || int64(int(on)) != on {
			p = start
			break
		}
		p += len(s.tail.text)
		lines++
		if int(on) != gpu {
			if fresh > 0 {
				to.count(Run{s.kind, gpu, has, fresh})
			}
			gpu, fresh = int(on), 0
		}
		fresh++
		if row++; sample {
			to.samples = row
		} else {
			to.powers = row
		}
	}
	if fresh > 0 {
		to.count(Run{s.kind, gpu, has, fresh})
	}
	return p, lines
}

const (
	zeros = 0x3030303030303030 // eight of them
	highs = 0x8080808080808080 // the high bits of eight bytes
)

// nonDigits has the high bits of the bytes that are no digits, of eight of text
// less zeros. It is right up to the first that is not ASCII.
func nonDigits(v uint64) uint64 { return (v + 0x7676767676767676 | v) & highs }

// value is the number that eight digits write. It adds neighbours, then pairs, then
// fours.
func value(v uint64) uint64 {
	v = v*10 + v>>8
	v = v&0x00ff00ff00ff00ff*100 + v>>16&0x00ff00ff00ff00ff
	return v&0xffff*10000 + v>>32&0xffff
}

// digits is the number that up to eight digits at b[p:] write, and how many
// these are.
func digits(b []byte, p int) (v uint64, n int) {
	v = binary.LittleEndian.Uint64(b[p:]) ^ zeros
	n = bits.TrailingZeros64(nonDigits(v)) >> 3
	return value(v << (64 - 8*uint(n))), n
}

// countDigits is how many digits there are at b[p:], up to eight.
func countDigits(b []byte, p int) int {
	return bits.TrailingZeros64(nonDigits(binary.LittleEndian.Uint64(b[p:])^zeros)) >> 3
}

var whole10 = [...]uint64{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000}

// wholeAt is a whole number from 0 in at most 18 digits at b[p:], and where it
// ends; negative where there is none, or none as JSON writes it.
func wholeAt(b []byte, p int, last *widths) (int64, int) {
	v, n := digits(b, p)
	if n == 0 || n > 1 && b[p] == '0' {
		return 0, -1
	}
	if n < 8 {
		return int64(v), p + last.whole.of(n)
	}
	more, n := digits(b, p+8)
	v = v*whole10[n] + more
	if n < 8 {
		return int64(v), p + 8 + last.whole.of(n)
	}
	if more, n = digits(b, p+16); n > 2 {
		return 0, -1
	}
	return int64(v*whole10[n] + more), p + 16 + n
}

// passWhole is where such a number ends.
func passWhole(b []byte, p int, last *widths) int {
	n := countDigits(b, p)
	if n == 8 {
		_, p = wholeAt(b, p, last)
		return p
	}
	if n == 0 || n > 1 && b[p] == '0' {
		return -1
	}
	return p + last.whole.of(n)
}

// decimalAt is a number from 0 without exponent at b[p:], of up to 7 digits
// before the point and 15 after, and where it ends; negative where there is
// none, or one that is not exact by one division, as in [scanFloat].
func decimalAt(b []byte, p int, last *widths) (float64, int) {
	if s := &shorts[last.whole&7][last.decimals&7]; s.length > 0 {
		if v, ok := s.at(b, p); ok {
			return v, p + s.length
		}
	}
	v, n := digits(b, p)
	if n == 0 || n == 8 || n > 1 && b[p] == '0' {
		return 0, -1
	}
	p += last.whole.of(n)
	if b[p] != '.' {
		return float64(v), p
	}
	p++
	more, decimals := digits(b, p)
	if decimals == 0 {
		return 0, -1
	}
	v = v*whole10[decimals] + more
	if decimals < 8 {
		return float64(v) / pow10[decimals], p + last.decimals.of(decimals)
	}
	more, rest := digits(b, p+8)
	if n+8+rest > 18 || rest == 8 {
		return 0, -1
	}
	if v = v*whole10[rest] + more; v >= maxExact {
		return 0, -1
	}
	return float64(v) / pow10[8+rest], p + 8 + rest
}

// short is how a number of certain widths stands in eight bytes, with a byte
// after it.
type short struct {
	length int // 0: it does not
	breaks uint64
	scope  uint64 // of breaks
	before uint64 // the bytes before the point
	fill   uint
	point  uint
	scale  float64
}

// shorts are these by their digits before the point and after it.
var shorts = func() (t [8][8]short) {
	for w := 1; w <= 5; w++ {
		for d := 1; w+1+d <= 7; d++ {
			end := w + 1 + d
			t[w][d] = short{
				length: end, breaks: 0x80<<(8*w) | 0x80<<(8*end), scope: highs >> (8 * (7 - end)),
				before: 1<<(8*w) - 1, fill: uint(64 - 8*(w+d)), point: uint(8 * w), scale: pow10[d],
			}
		}
	}
	return t
}()

// at is the number at b[p:] if it has these widths.
func (s *short) at(b []byte, p int) (float64, bool) {
	v := binary.LittleEndian.Uint64(b[p:]) ^ zeros
	if nonDigits(v)&s.scope != s.breaks || byte(v>>s.point) != '.'^'0' || byte(v) == 0 && s.point > 8 {
		return 0, false
	}
	return float64(value(((v>>8)&^s.before|v&s.before)<<s.fill)) / s.scale, true
}

// passDecimal is where such a number ends, whatever its sign.
func passDecimal(b []byte, p int, last *widths) int {
	if b[p] == '-' {
		p++
	}
	n := countDigits(b, p)
	if n == 0 || n == 8 || n > 1 && b[p] == '0' {
		return -1
	}
	if p += last.whole.of(n); b[p] != '.' {
		return p
	}
	p++
	n = countDigits(b, p)
	if n == 0 {
		return -1
	}
	if n < 8 {
		return p + last.decimals.of(n)
	}
	if n = countDigits(b, p+8); n == 8 {
		return -1
	}
	return p + 8 + n
}
