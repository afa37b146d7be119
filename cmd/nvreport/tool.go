package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/report"

	ucli "github.com/urfave/cli/v2"
)

func tool() *cli.Tool {
	return &cli.Tool{
		Name:     "nvreport",
		Usage:    "judge a run directory and report on it",
		Synopsis: "[check|compare|assess] RUN_DIR...",
		Long: `Reads what a run directory holds and writes report.html and report.md, for
people, and run_metadata.json, for programs, into it. All three say the same. The
report begins with what the numbers can be used for, the three that matter and
what to do first; every figure in it says which file it was computed from, and
every verdict what was asked.

report.html is one file that opens from disk without network, by day and by night,
on a telephone and on paper. Its figures are also figures/NAME.svg, each with its
data beside it as figures/NAME.csv.

A run directory holds the trace (trace.ndjson or trace.arrow, also .zst or .gz,
or power_trace.csv), events.ndjson, generation_events.jsonl (nvattrib's
outcome), baseline.json, baseline_trace.ndjson, soak.ndjson and sensor.json.
Each may be missing: the report says which is and why that matters, and of the
parts that need it that they were not measured.

nvreport check writes nothing into the directory. It judges TR122's guarantee
contract (§10.7), invariants (§2) and operational checklist (§10.4) and ends
with status 3 when a check fails or one of these cannot be judged. Thresholds are
options, and stand under "checks" in a configuration file.

nvreport compare holds runs against one another: hardware to choose from, or a
build that may be worse. nvreport assess judges a recording of power that somebody
else made.`,
		Examples: `# the report of a run
nvreport runs/20251225_190610 && xdg-open runs/20251225_190610/report.html
# may these numbers be published?
nvreport check runs/20251225_190610
# for a program: ids of the checks in the way
nvreport check --json runs/20251225_190610 | jq -r '.doubts[]'
# with the thresholds of TR122's configuration file
nvreport --config physics.yaml runs/20251225_190610
# which board takes less for a token
nvreport compare 4090=runs/a h200=runs/b
# for CI: is the new build more than 5 % worse in anything
nvreport compare --max-regression 5% main1,main2,main3 new1,new2,new3
# what can be billed by a log of nvidia-smi
nvreport assess --trace log.csv`,
		Status:        "3 also when the run does not stand (check), or runs are not comparable or worse than was allowed (compare)",
		ConfigKeys:    keys,
		ConfigSection: "checks",
		Flags: append(thresholdFlags(),
			&ucli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the reports into `DIR` instead of the run directory"}),
		Commands: []*ucli.Command{{
			Name:      "check",
			Usage:     "judge the run, exit 0 or 3",
			ArgsUsage: "RUN_DIR",
			Flags:     append(thresholdFlags(), &ucli.BoolFlag{Name: "json", Usage: "write the checks as JSON"}),
			Action:    cli.Action(check),
		}, compareCommand(), assessCommand()},
		Action: write,
	}
}

// write makes the reports.
func write(c *cli.Context) error {
	r, dir, err := read(c)
	if err != nil {
		return err
	}
	if o := c.String("output"); o != "" {
		dir = o
	}
	for _, file := range []struct {
		name   string
		render func(io.Writer) error
	}{
		{"report.md", r.Markdown},
		{"report.html", r.HTML},
		{"run_metadata.json", r.Metadata},
	} {
		name := filepath.Join(dir, file.name)
		if err := replace(name, file.render); err != nil {
			return err
		}
		c.Infof("%s written", name)
	}
	return figures(r, filepath.Join(dir, "figures"))
}

// figures writes each figure with its data, and takes away those of an earlier
// report that there are no data for any more.
func figures(r *report.Run, dir string) error {
	if len(r.Figures) > 0 {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	there := map[string]bool{}
	for _, f := range r.Figures {
		there[f.Name] = true
		if err := errors.Join(replace(filepath.Join(dir, f.Name+".svg"), f.WriteFile), replace(filepath.Join(dir, f.Name+".csv"), f.WriteCSV)); err != nil {
			return err
		}
	}
	for _, name := range report.FigureNames() {
		for _, ending := range []string{".svg", ".csv"} {
			if there[name] {
				continue
			}
			if err := os.Remove(filepath.Join(dir, name+ending)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// check judges the run.
func check(c *cli.Context) error {
	r, _, err := read(c)
	if err != nil {
		return err
	}
	render := r.Verdicts
	if c.Bool("json") {
		render = r.Judgement
	}
	if err := render(c.Stdout); err != nil {
		return err
	}
	for _, d := range r.Doubts() {
		c.Doubtf("%s: %s: %s", d.ID, d.Verdict, d.Reason)
	}
	return nil
}

// read reads and judges the run directory that the command line names.
func read(c *cli.Context) (r *report.Run, dir string, err error) {
	switch c.NArg() {
	case 0:
		return nil, "", c.Usagef("no run directory given")
	case 1:
	default:
		return nil, "", c.Usagef("unexpected argument %q", c.Args().Get(1))
	}
	limits, err := thresholds(c)
	if err != nil {
		return nil, "", err
	}
	dir = c.Args().First()
	r, err = readRun(c, dir, limits)
	return r, dir, err
}

// replace writes a file under another name and renames it, so that no reader
// finds half a report.
func replace(name string, render func(io.Writer) error) (err error) {
	f, err := os.OpenFile(fmt.Sprintf("%s.%d", name, os.Getpid()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(render(f), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
