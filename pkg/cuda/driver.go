// Package cuda speaks to NVIDIA's driver: memory, streams, and kernels that the
// driver compiles from PTX. It opens libcuda.so.1 at run time and needs no
// toolkit; cuBLAS is used where it is installed.
//
// The names are those of the CUDA driver API, whose reference says more:
// https://docs.nvidia.com/cuda/cuda-driver-api.
package cuda

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"joulepipe/pkg/gpu"
)

// Library is the driver's library, as the loader knows it.
const Library = "libcuda.so.1"

// Options say what to open.
type Options struct {
	Library string // a name or path instead of [Library]
}

// Driver is the opened library.
type Driver struct{ *library }

// oldest is the version of the CUDA driver API that is needed: that of PTX 7.0.
const oldest = 11000

const without = "--device sim loads a simulated GPU; nvload exec -- CMD brackets a command that loads the GPU by itself"

// Open loads the library and starts it. Without library, driver or GPU, and
// with a driver before CUDA 11.0, the error is a [gpu.UnavailableError].
func Open(o Options) (*Driver, error) {
	name := o.Library
	if name == "" {
		name = Library
	}
	l, err := open(name, symbols)
	if err != nil {
		where := "as this file"
		if !strings.Contains(name, "/") {
			where = "in LD_LIBRARY_PATH and the loader's other directories"
		}
		return nil, &gpu.UnavailableError{What: fmt.Sprintf("no CUDA driver: looked for %s %s: %v", name, where, err), Hint: without}
	}
	d := &Driver{l}
	if err := d.call("cuInit", 0); err != nil {
		return nil, &gpu.UnavailableError{What: fmt.Sprintf("the CUDA driver (%s) does not start: %v", name, err), Hint: hint(err)}
	}
	if major, minor := d.Version(); major*1000+minor*10 < oldest {
		return nil, &gpu.UnavailableError{
			What: fmt.Sprintf("the NVIDIA driver is too old: it has CUDA %d.%d, and 11.0 is needed", major, minor),
			Hint: "install driver 450 or later; " + without,
		}
	}
	return d, nil
}

// hint says what to do about a driver that does not start.
func hint(err error) string {
	switch {
	case errors.Is(err, ErrNoDevice):
		return "CUDA_VISIBLE_DEVICES may hide the GPUs; " + without
	case errors.Is(err, ErrMismatch):
		return "the library and the kernel's driver are of different versions: a reboot after an update helps; " + without
	}
	return without
}

// Version is that of the CUDA that the driver brings.
func (d *Driver) Version() (major, minor int) {
	var v int32
	if d.call("cuDriverGetVersion", uintptr(unsafe.Pointer(&v))) != nil {
		return 0, 0
	}
	return int(v) / 1000, int(v) % 1000 / 10
}

// Device is a GPU as CUDA sees it.
type Device struct {
	Ordinal      int    // among those that CUDA_VISIBLE_DEVICES lets through, in its order
	UUID         string // GPU-…, as NVML writes it; empty where the driver does not say
	PCI          string // 0000:01:00.0
	Name         string
	MemoryBytes  int64
	SMs          int  // multiprocessors
	Major, Minor int  // compute capability
	Pools        bool // has stream-ordered memory pools
}

// Attributes of a device, CUdevice_attribute.
const (
	multiprocessors = 16
	capabilityMajor = 75
	capabilityMinor = 76
	memoryPools     = 115
)

// Devices are all GPUs that CUDA may use.
func (d *Driver) Devices() ([]Device, error) {
	var n int32
	if err := d.call("cuDeviceGetCount", uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, &gpu.UnavailableError{What: "CUDA has no GPU", Hint: hint(ErrNoDevice)}
	}
	var all []Device
	for i := range int(n) {
		dev, err := d.device(i)
		if err != nil {
			return nil, fmt.Errorf("CUDA device %d: %w", i, err)
		}
		all = append(all, dev)
	}
	return all, nil
}

func (d *Driver) device(ordinal int) (Device, error) {
	var handle int32
	if err := d.call("cuDeviceGet", uintptr(unsafe.Pointer(&handle)), uintptr(ordinal)); err != nil {
		return Device{}, err
	}
	var name [256]byte
	var pci [64]byte
	var id [16]byte
	var memory uint64
	var sms, major, minor, pools int32
	err := errors.Join(
		d.call("cuDeviceGetName", uintptr(unsafe.Pointer(&name)), uintptr(len(name)), uintptr(handle)),
		d.call("cuDeviceTotalMem_v2", uintptr(unsafe.Pointer(&memory)), uintptr(handle)),
		d.call("cuDeviceGetAttribute", uintptr(unsafe.Pointer(&sms)), multiprocessors, uintptr(handle)),
		d.call("cuDeviceGetAttribute", uintptr(unsafe.Pointer(&major)), capabilityMajor, uintptr(handle)),
		d.call("cuDeviceGetAttribute", uintptr(unsafe.Pointer(&minor)), capabilityMinor, uintptr(handle)),
	)
	if err != nil {
		return Device{}, err
	}
	dev := Device{
		Ordinal: ordinal, Name: text(name[:]), MemoryBytes: int64(memory),
		SMs: int(sms), Major: int(major), Minor: int(minor),
	}
	// What is new or odd about a driver does not keep a GPU from its work.
	if d.call("cuDeviceGetPCIBusId", uintptr(unsafe.Pointer(&pci)), uintptr(len(pci)), uintptr(handle)) == nil {
		dev.PCI = text(pci[:])
	}
	if d.call("cuDeviceGetUuid_v2", uintptr(unsafe.Pointer(&id)), uintptr(handle)) == nil ||
		d.call("cuDeviceGetUuid", uintptr(unsafe.Pointer(&id)), uintptr(handle)) == nil {
		dev.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	}
	if d.call("cuDeviceGetAttribute", uintptr(unsafe.Pointer(&pools)), memoryPools, uintptr(handle)) == nil {
		dev.Pools = pools != 0
	}
	return dev, nil
}

// text is a C string.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
