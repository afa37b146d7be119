package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"joulepipe/pkg/chart"
)

// page is a report in the making: its parts in order, made once and then set
// by a renderer for Markdown and by one for HTML, so that the two say the same.
//
// Words in it are Markdown, of which HTML reads back code spans, bold, links and
// escapes (see phrases): what comes out of a file goes through code or text.
type page struct{ parts []part }

// part is one piece of a page. Exactly one of its fields is set, besides from.
type part struct {
	title   string   // of the page
	head    string   // of a section
	sub     string   // of a part of a section
	words   string   // a paragraph
	bullets []string // a list
	steps   []string // a numbered list
	table   *table
	front   *Front // what a reader sees first
	figure  *chart.Figure
}

// head begins a section, and says which files it was computed from.
func (p *page) head(title string, from ...string) {
	p.parts = append(p.parts, part{head: title})
	if from := files(from...); from != "" {
		p.say("From %s.", from)
	}
}

func (p *page) sub(title string) { p.parts = append(p.parts, part{sub: title}) }

func (p *page) say(format string, args ...any) {
	p.parts = append(p.parts, part{words: fmt.Sprintf(format, args...)})
}

func (p *page) table(t *table) { p.parts = append(p.parts, part{table: t}) }

func (p *page) list(items []string) {
	if len(items) > 0 {
		p.parts = append(p.parts, part{bullets: items})
	}
}

func (p *page) steps(items []string) { p.parts = append(p.parts, part{steps: items}) }

// files sets the names of those files that there are.
func files(names ...string) string {
	var set []string
	for _, name := range names {
		if name != "" {
			set = append(set, code(name))
		}
	}
	return strings.Join(set, ", ")
}

// table is a Markdown table whose columns are padded, so that it reads well
// where nothing renders it.
type table struct {
	heads   []string
	right   []bool
	verdict []bool // columns of verdicts
	rows    [][]string
}

// columns begins a table. A heading that starts with ">" names a column of
// numbers, which is set flush right, one that starts with "?" a column of
// verdicts.
func columns(heads ...string) *table {
	t := &table{}
	for _, h := range heads {
		name, right := strings.CutPrefix(h, ">")
		name, verdict := strings.CutPrefix(name, "?")
		t.heads = append(t.heads, name)
		t.right = append(t.right, right)
		t.verdict = append(t.verdict, verdict)
	}
	return t
}

// row adds a line of cells that are Markdown already; see code and text for
// what comes from a file.
func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	widths := make([]int, len(t.heads))
	for i, h := range t.heads {
		widths[i] = max(3, utf8.RuneCountInString(h))
	}
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(cells []string) {
		for i, cell := range cells {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if t.right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	line(t.heads)
	for i, n := range widths {
		if t.right[i] {
			b.WriteString("| " + strings.Repeat("-", n-1) + ": ")
		} else {
			b.WriteString("| " + strings.Repeat("-", n) + " ")
		}
	}
	b.WriteString("|\n")
	for _, row := range t.rows {
		line(row)
	}
	return b.String()
}

// How many characters of a name and of a sentence out of a file are shown.
const (
	nameLength     = 60
	sentenceLength = 300
)

// line makes one line of printable characters of s, no longer than n.
func line(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != utf8.RuneError {
			return r
		}
		return ' '
	}, s)
	if r := []rune(s); len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return strings.TrimSpace(s)
}

// plain is a name out of a file, to be used in a sentence.
func plain(s string) string { return line(s, nameLength) }

// code sets a name out of a file as a code span that cannot end early or break
// its table.
func code(s string) string {
	s = strings.NewReplacer("`", "'", "|", `\|`).Replace(plain(s))
	if s == "" {
		return absent
	}
	return "`" + s + "`"
}

// markup is what would be read as Markdown or HTML in the middle of a line; a
// "<" before a space is none.
var markup = strings.NewReplacer(`\`, `\\`, "|", `\|`, "< ", "< ", "<", "&lt;", "&", "&amp;", "[", `\[`, "]", `\]`, "`", "\\`", "*", `\*`)

// text sets words, some of which may be out of a file, so that nothing in them
// is markup.
func text(s string) string {
	if s = line(s, sentenceLength); s == "" {
		return absent
	}
	return markup.Replace(s)
}

// phrase is a run of words set in one way.
type phrase struct {
	Text   string
	Code   bool
	Strong bool
	Link   string // where it leads; empty: nowhere
}

// phrases reads a line of words back into what it says: `code`, **bold**,
// [text](#place), and what text and code have escaped.
func phrases(s string) []phrase {
	var out []phrase
	var b strings.Builder
	strong := false
	flush := func() {
		if b.Len() > 0 {
			out = append(out, phrase{Text: b.String(), Strong: strong})
			b.Reset()
		}
	}
	for s != "" {
		switch {
		case s[0] == '\\' && len(s) > 1:
			_, n := utf8.DecodeRuneInString(s[1:])
			b.WriteString(s[1 : 1+n])
			s = s[1+n:]
			continue
		case strings.HasPrefix(s, "&lt;"):
			b.WriteByte('<')
			s = s[len("&lt;"):]
			continue
		case strings.HasPrefix(s, "&amp;"):
			b.WriteByte('&')
			s = s[len("&amp;"):]
			continue
		case strings.HasPrefix(s, "**"):
			flush()
			strong = !strong
			s = s[2:]
			continue
		case s[0] == '`':
			if code, rest, ok := strings.Cut(s[1:], "`"); ok {
				flush()
				out = append(out, phrase{Text: strings.ReplaceAll(code, `\|`, "|"), Code: true, Strong: strong})
				s = rest
				continue
			}
		case s[0] == '[':
			name, rest, ok := strings.Cut(s[1:], "](#")
			place, after, closed := strings.Cut(rest, ")")
			if ok && closed {
				flush()
				out = append(out, phrase{Text: name, Link: "#" + place, Strong: strong})
				s = after
				continue
			}
		}
		_, n := utf8.DecodeRuneInString(s)
		b.WriteString(s[:n])
		s = s[n:]
	}
	flush()
	return out
}
