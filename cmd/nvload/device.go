package main

import (
	"strconv"
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/load"
)

// open opens the simulated device that --device names, to be loaded.
func open(c *cli.Context) (*load.Sim, error) {
	switch kind, file, _ := strings.Cut(c.String("device"), ":"); kind {
	case "sim":
		gpus := c.String("gpu")
		if gpus == "" {
			gpus = "0"
		}
		return load.OpenSim(sim.Options{File: file, Profile: c.String("sim-profile"), Seed: c.Uint64("sim-seed")}, list(gpus))
	}
	return nil, c.Usagef("no device %q to load (cuda, cuda:N, sim or sim:FILE)", c.String("device"))
}

// spared is the GPUs that --gpu names, for a command that puts no load on them;
// none where it names none.
func spared(c *cli.Context) (load.Idle, error) {
	var gpus load.Idle
	for _, name := range list(c.String("gpu")) {
		i, err := strconv.Atoi(name)
		if err != nil || i < 0 {
			return nil, c.Usagef("--gpu %q: %s opens no device, and knows GPUs by their indices alone", name, c.Command.Name)
		}
		gpus = append(gpus, i)
	}
	return gpus, nil
}

// list takes "a,b" apart.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
