// Package kernelstest has the GPU kernels as a program for the CPU, compiled from
// their sources by g++. It is for tests alone.
package kernelstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"joulepipe/pkg/cuda/kernels"
)

var scratch string

// Main runs the tests of a package that emulates kernels, and clears up after
// them. It returns the exit code.
func Main(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "kernels"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

var (
	once    sync.Once
	failure error
)

// Emulator is the path of the program, made of the sources in a folder once in a
// process that [Main] runs. The test is skipped where there is no g++.
func Emulator(t testing.TB, folder string) string {
	t.Helper()
	if _, err := exec.LookPath("g++"); err != nil {
		t.Skip(err)
	}
	out := filepath.Join(scratch, "emulate")
	once.Do(func() {
		args := []string{"-std=c++20", "-O1", "-DEMULATED", "-w", "-o", out, "-x", "c++", filepath.Join(folder, "emulator", "emulate.cpp")}
		for _, m := range kernels.Modules() {
			args = append(args, filepath.Join(folder, string(m)+".cu"))
		}
		if text, err := exec.Command("g++", args...).CombinedOutput(); err != nil {
			failure = fmt.Errorf("g++: %w\n%s", err, text)
		}
	})
	if failure != nil {
		t.Fatal(failure)
	}
	return out
}
