package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/record"
)

// fields are what --field adds: a value that is a number, true or false in
// JSON is that, any other a string.
func fields(c *cli.Context) ([]record.Field, error) {
	var all []record.Field
	for _, text := range c.StringSlice("field") {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, c.Usagef("--field %q: want NAME=VALUE", text)
		}
		if slices.ContainsFunc(all, func(f record.Field) bool { return f.Name == name }) {
			return nil, c.Usagef("--field %s is given twice", name)
		}
		raw := json.RawMessage(value)
		var v any
		if json.Unmarshal(raw, &v) != nil {
			v = value
		}
		switch v.(type) {
		case float64, bool:
		default:
			raw, _ = json.Marshal(value) // a string can always be written
		}
		all = append(all, record.Field{Name: name, Value: raw})
	}
	return all, nil
}

// event is the event that the flags describe, but for its times.
func event(c *cli.Context) (record.Event, error) {
	e := record.Event{ID: c.String("id"), Phase: c.String("phase")}
	all, err := fields(c)
	if err != nil {
		return e, err
	}
	for _, f := range all {
		if reserved[f.Name] || knows(&record.Energy{}, f) == nil {
			return e, c.Usagef("--field %s: this field is not yours to set", f.Name)
		}
		err := knows(&e, f)
		if err != nil && !strings.Contains(err.Error(), "unknown field") {
			// A name that looks like a number is one all the same.
			quoted, _ := json.Marshal(string(f.Value))
			if knows(&e, record.Field{Name: f.Name, Value: quoted}) != nil {
				return e, c.Usagef("--field %s=%s: not a value for this field", f.Name, f.Value)
			}
			continue
		}
		if err != nil {
			e.Extra = append(e.Extra, f)
		}
	}
	return e, nil
}

// reserved are the fields of an event that nvload fills in.
var reserved = map[string]bool{
	"record": true, "t_start_ns": true, "t_end_ns": true, "t_start_unix_ns": true, "t_end_unix_ns": true,
	"command": true, "command_exit": true, "interrupted": true, "load_gap_s": true,
	"launches": true, "flops": true, "flops_per_s": true, "bytes": true, "bytes_per_s": true, "busy_s": true,
	"first_launch_us": true, "last_launch_us": true, "thermal_pause_s": true, "error": true,
}

// knows sets the field in a record that has one of this name.
func knows(r any, f record.Field) error {
	d := json.NewDecoder(bytes.NewReader(fmt.Appendf(nil, "{%q:%s}", f.Name, f.Value)))
	d.DisallowUnknownFields()
	return d.Decode(r)
}

// count is the value of a flag that is a number, or true or false for 1 or 0.
type count int

func newCount(n int) *count { return (*count)(&n) }

// Get is the number, for the stream's header.
func (n *count) Get() any { return int(*n) }

func (n *count) String() string { return fmt.Sprint(int(*n)) }

func (n *count) Set(text string) error {
	switch text {
	case "true":
		*n = 1
	case "false":
		*n = 0
	default:
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*n = count(v)
	}
	return nil
}
