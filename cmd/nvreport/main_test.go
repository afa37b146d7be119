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

// makeRun writes a run directory that stands, or one in which everything is wrong:
// mkrun DIR [broken].
func makeRun() {
	f := reporttest.New()
	if len(os.Args) > 2 {
		f = reporttest.Broken()
	}
	dir, err := f.FS()
	if err == nil {
		err = os.CopyFS(os.Args[1], dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
