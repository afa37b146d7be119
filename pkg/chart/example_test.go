package chart_test

import (
	"fmt"
	"strings"

	"joulepipe/pkg/chart"
)

// Power over time, with the stretch in which a load ran.
func Example() {
	f := &chart.Figure{
		Name: "power", Title: "Power over the run", Desc: "From 100 to 300 W.",
		Panels: []chart.Panel{{
			X: chart.Axis{Label: "Time, s"}, Y: chart.Axis{Label: "Power, W", Zero: true},
			Marks: []chart.Mark{
				{Kind: chart.Band, Name: "decode", Series: 1, X: []float64{1}, X1: []float64{2}},
				{Kind: chart.Line, Name: "GPU 0", Series: 6, X: []float64{0, 1, 1, 2, 2, 3}, Y: []float64{100, 100, 300, 300, 100, 100}},
			},
		}},
	}
	var svg strings.Builder
	if err := f.SVG(&svg, chart.Wide, ""); err != nil {
		fmt.Println(err)
	}
	first, _, _ := strings.Cut(svg.String(), "\n")
	fmt.Println(first)
	// Output:
	// <svg xmlns="http://www.w3.org/2000/svg" class="fig" viewBox="0 0 900 308" width="900" height="308" role="img" aria-labelledby="power-t power-d">
}
