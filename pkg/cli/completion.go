package cli

import (
	"fmt"
	"strings"
)

// completion is a script that completes the tool's commands, options and file
// names in that shell.
func completion(t *Tool, shell string) (string, error) {
	type set struct {
		command string // empty: the tool itself
		options []option
	}
	sets := []set{{"", pageOf(t, nil).options}}
	var commands []string
	for _, c := range t.Commands {
		if !c.Hidden {
			commands = append(commands, c.Name)
			sets = append(sets, set{c.Name, append(pageOf(t, c).options, options(commonFlags())...)})
		}
	}
	words := func(s set) string {
		var all []string
		for _, o := range s.options {
			all = append(all, "--"+o.names[0])
		}
		all = append(all, "--help")
		if s.command == "" {
			all = append(append(all, "--version"), commands...)
		}
		return strings.Join(all, " ")
	}
	var b strings.Builder
	switch shell {
	case "bash", "zsh":
		if shell == "zsh" {
			fmt.Fprintf(&b, "#compdef %s\nautoload -U +X bashcompinit && bashcompinit\n", t.Name)
		}
		fmt.Fprintf(&b, "_%s() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words\n  case \" ${COMP_WORDS[*]:1:COMP_CWORD-1} \" in\n", t.Name)
		for _, s := range sets[1:] {
			fmt.Fprintf(&b, "  *\" %s \"*) words='%s' ;;\n", s.command, words(s))
		}
		fmt.Fprintf(&b, "  *) words='%s' ;;\n  esac\n", words(sets[0]))
		b.WriteString("  COMPREPLY=()\n  local w\n  for w in $words; do\n    case $w in \"$cur\"*) COMPREPLY+=(\"$w\") ;; esac\n  done\n}\n")
		fmt.Fprintf(&b, "complete -o default -F _%s %s\n", t.Name, t.Name)
	case "fish":
		for _, s := range sets {
			when := ""
			if s.command != "" {
				when = fmt.Sprintf(" -n '__fish_seen_subcommand_from %s'", s.command)
				fmt.Fprintf(&b, "complete -c %s -n __fish_use_subcommand -a %s\n", t.Name, s.command)
			}
			for _, o := range s.options {
				fmt.Fprintf(&b, "complete -c %s%s -l %s", t.Name, when, o.names[0])
				for _, n := range o.names[1:] {
					if len(n) == 1 {
						fmt.Fprintf(&b, " -s %s", n)
					}
				}
				if o.placeholder != "" {
					b.WriteString(" -r")
				}
				fmt.Fprintf(&b, " -d '%s'\n", strings.ReplaceAll(o.usage, "'", `\'`))
			}
		}
	default:
		return "", fmt.Errorf("no completion for %q (bash, zsh or fish)", shell)
	}
	return b.String(), nil
}
