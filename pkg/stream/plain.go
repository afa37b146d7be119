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
	toTrue    // it must be true
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

// newPlain is the shape of a line that was read into rec; nil if there is none.
// The pairs are its members, end the bytes that it ended with.
func newPlain(fm *form, line []byte, pairs []pair, end string) *plain {
	s := &plain{kind: fm.kind}
	if s.kind != record.KindSample && s.kind != record.KindPower {
		return nil
	}
	seen := map[string]bool{}
	from, sure := 0, false
	for i := range pairs {
		p := &pairs[i]
		name := string(p.name)
		if seen[name] {
			return nil
		}
		seen[name] = true
		if name == "record" {
			continue // its value counts as text
		}
		j, known := fm.index[name]
		if !known {
			return nil
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
		case "read_ok":
			to, sure = toTrue, true
		default:
			switch fm.fields[j].typ {
			case whole, small:
				to = toNowhere
			case real:
				to = toNothing
			default:
				return nil
			}
		}
		s.places = append(s.places, place{newFixed(string(line[from:p.offset])), to})
		from = p.offset + len(p.raw)
	}
	if !sure || !seen["t_ns"] || s.kind == record.KindPower && !seen["power_w"] {
		return nil
	}
	s.tail = newFixed(string(line[from:]) + end)
	return s
}

// read reads lines of this shape from b[p:] into the batch, until one is of
// another or there is no room. It says where that begins and how many there were.
func (s *plain) read(b []byte, p int, to *filling) (next int, lines int64) {
	row, sample := to.powers, false
	if s.kind == record.KindSample {
		row, sample = to.samples, true
	}
	gpu, fresh, has := 0, 0, s.has
	if !sample {
		has = 0
	}
	for {
		to.columns.grow(to.samples)
		to.entries.grow(to.powers)
		c := &to.columns
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
				v, p = wholeAt(b, p)
				if sample {
					c.TimeNS[row] = v
				} else {
					to.entries.TimeNS[row] = v
				}
			case toGPU:
				on, p = wholeAt(b, p)
			case toPower:
				var v float64
				v, p = decimalAt(b, p)
				if sample {
					c.PowerW[row] = v
				} else {
					to.entries.PowerW[row] = v
				}
			case toInstant:
				c.PowerInstantW[row], p = decimalAt(b, p)
			case toAverage:
				c.PowerAverageW[row], p = decimalAt(b, p)
			case toSMClock:
				c.SMClockMHz[row], p = wholeAt(b, p)
			case toThrottle:
				var v int64
				v, p = wholeAt(b, p)
				c.ThrottleReasons[row] = uint64(v)
			case toTrue:
				if binary.LittleEndian.Uint32(b[p:]) == 't'|'r'<<8|'u'<<16|'e'<<24 {
					p += 4
				} else {
					p = -1
				}
			case toNowhere:
				_, p = wholeAt(b, p)
			case toNothing:
				p = passDecimal(b, p)
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

// digits is the number that up to eight digits at b[p:] write, and how many
// these are.
func digits(b []byte, p int) (v uint64, n int) {
	v = binary.LittleEndian.Uint64(b[p:]) ^ 0x3030303030303030
	// The lowest byte that is no digit shows in its high bit; what comes after
	// it does not matter.
	n = bits.TrailingZeros64((v+0x7676767676767676|v)&0x8080808080808080) >> 3
	v <<= 64 - 8*uint(n)
	v = v*10 + v>>8
	v = v&0x00ff00ff00ff00ff*100 + v>>16&0x00ff00ff00ff00ff
	return v&0xffff*10000 + v>>32&0xffff, n
}

var whole10 = [...]uint64{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000}

// wholeAt is a whole number from 0 in at most 18 digits at b[p:], and where it
// ends; negative where there is none, or none as JSON writes it.
func wholeAt(b []byte, p int) (int64, int) {
	v, n := digits(b, p)
	if n == 0 || n > 1 && b[p] == '0' {
		return 0, -1
	}
	p += n
	if n == 8 {
		more, n := digits(b, p)
		v = v*whole10[n] + more
		p += n
		if n == 8 {
			more, n := digits(b, p)
			if n > 2 {
				return 0, -1
			}
			v = v*whole10[n] + more
			p += n
		}
	}
	return int64(v), p
}

// decimalAt is a number from 0 without exponent at b[p:], of up to 7 digits
// before the point and 15 after, and where it ends; negative where there is
// none, or one that is not exact by one division, as in [scanFloat].
func decimalAt(b []byte, p int) (float64, int) {
	v, n := digits(b, p)
	if n == 0 || n == 8 || n > 1 && b[p] == '0' {
		return 0, -1
	}
	p += n
	if b[p] != '.' {
		return float64(v), p
	}
	p++
	more, decimals := digits(b, p)
	if decimals == 0 {
		return 0, -1
	}
	v = v*whole10[decimals] + more
	p += decimals
	if decimals == 8 {
		more, rest := digits(b, p)
		if decimals += rest; n+decimals > 18 || rest == 8 {
			return 0, -1
		}
		if v = v*whole10[rest] + more; v >= maxExact {
			return 0, -1
		}
		p += rest
	}
	return float64(v) / pow10[decimals], p
}

// passDecimal is where such a number ends, whatever its sign.
func passDecimal(b []byte, p int) int {
	if b[p] == '-' {
		p++
	}
	_, n := digits(b, p)
	if n == 0 || n == 8 || n > 1 && b[p] == '0' {
		return -1
	}
	if p += n; b[p] != '.' {
		return p
	}
	p++
	_, n = digits(b, p)
	if n == 0 {
		return -1
	}
	if p += n; n < 8 {
		return p
	}
	if _, n = digits(b, p); n == 8 {
		return -1
	}
	return p + n
}
