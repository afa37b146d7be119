package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// What the clocks do between two samples, and what the trace and the user are
// told of it.
func TestClockMoves(t *testing.T) {
	const s, ms = int64(1e9), int64(1e6)
	type look struct{ mono, up, wall int64 }
	start := look{100 * s, 5000 * s, 1_700_000_000 * s}
	after := func(mono, asleep, set int64) look {
		return look{start.mono + mono, start.up + mono + asleep, start.wall + mono + asleep + set}
	}
	for _, c := range []struct {
		name    string
		next    look
		markers []string
		said    string
	}{
		{"nothing", after(100*ms, 0, 0), nil, ""},
		{"a long wait", after(3600*s, 0, 0), nil, ""},
		{"a disciplined clock", after(3600*s, 0, 1800*ms), nil, ""},
		{"suspended", after(100*ms, 90*s, 0), []string{"suspend 90"}, "suspended for 1m30s"},
		{"set forward", after(100*ms, 0, 2*s), []string{"clock_set 2"}, "set by 2s"},
		{"set back", after(100*ms, 0, -50*ms), []string{"clock_set -0.05"}, "set by -50ms"},
		{"suspended, then set", after(100*ms, 90*s, -3*s), []string{"suspend 90", "clock_set -3"}, "set by -3s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, format := range []stream.Format{stream.NDJSON, stream.CSV, stream.Arrow} {
				var out, said bytes.Buffer
				w, err := stream.NewWriter(&out, format, stream.None)
				if err != nil {
					t.Fatal(err)
				}
				looks := []look{start, c.next, c.next}
				f := &feed{
					Writer: w,
					warn:   func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) },
					clocks: clocks{now: func() (int64, int64, int64) {
						l := looks[0]
						looks = looks[1:]
						return l.mono, l.up, l.wall
					}},
				}
				for i := range int64(3) {
					if err := f.Write(&record.Sample{TimeNS: 100*s + i*ms, ReadOK: true, PowerW: record.Some(79.0)}); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				var got []string
				samples := 0
				in := stream.NewReader(&out, string(format))
				for in.Scan() {
					switch r := in.Record().(type) {
					case *record.Sample:
						samples++
					case *record.Marker:
						got = append(got, fmt.Sprintf("%s %s", r.Name, r.Extra[0].Value))
						if r.TimeNS != c.next.mono || r.Extra[0].Name != "seconds" || samples != 1 {
							t.Errorf("%s: marker %+v after %d samples", format, r, samples)
						}
					default:
						t.Errorf("%s: %+v", format, r)
					}
				}
				if !slices.Equal(got, c.markers) || samples != 3 || f.records != int64(3+len(got)) {
					t.Errorf("%s: markers %v, %d samples, %d records counted; want %v", format, got, samples, f.records, c.markers)
				}
				if !strings.Contains(said.String(), c.said) || (said.Len() > 0) != (c.said != "") {
					t.Errorf("said %q, want %q", said.String(), c.said)
				}
			}
		})
	}
}

// A GPU is back when it was read, not when it fails in another way.
func TestLostIsSaidOnce(t *testing.T) {
	t.Parallel()
	var said []string
	w, err := stream.NewWriter(new(bytes.Buffer), stream.NDJSON, stream.None)
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{Writer: w, clocks: clocks{now: readClocks}, warn: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	for _, e := range []gpu.Error{"", gpu.ErrUnknown, gpu.ErrLost, gpu.ErrLost, gpu.ErrTimeout, gpu.ErrLost, "", gpu.ErrTimeout, ""} {
		if err := f.Write(&record.Sample{GPU: 3, ReadOK: e == "", Error: string(e)}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"GPU 3 is lost (NVML_ERROR_GPU_IS_LOST); its readings fail until it is back", "GPU 3 is back"}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
}
