// Nvsoak watches the temperature of GPUs under a steady load until it has
// settled, and guards it while it has not.
package main

import (
	"os"

	"joulepipe/pkg/cli"
)

func main() { os.Exit(cli.Main(tool())) }
