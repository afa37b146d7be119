package report

import (
	"math"
	"strconv"
	"strings"
	"time"

	"joulepipe/pkg/record"
)

// absent stands in every table for what was not measured.
const absent = "–"

// figure writes a measured x with four significant digits and no exponent
// where a reader can do without one: 20.71, 690.2, 12345, 0.001234. What is
// smaller than a millionth of its unit is the rounding of sums.
func figure(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return absent
	case a < 1e-6:
		return "0"
	case a < 1e-4 || a >= 1e7:
		return strconv.FormatFloat(x, 'e', 3, 64)
	default:
		decimals := 3 - int(math.Floor(math.Log10(a)))
		return strconv.FormatFloat(x, 'f', max(decimals, 0), 64)
	}
}

// trimmed is figure without zeros at its end, for numbers that stand alone.
func trimmed(x float64) string {
	s := figure(x)
	if strings.Contains(s, ".") && !strings.Contains(s, "e") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// joules writes an amount of energy in the unit that suits it.
func joules(j float64) string {
	switch a := math.Abs(j); {
	case a >= 1e6:
		return figure(j/1e6) + " MJ"
	case a >= 1e4:
		return figure(j/1e3) + " kJ"
	}
	return figure(j) + " J"
}

// limit writes a number that somebody chose, as short as it is.
func limit(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// share writes a chosen fraction as per cent.
func share(fraction float64) string { return limit(math.Round(1e8*fraction)/1e6) + " %" }

// length writes a chosen length of time: "250 ms", "10 s", "5 min".
func length(d time.Duration) string {
	switch {
	case d < time.Second:
		return limit(float64(d)/1e6) + " ms"
	case d < time.Minute || d%time.Minute != 0:
		return limit(d.Seconds()) + " s"
	}
	return limit(d.Minutes()) + " min"
}

// fixed writes x with a fixed number of decimals, for columns that are compared
// down the page.
func fixed(x float64, decimals int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return absent
	}
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	if zero := strconv.FormatFloat(0, 'f', decimals, 64); s == "-"+zero {
		return zero
	}
	return s
}

func optional(o record.Opt[float64]) string {
	if v, ok := o.Get(); ok {
		return figure(v)
	}
	return absent
}

func optionalFixed(o record.Opt[float64], decimals int) string {
	if v, ok := o.Get(); ok {
		return fixed(v, decimals)
	}
	return absent
}

// percent writes a measured fraction as per cent: 0.0042 is "0.42 %".
func percent(fraction float64) string {
	if math.IsNaN(fraction) {
		return absent
	}
	return fixed(100*fraction, 2) + " %"
}

func count[T ~int | ~int64](n T) string { return strconv.FormatInt(int64(n), 10) }

// seconds is the length of nanoseconds in seconds.
func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// span writes a length of time the way it is spoken of: "45.2 s", "7 min 21 s",
// "2 h 05 min".
func span(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Minute:
		return trimmed(s) + " s"
	case d < time.Hour:
		d = d.Round(time.Second)
		return strconv.Itoa(int(d.Minutes())) + " min " + twoDigits(int(d.Seconds())%60) + " s"
	default:
		d = d.Round(time.Minute)
		return strconv.Itoa(int(d.Hours())) + " h " + twoDigits(int(d.Minutes())%60) + " min"
	}
}

func twoDigits(n int) string {
	if n < 10 {
		return "0" + strconv.Itoa(n)
	}
	return strconv.Itoa(n)
}

// size writes a number of bytes in binary units.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return count(n) + " B"
	}
	x, i := float64(n)/unit, 0
	for x >= unit && i < 3 {
		x /= unit
		i++
	}
	return fixed(x, 1) + " " + [...]string{"KiB", "MiB", "GiB", "TiB"}[i]
}

// plural counts things.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// unit writes a measured number with its unit.
func unit(o record.Opt[float64], name string) string {
	if v, ok := o.Get(); ok {
		return trimmed(v) + " " + name
	}
	return absent
}

func optionalPercent(o record.Opt[float64]) string {
	if v, ok := o.Get(); ok {
		return percent(v)
	}
	return absent
}

func optionalCount(o record.Opt[int64]) string {
	if n, ok := o.Get(); ok {
		return count(n)
	}
	return absent
}
