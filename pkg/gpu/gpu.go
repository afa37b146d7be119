// Package gpu is what a poller needs of a device: some GPUs behind one handle
// that is opened once, each with readings that are cheap enough for the grid
// and slow channels that are not. The devices are gpu/nvml (real), gpu/sim
// (physics in software) and gpu/replay (an archived trace).
package gpu

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"joulepipe/pkg/record"
)

// Channel names of the readings a GPU can offer, as flags, headers and the
// poller's statistics spell them.
const (
	Sample  = "sample"  // readings on the grid
	Power   = "power"   // the driver's own power sample buffer
	Counter = "counter" // the energy counter
	GPM     = "gpm"     // unit utilisation, Hopper and later
	Process = "process" // what each process does
)

// A Device is a set of GPUs behind one handle. It stays open for the whole run.
type Device interface {
	// GPUs are the device's GPUs in index order. The slice is not to be changed.
	GPUs() []GPU
	// Close gives the handle back. No method of a GPU may be running.
	Close() error
}

// A GPU is read by several goroutines at once, one for each channel; each
// method is called by one goroutine at a time.
type GPU interface {
	// Info describes the GPU as the stream's header shows it, with every
	// channel's availability ("ok" or an error name).
	Info() record.GPU

	// ReadSample fills in the readings, GPU, TimeNS (when the power was read,
	// monotonic ns), ReadOK, Error and ReadUS of s, and nothing else. A reading
	// that failed is absent; ReadOK is false when no power could be read, and
	// Error has the name of the first thing that failed.
	ReadSample(s *record.Sample)

	// ReadPower appends to b what the driver's buffer has gained since the
	// last call, oldest first.
	ReadPower(b *PowerBatch) error

	// ReadCounter reads the energy counter with the call's bracket. On failure
	// the record has Error and no value.
	ReadCounter(c *record.Counter)

	// ReadGPM fills in the use of the GPU's units since the last call; ok is
	// false on the first call, and when too little time has passed.
	ReadGPM(g *record.GPM) (ok bool, err error)

	// ReadProcesses appends to b what each process did since the device was
	// opened or since the last call, in the order of their beginnings; or, if
	// none was at work, one entry without a PID for the time between.
	ReadProcesses(b *ProcessBatch) error
}

// PowerBatch is one harvest of the driver's power sample buffer.
type PowerBatch struct {
	Entries  []record.Power
	Overflow bool   // the buffer wrapped since the last harvest: entries are missing
	Clock    string // clock of the driver's stamps: realtime, boottime or monotonic
}

// ProcessBatch is what one call told of processes.
type ProcessBatch struct {
	Entries []record.Process
	Clock   string // clock of the driver's stamps, empty while it has told none
}

// ProcessName is what the operating system calls a process: up to 15 bytes of
// its program's name. It is empty where that cannot be read.
func ProcessName(pid int64) string {
	name, err := os.ReadFile("/proc/" + strconv.FormatInt(pid, 10) + "/comm")
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSuffix(string(name), "\n"), "?")
}

// Error is a device error under its NVML name, "NVML_ERROR_GPU_IS_LOST".
type Error string

func (e Error) Error() string { return string(e) }

// Names that the devices share. ErrImplausible is ours: a value that read as
// success and cannot be.
const (
	ErrNotSupported Error = "NVML_ERROR_NOT_SUPPORTED"
	ErrLost         Error = "NVML_ERROR_GPU_IS_LOST"
	ErrNoFunction   Error = "NVML_ERROR_FUNCTION_NOT_FOUND"
	ErrUnknown      Error = "NVML_ERROR_UNKNOWN"
	ErrTimeout      Error = "NVML_ERROR_TIMEOUT"
	ErrImplausible  Error = "IMPLAUSIBLE"
)

// Passing says whether the failure may be over at the next call: a GPU that is
// lost or busy comes back, a function that is not there does not.
func (e Error) Passing() bool { return e == ErrLost || e == ErrUnknown || e == ErrTimeout }

// UnavailableError says that there is no such device here: no library, no
// driver, no such GPU. Tools end with status 4 on it.
type UnavailableError struct {
	What string // what is missing, and where it was looked for
	Hint string // how to go on without it
}

func (e *UnavailableError) Error() string { return e.What }

// Select keeps the GPUs that want names, in the device's order: "all", or a
// list of indices and UUIDs (a prefix of a UUID that fits one GPU will do).
func Select(gpus []GPU, want []string) ([]GPU, error) {
	if len(want) == 0 || len(want) == 1 && (want[0] == "all" || want[0] == "") {
		return gpus, nil
	}
	keep := make([]bool, len(gpus))
	for _, w := range want {
		hit := -1
		for i, g := range gpus {
			info := g.Info()
			if fmt.Sprint(info.Index) == w || info.UUID == w {
				hit = i
				break
			}
			if len(w) >= 8 && len(w) < len(info.UUID) && info.UUID[:len(w)] == w {
				if hit >= 0 {
					return nil, fmt.Errorf("%q fits several GPUs", w)
				}
				hit = i
			}
		}
		if hit < 0 {
			return nil, &UnavailableError{
				What: fmt.Sprintf("no GPU %q among the %d of this device", w, len(gpus)),
				Hint: "nvpoll devices lists them",
			}
		}
		keep[hit] = true
	}
	var out []GPU
	for i, k := range keep {
		if k {
			out = append(out, gpus[i])
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no GPU selected")
	}
	return out, nil
}
