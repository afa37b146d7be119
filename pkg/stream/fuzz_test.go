package stream

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// seeds are the inputs that each fuzz target starts from. TestSeeds sees to it
// that none is without.
var seeds = map[string]func(testing.TB) [][]byte{
	"FuzzNDJSON": func(tb testing.TB) [][]byte { return ndjsonSeeds(tb) },
	"FuzzCSV": func(tb testing.TB) [][]byte {
		return [][]byte{
			encode(tb, CSV, None, newRandom(1).stream(3)...),
			[]byte("t_ns,power_w,temp_c,read_ok\n1,83.621,37.0,True\n2,,,False\n"),
			[]byte("t_before_ns,t_after_ns,energy_mj\n1,2,3\n"),
			[]byte("t_start_ns,t_ns,pid,sm_util,name\n1,2,4711,63,nvload\n2,3,,,\n"),
			[]byte("record,t_start_ns,t_end_ns,pid,name\nevent,1,2,7,x\n"),
			[]byte("timestamp, index, power.draw [W], pstate\n2026/01/02 03:04:05.678, 0, 126.96 W, P0\n2026/01/02 03:04:05.778, 0, [N/A], P8\n"),
			[]byte("t_start_ns,t_end_ns,\"no\"\"te\"\n1,2,\"a\nb\"\n\"1\",2,\"\n"),
			[]byte("t_start_ns,t_end_ns,\xc3x,phase\n1,2,\xff,\xfe\n"),
			[]byte("record,t_ns,json\nmarker,1,\"{\"\"name\"\":\"\"x\"\"}\"\nrecord,json,t_ns\nend,{},\n"),
		}
	},
	"FuzzArrow": func(tb testing.TB) [][]byte {
		whole := encode(tb, Arrow, None, newRandom(1).stream(3)...)
		columns := arrowTable(tb, 2, 997, func(i int) (float64, bool) { return float64(i), i != 400 })
		return [][]byte{whole, threeColumnsArrow(tb)[:900], whole[:len(whole)/2], append(whole, whole...), columns}
	},
	"FuzzSniff": func(tb testing.TB) [][]byte {
		recs := newRandom(1).stream(2)
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write(encode(tb, CSV, None, recs...))
		w.Close()
		return [][]byte{
			nil, []byte("\ufeff \n{"), []byte("PAR1"), []byte("ARROW1"), []byte("[{}]"), []byte("\xff\xff\xff\xff"), []byte("\x28\xb5\x2f\xfd"),
			packed.Bytes(), encode(tb, NDJSON, Zstd, recs...), encode(tb, Arrow, Zstd, recs...), encode(tb, CSV, None, recs...),
		}
	},
	"FuzzFloat": func(testing.TB) [][]byte {
		return [][]byte{
			[]byte("83.621"), []byte("-0"), []byte("0.1"), []byte("123456789.123456789"), []byte("9007199254740993"),
			[]byte("0.00000000000000000000001"), []byte("1e5"), []byte("01"), []byte("1."), []byte("999999999999.999"),
		}
	},
}

func ndjsonSeeds(tb testing.TB) (lines [][]byte) {
	for seed := range uint64(3) {
		lines = append(lines, bytes.Split(encode(tb, NDJSON, None, newRandom(seed).stream(20)...), []byte("\n"))...)
	}
	for _, s := range []string{
		`{"record":"sample","t_ns":1,"gpu":0,"power_w":83.621,"read_ok":true}`,
		`{"record":"sample","t_ns":1,"gpu":0,"temp_c":37.0,"util_gpu":3.0,"read_ok":false,"error":"\u0041"}`,
		`{"record": "power", "power_w": 1e3, "gpu": 1, "t_ns": 2, "x": NaN}`,
		`{"record":"counter","t_before_ns":1,"t_ns":2,"gpu":0,"energy_mj":9223372036854775807}`,
		`{"record":"process","t_start_ns":1,"t_ns":2,"gpu":0,"pid":4711,"sm_util":63,"mem_util":20,"name":"nvload","vram_used_mb":1024.5}`,
		`{"record":"process","t_start_ns":1,"t_ns":2,"gpu":0,"error":"NVML_ERROR_UNKNOWN"}`,
		`{"t_start_ns": 1, "t_ns": 2.0, "pid": 4711, "sm_util": 63, "name": 5}`,
		`{"event_id": "a", "t_start_ns": 1, "t_end_ns": 2, "energy_joules": Infinity, "energy_quality": "good", "z": [1]}`,
		`{"t_start_unix_ns":1,"t_end_unix_ns":2,"throttled":null,"a":1,"a":2}`,
		`{"record":"marker","name":"start_experiment","t_ns":1,"x":{"y":"}"}}`,
		`{"record":"sample","t_ns":1,"t_ns":2,"gpu":-0,"power_w":-0.000,"read_ok":true}`,
	} {
		lines = append(lines, []byte(s))
	}
	return lines
}

func addSeeds(f *testing.F) {
	for _, seed := range seeds[f.Name()](f) {
		f.Add(seed)
	}
}

// TestSeeds finds every fuzz target of the package, and asks for its seeds.
func TestSeeds(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "fuzz_test.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
			continue
		}
		targets++
		if make := seeds[fn.Name.Name]; make == nil || len(make(t)) == 0 {
			t.Errorf("%s has no seeds", fn.Name.Name)
		}
	}
	if targets != len(seeds) {
		t.Errorf("%d fuzz targets, seeds for %d", targets, len(seeds))
	}
}

// FuzzNDJSON: what parses is written as a line that parses to the same record;
// what the quick decoder takes, encoding/json and the thorough decoder take for
// the same; and a line read by the shape of another is what parsing makes of it.
func FuzzNDJSON(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\r\n") {
			return
		}
		twice := append(append(bytes.Repeat(line, 1), '\n'), line...)
		sameInBatches(t, append(twice, '\n'), asItIs)
		quick := newObjects()
		thorough := newForms()
		fm, ok := quick.canonical(line)
		parsed, bad := thorough.parse(line)
		var rec record.Record
		if parsed != nil {
			rec = parsed.rec
		}
		if bad == nil && rec != nil {
			forms := newForms()
			var like shape
			like.learn(forms.of[rec.Kind()], line, thorough.pairs)
			shaped(t, forms, &like, line)
			shaped(t, forms, &like, counted(line))
		}
		if ok {
			if bad != nil {
				t.Fatalf("the thorough decoder: %v", bad.msg)
			}
			if !equal(fm.rec, rec) {
				t.Fatalf("quick    %s\nthorough %s", show(fm.rec), show(rec))
			}
			want := reflect.New(reflect.TypeOf(rec).Elem())
			if err := json.Unmarshal(line, want.Interface()); err != nil {
				t.Fatalf("encoding/json: %v", err)
			}
			if e, ok := want.Interface().(*record.Event); ok && rec.(*record.Event).Energy != nil {
				e.Energy = new(record.Energy)
				if err := json.Unmarshal(line, e.Energy); err != nil {
					t.Fatalf("encoding/json: %v", err)
				}
			}
			// A sample that does not say so is right when it has a power.
			if s, ok := want.Interface().(*record.Sample); ok && !bytes.Contains(line, []byte(`"read_ok"`)) {
				s.ReadOK = rec.(*record.Sample).ReadOK
			}
			if !equal(rec, want.Interface().(record.Record)) {
				t.Fatalf("quick         %s\nencoding/json %s", show(rec), show(want.Interface().(record.Record)))
			}
		}
		if bad == nil && rec != nil {
			identity(t, rec)
		}
	})
}

// shaped reads a line by a shape, and thoroughly.
func shaped(t *testing.T, f *forms, like *shape, line []byte) {
	t.Helper()
	fm, ok := like.read(f, line)
	if !ok {
		return
	}
	want, bad := newForms().parse(line)
	if bad != nil {
		t.Fatalf("%s: by its shape %s, else %s", line, show(fm.rec), bad.msg)
	}
	if !equal(fm.rec, want.rec) {
		t.Fatalf("%s:\nby its shape %s\nthorough     %s", line, show(fm.rec), show(want.rec))
	}
}

// counted is the line with every digit one higher.
func counted(line []byte) []byte {
	line = bytes.Clone(line)
	for i, c := range line {
		if c >= '0' && c <= '9' {
			line[i] = '0' + (c-'0'+1)%10
		}
	}
	return line
}

// identity writes a record that was read and reads it again.
func identity(t *testing.T, rec record.Record) {
	t.Helper()
	first := kept(rec)
	for _, f := range formats {
		var b bytes.Buffer
		w, err := NewWriter(&b, f, None)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(rec); err != nil {
			// GPU numbers beyond 32 bits, and names that a line has twice.
			if f == Arrow && strings.Contains(err.Error(), "32 bits") {
				continue
			}
			t.Fatalf("%s: %v", f, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(NewReader(&b, "t"))
		var cut *TruncatedError
		if err != nil && !(errors.As(err, &cut) && rec.Kind() == record.KindHeader) {
			t.Fatalf("%s: %v", f, err)
		}
		if len(got) != 1 || !same(got[0], first) {
			t.Fatalf("%s:\n got %v\nwant %s", f, got, show(first))
		}
	}
}

// same is equal, but for what JSON does not tell apart: empty and none.
func same(a, b record.Record) bool { return equal(a, b) || show(a) == show(b) }

// drain reads all of a stream of which nothing is known, and asks that it ends
// in order.
func drain(t *testing.T, data []byte) {
	t.Helper()
	r := NewReader(bytes.NewReader(data), "t")
	n := 0
	for r.Scan() {
		if r.Record() == nil {
			t.Fatal("no record")
		}
		if n++; n > 100*len(data)+100 {
			t.Fatalf("%d records from %d bytes", n, len(data))
		}
	}
	if r.Scan() || r.Record() != nil {
		t.Fatal("goes on after its end")
	}
	sameInBatches(t, data, asItIs)
}

func FuzzCSV(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data)
		d := newCSVReader(bytes.NewReader(data))
		for range 20 {
			rec, err := d.next()
			if err != nil {
				break
			}
			if rec.Kind() != record.KindSyntax {
				identity(t, rec)
			}
		}
	})
}

func FuzzArrow(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, append([]byte{0xff, 0xff, 0xff, 0xff}, data...))
		drain(t, data)
	})
}

// FuzzSniff: any beginning is recognised or refused, and in pieces as whole.
func FuzzSniff(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data)
		_, _, a, errA := open(bytes.NewReader(data))
		_, _, b, errB := open(&pieces{data})
		if a != b || (errA == nil) != (errB == nil) {
			t.Fatalf("whole: %v, %v; in pieces: %v, %v", a, errA, b, errB)
		}
	})
}

// pieces reads its bytes one at a time.
type pieces struct{ data []byte }

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:1])
	p.data = p.data[n:]
	return n, nil
}

// FuzzFloat: the quick paths read and write what strconv does.
func FuzzFloat(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, p := scanFloat(b, 0)
		if p < 0 {
			return
		}
		want, err := strconv.ParseFloat(string(b[:p]), 64)
		if err != nil || !same64(v, want) {
			t.Fatalf("%s: got %v, want %v, %v", b[:p], v, want, err)
		}
		text := appendFloat(nil, v)
		back, err := strconv.ParseFloat(string(text), 64)
		if err != nil || !same64(v, back) {
			t.Fatalf("%v is written %s: %v", v, text, err)
		}
		if shortest := strconv.AppendFloat(nil, v, 'f', -1, 64); len(text) > len(shortest) {
			t.Fatalf("%s is written %s", shortest, text)
		}
		if !json.Valid(text) {
			t.Fatalf("%s is not JSON", text)
		}
	})
}

func same64(a, b float64) bool { return a == b && 1/a == 1/b }
