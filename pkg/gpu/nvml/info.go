//go:build linux && cgo

package nvml

import (
	"fmt"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/record"
)

// mib is NVML's megabyte, and that of every tool that shows it.
const mib = 1 << 20

// describe fills in what does not change while the tool runs.
func (b *board) describe(dev nv.Device) {
	d, info := b.dev, &b.info
	info.UUID, _ = ask(d, dev.GetUUID, "nvmlDeviceGetUUID")
	info.Name, _ = ask(d, dev.GetName, "nvmlDeviceGetName")
	info.Driver, _ = ask(d, d.lib.SystemGetDriverVersion, "nvmlSystemGetDriverVersion")
	if v, ok := ask(d, d.lib.SystemGetCudaDriverVersion, "nvmlSystemGetCudaDriverVersion"); ok {
		info.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
	}
	if arch, ok := ask(d, dev.GetArchitecture, "nvmlDeviceGetArchitecture"); ok {
		info.Arch = architecture(arch)
	}
	if pci, ok := ask(d, dev.GetPciInfo, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"); ok {
		info.PCI = busID(&pci)
	}
	memory, ok := ask(d, dev.GetMemoryInfo, "nvmlDeviceGetMemoryInfo")
	info.VRAMTotalMB = record.Opt[float64]{V: float64(memory.Total) / mib, OK: ok}
	limit, ok := ask(d, dev.GetEnforcedPowerLimit, "nvmlDeviceGetEnforcedPowerLimit")
	info.PowerLimitW = record.Opt[float64]{V: float64(limit) / 1000, OK: ok}
	limit, ok = ask(d, dev.GetPowerManagementDefaultLimit, "nvmlDeviceGetPowerManagementDefaultLimit")
	info.PowerLimitDefaultW = record.Opt[float64]{V: float64(limit) / 1000, OK: ok}
	info.TempSlowdownC = threshold(d, dev, nv.TEMPERATURE_THRESHOLD_SLOWDOWN)
	info.TempShutdownC = threshold(d, dev, nv.TEMPERATURE_THRESHOLD_SHUTDOWN)
	mig, ok := ask(d, func() (int, nv.Return) {
		now, _, ret := dev.GetMigMode()
		return now, ret
	}, "nvmlDeviceGetMigMode")
	info.MIG = record.Opt[bool]{V: mig == nv.DEVICE_MIG_ENABLE, OK: ok}
	persistence, ok := ask(d, dev.GetPersistenceMode, "nvmlDeviceGetPersistenceMode")
	info.Persistence = record.Opt[bool]{V: persistence == nv.FEATURE_ENABLED, OK: ok}
}

// ask calls a function if the library has it, by any of its names. The value is
// zero where ok is false.
func ask[T any](d *Device, get func() (T, nv.Return), symbols ...string) (v T, ok bool) {
	if !d.has(symbols...) {
		return v, false
	}
	got, ret := get()
	if ret != nv.SUCCESS {
		return v, false
	}
	return got, true
}

func threshold(d *Device, dev nv.Device, which nv.TemperatureThresholds) record.Opt[float64] {
	c, ok := ask(d, func() (uint32, nv.Return) {
		return dev.GetTemperatureThreshold(which)
	}, "nvmlDeviceGetTemperatureThreshold")
	return record.Opt[float64]{V: float64(c), OK: ok}
}

// busID is the address as lspci and CUDA spell it, "00000000:3b:00.0".
func busID(pci *nv.PciInfo) string {
	var s []byte
	for _, c := range pci.BusId {
		if c == 0 {
			break
		}
		s = append(s, byte(c))
	}
	return string(s)
}

// architecture is the marketing name of a generation. One that is newer than
// go-nvml goes by its number.
func architecture(a nv.DeviceArchitecture) string {
	switch a {
	case nv.DEVICE_ARCH_KEPLER:
		return "Kepler"
	case nv.DEVICE_ARCH_MAXWELL:
		return "Maxwell"
	case nv.DEVICE_ARCH_PASCAL:
		return "Pascal"
	case nv.DEVICE_ARCH_VOLTA:
		return "Volta"
	case nv.DEVICE_ARCH_TURING:
		return "Turing"
	case nv.DEVICE_ARCH_AMPERE:
		return "Ampere"
	case nv.DEVICE_ARCH_ADA:
		return "Ada"
	case nv.DEVICE_ARCH_HOPPER:
		return "Hopper"
	case nv.DEVICE_ARCH_BLACKWELL:
		return "Blackwell"
	case nv.DEVICE_ARCH_RUBIN:
		return "Rubin"
	case nv.DEVICE_ARCH_UNKNOWN:
		return ""
	}
	return fmt.Sprintf("architecture %d", a)
}
