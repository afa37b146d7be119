package cuda

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Type is the type of a matrix's numbers.
type Type int

// The types.
const (
	F32 Type = iota
	F16
	BF16
)

// Bytes is the size of a number.
func (t Type) Bytes() int64 {
	if t == F32 {
		return 4
	}
	return 2
}

// BLAS is cuBLAS on one context.
type BLAS struct {
	*library
	context   *Context
	handle    uintptr
	workspace Ptr
	Path      string // of the library
}

// workspaceBytes is what cuBLAS wants for itself on Hopper. It gets it beforehand,
// so that it allocates nothing while a graph is captured.
const workspaceBytes = 32 << 20

var blasSymbols = []string{"cublasCreate_v2", "cublasDestroy_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"}

// places are where cuBLAS is when the loader does not know it: toolkits, and
// what Python's packages bring.
var places = []string{
	"/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64", "/opt/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64",
	"/usr/local/lib/python3*/*-packages/nvidia/*/lib", "/usr/lib/python3*/*-packages/nvidia/*/lib",
}

// OpenBLAS opens cuBLAS, a name or a path; empty is the newest that is found.
func OpenBLAS(c *Context, library string) (*BLAS, error) {
	b := &BLAS{context: c}
	for _, name := range candidates(library) {
		l, err := open(name, blasSymbols)
		if err == nil && len(l.at) == len(blasSymbols) {
			b.library, b.Path = l, name
			break
		}
	}
	if b.library == nil {
		if library != "" {
			return nil, fmt.Errorf("%s is no cuBLAS", library)
		}
		return nil, errors.New("no cuBLAS (libcublas.so) found")
	}
	err := c.Do(func() error {
		err := b.blas("cublasCreate_v2", uintptr(unsafe.Pointer(&b.handle)))
		if err == nil {
			b.workspace, err = c.Alloc(workspaceBytes)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// candidates are the libraries to try, the newest first.
func candidates(library string) []string {
	if library != "" {
		return []string{library}
	}
	var all []string
	for _, version := range []string{".13", ".12", ".11", ""} {
		all = append(all, "libcublas.so"+version)
		for _, place := range places {
			files, _ := filepath.Glob(filepath.Join(place, "libcublas.so"+version)) // the pattern is good
			slices.SortFunc(files, func(a, b string) int { return strings.Compare(b, a) })
			all = append(all, files...)
		}
	}
	return all
}

// blas calls a function that returns a cublasStatus_t.
//
//go:uintptrescapes
func (b *BLAS) blas(name string, args ...uintptr) error {
	r, _, _ := purego.SyscallN(b.at[name], args...)
	if code := int(int32(r)); code != 0 {
		e := &Error{Call: name, Code: code, Name: fmt.Sprintf("cublasStatus_t %d", code)}
		if code < len(statuses) && statuses[code] != "" {
			e.Name = "CUBLAS_STATUS_" + statuses[code]
		}
		return e
	}
	return nil
}

// statuses are the names of a cublasStatus_t, by their numbers.
var statuses = [...]string{
	1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
	11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED", 16: "LICENSE_ERROR",
}

// Constants of cublasGemmEx.
const (
	opN, opT         = 0, 1
	compute32F       = 68
	algorithmDefault = 0xffffffff // −1 in 32 bits
)

var dataTypes = [...]uintptr{F32: 0, F16: 2, BF16: 14} // cudaDataType_t

// Gemm puts out[m,n] = alpha·a[m,k]·w[n,k]ᵀ + beta·out into a stream, all
// row-major and of one type, summed in 32 bits.
func (b *BLAS) Gemm(s Stream, t Type, m, n, k int, a, w, out Ptr, alpha, beta float32) error {
	if err := b.blas("cublasSetStream_v2", b.handle, uintptr(s)); err != nil {
		return err
	}
	// A new stream takes the workspace away.
	if err := b.blas("cublasSetWorkspace_v2", b.handle, uintptr(b.workspace), workspaceBytes); err != nil {
		return err
	}
	// cuBLAS has columns where we have rows: it computes outᵀ = w·aᵀ.
	return b.blas("cublasGemmEx", b.handle, opT, opN, uintptr(n), uintptr(m), uintptr(k),
		uintptr(unsafe.Pointer(&alpha)), uintptr(w), dataTypes[t], uintptr(k), uintptr(a), dataTypes[t], uintptr(k),
		uintptr(unsafe.Pointer(&beta)), uintptr(out), dataTypes[t], uintptr(n), compute32F, algorithmDefault)
}

// Close gives back what it holds.
func (b *BLAS) Close() error {
	return b.context.Do(func() error {
		return errors.Join(b.blas("cublasDestroy_v2", b.handle), b.context.Free(b.workspace))
	})
}
