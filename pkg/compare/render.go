package compare

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"joulepipe/pkg/record"
)

// Formats are the forms that Write has.
var Formats = []string{"text", "md", "json", "csv"}

// Write writes the comparison in one of Formats.
func (c *Comparison) Write(w io.Writer, format string) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(c)
	case "csv":
		return c.csv(w)
	case "md":
		_, err := io.WriteString(w, c.page(markdown{}))
		return err
	case "text":
		_, err := io.WriteString(w, c.page(plain{}))
		return err
	}
	return fmt.Errorf("no format %q (%s)", format, strings.Join(Formats, ", "))
}

// csv has a line for each pair.
func (c *Comparison) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	lines := [][]string{{"metric", "of", "unit", "better", "base", "base_value", "base_ci95", "base_n", "side", "value", "ci95", "n",
		"ratio", "ratio_low", "ratio_high", "delta", "delta_low", "delta_high", "p", "stands", "verdict", "reason"}}
	for _, row := range c.Rows {
		for i, ch := range row.Change {
			a, b := row.Values[0], row.Values[i+1]
			lo, hi := ends(ch.RatioCI95)
			dlo, dhi := ends(ch.DeltaCI95)
			lines = append(lines, []string{
				row.Metric, row.Of, row.Unit, row.Better, c.Sides[0].Name, cell(a.Value), cell(a.CI95), strconv.Itoa(a.N),
				c.Sides[i+1].Name, cell(b.Value), cell(b.CI95), strconv.Itoa(b.N),
				cell(ch.Ratio), lo, hi, cell(ch.Delta), dlo, dhi, cell(ch.P), strconv.FormatBool(ch.Stands), string(ch.Verdict), ch.Reason,
			})
		}
	}
	return out.WriteAll(lines)
}

func cell(o record.Opt[float64]) string {
	if v, ok := o.Get(); ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return ""
}

func ends(ci []float64) (lo, hi string) {
	if len(ci) != 2 {
		return "", ""
	}
	return cell(record.Some(ci[0])), cell(record.Some(ci[1]))
}

// style is how a page is set.
type style interface {
	head(level int, text string) string
	table(heads []string, rows [][]string) string
	item(text string) string
	name(text string) string // out of a file
}

// page is the comparison for people.
func (c *Comparison) page(s style) string {
	var b strings.Builder
	title := "Runs side by side"
	if c.Purpose == "regression" {
		title = "Regressions against " + s.name(c.Sides[0].Name)
	}
	b.WriteString(s.head(1, title))
	c.sides(&b, s)
	c.verdicts(&b, s)
	for _, m := range Metrics {
		rows := c.of(m.ID)
		if len(rows) == 0 {
			continue
		}
		title := m.Title
		if m.Unit != "" {
			title += ", " + m.Unit
		}
		b.WriteString(s.head(2, title+" ("+m.Better+" is better)"))
		heads := []string{"Of"}
		for i, side := range c.Sides {
			heads = append(heads, s.name(side.Name))
			if i > 0 {
				heads = append(heads, "against "+s.name(c.Sides[0].Name))
			}
		}
		var lines [][]string
		for _, row := range rows {
			line := []string{s.name(row.Of)}
			for i, v := range row.Values {
				line = append(line, v.text())
				if i > 0 {
					line = append(line, row.Change[i-1].text(s))
				}
			}
			lines = append(lines, line)
		}
		b.WriteString(s.table(heads, lines))
	}
	if len(c.Notes) > 0 {
		b.WriteString(s.head(2, "Notes"))
		for _, n := range c.Notes {
			b.WriteString(s.item(s.name(n)))
		}
	}
	return b.String()
}

func (c *Comparison) of(metric string) (rows []Row) {
	for _, r := range c.Rows {
		if r.Metric == metric {
			rows = append(rows, r)
		}
	}
	return rows
}

// sides says what is compared, what differs, and whether each stands.
func (c *Comparison) sides(b *strings.Builder, s style) {
	var lines [][]string
	for _, a := range c.Sides {
		var boards []string
		for _, g := range a.GPUs {
			board := s.name(g.Name)
			if g.Driver != "" {
				board += ", driver " + s.name(g.Driver)
			}
			if w, ok := g.PowerLimitW.Get(); ok {
				board += fmt.Sprintf(", %g W", w)
			}
			boards = append(boards, strings.TrimPrefix(board, ", "))
		}
		if len(boards) == 0 {
			boards = []string{"not told"}
		}
		stands := "stands"
		if len(a.Doubts) > 0 {
			stands = "does not stand: " + strings.Join(a.Doubts, ", ")
		}
		runs := s.name(strings.Join(a.Dirs, ", "))
		lines = append(lines, []string{s.name(a.Name), runs, strings.Join(boards, "; "), stands})
	}
	b.WriteString(s.table([]string{"Side", "Run", "GPU", "By nvreport check"}, lines))
	for _, a := range c.Sides {
		if a.Simulated {
			b.WriteString(s.item(s.name(a.Name) + " is simulated: no hardware was measured"))
		}
	}
	for _, d := range c.Differences {
		var parts []string
		for i, v := range d.Values {
			if v == "" {
				v = "not told"
			}
			parts = append(parts, s.name(c.Sides[i].Name)+" "+s.name(v))
		}
		b.WriteString(s.item(d.What + " differs: " + strings.Join(parts, ", ")))
	}
	for _, why := range c.Refusals {
		b.WriteString(s.item("not comparable: " + s.name(why)))
	}
	b.WriteString("\n")
}

// verdicts counts them, for each side but the base.
func (c *Comparison) verdicts(b *strings.Builder, s style) {
	for i := range c.Sides[1:] {
		n := map[Verdict]int{}
		for _, row := range c.Rows {
			n[row.Change[i].Verdict]++
		}
		var parts []string
		for _, v := range []Verdict{Better, Worse, Differs, NoneShown, NotCompared} {
			if n[v] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n[v], v))
			}
		}
		b.WriteString(s.item(fmt.Sprintf("%s against %s: %s", s.name(c.Sides[i+1].Name), s.name(c.Sides[0].Name), strings.Join(parts, ", "))))
	}
	for _, r := range c.Regressions {
		b.WriteString(s.item("regression: " + s.name(r.String())))
	}
	if c.Purpose == "regression" && len(c.Regressions) == 0 {
		b.WriteString(s.item(fmt.Sprintf("no regression of more than %.3g %% is shown", 100**c.Allowed)))
	}
	b.WriteString("\n")
}

func (r Regression) String() string {
	return fmt.Sprintf("%s of %s is %.3g %% worse", strings.TrimSpace(r.Metric+" "+r.Of), r.Side, 100*r.By)
}

// text is a value with its interval and what it is of.
func (v Value) text() string {
	x, ok := v.Value.Get()
	if !ok {
		if v.Why == "" {
			return "–"
		}
		return "– (" + clean(v.Why, 60) + ")"
	}
	text := digits(x)
	switch ci, told := v.CI95.Get(); {
	case told && x != 0 && ci < math.Abs(x):
		text += " ± " + percent(ci/math.Abs(x))
	case told:
		text += " ± " + digits(ci)
	}
	if v.Exact {
		return text
	}
	return fmt.Sprintf("%s n=%d", text, v.N)
}

// text is a change in words; a difference that is not shown has no figure.
func (ch Change) text(s style) string {
	mark := ""
	if ch.Stands {
		mark = "*"
	}
	reason := ""
	if ch.Reason != "" {
		reason = ": " + s.name(ch.Reason)
	}
	switch ch.Verdict {
	case NotCompared:
		if r, ok := ch.Ratio.Get(); ok {
			return "not compared, ratio " + digits(r) + reason
		}
		return string(ch.Verdict) + reason
	case NoneShown:
		if len(ch.RatioCI95) == 2 {
			return fmt.Sprintf("%s (%s to %s)%s", ch.Verdict, signed(ch.RatioCI95[0]-1), signed(ch.RatioCI95[1]-1), reason)
		}
		if len(ch.DeltaCI95) == 2 {
			return fmt.Sprintf("%s (%+.3g to %+.3g)%s", ch.Verdict, ch.DeltaCI95[0], ch.DeltaCI95[1], reason)
		}
		return string(ch.Verdict) + reason
	}
	if len(ch.DeltaCI95) == 2 {
		return fmt.Sprintf("%+.3g (%+.3g to %+.3g) %s%s%s", ch.Delta.V, ch.DeltaCI95[0], ch.DeltaCI95[1], ch.Verdict, mark, reason)
	}
	text := ""
	if r, ok := ch.Ratio.Get(); ok {
		text = signed(r-1) + " "
	}
	if len(ch.RatioCI95) == 2 {
		text += fmt.Sprintf("(%s to %s) ", signed(ch.RatioCI95[0]-1), signed(ch.RatioCI95[1]-1))
	}
	return text + string(ch.Verdict) + mark + reason
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'g', 2, 64) + " %" }

func signed(share float64) string {
	return strings.Replace(fmt.Sprintf("%+.3g %%", 100*share), "-", "−", 1)
}

// digits is a number with four of them, without an exponent where a reader can
// do without.
func digits(x float64) string {
	a := math.Abs(x)
	if a == 0 || a >= 1e7 || a < 1e-4 {
		return strconv.FormatFloat(x, 'g', 4, 64)
	}
	return strconv.FormatFloat(x, 'f', max(0, 3-int(math.Floor(math.Log10(a)))), 64)
}

// clean makes one line of printable characters of what stood in a file.
func clean(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most-1]) + "…"
	}
	return strings.TrimSpace(s)
}

// plain sets a page for a terminal.
type plain struct{}

func (plain) head(level int, text string) string { return text + "\n" }
func (plain) item(text string) string            { return "- " + text + "\n" }
func (plain) name(text string) string            { return clean(text, 400) }

func (plain) table(heads []string, rows [][]string) string {
	var b strings.Builder
	widths := make([]int, len(heads))
	all := append([][]string{heads}, rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range all {
		line := "  "
		for i, cell := range row {
			line += cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String() + "\n"
}

// markdown sets a page in Markdown.
type markdown struct{}

func (markdown) head(level int, text string) string {
	return strings.Repeat("#", level) + " " + text + "\n\n"
}
func (markdown) item(text string) string { return "- " + text + "\n" }

var markup = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", "&", "&amp;", "[", `\[`, "]", `\]`, "`", "\\`", "*", `\*`, "_", `\_`)

func (markdown) name(text string) string { return markup.Replace(clean(text, 400)) }

func (markdown) table(heads []string, rows [][]string) string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(heads, " | ") + " |\n|" + strings.Repeat(" --- |", len(heads)) + "\n")
	for _, row := range rows {
		// A mark of what stands is no emphasis.
		cells := slices.Clone(row)
		for i, cell := range cells {
			if strings.HasSuffix(cell, "*") && !strings.HasSuffix(cell, `\*`) {
				cells[i] = strings.TrimSuffix(cell, "*") + `\*`
			}
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String() + "\n"
}
