// Nvbaseline measures a GPU's idle power out of a trace, and says whether the
// GPU was idle at all.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
