// Package cli is what the six binaries share at the edge: flags by way of
// urfave/cli, exit codes, signals, input and output files, the configuration
// file, version. Nothing below it touches the process.
package cli

import (
	"context"
	"io"

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
)

// Process is what a tool sees of the world. Tests make their own.
type Process struct {
	Args   []string // without the program name
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// Tool is one of the binaries.
type Tool struct {
	Name     string
	Usage    string // one line: what it does
	Synopsis string // arguments after the name
	Long     string // description, paragraphs
	Examples string // shell lines, each explained by a # line
	Status   string // lines for the "Exit status" part beyond the common ones; may be empty
	Flags    []ucli.Flag
	Commands []*ucli.Command
	Action   func(*Context) error
}

// Context is what an action gets: parsed flags, streams, a context that ends
// as the tool's kind demands on SIGINT and SIGTERM.
type Context struct {
	*ucli.Context
	Process
	Ctx  context.Context // cancelled by the first SIGINT/SIGTERM
	Tool string
}
