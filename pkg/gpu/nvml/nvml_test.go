//go:build linux && cgo

package nvml

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/nvml/nvmltest"
	"joulepipe/pkg/record"
)

// stub is one library for all tests of this process, which binds NVML's
// functions to the first library that it opens. What the library answers comes
// from each test's own script.
type stub struct {
	testing.TB
	script, log string
}

func newStub(t testing.TB, lines ...string) *stub {
	dir := nvmltest.Build(t)
	s := &stub{t, filepath.Join(dir, nvmltest.ScriptName), filepath.Join(dir, "log")}
	t.Setenv("NVML_STUB_SCRIPT", s.script)
	s.set(lines...)
	return s
}

// set replaces the script.
func (s *stub) set(lines ...string) {
	s.Helper()
	nvmltest.Script(s, s.script, lines...)
}

// calls counts the calls that a script with "log" has written down.
func (s *stub) calls() map[string]int {
	s.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil && !os.IsNotExist(err) {
		s.Fatal(err)
	}
	n := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		n[strings.TrimSpace(line)]++
	}
	return n
}

func (s *stub) library() string { return filepath.Join(filepath.Dir(s.script), nvmltest.Library) }

func (s *stub) open() *Device {
	s.Helper()
	d, err := Open(Options{LibraryPath: s.library()})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := d.Close(); err != nil {
			s.Error(err)
		}
	})
	return d
}

// openGPU is the first GPU of a stub with this script.
func openGPU(t testing.TB, lines ...string) (*stub, gpu.GPU) {
	t.Helper()
	s := newStub(t, lines...)
	return s, s.open().GPUs()[0]
}

// inChild says whether this is a process of the calling test's own. If not, it
// runs the test again in one, where the loader looks for NVML in the directory
// first, and sees to it that the test passed there.
func inChild(t *testing.T, dir func() string) bool {
	t.Helper()
	const mark = "NVML_TEST_CHILD"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	var run []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		run = append(run, "^"+part+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run="+strings.Join(run, "/"))
	cmd.Env = append(os.Environ(), mark+"="+t.Name(), "LD_LIBRARY_PATH="+dir(), "NVML_STUB_SCRIPT=")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in a child process: %v\n%s", err, out)
	}
	return false
}

func TestInfo(t *testing.T) {
	_, g := openGPU(t,
		"driver 575.51.03", "cuda 12090", "name 0 NVIDIA H100 80GB HBM3", "uuid 0 GPU-aaaa", "pci 0 00000000:3B:00.0",
		"vram_total_mib 0 81559", "limit_mw 0 650000", "default_limit_mw 0 700000", "slowdown_c 0 87", "shutdown_c 0 92",
		"mig 0 1", "persistence 0 0", "arch 0 9", "gpm_1 0 50")
	got := g.Info()
	want := record.GPU{
		UUID: "GPU-aaaa", Name: "NVIDIA H100 80GB HBM3", Driver: "575.51.03", CUDA: "12.9", Arch: "Hopper",
		PCI: "00000000:3B:00.0", VRAMTotalMB: record.Some(81559.0),
		PowerLimitW: record.Some(650.0), PowerLimitDefaultW: record.Some(700.0),
		TempSlowdownC: record.Some(87.0), TempShutdownC: record.Some(92.0),
		MIG: record.Some(true), Persistence: record.Some(false),
		Channels: map[string]string{
			"sample": "ok", "instant": "ok", "average": "ok", "power": "ok", "counter": "ok", "gpm": "ok", "process": "ok",
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Info:\n got %+v\nwant %+v", got, want)
	}
}

func TestInfoOfWhatIsNotThere(t *testing.T) {
	_, g := openGPU(t,
		"error nvmlDeviceGetMigMode 0 NVML_ERROR_NOT_SUPPORTED",
		"error nvmlDeviceGetTemperatureThreshold 0 NVML_ERROR_NOT_SUPPORTED",
		"error nvmlDeviceGetEnforcedPowerLimit 0 NVML_ERROR_NO_PERMISSION",
		"arch 0 4294967295")
	info := g.Info()
	if info.MIG.OK || info.TempSlowdownC.OK || info.TempShutdownC.OK || info.PowerLimitW.OK || info.Arch != "" {
		t.Errorf("made up: %+v", info)
	}
	if info.PowerLimitDefaultW != record.Some(700.0) {
		t.Errorf("default limit = %v, want 700", info.PowerLimitDefaultW)
	}
}

func TestTwoGPUs(t *testing.T) {
	s := newStub(t, "gpus 2", "power_mw 0 100000", "power_mw 1 200000", "uuid 1 GPU-b", "energy_mj 1 5")
	gpus := s.open().GPUs()
	if len(gpus) != 2 {
		t.Fatalf("%d GPUs, want 2", len(gpus))
	}
	for i, want := range []float64{100, 200} {
		var r record.Sample
		gpus[i].ReadSample(&r)
		if r.GPU != i || gpus[i].Info().Index != i || r.PowerW != record.Some(want) {
			t.Errorf("GPU %d: sample of GPU %d with %v W, want %v", i, r.GPU, r.PowerW, want)
		}
	}
	var c record.Counter
	gpus[1].ReadCounter(&c)
	if c.GPU != 1 || c.EnergyMilliJ != record.Some(int64(5)) {
		t.Errorf("counter of GPU 1: %+v", c)
	}
	if got, err := gpu.Select(gpus, []string{"GPU-b"}); err != nil || len(got) != 1 || got[0] != gpus[1] {
		t.Errorf("Select: %v, %v", got, err)
	}
}

// One of two GPUs gives no handle at first; the other is read, and this one is
// once it is there.
func TestGPUWithoutHandle(t *testing.T) {
	s := newStub(t, "gpus 2", "error handle 0 NVML_ERROR_NO_PERMISSION")
	gpus := s.open().GPUs()
	var r record.Sample
	gpus[1].ReadSample(&r)
	if !r.ReadOK {
		t.Errorf("GPU 1: %+v", r)
	}
	gpus[0].ReadSample(&r)
	if r.ReadOK || r.Error != "NVML_ERROR_NO_PERMISSION" {
		t.Errorf("GPU 0: %+v", r)
	}
	for ch, got := range gpus[0].Info().Channels {
		if got != "NVML_ERROR_NO_PERMISSION" {
			t.Errorf("channel %s = %s", ch, got)
		}
	}
	s.set("gpus 2")
	eventually(t, "GPU 0 to be there", func() bool {
		gpus[0].ReadSample(&r)
		return r.ReadOK
	})
}

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func TestUnavailable(t *testing.T) {
	empty := t.TempDir()
	notNVML := nvmltest.Build(t, nvmltest.Without("nvmlInit", "nvmlInit_v2"))
	for _, tt := range []struct {
		name   string
		path   string
		script []string
		want   []string // in the message
	}{
		{"no such file", filepath.Join(empty, "x.so"), nil,
			[]string{"no NVML", filepath.Join(empty, "x.so"), "No such file"}},
		{"no such name", "libnvidia-not-there.so.1", nil,
			[]string{"no NVML", "libnvidia-not-there.so.1", "LD_LIBRARY_PATH"}},
		{"no nvmlInit", filepath.Join(notNVML, nvmltest.Library), nil,
			[]string{"not NVML", "nvmlInit"}},
		{"no driver", "", []string{"error nvmlInit * NVML_ERROR_DRIVER_NOT_LOADED"},
			[]string{nvmltest.Library, "does not start", "NVML_ERROR_DRIVER_NOT_LOADED"}},
		{"no GPU", "", []string{"gpus 0"}, []string{"no GPU"}},
		{"no count", "", []string{"error nvmlDeviceGetCount_v2 * NVML_ERROR_UNKNOWN"},
			[]string{"count", "NVML_ERROR_UNKNOWN"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path
			if path == "" {
				s := newStub(t)
				s.set(append(tt.script, "log "+s.log)...)
				path = s.library()
				defer func() {
					if n := s.calls(); n["nvmlInit"] != 1 || strings.Contains(tt.name, "driver") && len(n) != 1 {
						t.Errorf("calls %v: want one nvmlInit, and none after it failed", n)
					}
				}()
			}
			d, err := Open(Options{LibraryPath: path})
			var un *gpu.UnavailableError
			if d != nil || !errors.As(err, &un) {
				t.Fatalf("Open = %v, %v; want a *gpu.UnavailableError", d, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(un.What, w) {
					t.Errorf("%q does not say %q", un.What, w)
				}
			}
			if !strings.Contains(un.Hint, "--device sim") {
				t.Errorf("the hint %q does not say how to run without", un.Hint)
			}
		})
	}
}

// The library is found under its usual name, as that of the driver is.
func TestOpenByName(t *testing.T) {
	if !inChild(t, func() string { return nvmltest.Build(t) }) {
		return
	}
	d, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	var s record.Sample
	d.GPUs()[0].ReadSample(&s)
	if s.PowerW != record.Some(79.0) {
		t.Errorf("power = %v, want 79 W", s.PowerW)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// On a machine without a driver the message says what was looked for.
func TestNoDriverHere(t *testing.T) {
	if !inChild(t, t.TempDir) {
		return
	}
	d, err := Open(Options{})
	if err == nil {
		t.Logf("this machine has NVML, with %d GPUs", len(d.GPUs()))
		d.Close()
		return
	}
	var un *gpu.UnavailableError
	if !errors.As(err, &un) || !strings.Contains(un.What, Library) {
		t.Errorf("Open: %v", err)
	}
}

func TestErrorNames(t *testing.T) {
	for r, want := range map[int]gpu.Error{
		3: gpu.ErrNotSupported, 10: gpu.ErrTimeout, 13: gpu.ErrNoFunction, 15: gpu.ErrLost, 999: gpu.ErrUnknown, 77: "NVML_ERROR_77",
	} {
		if got := name(nv.Return(r)); got != want {
			t.Errorf("name(%d) = %s, want %s", r, got, want)
		}
	}
}

// A function that the library lacks ends a process that calls it, so each
// library has a process of its own.
func TestMissingSymbols(t *testing.T) {
	for _, tt := range []struct {
		name    string
		missing []string
		want    map[string]string // channels that are not ok
	}{
		{"samples", []string{"nvmlDeviceGetSamples"}, map[string]string{"power": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"fields", []string{"nvmlDeviceGetFieldValues"},
			map[string]string{"instant": "NVML_ERROR_FUNCTION_NOT_FOUND", "average": "NVML_ERROR_FUNCTION_NOT_FOUND", "mem_temp_c": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"usage", []string{"nvmlDeviceGetPowerUsage"}, nil},
		{"power", []string{"nvmlDeviceGetPowerUsage", "nvmlDeviceGetFieldValues"}, map[string]string{
			"sample": "NVML_ERROR_FUNCTION_NOT_FOUND", "instant": "NVML_ERROR_FUNCTION_NOT_FOUND", "average": "NVML_ERROR_FUNCTION_NOT_FOUND",
			"mem_temp_c": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"energy", []string{"nvmlDeviceGetTotalEnergyConsumption"}, map[string]string{"counter": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"gpm", []string{"nvmlGpmMetricsGet"}, map[string]string{"gpm": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"processes", []string{"nvmlDeviceGetProcessUtilization"}, map[string]string{"process": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"process memory", []string{"nvmlDeviceGetComputeRunningProcesses_v3"}, nil},
		{"event_reasons", []string{"nvmlDeviceGetCurrentClocksEventReasons"}, nil},
		{"readings", []string{"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
			"nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPerformanceState"},
			map[string]string{
				"throttle_reasons": "NVML_ERROR_FUNCTION_NOT_FOUND", "temp_c": "NVML_ERROR_FUNCTION_NOT_FOUND",
				"sm_clock_mhz": "NVML_ERROR_FUNCTION_NOT_FOUND", "mem_clock_mhz": "NVML_ERROR_FUNCTION_NOT_FOUND",
				"util_gpu": "NVML_ERROR_FUNCTION_NOT_FOUND", "vram_used_mb": "NVML_ERROR_FUNCTION_NOT_FOUND", "pstate": "NVML_ERROR_FUNCTION_NOT_FOUND"}},
		{"info", []string{"nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion",
			"nvmlDeviceGetArchitecture", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementDefaultLimit",
			"nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetMigMode", "nvmlDeviceGetPersistenceMode"}, nil},
		{"v2", []string{"nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !inChild(t, func() string { return nvmltest.Build(t, nvmltest.Without(tt.missing...)) }) {
				return
			}
			nvmltest.Script(t, script(), "gpm_2 * 50", "temp_c * 40", "reasons * 4", "processes * realtime 1", "process * 4711 50 10 100")
			d, err := Open(Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			g := d.GPUs()[0]
			info := g.Info()
			for ch, got := range info.Channels {
				want := tt.want[ch]
				if want == "" {
					want = "ok"
				}
				if got != want {
					t.Errorf("channel %s = %s, want %s", ch, got, want)
				}
			}
			for ch := range tt.want {
				if info.Channels[ch] == "" {
					t.Errorf("nothing said of %s", ch)
				}
			}

			var s record.Sample
			g.ReadSample(&s)
			if s.ReadOK != (tt.want["sample"] == "") || (s.Error == "") != s.ReadOK {
				t.Errorf("sample: read_ok %v, error %q", s.ReadOK, s.Error)
			}
			if s.ThrottleReasons.OK != (tt.want["throttle_reasons"] == "") || s.TempC.OK != (tt.want["temp_c"] == "") {
				t.Errorf("sample: reasons %v, temperature %v", s.ThrottleReasons, s.TempC)
			}
			var c record.Counter
			g.ReadCounter(&c)
			if c.Error != tt.want["counter"] || c.EnergyMilliJ.OK == (c.Error != "") {
				t.Errorf("counter: %+v", c)
			}
			checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), tt.want["power"])
			_, err = g.ReadGPM(new(record.GPM))
			checkErr(t, "ReadGPM", err, tt.want["gpm"])
			time.Sleep(5 * time.Millisecond)
			var p gpu.ProcessBatch
			checkErr(t, "ReadProcesses", g.ReadProcesses(&p), tt.want["process"])
			if tt.want["process"] == "" && (len(p.Entries) != 1 || p.Entries[0].VRAMUsedMB.OK != (tt.name != "process memory")) {
				t.Errorf("processes: %+v", p.Entries)
			}
		})
	}
}

// script is the script of the library that a child process finds.
func script() string {
	return filepath.Join(os.Getenv("LD_LIBRARY_PATH"), nvmltest.ScriptName)
}

func checkErr(t *testing.T, what string, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if got != want {
		t.Errorf("%s: error %q, want %q", what, got, want)
	}
}
