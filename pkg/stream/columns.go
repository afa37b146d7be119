package stream

import "joulepipe/pkg/record"

// columnType is what a column of CSV or Arrow holds.
type columnType int

const (
	whole    columnType = iota // int64
	natural                    // uint64
	small                      // int32
	real                       // float64
	truth                      // bool
	text                       // UTF-8
	ints                       // list of int32
	noColumn                   // only JSON can say it
)

// column is a column of the tables in which CSV and Arrow lay out records.
type column struct {
	name string
	typ  columnType
}

// typeOf is the column that holds what ptr points to.
func typeOf(ptr any) columnType {
	switch ptr.(type) {
	case *int64, *record.Opt[int64]:
		return whole
	case *record.Opt[uint64]:
		return natural
	case *int:
		return small
	case *float64, *record.Opt[float64]:
		return real
	case *bool, *record.Opt[bool]:
		return truth
	case *string:
		return text
	case *[]int:
		return ints
	}
	return noColumn
}

// table is the one layout of all kinds of record: the fields of those that come
// in numbers have a column each; what has none is an object in the last column,
// "json". So no kind loses anything, and a table of samples is as plain as one
// would make it by hand.
type table struct {
	forms   *forms
	columns []column
	layouts []layout // by the form's id
}

// layout is where a form's fields stand in the table.
type layout struct {
	field []int // by column, negative for none
	json  []int // fields that have no column
}

func newTable() *table {
	t := &table{forms: newForms()}
	index := make(map[string]int)
	for _, kind := range []record.Kind{
		record.KindSample, record.KindPower, record.KindCounter, record.KindGPM, record.KindEvent,
		record.KindProcess,
	} {
		fm := t.forms.of[kind]
		for i := range fm.fields {
			fd := &fm.fields[i]
			if _, ok := index[fd.name]; !ok && fm.energy>>i&1 == 0 {
				index[fd.name] = len(t.columns)
				t.columns = append(t.columns, column{fd.name, fd.typ})
			}
		}
	}
	t.layouts = make([]layout, len(t.forms.of))
	for _, fm := range t.forms.of {
		l := &t.layouts[fm.id]
		l.field = make([]int, len(t.columns))
		for i := range l.field {
			l.field[i] = -1
		}
		for i := range fm.fields {
			fd := &fm.fields[i]
			c, ok := index[fd.name]
			if fd.typ == text && fm.need>>i&1 != 0 {
				ok = false // a cell without text reads as absent, and it may be empty
			}
			if ok && t.columns[c].typ == fd.typ && fm.energy>>i&1 == 0 {
				l.field[c] = i
			} else {
				l.json = append(l.json, i)
			}
		}
	}
	return t
}

// appendRest writes the object for the last column; nothing if all of the
// record has columns.
func (t *table) appendRest(b []byte, fm *form, fields []field) ([]byte, error) {
	start := len(b)
	var err error
	for _, i := range t.layouts[fm.id].json {
		if i < len(fields) {
			if b, err = appendJSON(b, &fields[i]); err != nil {
				return b, err
			}
		}
	}
	if fm.extra != nil {
		b = appendExtra(b, *fm.extra)
	}
	if len(b) > start {
		b[start] = '{' // was the comma of the first member
		b = append(b, '}')
	}
	return b, nil
}
