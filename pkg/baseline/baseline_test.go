package baseline_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// idle is a GPU at rest: 100 ± 1 W, seeded, 10 readings a second.
type idle struct {
	from, until float64 // seconds
	change      func(second float64, s *record.Sample)
}

const second = 1e9

func (x idle) samples() []record.Record {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []record.Record
	for k := int(x.from * 10); float64(k) < x.until*10; k++ {
		s := &record.Sample{
			TimeNS: int64(k) * second / 10, ReadOK: true,
			PowerW: record.Some(100 + math.Round(1e3*rng.NormFloat64())/1e3), PowerInstantW: record.Some(90.0), PowerAverageW: record.Some(80.0),
			TempC: record.Some(40.0), SMClockMHz: record.Some(int64(345)), MemClockMHz: record.Some(int64(3201)),
			UtilGPU: record.Some(int64(0)), VRAMUsedMB: record.Some(615.0), PState: record.Some(int64(0)),
		}
		if x.change != nil {
			x.change(float64(k)/10, s)
		}
		out = append(out, s)
	}
	return out
}

// measure gives the meter all records and counts those it used.
func measure(t *testing.T, o baseline.Options, records ...record.Record) (got []baseline.Idle, without []error, used int) {
	t.Helper()
	m, err := baseline.NewMeter(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if m.Observe(r) {
			used++
		}
	}
	got, without = m.Result()
	return got, without, used
}

func TestIdle(t *testing.T) {
	t.Parallel()
	records := idle{until: 150}.samples()
	records = append([]record.Record{&record.Header{GPUs: []record.GPU{{UUID: "GPU-1"}}}}, records...)
	got, without, used := measure(t, baseline.DefaultOptions(), records...)
	if len(got) != 1 || without != nil {
		t.Fatalf("got %v, without %v", got, without)
	}
	// The same from all readings at once.
	var n, sum, sq float64
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, r := range records[301:] {
		w := r.(*record.Sample).PowerW.V
		n, sum, lo, hi = n+1, sum+w, min(lo, w), max(hi, w)
	}
	mean := sum / n
	for _, r := range records[301:] {
		sq += math.Pow(r.(*record.Sample).PowerW.V-mean, 2)
	}
	std := math.Sqrt(sq / (n - 1))
	out := 0.0
	for _, r := range records[301:] {
		if math.Abs(r.(*record.Sample).PowerW.V-mean) > 2*std {
			out++
		}
	}
	i := got[0]
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9*math.Max(1, math.Abs(want)) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	near("mean", i.MeanW, mean)
	near("std", i.StdW.V, std)
	near("min", i.MinW.V, lo)
	near("max", i.MaxW.V, hi)
	near("sem", i.SEMW.V, std/math.Sqrt(n))
	near("outliers", i.OutlierFraction.V, out/n)
	near("temperature", i.TempC.V, 40)
	near("duration", i.DurationS.V, 119.9)
	if used != 1200 || i.Samples.V != 1200 || i.FakeIdle || len(i.FakeIdleReasons) > 0 || i.Doubts != nil || i.ClockVaried != record.Some(false) ||
		i.UtilP95 != record.Some(0.0) || i.State != baseline.NoContext || i.UUID != "GPU-1" || i.Channel != "power" {
		t.Errorf("used %d, got %+v", used, i)
	}
}

func TestFakeIdle(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(at float64, s *record.Sample)
		want   []string // a part of each reason; none: not fake
	}{
		{"4 % of the samples busy", func(at float64, s *record.Sample) {
			if int(at*10)%25 == 0 {
				s.UtilGPU = record.Some(int64(80))
			}
		}, nil},
		{"6 % of the samples busy", func(at float64, s *record.Sample) {
			if int(at*10)%16 == 0 {
				s.UtilGPU = record.Some(int64(80))
			}
		}, []string{"p95 80 % is above 10 %"}},
		{"p95 at the limit", func(_ float64, s *record.Sample) { s.UtilGPU = record.Some(int64(4)) }, nil},
		{"busy throughout", func(_ float64, s *record.Sample) { s.UtilGPU = record.Some(int64(50)) },
			[]string{"never fell below 5 %", "p95 50 % is above 10 %"}},
		{"one SM clock change", func(at float64, s *record.Sample) {
			if at == 100 {
				s.SMClockMHz = record.Some(int64(360))
			}
		}, []string{"SM clock varied from 345 to 360 MHz"}},
		{"a clock change while settling", func(at float64, s *record.Sample) {
			if at < 29 {
				s.SMClockMHz = record.Some(int64(1980))
			}
		}, nil},
		{"memory clock", func(at float64, s *record.Sample) {
			if at > 100 {
				s.MemClockMHz = record.Some(int64(405))
			}
		}, []string{"memory clock varied from 405 to 3201 MHz"}},
		{"performance state", func(at float64, s *record.Sample) {
			if at > 100 {
				s.PState = record.Some(int64(8))
			}
		}, []string{"performance state varied from 0 to 8"}},
		{"bursts of 15 %", func(at float64, s *record.Sample) {
			if math.Mod(at, 10) < 1.5 {
				s.PowerW = record.Some(140.0)
			}
		}, []string{"15.0 % of the power readings are outliers", "bursts in 15 % of the readings add 5.9 W"}},
		{"bursts of 5 %", func(at float64, s *record.Sample) {
			if math.Mod(at, 10) < 0.5 {
				s.PowerW = record.Some(140.0)
			}
		}, []string{"bursts in 5.5 % of the readings add 2.1 W to a quiet level of 99.96 W (utilisation: p95 0 %)"}},
		{"outliers of a still GPU", func(at float64, s *record.Sample) {
			s.PowerW = record.Some(100.0)
			if math.Mod(at, 10) < 1.5 {
				s.PowerW = record.Some(100.2)
			}
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, without, _ := measure(t, baseline.DefaultOptions(), idle{until: 150, change: tt.change}.samples()...)
			if len(got) != 1 || without != nil {
				t.Fatalf("got %v, without %v", got, without)
			}
			i := got[0]
			if i.FakeIdle != (len(tt.want) > 0) || len(i.FakeIdleReasons) != len(tt.want) {
				t.Fatalf("fake %v: %q, want %q", i.FakeIdle, i.FakeIdleReasons, tt.want)
			}
			for k, want := range tt.want {
				if !strings.Contains(i.FakeIdleReasons[k], want) {
					t.Errorf("reason %q, want %q", i.FakeIdleReasons[k], want)
				}
			}
		})
	}
}

// A trace that begins busy is waited on, and its busy part is in no figure.
func TestBeginsBusy(t *testing.T) {
	t.Parallel()
	got, _, used := measure(t, baseline.DefaultOptions(), idle{until: 195, change: func(at float64, s *record.Sample) {
		if at < 40 {
			s.UtilGPU, s.PowerW, s.SMClockMHz = record.Some(int64(99)), record.Some(600.0), record.Some(int64(1980))
		}
	}}.samples()...)
	if len(got) != 1 || got[0].FakeIdle || got[0].MaxW.V > 110 || used != 1250 || math.Abs(got[0].DurationS.V-124.9) > 1e-9 {
		t.Errorf("used %d: %+v", used, got)
	}
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	hole := func(from, until float64) []record.Record {
		return append(idle{until: from}.samples(), idle{from: until, until: 150}.samples()...)
	}
	for _, tt := range []struct {
		name     string
		records  []record.Record
		duration float64
		short    bool
	}{
		{"exact", idle{until: 150}.samples(), 119.9, false},
		{"a second short", idle{until: 149}.samples(), 118.9, true},
		{"longer", idle{until: 400}.samples(), 369.9, false},
		{"a hole", hole(60, 100), 79.8, true},
		{"a pause", hole(60, 61.9), 119.9, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, _, _ := measure(t, baseline.DefaultOptions(), tt.records...)
			if len(got) != 1 || math.Abs(got[0].DurationS.V-tt.duration) > 1e-6 || (len(got[0].Doubts) > 0) != tt.short {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestFloorIsKept(t *testing.T) {
	t.Parallel()
	got, _, _ := measure(t, baseline.DefaultOptions(), idle{until: 150, change: func(at float64, s *record.Sample) {
		s.PowerW = record.Some(20.0)
		if int(at*10)%20 == 0 {
			s.PowerW = record.Some(1.2)
		}
	}}.samples()...)
	if len(got) != 1 || math.Abs(got[0].FloorFraction.V-0.05) > 1e-9 || math.Abs(got[0].MeanW-19.06) > 1e-9 || got[0].MinW.V != 1.2 {
		t.Errorf("got %+v", got)
	}
}

func TestInvalidReadings(t *testing.T) {
	t.Parallel()
	got, _, used := measure(t, baseline.DefaultOptions(), idle{until: 150, change: func(at float64, s *record.Sample) {
		switch int(at*10) % 100 {
		case 0:
			s.PowerW = record.Some(math.NaN())
		case 1:
			s.PowerW = record.Some(-3.0)
		case 2:
			s.PowerW = record.Some(math.Inf(1))
		case 3:
			*s = record.Sample{TimeNS: s.TimeNS, PowerW: record.Some(0.0), Error: "NVML_ERROR_UNKNOWN"}
		case 4:
			s.PowerW = record.Opt[float64]{}
		}
	}}.samples()...)
	if len(got) != 1 || got[0].ReadErrors.V != 48 || got[0].Samples.V != 1140 || used != 1140 || got[0].MinW.V < 90 || math.IsNaN(got[0].MeanW) {
		t.Errorf("used %d: %+v", used, got)
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	at := func(from, until float64) []record.Window {
		return []record.Window{{FromNS: int64(from * second), UntilNS: int64(until * second)}}
	}
	for _, tt := range []struct {
		name    string
		options func(*baseline.Options)
		records []record.Record
		want    string
	}{
		{"empty", nil, nil, "no sample"},
		{"settling only", nil, idle{until: 29}.samples(), "ends before the settle time of 30s"},
		{"no such channel", func(o *baseline.Options) { o.Channel = "driver" }, idle{until: 60}.samples(), "no reading of channel driver"},
		{"channel absent", nil, idle{until: 60, change: func(_ float64, s *record.Sample) { s.PowerW = record.Opt[float64]{} }}.samples(), "300 samples are without it"},
		{"all failed", nil, idle{until: 60, change: func(_ float64, s *record.Sample) { s.ReadOK = false }}.samples(), "300 failed"},
		{"idle too late", nil, idle{until: 60, change: func(at float64, s *record.Sample) {
			if at < 40 {
				s.UtilGPU = record.Some(int64(99))
			}
		}}.samples(), "ends before the settle time of 30s"},
		{"another clock", func(o *baseline.Options) { o.Windows = at(1e6, 1e6+200) }, idle{until: 60}.samples(), "of one clock"},
		{"another GPU", func(o *baseline.Options) { o.Windows = at(0, 60); o.Windows[0].GPUs = []int{1} }, idle{until: 60}.samples(), "no sample of a GPU"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := baseline.DefaultOptions()
			if tt.options != nil {
				tt.options(&o)
			}
			got, without, _ := measure(t, o, tt.records...)
			if got != nil || len(without) != 1 || !strings.Contains(without[0].Error(), tt.want) {
				t.Errorf("got %+v, without %v", got, without)
			}
		})
	}
}

// Windows of two GPUs, one of them in two parts that settle each.
func TestWindows(t *testing.T) {
	t.Parallel()
	o := baseline.DefaultOptions()
	w := func(from, until int64, gpus ...int) record.Window {
		return record.Window{FromNS: from * second, UntilNS: until * second, GPUs: gpus}
	}
	o.Windows = []record.Window{w(0, 100, 0), w(50, 99, 0), w(100, 290, 1), w(200, 300, 0)}
	var records []record.Record
	for _, r := range (idle{until: 400}).samples() {
		s := *r.(*record.Sample)
		s.GPU = 1
		s.PowerW = record.Some(50.0)
		records = append(records, r, &s)
	}
	got, without, used := measure(t, o, records...)
	if len(got) != 2 || without != nil || used != 701+701+1601 {
		t.Fatalf("used %d, got %+v, without %v", used, got, without)
	}
	if got[0].Windows.V != 2 || got[0].Samples.V != 1402 || math.Abs(got[0].DurationS.V-140) > 1e-6 || got[1].MeanW != 50 || got[1].Windows.V != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	var records []record.Record
	for _, r := range (idle{until: 160}).samples() {
		s := r.(*record.Sample)
		records = append(records, s)
		if s.TimeNS%second == 0 { // harvested late, a second at once
			for k := int64(50); k > 0; k-- {
				records = append(records, &record.Power{TimeNS: s.TimeNS - k*second/50, PowerW: 70})
			}
		}
	}
	for channel, want := range map[string]float64{"instant": 90, "average": 80, "driver": 70} {
		o := baseline.DefaultOptions()
		o.Channel = channel
		got, _, _ := measure(t, o, records...)
		if len(got) != 1 || got[0].MeanW != want || got[0].UtilP95 != record.Some(0.0) || got[0].TempC.V != 40 {
			t.Errorf("%s: %+v", channel, got)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	for vram, want := range map[float64]string{615: baseline.NoContext, 1144: baseline.Context, 17000: baseline.Resident} {
		got, _, _ := measure(t, baseline.DefaultOptions(), idle{until: 40, change: func(_ float64, s *record.Sample) { s.VRAMUsedMB = record.Some(vram) }}.samples()...)
		if len(got) != 1 || got[0].State != want {
			t.Errorf("%g MiB: %+v, want %s", vram, got, want)
		}
	}
	// On a board whose contexts are small the trace has to have seen it without.
	for vram, want := range map[float64]string{260: baseline.NoContext, 460: baseline.Context, 1400: baseline.Resident} {
		got, _, _ := measure(t, baseline.DefaultOptions(), idle{until: 40, change: func(at float64, s *record.Sample) {
			s.VRAMUsedMB = record.Some(250.0)
			if at > 1 {
				s.VRAMUsedMB = record.Some(vram)
			}
		}}.samples()...)
		if len(got) != 1 || got[0].State != want {
			t.Errorf("%g MiB after 250: %+v, want %s", vram, got, want)
		}
	}
	o := baseline.DefaultOptions()
	o.State = baseline.Resident
	if got, _, _ := measure(t, o, idle{until: 40}.samples()...); len(got) != 1 || got[0].State != baseline.Resident {
		t.Errorf("said: %+v", got)
	}
}

// The recording's idle power with and without a CUDA context.
func TestH200(t *testing.T) {
	t.Parallel()
	read := func(name string, take func(record.Record)) {
		f, err := os.Open("../../testdata/h200/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in := stream.NewReader(f, name)
		for in.Scan() {
			take(in.Record())
		}
		if err := in.Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		phase, state string
		watts        float64
		nEff         [2]float64 // from, until: the 1 s mean of a board that cools is worth few readings
	}{{"baseline_nocontext", baseline.NoContext, 79.5, [2]float64{3, 12}}, {"baseline_context", baseline.Context, 123.5, [2]float64{4, 12}}} {
		phase := &record.Phase{Name: tt.phase}
		read("events.ndjson", phase.Add)
		o := baseline.DefaultOptions()
		o.Settle, o.MinDuration = 5*time.Second, 24*time.Second
		var err error
		if o.Windows, err = phase.On(nil); err != nil {
			t.Fatal(err)
		}
		m, err := baseline.NewMeter(o)
		if err != nil {
			t.Fatal(err)
		}
		read("trace.ndjson.zst", func(r record.Record) { m.Observe(r) })
		got, _ := m.Result()
		if len(got) != 1 || math.Abs(got[0].MeanW-tt.watts) > 0.2 || got[0].State != tt.state || got[0].FakeIdle || got[0].Doubts != nil {
			t.Errorf("%s: %+v", tt.phase, got)
			continue
		}
		i := got[0]
		w, se := i.Watts()
		t.Logf("%s: %.2f ± %.2f W (counter %.2f W), %d ticks worth %.1f (%+v), SEM %.3f W instead of %.4f W, drift %.0f ± %.0f W/h, noise %+v",
			tt.phase, w, se, i.CounterW.V, i.Ticks.V, i.NEff.V, *i.NEffBy, i.SEMEffW.V, i.SEMW.V, i.Drift.WattsPerHour, i.Drift.SE, i.Noise)
		if n := i.NEff.V; n < tt.nEff[0] || n > tt.nEff[1] || i.SEMEffW.V < 4*i.SEMW.V || math.Abs(i.CounterW.V/w-1) > 0.005 || i.Subtract.Which != baseline.Mean || i.Mixture != nil {
			t.Errorf("%s: %+v", tt.phase, i)
		}
		for _, n := range i.Noise {
			if n.Seconds == 1 && n.MeasuredJ < 2*n.RootJ {
				t.Errorf("%s: a second's energy is as certain as that of independent readings: %+v", tt.phase, n)
			}
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	// TR122 §3.3, as it stands there.
	const tr122 = `{"idle_watts_mean": 20.70964675767918, "idle_watts_std": 9.965016251128894, "idle_temp_c": 39.8259385665529,
		"fake_idle_flag": false, "idle_gpu_util_p95": 0, "idle_watts_min": 1.2, "idle_watts_max": 26.424,
		"power_outlier_fraction": 0.0, "clock_varied": false, "fake_idle_reasons": ""}`
	for _, tt := range []struct {
		name, in string
		want     []baseline.Idle
		err      string
	}{
		{"TR122", tr122, []baseline.Idle{{
			MeanW: 20.70964675767918, StdW: record.Some(9.965016251128894), TempC: record.Some(39.8259385665529), UtilP95: record.Some(0.0), MinW: record.Some(1.2),
			MaxW: record.Some(26.424), OutlierFraction: record.Some(0.0), ClockVaried: record.Some(false), FakeIdleReasons: []string{},
		}}, ""},
		{"a reason", `{"idle_watts_mean": 1, "fake_idle_flag": true, "fake_idle_reasons": "util"}`,
			[]baseline.Idle{{MeanW: 1, FakeIdle: true, FakeIdleReasons: []string{"util"}}}, ""},
		{"reasons", `{"gpus": [{"gpu": 2, "idle_watts_mean": 1, "fake_idle_reasons": ["a", "b"]}, {"gpu": 0, "idle_watts_mean": 3}]}`,
			[]baseline.Idle{{GPU: 2, MeanW: 1, FakeIdleReasons: []string{"a", "b"}}, {MeanW: 3, FakeIdleReasons: []string{}}}, ""},
		{"empty", "", nil, "empty"},
		{"cut", `{"idle_watts_mean": 1`, nil, "not a baseline"},
		{"NaN", `{"idle_watts_mean": NaN}`, nil, "not a baseline"},
		{"no mean", `{"gpu": 0}`, nil, "no idle_watts_mean"},
		{"null", `{"idle_watts_mean": null}`, nil, "no idle_watts_mean"},
		{"negative", `{"idle_watts_mean": -1}`, nil, "no power"},
		{"no GPU", `{"gpus": []}`, nil, "no GPU"},
		{"twice", `{"gpus": [{"idle_watts_mean": 1}, {"idle_watts_mean": 1}]}`, nil, "two baselines"},
		{"odd reasons", `{"idle_watts_mean": 1, "fake_idle_reasons": 7}`, nil, "neither a list"},
		{"a list", `[]`, nil, "cannot unmarshal"},
		{"two", `{"idle_watts_mean": 1} {}`, nil, "more than one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := baseline.Load(strings.NewReader(tt.in))
			if tt.err == "" && (err != nil || !reflect.DeepEqual(got, tt.want)) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %+v, %v, want %+v, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// What is written is read back, for one GPU and for two.
func TestDocument(t *testing.T) {
	t.Parallel()
	one, _, _ := measure(t, baseline.DefaultOptions(), idle{until: 100}.samples()...)
	two := append([]baseline.Idle{{GPU: 7, MeanW: 3, FakeIdle: true, FakeIdleReasons: []string{"why"}}}, one...)
	for _, want := range [][]baseline.Idle{one, two} {
		b, err := json.Marshal(baseline.Document(want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := baseline.Load(bytes.NewReader(b))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*baseline.Options){
		"channel": func(o *baseline.Options) { o.Channel = "counter" },
		"state":   func(o *baseline.Options) { o.State = "warm" },
		"settle":  func(o *baseline.Options) { o.Settle = -1 },
		"gap":     func(o *baseline.Options) { o.Gap = 0 },
	} {
		o := baseline.DefaultOptions()
		change(&o)
		if _, err := baseline.NewMeter(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	records := idle{until: 1000}.samples()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		m, err := baseline.NewMeter(baseline.DefaultOptions())
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range records {
			m.Observe(r)
		}
		n += len(records)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// Idle power out of samples as they come.
func ExampleMeter() {
	o := baseline.DefaultOptions()
	o.MinDuration = time.Minute
	m, err := baseline.NewMeter(o)
	if err != nil {
		fmt.Println(err)
		return
	}
	for t := range int64(100) {
		m.Observe(&record.Sample{TimeNS: t * second, ReadOK: true, PowerW: record.Some(float64(79 + t%2))})
	}
	idle, _ := m.Result()
	for _, i := range idle {
		fmt.Printf("GPU %d: %.1f W, fake %v\n", i.GPU, i.MeanW, i.FakeIdle)
	}
	// Output: GPU 0: 79.5 W, fake false
}
