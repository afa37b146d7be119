package stream

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// maxExact is the bound below which every whole number is a float64.
const maxExact = 1 << 53

// pow10 holds the powers of ten that a float64 represents exactly.
var pow10 = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// scanInt reads a whole number in JSON's notation at b[p:]. It returns the
// value and the position after it, or a negative position where there is no
// such number or it does not fit.
func scanInt(b []byte, p int) (int64, int) {
	neg := p < len(b) && b[p] == '-'
	if neg {
		p++
	}
	first := p
	var m uint64
	// Times have eight digits and more: those are read at once.
	if len(b)-p >= 8 {
		if v, ok := eightDigits(b[p:]); ok {
			m = v
			p += 8
		}
	}
	for ; p < len(b); p++ {
		c := b[p] - '0'
		if c > 9 {
			break
		}
		m = m*10 + uint64(c)
	}
	n := p - first
	// Nineteen digits cannot overflow uint64, so the value can be judged after.
	if n == 0 || n > 19 || m > math.MaxInt64 || n > 1 && b[first] == '0' {
		return 0, -1
	}
	if neg {
		return -int64(m), p
	}
	return int64(m), p
}

// eightDigits is the number that the first eight bytes of b write, if all are
// digits.
func eightDigits(b []byte) (uint64, bool) {
	v := binary.LittleEndian.Uint64(b)
	const high, six = 0xf0f0f0f0f0f0f0f0, 0x0606060606060606
	if v&high|(v+six)&high>>4 != 0x3333333333333333 {
		return 0, false
	}
	return value(v & 0x0f0f0f0f0f0f0f0f), true
}

// scanFloat reads a decimal number without exponent in JSON's notation at
// b[p:], exactly: a mantissa below 2^53 over a power of ten that is a float64
// is one correctly rounded division. Whatever has more digits goes through
// strconv. The position is negative where there is no such number.
func scanFloat(b []byte, p int) (float64, int) {
	start := p
	neg := p < len(b) && b[p] == '-'
	if neg {
		p++
	}
	first := p
	var m uint64
	for ; p < len(b); p++ {
		c := b[p] - '0'
		if c > 9 {
			break
		}
		m = m*10 + uint64(c)
	}
	digits := p - first
	if digits == 0 || digits > 1 && b[first] == '0' {
		return 0, -1
	}
	decimals := 0
	if p < len(b) && b[p] == '.' {
		p++
		point := p
		for ; p < len(b); p++ {
			c := b[p] - '0'
			if c > 9 {
				break
			}
			m = m*10 + uint64(c)
		}
		decimals = p - point
		if decimals == 0 {
			return 0, -1
		}
	}
	if digits+decimals > 19 || m >= maxExact || decimals >= len(pow10) {
		f, err := strconv.ParseFloat(string(b[start:p]), 64)
		if err != nil {
			return 0, -1
		}
		return f, p
	}
	f := float64(m)
	if decimals > 0 {
		f /= pow10[decimals]
	}
	if neg {
		f = -f
	}
	return f, p
}

// finite says that v can stand in a record.
func finite(v float64) bool { return v-v == 0 }

// appendFloat writes the shortest decimal that reads back as v, which must be
// finite.
func appendFloat(b []byte, v float64) []byte {
	// NVML speaks in milliwatts, and times are whole nanoseconds. Decimals of at
	// most fifteen digits are never the same float64, so one that is found here
	// is, without its trailing zeros, the shortest.
	if v == 0 && !math.Signbit(v) {
		return append(b, '0')
	}
	for _, decimals := range [...]int{3, 9} {
		m := math.Round(v * pow10[decimals])
		if m > -1e15 && m < 1e15 && m/pow10[decimals] == v && m != 0 {
			return appendDecimal(b, int64(m), decimals)
		}
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, v, format, -1, 64)
}

// appendDecimal writes m, which is not 0, with its point that many places from
// the right, without zeros at the end.
func appendDecimal(b []byte, m int64, decimals int) []byte {
	if m < 0 {
		b = append(b, '-')
		m = -m
	}
	one := int64(pow10[decimals])
	b = strconv.AppendInt(b, m/one, 10)
	point := len(b)
	b = strconv.AppendInt(b, one+m%one, 10) // its first digit holds the zeros behind the point
	b[point] = '.'
	return bytes.TrimRight(bytes.TrimRight(b, "0"), ".")
}
