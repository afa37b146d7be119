//go:build !linux

package cuda

import "errors"

func load(string) (uintptr, error) { return 0, errors.New("CUDA loads need Linux") }

func lookUp(uintptr, string) uintptr { return 0 }
