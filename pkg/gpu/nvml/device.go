//go:build linux && cgo

package nvml

import (
	"fmt"
	"strings"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
)

// Device is NVML with all of its GPUs.
type Device struct {
	lib     nv.Interface
	clock   func() int64
	gpus    []gpu.GPU
	finders sync.WaitGroup // searches for lost GPUs
}

// Open loads the library, starts NVML and probes each GPU. Without library,
// driver or GPU the error is a *gpu.UnavailableError. A GPU that NVML counts
// but does not give a handle to is in the list, and its readings fail until it
// is found.
func Open(opts Options) (*Device, error) {
	path := opts.LibraryPath
	if path == "" {
		path = Library
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	d := &Device{lib: nv.New(nv.WithLibraryPath(path)), clock: opts.Clock}
	if d.clock == nil {
		d.clock = clock.Now
	}
	if ret := d.lib.Init(); ret != nv.SUCCESS {
		// No call may follow, not even to shut down.
		return nil, unavailable("NVML (%s) does not start: %s", path, name(ret))
	}
	count, ret := d.lib.DeviceGetCount()
	if ret != nv.SUCCESS || count == 0 {
		d.lib.Shutdown()
		if ret != nv.SUCCESS {
			return nil, unavailable("NVML (%s) does not count its GPUs: %s", path, name(ret))
		}
		return nil, unavailable("NVML (%s) has no GPU", path)
	}
	for i := range count {
		d.gpus = append(d.gpus, newBoard(d, i))
	}
	return d, nil
}

// GPUs are the GPUs in NVML's order.
func (d *Device) GPUs() []gpu.GPU { return d.gpus }

// Close frees the handles and shuts NVML down. No method of a GPU may be
// running.
func (d *Device) Close() error {
	d.finders.Wait()
	for _, g := range d.gpus {
		g.(*board).gpm.free()
	}
	if ret := d.lib.Shutdown(); ret != nv.SUCCESS {
		return fmt.Errorf("shutting NVML down: %w", name(ret))
	}
	return nil
}

// has says whether the library has one of the symbols. Calling a function that
// it lacks ends the process.
func (d *Device) has(symbols ...string) bool {
	for _, s := range symbols {
		if d.lib.Extensions().LookupSymbol(s) == nil {
			return true
		}
	}
	return false
}

// needed are the functions without which Open cannot go on, each with the
// names that it had in the course of time.
var needed = [][]string{
	{"nvmlInit_v2", "nvmlInit"},
	{"nvmlShutdown"},
	{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"},
	{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"},
	{"nvmlDeviceGetHandleByUUID"},
}

// inspect opens the library to see that it is NVML. go-nvml would call nvmlInit
// before it lets anyone ask whether there is one, and does not say why a
// library did not load.
func inspect(path string) error {
	lib := dl.New(path, dl.RTLD_LAZY)
	if err := lib.Open(); err != nil {
		where := "as this file"
		if !strings.Contains(path, "/") {
			where = "in LD_LIBRARY_PATH and the loader's other directories"
		}
		return unavailable("no NVML: looked for %s %s: %v", path, where, err)
	}
	defer lib.Close()
next:
	for _, symbols := range needed {
		for _, s := range symbols {
			if lib.Lookup(s) == nil {
				continue next
			}
		}
		return unavailable("%s is not NVML: it has no %s", path, symbols[0])
	}
	return nil
}

// hint is how to go on without NVML.
const hint = "install the NVIDIA driver or put its library on LD_LIBRARY_PATH; --device sim needs no GPU"

func unavailable(format string, args ...any) error {
	return &gpu.UnavailableError{What: fmt.Sprintf(format, args...), Hint: hint}
}
