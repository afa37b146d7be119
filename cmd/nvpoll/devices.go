package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/nvml"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// devices shows the GPUs and what can be polled of each.
func devices(c *cli.Context) error {
	h, err := describe(c)
	if err != nil {
		return err
	}
	if c.String("format") != "text" {
		format, err := stream.ParseFormat(c.String("format"))
		if err != nil {
			return c.Usagef("%v", err)
		}
		w, err := stream.NewWriter(c.Stdout, format, stream.None)
		if err != nil {
			return err
		}
		for _, r := range []record.Record{h, &record.End{}} {
			if err := w.Write(r); err != nil {
				return err
			}
		}
		return w.Close()
	}
	t := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "GPU\tNAME\tUUID\tDRIVER\tCHANNEL\tSTATE")
	for _, g := range h.GPUs {
		gpu := fmt.Sprintf("%d\t%s\t%s\t%s", g.Index, g.Name, g.UUID, g.Driver)
		for _, c := range channelsOf(g) {
			fmt.Fprintf(t, "%s\t%s\t%s\n", gpu, c.name, c.state)
			gpu = "\t\t\t"
		}
	}
	return t.Flush()
}

type channel struct{ name, state string }

// channelsOf are the channels that can be polled, the readings that samples of
// this GPU have or lack, and what else there is to know about its power.
func channelsOf(g record.GPU) (all []channel) {
	for _, name := range channelNames {
		all = append(all, channel{name, cmp.Or(g.Channels[name], "not offered by this device")})
	}
	for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
		switch {
		case name == nvml.Module:
			all = append(all, channel{name, "the board measures a module too; samples are of the GPU alone"})
		case !slices.Contains(channelNames, name):
			all = append(all, channel{name, g.Channels[name]})
		}
	}
	if g.MIG.Or(false) {
		all = append(all, channel{"mig", "on: power and energy are of the whole board"})
	}
	return all
}

// describe is the header of a trace of the device, or of the archived one.
func describe(c *cli.Context) (*record.Header, error) {
	if file, ok := replayFile(c); ok {
		in, err := c.Open(file)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		for in.Scan() {
			if h, ok := in.Record().(*record.Header); ok {
				return h, nil
			}
		}
		if err := in.Err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s has no header: it does not say which GPUs it is of", file)
	}
	dev, err := open(c)
	if err != nil {
		return nil, err
	}
	defer dev.Close()
	gpus, err := gpu.Select(dev.GPUs(), list(c.String("gpu")))
	if err != nil {
		return nil, err
	}
	h := c.NewHeader()
	for _, g := range gpus {
		h.GPUs = append(h.GPUs, g.Info())
	}
	return h, nil
}
