// Nvreport judges a run directory and writes what its joules can be used for.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
