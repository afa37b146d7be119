package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/compare"
	"joulepipe/pkg/report"

	ucli "github.com/urfave/cli/v2"
)

const longCompare = `Holds runs against the first of them, the base: idle power, time and temperature
of equilibrium, longest context, the sensors' response, energy per token,
throughput and latency by phase, model, batch and context, slowed events, memory.
Each row has the figures with 95 % intervals and how many repetitions they are
of, and a verdict: better, worse, or no difference shown, where the intervals
leave room for none; then no difference is printed.

Name a run otherwise with NAME=DIR. Runs that are repetitions of one another are
given as one, DIR,DIR,DIR: they tell how far figures move from run to run, and
give an interval to those that a single run has once. Without them, that is
assumed (--run-scatter).

What is not comparable is refused, with status 3, unless --force says so: a
simulated run against a measured one, idle powers of different states or
channels, a GPU that was not idle, rows of other contexts, number formats, tokens
or methods. Different GPUs are for choosing between, and the header says what
differs. Their joules then carry the calibration of two boards.

--max-regression and --fail-on ask for regressions: then GPU, driver and power
limit must be the same, and rows that the base has must be there. Status 3 when a
figure is worse by more than the share, its difference is shown, and stands beside
all others that were tested (Holm's procedure, 5 % over all rows): noise in one
row of fifty fails nobody's build.

  nvreport compare 4090=runs/a h200=runs/b
  nvreport compare --max-regression 5% --fail-on joules-per-token,latency main1,main2,main3 new1,new2,new3
  nvreport compare --format csv runs/* > all.csv`

func compareCommand() *ucli.Command {
	var metrics []string
	for _, m := range compare.Metrics {
		metrics = append(metrics, m.ID)
	}
	return &ucli.Command{
		Name:        "compare",
		Usage:       "hold runs against the first of them",
		ArgsUsage:   "[NAME=]RUN_DIR[,RUN_DIR...] [NAME=]RUN_DIR[,RUN_DIR...] ...",
		Description: longCompare,
		Flags: append(thresholdFlags(),
			cli.OutputFlag(),
			&ucli.StringFlag{Name: "format", Value: "text", Usage: "write `FORMAT`: text, md, json or csv (also told by the end of --output)"},
			&ucli.StringFlag{Name: "max-regression", Usage: "end with status 3 when a figure is worse by more than `PERCENT`, as 5%"},
			&ucli.StringSliceFlag{Name: "fail-on", Usage: "ask that of the `METRICS` only: " + strings.Join(metrics, ", ")},
			&ucli.StringFlag{Name: "run-scatter", Value: fmt.Sprintf("%g%%", 100*compare.DefaultScatter), Usage: "take `PERCENT` for how far figures move from run to run, one standard deviation, where a side is one run"},
			&ucli.BoolFlag{Name: "force", Usage: "compare what is not comparable"},
		),
		Action: cli.Action(compareRuns),
	}
}

// share reads a percentage, "5%" or "5", as a share.
func share(c *cli.Context, flag string) (float64, error) {
	text := c.String(flag)
	x, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	if err != nil || !(x >= 0 && x < 1e6) {
		return 0, c.Usagef("--%s %s: want per cent, as 5%%", flag, text)
	}
	return x / 100, nil
}

func compareRuns(c *cli.Context) error {
	if c.NArg() < 2 {
		return c.Usagef("compare wants two runs or more, got %d", c.NArg())
	}
	opts := compare.Options{Force: c.Bool("force")}
	var err error
	if opts.Scatter, err = share(c, "run-scatter"); err != nil {
		return err
	}
	for _, list := range c.StringSlice("fail-on") {
		for _, metric := range strings.Split(list, ",") {
			if !slices.ContainsFunc(compare.Metrics, func(m compare.Metric) bool { return m.ID == metric }) {
				return c.Usagef("--fail-on %s: there is no such metric", metric)
			}
			opts.FailOn = append(opts.FailOn, metric)
		}
	}
	opts.Regression = len(opts.FailOn) > 0
	if c.String("max-regression") != "" {
		opts.Regression = true
		if opts.MaxRegression, err = share(c, "max-regression"); err != nil {
			return err
		}
	}
	format := c.String("format")
	if end := strings.TrimPrefix(filepath.Ext(c.String("output")), "."); !c.IsSet("format") && slices.Contains(compare.Formats, end) {
		format = end
	}
	if !slices.Contains(compare.Formats, format) {
		return c.Usagef("--format %s: want %s", format, strings.Join(compare.Formats, ", "))
	}
	sides, err := sides(c)
	if err != nil {
		return err
	}
	result, err := compare.Compare(sides, opts)
	if refused, ok := errors.AsType[*compare.RefusedError](err); ok {
		for _, why := range refused.Reasons[1:] {
			c.Doubtf("not comparable: %s", why)
		}
		return cli.WithHint(cli.Errorf(cli.ExitDoubt, "not comparable: %s", refused.Reasons[0]), "--force compares them all the same")
	}
	if err != nil {
		return err
	}
	if err := c.WriteFile(c.String("output"), func(w io.Writer) error { return result.Write(w, format) }); err != nil {
		return err
	}
	if !result.Forced {
		for _, why := range result.Refusals {
			c.Doubtf("not comparable: %s", why)
		}
	}
	for _, r := range result.Regressions {
		c.Doubtf("regression: %s", r)
	}
	return nil
}

// sides reads the runs that the command line names.
func sides(c *cli.Context) ([]compare.Side, error) {
	limits, err := thresholds(c)
	if err != nil {
		return nil, err
	}
	var all []compare.Side
	for _, arg := range c.Args().Slice() {
		s := compare.Side{}
		list := arg
		if name, rest, ok := strings.Cut(arg, "="); ok && !isDir(arg) {
			s.Name, list = name, rest
		}
		s.Dirs = []string{list}
		if !isDir(list) {
			s.Dirs = strings.Split(list, ",")
		}
		for _, dir := range s.Dirs {
			r, err := readRun(c, dir, limits)
			if err != nil {
				return nil, err
			}
			s.Runs = append(s.Runs, r)
		}
		if s.Name == "" {
			s.Name = strings.Join(s.Dirs, ",")
		}
		all = append(all, s)
	}
	shorten(all)
	for i, s := range all {
		if slices.ContainsFunc(all[:i], func(o compare.Side) bool { return o.Name == s.Name }) {
			return nil, cli.WithHint(c.Usagef("two sides are named %s", s.Name), "name them: A="+s.Dirs[0])
		}
	}
	return all, nil
}

// shorten names sides by the last part of their directory, where that tells
// them apart.
func shorten(all []compare.Side) {
	var short []string
	for _, s := range all {
		name := s.Name
		if len(s.Dirs) == 1 && name == s.Dirs[0] {
			name = filepath.Base(name)
		}
		if slices.Contains(short, name) {
			return
		}
		short = append(short, name)
	}
	for i := range all {
		all[i].Name = short[i]
	}
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// readRun reads one run directory. What is wrong with its files has been said.
func readRun(c *cli.Context, dir string, limits report.Thresholds) (*report.Run, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, cli.WithHint(err, "name the directory that holds the run")
	}
	if !info.IsDir() {
		return nil, cli.WithHint(fmt.Errorf("%s is no directory", dir), "name the directory that holds the run")
	}
	r, err := report.Read(os.DirFS(dir), limits)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("%s: %w", dir, err), "nvpoll -o "+filepath.Join(dir, "trace.ndjson")+" makes a trace")
	}
	for _, problem := range r.Problems {
		c.Doubtf("%s", filepath.Join(dir, problem))
	}
	return r, nil
}
