//go:build linux

package wave

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/cudatest"
	"joulepipe/pkg/load"
)

// on is a GPU of the stub.
func on(t *testing.T, script ...string) (*cuda.Context, string) {
	t.Helper()
	dir := cudatest.Build(t)
	cudatest.Script(t, dir, script...)
	d, err := cuda.Open(cuda.Options{Library: filepath.Join(dir, cudatest.Library)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.NewContext(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, filepath.Join(dir, cudatest.Library)
}

func free(t *testing.T, c *cuda.Context) (bytes int64) {
	t.Helper()
	if err := c.Do(func() (err error) { bytes, _, err = c.MemInfo(); return err }); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// Each kernel goes through all of its result, in launches that do what they say,
// and what it leaves is right.
func TestKernels(t *testing.T) {
	t.Parallel()
	for _, kernel := range []load.Kernel{load.FP32, load.BF16, "bf16 by cuBLAS", load.Memory} {
		t.Run(string(kernel), func(t *testing.T) {
			t.Parallel()
			c, library := on(t, "block_us matmul_f32 2.6", "block_us gemm_bf16 1", "block_us gemm_bf16_small 0.25", "block_us copy 0.006", "block_us cublasGemmEx 1")
			before := free(t, c)
			o := Options{Kernel: kernel, Hold: 3000 * mib, Clock: clock.System(), Stall: 10 * time.Second}
			if kernel == "bf16 by cuBLAS" {
				o.Kernel = load.BF16
				var err error
				if o.BLAS, err = cuda.OpenBLAS(c, library); err != nil {
					t.Fatal(err)
				}
				before = free(t, c)
			}
			q, err := Open(t.Context(), c, o)
			if err != nil {
				t.Fatal(err)
			}
			if held := before - free(t, c); held != o.Hold {
				t.Errorf("%d MiB are held", held/mib)
			}
			costs, usual := q.Costs()
			pieces, all := q.Pieces()
			if usual != len(costs)-1 || !slices.IsSortedFunc(costs, func(a, b load.Cost) int { return int(a.Time - b.Time) }) || costs[usual].Time > longest || costs[usual].Time < 50*time.Microsecond {
				t.Errorf("%v, %d", costs, usual)
			}
			work := (costs[usual].FLOPs + costs[usual].Bytes) * float64(all) / float64(pieces)
			if want := map[load.Kernel]float64{load.FP32: 2 * 4096 * 4096 * 4096, load.BF16: 2 * 8192 * 8192 * 8192, load.Memory: 2 << 30}[o.Kernel]; math.Abs(work-want) > 1 {
				t.Errorf("all pieces are %g operations or bytes, and should be %g", work, want)
			}
			err = q.Do(func() error {
				if err := q.Check(); err != nil { // nothing was computed
					return err
				}
				if err := q.Begin(); err != nil {
					return err
				}
				from := clock.Now()
				n := 0
				for range 5 * all / pieces {
					for n-q.done >= 4 {
						if _, err := q.Done(); err != nil {
							return err
						}
					}
					if err := q.Put(usual); err != nil {
						return err
					}
					n++
				}
				for q.done < n {
					if _, err := q.Done(); err != nil {
						return err
					}
				}
				until := clock.Now()
				first, last, err := q.End()
				if err != nil {
					return err
				}
				// The GPU's clock is laid over the host's by a mark that the GPU passes within half of
				// the time that asking for it takes, which a busy machine makes long.
				off := (clock.Now() - until) / 2
				if first < from || first > from+20e6 || last > until+off || last < from+int64(n)*int64(costs[usual].Time)*8/10 || slices.Contains(q.written, false) {
					t.Errorf("from %d until %d; the GPU says %d and %d, %v", from, until, first, last, q.written)
				}
				return q.Check()
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Close(); err != nil || free(t, c) != before {
				t.Errorf("%v, and %d bytes less are free", err, before-free(t, c))
			}
		})
	}
}

// A result that was not written, or is not right, is seen.
func TestCheck(t *testing.T) {
	t.Parallel()
	c, _ := on(t, "block_us matmul_f32 2.6")
	q, err := Open(t.Context(), c, Options{Kernel: load.FP32, Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"nothing written": func() error { return c.Clear(q.job.out(q), q.job.result) },
		"the last row not a number": func() error {
			line := slices.Repeat([]byte{0xff}, stretch*4)
			return c.Upload(q.job.out(q)+cuda.Ptr(q.job.result-int64(len(line))), line)
		},
	} {
		err := q.Do(func() error {
			if err := q.compute(q.job.pieces); err != nil {
				return err
			}
			if err := q.drain(t.Context(), nap); err != nil {
				return err
			}
			if err := q.Check(); err != nil {
				t.Errorf("before: %v", err)
			}
			return spoil()
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Do(q.Check); err == nil {
			t.Errorf("%s: nothing is seen", name)
		}
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// What fails gives back what it took; a GPU that hangs is left alone.
func TestOpenFails(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"error cuMemAlloc_v2 CUDA_ERROR_OUT_OF_MEMORY after 2": "64 MiB of GPU memory",
		"wrong matmul_f32": "computes wrong numbers",
		"error cuModuleLoadDataEx CUDA_ERROR_INVALID_PTX":            "CUDA_ERROR_INVALID_PTX",
		"error cuLaunchKernel CUDA_ERROR_ILLEGAL_ADDRESS after 30":   "matmul_f32: cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS",
		"error cuModuleGetFunction CUDA_ERROR_NOT_FOUND":             "fill_uniform_f32",
		"error cuEventElapsedTime CUDA_ERROR_INVALID_HANDLE after 1": "cuEventElapsedTime",
	} {
		c, _ := on(t, fault)
		before := free(t, c)
		_, err := Open(t.Context(), c, Options{Kernel: load.FP32, Clock: clock.System()})
		if err == nil || !strings.Contains(err.Error(), want) || free(t, c) != before {
			t.Errorf("%s: %v, %d bytes are left", fault, err, before-free(t, c))
		}
	}
	c, _ := on(t, "hang matmul_f32 after 3")
	_, err := Open(t.Context(), c, Options{GPU: 2, Kernel: load.FP32, Clock: clock.System(), Stall: 50 * time.Millisecond})
	if stalled := (*load.StallError)(nil); !errors.As(err, &stalled) || stalled.GPU != 2 {
		t.Errorf("%v", err)
	}
	c, _ = on(t, "hang matmul_f32")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, c, Options{Kernel: load.FP32, Clock: clock.System(), Stall: time.Minute}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
