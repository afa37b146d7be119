package main

import (
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/load"

	ucli "github.com/urfave/cli/v2"
)

func tool() *cli.Tool {
	return &cli.Tool{
		Name:     "nvload",
		Usage:    "make a known GPU load and say when",
		Synopsis: "COMMAND [--device cuda[:N]|sim[:FILE]] [OPTIONS] [-- CMD…]",
		Long: `Makes a load and writes when each part of it began and ended, as events on the
clock that nvpoll stamps its samples with; nvattrib joins the two. The poller is
a process of its own: nvload neither starts nor stops it. The markers
start_experiment and end_experiment stand around the events of each run.

square, sustain, response, infer and vram load a device: a GPU, --device cuda, by
the driver's own library without any toolkit, or the simulated one, --device
sim[:FILE], which nvpoll sees with the same --device. exec, idle and mark put no
load on any device and work with all of them: exec brackets a command that makes
its own.

--gpu chooses among several GPUs: an index as nvpoll has it, a UUID or the first
eight or more characters of one, a PCI bus id, a list of these, or all.

On a GPU, square, sustain and response compute the same product of matrices, or
copy the same gigabyte, over and over, in launches of well under a millisecond.
Events begin right before the first launch and end when the GPU has nothing more
to do; they tell how much was computed, how fast, and by the GPU's own clock how
far its work is from the event's ends. A GPU of --max-temp degrees rests until it
is down to --resume-temp.

The first SIGINT or SIGTERM ends the load: the event under way ends with it and
has the field interrupted, and the stream is closed.`,
		Examples: `# a square wave on the simulated GPU, three cycles of 3 s and 3 s
nvload square --device sim -o events.ndjson
# all phases of a run in one file
nvload idle --duration 2m --append -o events.ndjson
nvload exec --phase finetune --append -o events.ndjson -- python3 train.py
nvload mark --field rev=3f2a --append -o events.ndjson checkpoint
# requests like those of a language model, while the poller runs
nvpoll --device sim --duration 60s -o trace.ndjson &
nvload infer --device sim --model llama-3.1-8b --batch 1,4 -o events.ndjson; wait
nvattrib --trace trace.ndjson --events events.ndjson`,
		Status: "3 when the command of exec failed (its event is written, with command_exit), or a GPU computed wrong numbers\n4 when there is no such device to load\n5 when the load ended while it was paused, too hot, or was paused for more than half of its time; ended by nvsoak for heat",
		Source: true,
		ConfigKeys: map[string]string{
			"sustain duration":       "tests.heat_soak.duration_min",
			"infer model":            "models.standard",
			"infer batch":            "tests.joule_curve.batch_sizes",
			"infer gen-tokens":       "tests.joule_curve.gen_tokens",
			"infer reps":             "tests.joule_curve.repetitions",
			"infer warmup":           "tests.joule_curve.warmup",
			"vram cliff model":       "models.stress",
			"vram cliff max-context": "tests.vram_cliff.max_ctx",
		},
		Flags: slices.Concat(deviceFlags(), streamFlags()),
		Commands: []*ucli.Command{
			{
				Name: "square", Usage: "a square wave",
				Description: `Cycles of low and high load. Each half is an event, of phase square_low or
square_high, with its number in the field cycle; cycle k begins k × (low + high)
after the first, without drift. In the low half a context and its memory remain.`,
				Flags: slices.Concat(deviceFlags(), []ucli.Flag{
					&ucli.DurationFlag{Name: "low", Value: 3 * time.Second, Usage: "rest for `TIME` in each cycle"},
					&ucli.DurationFlag{Name: "high", Value: 3 * time.Second, Usage: "load for `TIME` in each cycle"},
					&ucli.IntFlag{Name: "cycles", Value: 3, Usage: "make `N` cycles"},
				}, waveFlags(), careFlags(), tellFlags(), streamFlags()),
				Action: cli.Action(alone(square)),
			},
			{
				Name: "sustain", Usage: "the same load all the time",
				Description: `One event, of phase soak. With --intensity 0 only a context and --vram remain:
the idle of a GPU that holds a model.`,
				Flags: slices.Concat(deviceFlags(), []ucli.Flag{
					&ucli.DurationFlag{Name: "duration", Value: time.Minute, Usage: "load for `TIME`"},
					&ucli.Float64Flag{Name: "intensity", Value: 1, Usage: "load by this `SHARE`, 0 to 1"},
					&ucli.Float64Flag{Name: "vram", Usage: "hold `MIB` of GPU memory (default: what the kernel works on)"},
				}, waveFlags(), careFlags(), eventFlags("soak"), tellFlags(), streamFlags()),
				Action: cli.Action(alone(sustain)),
			},
			{
				Name: "response", Usage: "the load of the instrument response test",
				Description: `Events of phase response: long steps, a pseudo-random binary sequence, square
waves of periods around --update, and short bursts, all of random lengths, so
that nothing keeps step with the sensor. It takes about 80 s. Poll at about a
tenth of the update meanwhile, out of step with it; then nvbaseline response
finds what each sensor does:

  nvpoll --device sim:gpu.sim --period 9.7ms --counter-period 19ms --duration 85s -o trace.ndjson &
  nvload response --device sim:gpu.sim -o events.ndjson; wait
  nvbaseline response --trace trace.ndjson --events events.ndjson -o sensor.json`,
				Flags: slices.Concat(deviceFlags(), []ucli.Flag{
					&ucli.IntFlag{Name: "steps", Value: 6, Usage: "make `N` long steps up and down"},
					&ucli.DurationFlag{Name: "update", Value: 100 * time.Millisecond, Usage: "test sensors that are updated every `TIME` or so"},
					&ucli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw the random lengths from seed `N`"},
				}, waveFlags(), careFlags(), tellFlags(), streamFlags()),
				Action: cli.Action(alone(response)),
			},
			inferCommand(),
			httpCommand(),
			tortureCommand(),
			cliffCommand(),
			{
				Name: "idle", Usage: "no load at all, marked as a phase",
				Description: `One event, of phase idle, in which nvload does nothing: for the baseline.`,
				Flags: slices.Concat(deviceFlags(), []ucli.Flag{
					&ucli.DurationFlag{Name: "duration", Value: 2 * time.Minute, Usage: "do nothing for `TIME`"},
				}, eventFlags("idle"), streamFlags()),
				Action: cli.Action(alone(idle)),
			},
			{
				Name: "exec", Usage: "bracket a command", ArgsUsage: "[OPTIONS] -- CMD [ARG…]",
				Description: `One event, from just before the command's start to just after its exit, with the
fields command and command_exit (128 + n when signal n ended it). The command
has nvload's standard streams, except that its output goes to standard error
while the events go to standard output. Its environment has JOULEPIPE_RUN_ID,
the run's name in the header. SIGINT and SIGTERM are passed on to it, but for
a terminal's Ctrl-C, which it gets by itself, and its end is waited for.

  nvload exec --phase decode --field output_tokens=512 -o e.ndjson -- ./decode`,
				Flags:  slices.Concat(deviceFlags(), eventFlags("exec"), tellFlags(), streamFlags()),
				Action: cli.Action(bracket),
			},
			{
				Name: "mark", Usage: "one marker, now", ArgsUsage: "[OPTIONS] NAME",
				Description: `start_NAME and end_NAME make a phase NAME of the time between them.

  nvload mark --append -o events.ndjson start_idle`,
				Flags:  slices.Concat(deviceFlags(), []ucli.Flag{fieldFlag()}, cli.OutputFlags(), []ucli.Flag{cli.AppendFlag()}),
				Action: cli.Action(mark),
			},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return c.Usagef("no command %q (square, sustain, response, infer, http, vram torture, vram cliff, idle, exec, mark)", c.Args().First())
			}
			return c.Usagef("no command given (square, sustain, response, infer, http, vram torture, vram cliff, idle, exec, mark)")
		},
	}
}

// alone is a command that takes no arguments: a second number after --batch 1 is
// not to be left out without a word.
func alone(do func(*cli.Context) error) func(*cli.Context) error {
	return func(c *cli.Context) error {
		if c.NArg() > 0 {
			return c.Usagef("unexpected argument %q", c.Args().First())
		}
		return do(c)
	}
}

// deviceFlags choose what is loaded.
func deviceFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "device", Value: "cuda", Usage: "load `DEVICE`: cuda, cuda:N, sim or sim:FILE"},
		&ucli.StringFlag{Name: "gpu", Usage: "load the GPUs in `LIST`: indices, UUIDs, or all (default: GPU 0); for exec and idle, name them in the event"},
		&ucli.StringFlag{Name: "sim-profile", Usage: "simulate a `BOARD`, when the simulation's file is new"},
		&ucli.Uint64Flag{Name: "sim-seed", Usage: "simulate noise from seed `N`, when the simulation's file is new"},
	}
}

// streamFlags choose what becomes of the events.
func streamFlags() []ucli.Flag {
	return append(cli.OutputFlags(), cli.AppendFlag(),
		&ucli.StringFlag{Name: "experiment", Usage: "call the experiment `NAME` in its markers (default: the command's name)"})
}

// eventFlags describe the one event of a command.
func eventFlags(phase string) []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "phase", Value: phase, Usage: "call the event's phase `NAME`"},
		&ucli.StringFlag{Name: "id", Usage: "give the event this `ID` (default: the phase and the time of its start)"},
		fieldFlag(),
	}
}

// waveFlags choose what is computed.
func waveFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.StringFlag{Name: "kernel", Value: string(load.FP32), Usage: "compute `KERNEL`: " + strings.Join(load.Kernels(), ", ")},
		&ucli.StringFlag{Name: "blas", Value: "auto", Usage: "compute bf16 with cuBLAS, at `PATH`, where it is found (auto), or with our own kernel (none)"},
		&ucli.DurationFlag{Name: "stall", Value: 10 * time.Second, Usage: "give a GPU up that does nothing for `TIME` of what it was given"},
	}
}

// careFlags say when a load is to end before its time.
func careFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.Float64Flag{Name: "max-temp", Value: 83, Usage: "pause the load when a GPU has `C` degrees, read twice in a row (0: never)"},
		&ucli.Float64Flag{Name: "resume-temp", Value: 80, Usage: "go on when all GPUs are down to `C` degrees"},
		&ucli.BoolFlag{Name: "watch-parent", Usage: "end when the process that started nvload is gone (default: under nvsoak)"},
	}
}

// tellFlags say what else events tell.
func tellFlags() []ucli.Flag {
	return []ucli.Flag{
		&ucli.BoolFlag{Name: "tell-pid", Usage: "tell the process in the field pid of each event, for a GPU that several share: nvattrib gives the event that process's part of the joules, by nvpoll --channels sample,power,process"},
	}
}

func fieldFlag() ucli.Flag {
	return &ucli.StringSliceFlag{Name: "field", Usage: "add a field, `NAME=VALUE`; may be repeated"}
}
