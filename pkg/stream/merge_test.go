package stream

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	power := func(t int, gpu int) string {
		return fmt.Sprintf(`{"record":"power","t_ns":%d,"gpu":%d,"power_w":1}`+"\n", t, gpu)
	}
	const (
		header = `{"record":"header","schema":"joulepipe/1","tool":"nvpoll","t_ns":7,"unix_ns":8}` + "\n"
		end    = `{"record":"end","records":0}` + "\n"
		bad    = "{bad\n"
	)
	for _, tt := range []struct {
		name string
		in   []string
		want string // kinds, with time and gpu of powers
		err  string
	}{
		{"none", nil, "", ""},
		{"empty", []string{"", ""}, "", ""},
		{"one", []string{power(2, 0) + power(1, 0)}, "2/0 1/0", ""},
		{"by time, equal ones by stream", []string{power(1, 0) + power(3, 0) + power(5, 0), power(0, 1) + power(3, 1) + power(9, 1)},
			"0/1 1/0 3/0 3/1 5/0 9/1", ""},
		{"three", []string{power(3, 0), power(2, 1), power(1, 2)}, "1/2 2/1 3/0", ""},
		{"without a time", []string{header + power(1, 0) + power(9, 0) + end, header + power(2, 1) + end},
			"header header 1/0 2/1 end 9/0 end", ""},
		{"bad lines keep their place", []string{power(1, 0) + bad + power(5, 0), power(2, 1) + power(6, 1)},
			"1/0 syntax 2/1 5/0 6/1", ""},
		{"one is cut", []string{header + power(1, 0), power(2, 1)}, "header 1/0 2/1", "a: cut short after line 2: no end record"},
		{"both are", []string{header, header + power(2, 1)}, "header header 2/1",
			"a: cut short after line 1: no end record\nb: cut short after line 2: no end record"},
		{"one is no stream", []string{"\x00", power(2, 1)}, "2/1", `a:1: not a stream: begins with "\x00"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var readers []Reader
			for i, s := range tt.in {
				readers = append(readers, NewReader(strings.NewReader(s), string(rune('a'+i))))
			}
			m := Merge(readers...)
			var got []string
			for m.Scan() {
				if p, ok := m.Record().(*record.Power); ok {
					got = append(got, fmt.Sprintf("%d/%d", p.TimeNS, p.GPU))
				} else {
					got = append(got, string(m.Record().Kind()))
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
			if err := m.Err(); fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
				t.Errorf("error %v, want %s", err, tt.err)
			}
			var cut *TruncatedError
			if strings.Contains(tt.err, "cut short") && !errors.As(m.Err(), &cut) {
				t.Errorf("%v is no TruncatedError", m.Err())
			}
			if m.Scan() || m.Record() != nil {
				t.Error("goes on after its end")
			}
		})
	}
}

// TestMergeKeepsRecords: a record handed on is not overwritten by the reading
// ahead of the other streams.
func TestMergeKeepsRecords(t *testing.T) {
	t.Parallel()
	var readers []Reader
	for gpu := range 5 {
		var recs []record.Record
		for i := range 200 {
			recs = append(recs, &record.Sample{TimeNS: int64(5*i + gpu), GPU: gpu, PowerW: record.Some(float64(i))})
		}
		readers = append(readers, NewReader(bytes.NewReader(encode(t, NDJSON, None, recs...)), "t"))
	}
	m := Merge(readers...)
	n := 0
	for ; m.Scan(); n++ {
		s := m.Record().(*record.Sample)
		if s.TimeNS != int64(n) || s.GPU != n%5 || s.PowerW.V != float64(n/5) {
			t.Fatalf("record %d: %+v", n, s)
		}
	}
	if n != 1000 || m.Err() != nil {
		t.Errorf("%d records, %v", n, m.Err())
	}
}
