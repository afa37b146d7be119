//go:build !unix || solaris || aix

package sim

import "os"

// Without a lock two processes that begin the same file at the same instant
// may both write a first line; the second of them is then refused as load.
func lock(*os.File) error { return nil }
func unlock(*os.File)     {}
