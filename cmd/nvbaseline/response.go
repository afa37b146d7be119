package main

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strconv"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/sensor"
)

// response is the instrument response test.
func response(c *cli.Context) error {
	if c.NArg() > 0 {
		return c.Usagef("unexpected argument %q", c.Args().First())
	}
	events, toggles := c.StringSlice("events"), c.String("toggles")
	if len(events) > 0 && toggles != "" {
		return c.Usagef("the load is either in --events or in --toggles")
	}
	if err := c.Writable(c.String("output")); err != nil {
		return err
	}
	f := sensor.NewFitter()
	if len(events) > 0 {
		in, err := c.Open(events...)
		if err != nil {
			return err
		}
		defer in.Close()
		for in.Scan() {
			f.ObserveLoad(in.Record())
		}
		if err := in.Err(); err != nil {
			return err
		}
	}
	if toggles != "" {
		times, err := switches(c, toggles)
		if err != nil {
			return err
		}
		for _, ns := range times {
			f.Toggle(ns)
		}
	}
	trace, err := c.OpenTrace()
	if err != nil {
		return err
	}
	defer trace.Close()
	for trace.Scan() {
		f.Observe(trace.Record())
	}
	if err := trace.Err(); err != nil {
		return err
	}
	c.Infof("fitting")
	s, err := f.Finish()
	if err != nil {
		return cli.Errorf(cli.ExitDoubt, "%v", err)
	}
	for _, g := range s.GPUs {
		if g.Use == "" {
			c.Doubtf("GPU %d: %s", g.GPU, g.Advice)
		}
	}
	return c.WriteJSON(s)
}

// switches reads the times at which a load was switched.
func switches(c *cli.Context, name string) ([]int64, error) {
	in, err := c.OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r := csv.NewReader(in)
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, cli.Errorf(cli.ExitFailed, "%s:1: no header line: %v", name, err)
	}
	column := slices.Index(head, "t_ns")
	if column < 0 {
		return nil, cli.WithHint(cli.Errorf(cli.ExitFailed, "%s:1: no column t_ns", name), "the first line names the columns")
	}
	var times []int64
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, cli.Errorf(cli.ExitFailed, "%s: %v", name, err)
		}
		line, at := r.FieldPos(column)
		ns, err := strconv.ParseInt(row[column], 10, 64)
		if err != nil {
			return nil, cli.Errorf(cli.ExitFailed, "%s:%d:%d: %q is no time in whole nanoseconds", name, line, at, row[column])
		}
		times = append(times, ns)
	}
	if len(times) < 2 {
		return nil, cli.Errorf(cli.ExitFailed, "%s: %d times, want two at least", name, len(times))
	}
	return times, nil
}
