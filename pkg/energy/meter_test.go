package energy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
)

// meter is the external power meter beside a board: energy up to each of its
// readings, each held until the next.
type meter struct {
	ns []int64
	j  []float64
}

func (m *meter) between(from, until int64) float64 {
	at := func(ns int64) float64 {
		i := sort.Search(len(m.ns), func(i int) bool { return m.ns[i] >= ns })
		i = min(max(i, 1), len(m.ns)-1)
		return m.j[i-1] + (m.j[i]-m.j[i-1])*float64(ns-m.ns[i-1])/float64(m.ns[i]-m.ns[i-1])
	}
	return at(until) - at(from)
}

// recording is what NVML showed of a board, with the meter beside it.
type recording struct {
	samples []record.Sample
	meter   meter
	toggles []int64 // when the load was switched
	on, end int64   // when it begins and where the recording ends
}

// external reads a board with an external meter. These recordings are not part
// of the project; without them the test is skipped.
func external(t *testing.T, name string) (r recording) {
	t.Helper()
	root := os.Getenv("JOULEPIPE_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir := filepath.Join(root, "external-meter", name)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no reference recordings; JOULEPIPE_DATA says where they are")
	}
	records(t, filepath.Join(dir, "nvml.csv.gz"), func(x record.Record) {
		if s, ok := x.(*record.Sample); ok {
			r.samples = append(r.samples, *s)
		}
	})
	toggles, err := os.ReadFile(filepath.Join(dir, "load_toggles.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(toggles))[1:] {
		var ns int64
		if _, err := fmt.Sscan(line, &ns); err != nil {
			t.Fatal(err)
		}
		r.toggles = append(r.toggles, ns)
	}
	r.on = r.toggles[0]
	last := 0.0
	records(t, filepath.Join(dir, "meter.csv.gz"), func(x record.Record) {
		s, ok := x.(*record.Sample)
		if !ok {
			return
		}
		j := 0.0
		if n := len(r.meter.ns); n > 0 {
			j = r.meter.j[n-1] + last*float64(s.TimeNS-r.meter.ns[n-1])/1e9
		}
		last = s.PowerW.V
		r.meter.ns, r.meter.j = append(r.meter.ns, s.TimeNS), append(r.meter.j, j)
	})
	r.end = min(r.samples[len(r.samples)-1].TimeNS, r.meter.ns[len(r.meter.ns)-1])
	return r
}

// windows attributes stretches of that length at random times from some slack
// after from on, which say nothing of when the load is switched; with begin
// every other run has one that begins with from.
func (r *recording) windows(t *testing.T, method string, s *sensor.Sensors, long, from, slack, until int64, begin bool, most float64, seed uint64) (got, want []float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range 25 {
		var events []*record.Event
		at := from
		if i%2 == 1 || !begin {
			at += slack + int64(rng.Float64()*5e8)
		}
		for ; at+long < until; at += long + int64(2e8+rng.Float64()*5e8) {
			events = append(events, &record.Event{ID: fmt.Sprint(at), Phase: "window", StartNS: at, EndNS: at + long})
		}
		a, err := energy.New(energy.Options{Method: method, Sensors: s}, func(e *record.Event) error {
			// Where the load is switched beside an edge unheard of, the interval
			// says so.
			if j, ok := e.Energy.Joules.Get(); ok && e.Energy.CI95J.Or(0) < most*j {
				got = append(got, j)
				want = append(want, r.meter.between(e.StartNS, e.EndNS))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.samples {
			for len(events) > 0 && events[0].StartNS <= r.samples[i].TimeNS {
				if err := a.Event(events[0]); err != nil {
					t.Fatal(err)
				}
				events = events[1:]
			}
			if err := a.Observe(&r.samples[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	return got, want
}

// only is a recording with one channel left.
func (r *recording) only(channel string) *recording {
	c := &recording{meter: r.meter, on: r.on, end: r.end}
	for _, s := range r.samples {
		s.PowerW = record.Opt[float64]{}
		if channel == energy.Instant {
			s.PowerAverageW = record.Opt[float64]{}
		} else {
			s.PowerInstantW = record.Opt[float64]{}
		}
		c.samples = append(c.samples, s)
	}
	return c
}

// TestExternalMeter is an RTX 3090 beside an external meter (Yang, Adamek,
// Armour, arXiv 2312.02741): how its channels follow the power, its gain and its
// offset are found on one recording, steps of 6 s, and events are scored on
// another, a square wave of 50 ms. (The two recordings differ by 0.4 % in gain.)
func TestExternalMeter(t *testing.T) {
	if testing.Short() {
		t.Skip("long, and with nothing in it that runs at the same time but what TestBursts has")
	}
	t.Parallel()
	steps, square := external(t, "rtx3090-steps"), external(t, "rtx3090-square")
	// How the channels follow the power is found on the steps as well.
	fitter := sensor.NewFitter()
	for i := range steps.samples {
		fitter.Observe(&steps.samples[i])
	}
	for _, ns := range steps.toggles {
		fitter.Toggle(ns)
	}
	s, err := fitter.Finish()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s%6s%24s%26s\n", "channel", "event", "naive, rms", "auto, rms after gain")
	for _, c := range []struct {
		channel string
		long    int64
	}{{energy.Instant, 1e9}, {energy.Average, 6e9}} {
		rms := func(method, gauge string, s *sensor.Sensors) (raw, fitted float64) {
			// The gain and offset of the board, in power, from 1 s of the steps
			// on the channel that follows them best.
			got, want := steps.only(energy.Instant).windows(t, gauge, s, 1e9, steps.on-1e9, 0, steps.end-8e8, false, 0.02, 1)
			line, ok := stats.FitLine(got, want)
			if !ok || len(got) < 25 {
				t.Fatalf("%s: %d windows on the steps", c.channel, len(got))
			}
			got, want = square.only(c.channel).windows(t, method, s, c.long, square.on, 1e9, square.on+7.9e9, c.long > 2e9, 1, 2)
			if len(got) < 20 {
				t.Fatalf("%s: %d windows on the square wave", c.channel, len(got))
			}
			for i := range got {
				raw += (got[i]/want[i] - 1) * (got[i]/want[i] - 1)
				f := line.Intercept*float64(c.long)/1e9 + line.Slope*got[i]
				fitted += (f/want[i] - 1) * (f/want[i] - 1)
			}
			n := float64(len(got))
			return math.Sqrt(raw / n), math.Sqrt(fitted / n)
		}
		naive, _ := rms(c.channel, energy.Instant, nil)
		_, auto := rms(energy.Auto, energy.Auto, s)
		if auto > 0.005 || naive < 0.03 {
			t.Errorf("%s, %d s: off by %.2f %% rms, by the readings as they are %.2f %%; want 0.5 at most, and 3 at least", c.channel, c.long/1e9, 100*auto, 100*naive)
		}
		fmt.Fprintf(&b, "%-10s%4d s%22.2f %%%24.2f %%\n", c.channel, c.long/1e9, 100*naive, 100*auto)
	}
	t.Log("\n" + b.String())
}
