package main

import (
	"path/filepath"
	"strings"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/cli"
	"joulepipe/pkg/record"

	ucli "github.com/urfave/cli/v2"
)

const long = `Reads a trace of an idle GPU and writes baseline.json: what each GPU takes when
it does nothing, how certain that is, and whether it did nothing. From standard
input it measures a GPU that idles now: it waits until utilisation is below 5 %
and the clocks stand still for the settle time, measures, goes on while the
readings are worth less than 20 independent ones (or the mean is known to a
thousandth), and ends by itself; after --max it gives up. From --trace it reads
all.

idle_watts_mean and its companions are of all valid readings. The rest is of
ticks, updates of the sensor, as a value read twice is one: Huber's mean and the
median, the energy counter's mean, n_eff (the independent readings that the ticks
are worth: the least of three counts) and the standard error by it, the drift,
the noise of the energy over 0.1 s to 300 s, segments of equal clocks and power,
and whether there are two levels. Readings below 5 W or a quarter of the median
are taken for a stale sensor or for a real low-power state by what the energy
counter did meanwhile. subtract says which power to subtract, why, and its
standard error.

fake_idle is set, with reasons, when the GPU was used (utilisation p95 above
10 %), when clocks or performance state changed, when more than 10 % of the
readings are outliers beyond 2 standard deviations, when bursts, a step or a
change from the first window to the last are 1 % of the power or more, when the
energy counter shows 3 % more than the readings, when other processes hold memory
(more than the --state said has, or coming and going), or when the power is more
than a twentieth above --expect-idle. Utilisation alone misses short bursts.

With --events and --phase the GPU idled in the events of that phase, or between
markers start_PHASE and end_PHASE; otherwise in the whole trace. The settle time
is cut from the start of each such window. A window that begins busy is waited
on until utilisation falls below 5 %, and settles from then on. Windows before
and after a run show what idle power did meanwhile.

Idle power belongs to a state: no_context, context (a CUDA context exists) or
resident (a model is loaded). It is guessed from the memory in use, in all and
above the least of the trace, with limits that were measured on one H200: where
you know better, say --state.

The result is written even when it does not stand. A GPU without any valid
reading after the settle time has no result.`

const longResponse = `Reads a trace of a GPU under a load whose switches are known and writes
sensor.json: for each power channel how often it is updated, over how long a
window it averages, how late it is and how fast it rises, with 95 % intervals,
its class (instant, averaged, exponential, integrator or unknown), the share of
time that it sees, its energy over the energy counter's, whether it passes
TR122's rule (steps above 10 W, rise below 300 ms), and which channel to use.

A channel that is a mean of the last second fails that rule by design: it is
averaged, not broken. What the readings cannot tell is left out, and reasons say
what would tell it.

Poll at a tenth of the update or faster, and not in step with it: 9.7ms, not
10ms. nvload response makes a load that tells all. The load can also be any
program's events, or toggles, and the trace any CSV with t_ns and power_w,
power_average_w or power_instant_w.

  nvpoll --period 9.7ms --counter-period 19ms --duration 85s -o trace.ndjson &
  nvload response -o events.ndjson; wait
  nvbaseline response --trace trace.ndjson --events events.ndjson -o sensor.json

Status 3: no channel of some GPU could be told.`

func tool() *cli.Tool {
	return &cli.Tool{
		Name:     "nvbaseline",
		Usage:    "measure idle power, and whether the GPU was idle",
		Synopsis: "[idle|response|diff] [--trace FILE] [--events FILE --phase NAME] [--settle 30s] [--min-duration 120s]",
		Long:     long,
		Examples: `# two minutes of idle or more, once the GPU is idle and has settled for 30 s
nvpoll | nvbaseline -o baseline.json
# out of a longer run: the events that say idle; keep the samples
nvbaseline idle --trace trace.ndjson --events events.ndjson --phase idle --samples baseline_trace.ndjson -o baseline.json
# the driver's 50 Hz power samples instead of the poller's
nvbaseline --trace trace.ndjson --channel driver
# has idle power changed?
nvbaseline diff monday.json tuesday.json`,
		Status: "3 is a fake idle, a measurement that is too short or was given up, or none at all",
		Flags:  flags(),
		Commands: []*ucli.Command{{
			Name:        "idle",
			Usage:       "measure idle power (the same without a command)",
			Description: long,
			Flags:       flags(),
			Action:      cli.Action(run),
		}, {
			Name:        "response",
			Usage:       "test how the sensors respond to a load",
			ArgsUsage:   "[--trace FILE] [--events FILE | --toggles FILE]",
			Description: longResponse,
			Flags: []ucli.Flag{
				cli.TraceFlag(),
				&ucli.StringSliceFlag{Name: "events", Aliases: []string{"e"}, Usage: "take the load from the events in `FILE`"},
				&ucli.StringFlag{Name: "toggles", Usage: "take the load from `FILE`, a CSV with a column t_ns: when it was switched, on at first"},
				cli.OutputFlag(),
			},
			Action: cli.Action(response),
		}, {
			Name:        "diff",
			Usage:       "compare two baselines of a GPU",
			ArgsUsage:   "[--force] BEFORE AFTER",
			Description: longDiff,
			Flags: []ucli.Flag{
				&ucli.BoolFlag{Name: "force", Usage: "compare baselines of different GPUs, drivers, limits, channels or states"},
				cli.OutputFlag(),
			},
			Action: cli.Action(diff),
		}},
		Action: run,
	}
}

func flags() []ucli.Flag {
	o := baseline.DefaultOptions()
	return []ucli.Flag{
		cli.TraceFlag(),
		&ucli.StringSliceFlag{Name: "events", Aliases: []string{"e"}, Usage: "take the times of idle from the events in `FILE`"},
		&ucli.StringFlag{Name: "phase", Value: "idle", Usage: "take the events of phase `NAME`"},
		&ucli.DurationFlag{Name: "settle", Value: o.Settle, Usage: "leave out the first `TIME` of every window"},
		&ucli.DurationFlag{Name: "min-duration", Value: o.MinDuration, Usage: "want readings over `TIME` in all"},
		&ucli.StringFlag{Name: "channel", Value: o.Channel, Usage: "take power from `CHANNEL`: power, average, instant or driver"},
		&ucli.StringFlag{Name: "state", Usage: "say what `STATE` the GPU idled in: no_context, context or resident (default: by the memory in use)"},
		&ucli.StringFlag{Name: "samples", Usage: "write the samples that were used to `FILE`, as a trace"},
		&ucli.DurationFlag{Name: "gap", Value: o.Gap, Usage: "count the time between readings further apart than `TIME` as not measured"},
		&ucli.Float64Flag{Name: "max-util", Value: o.UtilP95, Usage: "call it a fake idle above a utilisation p95 of `PERCENT`"},
		&ucli.Float64Flag{Name: "max-outliers", Value: o.OutlierFraction, Usage: "call it a fake idle above this `SHARE` of outliers"},
		&ucli.Float64Flag{Name: "material", Value: o.Material, Usage: "leave alone bursts, steps and outliers that are less than this `SHARE` of the power"},
		&ucli.Float64Flag{Name: "expect-idle", Usage: "call it a fake idle more than a twentieth above the `WATTS` that this board is known to idle at"},
		&ucli.Float64Flag{Name: "min-n-eff", Value: o.LeastNEff, Usage: "want readings worth `N` independent ones"},
		&ucli.DurationFlag{Name: "max", Value: 10 * time.Minute, Usage: "from standard input, give up after `TIME` (0: read to the end)"},
		cli.OutputFlag(),
	}
}

func run(c *cli.Context) error {
	if c.NArg() > 0 {
		return c.Usagef("unexpected argument %q", c.Args().First())
	}
	o := baseline.Options{
		Channel: c.String("channel"), State: c.String("state"),
		Settle: c.Duration("settle"), MinDuration: c.Duration("min-duration"), Gap: c.Duration("gap"),
		UtilP95: c.Float64("max-util"), OutlierFraction: c.Float64("max-outliers"),
		Material: c.Float64("material"), ExpectW: c.Float64("expect-idle"), LeastNEff: c.Float64("min-n-eff"),
	}
	if _, err := baseline.NewMeter(o); err != nil {
		return c.Usagef("%v", err)
	}
	events := c.StringSlice("events")
	if len(events) == 0 && c.IsSet("phase") {
		return c.Usagef("--phase needs --events")
	}
	if c.String("samples") == "-" {
		return c.Usagef("--samples cannot go to standard output")
	}
	if name := c.String("samples"); name != "" && filepath.Clean(name) == filepath.Clean(c.String("output")) {
		return c.Usagef("--samples and --output are the same file, %s", name)
	}
	if err := c.Writable(c.String("output")); err != nil {
		return err
	}
	var watch *live
	switch fromFile := len(c.StringSlice("trace")) > 0 || len(events) > 0; {
	case fromFile && c.IsSet("max"):
		return c.Usagef("--max is for a GPU that is measured now, from standard input")
	case !fromFile && c.Duration("max") > 0:
		watch = &live{c: c, max: c.Duration("max")}
		o.Wait = true
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
	kept, err := keep(c, trace)
	if err != nil {
		return err
	}
	meter, err := measure(o, phase, watch, trace, kept)
	if err != nil {
		return kept.abort(err)
	}
	if err := kept.close(); err != nil {
		return err
	}
	return report(c, meter)
}

// measure reads the trace to its end, or until who watches it has enough.
func measure(o baseline.Options, phase *record.Phase, watch *live, trace *cli.Input, kept *samples) (*baseline.Meter, error) {
	var meter *baseline.Meter
	for trace.Scan() {
		r := trace.Record()
		if meter == nil {
			var err error
			if phase != nil {
				if o.Windows, err = phase.On(trace.Header()); err != nil {
					return nil, err
				}
			}
			if meter, err = baseline.NewMeter(o); err != nil {
				return nil, err
			}
		}
		if meter.Observe(r) {
			if err := kept.write(r); err != nil {
				return nil, err
			}
		}
		if ns, ok := r.When(); ok && watch != nil && watch.over(meter, ns) {
			return meter, nil
		}
	}
	if err := trace.Err(); err != nil {
		return nil, err
	}
	if meter == nil {
		return nil, cli.Errorf(cli.ExitDoubt, "the trace is empty")
	}
	return meter, nil
}

// report writes the result, and says what is wrong with it.
func report(c *cli.Context, meter *baseline.Meter) error {
	if n := meter.Disordered(); n > 0 {
		c.Doubtf("%d records of the trace go back in time and were left out", n)
	}
	idle, without := meter.Result()
	for _, err := range without {
		c.Doubtf("%v", err)
	}
	if len(idle) == 0 {
		return cli.Errorf(cli.ExitDoubt, "no idle power was measured")
	}
	for _, i := range idle {
		if i.FakeIdle {
			c.Doubtf("GPU %d: fake idle: %s", i.GPU, strings.Join(i.FakeIdleReasons, "; "))
		}
		for _, doubt := range i.Doubts {
			c.Doubtf("GPU %d: %s", i.GPU, doubt)
		}
		if !i.UtilP95.OK && !i.ClockVaried.OK {
			c.Warnf("GPU %d: the trace has neither utilisation nor clocks: only outliers could tell a fake idle", i.GPU)
		}
	}
	return c.WriteJSON(baseline.Document(idle))
}

// samples is the trace of what the idle power is made of; nil when none is
// asked for.
type samples struct {
	c     *cli.Context
	trace *cli.Input // whose samples they are
	out   *cli.Output
	begun bool
	n     int64
}

func keep(c *cli.Context, trace *cli.Input) (*samples, error) {
	name := c.String("samples")
	if name == "" {
		return nil, nil
	}
	out, err := c.CreateFile(name)
	return &samples{c: c, trace: trace, out: out}, err
}

func (s *samples) write(r record.Record) error {
	if s == nil {
		return nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	s.n++
	return s.out.Write(r)
}

// begin writes the header, which is made after the trace's own.
func (s *samples) begin() error {
	if s.begun {
		return nil
	}
	s.begun = true
	h := s.c.HeaderAfter(s.trace.Header())
	if from := s.trace.Header(); from != nil {
		h.PeriodNS = from.PeriodNS
	}
	return s.out.Write(h)
}

func (s *samples) close() error {
	if s == nil {
		return nil
	}
	err := s.begin()
	if err == nil {
		err = s.out.Write(&record.End{Records: s.n})
	}
	if err != nil {
		return s.out.Abort(err)
	}
	return s.out.Close()
}

func (s *samples) abort(err error) error {
	if s == nil {
		return err
	}
	return s.out.Abort(err)
}
