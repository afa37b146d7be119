package stream

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

// rows makes records of the rows of a table whose columns are known by their
// names, in any order and number.
type rows struct {
	forms  *forms
	names  []string
	kindAt int        // column "record", or negative
	jsonAt int        // column "json", or negative
	kind   *form      // of every row, where there is no column "record"
	plans  [][]target // by the form's id, nil before the first row of the kind
}

// target is where a cell goes: to a field, or among the further fields of a
// kind that keeps them.
type target struct {
	column int
	field  int // negative: further
}

// cells is the row that an encoding is at.
type cells interface {
	// set fills in the field from the cell in a column.
	set(fd *field, column int) (absent bool, bad *fault)
	// text is what stands in a column of text.
	text(column int) []byte
	// json is a cell as a JSON value, nil if it is empty. It may be kept.
	json(column int) json.RawMessage
}

// name takes the names of the columns.
func (t *rows) name(names []string) *fault {
	t.names = names
	t.kindAt, t.jsonAt = slices.Index(names, "record"), slices.Index(names, "json")
	t.kind = nil
	t.plans = make([][]target, len(t.forms.of))
	for i, name := range names {
		if name != "" && slices.Contains(names[:i], name) {
			return &fault{msg: fmt.Sprintf("two columns are named %q", name)}
		}
	}
	if t.kindAt >= 0 {
		return nil
	}
	kind := guess(func(name string) bool { return slices.Contains(names, name) })
	if kind == "" {
		return &fault{
			msg:  fmt.Sprintf("not a stream: %q are no columns of a record", clip([]byte(strings.Join(names, ",")))),
			hint: "name the columns: t_ns and power_w (samples), or t_start_ns and t_end_ns (events)",
		}
	}
	t.kind = t.forms.of[kind]
	return nil
}

// plan is where the columns go in rows of one kind.
func (t *rows) plan(fm *form) []target {
	plan := t.plans[fm.id]
	if plan != nil {
		return plan
	}
	for i, name := range t.names {
		if i == t.kindAt || i == t.jsonAt {
			continue
		}
		if j, ok := fm.index[alias(fm.kind, name)]; ok {
			plan = append(plan, target{i, j})
		} else if fm.extra != nil && name != "" {
			plan = append(plan, target{i, -1})
		}
	}
	t.plans[fm.id] = plan
	return plan
}

// decode reads one row. The record is nil for a kind that is not known. at is
// the column that is at fault, or negative.
func (t *rows) decode(c cells) (rec record.Record, at int, bad *fault) {
	fm := t.kind
	if fm == nil {
		name := c.text(t.kindAt)
		if fm = t.forms.of[record.Kind(name)]; fm == nil {
			if len(name) == 0 {
				return nil, t.kindAt, &fault{msg: "row without a record kind"}
			}
			return nil, -1, nil
		}
	}
	fm.clear()
	var seen uint64
	plan := t.plan(fm)
	for _, to := range plan {
		if to.field < 0 {
			t.keep(fm, c, to.column)
			continue
		}
		absent, bad := c.set(&fm.fields[to.field], to.column)
		if bad != nil {
			return nil, to.column, bad
		}
		if !absent {
			seen |= 1 << to.field
		}
	}
	if t.jsonAt >= 0 {
		if object := c.text(t.jsonAt); len(object) > 0 {
			more, bad := t.forms.fillFrom(fm, object)
			if bad != nil {
				return nil, t.jsonAt, bad
			}
			seen |= more
		}
	}
	if seen&fm.energy != 0 && seen&fm.marks == 0 {
		for _, to := range plan {
			if to.field >= 0 && fm.energy>>to.field&1 != 0 {
				t.keep(fm, c, to.column)
			}
		}
	}
	return fm.rec, -1, t.forms.finish(fm, seen)
}

// keep adds a cell to the further fields of the record.
func (t *rows) keep(fm *form, c cells, column int) {
	if value := c.json(column); value != nil {
		*fm.extra = append(*fm.extra, record.Field{Name: t.names[column], Value: value})
	}
}
