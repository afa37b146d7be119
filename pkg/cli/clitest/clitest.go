// Package clitest runs the scripts that test a tool as its users see it: whole
// commands, exact exit codes, both output streams.
package clitest

import (
	"flag"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the golden parts of scripts")

// Main is the TestMain of a tool: scripts call the tool by its name.
func Main(m *testing.M, tools map[string]func()) { testscript.Main(m, tools) }

// Run runs the scripts in testdata/script. Beside testscript's own commands
// there is
//
//	status CODE COMMAND ARG…
//
// which runs a command and wants exactly that exit code, and the variable
// $ROOT, the top of the project.
func Run(t *testing.T) {
	t.Helper()
	if *update && os.Getenv("CI") != "" {
		t.Fatal("golden parts are not rewritten in CI")
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status},
		Setup: func(e *testscript.Env) error {
			e.Setenv("ROOT", string(root[:len(root)-1]))
			return nil
		},
	})
}

// status runs a command and compares its exit code.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("status: %v", err)
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// BuildsWithoutCgo builds the tool in this folder for other systems, without a
// C compiler.
func BuildsWithoutCgo(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds three binaries")
	}
	for _, system := range []string{"linux", "darwin", "windows"} {
		cmd := exec.Command("go", "build", "-o", os.DevNull, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH=arm64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", system, err, out)
		}
	}
}
