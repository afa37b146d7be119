package chart

import (
	"math"
	"strconv"
	"strings"
)

// scale puts values of an axis at their place in the image.
type scale struct {
	lo, hi   float64 // of the axis; logarithms where log
	from, to float64 // in the image
	log      bool
}

// interval is the least and the most of what was noted.
type interval struct{ lo, hi float64 }

func (i *interval) note(values ...float64) {
	for _, v := range values {
		if finite(v) && math.Abs(v) < 1e300 {
			i.lo, i.hi = min(i.lo, v), max(i.hi, v)
		}
	}
}

// extent is what a panel's marks cover in each direction; on a logarithmic axis
// only what is above 0 counts.
func extent(p *Panel) (x, y interval) {
	x = interval{math.Inf(1), math.Inf(-1)}
	y = x
	noteX := func(v ...float64) { noteOn(&p.X, &x, v) }
	noteY := func(v ...float64) { noteOn(&p.Y, &y, v) }
	for _, m := range p.Marks {
		if m.Kind != Band {
			noteX(m.X...)
			noteX(m.X1...)
		}
		switch m.Kind {
		case Band:
			continue
		case Cells:
		case Bars:
			if !p.Y.Log {
				noteY(0)
			}
			noteY(m.Y...)
		default:
			noteY(m.Y...)
		}
		noteY(m.Lo...)
		noteY(m.Hi...)
	}
	return x, y
}

func noteOn(a *Axis, i *interval, values []float64) {
	for _, v := range values {
		if !a.Log || v > 0 {
			i.note(v)
		}
	}
}

func newScale(a Axis, i interval, from, to float64) scale {
	s := scale{from: from, to: to, log: a.Log}
	lo, hi := i.lo, i.hi
	switch {
	case len(a.Categories) > 0:
		s.lo, s.hi = -0.5, float64(len(a.Categories))-0.5
		if to < from { // down the page
			s.lo, s.hi = s.hi, s.lo
		}
		return s
	case a.Fixed:
		lo, hi = a.Lo, a.Hi
	case lo > hi:
		lo, hi = 0, 1
		if a.Log {
			lo, hi = 1, 10
		}
	}
	if a.Zero && !a.Log {
		lo, hi = min(lo, 0), max(hi, 0)
	}
	if a.Log {
		lo, hi = math.Log10(lo), math.Log10(hi)
	}
	if !(hi-lo > 1e-9*max(math.Abs(lo), math.Abs(hi))) || hi-lo < 1e-290 {
		pad := max(0.05*math.Abs(lo), 0.5)
		lo, hi = lo-pad, hi+pad
	}
	if !a.Fixed {
		// A line along an edge would not be seen, nor half of a point.
		pad := 0.04 * (hi - lo)
		if from < to && !a.Log {
			pad /= 4
		}
		if !a.Zero || a.Log || lo < 0 {
			lo -= pad
		}
		hi += pad
	}
	s.lo, s.hi = lo, hi
	return s
}

// at is where a value is in the image, NaN for one that has no place.
func (s scale) at(v float64) float64 {
	if s.log {
		if !(v > 0) {
			return math.NaN()
		}
		v = math.Log10(v)
	}
	return s.from + (v-s.lo)/(s.hi-s.lo)*(s.to-s.from)
}

// clamp is at, or the end of the axis that a value lies beyond. What is not above
// 0 lies beyond the lower end of a logarithmic axis.
func (s scale) clamp(v float64) float64 {
	if s.log && v <= 0 {
		v = 0
	} else if !math.IsNaN(v) {
		v = s.at(v)
	}
	if s.log && v == 0 {
		return s.from
	}
	return min(max(v, min(s.from, s.to)), max(s.from, s.to))
}

// tick is a number on an axis.
type tick struct {
	at   float64
	name string
}

// ticks are some n round numbers of the axis.
func (s scale) ticks(n int) []tick {
	n = max(n, 2)
	if s.log {
		return s.decades(n)
	}
	step := (s.hi - s.lo) / float64(n)
	unit := math.Pow(10, math.Floor(math.Log10(step)))
	for _, k := range []float64{1, 2, 5, 10} {
		if k*unit >= step*0.999 {
			step = k * unit
			break
		}
	}
	var out []tick
	for k := math.Ceil(s.lo/step - 1e-9); k*step <= s.hi+1e-9*step && len(out) < 4*n; k++ {
		out = append(out, tick{k * step, number(k*step, step)})
	}
	return out
}

func (s scale) decades(n int) []tick {
	var out []tick
	steps := []float64{1}
	if s.hi-s.lo < 1.2 {
		steps = []float64{1, 2, 3, 5, 7}
	} else if s.hi-s.lo < 2.5 {
		steps = []float64{1, 2, 5}
	}
	every := max(1, int(math.Ceil((s.hi-s.lo)/float64(2*n))))
	for e := int(math.Floor(s.lo)); float64(e) <= s.hi; e++ {
		if e%every != 0 {
			continue
		}
		for _, k := range steps {
			v := k * math.Pow(10, float64(e))
			if l := math.Log10(v); l >= s.lo-1e-9 && l <= s.hi+1e-9 {
				out = append(out, tick{v, number(v, v)})
			}
		}
	}
	return out
}

// number writes a number of an axis whose steps are so large.
func number(v, step float64) string {
	if math.Abs(v) < step*1e-6 {
		return "0"
	}
	if a := math.Abs(v); a >= 1e6 || a < 1e-4 {
		s := strconv.FormatFloat(v, 'e', 2, 64)
		mantissa, exponent, _ := strings.Cut(s, "e")
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
		e, _ := strconv.Atoi(exponent)
		return mantissa + "e" + strconv.Itoa(e)
	}
	s := strconv.FormatFloat(v, 'f', max(0, int(math.Ceil(-math.Log10(step)-1e-9))), 64)
	return s
}
