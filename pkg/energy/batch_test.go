package energy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// channelsTrace is every channel of two GPUs, with holes, failures, throttling
// and, where disorder is not 0, lines that far from their place.
func channelsTrace(ticks, disorder int) string {
	dice := rand.New(rand.NewPCG(7, 7))
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for k := range ticks {
		if k%900 > 850 {
			continue
		}
		t, s := int64(k)*20e6, float64(k)/50
		for g := range 2 {
			w := 300 + 200*math.Sin(s/3+float64(g)) + dice.Float64()
			if g == 0 || k%7 == 0 {
				say(`{"record":"power","t_ns":%d,"gpu":%d,"power_w":%.3f}`, t, g, w)
			}
			if k%50 == 49 {
				say(`{"record":"process","t_start_ns":%d,"t_ns":%d,"gpu":%d,"pid":%d,"sm_util":%d}`, t-98e7, t+1e6, g, 7+k/50%2, k%101)
			}
			switch {
			case k%5 != 0:
			case k%85 == 0:
				say(`{"record":"sample","t_ns":%d,"gpu":%d,"read_ok":false,"error":"ERROR_TIMEOUT"}`, t+5e4, g)
			default:
				say(`{"record":"sample","t_ns":%d,"gpu":%d,"power_w":%.3f,"power_instant_w":%.3f,"power_average_w":%.3f,"sm_clock_mhz":%d,"throttle_reasons":%d,"read_ok":true}`, t+5e4, g, w, w+1, w-2, 1980-k%50, k/400%2*4)
				say(`{"record":"counter","t_before_ns":%d,"t_ns":%d,"gpu":%d,"energy_mj":%.0f}`, t+6e4, t+9e4, g, 300e3*s-600e3*math.Cos(s/3+float64(g)))
			}
		}
	}
	for i := 0; disorder > 0 && i+disorder < len(lines); i += disorder {
		part := lines[i : i+disorder]
		dice.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
	}
	return strings.Join(lines, "\n") + "\n"
}

func channelsEvents(n int, seconds float64) string {
	dice := rand.New(rand.NewPCG(8, 8))
	var b strings.Builder
	for i := range n {
		from := int64((dice.Float64()*seconds - 0.5) * 1e9)
		if i%3 == 0 {
			from = from / 100e6 * 100e6 // on a reading
		}
		if i%6 == 0 {
			from += 5e4
		}
		fmt.Fprintf(&b, `{"record":"event","event_id":"e%d","phase":"decode","t_start_ns":%d,"t_end_ns":%d,"gpus":[%d],"output_tokens":%d,"pid":%d}`+"\n",
			i, from, from+int64(math.Pow(dice.Float64(), 4)*8e9), i%2, i, i%4/2*(7+i%3))
	}
	return b.String()
}

// singly is a reader that knows no batches.
type singly struct{ stream.Reader }

// TestBatchesComeToTheSame attributes a trace record by record and in batches.
func TestBatchesComeToTheSame(t *testing.T) {
	t.Parallel()
	const ticks = 3000
	events := channelsEvents(300, ticks/50)
	for _, disorder := range []int{0, 12} {
		trace := channelsTrace(ticks, disorder)
		for _, method := range energy.Methods() {
			join := func(reader func(string) stream.Reader) string {
				var out bytes.Buffer
				a, err := energy.New(energy.Options{Method: method, Idle: map[int]float64{0: 250}}, func(e *record.Event) error {
					b, err := json.Marshal(e.Energy)
					fmt.Fprintf(&out, "%s %s\n", e.ID, b)
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := a.Join(reader(trace), reader(events)); err != nil {
					t.Fatal(err)
				}
				fmt.Fprintln(&out, a.Disordered())
				return out.String()
			}
			want := strings.Split(join(func(s string) stream.Reader { return singly{stream.NewReader(strings.NewReader(s), "t")} }), "\n")
			got := strings.Split(join(func(s string) stream.Reader { return stream.NewReader(strings.NewReader(s), "t") }), "\n")
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("%s, disorder %d:\n got %s\nwant %s", method, disorder, got[i], want[i])
					break
				}
			}
			if len(got) != len(want) || len(want) < 300 {
				t.Errorf("%s: %d lines, want %d", method, len(got), len(want))
			}
		}
	}
}

// TestEventsShareNothing attributes more events than are read ahead, many at the same
// time, and finds each as it was, with its own energy.
func TestEventsShareNothing(t *testing.T) {
	t.Parallel()
	const n, ms = 20_000, int64(1e6)
	var trace, events strings.Builder
	for i := range n + 100 {
		fmt.Fprintf(&trace, "{\"t_ns\":%d,\"power_w\":%d}\n", int64(i)*ms, 100+i%7)
	}
	line := func(i int) string {
		from := int64(i/16) * 16 * ms // sixteen at a time
		return fmt.Sprintf(`{"record":"event","event_id":"e%d","phase":"p%d","t_start_ns":%d,"t_end_ns":%d,"request_id":"r%d","output_tokens":%d`, i, i%5, from, from+int64(2+i%40)*ms, i, 1+i%11)
	}
	tail := func(i int) string {
		if i%3 == 0 {
			return fmt.Sprintf(`,"note":[%d]}`, i)
		}
		return "}"
	}
	for i := range n {
		fmt.Fprintln(&events, line(i)+tail(i))
	}
	seen := map[string]bool{}
	a, err := energy.New(energy.Options{Method: energy.TR122}, func(e *record.Event) error {
		var i int
		if _, err := fmt.Sscanf(e.ID, "e%d", &i); err != nil || seen[e.ID] {
			return fmt.Errorf("%q: %v, seen before: %v", e.ID, err, seen[e.ID])
		}
		seen[e.ID] = true
		var out bytes.Buffer
		w, err := stream.NewWriter(&out, stream.NDJSON, stream.None)
		if err != nil {
			return err
		}
		if err := errors.Join(w.Write(e), w.Close()); err != nil {
			return err
		}
		got := out.String()
		if !strings.HasPrefix(got, line(i)+`,"method":"tr122"`) || !strings.HasSuffix(got, tail(i)+"\n") {
			return fmt.Errorf("event %d came out as %s", i, got)
		}
		if want := int64(3 + i%40); e.Energy.PowerSamples != want || !e.Energy.JoulesPerToken.OK || e.Energy.Reasons != nil {
			return fmt.Errorf("event %d of %d readings has the energy %+v", i, want, e.Energy)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Join(stream.NewReader(strings.NewReader(trace.String()), "t"), stream.NewReader(strings.NewReader(events.String()), "e")); err != nil {
		t.Fatal(err)
	}
	if len(seen) != n {
		t.Errorf("%d events came out of %d", len(seen), n)
	}
}
