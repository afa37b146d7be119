package report

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode"

	"joulepipe/pkg/chart"
)

//go:embed report.html.tmpl
var htmlSource string

//go:embed report.css
var htmlStyle string

var htmlTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"phrases": phrases, "spoken": spoken, "mark": mark}).Parse(htmlSource))

// document is what the template sets. Its words are Markdown, which phrases takes
// apart; nothing in it is HTML but figures, which package chart escapes.
type document struct {
	Title    string
	Subject  string
	Front    *Front
	Style    template.CSS
	Sections []section
}

type section struct {
	ID, Head string
	Parts    []piece
}

// piece is a part of a page as the template takes it.
type piece struct {
	Sub, SubID     string
	Words          string
	Bullets, Steps []string
	Table          *htmlTable
	Figure         *htmlFigure
}

type htmlTable struct {
	Label string // what it is of, for who cannot see where it stands
	Cards bool   // on a narrow screen each row is a card, as the cells are words
	Heads []htmlHead
	Rows  [][]htmlCell
}

type htmlHead struct {
	Words string
	Right bool
}

type htmlCell struct {
	Words, Head string
	Right       bool
	Verdict     string // good, bad, open or doubt; empty: none
	Long        bool   // a verdict that gives its reason
}

type htmlFigure struct {
	Name, Title, Desc string
	Wide, Narrow      template.HTML
}

// HTML writes the report as one page that needs nothing else: no network, no
// script, figures in it.
func (r *Run) HTML(w io.Writer) error {
	d := document{Front: r.Front, Style: template.CSS(htmlStyle + chart.Style)}
	label := ""
	add := func(p piece) {
		s := &d.Sections[len(d.Sections)-1]
		s.Parts = append(s.Parts, p)
	}
	ids, labels := map[string]bool{}, map[string]int{}
	for _, k := range r.compose().parts {
		switch {
		case k.title != "":
			d.Title = k.title
			continue
		case k.front != nil:
			d.Sections = append(d.Sections, section{ID: "summary", Head: "Summary"})
			label = "Summary"
			continue
		case len(d.Sections) == 0: // before the front: whose run it is
			d.Subject = cmp.Or(d.Subject, k.words)
			if d.Subject != k.words {
				d.Subject += " " + k.words
			}
			continue
		case k.head != "":
			d.Sections = append(d.Sections, section{ID: slug(k.head, ids), Head: k.head})
			label = k.head
		case k.sub != "":
			add(piece{Sub: k.sub, SubID: slug(k.sub, ids)})
			label = k.sub
		case k.words != "":
			add(piece{Words: k.words})
		case k.table != nil:
			name := label + ", table"
			if labels[name]++; labels[name] > 1 {
				name = fmt.Sprintf("%s %d", name, labels[name])
			}
			add(piece{Table: k.table.html(name)})
		case k.figure != nil:
			f, err := drawing(k.figure)
			if err != nil {
				return err
			}
			add(piece{Figure: f})
		default:
			add(piece{Bullets: k.bullets, Steps: k.steps})
		}
	}
	var b bytes.Buffer
	if err := htmlTemplate.Execute(&b, d); err != nil {
		return err
	}
	_, err := b.WriteTo(w)
	return err
}

// drawing is a figure for a page and for a telephone.
func drawing(f *chart.Figure) (*htmlFigure, error) {
	var wide, narrow strings.Builder
	if err := f.SVG(&wide, chart.Wide, ""); err != nil {
		return nil, err
	}
	if err := f.SVG(&narrow, chart.Narrow, "-narrow"); err != nil {
		return nil, err
	}
	return &htmlFigure{f.Name, f.Title, f.Desc, template.HTML(wide.String()), template.HTML(narrow.String())}, nil
}

// html is the table for the template. Where every column is of words, a narrow
// screen has no room for them side by side.
func (t *table) html(label string) *htmlTable {
	out := &htmlTable{Label: label, Cards: len(t.heads) > 2}
	for i, h := range t.heads {
		if h == "" {
			continue // bars of letters, which a figure has better
		}
		out.Heads = append(out.Heads, htmlHead{h, t.right[i]})
		out.Cards = out.Cards && !t.right[i]
	}
	for _, row := range t.rows {
		var cells []htmlCell
		for i, words := range row {
			if t.heads[i] == "" {
				continue
			}
			c := htmlCell{Words: words, Head: t.heads[i], Right: t.right[i]}
			if t.verdict[i] {
				c.Verdict, c.Long = mark(words), len(words) > 20
			}
			cells = append(cells, c)
		}
		out.Rows = append(out.Rows, cells)
	}
	return out
}

// mark is how a verdict is set off, beside its words. What is not as it should be
// is bold in them.
func mark(verdict string) string {
	plain, bold := strings.CutPrefix(verdict, "**")
	switch {
	case strings.HasPrefix(plain, string(NotJudged)) || verdict == "no" || verdict == absent:
		return "open"
	case strings.HasPrefix(plain, string(Degraded)) || strings.HasPrefix(plain, "fail by design") || verdict == "with care" || verdict == Analysis:
		return "doubt"
	case bold || verdict == Useless:
		return "bad"
	}
	return "good"
}

// spoken is what words say, without how they are set.
func spoken(words string) string {
	var b strings.Builder
	for _, p := range phrases(words) {
		b.WriteString(p.Text)
	}
	return b.String()
}

// slug makes the name of a place out of a heading, as Markdown does; no two are
// alike.
func slug(head string, taken map[string]bool) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		case r == ' ' || r == '-':
			return '-'
		}
		return -1
	}, head)
	for n, base := 2, name; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	taken[name] = true
	return name
}
