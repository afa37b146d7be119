package stream

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"joulepipe/pkg/record"
)

// A form is the blank of one kind of record: its fields in wire order, each
// bound to the struct that a reader fills in and a writer copies from. All
// encodings go through it, so that a field added to package record is in all of
// them.
type form struct {
	kind   record.Kind
	rec    record.Record
	open   string // `{"record":"sample"`
	id     int    // of the forms, from 0
	fields []field
	next   []int // field that followed in the last canonical line, by the least it can be
	index  map[string]int
	need   uint64          // fields without which there is no record
	extra  *[]record.Field // nil: unknown fields are ignored
	energy uint64          // an event's fields that belong to its energy
	marks  uint64          // … and those that say that there is one
	empty  func()
	filled *shape // by which it was, and by no other reader since
}

// clear empties the form.
func (fm *form) clear() {
	fm.empty()
	fm.filled = nil
}

// field is one field of a form.
type field struct {
	name string
	key  string // `,"name":`
	ptr  any    // *int64, *record.Opt[float64], …
	typ  columnType
	omit bool  // left out when it has the zero value
	ok   *bool // of an Opt: whether there is a value
	own  bool  // a text that no other record has
}

// okOf is where an Opt says whether there is a value; nil for what always has one.
func okOf(ptr any) *bool {
	switch p := ptr.(type) {
	case *record.Opt[float64]:
		return &p.OK
	case *record.Opt[int64]:
		return &p.OK
	case *record.Opt[uint64]:
		return &p.OK
	case *record.Opt[bool]:
		return &p.OK
	}
	return nil
}

// fault is what is wrong with a line; the reader adds where.
type fault struct {
	column    int // byte in the line, from 1; 0 unknown
	msg, hint string
}

// forms has a form of every kind.
type forms struct {
	sample    record.Sample
	power     record.Power
	counter   record.Counter
	gpm       record.GPM
	process   record.Process
	event     record.Event
	energy    record.Energy
	marker    record.Marker
	header    record.Header
	soak      record.Soak
	summary   record.Summary
	agreement record.Agreement
	end       record.End

	of       map[record.Kind]*form
	work     *form // of events
	interned map[string]string
	pairs    []pair // scratch
	// Fields that are asked for by name: a sample's read_ok, an event's
	// t_start_ns and t_end_ns.
	readOK, start, stop uint64
}

func newForms() *forms {
	f := &forms{of: make(map[record.Kind]*form), interned: make(map[string]string)}
	f.readOK = bind(f, &f.sample, "t_ns").mask("read_ok")
	bind(f, &f.power, "t_ns", "power_w")
	bind(f, &f.counter, "t_before_ns", "t_ns")
	bind(f, &f.gpm, "t_start_ns", "t_ns")
	bind(f, &f.process, "t_start_ns", "t_ns")
	event := bind(f, &f.event)
	f.work = event
	own := len(event.fields)
	event.add(&f.energy)
	event.energy = 1<<len(event.fields) - 1<<own
	event.marks = event.mask("method", "energy_joules", "energy_quality")
	f.start, f.stop = event.mask("t_start_ns"), event.mask("t_end_ns")
	event.extra = &f.event.Extra
	event.empty = func() { f.event, f.energy = record.Event{}, record.Energy{} }
	marker := bind(f, &f.marker, "name", "t_ns")
	marker.extra = &f.marker.Extra
	bind(f, &f.header, "schema")
	bind(f, &f.soak, "state")
	bind(f, &f.summary)
	bind(f, &f.agreement)
	bind(f, &f.end)
	return f
}

// bind makes the form of the kind that rec is of.
func bind[T any, P interface {
	*T
	record.Record
}](f *forms, rec P, need ...string) *form {
	kind := rec.Kind()
	fm := &form{
		kind:  kind,
		rec:   rec,
		id:    len(f.of),
		open:  `{"record":"` + string(kind) + `"`,
		index: make(map[string]int),
		empty: func() { var zero T; *rec = zero },
	}
	fm.add(rec)
	fm.need = fm.mask(need...)
	f.of[kind] = fm
	return fm
}

// add takes in the fields of the struct that ptr points to, by their JSON tags.
func (fm *form) add(ptr any) {
	v := reflect.ValueOf(ptr).Elem()
	for i := range v.NumField() {
		name, options, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		fm.index[name] = len(fm.fields)
		fm.next = append(fm.next, len(fm.fields))
		to := v.Field(i).Addr().Interface()
		fm.fields = append(fm.fields, field{
			name: name,
			key:  `,"` + name + `":`,
			ptr:  to,
			typ:  typeOf(to),
			omit: options != "",
			ok:   okOf(to),
			own:  name == "event_id",
		})
	}
}

// mask is the set of the named fields.
func (fm *form) mask(names ...string) (set uint64) {
	for _, name := range names {
		set |= 1 << fm.index[name]
	}
	return set
}

// load copies r into its form, and says which of the form's fields it has.
func (f *forms) load(r record.Record) (*form, []field, error) {
	switch r := r.(type) {
	case *record.Sample:
		f.sample = *r
	case *record.Power:
		f.power = *r
	case *record.Counter:
		f.counter = *r
	case *record.GPM:
		f.gpm = *r
	case *record.Process:
		f.process = *r
	case *record.Event:
		f.event = *r
		fm := f.work
		if err := fm.checkExtra(r.Energy != nil); err != nil {
			return nil, nil, err
		}
		if r.Energy == nil {
			return fm, fm.fields[:fm.index["method"]], nil
		}
		f.energy = *r.Energy
		return fm, fm.fields, nil
	case *record.Marker:
		f.marker = *r
		if err := f.of[record.KindMarker].checkExtra(false); err != nil {
			return nil, nil, err
		}
	case *record.Header:
		f.header = *r
	case *record.Soak:
		f.soak = *r
	case *record.Agreement:
		f.agreement = *r
	case *record.Summary:
		f.summary = *r
	case *record.End:
		f.end = *r
	default:
		return nil, nil, fmt.Errorf("cannot write a %T", r)
	}
	fm := f.of[r.Kind()]
	return fm, fm.fields, nil
}

// checkExtra refuses further fields that would not read back as such.
func (fm *form) checkExtra(energy bool) error {
	for _, x := range *fm.extra {
		i, known := fm.index[x.Name]
		bit := uint64(1) << i
		if x.Name == "record" || known && (fm.energy&bit == 0 || fm.marks&bit != 0 || energy) {
			return fmt.Errorf("further field %q of a %s has the name of one of its own", x.Name, fm.kind)
		}
		if !json.Valid(x.Value) {
			return fmt.Errorf("further field %q of a %s is not JSON: %.40q", x.Name, fm.kind, x.Value)
		}
	}
	return nil
}

// finish judges the record after the fields in the set seen were filled in.
func (f *forms) finish(fm *form, seen uint64) *fault {
	if missing := fm.need &^ seen; missing != 0 {
		for i := range fm.fields {
			if missing>>i&1 != 0 {
				return &fault{msg: fmt.Sprintf("%s without %s", fm.kind, fm.fields[i].name)}
			}
		}
	}
	gpu := 0
	switch r := fm.rec.(type) {
	case *record.Sample:
		if gpu = r.GPU; seen&f.readOK == 0 {
			r.ReadOK = r.PowerW.OK || r.PowerInstantW.OK || r.PowerAverageW.OK
		}
	case *record.Power:
		gpu = r.GPU
	case *record.Counter:
		gpu = r.GPU
		if !goesOn(r.BeforeNS, r.TimeNS) {
			return noTime(fm.kind, "t_before_ns", r.BeforeNS, "t_ns", r.TimeNS)
		}
	case *record.GPM:
		gpu = r.GPU
		if !goesOn(r.StartNS, r.TimeNS) {
			return noTime(fm.kind, "t_start_ns", r.StartNS, "t_ns", r.TimeNS)
		}
	case *record.Process:
		gpu = r.GPU
		if !goesOn(r.StartNS, r.TimeNS) {
			return noTime(fm.kind, "t_start_ns", r.StartNS, "t_ns", r.TimeNS)
		}
	case *record.Event:
		return f.finishEvent(fm, seen)
	case *record.Header:
		if r.Schema != record.Schema {
			return &fault{
				msg:  fmt.Sprintf("schema %q is not %q", r.Schema, record.Schema),
				hint: "read it with a build that knows this schema",
			}
		}
	}
	if gpu < 0 {
		return &fault{msg: fmt.Sprintf("%s of gpu %d", fm.kind, gpu), hint: "GPUs are counted from 0"}
	}
	return nil
}

func (f *forms) finishEvent(fm *form, seen uint64) *fault {
	e := &f.event
	start, end := seen&f.start != 0, seen&f.stop != 0
	wall := e.StartUnixNS.OK && e.EndUnixNS.OK
	if !(start && end) && wall {
		e.StartNS, e.EndNS = 0, 0 // one end alone says nothing
		start, end = true, true
	}
	switch {
	case !start:
		return &fault{msg: "event without t_start_ns", hint: "t_start_unix_ns will do, with t_end_unix_ns"}
	case !end:
		return &fault{msg: "event without t_end_ns", hint: "t_end_unix_ns will do, with t_start_unix_ns"}
	case !goesOn(e.StartNS, e.EndNS):
		return noTime(fm.kind, "t_start_ns", e.StartNS, "t_end_ns", e.EndNS)
	case wall && !goesOn(e.StartUnixNS.V, e.EndUnixNS.V):
		return noTime(fm.kind, "t_start_unix_ns", e.StartUnixNS.V, "t_end_unix_ns", e.EndUnixNS.V)
	}
	if seen&fm.marks != 0 {
		e.Energy = &f.energy
	}
	return nil
}

// goesOn says that a time's end is not before its start, and that its length can be told
// in ns, as that of 292 years can.
func goesOn(start, end int64) bool { return end >= start && end-start >= 0 }

// noTime is what is wrong with a time that does not go on.
func noTime(kind record.Kind, from string, start int64, to string, end int64) *fault {
	if end >= start {
		return &fault{
			msg:  fmt.Sprintf("%s lasts for 292 years and more: %s %d, %s %d", kind, from, start, to, end),
			hint: "are both times in ns, and was one of them left at an extreme?",
		}
	}
	return &fault{
		msg:  fmt.Sprintf("%s ends before it starts: %s %d, %s %d", kind, from, start, to, end),
		hint: "were both times taken from the same monotonic clock?",
	}
}

// guess is the kind of a record that does not name it, from the names of its
// fields; empty when there is no telling.
func guess(has func(name string) bool) record.Kind {
	some := func(names ...string) bool {
		for _, name := range names {
			if has(name) {
				return true
			}
		}
		return false
	}
	switch {
	case some("t_start_ns", "t_start_unix_ns"):
		if has("pid") && has("sm_util") {
			return record.KindProcess
		}
		if some("graphics_util", "sm_util", "tensor_util", "dram_bw_util") {
			return record.KindGPM
		}
		return record.KindEvent
	case some("energy_mj"):
		return record.KindCounter
	case has("t_ns") && some("power_w", "power_instant_w", "power_average_w", "read_ok"):
		return record.KindSample
	}
	return ""
}

// alias is this project's name of a field that recordings without a record
// column call otherwise.
func alias(kind record.Kind, name string) string {
	switch {
	case kind == record.KindCounter && name == "t_after_ns",
		kind == record.KindGPM && name == "t_end_ns":
		return "t_ns"
	}
	return name
}

// text is string(b), a value of the field.
func (f *forms) text(fd *field, b []byte) string {
	if fd.own {
		return string(b)
	}
	return f.intern(b)
}

// intern is string(b). Names that come again and again (phases, models, error
// names) are allocated once; the table does not grow without bound.
func (f *forms) intern(b []byte) string {
	if s, ok := f.interned[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(f.interned) < 1024 && len(s) <= 64 {
		f.interned[s] = s
	}
	return s
}

// internText is intern for a string that stands in a reader's buffer.
func (f *forms) internText(b string) string {
	if s, ok := f.interned[b]; ok {
		return s
	}
	return f.intern([]byte(b))
}
