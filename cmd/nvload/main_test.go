package main

import (
	"testing"

	"joulepipe/pkg/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func(){"nvload": main, "completions": completions})
}

func TestScript(t *testing.T) { clitest.Run(t) }
