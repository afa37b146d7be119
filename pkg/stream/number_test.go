package stream

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

func TestScanInt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		v    int64
		end  int // position after; negative: refused
	}{
		{"0", 0, 1}, {"-0", 0, 2}, {"7,", 7, 1}, {"-12}", -12, 3}, {"12345678", 12345678, 8}, {"-123456789x", -123456789, 10},
		{"31034856841,", 31034856841, 11}, {"1764000000000000001", 1764000000000000001, 19}, {"1234567x", 1234567, 7},
		{"9223372036854775807", math.MaxInt64, 19}, {"9223372036854775808", 0, -1}, {"-9223372036854775808", 0, -1},
		{"12345678901234567890", 0, -1}, {"99999999999999999999999999", 0, -1}, {"", 0, -1}, {"-", 0, -1}, {"00000000", 0, -1}, {"01", 0, -1}, {"+1", 0, -1},
		{"x", 0, -1}, {"1.5", 1, 1}, {"1234/678", 1234, 4}, {"1234:678", 1234, 4}, {"12345\xb078", 12345, 5},
	} {
		if v, end := scanInt([]byte(tt.text), 0); v != tt.v || end != tt.end {
			t.Errorf("scanInt(%q) = %d, %d, want %d, %d", tt.text, v, end, tt.v, tt.end)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		want := r.Int64() >> r.IntN(63)
		text := strconv.FormatInt(want, 10)
		if v, end := scanInt([]byte("["+text+","), 1); v != want || end != 1+len(text) {
			t.Fatalf("scanInt(%q) = %d, %d", text, v, end)
		}
	}
}

// TestFloats reads and writes random decimals as strconv does.
func TestFloats(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		text := strconv.FormatUint(r.Uint64()>>r.IntN(64), 10)
		if n := r.IntN(30); n > 0 {
			text += fmt.Sprintf(".%0*d", n, r.Uint64()>>r.IntN(64))
		}
		if r.IntN(2) > 0 {
			text = "-" + text
		}
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		v, end := scanFloat([]byte(text+","), 0)
		if end != len(text) || !same64(v, want) {
			t.Fatalf("scanFloat(%q) = %v, %d, want %v", text, v, end, want)
		}
		short, shortest := appendFloat(nil, v), strconv.FormatFloat(v, 'g', -1, 64)
		if back, err := strconv.ParseFloat(string(short), 64); err != nil || !same64(back, v) {
			t.Fatalf("%s is written %s", shortest, short)
		}
		if f := strconv.FormatFloat(v, 'f', -1, 64); len(short) > len(f) {
			t.Fatalf("%s is written %s", f, short)
		}
	}
	for _, tt := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "-0"}, {83.621, "83.621"}, {-83.6, "-83.6"}, {615.0625, "615.0625"}, {0.005000123, "0.005000123"},
		{700, "700"}, {0.1, "0.1"}, {1e15, "1000000000000000"}, {1e21, "1e+21"}, {1e-7, "0.0000001"}, {1e-10, "1e-10"}, {1. / 3, "0.3333333333333333"},
		{999999999999.999, "999999999999.999"}, {math.Nextafter(0.3, 1), "0.30000000000000004"},
	} {
		if got := string(appendFloat(nil, tt.v)); got != tt.want {
			t.Errorf("appendFloat(%g) = %s, want %s", tt.v, got, tt.want)
		}
	}
}

// endless is a stream that does not end, so that what is counted is the records.
type endless struct {
	line []byte
	p    int
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) {
		k := copy(b[n:], e.line[e.p:])
		e.p = (e.p + k) % len(e.line)
		n += k
	}
	return n, nil
}

// TestAllocations: a sample costs none, in either direction.
func TestAllocations(t *testing.T) {
	one := fullSample(1)
	one.Error = "NVML_ERROR_UNKNOWN"
	for _, f := range formats {
		w, err := NewWriter(discard{}, f, None)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 * batchRows { // and let the buffers grow
			if err := w.Write(one); err != nil {
				t.Fatal(err)
			}
		}
		perBatch := 0.0
		if f == Arrow {
			perBatch = 0.1 // arrays of a batch, spread over its rows
		}
		write := func() {
			if err := w.Write(one); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(2*batchRows, write); n > perBatch {
			t.Errorf("%s: %v allocations to write a sample", f, n)
		}
	}
	for _, line := range []string{
		string(encode(t, NDJSON, None, one)),
		`{"t_ns": 31034856841, "power_w": 83.62100000000001, "gpu": 3, "temp_c": 37.0}` + "\n",
		`{"record": "sample", "power_w": 1, "t_ns": 31034856841}` + "\n",
		string(encode(t, CSV, None, one)),
		"t_ns,power_w,read_ok\n1,2.5,True\n",
	} {
		heading, line, _ := strings.Cut(line, "\n")
		if line == "" {
			heading, line = "\n", heading
		}
		r := NewReader(io.MultiReader(strings.NewReader(heading+"\n"), &endless{line: []byte(line + "\n")}), "t")
		read := func() {
			if !r.Scan() {
				t.Fatal(r.Err())
			}
			if s, ok := r.Record().(*record.Sample); !ok || s.TimeNS == 0 || !s.ReadOK {
				t.Fatalf("%+v", r.Record())
			}
		}
		read()
		if n := testing.AllocsPerRun(10_000, read); n > 0 {
			t.Errorf("%v allocations to read %s", n, line)
		}
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
