//go:build !linux || !cgo

package nvml

import "joulepipe/pkg/gpu"

// Device has no instances in this build.
type Device struct{ gpu.Device }

// Open returns a *gpu.UnavailableError: this build has no NVML.
func Open(Options) (*Device, error) {
	return nil, &gpu.UnavailableError{
		What: "built without NVML, which needs Linux and cgo",
		Hint: "--device sim needs no GPU",
	}
}
