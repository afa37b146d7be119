// Package chart draws charts as SVG: panels with axes and ticks, lines that
// keep the least and the most of what they stand for, points with intervals,
// bars, bands and cells. It knows nothing of what is drawn.
//
// A figure is described once and drawn at several widths. Its colours are CSS
// variables, so that it follows a page from light to dark; series differ in dash
// or shape as well. Every word in it is escaped, and a number that is none is not
// drawn.
package chart

import (
	"encoding/csv"
	"errors"
	"io"
)

// Figure is one or more panels under each other, with the data that they show.
type Figure struct {
	Name   string // of its files, of letters and hyphens
	Title  string
	Desc   string // what it shows, in words, for who cannot see it
	Panels []Panel

	// Heads and Rows are the data as a table. Rows hands each row to yield.
	Heads []string
	Rows  func(yield func(cells ...string))
}

// Panel is one pair of axes and what is drawn between them, in that order.
type Panel struct {
	X, Y   Axis
	Height float64 // of the plot, in CSS pixels; 0: what suits one
	Marks  []Mark
}

// Axis is one direction of a panel. Its ends are those of the data, unless they
// are fixed.
type Axis struct {
	Label      string // with the unit: "Power, W"
	Log        bool
	Zero       bool      // 0 is on it
	Fixed      bool      // Lo and Hi are its ends
	Lo, Hi     float64   //
	Categories []string  // names of 0, 1, 2, … in place of numbers
	Ticks      []float64 // where numbers stand; nil: at round ones
	Bare       bool      // neither numbers nor label, as the panel below has them
}

// Kind is how a mark is drawn.
type Kind int

// The kinds of mark, and which fields each takes.
const (
	Line   Kind = iota // through X, Y, broken where either is not a number; with Lo and Hi, down to the one and up to the other at each X
	Points             // a shape at X, Y, with a whisker from Lo to Hi where these are numbers
	Bars               // from X to X1, as high as Y
	Band               // from X to X1, over the full height
	Cells              // rectangles from X to X1 and Lo to Hi, as strong as Y, from 0 to 1
	Level              // across the panel at Y, with a band from Lo to Hi
	Area               // between Lo and Hi along X
)

// Shape is how a point is drawn.
type Shape int

// The shapes.
const (
	Circle Shape = iota
	Square
	Triangle
	Diamond
	Cross
	Ring
)

// Mark is something drawn in a panel. Slices of one mark are of one length, and
// those that its kind does not take are nil.
type Mark struct {
	Kind   Kind
	Name   string // in the legend; empty: not there
	Series int    // 1 to 6, which colour and dash; 0: muted
	Shape  Shape
	Strong bool // a band that must be seen, however narrow
	Dashed bool
	X, X1  []float64
	Y      []float64
	Lo, Hi []float64
}

// WriteCSV writes the data of the figure.
func (f *Figure) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	failed := c.Write(f.Heads)
	f.Rows(func(cells ...string) {
		if err := c.Write(cells); err != nil {
			failed = errors.Join(failed, err)
		}
	})
	c.Flush()
	return errors.Join(failed, c.Error())
}

// Style is the CSS of figures: their colours by day and by night. The colours
// are told apart by eyes that miss one of the three, and stand out from the
// ground by 3 to 1.
const Style = `.fig{--f-ink:#1b1f24;--f-muted:#59636e;--f-grid:#d8dee4;--f-ground:#fff;--f-1:#0065a3;--f-2:#c2510a;--f-3:#007a58;--f-4:#a0408a;--f-5:#806300;--f-6:#4a5568}
@media (prefers-color-scheme:dark){.fig{--f-ink:#e6e9ed;--f-muted:#a3adb8;--f-grid:#39424c;--f-ground:#15191e;--f-1:#56b4e9;--f-2:#ff9a52;--f-3:#3ccf9f;--f-4:#e59ac7;--f-5:#f0d24b;--f-6:#b8c0cc}}
@media print{.fig{--f-ink:#000;--f-muted:#444;--f-grid:#ccc;--f-ground:#fff;--f-1:#0065a3;--f-2:#c2510a;--f-3:#007a58;--f-4:#a0408a;--f-5:#806300;--f-6:#4a5568}}
.fig text{font:12px system-ui,"DejaVu Sans",sans-serif;fill:var(--f-ink)}
.fig .t{fill:var(--f-muted)}
.fig .g{stroke:var(--f-grid);stroke-width:1;fill:none;shape-rendering:crispEdges}
.fig .a{stroke:var(--f-muted);stroke-width:1;fill:none;shape-rendering:crispEdges}
.fig .s0{--c:var(--f-muted)}.fig .s1{--c:var(--f-1)}.fig .s2{--c:var(--f-2)}.fig .s3{--c:var(--f-3)}.fig .s4{--c:var(--f-4)}.fig .s5{--c:var(--f-5)}.fig .s6{--c:var(--f-6)}
.fig .l{stroke:var(--c);stroke-width:1.25;fill:none;stroke-linejoin:round}
.fig .e{stroke-opacity:.5}
.fig .d{stroke-dasharray:6 3}
.fig .w{stroke:var(--c);stroke-width:1;fill:none}
.fig .p{stroke:var(--c);stroke-width:1.25;fill:var(--c)}
.fig .o{stroke:var(--c);stroke-width:1.5;fill:var(--f-ground)}
.fig .b{fill:var(--c);fill-opacity:.75}
.fig .h{fill:var(--c);fill-opacity:.16}
.fig .k{fill:var(--c);fill-opacity:.6}
.fig .c{fill:var(--c)}
`
