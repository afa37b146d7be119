package cuda

import (
	"strconv"
	"unsafe"

	"github.com/ebitengine/purego"
)

// symbols are the functions of the driver that are called.
var symbols = []string{
	"cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString",
	"cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDeviceGetAttribute",
	"cuDeviceGetPCIBusId", "cuDeviceGetUuid_v2", "cuDeviceGetUuid",
	"cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuCtxSetCurrent", "cuCtxSynchronize",
	"cuMemAlloc_v2", "cuMemFree_v2", "cuMemGetInfo_v2",
	"cuMemAllocAsync", "cuMemFreeAsync", "cuDeviceGetDefaultMemPool", "cuMemPoolGetAttribute", "cuMemPoolSetAttribute", "cuMemPoolTrimTo",
	"cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2", "cuMemcpyDtoDAsync_v2", "cuMemsetD8_v2",
	"cuStreamCreate", "cuStreamDestroy_v2", "cuStreamSynchronize",
	"cuEventCreate", "cuEventDestroy_v2", "cuEventRecord", "cuEventQuery", "cuEventElapsedTime",
	"cuModuleLoadDataEx", "cuModuleUnload", "cuModuleGetFunction", "cuFuncSetAttribute", "cuLaunchKernel",
	"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphExecDestroy", "cuGraphDestroy",
}

// library is an opened shared library: its functions by their names. One that
// it lacks is absent, and a call of it an error.
type library struct {
	at map[string]uintptr
}

// open loads a library and looks for the functions.
func open(name string, functions []string) (*library, error) {
	handle, err := load(name)
	if err != nil {
		return nil, err
	}
	l := &library{at: map[string]uintptr{}}
	for _, f := range functions {
		if at := lookUp(handle, f); at != 0 {
			l.at[f] = at
		}
	}
	return l, nil
}

// call calls a function that returns a CUresult. Pointers that are converted in
// the list of arguments stay valid for the length of the call.
//
//go:uintptrescapes
func (l *library) call(name string, args ...uintptr) error {
	f := l.at[name]
	if f == 0 {
		return &Error{Call: name, Code: notFound, Name: ErrNotFound.Name, Text: "the driver has no such function"}
	}
	r, _, _ := purego.SyscallN(f, args...)
	if code := int32(r); code != 0 {
		return l.error(name, code)
	}
	return nil
}

// error asks the driver what a code means.
func (l *library) error(name string, code int32) *Error {
	e := &Error{Call: name, Code: int(code), Name: "CUresult " + strconv.Itoa(int(code))}
	for ask, to := range map[string]*string{"cuGetErrorName": &e.Name, "cuGetErrorString": &e.Text} {
		var s *byte
		if f := l.at[ask]; f != 0 {
			if r, _, _ := purego.SyscallN(f, uintptr(code), uintptr(unsafe.Pointer(&s))); r == 0 && s != nil {
				*to = cString(s)
			}
		}
	}
	return e
}

// cString copies a C string.
func cString(s *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(s), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(s, n))
}
