//go:build linux && cgo

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"joulepipe/pkg/cuda/cudatest"
	"joulepipe/pkg/gpu/nvml/nvmltest"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// H200s as both stubs have them; NVML has them the other way round.
const (
	uuid0 = "GPU-aaaaaaaa-1111-2222-3333-444444444444"
	uuid1 = "GPU-bbbbbbbb-1111-2222-3333-444444444444"
)

var (
	oneGPU   = []string{"block_us matmul_f32 2.6", "block_us gemm_bf16 1", "block_us gemm_bf16_middle 0.75", "block_us gemm_bf16_small 0.25", "block_us copy 0.006", "uuid 0 " + uuid0}
	twoGPUs  = append(slices.Clone(oneGPU), "gpus 2", "uuid 1 "+uuid1)
	oneCool  = []string{"uuid 0 " + uuid0, "temp_c 0 40"}
	reversed = []string{"gpus 2", "uuid 0 " + uuid1, "uuid 1 " + uuid0, "temp_c * 40"}
)

// bench is a machine with stubs of CUDA, and of NVML where there is a script for
// it.
type bench struct {
	dir, cudaDir, nvmlDir string
	env                   []string
}

func newBench(t *testing.T, cuda, nvml []string) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), cudaDir: cudatest.Build(t)}
	cudatest.Script(t, b.cudaDir, cuda...)
	path := b.cudaDir
	if nvml != nil {
		b.nvmlDir = nvmltest.Build(t)
		nvmltest.Script(t, filepath.Join(b.nvmlDir, nvmltest.ScriptName), nvml...)
		path += ":" + b.nvmlDir
	}
	b.env = append(os.Environ(), "LD_LIBRARY_PATH="+path, "CUDA_STUB_SCRIPT=", "NVML_STUB_SCRIPT=")
	b.env = slices.DeleteFunc(b.env, func(s string) bool {
		return strings.HasSuffix(s, "_STUB_SCRIPT=") || strings.HasPrefix(s, "CUDA_VISIBLE_DEVICES=")
	})
	return b
}

// outcome is what came of a run of nvload.
type outcome struct {
	code    int
	stderr  string
	header  record.Header
	events  []record.Event
	markers []record.Marker
	end     bool
	partial bool // the stream is under the name with .partial
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command("nvload", append(args, "-o", filepath.Join(b.dir, "e.ndjson"))...)
	cmd.Env, cmd.Dir = b.env, b.dir
	return cmd
}

// run runs nvload to its end.
func (b *bench) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return b.wait(t, b.start(t, args...))
}

type started struct {
	*exec.Cmd
	errs bytes.Buffer
}

func (b *bench) start(t *testing.T, args ...string) *started {
	t.Helper()
	s := &started{Cmd: b.command(args...)}
	s.Stderr = &s.errs
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill() })
	return s
}

func (b *bench) wait(t *testing.T, s *started) outcome {
	t.Helper()
	err := s.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	got := b.read(t)
	got.code, got.stderr = s.ProcessState.ExitCode(), s.errs.String()
	return got
}

// read reads the stream so far.
func (b *bench) read(t *testing.T) (got outcome) {
	t.Helper()
	name := filepath.Join(b.dir, "e.ndjson")
	f, err := os.Open(name)
	if err != nil {
		f, err = os.Open(name + ".partial")
		got.partial = err == nil
	}
	if err != nil {
		return got
	}
	defer f.Close()
	in := stream.NewReader(f, "events")
	for in.Scan() {
		switch r := in.Record().(type) {
		case *record.Header:
			got.header = *r
		case *record.Event:
			got.events = append(got.events, *r)
		case *record.Marker:
			got.markers = append(got.markers, *r)
		case *record.End:
			got.end = true
		}
	}
	return got
}

// until waits for something in the stream.
func (b *bench) until(t *testing.T, what string, there func(outcome) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !there(b.read(t)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 20 s: %+v", what, b.read(t))
		}
	}
}

func calibrated(got outcome) bool {
	return slices.ContainsFunc(got.markers, func(m record.Marker) bool { return m.Name == "load_calibration" })
}

func value(extra []record.Field, name string) (v float64, ok bool) {
	i := slices.IndexFunc(extra, func(f record.Field) bool { return f.Name == name })
	return v, i >= 0 && json.Unmarshal(extra[i].Value, &v) == nil
}

func says(extra []record.Field, name string) string {
	if i := slices.IndexFunc(extra, func(f record.Field) bool { return f.Name == name }); i >= 0 {
		return string(extra[i].Value)
	}
	return ""
}

// Each kernel runs in the events, and only there, by the driver's own account.
func TestCUDAWaves(t *testing.T) {
	t.Parallel()
	for kernel, entry := range map[string]string{"fp32": "matmul_f32", "bf16": "gemm_bf16", "memory": "copy"} {
		t.Run(kernel, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, append(slices.Clone(oneGPU), "log log"), oneCool)
			got := b.run(t, "square", "--kernel", kernel, "--low", "60ms", "--high", "40ms", "--cycles", "3")
			if got.code != 0 || got.stderr != "" || !got.end || len(got.events) != 6 || len(got.header.GPUs) != 1 || got.header.GPUs[0].UUID != uuid0 || !calibrated(got) {
				t.Fatalf("%+v", got)
			}
			log, err := os.ReadFile(filepath.Join(b.dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			launches, per := 0, make([]int, len(got.events))
			for _, m := range regexp.MustCompile(`(?m)^cuLaunchKernel 0 `+entry+`\w* (\d+) (\d+)$`).FindAllStringSubmatch(string(log), -1) {
				from, _ := strconv.ParseInt(m[1], 10, 64)
				until, _ := strconv.ParseInt(m[2], 10, 64)
				if from < got.events[0].StartNS {
					continue // what is measured beforehand
				}
				launches++
				for i, e := range got.events {
					if e.Phase == "square_high" && from >= e.StartNS && until <= e.EndNS {
						per[i]++
					}
				}
			}
			for i, e := range got.events {
				n, ok := value(e.Extra, "launches")
				rate, timed := value(e.Extra, map[bool]string{true: "bytes_per_s", false: "flops_per_s"}[kernel == "memory"])
				if (e.Phase == "square_high") != ok || ok != timed || int(n) != per[i] || ok && (n < 10 || rate < 1e11) {
					t.Errorf("%s: %s, and %d launches lie in it", e.ID, e.Extra, per[i])
				}
				launches -= per[i]
			}
			if launches != 0 {
				t.Errorf("%d launches in no event", launches)
			}
		})
	}
}

func TestCUDASustain(t *testing.T) {
	t.Parallel()
	b := newBench(t, append(slices.Clone(oneGPU), "log log"), oneCool)
	got := b.run(t, "sustain", "--intensity", "0.5", "--duration", "300ms", "--vram", "1000", "--field", "shard=3")
	// How closely the share is kept is package load's; here the machine may be busy.
	busy, _ := value(got.events[0].Extra, "busy_s")
	if got.code != 0 || got.stderr != "" || busy < 0.01 || busy > 0.25 || says(got.events[0].Extra, "shard") != "3" {
		t.Errorf("%+v", got)
	}
	// Nothing but memory: no kernel is loaded.
	b = newBench(t, append(slices.Clone(oneGPU), "log log"), oneCool)
	got = b.run(t, "sustain", "--intensity", "0", "--duration", "50ms", "--vram", "1000")
	log, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil || got.code != 0 || got.stderr != "" || bytes.Contains(log, []byte("cuModuleLoad")) || !bytes.Contains(log, []byte("cuMemAlloc")) || len(got.events) != 1 {
		t.Errorf("%+v, %v\n%s", got, err, log)
	}
	// The operands are more than was asked for.
	got = newBench(t, oneGPU, oneCool).run(t, "sustain", "--duration", "50ms", "--vram", "10")
	if got.code != 0 || !strings.Contains(got.stderr, "fp32 works on 192 MiB") {
		t.Errorf("%+v", got)
	}
}

// The sensor test's load begins, and an interrupt ends it.
func TestCUDAResponse(t *testing.T) {
	t.Parallel()
	b := newBench(t, oneGPU, oneCool)
	s := b.start(t, "response", "--steps", "1", "--update", "5ms")
	b.until(t, "calibration", calibrated)
	time.Sleep(3300 * time.Millisecond)
	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	got := b.wait(t, s)
	if got.code != 0 || !got.end || len(got.events) != 1 || says(got.events[0].Extra, "interrupted") != "true" || says(got.events[0].Extra, "part") != `"step"` {
		t.Errorf("%+v", got)
	}
}

// GPUs are named as NVML has them, by UUID, or by PCI bus id.
func TestCUDAChoice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    []string
		visible string
		uuids   []string // in the header
		gpus    []int
	}{
		{nil, "", []string{uuid0}, []int{1}},
		{[]string{"--device", "cuda:1"}, "", []string{uuid1}, []int{0}},
		{[]string{"--gpu", "0"}, "", []string{uuid1}, []int{0}},
		{[]string{"--gpu", uuid0}, "", []string{uuid0}, []int{1}},
		{[]string{"--gpu", "GPU-bbbb"}, "", []string{uuid1}, []int{0}},
		{[]string{"--gpu", "0000:02:00.0"}, "", []string{uuid1}, []int{0}},
		{[]string{"--gpu", "00000000:01:00.0"}, "", []string{uuid0}, []int{1}},
		{[]string{"--gpu", "1,0"}, "", []string{uuid1, uuid0}, []int{0, 1}},
		{[]string{"--gpu", "all"}, "", []string{uuid1, uuid0}, []int{0, 1}},
		{[]string{"--gpu", "0"}, "1", []string{uuid1}, []int{0}},
		{[]string{"--gpu", "all"}, "1", []string{uuid1}, []int{0}},
	} {
		b := newBench(t, twoGPUs, reversed)
		if c.visible != "" {
			b.env = append(b.env, "CUDA_VISIBLE_DEVICES="+c.visible)
		}
		got := b.run(t, append([]string{"sustain", "--intensity", "0", "--vram", "1", "--duration", "50ms"}, c.args...)...)
		var uuids []string
		for _, g := range got.header.GPUs {
			uuids = append(uuids, g.UUID)
		}
		if got.code != 0 || !slices.Equal(uuids, c.uuids) || len(got.events) != 1 || !slices.Equal(got.events[0].GPUs, c.gpus) {
			t.Errorf("%v: %+v", c.args, got)
		}
		if hides := strings.Contains(got.stderr, "CUDA_VISIBLE_DEVICES=1 hides"); hides != (c.visible != "" && c.gpus[0] == 0 && slices.Contains(c.args, "all")) {
			t.Errorf("%v: %s", c.args, got.stderr)
		}
	}
	// Both at once: each is at work while the other is.
	b := newBench(t, append(slices.Clone(twoGPUs), "log log"), reversed)
	got := b.run(t, "square", "--gpu", "all", "--low", "20ms", "--high", "200ms", "--cycles", "1")
	log, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil || got.code != 0 || len(got.events) != 2 || len(got.markers) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	at := map[string][]string{}
	for _, m := range regexp.MustCompile(`cuLaunchKernel (\d) matmul_f32 (\d+)`).FindAllStringSubmatch(string(log), -1) {
		if from, _ := strconv.ParseInt(m[2], 10, 64); from >= got.events[1].StartNS {
			at[m[1]] = append(at[m[1]], m[2])
		}
	}
	if n, _ := value(got.events[1].Extra, "launches"); len(at) != 2 || int(n) != len(at["0"])+len(at["1"]) || slices.Max(at["0"]) < at["1"][0] || slices.Max(at["1"]) < at["0"][0] {
		t.Errorf("%s, and GPU 0 has %d launches, GPU 1 %d", got.events[1].Extra, len(at["0"]), len(at["1"]))
	}
	// Without NVML they go by CUDA's numbers, and nobody sees their temperature.
	got = newBench(t, twoGPUs, nil).run(t, "sustain", "--gpu", "1", "--intensity", "0", "--vram", "1", "--duration", "50ms")
	if got.code != 0 || len(got.header.GPUs) != 1 || got.header.GPUs[0].UUID != uuid1 || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "nothing pauses the load") {
		t.Errorf("%+v", got)
	}
}

// What can go wrong, each with its status and words.
func TestCUDAFaults(t *testing.T) {
	t.Parallel()
	short := []string{"square", "--low", "30ms", "--high", "100ms", "--cycles", "2"}
	gpt2 := []string{"infer", "--model", "gpt2", "--batch", "1", "--context", "8", "--gen-tokens", "2", "--gap", "10ms", "--warmup", "0"}
	for _, c := range []struct {
		name   string
		cuda   []string
		env    string
		args   []string
		code   int
		stderr string // regular expression
		events int    // written; the last is interrupted, where there are any
	}{
		{"no device", []string{"gpus 0"}, "", short, 4, `CUDA_ERROR_NO_DEVICE.*\n.*hint: .*--device sim`, 0},
		{"old driver", []string{"version 10020"}, "", short, 4, `too old: it has CUDA 10.2, and 11.0`, 0},
		{"mismatch", []string{"error cuInit CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}, "", short, 4, `MISMATCH.*\n.*hint: .*reboot`, 0},
		{"all hidden", nil, "CUDA_VISIBLE_DEVICES=7", short, 4, `NO_DEVICE.*CUDA_VISIBLE_DEVICES=7`, 0},
		{"one hidden", []string{"gpus 2", "uuid 1 " + uuid1}, "CUDA_VISIBLE_DEVICES=1", append(short, "--gpu", uuid0), 4, `CUDA has no GPU ` + uuid0 + `.*\n.*hint: CUDA_VISIBLE_DEVICES=1 hides`, 0},
		{"no such number", nil, "", append(short, "--device", "cuda:3"), 4, `CUDA has no GPU 3: it has 1`, 0},
		{"no such index", nil, "", append(short, "--gpu", "5"), 4, `no GPU "5" among the 1`, 0},
		{"no such bus", nil, "", append(short, "--gpu", "0000:99:00.0"), 4, `CUDA has no GPU at 0000:99:00.0`, 0},
		{"both named", nil, "", append(short, "--gpu", "0", "--device", "cuda:0"), 2, `both name GPUs`, 0},
		{"no number", nil, "", append(short, "--device", "cuda:x"), 2, `want cuda or cuda:N`, 0},
		{"temperatures", nil, "", append(short, "--max-temp", "70", "--resume-temp", "75"), 2, `--resume-temp 75: want less than --max-temp 70`, 0},
		{"no room", []string{"memory_mib 0 150"}, "", short, 1, `takes 192 MiB of GPU memory, and 150 of 150 are free\n.*hint: .*--vram`, 0},
		{"out of memory", []string{"error cuMemAlloc_v2 CUDA_ERROR_OUT_OF_MEMORY after 2"}, "", short, 1, `64 MiB of GPU memory: .*OUT_OF_MEMORY.*\n.*hint: .*--vram`, 0},
		{"PTX too new", []string{"error cuModuleLoadDataEx CUDA_ERROR_UNSUPPORTED_PTX_VERSION"}, "", short, 1, `Unsupported .version`, 0},
		{"wrong numbers", []string{"wrong matmul_f32"}, "", short, 1, `fp32 on this GPU computes wrong numbers: row 0, column 0 is`, 0},
		{"wrong numbers later", []string{"wrong matmul_f32 after 1000"}, "", []string{"sustain", "--duration", "1s"}, 3, `what was computed is wrong: GPU 0: row`, -1},
		{"failed launch", []string{"error cuLaunchKernel CUDA_ERROR_LAUNCH_FAILED after 2500"}, "", []string{"sustain", "--duration", "20s"}, 1, `LAUNCH_FAILED.*e.ndjson.partial`, 1},
		{"hang", []string{"hang matmul_f32 after 2500"}, "", []string{"sustain", "--duration", "20s", "--stall", "300ms"}, 1, `GPU 0 hangs: .*e.ndjson.partial.*\n.*hint: .*--stall`, 1},
		{"hang of a model", []string{"hang graph after 6"}, "", append(slices.Clone(gpt2), "--stall", "300ms"), 1, `GPU 0 hangs: .*e.ndjson.partial.*\n.*hint: .*--stall`, 4},
		{"hang of a model's weights", []string{"hang fill_uniform_bf16"}, "", append(slices.Clone(gpt2), "--stall", "300ms"), 1, `GPU 0 hangs`, 0},
		{"hang before the load", []string{"hang matmul_f32"}, "", []string{"sustain", "--duration", "20s", "--stall", "300ms"}, 1, `GPU 0 hangs`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, append(slices.Clone(oneGPU), c.cuda...), oneCool)
			if c.env != "" {
				b.env = append(b.env, c.env)
			}
			if c.name == "one hidden" {
				nvmltest.Script(t, filepath.Join(b.nvmlDir, nvmltest.ScriptName), reversed...)
			}
			begun := time.Now()
			got := b.run(t, c.args...)
			if got.code != c.code || !regexp.MustCompile(`(?m)`+c.stderr).MatchString(got.stderr) {
				t.Errorf("status %d: %s", got.code, got.stderr)
			}
			if c.events >= 0 && (len(got.events) != c.events || got.partial != (c.events > 0)) {
				t.Errorf("%d events, partial %v", len(got.events), got.partial)
			}
			if n := len(got.events); c.events > 0 && n > 0 && (says(got.events[n-1].Extra, "interrupted") != "true" || says(got.events[n-1].Extra, "error") == "") {
				t.Errorf("the event under way is %s", got.events[n-1].Extra)
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// A GPU that is lost in the middle of an event.
func TestCUDALost(t *testing.T) {
	t.Parallel()
	b := newBench(t, oneGPU, oneCool)
	s := b.start(t, "square", "--low", "100ms", "--high", "20s")
	b.until(t, "event", func(got outcome) bool { return len(got.events) > 0 })
	cudatest.Script(t, b.cudaDir, append(slices.Clone(oneGPU), "error * CUDA_ERROR_DEVICE_UNAVAILABLE")...)
	got := b.wait(t, s)
	if got.code != 1 || !got.partial || len(got.events) != 2 || says(got.events[1].Extra, "interrupted") != "true" || !strings.Contains(got.stderr, "DEVICE_UNAVAILABLE") {
		t.Errorf("%+v", got)
	}
}

// Signals: an interrupt leaves a whole stream, SIGKILL what was written.
func TestCUDASignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(fmt.Sprint(signal), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, oneGPU, oneCool)
			s := b.start(t, "square", "--low", "50ms", "--high", "20s")
			b.until(t, "event", func(got outcome) bool { return len(got.events) > 0 })
			time.Sleep(150 * time.Millisecond)
			if err := s.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			got := b.wait(t, s)
			if signal == syscall.SIGKILL {
				if !got.partial || got.end || len(got.events) != 1 || !calibrated(got) {
					t.Errorf("%+v", got)
				}
				return
			}
			if got.code != 0 || got.stderr != "" || !got.end || len(got.events) != 2 || says(got.events[1].Extra, "interrupted") != "true" {
				t.Errorf("%+v", got)
			}
			if n, _ := value(got.events[1].Extra, "launches"); n < 10 {
				t.Errorf("%s", got.events[1].Extra)
			}
		})
	}
}

// An interrupt before the load begins leaves a stream of nothing.
func TestCUDAInterruptedBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t, append(slices.Clone(oneGPU), "hang matmul_f32", "log log"), oneCool)
	s := b.start(t, "sustain", "--stall", "20s")
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if log, err := os.ReadFile(filepath.Join(b.dir, "log")); err == nil && bytes.Contains(log, []byte("matmul_f32")) {
			break
		}
	}
	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := b.wait(t, s); got.code != 0 || !got.end || len(got.events) != 0 {
		t.Errorf("%+v", got)
	}
}

// Too hot: the load pauses, which the event and standard error tell, and is
// status 5 where it lasts.
func TestCUDATooHot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		nvml []string
		args []string
		code int
	}{
		{"it cools", []string{"temp_c 0 85", "@2.5 temp_c 0 79"}, []string{"sustain", "--duration", "5500ms"}, 0},
		{"to the end", []string{"temp_c 0 85"}, []string{"sustain", "--duration", "1700ms"}, 5},
		{"another limit", []string{"temp_c 0 85"}, []string{"sustain", "--duration", "1700ms", "--max-temp", "90"}, 0},
		{"no limit", []string{"temp_c 0 95"}, []string{"sustain", "--duration", "1700ms", "--max-temp", "0"}, 0},
		{"unknown", []string{"error nvmlDeviceGetTemperature 0 NVML_ERROR_UNKNOWN"}, []string{"sustain", "--duration", "1700ms"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := newBench(t, oneGPU, append([]string{"uuid 0 " + uuid0}, c.nvml...)).run(t, c.args...)
			if got.code != c.code || !got.end || len(got.events) != 1 {
				t.Fatalf("%+v", got)
			}
			pause, paused := value(got.events[0].Extra, "thermal_pause_s")
			marked := slices.ContainsFunc(got.markers, func(m record.Marker) bool { return m.Name == "thermal_pause" })
			resumed := slices.ContainsFunc(got.markers, func(m record.Marker) bool { return m.Name == "thermal_resume" })
			hot := c.name == "it cools" || c.name == "to the end"
			if paused != hot || marked != hot || resumed != (c.name == "it cools") || hot && pause < 0.2 || strings.Contains(got.stderr, "the load pauses until there are 80") != hot {
				t.Errorf("%+v", got)
			}
			if unknown := strings.Contains(got.stderr, "no temperature can be read"); unknown != (c.name == "unknown") || unknown && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%s", got.stderr)
			}
		})
	}
	t.Run("infer", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, append(slices.Clone(oneGPU), "launch_us 1"), []string{"uuid 0 " + uuid0, "temp_c 0 85"})
		s := b.start(t, "infer", "--model", "gpt2", "--batch", "1", "--context", "8", "--gen-tokens", "2", "--reps", "1000", "--gap", "10ms")
		b.until(t, "pause", func(got outcome) bool {
			return slices.ContainsFunc(got.markers, func(m record.Marker) bool { return m.Name == "thermal_pause" })
		})
		before := len(b.read(t).events)
		time.Sleep(300 * time.Millisecond)
		if err := s.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if got := b.wait(t, s); got.code != 5 || !got.end || len(got.events) != before {
			t.Errorf("%d events, then %+v", before, got)
		}
	})
}

// A load that nobody waits for any more ends.
func TestCUDAOrphan(t *testing.T) {
	t.Parallel()
	for _, how := range []struct{ flag, env string }{{" --watch-parent", ""}, {"", "JOULEPIPE_TRIP_FILE=/nowhere"}} {
		b := newBench(t, oneGPU, oneCool)
		cmd := exec.Command("sh", "-c", "nvload sustain --duration 60s"+how.flag+" -o e.ndjson & until grep -qs load_calibration e.ndjson.partial; do sleep 0.02; done; sleep 0.3")
		cmd.Dir, cmd.Env = b.dir, append(b.env, how.env)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		b.until(t, "end", func(got outcome) bool { return got.end && !got.partial })
		if got := b.read(t); len(got.events) != 1 || says(got.events[0].Extra, "interrupted") != "true" {
			t.Errorf("%+v", got)
		}
	}
}
