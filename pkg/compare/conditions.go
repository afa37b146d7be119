package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"joulepipe/pkg/record"
	"joulepipe/pkg/report"
)

// about is what a side is, by its first run; conditions sees to it that
// repetitions are of the same machine.
func about(s Side) About {
	a := About{Name: s.Name, Dirs: s.Dirs, GPUs: gpus(s.Runs[0]), Simulated: simulated(s), RunIDs: []string{}, Doubts: []string{}}
	for _, r := range s.Runs {
		if h := r.Trace.Header; h != nil && h.RunID != "" {
			a.RunIDs = append(a.RunIDs, h.RunID)
		}
		for _, d := range r.Doubts() {
			if !slices.Contains(a.Doubts, d.ID) {
				a.Doubts = append(a.Doubts, d.ID)
			}
		}
	}
	return a
}

// gpus are those of a run, by the header of its trace or else by its baseline.
func gpus(r *report.Run) []GPU {
	all := []GPU{}
	if h := r.Trace.Header; h != nil {
		for _, g := range h.GPUs {
			all = append(all, GPU{g.Index, g.Name, g.UUID, g.Driver, g.PowerLimitW, g.VRAMTotalMB})
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, b := range r.Baselines {
		g := GPU{Index: b.GPU, UUID: b.UUID}
		if k := b.Conditions; k != nil {
			g.Name, g.Driver, g.PowerLimitW = k.Name, k.Driver, k.PowerLimitW
		}
		all = append(all, g)
	}
	return all
}

func simulated(s Side) bool {
	return slices.ContainsFunc(s.Runs, func(r *report.Run) bool { return r.Trace.Simulated() })
}

// sameBoards says that two sides ran on the same boards, as far as they tell.
func sameBoards(a, b Side) bool {
	ids := func(s Side) (ids []string) {
		for _, g := range gpus(s.Runs[0]) {
			ids = append(ids, g.UUID)
		}
		slices.Sort(ids)
		return ids
	}
	x := ids(a)
	return len(x) > 0 && !slices.Contains(x, "") && slices.Equal(x, ids(b))
}

// condition is something of a run that its figures hang on.
type condition struct {
	what string
	// without it being the same, there is no regression to be told
	regression bool
	of         func(*report.Run) string
}

var conditions = []condition{
	{"device", true, func(r *report.Run) string {
		switch {
		case r.Trace.Simulated():
			return "simulated"
		case r.Trace.Header != nil:
			return "hardware"
		}
		return ""
	}},
	{"GPU", true, each(func(g GPU) string { return g.Name })},
	{"UUID", false, each(func(g GPU) string { return g.UUID })},
	{"driver", true, each(func(g GPU) string { return g.Driver })},
	{"power limit", true, each(func(g GPU) string { return watts(g.PowerLimitW) })},
	{"memory", false, each(func(g GPU) string {
		if mb, ok := g.VRAMTotalMB.Get(); ok {
			return fmt.Sprintf("%g MiB", mb)
		}
		return ""
	})},
	{"host", false, func(r *report.Run) string {
		if h := r.Trace.Header; h != nil {
			return h.Host
		}
		return ""
	}},
	{"version", false, func(r *report.Run) string {
		if h := r.Trace.Header; h != nil {
			return h.Version
		}
		return ""
	}},
	{"period", false, func(r *report.Run) string {
		if h := r.Trace.Header; h != nil && h.PeriodNS > 0 {
			return fmt.Sprintf("%g ms", float64(h.PeriodNS)/1e6)
		}
		return ""
	}},
	{"idle state", false, func(r *report.Run) string {
		var states []string
		for _, b := range r.Baselines {
			states = append(states, b.State)
		}
		return strings.Join(states, ", ")
	}},
}

func watts(w record.Opt[float64]) string {
	if v, ok := w.Get(); ok {
		return fmt.Sprintf("%g W", v)
	}
	return ""
}

func each(of func(GPU) string) func(*report.Run) string {
	return func(r *report.Run) string {
		var all []string
		for _, g := range gpus(r) {
			all = append(all, of(g))
		}
		return strings.Trim(strings.Join(all, ", "), ", ")
	}
}

// conditions says what differs between the sides, and refuses what must not.
func (c *Comparison) conditions(sides []Side) {
	for _, k := range conditions {
		d := Difference{What: k.what}
		for _, s := range sides {
			value := k.of(s.Runs[0])
			for i, r := range s.Runs[1:] {
				// Hosts may change, and the files of a version may be read by another.
				if other := k.of(r); other != value && (k.regression || k.what == "UUID") {
					c.refuse("%s and %s are no repetitions: %s %s and %s", s.dir(0), s.dir(i+1), k.what, cmp.Or(value, "not told"), cmp.Or(other, "not told"))
				}
			}
			d.Values = append(d.Values, value)
		}
		if !slices.ContainsFunc(d.Values, func(v string) bool { return v != d.Values[0] }) {
			continue
		}
		c.Differences = append(c.Differences, d)
		for i, v := range d.Values[1:] {
			// What a run does not tell does not differ.
			if v == "" || d.Values[0] == "" || v == d.Values[0] {
				continue
			}
			if k.what == "device" || k.regression && c.opts.Regression {
				c.refuse("%s: %s has %s, %s has %s", k.what, sides[0].Name, d.Values[0], sides[i+1].Name, v)
			}
		}
	}
}

func (s Side) dir(i int) string {
	if i < len(s.Dirs) {
		return s.Dirs[i]
	}
	return fmt.Sprintf("%s %d", s.Name, i+1)
}
