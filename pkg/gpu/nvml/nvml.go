// Package nvml is the real device: NVIDIA's management library, opened at run
// time through go-nvml, so that a program that links this package starts on
// machines without a driver.
//
// [Open] takes one handle for each GPU and keeps it. A function that this
// driver lacks or this board does not support is found out then, reported in
// record.GPU's Channels under the NVML error's name, and not called again. A
// GPU that is lost goes on giving failed readings while it is looked for, by
// its UUID and at most once a second, beside the goroutines that read it.
//
// The channels of one GPU share no lock: the energy counter takes the driver
// milliseconds, and a sample does not wait for it here.
//
// The dynamic linker binds each NVML function once in the life of a process, to
// the first library that had it. One process therefore has one NVML, however
// often it is closed and opened again.
package nvml

import "joulepipe/pkg/gpu"

// Library is the name under which the driver installs NVML.
const Library = "libnvidia-ml.so.1"

// ErrUnknownClock says that the stamps of the driver's power samples fit no
// clock of this machine, so that they cannot be moved to the monotonic one.
const ErrUnknownClock gpu.Error = "UNKNOWN_CLOCK"

// ErrClockSet says that the clock of the driver's power samples was set, or that
// the machine slept, so short a time ago that the buffer still has stamps of
// before.
const ErrClockSet gpu.Error = "CLOCK_SET"

// Module is the channel under which record.GPU says that the board measures a
// whole module too, a GPU with its CPU and their memory (GH200). It is not
// polled: every sample is of the GPU alone, and two powers of which one holds
// the other are never in one trace. The energy counter of such boards may be
// the module's.
const Module = "module"

// Options are the choices of [Open]. The zero value is the usual one.
type Options struct {
	// LibraryPath is NVML's library file, or a name without a slash for the
	// loader to find. Empty: [Library].
	LibraryPath string
	// Clock is the monotonic clock in nanoseconds. Nil: clock.Now.
	Clock func() int64
}
