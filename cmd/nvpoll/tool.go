package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/poll"

	ucli "github.com/urfave/cli/v2"
)

// channelNames in the order in which they are shown.
var channelNames = []string{gpu.Sample, gpu.Power, gpu.Counter, gpu.GPM, gpu.Process}

// periodFlag is the flag that says how often a channel is polled.
var periodFlag = map[string]string{
	gpu.Sample:  "period",
	gpu.Power:   "power-period",
	gpu.Counter: "counter-period",
	gpu.GPM:     "gpm-period",
	gpu.Process: "process-period",
}

func tool() *cli.Tool {
	return &cli.Tool{
		Name:     "nvpoll",
		Usage:    "sample GPU power into a trace",
		Synopsis: "[--device nvml|sim[:FILE]|replay:FILE] [--gpu LIST] [--period 100ms] [--duration TIME]",
		Long: `Reads power, temperature, clocks, utilisation, memory and throttle reasons of the
GPUs on one grid of time, beside it the driver's own power samples and the energy
counter, and writes them as a trace. It runs for --duration, or until it is
interrupted, and closes the trace with an account of its own punctuality. A
reading that fails is a record with the error's name; a tick that could not be
read in time is missing, and counted.

Channels are sample (the grid), power (the driver's buffer), counter (energy),
gpm (use of the GPU's units, Hopper and later) and process (what each process
did, by which nvattrib finds the joules of one of several on a GPU). All but the
last two are polled where the GPU has them.

--device replay:FILE streams an archived trace again, stamps kept, at its own
pace or as --speed says; with --format it converts it. --gpu, --channels and
--duration take a part of it.`,
		Examples: `# ten minutes of all GPUs
nvpoll --duration 10m -o trace.ndjson
# live: temperatures until they settle
nvpoll | tee trace.ndjson | nvsoak
# what can be polled here
nvpoll devices
# who is at work on the GPU, beside its power
nvpoll --channels sample,power,process --process-period 200ms -o trace.ndjson
# without a GPU: a simulated one, whose load nvload writes to the same file
nvpoll --device sim:gpu.sim --duration 5s
# convert a trace
nvpoll --device replay:trace.ndjson --speed max --format csv`,
		Source: true,
		ConfigKeys: map[string]string{
			"period": "poller.target_period_ms",
			"gap":    "poller.gap_dt_threshold_s",
		},
		Flags: slices.Concat(deviceFlags(), []ucli.Flag{
			&ucli.DurationFlag{Name: "period", Value: poll.DefaultPeriod(gpu.Sample), Usage: "take a sample every `TIME`"},
			&ucli.DurationFlag{Name: "duration", Usage: "stop after `TIME`; 0 is not before interrupted"},
			&ucli.StringFlag{Name: "channels", Usage: "poll the channels in `LIST`: " + strings.Join(channelNames, ", ") + " (default: all but gpm and process that the GPU has)"},
			&ucli.DurationFlag{Name: "power-period", Value: poll.DefaultPeriod(gpu.Power), Usage: "harvest the driver's power samples every `TIME`"},
			&ucli.DurationFlag{Name: "counter-period", Usage: fmt.Sprintf("read the energy counter every `TIME` (default: %v, or %v beside the driver's power samples, for the call is dear)", poll.DefaultPeriod(gpu.Counter), poll.BesidePower)},
			&ucli.DurationFlag{Name: "gpm-period", Value: poll.DefaultPeriod(gpu.GPM), Usage: "read the use of the GPU's units every `TIME`, 100ms or more"},
			&ucli.DurationFlag{Name: "process-period", Value: poll.DefaultPeriod(gpu.Process), Usage: "ask what each process does every `TIME`, 10ms or more"},
			&ucli.DurationFlag{Name: "gap", Value: poll.DefaultGap, Usage: "count longer spacings of samples than `TIME` as gaps"},
			&ucli.StringFlag{Name: "speed", Value: "1", Usage: "replay `FACTOR` times as fast as recorded, or max"},
		}, cli.OutputFlags()),
		Commands: []*ucli.Command{{
			Name:  "devices",
			Usage: "show the GPUs and their channels",
			Flags: append(deviceFlags(),
				&ucli.StringFlag{Name: "format", Value: "text", Usage: "write a table, or a trace's header in this `FORMAT`: text, ndjson, arrow or csv"}),
			Action: cli.Action(devices),
		}},
		Action: run,
	}
}

// deviceFlags choose the device and its GPUs.
func deviceFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "device", Value: "nvml", Usage: "poll `DEVICE`: nvml, sim, sim:FILE or replay:FILE"},
		&ucli.StringFlag{Name: "gpu", Value: "all", Usage: "poll the GPUs in `LIST`: indices, UUIDs, or all"},
		&ucli.StringFlag{Name: "nvml-library", Usage: "load NVML from `FILE`"},
		&ucli.StringFlag{Name: "sim-profile", Usage: "simulate a `BOARD`, when the simulation's file is new"},
		&ucli.Uint64Flag{Name: "sim-seed", Usage: "simulate noise from seed `N`, when the simulation's file is new"},
	}
}

func run(c *cli.Context) error {
	if c.NArg() > 0 {
		return c.Usagef("unexpected argument %q", c.Args().First())
	}
	for _, name := range list(c.String("channels")) {
		if !slices.Contains(channelNames, name) {
			return c.Usagef("no channel %q (%s)", name, strings.Join(channelNames, ", "))
		}
	}
	for channel, least := range map[string]time.Duration{
		gpu.Sample:  time.Millisecond,
		gpu.Power:   time.Millisecond,
		gpu.Counter: time.Millisecond,
		gpu.GPM:     100 * time.Millisecond,
		gpu.Process: 10 * time.Millisecond,
	} {
		if flag := periodFlag[channel]; c.IsSet(flag) && c.Duration(flag) < least {
			return c.Usagef("--%s %v: want %v or more", flag, c.Duration(flag), least)
		}
	}
	for _, flag := range []string{"duration", "gap"} {
		if c.Duration(flag) < 0 {
			return c.Usagef("--%s %v is negative", flag, c.Duration(flag))
		}
	}
	if file, ok := replayFile(c); ok {
		return again(c, file)
	}
	return measure(c)
}

// list takes "a,b" apart; "all" and "" are no list.
func list(s string) []string {
	if s == "" || s == "all" {
		return nil
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// count is "1 GPU", "2 GPUs".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
