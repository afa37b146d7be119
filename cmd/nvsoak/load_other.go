//go:build !unix

package main

import (
	"errors"
	"io"
)

// startLoad refuses: what cannot be stopped as a group cannot be guarded.
func startLoad([]string, io.Writer) (load, error) {
	return nil, errors.New("a load can be started, stopped and ended on Unix only: start it beside nvsoak")
}
