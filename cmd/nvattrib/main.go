// Nvattrib joins a trace with events and says what each cost in joules, and
// how far the number can be trusted.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
