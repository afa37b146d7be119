package main

import (
	"fmt"
	"os"
	"testing"

	"joulepipe/pkg/cli/clitest"
	"joulepipe/pkg/report/reporttest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func(){"nvreport": main, "mkrun": makeRun})
}

func TestScript(t *testing.T) { clitest.Run(t) }

// makeRun writes a run directory that stands: mkrun DIR.
func makeRun() {
	dir, err := reporttest.New().FS()
	if err == nil {
		err = os.CopyFS(os.Args[1], dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
