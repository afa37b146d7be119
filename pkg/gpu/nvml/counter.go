//go:build linux && cgo

package nvml

import (
	"math"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// ReadCounter reads the energy counter with the call's bracket.
func (b *board) ReadCounter(c *record.Counter) {
	now := b.dev.clock()
	*c = record.Counter{BeforeNS: now, TimeNS: now, GPU: b.info.Index}
	if !b.counter.live() {
		c.Error = string(name(b.counter.ret))
		return
	}
	h, lost := b.current()
	if h == nil {
		c.Error = string(name(lost))
		return
	}
	c.BeforeNS = b.dev.clock()
	mj, ret := h.GetTotalEnergyConsumption()
	c.TimeNS = b.dev.clock()
	h.done(&b.counter, ret)
	if ret != nv.SUCCESS {
		c.Error = string(name(ret))
		return
	}
	if mj > math.MaxInt64 { // all ones: NVML's "no value"
		c.Error = string(gpu.ErrImplausible)
		return
	}
	c.EnergyMilliJ = record.Some(int64(mj))
}
