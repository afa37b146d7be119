package cuda

import (
	"runtime"

	"github.com/ebitengine/purego"
)

func load(name string) (uintptr, error) {
	// What went wrong is asked for in a second call, and known to this thread alone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL)
}

// lookUp is 0 for what the library does not have.
func lookUp(handle uintptr, name string) uintptr {
	at, err := purego.Dlsym(handle, name)
	if err != nil {
		return 0
	}
	return at
}
