package cuda

import (
	"runtime"
	"unsafe"
)

// Context is a GPU's primary context, which all of this process shares. Except
// for Do and Close, its methods are called within [Context.Do].
type Context struct {
	*library
	device  int32 // CUdevice
	current uintptr
}

// NewContext opens the device of that ordinal.
func (d *Driver) NewContext(ordinal int) (*Context, error) {
	c := &Context{library: d.library}
	if err := d.call("cuDeviceGet", uintptr(unsafe.Pointer(&c.device)), uintptr(ordinal)); err != nil {
		return nil, err
	}
	if err := d.call("cuDevicePrimaryCtxRetain", uintptr(unsafe.Pointer(&c.current)), uintptr(c.device)); err != nil {
		return nil, err
	}
	return c, nil
}

// Do runs f on an operating system thread on which the context is current.
func (c *Context) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.call("cuCtxSetCurrent", c.current); err != nil {
		return err
	}
	return f()
}

// Close gives the context back. What was allocated in it is gone.
func (c *Context) Close() error {
	return c.call("cuDevicePrimaryCtxRelease_v2", uintptr(c.device))
}

// Ptr is an address in the GPU's memory; 0 is none.
type Ptr uint64

// Alloc takes memory, from an address that is a multiple of 256.
func (c *Context) Alloc(bytes int64) (Ptr, error) {
	var p Ptr
	err := c.call("cuMemAlloc_v2", uintptr(unsafe.Pointer(&p)), uintptr(bytes))
	return p, err
}

// Free gives it back, when the GPU has come to the end of its work.
func (c *Context) Free(p Ptr) error { return c.call("cuMemFree_v2", uintptr(p)) }

// AllocAsync takes memory from the device's pool, in the order of a stream.
func (c *Context) AllocAsync(bytes int64, s Stream) (Ptr, error) {
	var p Ptr
	err := c.call("cuMemAllocAsync", uintptr(unsafe.Pointer(&p)), uintptr(bytes), uintptr(s))
	return p, err
}

// FreeAsync gives it back to the pool.
func (c *Context) FreeAsync(p Ptr, s Stream) error {
	return c.call("cuMemFreeAsync", uintptr(p), uintptr(s))
}

// Attributes of a pool, CUmemPool_attribute.
const (
	poolThreshold = 4
	poolReserved  = 5
	poolUsed      = 7
)

func (c *Context) pool() (uintptr, error) {
	var p uintptr
	err := c.call("cuDeviceGetDefaultMemPool", uintptr(unsafe.Pointer(&p)), uintptr(c.device))
	return p, err
}

// PoolUsage is how many bytes the device's pool holds, and how many of them are
// allocated.
func (c *Context) PoolUsage() (reserved, used int64, err error) {
	p, err := c.pool()
	if err == nil {
		err = c.call("cuMemPoolGetAttribute", p, poolReserved, uintptr(unsafe.Pointer(&reserved)))
	}
	if err == nil {
		err = c.call("cuMemPoolGetAttribute", p, poolUsed, uintptr(unsafe.Pointer(&used)))
	}
	return reserved, used, err
}

// KeepPool lets the pool keep so many bytes that nobody uses when a stream is
// synchronised. Without it, it keeps none.
func (c *Context) KeepPool(bytes int64) error {
	p, err := c.pool()
	if err != nil {
		return err
	}
	return c.call("cuMemPoolSetAttribute", p, poolThreshold, uintptr(unsafe.Pointer(&bytes)))
}

// TrimPool gives back what the pool holds unused beyond so many bytes.
func (c *Context) TrimPool(keep int64) error {
	p, err := c.pool()
	if err != nil {
		return err
	}
	return c.call("cuMemPoolTrimTo", p, uintptr(keep))
}

// MemInfo is the device's memory in bytes, that of other processes counted in.
func (c *Context) MemInfo() (free, total int64, err error) {
	err = c.call("cuMemGetInfo_v2", uintptr(unsafe.Pointer(&free)), uintptr(unsafe.Pointer(&total)))
	return free, total, err
}

// Upload copies bytes to the GPU and waits for it.
func (c *Context) Upload(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	return c.call("cuMemcpyHtoD_v2", uintptr(dst), uintptr(unsafe.Pointer(&src[0])), uintptr(len(src)))
}

// Download copies bytes from the GPU. It waits for them, and for nothing that
// other streams than the default one do.
func (c *Context) Download(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	return c.call("cuMemcpyDtoH_v2", uintptr(unsafe.Pointer(&dst[0])), uintptr(src), uintptr(len(dst)))
}

// Clear sets memory to 0.
func (c *Context) Clear(dst Ptr, bytes int64) error {
	return c.call("cuMemsetD8_v2", uintptr(dst), 0, uintptr(bytes))
}

// CopyAsync copies within the GPU, in the order of a stream.
func (c *Context) CopyAsync(dst, src Ptr, bytes int64, s Stream) error {
	return c.call("cuMemcpyDtoDAsync_v2", uintptr(dst), uintptr(src), uintptr(bytes), uintptr(s))
}
