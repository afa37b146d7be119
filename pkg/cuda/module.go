package cuda

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// Module is compiled kernels.
type Module struct {
	context *Context
	handle  uintptr
}

// Options of the compiler, CUjit_option.
const (
	jitErrorLog     = 5
	jitErrorLogSize = 6
)

// Load compiles PTX for the GPU; the driver keeps the result for the next time.
// The error has the compiler's words.
func (c *Context) Load(ptx []byte) (*Module, error) {
	m := &Module{context: c}
	image := append(ptx[:len(ptx):len(ptx)], 0)
	log := make([]byte, 4096)
	var pin runtime.Pinner // values has its address as a number, which holds nothing in place
	pin.Pin(&log[0])
	defer pin.Unpin()
	options := [...]int32{jitErrorLog, jitErrorLogSize}
	values := [...]uintptr{uintptr(unsafe.Pointer(&log[0])), uintptr(len(log))}
	err := c.call("cuModuleLoadDataEx", uintptr(unsafe.Pointer(&m.handle)), uintptr(unsafe.Pointer(&image[0])),
		uintptr(len(options)), uintptr(unsafe.Pointer(&options)), uintptr(unsafe.Pointer(&values)))
	if failed := new(Error); errors.As(err, &failed) {
		if words := strings.TrimSpace(text(log)); words != "" {
			failed.Text = words
		}
		return nil, failed
	}
	return m, err
}

// Function is a kernel.
type Function struct {
	context *Context
	handle  uintptr
}

// Function is the kernel of that name.
func (m *Module) Function(name string) (Function, error) {
	f := Function{context: m.context}
	c := append([]byte(name), 0)
	err := f.context.call("cuModuleGetFunction", uintptr(unsafe.Pointer(&f.handle)), m.handle, uintptr(unsafe.Pointer(&c[0])))
	if err != nil {
		err = fmt.Errorf("kernel %s: %w", name, err)
	}
	return f, err
}

// maxDynamicShared is CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
const maxDynamicShared = 8

// Shared lets launches of the kernel have so many bytes of dynamic shared
// memory; without it they may have 48 KiB.
func (f Function) Shared(bytes int) error {
	return f.context.call("cuFuncSetAttribute", f.handle, maxDynamicShared, uintptr(bytes))
}

// Source is PTX that goes by a name of its own: values that are equal are of one
// text.
type Source interface{ PTX() []byte }

// Loader finds kernels in sources, each of which it has compiled when the first
// of its kernels is asked for. What it has is the context's.
type Loader struct {
	on      *Context
	modules map[Source]*Module
	kernels map[string]Function
}

// NewLoader is a Loader of a context, for one goroutine.
func NewLoader(c *Context) *Loader {
	return &Loader{on: c, modules: map[Source]*Module{}, kernels: map[string]Function{}}
}

// Kernel is the kernel of that name, for launches with so many bytes of dynamic
// shared memory.
func (l *Loader) Kernel(from Source, name string, shared int) (Function, error) {
	f, ok := l.kernels[name]
	if ok {
		return f, nil
	}
	m := l.modules[from]
	var err error
	if m == nil {
		if m, err = l.on.Load(from.PTX()); err != nil {
			return f, err
		}
		l.modules[from] = m
	}
	if f, err = m.Function(name); err != nil {
		return f, err
	}
	if shared > 0 { // what a kernel has of its own counts against the 48 KiB as well
		if err := f.Shared(shared); err != nil {
			return f, err
		}
	}
	l.kernels[name] = f
	return f, nil
}

// Dim is a number of blocks, or of threads, in three dimensions.
type Dim struct{ X, Y, Z int }

// arguments are a kernel's parameters, and where each of them is.
type arguments struct {
	values [32]uint64
	at     [32]unsafe.Pointer
}

var calls = sync.Pool{New: func() any {
	a := new(arguments)
	for i := range a.at {
		a.at[i] = unsafe.Pointer(&a.values[i])
	}
	return a
}}

// Launch puts a kernel into a stream: grid blocks of block threads with so many
// bytes of dynamic shared memory. Arguments are of types Ptr, int32, uint32,
// int64, uint64 and float32, as the kernel's parameters are, 32 at most.
func (c *Context) Launch(f Function, grid, block Dim, shared int, s Stream, args ...any) error {
	a := calls.Get().(*arguments)
	defer calls.Put(a)
	if len(args) > len(a.values) {
		return fmt.Errorf("a kernel with %d arguments", len(args))
	}
	for i, arg := range args {
		switch v := arg.(type) { // little-endian: the low bytes of a number come first
		case Ptr:
			a.values[i] = uint64(v)
		case int32:
			a.values[i] = uint64(uint32(v))
		case uint32:
			a.values[i] = uint64(v)
		case int64:
			a.values[i] = uint64(v)
		case uint64:
			a.values[i] = v
		case float32:
			a.values[i] = uint64(math.Float32bits(v))
		default:
			return fmt.Errorf("a kernel with an argument of type %T", arg)
		}
	}
	return c.call("cuLaunchKernel", f.handle,
		uintptr(grid.X), uintptr(grid.Y), uintptr(grid.Z), uintptr(block.X), uintptr(block.Y), uintptr(block.Z),
		uintptr(shared), uintptr(s), uintptr(unsafe.Pointer(&a.at)), 0)
}
