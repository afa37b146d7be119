package main

import (
	"fmt"
	"strings"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/cli"
)

const longDiff = `Compares the idle power in two baseline.json, of the same GPU before and after
something: the difference of the powers that would be subtracted, with a 95 %
interval that has both standard errors, drift included, by the number of
independent readings. Where the interval holds 0, no difference is shown.

Baselines of another GPU, driver, power limit, channel or state are of different
things and are not compared, unless --force says so.

Status 3: they are of different things, or one of them does not stand.`

// diff compares two baselines.
func diff(c *cli.Context) error {
	if c.NArg() != 2 {
		return c.Usagef("diff wants two files, got %d", c.NArg())
	}
	var lists [2][]baseline.Idle
	for k := range lists {
		var err error
		if lists[k], err = load(c, c.Args().Get(k)); err != nil {
			return err
		}
	}
	pairs, err := pair(lists[0], lists[1])
	if err != nil {
		return cli.Errorf(cli.ExitDoubt, "%v", err)
	}
	var differences []baseline.Difference
	for _, p := range pairs {
		d := baseline.Compare(p[0], p[1])
		if len(d.Differs) > 0 && !c.Bool("force") {
			return cli.WithHint(cli.Errorf(cli.ExitDoubt, "GPU %d: the baselines are of different things: %s", d.GPU, strings.Join(d.Differs, "; ")), "--force compares them all the same")
		}
		for _, doubt := range d.Doubts {
			c.Doubtf("GPU %d %s", d.GPU, doubt)
		}
		differences = append(differences, d)
	}
	if len(differences) == 1 {
		return c.WriteJSON(differences[0])
	}
	return c.WriteJSON(struct {
		GPUs []baseline.Difference `json:"gpus"`
	}{differences})
}

// pair finds the two baselines of each GPU: the only ones, or those of one index.
func pair(before, after []baseline.Idle) (pairs [][2]baseline.Idle, err error) {
	if len(before) == 1 && len(after) == 1 {
		return [][2]baseline.Idle{{before[0], after[0]}}, nil
	}
	for _, b := range after {
		for _, a := range before {
			if a.GPU == b.GPU {
				pairs = append(pairs, [2]baseline.Idle{a, b})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("the files have no GPU in common")
	}
	return pairs, nil
}

func load(c *cli.Context, name string) ([]baseline.Idle, error) {
	f, err := c.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := baseline.Load(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}
