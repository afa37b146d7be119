//go:build unix && !solaris && !aix

package sim

import (
	"os"
	"syscall"
)

// lock waits until no other process holds the file. The lock goes with the
// process that holds it.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

func unlock(f *os.File) { syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
