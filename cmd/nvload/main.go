// Nvload makes known loads on a GPU, or watches a command make one, and says
// exactly when, as events.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
