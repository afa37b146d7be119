package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/cli"
	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"

	ucli "github.com/urfave/cli/v2"
)

func tool() *cli.Tool {
	rules := energy.DefaultRules()
	return &cli.Tool{
		Name:     "nvattrib",
		Usage:    "attribute GPU energy to events",
		Synopsis: "--trace TRACE --events EVENTS [--baseline FILE] [--method METHOD]",
		Long: `Reads a trace (nvpoll's, or any CSV with t_ns and power_w) and events with a
beginning and an end, and writes the events with their energy, the quality of
what it rests on, a tier (refused, estimate, analysis, billable) and the
reasons, then a summary for each phase, model and batch size. Both inputs are
read once; events come out in the order of their ends.

Methods: auto, the default, finds the power round each event's edges that
explains the readings of every channel in the trace, by how each channel
follows the power: as nvbaseline response measured it (--sensor), or else as
boards of the kind do, with wider intervals. It finds the joules of events
that are over before a sensor shows them, gives each energy a 95 % interval
(ci95_joules), and draws an event whose own readings tell little towards the
mean of its kind (own_information says how far its own). It holds up to some
thousand events before it writes the first. tr122 is the arithmetic of
Technical Report 122, the trapezoid over power_w samples inside the event.
driver (the driver's 50 Hz sample buffer), counter (the energy counter between
its ticks), instant (NVML field 186), average (field 185, or power_w) and power
(power_w) each take one channel and interpolate at the event's edges.

energy_joules is gross: idle power is in it. operational_joules is above the
baseline's idle power, unclamped, and can be negative. ci95_absolute_joules
holds the board's own gain too, which only an external meter can tell.
joules_per_token divides energy_joules by output_tokens, or by input_tokens
where there is no output. A number that cannot be had is absent, never 0.

With auto, energy_tier follows the interval: billable within 5 % (and longer
than 1 s, with the readings that TR122 asks for), analysis 10 %, estimate 25 %,
else refused; reasons say why it is not better. Requests that run at the same
time, told by request_id, share the power (--split), and the idle power that is
taken off. Other methods give each of them the joules of all, an estimate at
best. An agreement record for each GPU compares power readings, added up, with
the energy counter.

On a GPU that several processes share, an event with the number field pid has
that process's part of the joules: as large as its part of the time with a kernel
running, which the trace has when it was polled with --channels …,process.
process_share is the part, with process_share_ci95. Such time is no measure of
power, so that the tier is estimate at best where others were at work, or refused
where the part is good to no more than 25 %. tr122 takes no notice of pid.

A summary takes the events of one phase, model and batch size for repetitions:
their mean with its 95 % interval and, with --target, how many of them make that
interval as narrow. Its regression tells a fixed part from what an input and an
output token take, where events are of several lengths, and tests whether that
form fits; a joule_curve does so over batch sizes. Where events differ in their
field context each context has a summary of its own besides. The phase request
is the events of each request_id added up.`,
		Examples: `# what each phase of a run cost
nvattrib --trace trace.ndjson --events events.ndjson --baseline baseline.json --sensor sensor.json
# how many repetitions the means need to be good to 2 %
nvattrib --trace trace.ndjson --events events.ndjson --target 2% | grep repetitions_needed
# reprocess an archive of TR122 by its own rule
nvattrib --method tr122 --trace power_trace.csv --events generation_events.jsonl
# two loads on one GPU, and the joules of each
nvpoll --channels sample,power,process --duration 60s -o trace.ndjson &
nvload infer --tell-pid -o a.ndjson & nvload infer --tell-pid -o b.ndjson; wait
nvattrib --trace trace.ndjson --events a.ndjson --events b.ndjson
# live: the trace from a pipe
nvpoll --duration 60s | nvattrib --trace - --events events.ndjson`,
		Status: "3 also when the baseline is a fake idle",
		ConfigKeys: map[string]string{
			"gap":            "poller.gap_dt_threshold_s",
			"gappy-fraction": "poller.gappy_gap_fraction_threshold",
		},
		Flags: append([]ucli.Flag{
			&ucli.StringSliceFlag{Name: "trace", Aliases: []string{"t"}, Usage: "read power from `FILE` (- is standard input; several are merged by time)"},
			&ucli.StringSliceFlag{Name: "events", Aliases: []string{"e"}, Usage: "read events from `FILE`"},
			&ucli.StringFlag{Name: "baseline", Aliases: []string{"b"}, Usage: "subtract the idle power in `FILE`, nvbaseline's outcome"},
			&ucli.StringFlag{Name: "sensor", Aliases: []string{"s"}, Usage: "take how the channels follow the power from `FILE`, the outcome of nvbaseline response"},
			&ucli.StringFlag{Name: "method", Aliases: []string{"m"}, Value: energy.Auto, Usage: "attribute by `METHOD`: " + strings.Join(energy.Methods(), ", ")},
			&ucli.StringFlag{Name: "split", Value: energy.SplitTokens, Usage: "split the power of concurrent requests by `RULE`: " + strings.Join(energy.Splits(), ", ")},
			&ucli.StringFlag{Name: "target", Usage: "say how many repetitions make the mean of a phase as precise as `SHARE`, 2% or 0.02"},
			&ucli.DurationFlag{Name: "gap", Value: seconds(rules.GapS), Usage: "call a spacing of readings a gap above `DURATION`"},
			&ucli.Float64Flag{Name: "gappy-fraction", Value: rules.GappyFraction, Usage: "gappy above this `SHARE` of the event in gaps"},
			&ucli.DurationFlag{Name: "gappy-max-gap", Value: seconds(rules.GappyMaxGapS), Usage: "gappy above this longest spacing `DURATION`"},
			&ucli.Float64Flag{Name: "refuse-fraction", Value: rules.RefuseFraction, Usage: "refused from this `SHARE` of the event in gaps"},
			&ucli.DurationFlag{Name: "billable-min", Value: seconds(rules.BillableS), Usage: "billable needs an event longer than `DURATION`"},
			&ucli.Int64Flag{Name: "billable-samples", Value: rules.BillableReadings, Usage: "billable needs more than `N` readings"},
			&ucli.Float64Flag{Name: "billable-fraction", Value: rules.BillableFraction, Usage: "billable needs less than this `SHARE` in gaps"},
		}, cli.OutputFlags()...),
		Action: run,
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func run(c *cli.Context) error {
	if c.NArg() > 0 {
		return c.Usagef("unexpected argument %q", c.Args().First())
	}
	traces, events := c.StringSlice("trace"), c.StringSlice("events")
	if len(traces) == 0 {
		return c.Usagef("no --trace given")
	}
	if len(events) == 0 {
		return c.Usagef("no --events given")
	}
	rules := energy.DefaultRules()
	rules.GapS = c.Duration("gap").Seconds()
	rules.GappyFraction = c.Float64("gappy-fraction")
	rules.GappyMaxGapS = c.Duration("gappy-max-gap").Seconds()
	rules.RefuseFraction = c.Float64("refuse-fraction")
	rules.BillableS = c.Duration("billable-min").Seconds()
	rules.BillableReadings = c.Int64("billable-samples")
	rules.BillableFraction = c.Float64("billable-fraction")
	opts := energy.Options{Method: c.String("method"), Rules: rules}
	opts.Split = c.String("split")
	if c.IsSet("split") && opts.Method != energy.Auto && opts.Method != "" {
		return c.Usagef("--split is of --method auto: %s gives each of several requests at once the joules of all", opts.Method)
	}
	for _, name := range []string{"gap", "gappy-max-gap", "billable-min"} {
		if c.Duration(name) < 0 {
			return c.Usagef("--%s %v is negative", name, c.Duration(name))
		}
	}
	for _, name := range []string{"gappy-fraction", "refuse-fraction", "billable-fraction"} {
		if !(c.Float64(name) >= 0) {
			return c.Usagef("--%s %v: want a share, 0 or more", name, c.Float64(name))
		}
	}
	if text := c.String("target"); text != "" {
		target, ok := share(text)
		if !ok {
			return c.Usagef("--target %s is no share between 0 and 1: 2%% or 0.02", text)
		}
		opts.Target = target
	}
	if name := c.String("sensor"); name != "" {
		sensors, err := readSensors(c, name)
		if err != nil {
			return err
		}
		opts.Sensors = sensors
	}
	if name := c.String("baseline"); name != "" {
		idle, se, err := readBaseline(c, name)
		if err != nil {
			return err
		}
		opts.Idle, opts.IdleSE = idle, se
	}
	trace, err := c.Open(traces...)
	if err != nil {
		return err
	}
	defer trace.Close()
	work, err := c.Open(events...)
	if err != nil {
		return err
	}
	defer work.Close()
	out, err := c.Create()
	if err != nil {
		return err
	}
	err = attribute(c, opts, trace, work, out)
	if err != nil {
		return out.Abort(err)
	}
	return out.Close()
}

func attribute(c *cli.Context, opts energy.Options, trace, work *cli.Input, out *cli.Output) error {
	var a *energy.Attributor
	n := int64(0)
	write := func(r record.Record) error {
		if n == 0 {
			if err := out.Write(c.HeaderAfter(cmp.Or(a.Header(), work.Header()))); err != nil {
				return err
			}
		}
		n++
		return out.Write(r)
	}
	var err error
	events := writeBehind(out)
	a, err = energy.New(opts, func(e *record.Event) error {
		if n == 0 {
			return write(e)
		}
		n++
		return events.write(e)
	})
	if err != nil {
		return errors.Join(c.Usagef("%v", err), events.end())
	}
	if err := errors.Join(a.Join(trace, work), events.end()); err != nil {
		var clash *energy.ClockError
		if errors.As(err, &clash) {
			return cli.WithHint(err, "give events wall-clock times, t_start_unix_ns and t_end_unix_ns, to join across boots")
		}
		return err
	}
	if err := errors.Join(trace.Err(), work.Err()); err != nil {
		return err
	}
	for _, s := range a.Summaries() {
		if err := write(s); err != nil {
			return err
		}
	}
	if n > 0 {
		for _, g := range a.Agreements() {
			if err := write(g); err != nil {
				return err
			}
		}
	}
	if d := a.Undivided(); d > 0 && opts.Method == energy.TR122 { // of other methods the events say so
		c.Warnf("%d events share their time with other requests: the joules of each are of all of them; --method auto divides them", d)
	}
	if d := a.Crossing(); d > 0 {
		c.Warnf("events that begin inside another one and end after it, without request_id: %d; each has all joules of the time they share, which --method auto divides where there is one", d)
	}
	if d := a.Disordered(); d > 0 {
		c.Doubtf("%d readings of the trace were out of order and left out", d)
	}
	if a.Empty() {
		c.Doubtf("there is no reading in %s", strings.Join(c.StringSlice("trace"), ", "))
	}
	if n == 0 {
		c.Doubtf("there is no event in %s", strings.Join(c.StringSlice("events"), ", "))
		if err := out.Write(c.HeaderAfter(cmp.Or(a.Header(), work.Header()))); err != nil {
			return err
		}
	}
	return out.Write(&record.End{Records: n})
}

// share is a number above 0 and below 1, or that many per cent.
func share(text string) (v float64, ok bool) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		v /= 100
	}
	return v, err == nil && v > 0 && v < 1
}

// readSensors is what the instrument response test found.
func readSensors(c *cli.Context, name string) (*sensor.Sensors, error) {
	f, err := c.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s, err := sensor.Load(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// readBaseline is the idle power of each GPU in the file and its standard
// error, W.
func readBaseline(c *cli.Context, name string) (idle, se map[int]float64, err error) {
	f, err := c.OpenFile(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	list, err := baseline.Load(f)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	idle, se = map[int]float64{}, map[int]float64{}
	for _, b := range list {
		idle[b.GPU], se[b.GPU] = b.Watts()
		if b.FakeIdle {
			c.Doubtf("%s: GPU %d was not idle: %s", name, b.GPU, strings.Join(b.FakeIdleReasons, "; "))
		}
	}
	return idle, se, nil
}
