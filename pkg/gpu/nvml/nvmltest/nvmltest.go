//go:build linux

// Package nvmltest builds a stand-in for NVIDIA's management library, which
// programs open as they would the real one: by its path, or by its usual name
// with LD_LIBRARY_PATH set.
//
// What the stub answers is written in a text file, which it reads again
// whenever it changes: the file named by the environment variable
// NVML_STUB_SCRIPT, else the file [ScriptName] beside the library. Without a
// script it is one idle H200. A script line is a key, a GPU index or * for all,
// and values; later lines win; # begins a comment:
//
//	gpus 2
//	name 0 NVIDIA H200              also uuid, pci (with GPU), driver, cuda (without)
//	power_mw 0 124000               a value that stays
//	power_mw 0 100000 700000 2      a ramp: from, to, seconds
//	@1.5 power_mw 0 124000          holds from 1.5 s after the script was read
//	error nvmlDeviceGetPowerUsage 0 NVML_ERROR_UNKNOWN
//	error field:186 0 NVML_ERROR_NOT_SUPPORTED
//	error nvmlInit * NVML_ERROR_DRIVER_NOT_LOADED
//	delay_ms nvmlDeviceGetTotalEnergyConsumption 0 100
//	lost 0                          off the bus: old handles stay dead
//	lost 0 off                      back: found again by UUID
//	samples 0 realtime 20 119       clock, spacing in ms, entries kept
//	samples_shift_s 0 3600          the stamps' distance from that clock
//	samples_repeat 0 1              old entries come again
//	process 0 4711 63 20 1024       a process: pid, SM and memory % of the time, MiB (- for no value)
//	process 0 4711 off              it is gone
//	processes 0 realtime 100        their samples' clock and spacing in ms
//	processes_shift_s 0 3600        the stamps' distance from that clock
//	processes_race 0 1              there are more when they are read than when they were counted
//	log FILE                        one line for each call: its name
//	static                          the script will not change: do not look
//
// The other numbers are, with their units in their names: instant_mw and
// average_mw (power_mw where they are not given), module_mw (not supported
// where it is not given), limit_mw, default_limit_mw,
// temp_c, mem_temp_c, slowdown_c, shutdown_c, sm_mhz, mem_mhz, util_gpu, util_mem,
// vram_used_mib, vram_total_mib, reasons, pstate, energy_mj, mig, persistence,
// arch, gpm_supported, and gpm_N for the GPM metric N. A line that makes no
// sense ends the process with a message.
package nvmltest

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
const Library = "libnvidia-ml.so.1"

// ScriptName is the script's file name beside the library.
const ScriptName = "nvml.script"

//go:embed stub/nvml.c
var source []byte

// Option changes the library that [Build] makes.
type Option func(*variant)

type variant struct{ without []string }

// Without leaves functions out, as old drivers do.
func Without(symbols ...string) Option {
	return func(v *variant) { v.without = append(v.without, symbols...) }
}

// built are the libraries that this process has compiled, by what they lack.
var built = struct {
	sync.Mutex
	lib map[string][]byte
}{lib: make(map[string][]byte)}

// Build puts the library into a directory of the test's own and returns the
// directory. Each variant is compiled once in a process. The test is skipped
// where there is no C compiler, and fails there under CI=true.
func Build(t testing.TB, opts ...Option) (dir string) {
	t.Helper()
	var v variant
	for _, o := range opts {
		o(&v)
	}
	slices.Sort(v.without)
	key := strings.Join(v.without, " ")
	built.Lock()
	defer built.Unlock()
	lib, ok := built.lib[key]
	if !ok {
		lib = compile(t, v.without)
		built.lib[key] = lib
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, Library), lib, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Script replaces a script by these lines, at once for all who read it.
func Script(t testing.TB, file string, lines ...string) {
	t.Helper()
	next := file + ".next"
	err := os.WriteFile(next, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
	if err == nil {
		err = os.Rename(next, file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// compile makes the library against go-nvml's own nvml.h, so that a signature
// that differs does not compile. The linker hides what is to be missing.
func compile(t testing.TB, without []string) []byte {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the NVML stub needs a C compiler: %v", err)
		}
		t.Skipf("the NVML stub needs a C compiler: %v", err)
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	exports := "{ global: nvml*; local: *; };"
	if len(without) > 0 {
		exports = "{ global: nvml*; local: " + strings.Join(without, "; ") + "; *; };"
	}
	out := filepath.Join(dir, Library)
	run(t, cc, "-shared", "-fPIC", "-O1", "-Wno-deprecated-declarations",
		"-I", filepath.Join(strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")), "pkg", "nvml"),
		"-Wl,-soname,"+Library, "-Wl,--version-script,"+file("exports", exports),
		"-o", out, file("stub.c", string(source)), "-ldl", "-lpthread")
	lib, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return lib
}

func run(t testing.TB, name string, args ...string) (stdout string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, errs.String())
	}
	return out.String()
}
