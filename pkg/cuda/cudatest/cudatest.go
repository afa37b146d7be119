//go:build linux

// Package cudatest builds a stand-in for NVIDIA's CUDA driver, which programs
// open as they would the real one: by its path, or by its usual name with
// LD_LIBRARY_PATH set. Its memory is the host's, its kernels compute nothing but
// those that package wave launches, whose results are there when they are read,
// and what is put into a stream takes a set time. It honours
// CUDA_VISIBLE_DEVICES, and has the functions of cuBLAS that package cuda
// calls, so that its path is also one of cuBLAS.
//
// How it behaves is written in a text file, which it reads again whenever it
// changes: the file named by the environment variable CUDA_STUB_SCRIPT, else the
// file [ScriptName] beside the library. Without a script it is one H200 on
// which each kernel takes 100 µs. A line is a key and values; # begins a comment:
//
//	gpus 2
//	version 12040                      of CUDA
//	name 0 NVIDIA H200                 also uuid, pci, memory_mib, sms, pools (1 or 0)
//	capability 0 9 0
//	launch_us 250                      each kernel's time
//	kernel_us copy 500                 that of one
//	block_us copy 0.5                  the same, for each block
//	hang matmul_f32 after 100          the 101st launch is never over; without after, the first
//	hang graph after 100               the same of whole graphs
//	wrong copy after 100               results are
//	error cuInit CUDA_ERROR_NO_DEVICE  what a call comes to; * is any call
//	error cuLaunchKernel CUDA_ERROR_LAUNCH_FAILED after 100   from the 101st call
//	@1.5 error * CUDA_ERROR_DEVICE_UNAVAILABLE                from 1.5 s after the script was read
//	log FILE                           a line for each call: its name
//
// The log's line for a launch has besides the GPU, the kernel, and from when to
// when it ran in ns of the monotonic clock: "cuLaunchKernel 0 copy 81200 581200".
// Queries of events are not in the log. A line that makes no sense ends the
// process with a message.
package cudatest

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Library is the file name of the stub, that of the real library.
const Library = "libcuda.so.1"

// ScriptName is the script's file name beside the library.
const ScriptName = "cuda.script"

//go:embed stub/cuda.c
var source string

// built are the libraries that this process has compiled, by what they lack.
var built = struct {
	sync.Mutex
	lib map[string][]byte
}{lib: make(map[string][]byte)}

// Build puts the library, without some of its functions, into a directory of
// the test's own and returns the directory. Each variant is compiled once in a
// process. The test is skipped where there is no C compiler, and fails there
// under CI=true.
func Build(t testing.TB, without ...string) (dir string) {
	t.Helper()
	key := strings.Join(slices.Sorted(slices.Values(without)), "; ")
	built.Lock()
	defer built.Unlock()
	lib, ok := built.lib[key]
	if !ok {
		lib = compile(t, key)
		built.lib[key] = lib
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Library), lib, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Script replaces the script beside the library in dir by these lines, at once
// for all who read it.
func Script(t testing.TB, dir string, lines ...string) {
	t.Helper()
	next := filepath.Join(dir, "next")
	err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, filepath.Join(dir, ScriptName))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// compile makes the library. The linker hides what is to be missing.
func compile(t testing.TB, without string) []byte {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the CUDA stub needs a C compiler: %v", err)
		}
		t.Skipf("the CUDA stub needs a C compiler: %v", err)
	}
	dir := t.TempDir()
	exports := filepath.Join(dir, "exports")
	if without != "" {
		without += "; "
	}
	if err := os.WriteFile(exports, []byte("{ global: cu*; local: "+without+"*; };"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, Library)
	cmd := exec.Command(cc, "-x", "c", "-", "-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-parameter", "-Werror",
		"-Wl,-soname,"+Library, "-Wl,--version-script,"+exports, "-o", out, "-ldl", "-lpthread")
	cmd.Stdin = strings.NewReader(source)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, text)
	}
	lib, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}
