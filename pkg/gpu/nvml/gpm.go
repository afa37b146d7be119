//go:build linux && cgo

package nvml

import (
	"math"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/record"
)

// gpmSpacing is the least time between two samples that NVML can compare: it
// refreshes them every 100 ms.
const gpmSpacing = int64(100 * time.Millisecond)

// units is the state of the GPM channel: two sample buffers of NVML's that
// take turns.
type units struct {
	call    call
	buffers [2]nv.GpmSample // nil until the GPU was found to have the channel
	next    int             // index of the buffer to fill
	last    int64           // when the other one was filled, ns
	filled  bool            // whether it was
	query   nv.GpmMetricsGetType
}

// metrics are NVML's names of a GPM record's values. Utilisations are per cent,
// PCIe is MiB/s, as in the record.
var metrics = []struct {
	id nv.GpmMetricId
	to func(*record.GPM) *record.Opt[float64]
}{
	{nv.GPM_METRIC_GRAPHICS_UTIL, func(g *record.GPM) *record.Opt[float64] { return &g.GraphicsUtil }},
	{nv.GPM_METRIC_SM_UTIL, func(g *record.GPM) *record.Opt[float64] { return &g.SMUtil }},
	{nv.GPM_METRIC_SM_OCCUPANCY, func(g *record.GPM) *record.Opt[float64] { return &g.SMOccupancy }},
	{nv.GPM_METRIC_ANY_TENSOR_UTIL, func(g *record.GPM) *record.Opt[float64] { return &g.TensorUtil }},
	{nv.GPM_METRIC_DRAM_BW_UTIL, func(g *record.GPM) *record.Opt[float64] { return &g.DRAMBWUtil }},
	{nv.GPM_METRIC_PCIE_TX_PER_SEC, func(g *record.GPM) *record.Opt[float64] { return &g.PCIeTxMiBs }},
	{nv.GPM_METRIC_PCIE_RX_PER_SEC, func(g *record.GPM) *record.Opt[float64] { return &g.PCIeRxMiBs }},
}

func newUnits(d *Device) units {
	u := units{}
	for _, symbol := range []string{"nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc", "nvmlGpmSampleGet", "nvmlGpmMetricsGet", "nvmlGpmSampleFree"} {
		if u.call = d.lookUp(symbol); u.call.ret != nv.SUCCESS {
			break
		}
	}
	u.query.NumMetrics = uint32(len(metrics))
	for i, m := range metrics {
		u.query.Metrics[i].MetricId = uint32(m.id)
	}
	return u
}

// ReadGPM takes a sample of the units' counters, and with the one before it
// fills in g. ok is false less than 100 ms after the last sample.
func (b *board) ReadGPM(g *record.GPM) (ok bool, err error) {
	u := &b.gpm
	if !u.call.live() {
		return false, name(u.call.ret)
	}
	h, lost := b.current()
	if h == nil {
		u.forget()
		return false, name(lost)
	}
	start := b.dev.clock()
	if u.filled && start-u.last < gpmSpacing {
		return false, nil
	}
	ret := u.take(b.dev, h)
	now := start + (b.dev.clock()-start)/2
	pair := u.filled
	if ret == nv.SUCCESS {
		*g = record.GPM{StartNS: u.last, TimeNS: now, GPU: b.info.Index}
		u.last, u.filled, u.next = now, true, 1-u.next
		if pair {
			ret = u.compare(b.dev.lib, g)
		}
	} else {
		u.forget()
	}
	h.done(&u.call, ret)
	if ret != nv.SUCCESS {
		return false, name(ret)
	}
	return pair, nil
}

// take fills the next buffer, the first time after making both.
func (u *units) take(d *Device, h *handle) nv.Return {
	if u.buffers[0] == nil {
		support, ret := h.GpmQueryDeviceSupport()
		if ret == nv.SUCCESS && support.IsSupportedDevice == 0 {
			ret = nv.ERROR_NOT_SUPPORTED
		}
		if ret != nv.SUCCESS {
			return ret
		}
	}
	for i := range u.buffers {
		if u.buffers[i] == nil {
			buffer, ret := d.lib.GpmSampleAlloc()
			if ret != nv.SUCCESS {
				return ret
			}
			u.buffers[i] = buffer
		}
	}
	return h.GpmSampleGet(u.buffers[u.next])
}

// compare has NVML work out the metrics between the buffers. A metric that this
// board lacks is absent; if it lacks all, that is the outcome.
func (u *units) compare(lib nv.Interface, g *record.GPM) nv.Return {
	u.query.Sample1, u.query.Sample2 = u.buffers[u.next], u.buffers[1-u.next]
	if ret := lib.GpmMetricsGet(&u.query); ret != nv.SUCCESS {
		return ret
	}
	outcome := nv.ERROR_NO_DATA
	for i, m := range metrics {
		v := &u.query.Metrics[i]
		switch ret := nv.Return(v.NvmlReturn); {
		case ret == nv.SUCCESS && !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0):
			*m.to(g) = record.Some(v.Value)
			outcome = nv.SUCCESS
		case ret != nv.SUCCESS && outcome == nv.ERROR_NO_DATA:
			outcome = ret
		}
	}
	return outcome
}

// forget drops the first half of a pair.
func (u *units) forget() { u.filled = false }

func (u *units) free() {
	for _, buffer := range u.buffers {
		if buffer != nil {
			buffer.Free()
		}
	}
}
