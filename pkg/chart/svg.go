package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The widths that a figure is drawn at: for a page, and for a telephone.
const (
	Wide   = 900
	Narrow = 340
)

const (
	left, right     = 56.0, 14.0 // of the plot
	over            = 24.0       // for the name of the vertical axis
	under           = 40.0       // for the numbers and the name of the horizontal one
	bareUnder       = 8.0
	usual, usualLow = 220.0, 180.0 // heights of a plot, wide and narrow
	letter          = 7.4          // width of a usual letter, in a wide face
	row             = 18.0         // height of a row of the legend
)

// SVG writes the figure as an image of that width in CSS pixels, to be set in a
// page that has Style. suffix tells it from the same figure drawn elsewhere in
// the page.
func (f *Figure) SVG(w io.Writer, width float64, suffix string) error {
	return f.write(w, width, suffix, "")
}

// WriteFile writes the figure as a file of its own.
func (f *Figure) WriteFile(w io.Writer) error {
	return f.write(w, Wide, "", "<style>"+Style+".fig{background:var(--f-ground)}</style>\n")
}

func (f *Figure) write(w io.Writer, width float64, suffix, style string) error {
	c := &canvas{width: width}
	y := c.legend(f.Panels)
	for i := range f.Panels {
		y = c.panel(&f.Panels[i], y)
	}
	id := f.Name + suffix
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-labelledby="%s-t %s-d">
<title id="%s-t">%s</title><desc id="%s-d">%s</desc>
%s%s</svg>
`, width, math.Ceil(y), width, math.Ceil(y), id, id, id, escape(f.Title), id, escape(f.Desc), style, c.String())
	return err
}

// canvas is an image in the making.
type canvas struct {
	strings.Builder
	width float64
}

func (c *canvas) put(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// num writes a length to a tenth of a pixel.
func num(x float64) string {
	s := strconv.FormatFloat(x, 'f', 1, 64)
	s = strings.TrimSuffix(s, ".0")
	if s == "-0" {
		return "0"
	}
	return s
}

func (c *canvas) text(x, y float64, anchor, class, s string) {
	c.put(`<text x="%s" y="%s"`, num(x), num(y))
	if anchor != "" {
		c.put(` text-anchor="%s"`, anchor)
	}
	if class != "" {
		c.put(` class="%s"`, class)
	}
	c.put(">%s</text>\n", escape(s))
}

// escape makes text of s, of characters that XML has.
func escape(s string) string {
	return html.EscapeString(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}, s))
}

// cut makes s fit into a width.
func cut(s string, width float64) string {
	n := max(1, int(width/letter))
	if r := []rune(s); len(r) > n {
		return string(r[:max(n-1, 1)]) + "…"
	}
	return s
}

// legend sets the names of the marks, each once, and says where it ends.
func (c *canvas) legend(panels []Panel) float64 {
	seen := map[string]bool{}
	x, y := 0.0, 0.0
	for _, p := range panels {
		for _, m := range p.Marks {
			if m.Name == "" || seen[m.Name] {
				continue
			}
			seen[m.Name] = true
			name := cut(m.Name, c.width-30)
			w := 26 + letter*float64(utf8.RuneCountInString(name)) + 12
			if x > 0 && x+w > c.width+12 {
				x, y = 0, y+row
			}
			c.key(&m, x+2, y+row/2)
			c.text(x+26, y+row/2+4, "", "", name)
			x += w
		}
	}
	if len(seen) == 0 {
		return 0
	}
	return y + row + 6
}

// key draws the sign that stands for a mark in the legend.
func (c *canvas) key(m *Mark, x, y float64) {
	switch m.Kind {
	case Points:
		c.point(m, x+9, y)
	case Bars:
		c.put(`<rect class="b s%d" x="%s" y="%s" width="12" height="10"/>`+"\n", m.Series, num(x+3), num(y-5))
	case Band:
		c.put(`<rect class="%s s%d" x="%s" y="%s" width="14" height="12"/>`+"\n", band(m), m.Series, num(x+2), num(y-6))
	case Cells:
		strength := 1.0
		if len(m.Y) > 0 && m.Y[0] >= 0 {
			strength = min(m.Y[0], 1)
		}
		c.put(`<rect class="c s%d" fill-opacity="%g" x="%s" y="%s" width="12" height="10"/>`+"\n", m.Series, strength, num(x+3), num(y-5))
	case Area:
		c.put(`<rect class="h s%d" x="%s" y="%s" width="18" height="10"/>`+"\n", m.Series, num(x), num(y-5))
	default:
		if m.Kind == Level && m.Lo != nil {
			c.put(`<rect class="h s%d" x="%s" y="%s" width="18" height="10"/>`+"\n", m.Series, num(x), num(y-5))
		}
		c.put(`<path class="%s s%d" d="M%s %sh18"/>`+"\n", stroke(m), m.Series, num(x), num(y))
	}
}

func stroke(m *Mark) string {
	if m.Dashed {
		return "l d"
	}
	return "l"
}

func band(m *Mark) string {
	if m.Strong {
		return "k"
	}
	return "h"
}

// panel draws one panel below y, and says where it ends.
func (c *canvas) panel(p *Panel, y float64) float64 {
	high := p.Height
	if high == 0 {
		high = usual
		if c.width < 500 {
			high = usualLow
		}
	}
	xs, ys := extent(p)
	indent := left
	for _, name := range p.Y.Categories {
		indent = max(indent, min(0.42*c.width, letter*float64(utf8.RuneCountInString(name))+12))
	}
	box := plot{
		x: newScale(p.X, xs, indent, c.width-right), y: newScale(p.Y, ys, y+over+high, y+over),
		left: indent, right: c.width - right, top: y + over, bottom: y + over + high,
	}
	c.axes(p, &box)
	for i := range p.Marks {
		c.mark(&p.Marks[i], &box)
	}
	c.put(`<path class="a" d="M%s %sV%sH%s"/>`+"\n", num(box.left), num(box.top), num(box.bottom), num(box.right))
	if p.X.Bare {
		return box.bottom + bareUnder
	}
	return box.bottom + under
}

// plot is the area between the axes.
type plot struct {
	x, y                     scale
	left, right, top, bottom float64
}

func (c *canvas) axes(p *Panel, box *plot) {
	if p.Y.Label != "" {
		c.text(0, box.top-9, "", "t", cut(p.Y.Label, c.width))
	}
	if len(p.Y.Categories) > 0 {
		for i, name := range p.Y.Categories {
			c.text(box.left-6, box.y.at(float64(i))+4, "end", "t", cut(name, box.left-6))
		}
	} else {
		for _, t := range box.y.ticks(int((box.bottom - box.top) / 36)) {
			c.put(`<path class="g" d="M%s %sH%s"/>`+"\n", num(box.left), num(box.y.at(t.at)), num(box.right))
			c.text(box.left-6, box.y.at(t.at)+4, "end", "t", t.name)
		}
	}
	if p.X.Bare {
		return
	}
	ticks := box.x.ticks(int((box.right - box.left) / 72))
	if p.X.Ticks != nil {
		ticks = nil
		for _, v := range p.X.Ticks {
			ticks = append(ticks, tick{v, number(v, math.Max(math.Abs(v), 1e-4))})
		}
	}
	if p.X.Categories != nil {
		ticks = nil
		room := (box.right - box.left) / float64(max(1, len(p.X.Categories)))
		every := 1
		for _, name := range p.X.Categories {
			every = max(every, int(math.Ceil((letter*float64(utf8.RuneCountInString(name))+6)/room)))
		}
		for i := 0; i < len(p.X.Categories); i += every {
			ticks = append(ticks, tick{float64(i), p.X.Categories[i]})
		}
	}
	free := math.Inf(-1)
	for _, t := range ticks {
		at := box.x.at(t.at)
		half := letter * float64(utf8.RuneCountInString(t.name)) / 2
		c.put(`<path class="a" d="M%s %sv4"/>`+"\n", num(at), num(box.bottom))
		// At the ends of an axis a number keeps inside the image.
		mid := min(max(at, half), c.width-half)
		if mid-half < free {
			continue
		}
		free = mid + half + 4
		c.text(mid, box.bottom+17, "middle", "t", t.name)
	}
	if p.X.Label != "" {
		c.text((box.left+box.right)/2, box.bottom+33, "middle", "t", cut(p.X.Label, c.width))
	}
}

func (c *canvas) mark(m *Mark, box *plot) {
	switch m.Kind {
	case Line:
		c.line(m, box)
	case Points:
		for i := range m.X {
			x, y := box.x.at(m.X[i]), box.y.at(m.Y[i])
			if !inside(x, box.left, box.right) || !inside(y, box.top, box.bottom) {
				continue
			}
			if m.Lo != nil {
				if lo, hi := box.y.clamp(m.Lo[i]), box.y.clamp(m.Hi[i]); finite(lo) && finite(hi) && math.Abs(hi-lo) > 0.5 {
					c.put(`<path class="w s%d" d="M%s %sV%sm-3 0h6M%s %sh6"/>`+"\n", m.Series, num(x), num(lo), num(hi), num(x-3), num(lo))
				}
			}
			c.point(m, x, y)
		}
	case Bars:
		for i := range m.X {
			x0, x1, y := box.x.clamp(m.X[i]), box.x.clamp(m.X1[i]), box.y.clamp(m.Y[i])
			if finite(x0) && finite(x1) && finite(y) && y < box.bottom {
				c.put(`<rect class="b s%d" x="%s" y="%s" width="%s" height="%s"/>`+"\n", m.Series, num(x0), num(y), num(max(x1-x0-0.5, 0.5)), num(box.bottom-y))
			}
		}
	case Band:
		// What lies in one column is drawn once, and neighbours as one.
		var path strings.Builder
		drawn := math.Inf(-1)
		for i := range m.X {
			x0, x1 := box.x.clamp(m.X[i]), box.x.clamp(m.X1[i])
			if !finite(x0) || !finite(x1) {
				continue
			}
			least := 0.5
			if m.Strong {
				least = 2
			}
			x0, x1 = max(x0, drawn), max(x1, x0+least)
			if x1-x0 < 0.5 {
				continue
			}
			fmt.Fprintf(&path, "M%s %sH%sV%sH%sz", num(x0), num(box.top), num(x1), num(box.bottom), num(x0))
			drawn = x1
		}
		if path.Len() > 0 {
			c.put(`<path class="%s s%d" d="%s"/>`+"\n", band(m), m.Series, path.String())
		}
	case Cells:
		// Of one strength in one path: cells are many, strengths few.
		const strengths = 8
		var paths [strengths + 1]strings.Builder
		for i := range m.X {
			x0, x1, y0, y1 := box.x.clamp(m.X[i]), box.x.clamp(m.X1[i]), box.y.clamp(m.Lo[i]), box.y.clamp(m.Hi[i])
			if !finite(x0) || !finite(x1) || !finite(y0) || !finite(y1) || math.IsNaN(m.Y[i]) {
				continue
			}
			y0, y1 = min(y0, y1), max(y0, y1)
			k := int(math.Ceil(strengths * min(max(m.Y[i], 1.0/strengths), 1)))
			fmt.Fprintf(&paths[k], "M%s %sH%sV%sH%sz", num(x0), num(y0), num(max(x1, x0+1.5)), num(max(y1, y0+3)), num(x0))
		}
		for k := range paths {
			if paths[k].Len() > 0 {
				c.put(`<path class="c s%d" fill-opacity="%g" d="%s"/>`+"\n", m.Series, float64(k)/strengths, paths[k].String())
			}
		}
	case Level:
		y := box.y.at(m.Y[0])
		if m.Lo != nil {
			if lo, hi := box.y.clamp(m.Lo[0]), box.y.clamp(m.Hi[0]); finite(lo) && finite(hi) {
				c.put(`<rect class="h s%d" x="%s" y="%s" width="%s" height="%s"/>`+"\n", m.Series, num(box.left), num(hi), num(box.right-box.left), num(max(lo-hi, 0)))
			}
		}
		if inside(y, box.top, box.bottom) {
			c.put(`<path class="%s s%d" d="M%s %sH%s"/>`+"\n", stroke(m), m.Series, num(box.left), num(y), num(box.right))
		}
	case Area:
		var d strings.Builder
		for i := range m.X {
			fmt.Fprintf(&d, "%s%s %s", move(i), num(box.x.clamp(m.X[i])), num(box.y.clamp(m.Lo[i])))
		}
		for i := len(m.X) - 1; i >= 0; i-- {
			fmt.Fprintf(&d, "L%s %s", num(box.x.clamp(m.X[i])), num(box.y.clamp(m.Hi[i])))
		}
		if d.Len() > 0 && !strings.Contains(d.String(), "NaN") {
			c.put(`<path class="h s%d" d="%sz"/>`+"\n", m.Series, d.String())
		}
	}
}

func move(i int) string {
	if i == 0 {
		return "M"
	}
	return "L"
}

// line draws a line. Where several points fall into one column of pixels, it goes
// down to the least and up to the most of them. Of what has a least and a most
// itself, the means are drawn over that, so that they are seen where it is dense.
func (c *canvas) line(m *Mark, box *plot) {
	outer, mean := &path{}, &path{}
	var of column
	flush := func() {
		if of.n > 0 {
			outer.column(&of)
			mean.to(of.x, of.sum/float64(of.n))
			of = column{}
		}
	}
	for i := range m.X {
		x, y := box.x.clamp(m.X[i]), box.y.clamp(m.Y[i])
		if !finite(x) || !finite(y) {
			flush()
			outer.lift()
			mean.lift()
			continue
		}
		lo, hi := y, y
		if m.Lo != nil {
			// The most is the smallest ordinate of an image.
			lo, hi = box.y.clamp(m.Hi[i]), box.y.clamp(m.Lo[i])
			if !finite(lo) || !finite(hi) {
				lo, hi = y, y
			}
		}
		if of.n > 0 && x-of.x >= 0.7 {
			flush()
		}
		of.add(x, y, lo, hi)
	}
	flush()
	outer.lift()
	mean.lift()
	class := stroke(m)
	if m.Lo != nil {
		class += " e"
	}
	if outer.Len() > 0 {
		c.put(`<path class="%s s%d" d="%s"/>`+"\n", class, m.Series, outer.String())
	}
	if m.Lo != nil && mean.Len() > 0 {
		c.put(`<path class="%s s%d" d="%s"/>`+"\n", stroke(m), m.Series, mean.String())
	}
}

// column is what falls into one column of pixels.
type column struct {
	x, first, last, least, most, sum float64
	n                                int
}

func (k *column) add(x, y, lo, hi float64) {
	if k.n == 0 {
		*k = column{x: x, first: y, least: lo, most: hi}
	}
	k.n++
	k.sum += y
	k.last, k.least, k.most = y, min(k.least, lo), max(k.most, hi)
}

// path is a line in the making.
type path struct {
	strings.Builder
	points int // since the pen was put down
}

func (p *path) to(x, y float64) {
	command := "L"
	if p.points == 0 {
		command = "M"
	}
	p.points++
	p.WriteString(command + num(x) + " " + num(y))
}

// lift ends a stretch of the line; one of a single point is drawn as a dot.
func (p *path) lift() {
	if p.points == 1 {
		p.WriteString("h.5")
	}
	p.points = 0
}

// column goes through all that a column holds.
func (p *path) column(k *column) {
	p.to(k.x, k.first)
	if k.most-k.least <= 0.05 {
		return
	}
	if k.last < k.first {
		p.to(k.x, k.most)
		p.to(k.x, k.least)
	} else {
		p.to(k.x, k.least)
		p.to(k.x, k.most)
	}
	p.to(k.x, k.last)
}

func (c *canvas) point(m *Mark, x, y float64) {
	class, d := "p", ""
	switch m.Shape {
	case Circle:
		d = fmt.Sprintf("M%s %sa3 3 0 1 0 6 0a3 3 0 1 0-6 0z", num(x-3), num(y))
	case Ring:
		class, d = "o", fmt.Sprintf("M%s %sa3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", num(x-3.5), num(y))
	case Square:
		d = fmt.Sprintf("M%s %sh6v6h-6z", num(x-3), num(y-3))
	case Triangle:
		d = fmt.Sprintf("M%s %sl4 7h-8z", num(x), num(y-4))
	case Diamond:
		class, d = "o", fmt.Sprintf("M%s %sl4.5 4.5l-4.5 4.5l-4.5-4.5z", num(x), num(y-4.5))
	case Cross:
		class, d = "l", fmt.Sprintf("M%s %sl7 7m0-7l-7 7", num(x-3.5), num(y-3.5))
	}
	c.put(`<path class="%s s%d" d="%s"/>`+"\n", class, m.Series, d)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

func inside(x, lo, hi float64) bool { return x >= lo-0.5 && x <= hi+0.5 }
