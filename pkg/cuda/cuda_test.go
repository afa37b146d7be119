//go:build linux

package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/cuda/cudatest"
	"joulepipe/pkg/gpu"
)

// openStub opens a driver of the test's own, with this script.
func openStub(t *testing.T, lines ...string) (*Driver, error) {
	t.Helper()
	dir := cudatest.Build(t)
	cudatest.Script(t, dir, lines...)
	return Open(Options{Library: filepath.Join(dir, cudatest.Library)})
}

// on runs f in a context of the first GPU of a stub with this script.
func on(t *testing.T, f func(*Context) error, lines ...string) error {
	t.Helper()
	d, err := openStub(t, lines...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewContext(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.Do(func() error { return f(c) })
}

func TestOpenFails(t *testing.T) {
	for _, test := range []struct{ name, script, what, hint string }{
		{"no device", "error cuInit CUDA_ERROR_NO_DEVICE", "does not start: cuInit: CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)", "CUDA_VISIBLE_DEVICES"},
		{"mismatch", "error cuInit CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "reboot"},
		{"old driver", "version 10020", "too old: it has CUDA 10.2, and 11.0 is needed", "driver 450"},
		{"no version", "error cuDriverGetVersion CUDA_ERROR_UNKNOWN", "too old: it has CUDA 0.0", "--device sim"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openStub(t, test.script)
			var unavailable *gpu.UnavailableError
			if !errors.As(err, &unavailable) || !strings.Contains(unavailable.What, test.what) || !strings.Contains(unavailable.Hint, test.hint) {
				t.Errorf("%#v", err)
			}
		})
	}
	t.Run("no library", func(t *testing.T) {
		_, err := Open(Options{Library: filepath.Join(t.TempDir(), Library)})
		var unavailable *gpu.UnavailableError
		if !errors.As(err, &unavailable) || !strings.HasPrefix(unavailable.What, "no CUDA driver: ") {
			t.Errorf("%#v", err)
		}
	})
}

func TestDevices(t *testing.T) {
	script := []string{
		"gpus 2", "uuid 1 GPU-8f3e2a10-0bcd-4e5f-9a01-00aa11bb22cc", "name 1 NVIDIA L4", "pci 1 0000:81:00.0",
		"memory_mib 1 23034", "sms 1 58", "capability 1 8 9", "pools 1 0",
	}
	second := Device{
		UUID: "GPU-8f3e2a10-0bcd-4e5f-9a01-00aa11bb22cc", PCI: "0000:81:00.0", Name: "NVIDIA L4",
		MemoryBytes: 23034 << 20, SMs: 58, Major: 8, Minor: 9,
	}
	for _, test := range []struct {
		visible string
		want    int // how many
		at      int // where the second one is
	}{{"0,1", 2, 1}, {"1", 1, 0}, {"GPU-8f3e,0", 2, 0}} {
		t.Run(test.visible, func(t *testing.T) {
			t.Setenv("CUDA_VISIBLE_DEVICES", test.visible)
			d, err := openStub(t, script...)
			if err != nil {
				t.Fatal(err)
			}
			all, err := d.Devices()
			if err != nil || len(all) != test.want {
				t.Fatal(all, err)
			}
			want := second
			want.Ordinal = test.at
			if all[test.at] != want {
				t.Errorf("got %+v, want %+v", all[test.at], want)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	err := on(t, func(c *Context) error {
		p, err := c.Alloc(60 << 20)
		if err != nil {
			return err
		}
		if free, total, err := c.MemInfo(); err != nil || free != 40<<20 || total != 100<<20 {
			t.Errorf("%d of %d are free: %v", free, total, err)
		}
		if _, err := c.Alloc(41 << 20); !errors.Is(err, ErrOutOfMemory) {
			t.Errorf("more than there is: %v", err)
		}
		text, back := []byte("what is uploaded"), make([]byte, 16)
		if err := errors.Join(c.Upload(p, text), c.Download(back, p)); err != nil || !bytes.Equal(text, back) {
			t.Errorf("%q came back: %v", back, err)
		}
		if err := errors.Join(c.Clear(p+5, 2), c.Download(back, p)); err != nil || string(back) != "what \x00\x00 uploaded" {
			t.Errorf("%q came back: %v", back, err)
		}
		return c.Free(p)
	}, "memory_mib 0 100")
	if err != nil {
		t.Error(err)
	}
}

func TestPool(t *testing.T) {
	err := on(t, func(c *Context) error {
		usage := func(when string, reserved, used int64) {
			t.Helper()
			if r, u, err := c.PoolUsage(); r != reserved || u != used || err != nil {
				t.Errorf("%s: %d reserved, %d used: %v", when, r, u, err)
			}
		}
		if err := c.KeepPool(1 << 40); err != nil {
			return err
		}
		s, err := c.NewStream()
		if err != nil {
			return err
		}
		p, err := c.AllocAsync(8<<20, s)
		if err != nil {
			return err
		}
		usage("allocated", 8<<20, 8<<20)
		if err := errors.Join(c.FreeAsync(p, s), c.Synchronize(s)); err != nil {
			return err
		}
		usage("freed", 8<<20, 0)
		err = c.TrimPool(0)
		usage("trimmed", 0, 0)
		return errors.Join(err, c.DestroyStream(s))
	})
	if err != nil {
		t.Error(err)
	}
}

// A function that the driver does not have is an error that names it.
func TestMissingFunction(t *testing.T) {
	dir := cudatest.Build(t, "cuMemAllocAsync", "cuDeviceGetUuid_v2")
	d, err := Open(Options{Library: filepath.Join(dir, cudatest.Library)})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := d.Devices(); err != nil || all[0].UUID != "GPU-00000000-1111-2222-3333-444444444444" {
		t.Errorf("the UUID by its old function: %+v, %v", all, err)
	}
	c, err := d.NewContext(0)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Do(func() error { _, err := c.AllocAsync(1, 0); return err })
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "cuMemAllocAsync: CUDA_ERROR_NOT_FOUND (the driver has no such function)") {
		t.Error(err)
	}
}

const ptx = ".version 7.0\n.visible .entry nothing(\n.visible .entry copy(\n"

func TestLaunch(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	err := on(t, func(c *Context) error {
		m, err := c.Load([]byte(ptx))
		if err != nil {
			return err
		}
		if _, err := m.Function("else"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "kernel else") {
			t.Errorf("a kernel that is not there: %v", err)
		}
		f, err := m.Function("nothing")
		if err != nil {
			return err
		}
		s, err := c.NewStream()
		if err != nil {
			return err
		}
		var events [2]Event
		for i := range events {
			if events[i], err = c.NewEvent(); err != nil {
				return err
			}
		}
		one := Dim{1, 1, 1}
		err = errors.Join(
			f.Shared(100<<10), c.Record(events[0], s),
			c.Launch(f, one, one, 0, s, Ptr(1), int32(-1), uint32(1), int64(-1), uint64(1), float32(1)),
			c.Launch(f, one, one, 0, s), c.Record(events[1], s))
		if err != nil {
			return err
		}
		if done, err := c.Query(events[1]); done || err != nil {
			t.Errorf("done before its time: %v, %v", done, err)
		}
		if err := c.Synchronize(s); err != nil {
			return err
		}
		if done, err := c.Query(events[1]); !done || err != nil {
			t.Errorf("not done after it: %v, %v", done, err)
		}
		if d, err := c.Elapsed(events[0], events[1]); d < 599*time.Millisecond || d > 700*time.Millisecond || err != nil {
			t.Errorf("two kernels of 0.3 s took %v, %v", d, err)
		}
		if err := c.Launch(f, one, one, 0, s, 1); err == nil || err.Error() != "a kernel with an argument of type int" {
			t.Errorf("an argument of no size: %v", err)
		}
		return errors.Join(c.DestroyEvent(events[0]), c.DestroyEvent(events[1]), c.DestroyStream(s))
	}, "kernel_us nothing 300000", "log "+log)
	if err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(log)
	if err != nil || strings.Count(string(text), "cuLaunchKernel 0 nothing ") != 2 {
		t.Errorf("%s%v", text, err)
	}
}

func TestGraph(t *testing.T) {
	err := on(t, func(c *Context) error {
		m, err := c.Load([]byte(ptx))
		if err != nil {
			return err
		}
		f, err := m.Function("nothing")
		if err != nil {
			return err
		}
		s, err := c.NewStream()
		if err != nil {
			return err
		}
		one := Dim{1, 1, 1}
		failed := errors.New("no")
		if _, err := c.Capture(s, func() error { return failed }); !errors.Is(err, failed) {
			t.Errorf("a capture that fails: %v", err)
		}
		g, err := c.Capture(s, func() error { return c.Launch(f, one, one, 0, s) })
		if err != nil {
			return err
		}
		start := time.Now()
		if err := errors.Join(c.Synchronize(s), g.Launch(s), g.Launch(s), c.Synchronize(s)); err != nil {
			return err
		}
		if d := time.Since(start); d < 200*time.Millisecond {
			t.Errorf("two graphs of 0.1 s took %v", d)
		}
		return g.Close()
	}, "launch_us 100000")
	if err != nil {
		t.Error(err)
	}
}

func TestLoadFails(t *testing.T) {
	for _, test := range []struct {
		name string
		is   error
		want string
	}{
		{"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", ErrOldDriver, "cuModuleLoadDataEx: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (ptxas of the stub: Unsupported .version)"},
		{"CUDA_ERROR_INVALID_PTX", nil, "(ptxas of the stub: no)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := on(t, func(c *Context) error { _, err := c.Load([]byte(ptx)); return err }, "error cuModuleLoadDataEx "+test.name)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Error(err)
			}
		})
	}
}

// BLAS has columns where the project has rows: out[m,n] = a[m,k]·w[n,k]ᵀ is
// outᵀ = (wᵀ)ᵀ·aᵀ there.
func TestBLAS(t *testing.T) {
	dir := cudatest.Build(t)
	log, library := filepath.Join(dir, "log"), filepath.Join(dir, cudatest.Library)
	cudatest.Script(t, dir, "log "+log)
	d, err := Open(Options{Library: library})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewContext(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := OpenBLAS(c, library)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(func() error { return b.Gemm(0, BF16, 3, 5, 7, 1, 2, 3, 0.5, 2) }); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(log)
	want := "cublasGemmEx 1 0 5 3 7 alpha 0.5 type 14 lda 7 14 ldb 7 beta 2 ldc 5 compute 68 algorithm -1"
	if err != nil || !strings.Contains(string(text), want) {
		t.Errorf("%v, no %q in\n%s", err, want, text)
	}
	none := filepath.Join(dir, "none.so")
	if _, err := OpenBLAS(c, none); err == nil || err.Error() != fmt.Sprintf("%s is no cuBLAS", none) {
		t.Errorf("a library that is not there: %v", err)
	}
}

func BenchmarkLaunch(b *testing.B) {
	dir := cudatest.Build(b)
	cudatest.Script(b, dir, "launch_us 0")
	d, err := Open(Options{Library: filepath.Join(dir, cudatest.Library)})
	if err != nil {
		b.Fatal(err)
	}
	c, err := d.NewContext(0)
	if err != nil {
		b.Fatal(err)
	}
	err = c.Do(func() error {
		m, err := c.Load([]byte(ptx))
		if err != nil {
			return err
		}
		f, err := m.Function("nothing")
		if err != nil {
			return err
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Launch(f, Dim{1, 1, 1}, Dim{1, 1, 1}, 0, 0, Ptr(1<<40), Ptr(2<<40), int32(4096), float32(1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
