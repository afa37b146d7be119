//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"math"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// sampler is the state of one GPU's readings on the grid.
type sampler struct {
	usage    call
	fields   [2]field
	values   []nv.FieldValue // those of the fields that are asked for at this tick
	readings []reading
}

// field is a power reading that has an NVML field instead of a function.
type field struct {
	call call
	id   uint32
	to   func(*record.Sample) *record.Opt[float64] // W
}

// reading is one of the calls that follow the power.
type reading struct {
	call call
	name string // of the record's field
	read func(nv.Device, *record.Sample) nv.Return
}

func newSampler(d *Device) sampler {
	s := sampler{usage: d.lookUp("nvmlDeviceGetPowerUsage")}
	values := d.lookUp("nvmlDeviceGetFieldValues")
	s.fields = [...]field{
		{values, nv.FI_DEV_POWER_INSTANT, func(s *record.Sample) *record.Opt[float64] { return &s.PowerInstantW }},
		{values, nv.FI_DEV_POWER_AVERAGE, func(s *record.Sample) *record.Opt[float64] { return &s.PowerAverageW }},
	}
	s.values = make([]nv.FieldValue, 0, len(s.fields))

	reasons := readEventReasons
	if !d.has("nvmlDeviceGetCurrentClocksEventReasons") { // before driver 535
		reasons = readThrottleReasons
	}
	s.readings = []reading{
		{d.lookUp("nvmlDeviceGetTemperature"), "temp_c", readTemperature},
		{values, "mem_temp_c", readMemoryTemperature},
		{d.lookUp("nvmlDeviceGetClockInfo"), "sm_clock_mhz", readSMClock},
		{d.lookUp("nvmlDeviceGetClockInfo"), "mem_clock_mhz", readMemClock},
		{d.lookUp("nvmlDeviceGetUtilizationRates"), "util_gpu", readUtilization},
		{d.lookUp("nvmlDeviceGetMemoryInfo"), "vram_used_mb", readMemory},
		{d.lookUp("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"), "throttle_reasons", reasons},
		{d.lookUp("nvmlDeviceGetPerformanceState"), "pstate", readPState},
	}
	return s
}

// ReadSample reads the power first, between two looks at the clock whose middle
// is the sample's time, and then the rest.
func (b *board) ReadSample(s *record.Sample) {
	start := b.dev.clock()
	*s = record.Sample{
		TimeNS: start, GPU: b.info.Index,
		Tick: s.Tick, DtS: s.DtS, LateUS: s.LateUS, // the poller's
	}
	if h, lost := b.current(); h == nil {
		s.Error = string(name(lost))
	} else {
		b.readPower(h, s)
		s.TimeNS = start + (b.dev.clock()-start)/2
		b.readRest(h, s)
	}
	s.ReadUS = record.Some(float64(b.dev.clock()-start) / 1e3)
}

func (b *board) readPower(h *handle, s *record.Sample) {
	p := &b.sample
	if p.usage.live() {
		mw, ret := h.GetPowerUsage()
		h.done(&p.usage, ret)
		b.keep(&s.PowerW, float64(mw), ret, s)
	}
	p.values = p.values[:0]
	for i := range p.fields {
		if p.fields[i].call.live() && h.lost.Load() == 0 {
			p.values = append(p.values, nv.FieldValue{FieldId: p.fields[i].id})
		}
	}
	if len(p.values) > 0 {
		ret := h.GetFieldValues(p.values)
		h.note(ret) // a field's own error says nothing of the GPU
		asked := p.values
		for i := range p.fields {
			f := &p.fields[i]
			if len(asked) == 0 || asked[0].FieldId != f.id {
				continue
			}
			v := &asked[0]
			asked = asked[1:]
			own := ret
			if own == nv.SUCCESS {
				own = nv.Return(v.NvmlReturn)
			}
			mw, ok := number(v.Value, nv.ValueType(v.ValueType))
			if own == nv.SUCCESS && !ok {
				own = nv.ERROR_UNKNOWN
			}
			f.call.done(own)
			b.keep(f.to(s), mw, own, s)
		}
	}
	if !s.ReadOK && s.Error == "" {
		s.Error = string(name(p.usage.ret)) // no power reading is left to try
	}
	if s.Error == string(gpu.ErrImplausible) {
		s.ReadOK = false
	}
}

// keep puts a power reading in milliwatts, or its failure, into the sample.
func (b *board) keep(to *record.Opt[float64], mw float64, ret nv.Return, s *record.Sample) {
	if ret != nv.SUCCESS {
		fail(s, name(ret))
		return
	}
	*to = record.Some(mw / 1000)
	s.ReadOK = true
	if !b.plausible(mw) {
		s.Error = string(gpu.ErrImplausible)
	}
}

// plausible says whether milliwatts can be what the board draws. Who answers
// draws something; a reading of all ones is NVML's "no value"; a limit that a
// user can set stays well below twice the default.
func (b *board) plausible(mw float64) bool {
	limit, ok := b.info.PowerLimitDefaultW.Get()
	return mw > 0 && mw < math.MaxUint32 && (!ok || mw <= 2*limit*1000)
}

func (b *board) readRest(h *handle, s *record.Sample) {
	for i := range b.sample.readings {
		r := &b.sample.readings[i]
		if h.lost.Load() != 0 {
			return
		}
		if !r.call.live() {
			continue
		}
		ret := r.read(h.Device, s)
		h.done(&r.call, ret)
		if ret != nv.SUCCESS {
			fail(s, name(ret))
		}
	}
}

// fail notes the first failure of a sample.
func fail(s *record.Sample, err gpu.Error) {
	if s.Error == "" {
		s.Error = string(err)
	}
}

func readTemperature(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetTemperature(nv.TEMPERATURE_GPU)
	s.TempC = record.Opt[float64]{V: float64(v), OK: ret == nv.SUCCESS}
	return ret
}

func readMemoryTemperature(d nv.Device, s *record.Sample) nv.Return {
	v := [...]nv.FieldValue{{FieldId: nv.FI_DEV_MEMORY_TEMP}}
	ret := d.GetFieldValues(v[:])
	if ret == nv.SUCCESS {
		ret = nv.Return(v[0].NvmlReturn)
	}
	if ret == nv.SUCCESS {
		c, ok := number(v[0].Value, nv.ValueType(v[0].ValueType))
		s.MemTempC = record.Opt[float64]{V: c, OK: ok && c > 0} // some boards without a sensor answer 0
	}
	return ret
}

func readSMClock(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetClockInfo(nv.CLOCK_SM)
	s.SMClockMHz = record.Opt[int64]{V: int64(v), OK: ret == nv.SUCCESS}
	return ret
}

func readMemClock(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetClockInfo(nv.CLOCK_MEM)
	s.MemClockMHz = record.Opt[int64]{V: int64(v), OK: ret == nv.SUCCESS}
	return ret
}

func readUtilization(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetUtilizationRates()
	s.UtilGPU = record.Opt[int64]{V: int64(v.Gpu), OK: ret == nv.SUCCESS}
	s.UtilMem = record.Opt[int64]{V: int64(v.Memory), OK: ret == nv.SUCCESS}
	return ret
}

func readMemory(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetMemoryInfo()
	s.VRAMUsedMB = record.Opt[float64]{V: float64(v.Used) / mib, OK: ret == nv.SUCCESS}
	return ret
}

func readEventReasons(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetCurrentClocksEventReasons()
	s.ThrottleReasons = record.Opt[uint64]{V: v, OK: ret == nv.SUCCESS}
	return ret
}

func readThrottleReasons(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetCurrentClocksThrottleReasons()
	s.ThrottleReasons = record.Opt[uint64]{V: v, OK: ret == nv.SUCCESS}
	return ret
}

func readPState(d nv.Device, s *record.Sample) nv.Return {
	v, ret := d.GetPerformanceState()
	s.PState = record.Opt[int64]{V: int64(v), OK: ret == nv.SUCCESS && v != nv.PSTATE_UNKNOWN}
	return ret
}

// number is the value of a C union of the given type.
func number(v [8]byte, t nv.ValueType) (x float64, ok bool) {
	u := binary.NativeEndian.Uint64(v[:])
	switch t {
	case nv.VALUE_TYPE_DOUBLE:
		return math.Float64frombits(u), true
	case nv.VALUE_TYPE_UNSIGNED_INT:
		return float64(binary.NativeEndian.Uint32(v[:])), true
	case nv.VALUE_TYPE_UNSIGNED_LONG, nv.VALUE_TYPE_UNSIGNED_LONG_LONG: // long has 64 bits on Linux
		return float64(u), true
	case nv.VALUE_TYPE_SIGNED_LONG_LONG:
		return float64(int64(u)), true
	case nv.VALUE_TYPE_SIGNED_INT:
		return float64(int32(binary.NativeEndian.Uint32(v[:]))), true
	case nv.VALUE_TYPE_UNSIGNED_SHORT:
		return float64(binary.NativeEndian.Uint16(v[:])), true
	}
	return 0, false
}
