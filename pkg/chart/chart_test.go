package chart

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const evil = `"><script>alert(1)</script>&amp;` + "\x00'"

// elements reads an image, which must be well-formed, and counts its elements.
func elements(t *testing.T, svg string) map[string]int {
	t.Helper()
	n := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%.2000s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			n[e.Name.Local]++
		}
	}
}

func draw(t *testing.T, f *Figure, width float64) string {
	t.Helper()
	var b strings.Builder
	if err := f.SVG(&b, width, "-x"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// every has a mark of each kind and shape.
func every() *Figure {
	x, y := []float64{1, 2, 3, 4}, []float64{10, 20, math.NaN(), 40}
	lo, hi := []float64{9, 19, 29, 39}, []float64{11, 21, 31, 41}
	f := &Figure{Name: "every", Title: "Every " + evil, Desc: "All of " + evil}
	for kind := Line; kind <= Area; kind++ {
		for shape := Circle; shape <= Ring; shape++ {
			m := Mark{Kind: kind, Name: evil, Series: int(shape), Shape: shape, X: x, X1: []float64{1.5, 2.5, 3.5, 4.5}, Y: y, Lo: lo, Hi: hi, Strong: shape == Square, Dashed: shape == Cross}
			f.Panels = append(f.Panels, Panel{X: Axis{Label: evil}, Y: Axis{Label: "Power, W"}, Marks: []Mark{m}})
		}
	}
	return f
}

var noNumber = regexp.MustCompile(`NaN|Inf`)

// An image is well-formed, has a title and a description, and no name in it is
// markup.
func TestImage(t *testing.T) {
	t.Parallel()
	f := every()
	for _, width := range []float64{Wide, Narrow} {
		svg := draw(t, f, width)
		n := elements(t, svg)
		if n["script"] > 0 || n["title"] != 1 || n["desc"] != 1 || n["svg"] != 1 || n["path"] < 40 || n["rect"] < 10 {
			t.Errorf("elements %v", n)
		}
		if at := noNumber.FindStringIndex(svg); at != nil {
			t.Errorf("a number that is none: %.80q", svg[max(0, at[0]-40):])
		}
		if !strings.Contains(svg, `aria-labelledby="every-x-t every-x-d"`) || !strings.Contains(svg, `id="every-x-t"`) || !strings.Contains(svg, `role="img"`) {
			t.Error("the image has no name for who cannot see it")
		}
	}
	var b strings.Builder
	if err := f.WriteFile(&b); err != nil {
		t.Fatal(err)
	}
	if n := elements(t, b.String()); n["style"] != 1 {
		t.Error("a file of its own has no style")
	}
}

var pairs = regexp.MustCompile(`[ML](-?[\d.]+) (-?[\d.]+)`)

// points are what a path goes through.
func points(svg, class string) (x, y []float64) {
	_, rest, _ := strings.Cut(svg, `<path class="`+class+`" d="`)
	path, _, _ := strings.Cut(rest, `"`)
	for _, p := range pairs.FindAllStringSubmatch(path, -1) {
		px, _ := strconv.ParseFloat(p[1], 64)
		py, _ := strconv.ParseFloat(p[2], 64)
		x, y = append(x, px), append(y, py)
	}
	return x, y
}

// A single reading that stands out of a million is drawn, on as few points as the
// image has columns.
func TestSpikesStay(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	m := Mark{Kind: Line, Series: 1}
	for i := range n {
		m.X, m.Y = append(m.X, float64(i)), append(m.Y, 100)
	}
	m.Y[123_456], m.Y[654_321] = 500, 0
	svg := draw(t, &Figure{Panels: []Panel{{Y: Axis{Fixed: true, Hi: 500}, Marks: []Mark{m}}}}, Wide)
	_, y := points(svg, "l s1")
	if top, foot := slices.Min(y), slices.Max(y); top != over || foot != over+usual {
		t.Errorf("from %g to %g, want %g to %g", top, foot, over, over+usual)
	}
	if len(y) > 4*Wide {
		t.Errorf("%d points", len(y))
	}
}

// What has a least and a most is drawn down to the one and up to the other, and its
// mean over that.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	m := Mark{Kind: Line, Series: 1, X: []float64{0, 1, 2}, Y: []float64{5, 5, 5}, Lo: []float64{5, 0, 5}, Hi: []float64{5, 10, 5}}
	svg := draw(t, &Figure{Panels: []Panel{{Y: Axis{Fixed: true, Hi: 10}, Marks: []Mark{m}}}}, Wide)
	_, y := points(svg, "l e s1")
	if slices.Min(y) != over || slices.Max(y) != over+usual {
		t.Errorf("points at %v", y)
	}
	if _, y := points(svg, "l s1"); slices.Min(y) != over+usual/2 || slices.Max(y) != over+usual/2 || len(y) != 3 {
		t.Errorf("means at %v", y)
	}
}

// A line is broken where a number is missing, and what stands alone is seen.
func TestBreaks(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	m := Mark{Kind: Line, Series: 1, X: []float64{0, 1, 2, 3, 4, 5, 6}, Y: []float64{1, 2, nan, 3, nan, 4, 5}}
	svg := draw(t, &Figure{Panels: []Panel{{Marks: []Mark{m}}}}, Wide)
	_, rest, _ := strings.Cut(svg, `<path class="l s1" d="`)
	path, _, _ := strings.Cut(rest, `"`)
	if strings.Count(path, "M") != 3 {
		t.Errorf("path %s", path)
	}
	if pieces := strings.Split(path, "M"); !strings.ContainsAny(pieces[2], "Lh") {
		t.Errorf("a single point draws nothing: %q", pieces)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		axis Axis
		lo   float64
		hi   float64
		n    int
		want string
	}{
		{Axis{}, 0, 700, 6, "0 200 400 600"},
		{Axis{}, 0, 1, 5, "0.0 0.2 0.4 0.6 0.8 1.0"},
		{Axis{}, -5, 5, 4, "-5 0 5"},
		{Axis{}, 78.79, 78.87, 4, "78.80 78.82 78.84 78.86"},
		{Axis{Log: true}, 0.1, 100, 6, "0.1 1 10 100"},
		{Axis{Log: true}, 1, 20, 6, "1 2 5 10 20"},
		{Axis{}, 5, 5, 4, "4.5 5.0 5.5"},
		{Axis{}, 0, 3e9, 3, "0 1e9 2e9 3e9"},
	} {
		k.axis.Fixed, k.axis.Lo, k.axis.Hi = true, k.lo, k.hi
		var got []string
		for _, tick := range newScale(k.axis, interval{}, 0, 100).ticks(k.n) {
			got = append(got, strings.Replace(tick.name, "0.0", "0", 1))
		}
		if want := strings.Replace(k.want, "0.0", "0", 1); strings.Join(got, " ") != want {
			t.Errorf("%g to %g: %q, want %q", k.lo, k.hi, strings.Join(got, " "), want)
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	f := &Figure{Heads: []string{"a", "b"}, Rows: func(yield func(...string)) { yield("1", `x,"y"`); yield("2", evil) }}
	var b bytes.Buffer
	if err := f.WriteCSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 || rows[1][1] != `x,"y"` {
		t.Errorf("%q, %v", rows, err)
	}
	if err := f.WriteCSV(full{}); err == nil {
		t.Error("a full disk is no error")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// Whatever the numbers, the image is well-formed and all that it has are numbers.
func FuzzImage(f *testing.F) {
	f.Add(1.0, 2.0, -3.0, 4.0, false, uint8(0))
	f.Add(0.0, 0.0, 0.0, 0.0, true, uint8(1))
	f.Add(1e308, -1e308, 1e-320, math.Inf(1), true, uint8(4))
	f.Add(math.NaN(), 1e300, 1e-300, math.Copysign(0, -1), false, uint8(6))
	f.Fuzz(func(t *testing.T, a, b, c, d float64, log bool, kind uint8) {
		m := Mark{Kind: Kind(kind) % (Area + 1), Series: 1, X: []float64{a, b, c}, X1: []float64{b, c, d}, Y: []float64{c, d, a}, Lo: []float64{d, a, b}, Hi: []float64{a, c, d}}
		svg := draw(t, &Figure{Name: "f", Panels: []Panel{{X: Axis{Log: log}, Y: Axis{Log: log}, Marks: []Mark{m}}}}, Narrow)
		elements(t, svg)
		if at := noNumber.FindStringIndex(svg); at != nil {
			t.Errorf("a number that is none: %.100q", svg[max(0, at[0]-60):])
		}
	})
}
