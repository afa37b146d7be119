// Package reporttest makes run directories for tests: a run that stands in
// every respect, which a test then breaks where it wants to. Its joules come
// from the power that it is made of, not from any trace.
package reporttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing/fstest"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// Fixture is a run to be written out: forty seconds of one GPU whose power is
// known, seen by every channel, with work, baseline, soak and sensor test.
type Fixture struct {
	Header  *record.Header
	Samples []*record.Sample
	Power   []*record.Power
	Counter []*record.Counter
	Markers []*record.Marker
	Poller  *record.Poller // what the trace's end says; nil: nothing
	Cut     bool           // no end record

	Events       []*record.Event // with their true energy
	EventsHeader *record.Header

	Baseline  map[string]any
	IdlePower []float64 // of the baseline's samples, W
	Soak      *record.Soak
	Warming   []*record.Soak  // before Soak
	Further   []record.Record // after the attributed events and their summaries
	Sensor    map[string]any

	Files   map[string]string // further files, or other contents
	Without []string          // files to leave out
}

// The GPU draws IdleW or LoadW.
const (
	IdleW = 100.0
	LoadW = 300.0
)

const (
	start  = int64(1_000_000_000_000) // ns
	length = 40                       // s
)

func at(s float64) int64 { return start + int64(math.Round(s*1e9)) }

// loaded says that an event is work, not idle.
func loaded(e *record.Event) bool { return e.Phase != "square_low" }

// joules is the true energy from the start to an instant.
func (f *Fixture) joules(ns int64) float64 {
	j := IdleW * float64(ns-start) / 1e9
	for _, e := range f.Events {
		if to := min(ns, e.EndNS); loaded(e) && to > e.StartNS {
			j += (LoadW - IdleW) * float64(to-e.StartNS) / 1e9
		}
	}
	return j
}

// watts is the true mean power of the seconds before an instant, which begins
// with the run.
func (f *Fixture) watts(ns int64, seconds float64) float64 {
	from := max(start, ns-int64(seconds*1e9))
	if from == ns {
		return IdleW
	}
	return (f.joules(ns) - f.joules(from)) / (float64(ns-from) / 1e9)
}

// New is the run that stands.
func New() *Fixture {
	f := &Fixture{
		Header: &record.Header{
			Schema: record.Schema, Tool: "nvpoll", Version: "v0.1.0", RunID: "20260102_030405", Host: "bench", BootID: "boot-1",
			TimeNS: start, UnixNS: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano(), PeriodNS: 100e6,
			GPUs: []record.GPU{{
				UUID: "GPU-1", Name: "Test GPU", Driver: "580.1", CUDA: "13.0", Arch: "hopper",
				VRAMTotalMB: record.Some(141e3), PowerLimitW: record.Some(700.0), PowerLimitDefaultW: record.Some(700.0),
				MIG: record.Some(false), Persistence: record.Some(true),
				Channels: map[string]string{"sample": "ok", "power": "ok", "counter": "ok", "gpm": "NVML_ERROR_NOT_SUPPORTED"},
			}},
			Config: map[string]any{"device": "nvml", "period": "100ms"},
			Git:    &record.Version{Hash: "640db42288856b6608be8ffbafd864c32bb512c8"},
		},
		Baseline: map[string]any{
			"gpu": 0, "uuid": "GPU-1", "state": "context", "idle_watts_mean": IdleW, "idle_watts_std": 0.5, "idle_watts_min": 99.5,
			"idle_watts_max": 100.5, "idle_temp_c": 37.0, "idle_gpu_util_p95": 0.0, "fake_idle_flag": false, "fake_idle_reasons": []string{},
			"power_outlier_fraction": 0.004, "clock_varied": false, "duration_s": 121.5, "samples": 1216, "floor_suspect_fraction": 0.0, "sem_watts": 0.0143,
		},
		Soak: &record.Soak{
			TimeNS: record.Some(at(length)), State: "equilibrium", Final: true, DurationS: 640, TempStartC: record.Some(41.0), TempEndC: record.Some(62.0),
			TempMaxC: record.Some(63.0), WindowS: record.Some(300.0), SlopeCPerMin: record.Some(0.2), SlopeCI95: record.Some(0.05),
			MaxSlopeCPerMin: record.Some(6.4), Rule: map[string]bool{"seed": true, "margin": true},
		},
		Sensor: map[string]any{"gpus": []any{map[string]any{"gpu": 0, "use": "driver", "channels": map[string]any{
			"driver": map[string]any{"class": "instant", "update_ms": 20.0, "window_ms": 20.0, "lag_ms": 12.5, "rise_ms": 32.0, "gain": 1.001, "pass": true},
			"power":  map[string]any{"class": "averaged", "update_ms": 100.0, "window_ms": 1000.0, "rise_ms": 800.0, "pass": false, "reasons": []string{"rise 800 ms"}},
		}}}},
		Files: map[string]string{},
	}
	for i := range 1216 {
		f.IdlePower = append(f.IdlePower, IdleW-0.5+float64(i%2))
	}
	f.work()
	f.measure()
	for _, e := range f.Events {
		f.attribute(e)
	}
	header := *f.Header
	header.Tool = "nvattrib"
	f.EventsHeader = &header
	stats := record.PollerStats{
		SamplesTotal: 400, SamplesValid: 400, TargetPeriodMS: 100, MedianDtMS: record.Some(100.0), P95DtMS: record.Some(100.0), MaxGapMS: record.Some(100.0),
		GapFraction: record.Some(0.0), MedianLatenessMS: record.Some(0.053), P95LatenessMS: record.Some(0.056),
		DtHistogram: []record.Bin{{LoMS: 100, HiMS: record.Some(150.0), Count: 399}}, SchedulingQuality: "strict", ContinuityQuality: "good", Quality: "good",
		Channels: map[string]record.Channel{"counter": {Calls: 2000, Records: 2000, CallP50MS: record.Some(2.0), CallP95MS: record.Some(2.1), CallMaxMS: record.Some(9.0)}},
	}
	gpu := stats
	gpu.GPU, gpu.Channels = record.Some(0), nil
	f.Poller = &record.Poller{Overall: stats, GPUs: []record.PollerStats{gpu}}
	return f
}

// Full is the run that stands with all that can be recorded of one: the course of
// the soak, two levels of idle power, the counter beside integrated power, a fit
// over batch sizes, what memory is made of, and some gaps too short to matter.
func Full() *Fixture {
	f := New()
	for i := range 65 {
		s := float64(10 * i)
		f.Warming = append(f.Warming, &record.Soak{
			TimeNS: record.Some(at(s / 20)), State: "warming", DurationS: s, TempC: record.Some(math.Round(62 - 21*math.Exp(-s/150))),
			WindowS: record.Some(math.Min(s, 300)), SlopeCPerMin: record.Some(8.4 * math.Exp(-s/150)), SlopeCI95: record.Some(0.4),
		})
	}
	f.Soak.PredictedC, f.Soak.PredictedLowC, f.Soak.PredictedHighC = record.Some(62.4), record.Some(61.8), record.Some(63.1)
	f.Baseline["mixture"] = map[string]any{
		"verdict": "two_levels", "low_weight": 0.5, "low_weight_se": 0.01, "low_watts": IdleW - 0.5, "low_sigma_watts": 0.05, "high_watts": IdleW + 0.5, "high_sigma_watts": 0.05,
	}
	driver := f.Sensor["gpus"].([]any)[0].(map[string]any)["channels"].(map[string]any)["driver"].(map[string]any)
	driver["window_ms_ci95"], driver["lag_ms_ci95"] = []float64{18, 22}, []float64{10, 15}
	for i, e := range f.Events {
		j := e.Energy
		j.CI95J = record.Some(2 + 0.01*j.Joules.V)
		j.IntegratedJ, j.CounterJ = j.Joules, record.Some(j.Joules.V*(1+0.03/e.Duration()+0.001*float64(i)))
	}
	for _, phase := range []string{"prefill", "decode"} {
		f.Further = append(f.Further, &record.Summary{Phase: phase, Model: "gpt2", Over: "batch_size", Method: record.ChannelDriver, JouleCurve: &record.JouleCurve{
			BatchSizes: []int{1, 2, 4}, StepJ: record.Some(9.375), StepCI95J: record.Some(0.1), TokenJ: record.Some(0.001), TokenCI95J: record.Some(0.01),
			Fit: record.Fit{Observations: 3, Designs: 3},
		}})
	}
	f.Further = append(f.Further, &record.Agreement{Channel: record.ChannelDriver, Verdict: "agree", MismatchCS: record.Some(0.03), MismatchEpsilon: record.Some(0.001), Events: 12})
	f.Files["vram.json"] = `{"gpus":[{"gpu":0,"cliff":[{"model":"gpt2-xl","batch_size":1,"window":1024,"limit":"architecture","max_context":1024,"total_mb":141000,"free_mb":140000,
"predicted":{"need":{}},"peak":{"context":1024,"weights_mb":2971,"kv_mb":300,"activations_mb":35,"overhead_mb":2,"model_mb":3308,"before_mb":1144,"cuda_context_mb":529,"free_mb":136548},"recovery":{"out_of_memory":true,"works":true}},
{"model":"llama-3.1-8b","batch_size":64,"window":131072,"limit":"capacity","max_context":15730,"total_mb":141000,"free_mb":140000,
"predicted":{"need":{}},"peak":{"context":15730,"weights_mb":15317,"kv_mb":122840,"activations_mb":948,"overhead_mb":3,"model_mb":139108,"before_mb":1144,"cuda_context_mb":529,"free_mb":748},"recovery":{"out_of_memory":true,"works":true}}]}]}`
	f.Samples[150].ThrottleReasons = record.Some(uint64(4))
	for i, s := range f.Samples {
		s.SMClockMHz = record.Some(int64(1980 - 15*(i/100)))
		s.VRAMUsedMB = record.Some(4096 + 1000*float64(i/50))
	}
	return f
}

func (f *Fixture) soak() []record.Record {
	var all []record.Record
	for _, s := range f.Warming {
		all = append(all, s)
	}
	return append(all, f.Soak)
}

// Broken is a run in which everything is wrong that can be: gaps, failed and stale
// readings, a GPU that was not idle, slowdown by heat, a counter that was reset, a
// trip, a trace that was cut, a line that does not parse, names that are markup,
// and neither sensor test nor samples of the baseline nor memory tests.
func Broken() *Fixture {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;**[x](#y)` + "`|"
	f := New()
	f.Cut = true
	f.Without = []string{"sensor.json", "baseline_trace.ndjson", "vram.json"}
	f.Header.RunID, f.Header.Host, f.Header.GPUs[0].Name = evil, evil, evil
	f.Header.Git, f.Header.GPUs[0].Driver, f.Header.GPUs[0].PowerLimitW = nil, "", record.Opt[float64]{}
	f.Header.Config["device"] = evil
	f.Power = nil
	for i, s := range f.Samples {
		s.PowerInstantW, s.PowerAverageW, s.VRAMUsedMB = record.Opt[float64]{}, record.Opt[float64]{}, record.Opt[float64]{}
		switch {
		case i >= 60 && i < 90:
			s.ThrottleReasons = record.Some(uint64(0x60))
		case i >= 150 && i < 158:
			s.PowerW = record.Some(1.2)
		case i >= 200 && i < 206:
			s.PowerW, s.ReadOK, s.Error = record.Opt[float64]{}, false, "NVML_ERROR_GPU_IS_LOST"
		case i >= 300 && i < 310:
			s.TempC = record.Some(91.0)
		}
	}
	f.Markers = []*record.Marker{{Name: "clock_set", TimeNS: at(12)}}
	f.Counter[700].EnergyMilliJ, f.Counter[700].Error = record.Opt[int64]{}, "NVML_ERROR_UNKNOWN"
	for _, c := range f.Counter[1200:] {
		c.EnergyMilliJ.V -= 5e8
	}
	f.Lose(100, 118)
	f.Baseline["fake_idle_flag"], f.Baseline["fake_idle_reasons"] = true, []string{"utilisation p95 14 %", evil}
	f.Baseline["duration_s"] = 31.0
	f.Soak.State, f.Soak.Reason, f.Soak.Trips = "thermal_trip", evil, 2
	for _, e := range f.Events {
		e.ID += evil
		if e.Phase == "prefill" {
			e.Energy = &record.Energy{Method: record.ChannelPower, Quality: "no_data", Tier: "refused", Reasons: []string{evil}}
		}
		if e.Model != "" {
			e.Model = evil
		}
	}
	f.Events[1].Phase = evil
	f.Files["notes<script>.txt"] = "x"
	f.Files["soak.ndjson"] = "{\"record\":\"soak\", oops}\n"
	return f
}

// work is a square wave, then requests.
func (f *Fixture) work() {
	event := func(phase string, from, to float64) *record.Event {
		e := &record.Event{ID: fmt.Sprintf("%s_%d", phase, len(f.Events)), Phase: phase, StartNS: at(from), EndNS: at(to), GPUs: []int{0}}
		f.Events = append(f.Events, e)
		return e
	}
	for i := range 3 {
		low := 2 + 6*float64(i)
		event("square_low", low, low+3)
		event("square_high", low+3, low+6)
	}
	for i, batch := range []int64{1, 2, 4} {
		begin := 22 + 5*float64(i)
		prefill := event("prefill", begin, begin+0.15)
		decode := event("decode", begin+0.15, begin+2.15)
		for _, e := range []*record.Event{prefill, decode} {
			e.Model = "gpt2"
			e.BatchSize = record.Some(batch)
		}
		prefill.InputTokens = record.Some(1024 * batch)
		decode.OutputTokens = record.Some(64 * batch)
	}
}

// measure is what each channel says of the work.
func (f *Fixture) measure() {
	for k := range length * 10 {
		ns := at(float64(k) / 10)
		average := f.watts(ns, 1)
		f.Samples = append(f.Samples, &record.Sample{
			TimeNS: ns, Tick: record.Some(int64(k)), ReadOK: true,
			PowerW: record.Some(average), PowerAverageW: record.Some(average), PowerInstantW: record.Some(f.watts(ns, 0.02)),
			TempC: record.Some(41 + math.Floor(float64(k)/20)), SMClockMHz: record.Some(int64(1980)), VRAMUsedMB: record.Some(4096.0),
			ThrottleReasons: record.Some(uint64(0)), LateUS: record.Some(50 + float64(k%7)),
		})
	}
	for k := range length * 50 {
		ns := at(float64(k) / 50)
		f.Power = append(f.Power, &record.Power{TimeNS: ns, PowerW: f.watts(ns, 0.02)})
		ticked := at(float64(k/5) / 10) // the counter moves every 100 ms
		f.Counter = append(f.Counter, &record.Counter{BeforeNS: ns + 1e6, TimeNS: ns + 3e6, EnergyMilliJ: record.Some(int64(1e9 + 1e3*f.joules(ticked)))})
	}
}

// attribute gives an event its true energy, as read from the driver's buffer.
func (f *Fixture) attribute(e *record.Event) {
	j := f.joules(e.EndNS) - f.joules(e.StartNS)
	e.Energy = &record.Energy{
		Method: record.ChannelDriver, GapFraction: record.Some(0.0), MaxGapS: record.Some(0.02), Joules: record.Some(j),
		OperationalJ: record.Some(j - IdleW*e.Duration()), Quality: "good", Tier: "estimate",
	}
	for _, p := range f.Power {
		if p.TimeNS >= e.StartNS && p.TimeNS <= e.EndNS {
			e.Energy.PowerSamples++
		}
	}
	if e.Duration() > 1 {
		e.Energy.Tier = "billable"
	}
	if n := e.OutputTokens.Or(e.InputTokens.Or(0)); n > 0 {
		e.Energy.JoulesPerToken = record.Some(j / float64(n))
	}
}

// Each changes every event.
func (f *Fixture) Each(change func(*record.Event)) {
	for _, e := range f.Events {
		change(e)
	}
}

// First is the first event of a phase.
func (f *Fixture) First(phase string) *record.Event {
	return f.Events[slices.IndexFunc(f.Events, func(e *record.Event) bool { return e.Phase == phase })]
}

// Lose takes samples out of the trace, and the poller's account with them.
func (f *Fixture) Lose(from, to int) {
	f.Samples = slices.Delete(f.Samples, from, to)
	f.Poller = nil
}

func (f *Fixture) trace() []record.Record {
	var all []record.Record
	for _, s := range f.Samples {
		all = append(all, s)
	}
	for _, p := range f.Power {
		all = append(all, p)
	}
	for _, c := range f.Counter {
		all = append(all, c)
	}
	for _, m := range f.Markers {
		all = append(all, m)
	}
	slices.SortStableFunc(all, record.Compare)
	all = slices.Insert(all, 0, record.Record(f.Header))
	if !f.Cut {
		all = append(all, &record.End{Records: int64(len(all) - 1), Poller: f.Poller})
	}
	return all
}

// FS is the run directory.
func (f *Fixture) FS() (fstest.MapFS, error) {
	var bare, idle []record.Record
	for _, e := range f.Events {
		c := *e
		c.Energy = nil
		bare = append(bare, &c)
	}
	for i, w := range f.IdlePower {
		idle = append(idle, &record.Sample{TimeNS: start - int64((200-float64(i)/10)*1e9), ReadOK: true, PowerW: record.Some(w)})
	}
	dir := fstest.MapFS{}
	var failed error
	put := func(name string, b []byte, err error) {
		failed = errors.Join(failed, err)
		if !slices.Contains(f.Without, name) {
			dir[name] = &fstest.MapFile{Data: b}
		}
	}
	for name, records := range map[string][]record.Record{
		"trace.ndjson":            f.trace(),
		"events.ndjson":           closed(f.EventsHeader, bare),
		"generation_events.jsonl": closed(f.EventsHeader, f.attributed()),
		"baseline_trace.ndjson":   closed(f.Header, idle),
		"soak.ndjson":             closed(f.Header, f.soak()),
	} {
		b, err := ndjson(records)
		put(name, b, err)
	}
	for name, v := range map[string]any{"baseline.json": f.Baseline, "sensor.json": f.Sensor} {
		b, err := json.Marshal(v)
		put(name, b, err)
	}
	for name, content := range f.Files {
		put(name, []byte(content), nil)
	}
	return dir, failed
}

// attributed are the events with their energy, and a summary of each kind.
func (f *Fixture) attributed() []record.Record {
	type key struct {
		phase string
		batch int64
	}
	var out []record.Record
	var order []key
	sums := map[key]*record.Summary{}
	for _, e := range f.Events {
		out = append(out, e)
		if e.Energy == nil {
			continue
		}
		k := key{e.Phase, e.BatchSize.Or(0)}
		s := sums[k]
		if s == nil {
			s = &record.Summary{Phase: e.Phase, Model: e.Model, BatchSize: e.BatchSize, Method: e.Energy.Method, Quality: map[string]int{}, Tier: map[string]int{}}
			sums[k] = s
			order = append(order, k)
		}
		s.Events++
		s.DurationS += e.Duration()
		s.Quality[e.Energy.Quality]++
		s.Tier[e.Energy.Tier]++
		if j, ok := e.Energy.Joules.Get(); ok {
			s.WithEnergy++
			s.EnergyTotalJ = record.Some(s.EnergyTotalJ.Or(0) + j)
			s.EnergyMeanJ = record.Some(s.EnergyTotalJ.V / float64(s.WithEnergy))
			s.PowerMeanW = record.Some(s.EnergyTotalJ.V / s.DurationS)
			s.OperationalTotalJ = record.Some(s.OperationalTotalJ.Or(0) + e.Energy.OperationalJ.Or(0))
			s.OperationalMeanJ = record.Some(s.OperationalTotalJ.V / float64(s.WithEnergy))
			s.JoulesPerToken = e.Energy.JoulesPerToken
		}
		if n, ok := e.OutputTokens.Get(); ok {
			s.TokensPerSecond = record.Some(float64(n) / e.Duration())
		}
	}
	for _, k := range order {
		out = append(out, sums[k])
	}
	return append(out, f.Further...)
}

// closed is a whole stream of records.
func closed(h *record.Header, records []record.Record) []record.Record {
	return slices.Concat([]record.Record{h}, records, []record.Record{&record.End{Records: int64(len(records))}})
}

func ndjson(records []record.Record) ([]byte, error) {
	var b bytes.Buffer
	w, err := stream.NewWriter(&b, stream.NDJSON, stream.None)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		err = errors.Join(err, w.Write(r))
	}
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}
