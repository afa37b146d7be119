// Package cli is what the six binaries share at the edge: flags by way of
// urfave/cli, exit codes, signals, input and output files, the configuration
// file, help, manual pages and completion. Nothing below it touches the
// process.
package cli

import (
	"cmp"
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	ucli "github.com/urfave/cli/v2"
)

// Exit codes, the same in all six tools.
const (
	ExitOK          = 0
	ExitFailed      = 1 // I/O, data that cannot be used at all
	ExitUsage       = 2
	ExitDoubt       = 3 // finished, but the result does not stand
	ExitUnavailable = 4 // no NVML, no CUDA, no such GPU
	ExitThermalTrip = 5
	ExitInterrupted = 130
)

// Process is what a tool sees of the world. Tests make their own.
type Process struct {
	Args    []string // without the program name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Signals <-chan os.Signal // SIGINT and SIGTERM; nil: none come
	Exit    func(code int)   // ends the process at once, on a second signal; may be nil with Signals
}

// Tool is one of the binaries.
type Tool struct {
	Name     string
	Usage    string // one line: what it does
	Synopsis string // arguments after the name
	Long     string // description, paragraphs
	Examples string // shell lines, each explained by a # line before it
	Status   string // lines for the "Exit status" part beyond the common ones; may be empty
	Flags    []ucli.Flag
	Commands []*ucli.Command // a name may be of two words
	Action   func(*Context) error

	// Source says that the tool makes a stream rather than reads one: on the
	// first SIGINT or SIGTERM it ends the stream and exits with 0. Other tools
	// read a pipe to its end, which their source brings about, and stop at once
	// when they read files.
	Source bool
	// ConfigKeys says where in a --config file a flag's value is looked for:
	// flag → path of keys ("period" → "poller.target_period_ms"), or "command
	// flag" for the flag of one command alone. The end of the key (_ms, _s, _min)
	// is the unit of a duration. Of several paths, "a.b|c.d", the first counts
	// that the file has.
	ConfigKeys map[string]string
	// ConfigSection is a key at the top of that file whose part is this tool's
	// alone: a key in it that no flag has is an error. May be empty.
	ConfigSection string
}

// Context is what an action gets: parsed flags, the process, and a context
// that is cancelled by the first SIGINT or SIGTERM.
type Context struct {
	*ucli.Context
	Ctx    context.Context
	Tool   string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string

	*session
}

// Main runs the tool on this process and returns its exit code.
func Main(t *Tool) int {
	// SIGPIPE is left alone: a write to a closed standard output ends the
	// process without a word, as it does in every filter.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	return Run(t, Process{
		Args:    os.Args[1:],
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Signals: signals,
		Exit:    os.Exit,
	})
}

// Run runs the tool and returns its exit code. What went wrong has been said on
// p.Stderr.
func Run(t *Tool, p Process) int {
	s := newSession(t, &p)
	if len(p.Args) > 0 {
		if done, err := s.generate(p.Args); done {
			return s.finish(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stop := s.watch(cancel)
	defer stop()
	app := s.app(ctx)
	help := &kept{Writer: p.Stdout}
	app.Writer = help
	err := app.Run(append([]string{t.Name}, t.joined(p.Args)...))
	return s.finish(cmp.Or(err, help.err))
}

// kept is a writer of which the first failure is kept: nobody looks whether help
// could be printed.
type kept struct {
	io.Writer
	err error
}

func (k *kept) Write(p []byte) (int, error) {
	n, err := k.Writer.Write(p)
	k.err = cmp.Or(k.err, err)
	return n, err
}

// joined is the arguments with those of a command's name of two words as one.
// What follows a command is its own.
func (t *Tool) joined(args []string) []string {
	known := func(name string) bool {
		return slices.ContainsFunc(t.Commands, func(c *ucli.Command) bool { return c.Name == name })
	}
	for i := range args[:max(0, len(args)-1)] {
		if known(args[i]) {
			break
		}
		if name := args[i] + " " + args[i+1]; known(name) {
			return slices.Concat(args[:i], []string{name}, args[i+2:])
		}
	}
	return args
}

// Action makes an action of a subcommand out of a function.
func Action(do func(*Context) error) ucli.ActionFunc {
	return func(u *ucli.Context) error {
		s := u.App.Metadata[sessionKey].(*session)
		p := s.process
		c := &Context{
			Context: u, Ctx: u.Context, Tool: s.tool.Name,
			Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, Getenv: p.Getenv,
			session: s,
		}
		if c.Bool("version") {
			_, err := io.WriteString(c.Stdout, versionLine(c.Tool))
			return err
		}
		if err := s.settle(c); err != nil {
			return err
		}
		return do(c)
	}
}

const sessionKey = "joulepipe"

// app is the tool as urfave/cli sees it. Its own printing is turned off: it
// writes usage errors to standard output and exits behind deferred calls.
func (s *session) app(ctx context.Context) *ucli.App {
	t := s.tool
	usage := func(u *ucli.Context, err error, _ bool) error { return s.usageError(u.Command, err) }
	action := Action(t.Action)
	app := &ucli.App{
		Name:                      t.Name,
		Usage:                     t.Usage,
		Flags:                     append(t.Flags[:len(t.Flags):len(t.Flags)], commonFlags()...),
		Writer:                    s.process.Stdout,
		ErrWriter:                 s.process.Stderr,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     literal(helpText(t, nil)),
		OnUsageError:              usage,
		ExitErrHandler:            func(*ucli.Context, error) {},
		Metadata:                  map[string]any{sessionKey: s},
		Action:                    action,
	}
	for _, command := range t.Commands {
		c := *command
		c.Flags = append(c.Flags[:len(c.Flags):len(c.Flags)], commonFlags()...)
		c.HideHelpCommand = true
		c.CustomHelpTemplate = literal(helpText(t, &c))
		c.OnUsageError = usage
		app.Commands = append(app.Commands, &c)
	}
	app.Setup()
	run := app.Action
	app.Action = func(u *ucli.Context) error {
		u.Context = ctx
		return run(u)
	}
	for _, c := range app.Commands {
		run := c.Action
		c.Action = func(u *ucli.Context) error {
			u.Context = ctx
			return run(u)
		}
	}
	return app
}

// commonFlags are those that every tool and every command has.
func commonFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "config", Usage: "take settings from the YAML `FILE`; flags and environment come before it"},
		&ucli.BoolFlag{Name: "progress", Usage: "say how far it is on standard error even where that is no terminal"},
		&ucli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing but errors"},
		&ucli.BoolFlag{Name: "version", Hidden: true}, // help shows it last
	}
}
