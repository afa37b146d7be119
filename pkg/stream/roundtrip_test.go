package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"joulepipe/pkg/record"
)

// random makes records of every kind with any of their fields absent.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 1))} }

var words = []string{
	"decode", "prefill", "NVML_ERROR_GPU_IS_LOST", "a,b", `say "hi"`, "two\nlines", "cr\rlf\r\n", "tab\t", "ünï", "日本語", "😀",
	"\\back", "</script>&", "\u2028", "0", "1.5", "nan", "null", " space ", "record", "{}", "[1]", "\x00", "'", "#", ";",
}

func (r random) word() string { return words[r.IntN(len(words))] }

func (r random) int64() int64 {
	switch r.IntN(6) {
	case 0:
		return math.MaxInt64
	case 1:
		return math.MinInt64
	case 2:
		return r.Int64N(200) - 100
	case 3:
		return 0
	}
	return r.Int64()
}

func (r random) float() float64 {
	switch r.IntN(8) {
	case 0:
		return 0
	case 1:
		return math.Copysign(0, -1)
	case 2:
		return float64(r.IntN(1_000_000)) / 1000
	case 3:
		return -float64(r.IntN(1_000_000)) / 1000
	case 4:
		return float64(r.IntN(1000))
	case 5:
		return r.ExpFloat64() * math.Pow(10, float64(r.IntN(600)-300))
	case 6:
		return math.SmallestNonzeroFloat64
	}
	return r.NormFloat64()
}

// value is JSON as it can stand in a further field.
func (r random) value() json.RawMessage {
	switch r.IntN(6) {
	case 0:
		return json.RawMessage(strconv.FormatInt(r.int64(), 10))
	case 1:
		return json.RawMessage(`{"a":[1,2,{"b":null}],"c":"}]\""}`)
	case 2:
		return json.RawMessage(`null`)
	case 3:
		return json.RawMessage(`123456789012345678901234567890.5e10`)
	case 4:
		return json.RawMessage(`[]`)
	}
	s, _ := json.Marshal(r.word())
	return s
}

func (r random) extra() (extra []record.Field) {
	for i := range r.IntN(4) {
		extra = append(extra, record.Field{Name: fmt.Sprint([]string{"x", "ключ", "a b", `q"`}[i], r.IntN(9)), Value: r.value()})
	}
	return extra
}

// fill sets every field of the struct that v is to something or leaves it.
func (r random) fill(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if v.Type().Field(i).Tag.Get("json") == "-" {
			continue
		}
		switch p := f.Addr().Interface().(type) {
		case *record.Opt[int64]:
			if r.IntN(2) > 0 {
				*p = record.Some(r.int64())
			}
		case *record.Opt[uint64]:
			if r.IntN(2) > 0 {
				*p = record.Some(r.Uint64())
			}
		case *record.Opt[float64]:
			if r.IntN(2) > 0 {
				*p = record.Some(r.float())
			}
		case *record.Opt[bool]:
			if r.IntN(2) > 0 {
				*p = record.Some(r.IntN(2) > 0)
			}
		case *record.Opt[int]:
			if r.IntN(2) > 0 {
				*p = record.Some(r.IntN(100))
			}
		case *int64:
			*p = r.int64()
		case *int:
			*p = r.IntN(1000)
		case *float64:
			*p = r.float()
		case *bool:
			*p = r.IntN(2) > 0
		case *string:
			if r.IntN(2) > 0 {
				*p = r.word()
			}
		case *[]int:
			for range r.IntN(4) {
				*p = append(*p, r.IntN(8))
			}
		case *map[string]any:
			if r.IntN(2) > 0 {
				*p = map[string]any{"period": "50ms", "n": 3.5, "deep": map[string]any{"x": []any{1.0, nil}}}
			}
		default:
			r.deep(f)
		}
	}
}

func (r random) deep(f reflect.Value) {
	if r.IntN(3) == 0 {
		return
	}
	switch f.Kind() {
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
		r.fill(f.Elem())
	case reflect.Struct:
		r.fill(f)
	case reflect.Slice:
		n := 1 + r.IntN(3)
		f.Set(reflect.MakeSlice(f.Type(), n, n))
		for i := range n {
			if e := f.Index(i); e.Kind() == reflect.String {
				e.SetString(r.word())
			} else {
				r.fill(e)
			}
		}
	case reflect.Map:
		f.Set(reflect.MakeMap(f.Type()))
		for range 1 + r.IntN(2) {
			e := reflect.New(f.Type().Elem()).Elem()
			switch e.Kind() {
			case reflect.String:
				e.SetString(r.word())
			case reflect.Int, reflect.Int64:
				e.SetInt(r.Int64N(1000))
			case reflect.Bool:
				e.SetBool(r.IntN(2) > 0)
			default:
				r.fill(e)
			}
			f.SetMapIndex(reflect.ValueOf(r.word()), e)
		}
	default:
		panic(f.Type())
	}
}

// goOn is two times as the beginning and the end of one that is told in ns.
func goOn(a, b int64) (start, end int64) {
	start, end = min(a, b), max(a, b)
	if end-start < 0 {
		end = start + math.MaxInt64
	}
	return start, end
}

// record is of any kind but header and end.
func (r random) record() record.Record {
	all := []record.Record{
		&record.Sample{}, &record.Power{}, &record.Counter{}, &record.GPM{}, &record.Process{},
		&record.Event{}, &record.Event{}, &record.Marker{}, &record.Soak{}, &record.Summary{}, &record.Agreement{},
	}
	rec := all[r.IntN(len(all))]
	r.fill(reflect.ValueOf(rec).Elem())
	switch rec := rec.(type) {
	case *record.Counter:
		rec.BeforeNS, rec.TimeNS = goOn(rec.BeforeNS, rec.TimeNS)
	case *record.GPM:
		rec.StartNS, rec.TimeNS = goOn(rec.StartNS, rec.TimeNS)
	case *record.Process:
		rec.StartNS, rec.TimeNS = goOn(rec.StartNS, rec.TimeNS)
	case *record.Event:
		rec.StartNS, rec.EndNS = goOn(rec.StartNS, rec.EndNS)
		if rec.StartUnixNS.OK {
			rec.StartUnixNS.V, rec.EndUnixNS.V = goOn(rec.StartUnixNS.V, rec.EndUnixNS.V)
			rec.EndUnixNS.OK = true
		}
		rec.Extra = r.extra()
		if r.IntN(2) > 0 {
			rec.Energy = new(record.Energy)
			r.fill(reflect.ValueOf(rec.Energy).Elem())
		} else if r.IntN(4) == 0 {
			rec.Extra = append(rec.Extra, record.Field{Name: "throttled", Value: r.value()})
		}
	case *record.Marker:
		rec.Extra = r.extra()
	}
	return rec
}

func (r random) header() *record.Header {
	h := new(record.Header)
	r.fill(reflect.ValueOf(h).Elem())
	h.Schema = record.Schema
	return h
}

func (r random) end() *record.End {
	e := new(record.End)
	r.fill(reflect.ValueOf(e).Elem())
	return e
}

// stream is a header, n records and an end.
func (r random) stream(n int) []record.Record {
	recs := []record.Record{r.header()}
	for range n {
		recs = append(recs, r.record())
	}
	return append(recs, r.end())
}

// kept copies a record that belongs to a reader.
func kept(r record.Record) record.Record {
	v := reflect.New(reflect.TypeOf(r).Elem())
	v.Elem().Set(reflect.ValueOf(r).Elem())
	switch r := v.Interface().(type) {
	case *record.Event:
		if r.Energy != nil {
			energy := *r.Energy
			r.Energy = &energy
		}
		r.Extra = keptFields(r.Extra)
	case *record.Marker:
		r.Extra = keptFields(r.Extra)
	}
	return v.Interface().(record.Record)
}

func keptFields(fields []record.Field) []record.Field {
	fields = slices.Clone(fields)
	for i := range fields {
		fields[i].Value = bytes.Clone(fields[i].Value)
	}
	return fields
}

func readAll(r Reader) (recs []record.Record, err error) {
	for r.Scan() {
		recs = append(recs, kept(r.Record()))
	}
	return recs, r.Err()
}

func encode(tb testing.TB, f Format, c Compression, recs ...record.Record) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, f, c)
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			tb.Fatalf("write %+v: %v", r, err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// equal compares records deeply, and the signs of their zeros.
func equal(a, b record.Record) bool { return reflect.DeepEqual(a, b) && show(a) == show(b) }

// show is a record as JSON.
func show(r record.Record) string {
	b, err := json.Marshal(r)
	if e, ok := r.(*record.Event); ok {
		more, _ := json.Marshal([]any{e.Energy, e.Extra})
		b = append(b, more...)
	}
	return fmt.Sprintf("%T %s %v", r, b, err)
}

var (
	formats      = []Format{NDJSON, CSV, Arrow}
	compressions = []Compression{None, Zstd}
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		for _, c := range compressions {
			t.Run(string(f)+"/"+string(c), func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(30) {
					want := newRandom(seed).stream(100)
					got, err := readAll(NewReader(bytes.NewReader(encode(t, f, c, want...)), "t"))
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					compare(t, got, want)
				}
			})
		}
	}
}

func compare(t *testing.T, got, want []record.Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !equal(got[i], want[i]) {
			t.Fatalf("record %d:\n got %.600s\nwant %.600s", i, show(got[i]), show(want[i]))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d records, want %d", len(got), len(want))
	}
}
