//go:build linux && cgo

package nvml

import (
	"fmt"
	"strings"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
)

// names are the error codes by their names in C. They are taken before any
// library is loaded: from then on go-nvml's texts are the driver's prose.
var names = func() map[nv.Return]gpu.Error {
	m := make(map[nv.Return]gpu.Error)
	add := func(r nv.Return) {
		if s := r.Error(); strings.HasPrefix(s, "ERROR_") {
			m[r] = gpu.Error("NVML_" + s)
		}
	}
	for r := nv.SUCCESS; r < 64; r++ {
		add(r)
	}
	add(nv.ERROR_UNKNOWN)
	return m
}()

// name is the error of a code. Codes newer than go-nvml go by their number.
func name(r nv.Return) gpu.Error {
	if s, ok := names[r]; ok {
		return s
	}
	return gpu.Error(fmt.Sprintf("NVML_ERROR_%d", r))
}

// gone says that the handle does not lead to the GPU any more.
func gone(r nv.Return) bool {
	switch r {
	case nv.ERROR_GPU_IS_LOST, nv.ERROR_GPU_NOT_FOUND, nv.ERROR_NOT_FOUND,
		nv.ERROR_RESET_REQUIRED, nv.ERROR_UNINITIALIZED:
		return true
	}
	return false
}

// call is how an NVML function does on one GPU.
type call struct {
	ret    nv.Return // the last outcome
	worked bool      // it was a success at least once
}

// lookUp is the call of a function by any of these names, on a library that may
// lack it.
func (d *Device) lookUp(symbols ...string) call {
	if d.has(symbols...) {
		return call{}
	}
	return call{ret: nv.ERROR_FUNCTION_NOT_FOUND}
}

// live says whether to call: not where the answer was that this board or driver
// never will. What worked once is always tried again.
func (c *call) live() bool {
	if c.worked {
		return true
	}
	switch c.ret {
	case nv.ERROR_FUNCTION_NOT_FOUND, nv.ERROR_NOT_SUPPORTED, nv.ERROR_NO_PERMISSION,
		nv.ERROR_INVALID_ARGUMENT, nv.ERROR_ARGUMENT_VERSION_MISMATCH, nv.ERROR_DEPRECATED:
		return false
	}
	return true
}

func (c *call) done(r nv.Return) {
	c.ret = r
	c.worked = c.worked || r == nv.SUCCESS
}
