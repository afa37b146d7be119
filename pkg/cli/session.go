package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"

	ucli "github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// session is one run of a tool: what it has said and what it doubts.
type session struct {
	tool    *Tool
	process *Process

	mu       sync.Mutex
	quiet    bool
	progress bool
	doubts   int
	said     map[string]int // warnings, and how often
	order    []string
	badLines int64
	piped    bool // standard input is being read
	lingers  bool // see Linger
	inputs   []fs.FileInfo
	partial  []string // names of files that are not complete
}

func newSession(t *Tool, p *Process) *session {
	if p.Getenv == nil {
		p.Getenv = func(string) string { return "" }
	}
	return &session{tool: t, process: p, said: map[string]int{}}
}

// watch turns signals into the end of ctx, and a second one, or the first where
// nothing is to be waited for, into the end of the process.
func (s *session) watch(cancel func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-s.process.Signals:
			}
			s.mu.Lock()
			wait := s.tool.Source || s.piped || s.lingers
			s.mu.Unlock()
			cancel()
			if n > 0 || !wait {
				s.say("interrupted" + s.written())
				s.process.Exit(ExitInterrupted)
			}
			if !s.tool.Source && terminal(s.process.Stderr) {
				s.say("interrupted, reading to the end of the input (once more to quit)")
			}
		}
	}()
	return func() { close(done) }
}

// begun notes a file that is not complete.
func (s *session) begun(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partial = append(s.partial, name)
}

// complete notes that it is, or is no more.
func (s *session) complete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partial = slices.DeleteFunc(s.partial, func(p string) bool { return p == name })
}

// written says where there is what was written and is not complete.
func (s *session) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.partial) == 0 {
		return ""
	}
	return "; what was written is in " + strings.Join(s.partial, ", ")
}

// settle gives every flag that was not set on the command line its value from
// the environment or the configuration file, and takes in the common flags.
func (s *session) settle(c *Context) error {
	flags := c.App.Flags
	if c.Command != nil && c.Command.Name != c.App.Name {
		flags = append(flags[:len(flags):len(flags)], c.Command.Flags...)
	}
	lineage := c.Lineage()
	for _, f := range flags {
		name := f.Names()[0]
		if name == "help" || name == "version" || c.Context.IsSet(name) && setHere(lineage[0], name) {
			continue
		}
		// A flag before the command counts for the command's own as well.
		for _, outer := range lineage[1:] {
			if outer.Command != nil && setHere(outer, name) {
				if err := c.Set(name, fmt.Sprint(outer.Value(name))); err != nil {
					return s.usageError(c.Command, fmt.Errorf("--%s: %w", name, err))
				}
			}
		}
		if setHere(lineage[0], name) {
			continue
		}
		if v := s.process.Getenv(envName(s.tool.Name, name)); v != "" {
			if err := c.Set(name, v); err != nil {
				return s.usageError(c.Command, fmt.Errorf("%s=%s: %w", envName(s.tool.Name, name), v, err))
			}
		}
	}
	if file := c.String("config"); file != "" {
		if err := s.configure(c, file, flags); err != nil {
			return err
		}
	}
	s.quiet, s.progress = c.Bool("quiet"), c.Bool("progress")
	return s.misplaced(c)
}

// setHere says that a flag was given on this level of the command line.
func setHere(u *ucli.Context, name string) bool { return slices.Contains(u.LocalFlagNames(), name) }

// misplaced finds flags that stand behind an argument, where they are not seen.
func (s *session) misplaced(c *Context) error {
	args := c.Args().Slice()
	if i := slices.Index(s.process.Args, "--"); i >= 0 {
		args = args[:max(0, len(args)-(len(s.process.Args)-i-1))]
	}
	for _, a := range args {
		if strings.HasPrefix(a, "-") && a != "-" {
			return s.usageError(c.Command, fmt.Errorf("%s comes after an argument: flags must come before", a))
		}
	}
	return nil
}

// envName is the environment variable of a flag.
func envName(tool, flag string) string {
	return strings.ToUpper(tool + "_" + strings.ReplaceAll(flag, "-", "_"))
}

// exitError is an error with its exit code and what the user can do about it.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// Errorf is an error that ends the tool with that code.
func Errorf(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

// WithHint adds to an error what the user can do about it.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &exitError{code: codeOf(err), err: err, hint: hint}
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	var coded *exitError
	var missing *gpu.UnavailableError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &missing):
		return ExitUnavailable
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitFailed
}

// Usagef is a usage error.
func (c *Context) Usagef(format string, args ...any) error {
	return c.usageError(c.Command, fmt.Errorf(format, args...))
}

func (s *session) usageError(command *ucli.Command, err error) error {
	name := s.tool.Name
	if command != nil && command.Name != "" && command.Name != name {
		name += " " + command.Name
	}
	return &exitError{code: ExitUsage, err: err, hint: fmt.Sprintf("try '%s --help'", name)}
}

// Warnf warns the user on standard error. The same words are said once, and at
// the end how often.
func (c *Context) Warnf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.mu.Lock()
	c.said[text]++
	first := c.said[text] == 1
	if first {
		c.order = append(c.order, text)
	}
	c.mu.Unlock()
	if first && !c.quiet {
		c.say("warning: " + text)
	}
}

// Infof tells the user how far the work is, on a terminal or with --progress.
func (c *Context) Infof(format string, args ...any) {
	if c.quiet || !c.progress && !terminal(c.Stderr) {
		return
	}
	c.say(fmt.Sprintf(format, args...))
}

// Doubtf says why the result does not stand, and makes the exit code 3.
func (c *Context) Doubtf(format string, args ...any) {
	c.doubt(fmt.Sprintf(format, args...))
}

func (s *session) doubt(text string) {
	s.mu.Lock()
	s.doubts++
	s.mu.Unlock()
	s.say(text)
}

// say writes one line for people.
func (s *session) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.process.Stderr, "%s: %s\n", s.tool.Name, text)
}

// finish says what is left to say and gives the exit code.
func (s *session) finish(err error) int {
	if n := s.badLines - saidLines; n > 0 {
		s.say(fmt.Sprintf("%d more lines could not be read and were left out", n))
	}
	for _, text := range s.order {
		if n := s.said[text]; n > 1 && !s.quiet {
			s.say(fmt.Sprintf("warning: %s (%d times)", text, n))
		}
	}
	if err == nil {
		if s.doubts > 0 {
			return ExitDoubt
		}
		return ExitOK
	}
	if _, closed := errors.AsType[*closedError](err); closed {
		return 128 + int(syscall.SIGPIPE)
	}
	if text := err.Error(); text != "" {
		s.say(strings.TrimPrefix(text, s.tool.Name+": "))
	}
	hint := ""
	var coded *exitError
	var missing *gpu.UnavailableError
	if errors.As(err, &missing) {
		hint = missing.Hint
	}
	if bad, ok := errors.AsType[*record.SyntaxError](err); ok && bad.Hint != "" {
		hint = strings.TrimSuffix(bad.Hint, ".")
	}
	if errors.As(err, &coded) && coded.hint != "" {
		hint = coded.hint
	}
	if hint != "" {
		s.say("hint: " + hint)
	}
	return codeOf(err)
}

// OnTerminal says whether standard input is a terminal, whose Ctrl-C goes to
// this process and its children alike.
func (c *Context) OnTerminal() bool { return terminal(c.Stdin) }

// terminal says whether somebody looks at w.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// generate answers the flags that print something about the tool instead of
// running it.
func (s *session) generate(args []string) (done bool, err error) {
	out := func(text string) error {
		_, err := io.WriteString(s.process.Stdout, text)
		return err
	}
	switch {
	case args[0] == "--version":
		return true, out(versionLine(s.tool.Name))
	case args[0] == "--generate-man":
		return true, out(manPage(s.tool))
	case args[0] == "--generate-completion" && len(args) == 2:
		text, err := completion(s.tool, args[1])
		if err != nil {
			return true, s.usageError(nil, err)
		}
		return true, out(text)
	}
	return false, nil
}
