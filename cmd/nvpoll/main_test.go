package main

import (
	"testing"

	"joulepipe/pkg/cli/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, map[string]func(){"nvpoll": main}) }

func TestScript(t *testing.T) { clitest.Run(t) }
