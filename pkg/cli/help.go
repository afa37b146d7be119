package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	ucli "github.com/urfave/cli/v2"
)

// statuses is the "Exit status" part that all tools share.
var statuses = []struct {
	code int
	text string
}{
	{ExitOK, "done, and the result stands"},
	{ExitFailed, "failed: input or output, or data that cannot be used at all"},
	{ExitUsage, "usage"},
	{ExitDoubt, "finished, but the result does not stand; standard error says why"},
	{ExitUnavailable, "no NVML, no CUDA or no such GPU"},
	{ExitThermalTrip, "thermal trip"},
}

// option is a flag as help, manual and completion show it.
type option struct {
	names       []string // long name first
	placeholder string   // empty: takes no value
	usage       string
	value       string // default; may be empty
}

func options(flags []ucli.Flag) []option {
	var out []option
	for _, f := range flags {
		d, ok := f.(ucli.DocGenerationFlag)
		if v, hides := f.(ucli.VisibleFlag); !ok || hides && !v.IsVisible() {
			continue
		}
		o := option{names: f.Names(), usage: d.GetUsage(), value: d.GetDefaultText()}
		if d.TakesValue() {
			o.placeholder = "VALUE"
			if before, rest, ok := strings.Cut(o.usage, "`"); ok {
				if name, after, ok := strings.Cut(rest, "`"); ok {
					o.placeholder, o.usage = name, before+name+after
				}
			}
			o.value = strings.Trim(d.GetDefaultText(), `"`)
			if o.value == "" {
				o.value = d.GetValue()
			}
			switch d, err := time.ParseDuration(o.value); {
			case o.value == "0" || o.value == "[]" || o.value == "-":
				o.value = ""
			case err == nil:
				o.value = short(d)
			}
		} else {
			o.value = ""
		}
		out = append(out, o)
	}
	return out
}

// short is a duration without its zero parts: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// head is "--period TIME" with its short forms.
func (o option) head() string {
	var parts []string
	for _, n := range o.names {
		if len(n) == 1 {
			parts = append(parts, "-"+n)
		} else {
			parts = append(parts, "--"+n)
		}
	}
	head := strings.Join(parts, ", ")
	if o.placeholder != "" {
		head += " " + o.placeholder
	}
	return head
}

func (o option) text() string {
	if o.value != "" && !strings.Contains(o.usage, "(default") {
		return fmt.Sprintf("%s (default: %s)", o.usage, o.value)
	}
	return o.usage
}

// page is what help and manual say of a tool, or of one of its commands.
type page struct {
	name, usage, synopsis, long, examples, status string
	commands                                      []*ucli.Command
	options                                       []option
}

func pageOf(t *Tool, c *ucli.Command) page {
	if c == nil {
		return page{
			name: t.Name, usage: t.Usage, synopsis: t.Synopsis, long: t.Long, examples: t.Examples, status: t.Status,
			commands: t.Commands, options: options(append(t.Flags[:len(t.Flags):len(t.Flags)], commonFlags()...)),
		}
	}
	return page{name: t.Name + " " + c.Name, usage: c.Usage, synopsis: c.ArgsUsage, long: c.Description, options: options(c.Flags), status: t.Status}
}

// helpText is what --help prints.
func helpText(t *Tool, c *ucli.Command) string {
	p := pageOf(t, c)
	var b strings.Builder
	fmt.Fprintf(&b, "Name\n  %s - %s\n\nUsage\n  %s\n", p.name, p.usage, strings.TrimSpace(p.name+" "+p.synopsis))
	if p.long != "" {
		fmt.Fprintf(&b, "\nDescription\n%s\n", indent(p.long))
	}
	if len(p.commands) > 0 {
		b.WriteString("\nCommands\n")
		for _, c := range p.commands {
			if !c.Hidden {
				fmt.Fprintf(&b, "  %-12s %s\n", c.Name, c.Usage)
			}
		}
		fmt.Fprintf(&b, "  ('%s COMMAND --help' has a command's own options)\n", t.Name)
	}
	b.WriteString("\nOptions\n")
	for _, o := range append(p.options, option{names: []string{"help", "h"}, usage: "show this"}, option{names: []string{"version"}, usage: "show the version"}) {
		fmt.Fprintf(&b, "  %s\n%s\n", o.head(), wrap(o.text(), "      ", 86))
	}
	fmt.Fprintf(&b, "  Each can be set by environment as well: %s for --%s.\n", envName(t.Name, p.options[0].names[0]), p.options[0].names[0])
	if p.examples != "" {
		fmt.Fprintf(&b, "\nExamples\n%s\n", indent(p.examples))
	}
	b.WriteString("\nExit status\n")
	for _, s := range statuses {
		fmt.Fprintf(&b, "  %d  %s\n", s.code, s.text)
	}
	if p.status != "" {
		fmt.Fprintf(&b, "%s\n", indent(p.status))
	}
	return b.String()
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "), "\n  \n", "\n\n")
}

// wrap breaks text into lines of at most width columns.
func wrap(text, margin string, width int) string {
	var b strings.Builder
	line := margin
	for _, word := range strings.Fields(text) {
		if len(line) > len(margin) && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = margin
		}
		if len(line) > len(margin) {
			line += " "
		}
		line += word
	}
	b.WriteString(line)
	return b.String()
}

// literal is a template that prints text.
func literal(text string) string { return strings.ReplaceAll(text, "{{", `{{"{{"}}`) }

// manPage is the tool's page for section 1 of the manual, in roff.
func manPage(t *Tool) string {
	p := pageOf(t, nil)
	var b strings.Builder
	v, _ := build()
	fmt.Fprintf(&b, "%% %s 1 \"\" \"joulepipe %s\" \"joulepipe\"\n\n", t.Name, v)
	fmt.Fprintf(&b, "# NAME\n\n%s - %s\n\n# SYNOPSIS\n\n**%s** %s\n\n", p.name, p.usage, p.name, escape(p.synopsis))
	fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n# OPTIONS\n\n", prose(p.long))
	optionList := func(list []option) {
		for _, o := range list {
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", o.head(), escape(o.text()))
		}
	}
	optionList(p.options)
	for _, c := range t.Commands {
		if !c.Hidden {
			q := pageOf(t, c)
			fmt.Fprintf(&b, "# COMMAND %s\n\n%s %s\n\n%s\n\n%s\n\n", strings.ToUpper(c.Name), q.name, escape(q.synopsis), escape(q.usage), prose(q.long))
			optionList(q.options)
		}
	}
	b.WriteString("# EXIT STATUS\n\n")
	for _, s := range statuses {
		fmt.Fprintf(&b, "**%d**\n: %s\n\n", s.code, s.text)
	}
	for _, line := range strings.Split(p.status, "\n") {
		if code, text, ok := strings.Cut(line, " "); ok {
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", code, escape(text))
		}
	}
	fmt.Fprintf(&b, "# ENVIRONMENT\n\nEvery option can be set by a variable: %s for **--%s**.\n\n", envName(t.Name, p.options[0].names[0]), p.options[0].names[0])
	if p.examples != "" {
		fmt.Fprintf(&b, "# EXAMPLES\n\n```\n%s\n```\n\n", p.examples)
	}
	b.WriteString("# SEE ALSO\n\n")
	var others []string
	for _, name := range []string{"nvpoll", "nvbaseline", "nvload", "nvattrib", "nvsoak", "nvreport"} {
		if name != t.Name {
			others = append(others, "**"+name+"**(1)")
		}
	}
	b.WriteString(strings.Join(others, ", ") + "\n")
	return string(md2man.Render([]byte(b.String())))
}

// prose is text of which indented paragraphs are commands: they keep their lines.
func prose(text string) string {
	parts := strings.Split(text, "\n\n")
	for i, part := range parts {
		if strings.HasPrefix(part, "  ") {
			parts[i] = "```\n" + strings.TrimPrefix(strings.ReplaceAll(part, "\n  ", "\n"), "  ") + "\n```"
		} else {
			parts[i] = escape(part)
		}
	}
	return strings.Join(parts, "\n\n")
}

// escape keeps Markdown from reading markup into plain text.
func escape(text string) string {
	return strings.NewReplacer("*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`, "]", `\]`, "|", `\|`).Replace(text)
}
