package report

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// page is a Markdown document in the making.
type page struct{ bytes.Buffer }

// head begins a part, and says which files it was computed from.
func (p *page) head(title string, from ...string) {
	fmt.Fprintf(p, "## %s\n\n", title)
	if from := files(from...); from != "" {
		p.say("From %s.", from)
	}
}

func (p *page) say(format string, args ...any) { fmt.Fprintf(p, format+"\n\n", args...) }

func (p *page) table(t *table) { fmt.Fprintf(p, "%s\n", t) }

func (p *page) list(items []string) {
	for _, item := range items {
		fmt.Fprintf(p, "- %s\n", item)
	}
	if len(items) > 0 {
		p.WriteByte('\n')
	}
}

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
	heads []string
	right []bool
	rows  [][]string
}

// columns begins a table. A heading that starts with ">" names a column of
// numbers, which is set flush right.
func columns(heads ...string) *table {
	t := &table{}
	for _, h := range heads {
		name, right := strings.CutPrefix(h, ">")
		t.heads = append(t.heads, name)
		t.right = append(t.right, right)
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
