// Nvpoll samples GPU power and what goes with it on one grid of time and
// writes the trace to standard output.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
