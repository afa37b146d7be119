package main

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"

	ucli "github.com/urfave/cli/v2"
)

func tool() *cli.Tool {
	o := thermal.DefaultOptions()
	return &cli.Tool{
		Name:     "nvsoak",
		Usage:    "watch temperatures until they settle",
		Synopsis: "[--trace FILE] [--window 5m] [--slope 0.5] [--max 30m] [--trip 83] [--resume 80] [-- COMMAND…]",
		Long: `Reads a trace and follows the temperature of each GPU: its slope over a rolling
window with the slope's error, throttling, and whether it has settled. It ends
when all GPUs are in equilibrium, at the time-out, or when one is too hot, and
sums up in a last record for each GPU. An archived trace is judged in its own
time.

There are four rules of equilibrium, each over a full window: seed (a slope
below the threshold), margin (below 0.8 of it, or below it for two windows),
rigorous (below it with its error, which for whole degrees and 5 minutes is at
least 0.3 °C/min) and settled (rigorous, less than 0.5 °C left to rise, and a
power that drifts by less than 0.5 %). The one of --rule ends the soak; for margin,
where the trace or the time ends first, seed decides. The last record has all four.

Records foretell the temperature of equilibrium, with a 95 % interval, as soon
as the rise bounds it, for time constants up to 10 minutes. The interval has
room for what no reading shows yet: fans that have changed their speed, a slow
stage of the cooler, air that wanders. Once a fast rise is over, and the
temperature is of no exponential, it is foretold to stay about where it has been
in the last minutes, until it moves by more than air does; then, and during a
rise without a foreseeable end, nothing is foretold. It is about the minutes that
follow, not about what fans or air do later. What readings are rounded to is
found from them. Throttling is what the driver's mask says; where there is none,
a clock or a throughput that fell by a tenth at high utilisation.
The trip is at --trip, or --limit-margin below a board's own limit if that is
less; the temperature to resume at moves with it.

With a command, it is started at the first temperature and runs as the load. It
is stopped at the trip temperature (SIGSTOP, with all its descendants), goes on
below the resume temperature, and is ended (SIGTERM, later SIGKILL) when the
soak is, when temperatures stop coming, and when nvsoak itself is killed. Its
output goes to standard error. An nvload in it ends with status 5 at a trip: the
file that JOULEPIPE_TRIP_FILE names tells it. A descendant that leaves the
command's process group is out of reach.`,
		Examples: `# until the load that runs already has settled the temperatures
nvpoll | nvsoak > soak.ndjson
# start the load, guard it, end it
nvpoll | nvsoak -o soak.ndjson -- nvload sustain --duration 30m
# an archived run, its soak alone
nvsoak --trace trace.ndjson --events events.ndjson --phase soak`,
		Status: "3 is a time-out or an interrupted soak; 5 a GPU that was too hot",
		ConfigKeys: map[string]string{
			"window": "tests.heat_soak.rolling_window_min",
			"slope":  "tests.heat_soak.equilibrium_slope",
			"max":    "tests.heat_soak.duration_min",
			"trip":   "safety.max_temp_c",
			"resume": "safety.resume_temp_c",
		},
		Flags: append([]ucli.Flag{
			cli.TraceFlag(),
			&ucli.StringSliceFlag{Name: "events", Aliases: []string{"e"}, Usage: "judge only the events in `FILE`, each as a soak of its own"},
			&ucli.StringFlag{Name: "phase", Value: "soak", Usage: "take the events of phase `NAME`"},
			&ucli.DurationFlag{Name: "window", Value: o.Window, Usage: "take the slope over `TIME`"},
			&ucli.Float64Flag{Name: "slope", Value: o.Slope, Usage: "call it equilibrium below this `RATE` in °C/min"},
			&ucli.DurationFlag{Name: "max", Value: o.Max, Usage: "give up after `TIME`"},
			&ucli.Float64Flag{Name: "trip", Value: o.TripC, Usage: "too hot from `CELSIUS` on, read twice in a row"},
			&ucli.Float64Flag{Name: "resume", Value: o.Resume, Usage: "cool again from `CELSIUS` down"},
			&ucli.IntFlag{Name: "trips", Usage: "end at trip number `N` (default: 1, with a command 3)"},
			&ucli.Float64Flag{Name: "limit-margin", Value: o.LimitC, Usage: "trip at least `CELSIUS` below where a board slows itself down"},
			&ucli.StringFlag{Name: "rule", Value: o.Rule, Usage: "end in equilibrium by the rule `NAME`: " + strings.Join(thermal.Rules(), ", ")},
			&ucli.DurationFlag{Name: "every", Value: o.Every, Usage: "write a record of each GPU every `TIME`"},
			&ucli.DurationFlag{Name: "grace", Value: 5 * time.Second, Usage: "give the command `TIME` to end"},
			&ucli.DurationFlag{Name: "blind", Value: 10 * time.Second, Usage: "end the command when no temperature has come for `TIME`"},
		}, cli.OutputFlags()...),
		Action: run,
	}
}

func run(c *cli.Context) error {
	o := thermal.Options{
		Window: c.Duration("window"), Every: c.Duration("every"), Max: c.Duration("max"),
		Slope: c.Float64("slope"), TripC: c.Float64("trip"), Resume: c.Float64("resume"), Trips: c.Int("trips"),
		Rule: c.String("rule"), LimitC: c.Float64("limit-margin"),
	}
	command := c.Args().Slice()
	if !c.IsSet("trips") {
		o.Trips = 1
		if len(command) > 0 {
			o.Trips = 3
		}
	}
	if _, err := thermal.New(o); err != nil {
		return c.Usagef("%v", err)
	}
	if c.Duration("grace") < 0 || c.Duration("blind") <= 0 {
		return c.Usagef("--grace must not be negative, --blind must be positive")
	}
	events := c.StringSlice("events")
	switch {
	case len(events) == 0 && c.IsSet("phase"):
		return c.Usagef("--phase needs --events")
	case len(events) > 0 && len(command) > 0:
		return c.Usagef("a command is a soak of its own: it goes without --events")
	}
	var phase *record.Phase
	if len(events) > 0 {
		var err error
		if phase, err = c.Phase(c.String("phase"), events...); err != nil {
			return err
		}
	}
	trace, err := c.OpenTrace()
	if err != nil {
		return err
	}
	defer trace.Close()
	out, err := c.Create()
	if err != nil {
		return err
	}
	w := &watch{c: c, o: o, phase: phase, trace: trace, out: out}
	if len(command) > 0 {
		c.Linger()
		w.guard = newGuard(c, command)
		defer w.guard.end("")
	}
	if err := w.run(); err != nil {
		w.guard.end("")
		if w.guard != nil && errors.Is(err, syscall.EPIPE) {
			// Without a load to end first the signal would have been the end.
			return cli.Errorf(128+int(syscall.SIGPIPE), "")
		}
		return out.Abort(err)
	}
	return errors.Join(out.Close(), w.verdict)
}
