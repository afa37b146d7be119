package main

import (
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/nvml"
	"joulepipe/pkg/gpu/sim"
)

// open opens the device that --device names.
func open(c *cli.Context) (gpu.Device, error) {
	switch kind, file, _ := strings.Cut(c.String("device"), ":"); {
	case kind == "nvml" && file == "":
		return nvml.Open(nvml.Options{LibraryPath: c.String("nvml-library")})
	case kind == "sim":
		return sim.Open(sim.Options{File: file, Profile: c.String("sim-profile"), Seed: c.Uint64("sim-seed")})
	}
	return nil, c.Usagef("no device %q (nvml, sim, sim:FILE or replay:FILE)", c.String("device"))
}

// replayFile is the archived trace that --device names, if it does.
func replayFile(c *cli.Context) (file string, ok bool) {
	return strings.CutPrefix(c.String("device"), "replay:")
}
