package cuda

import "fmt"

// Error is what a call of the driver or of cuBLAS came to.
type Error struct {
	Call string // the function
	Code int    // a CUresult, or a cublasStatus_t
	Name string // CUDA_ERROR_…
	Text string // the driver's words, or the compiler's
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Call, e.Name)
	if e.Text != "" {
		s += " (" + e.Text + ")"
	}
	return s
}

// Is compares names, so that an error can be asked for by one of those below.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Name == e.Name
}

// Errors that callers tell apart, with errors.Is.
var (
	ErrOutOfMemory = &Error{Code: 2, Name: "CUDA_ERROR_OUT_OF_MEMORY"}
	ErrNoDevice    = &Error{Code: 100, Name: "CUDA_ERROR_NO_DEVICE"}
	ErrOldDriver   = &Error{Code: 222, Name: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"}
	ErrNotFound    = &Error{Code: notFound, Name: "CUDA_ERROR_NOT_FOUND"} // also a function that the driver lacks
	ErrMismatch    = &Error{Code: 803, Name: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}
)

const (
	notFound = 500
	notReady = 600
)
