package main

import (
	"errors"
	"io"
	"os"
	"slices"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/recording"
	"joulepipe/pkg/stream"

	ucli "github.com/urfave/cli/v2"
)

const longAssess = `Judges a recording of power that somebody else made: CSV or NDJSON with t_ns and
any of power_w, power_average_w, power_instant_w, or what nvidia-smi writes:

  nvidia-smi --query-gpu=timestamp,index,power.draw,utilization.gpu --format=csv -lms 100 > log.csv
  nvreport assess --trace log.csv

It says first from what length on events of such a recording are billable, good
for analysis or for an estimate, and below which they are nothing, and why: known
work of all lengths is read as the recording was read, at its times and through a
sensor of its class, and attributed as nvattrib does; and so is the work that the
recording's own power shows, which may be told less well.

Then what that rests on: for each column whether its sensor is instant, a mean
over a second, exponential or cannot be told, how sure that is and by what; how
often it has a new value; how it was polled, with gaps and missing samples; what
was idle in it, and idle power with its doubt; readings that are stale or
impossible; whether there is an energy counter and a pair of clocks.

With --events each of them is attributed as well. Their times must be on the
recording's clock; nvidia-smi's times are its wall clock, read as if it were UTC.

Status 3: lines could not be read, or no event of any length that was tried is
good for anything.`

func assessCommand() *ucli.Command {
	return &ucli.Command{
		Name:        "assess",
		Usage:       "judge somebody else's recording of power",
		ArgsUsage:   "--trace FILE [--events FILE]",
		Description: longAssess,
		Flags: []ucli.Flag{
			cli.TraceFlag(),
			&ucli.StringSliceFlag{Name: "events", Aliases: []string{"e"}, Usage: "attribute the events in `FILE` too"},
			&ucli.BoolFlag{Name: "json", Usage: "write it as JSON"},
			cli.OutputFlag(),
		},
		Action: cli.Action(assess),
	}
}

func assess(c *cli.Context) error {
	if c.NArg() > 0 {
		return cli.WithHint(c.Usagef("unexpected argument %q", c.Args().First()), "--trace "+c.Args().First())
	}
	traces, events := c.StringSlice("trace"), c.StringSlice("events")
	if len(events) > 0 && (len(traces) == 0 || slices.Contains(traces, "-")) {
		return cli.WithHint(c.Usagef("--events wants a trace in a file: it is read twice"), "write the trace to a file first, --trace FILE")
	}
	in, err := c.OpenTrace()
	if err != nil {
		return err
	}
	defer in.Close()
	judge := recording.NewJudge()
	for in.Scan() {
		judge.Observe(in.Record())
	}
	if in.Err() != nil {
		return in.Err()
	}
	a, err := judge.Finish()
	if err != nil {
		return cli.WithHint(err, "CSV or NDJSON with t_ns and power_w, or nvidia-smi's CSV with timestamp and power.draw")
	}
	if len(events) > 0 {
		if err := attribute(c, a, traces, events); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		err = c.WriteJSON(a)
	} else {
		err = c.WriteFile(c.String("output"), func(w io.Writer) error { return a.Text(w) })
	}
	if err != nil {
		return err
	}
	for _, g := range a.GPUs {
		if g.Billing == nil || !g.Billing.EstimateS.OK {
			c.Doubtf("GPU %d: no event of any length that was tried is good for anything in this recording", g.GPU)
		}
	}
	return nil
}

// attribute reads the trace once more, with the events. What could not be read
// of it was said the first time.
func attribute(c *cli.Context, a *recording.Assessment, traces, events []string) error {
	var readers []stream.Reader
	for _, name := range traces {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		readers = append(readers, &rest{Reader: stream.NewReader(f, name)})
	}
	trace := readers[0]
	if len(readers) > 1 {
		trace = stream.Merge(readers...)
	}
	work, err := c.Open(events...)
	if err != nil {
		return err
	}
	defer work.Close()
	err = a.Attribute(trace, work)
	if clash, ok := errors.AsType[*energy.ClockError](err); ok {
		return cli.WithHint(clash, "give events wall-clock times, t_start_unix_ns and t_end_unix_ns, to join across boots")
	}
	if err != nil {
		return err
	}
	n := 0
	for _, g := range a.GPUs {
		n += len(g.Events)
	}
	if n == 0 {
		c.Doubtf("no event in %v", events)
	}
	return nil
}

// rest is a stream without what is wrong with it.
type rest struct{ stream.Reader }

// Scan goes on to the next record that could be read.
func (r *rest) Scan() bool {
	for r.Reader.Scan() {
		if r.Record().Kind() != record.KindSyntax {
			return true
		}
	}
	return false
}

// Err forgives a stream that was cut.
func (r *rest) Err() error {
	if _, cut := errors.AsType[*stream.TruncatedError](r.Reader.Err()); cut {
		return nil
	}
	return r.Reader.Err()
}
