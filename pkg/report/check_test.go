package report

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/report/reporttest"
)

// flip is a fault in a run that stands, and the verdict that the check which
// watches for it must come to.
type flip struct {
	name   string
	change func(*reporttest.Fixture)
	id     string
	want   Verdict
}

var flips = []flip{
	{"a grid 2 % slow", func(f *reporttest.Fixture) { f.Header.PeriodNS = 98e6 }, "grid-adherence", Fail},
	{"a poller that says it was slow", func(f *reporttest.Fixture) { f.Poller.Overall.MedianDtMS.V = 102 }, "grid-adherence", Fail},
	{"one sample", func(f *reporttest.Fixture) { f.Lose(1, 400) }, "grid-adherence", NotJudged},
	{"no trace", func(f *reporttest.Fixture) { f.Without = []string{"trace.ndjson"} }, "grid-adherence", NotJudged},

	{"busy baseline", func(f *reporttest.Fixture) {
		f.Baseline["fake_idle_flag"] = true
		f.Baseline["fake_idle_reasons"] = []string{"utilisation p95 14 %"}
	}, "idle-baseline", Fail},
	{"busy baseline, TR122's reasons", func(f *reporttest.Fixture) {
		f.Baseline["fake_idle_flag"] = true
		f.Baseline["fake_idle_reasons"] = "utilisation p95 14 %"
	}, "idle-baseline", Fail},
	{"no reasons", func(f *reporttest.Fixture) { f.Baseline["fake_idle_reasons"] = "" }, "idle-baseline", Pass},
	{"reasons absent", func(f *reporttest.Fixture) { delete(f.Baseline, "fake_idle_reasons") }, "idle-baseline", Pass},
	{"baseline with doubts", func(f *reporttest.Fixture) { f.Baseline["doubts"] = []string{"a hole of 3 s"} }, "idle-baseline", Fail},
	{"short baseline", func(f *reporttest.Fixture) { f.Baseline["duration_s"] = 30.0 }, "idle-baseline", Fail},
	{"baseline of unknown length", func(f *reporttest.Fixture) { delete(f.Baseline, "duration_s") }, "idle-baseline", NotJudged},
	{"baseline of another GPU", func(f *reporttest.Fixture) { f.Baseline["uuid"] = "GPU-2" }, "idle-baseline", Fail},
	{"baseline without the events' GPU", func(f *reporttest.Fixture) { f.Baseline["gpu"] = 1 }, "idle-baseline", Fail},
	{"no baseline", func(f *reporttest.Fixture) { f.Without = []string{"baseline.json"} }, "idle-baseline", NotJudged},

	{"short event good by tr122", func(f *reporttest.Fixture) { f.First("prefill").Energy.Method = energy.TR122 }, "event-alignment", Fail},
	{"short event good by auto:instant", func(f *reporttest.Fixture) { f.First("prefill").Energy.Method = "auto:instant" }, "event-alignment", Fail},
	{"short event gappy by tr122", func(f *reporttest.Fixture) {
		j := f.First("prefill").Energy
		j.Method, j.Quality = energy.TR122, energy.Gappy
	}, "event-alignment", Pass},

	{"gap denied", func(f *reporttest.Fixture) {
		said := f.Poller
		f.Lose(100, 110)
		f.Poller = said
	}, "continuity-flag", Fail},
	{"gap flagged", func(f *reporttest.Fixture) { f.Lose(100, 110) }, "continuity-flag", Pass},
	{"gap", func(f *reporttest.Fixture) { f.Lose(100, 110) }, "continuity-good", Fail},
	{"gap that the poller alone saw", func(f *reporttest.Fixture) { f.Poller.Overall.ContinuityQuality = "degraded" }, "continuity-good", Fail},
	{"gap", func(f *reporttest.Fixture) { f.Lose(100, 110) }, "gap-fraction", Fail},
	{"failed readings make a gap", func(f *reporttest.Fixture) {
		for _, s := range f.Samples[100:110] {
			s.ReadOK = false
		}
	}, "gap-fraction", Fail},

	{"soak timed out", func(f *reporttest.Fixture) { f.Soak.State = "timeout" }, "thermal-equilibrium", Fail},
	{"soak over a minute", func(f *reporttest.Fixture) { f.Soak.WindowS = record.Some(60.0) }, "thermal-equilibrium", Fail},
	{"soak without its end", func(f *reporttest.Fixture) { f.Soak.Final = false }, "thermal-equilibrium", Fail},
	{"soak still rising", func(f *reporttest.Fixture) { f.Soak.SlopeCPerMin = record.Some(0.6) }, "thermal-equilibrium", Fail},
	{"soak without a slope", func(f *reporttest.Fixture) { f.Soak.SlopeCPerMin = record.Opt[float64]{} }, "thermal-equilibrium", Fail},
	{"no soak", func(f *reporttest.Fixture) { f.Without = []string{"soak.ndjson"} }, "thermal-equilibrium", NotJudged},

	{"a decode that is an estimate", func(f *reporttest.Fixture) { f.First("decode").Energy.Tier = energy.Estimate }, "per-event-joules", Fail},
	{"short events only", func(f *reporttest.Fixture) { f.Events = []*record.Event{f.First("prefill")} }, "per-event-joules", NotJudged},

	{"lost ticks that the poller denies", func(f *reporttest.Fixture) {
		said := f.Poller
		f.Lose(100, 102)
		f.Poller = said
	}, "dropped-ticks", Fail},
	{"lost ticks that the poller counted", func(f *reporttest.Fixture) {
		said := f.Poller
		f.Lose(100, 102)
		f.Poller = said
		f.Poller.Overall.DroppedTicks = 2
	}, "dropped-ticks", Pass},
	{"many dropped ticks", func(f *reporttest.Fixture) {
		for k := 1; k < len(f.Samples); k += 20 {
			f.Lose(k, k+1)
		}
	}, "dropped-ticks", Fail},
	{"samples without ticks", func(f *reporttest.Fixture) {
		for _, s := range f.Samples {
			s.Tick = record.Opt[int64]{}
		}
	}, "dropped-ticks", NotJudged},

	{"one reading called gappy", func(f *reporttest.Fixture) {
		j := f.First("prefill").Energy
		j.PowerSamples, j.Quality = 1, energy.Gappy
	}, "no-data-gating", Fail},
	{"two readings called good", func(f *reporttest.Fixture) { f.First("prefill").Energy.PowerSamples = 2 }, "gappy-gating", Fail},
	{"gaps called good", func(f *reporttest.Fixture) { f.First("decode").Energy.GapFraction = record.Some(0.2) }, "gappy-gating", Fail},
	{"joules without data", func(f *reporttest.Fixture) { f.First("decode").Energy.Quality = energy.NoData }, "energy-gating", Fail},
	{"no data for billing", func(f *reporttest.Fixture) {
		f.First("prefill").Energy = &record.Energy{Quality: energy.NoData, Tier: energy.Estimate}
	}, "energy-gating", Fail},
	{"no data, said", func(f *reporttest.Fixture) {
		f.First("prefill").Energy = &record.Energy{Quality: energy.NoData, Tier: energy.Refused}
	}, "energy-gating", Pass},
	{"no attribution", func(f *reporttest.Fixture) { f.Without = []string{"generation_events.jsonl"} }, "energy-gating", NotJudged},
	{"attribution without joules", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy = nil })
	}, "energy-gating", NotJudged},

	{"subtraction of another mean", func(f *reporttest.Fixture) { f.Baseline["idle_watts_mean"] = 99.9 }, "baseline-subtraction", Fail},
	{"operational joules off by 1e-5", func(f *reporttest.Fixture) { j := f.First("decode").Energy; j.OperationalJ.V += 1e-5 * j.Joules.V }, "baseline-subtraction", Fail},
	{"clamped subtraction", func(f *reporttest.Fixture) { f.First("square_low").Energy.OperationalJ.V = 12 }, "baseline-subtraction", Fail},
	{"nothing subtracted", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy.OperationalJ = record.Opt[float64]{} })
	}, "baseline-subtraction", NotJudged},

	{"as many readings as valid samples", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.Method, j.PowerSamples = energy.TR122, 31
	}, "sample-validity", Pass},
	{"a failed reading used", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.Method, j.PowerSamples = energy.TR122, 31
		f.Samples[55].ReadOK = false
	}, "sample-validity", Fail},

	{"stale readings", func(f *reporttest.Fixture) {
		for _, s := range f.Samples[:8] {
			s.PowerW = record.Some(1.2)
		}
	}, "sensor-floor", Fail},
	{"heat", func(f *reporttest.Fixture) { f.Samples[60].ThrottleReasons = record.Some(uint64(0x20)) }, "no-throttling", Fail},
	{"heat between events", func(f *reporttest.Fixture) { f.Samples[0].ThrottleReasons = record.Some(uint64(0x20)) }, "no-throttling", Pass},
	{"power limit", func(f *reporttest.Fixture) { f.Samples[60].ThrottleReasons = record.Some(uint64(0x4)) }, "no-throttling", Pass},
	{"no throttle reasons", func(f *reporttest.Fixture) {
		for _, s := range f.Samples {
			s.ThrottleReasons = record.Opt[uint64]{}
		}
	}, "no-throttling", NotJudged},
	{"hot", func(f *reporttest.Fixture) { f.Samples[7].TempC = record.Some(83.0) }, "thermal-safety", Fail},
	{"tripped", func(f *reporttest.Fixture) { f.Soak.Trips = 1 }, "thermal-safety", Fail},

	{"no driver", func(f *reporttest.Fixture) { f.Header.GPUs[0].Driver = "" }, "metadata", Fail},
	{"no power limit", func(f *reporttest.Fixture) { f.Header.GPUs[0].PowerLimitW = record.Opt[float64]{} }, "metadata", Fail},
	{"no commit", func(f *reporttest.Fixture) { f.Header.Git = nil }, "metadata", Fail},

	{"a bad line", func(f *reporttest.Fixture) { f.Files["soak.ndjson"] = "{\"record\":\"soak\",\n" }, "inputs-readable", Fail},
	{"cut trace", func(f *reporttest.Fixture) { f.Cut = true }, "inputs-readable", Fail},
	{"cut trace", func(f *reporttest.Fixture) { f.Cut = true }, "trace-complete", Fail},
	{"two pollers", func(f *reporttest.Fixture) {
		dir, err := reporttest.New().FS()
		if err != nil {
			panic(err)
		}
		f.Files["trace.ndjson"] = string(dir["trace.ndjson"].Data) + string(dir["trace.ndjson"].Data)
	}, "trace-complete", Fail},
	{"gaps in the only channel", func(f *reporttest.Fixture) {
		f.Power, f.Counter = nil, nil
		f.Lose(100, 150)
	}, "run-energy", Fail},
	{"gaps beside the counter", func(f *reporttest.Fixture) { f.Lose(100, 150) }, "run-energy", Pass},
	{"no energy", func(f *reporttest.Fixture) {
		f.Power, f.Counter = nil, nil
		for _, s := range f.Samples {
			s.PowerW, s.PowerInstantW, s.PowerAverageW = record.Opt[float64]{}, record.Opt[float64]{}, record.Opt[float64]{}
		}
	}, "run-energy", Fail},
	{"another boot", func(f *reporttest.Fixture) { f.EventsHeader.BootID = "boot-2" }, "events-in-trace", Fail},
	{"another run", func(f *reporttest.Fixture) { f.EventsHeader.RunID = "20250101_000000" }, "events-in-trace", Fail},
	{"joules outside the trace", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.StartNS += 40e9; e.EndNS += 40e9 })
	}, "events-in-trace", Fail},

	{"joules of other readings", func(f *reporttest.Fixture) { f.First("square_high").Energy.Joules.V *= 1.1 }, "energy-integration", Fail},
	{"joules of other readings by tr122", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.Method, j.Joules.V = energy.TR122, 2*j.Joules.V
	}, "energy-integration", Fail},
	{"tr122 leaves the edges out", func(f *reporttest.Fixture) {
		j := f.First("square_low").Energy
		j.Method, j.Joules.V = energy.TR122, j.Joules.V*2.9/3+100*(0.5/3)*3
	}, "energy-integration", Pass},
	{"a model beyond its readings", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.CI95J, j.IntegratedJ, j.IntegratedCI95J = record.Some(10.0), record.Some(j.Joules.V-60), record.Some(10.0)
	}, "energy-integration", Fail},
	{"a model within its interval", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.CI95J, j.IntegratedJ, j.IntegratedCI95J = record.Some(10.0), record.Some(j.Joules.V-20), record.Some(10.0)
	}, "energy-integration", Pass},
	{"a request's part of the joules", func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.SharedWith = record.Some(int64(1))
		j.Joules.V /= 2
	}, "energy-integration", Pass},
	{"a process's part of the joules", processPart, "energy-integration", Pass},
	{"a process's part of them above idle", processPart, "baseline-subtraction", Pass},
	{"a request's part of them above idle", requestPart, "baseline-subtraction", Pass},
	{"a request's part of them, above all of the idle power", func(f *reporttest.Fixture) {
		requestPart(f)
		f.First("square_high").Energy.ChargedS = record.Opt[float64]{}
	}, "baseline-subtraction", Fail},
	{"not a process's part of the joules", func(f *reporttest.Fixture) {
		processPart(f)
		f.First("square_high").Energy.ProcessShare.V = 0.9
	}, "energy-integration", Fail},
	{"short events only", func(f *reporttest.Fixture) { f.Events = []*record.Event{f.First("prefill")} }, "energy-integration", NotJudged},
	{"an event of no length", func(f *reporttest.Fixture) { e := f.First("decode"); e.EndNS = e.StartNS }, "timestamp-bracketing", Fail},
	{"a decode before its prefill ends", func(f *reporttest.Fixture) {
		f.First("prefill").RequestID, f.First("decode").RequestID = "r", "r"
		f.First("decode").StartNS -= 1e6
	}, "timestamp-bracketing", Fail},
	{"no events", func(f *reporttest.Fixture) { f.Without = []string{"generation_events.jsonl", "events.ndjson"} }, "timestamp-bracketing", NotJudged},
	{"a short event for billing", func(f *reporttest.Fixture) { f.First("prefill").Energy.Tier = energy.Billable }, "tier-gating", Fail},
	{"few readings for billing", func(f *reporttest.Fixture) { f.First("decode").Energy.PowerSamples = 8 }, "tier-gating", Fail},
	{"holes for billing", func(f *reporttest.Fixture) { f.First("decode").Energy.GapFraction = record.Some(0.05) }, "tier-gating", Fail},
	{"large holes for analysis", func(f *reporttest.Fixture) {
		j := f.First("decode").Energy
		j.Tier, j.GapFraction = energy.Analysis, record.Some(0.1)
	}, "tier-gating", Fail},
	{"no attribution", func(f *reporttest.Fixture) { f.Without = []string{"generation_events.jsonl"} }, "tier-gating", NotJudged},
	{"late samples, by the poller", func(f *reporttest.Fixture) { f.Poller.Overall.P95LatenessMS.V = 20 }, "lateness", Fail},
	{"late samples", func(f *reporttest.Fixture) {
		for _, s := range f.Samples[:50] {
			s.LateUS = record.Some(20e3)
		}
	}, "lateness", Fail},
	{"no lateness", func(f *reporttest.Fixture) {
		f.Poller = nil
		for _, s := range f.Samples {
			s.LateUS = record.Opt[float64]{}
		}
	}, "lateness", NotJudged},
	{"busy, and called idle", func(f *reporttest.Fixture) { f.Baseline["idle_gpu_util_p95"] = 11.0 }, "idle-composite", Fail},
	{"a baseline that cannot be read", func(f *reporttest.Fixture) { f.Files["baseline.json"] = "PK" }, "idle-composite", NotJudged},
	{"a baseline that cannot be read", func(f *reporttest.Fixture) { f.Files["baseline.json"] = "PK" }, "idle-samples", NotJudged},
	{"idleness by use alone", func(f *reporttest.Fixture) { delete(f.Baseline, "clock_varied") }, "idle-composite", NotJudged},
	{"scatter not told", func(f *reporttest.Fixture) { delete(f.Baseline, "idle_watts_std") }, "idle-baseline", Fail},
	{"events of another run", func(f *reporttest.Fixture) { f.EventsHeader.RunID = "20250101_000000" }, "one-run", Fail},
	{"no run ids", func(f *reporttest.Fixture) { f.Header.RunID, f.EventsHeader.RunID = "", "" }, "one-run", NotJudged},

	{"another mean than its samples", func(f *reporttest.Fixture) { f.IdlePower[7] += 20 }, "idle-samples", Fail},
	{"samples of another baseline", func(f *reporttest.Fixture) { f.IdlePower = f.IdlePower[1:] }, "idle-samples", NotJudged},

	{"counter reset", func(f *reporttest.Fixture) {
		for _, c := range f.Counter[1000:] {
			c.EnergyMilliJ.V -= 1e9
		}
	}, "counter-monotone", Fail},
	{"no counter", func(f *reporttest.Fixture) { f.Counter = nil }, "counter-monotone", NotJudged},
	{"counter that stands still", func(f *reporttest.Fixture) {
		for _, c := range f.Counter {
			c.EnergyMilliJ = f.Counter[0].EnergyMilliJ
		}
	}, "counter-monotone", Fail},
	{"power reads 5 % low", func(f *reporttest.Fixture) {
		for _, p := range f.Power {
			p.PowerW *= 0.95
		}
	}, "counter-agreement", Fail},
	{"no counter", func(f *reporttest.Fixture) { f.Counter = nil }, "counter-agreement", NotJudged},
	{"joules by the average", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy.Method = energy.Average })
	}, "event-channel", Fail},
	{"joules by tr122", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy.Method = energy.TR122 })
	}, "event-channel", Fail},
	{"joules by the counter", func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy.Method = energy.Counter })
	}, "event-channel", Pass},
	{"no counter", func(f *reporttest.Fixture) { f.Counter = nil }, "event-channel", NotJudged},
	{"sensor that failed its test", func(f *reporttest.Fixture) { f.Sensor["gpus"].([]any)[0].(map[string]any)["use"] = "power" }, "instrument-response", Fail},
	{"no sensor test", func(f *reporttest.Fixture) { f.Without = []string{"sensor.json"} }, "instrument-response", NotJudged},
}

// Each fault changes the verdict of the check that watches for it, in every form of
// the report, and with a failed check the run does not stand.
func TestFlips(t *testing.T) {
	t.Parallel()
	for _, k := range flips {
		t.Run(k.name+"/"+k.id, func(t *testing.T) {
			t.Parallel()
			f := reporttest.New()
			k.change(f)
			r := mustRead(t, directory(t, f))
			c := r.Check(k.id)
			if c.Verdict != k.want {
				t.Fatalf("%s (%s, %q), want %s", c.Verdict, c.Figure, c.Reason, k.want)
			}
			if c.Reason == "" || c.Verdict != Pass && c.Remedy == "" {
				t.Errorf("reason %q, remedy %q", c.Reason, c.Remedy)
			}
			if c.Verdict == Pass && !c.holds() || c.Verdict == NotJudged && c.Limit.OK {
				t.Errorf("%s with %v %s %v", c.Verdict, c.Measured, c.Relation, c.Limit)
			}
			asked := c.in(guarantees) || c.in(invariants) || c.in(checklist)
			doubted := slices.ContainsFunc(r.Doubts(), func(d Check) bool { return d.ID == k.id })
			if want := c.Verdict == Fail || c.Verdict == NotJudged && asked; doubted != want {
				t.Errorf("%s: in doubt %v, want %v", c.Verdict, doubted, want)
			}
			if !testing.Short() {
				agree(t, r)
			}
		})
	}
}

// mended is a fault that makes a check fail, and a further change, of another
// input or of a threshold, with which it passes again.
type mended struct {
	id          string
	fault, mend func(*reporttest.Fixture, *Thresholds)
}

type change = func(*reporttest.Fixture, *Thresholds)

// limits is a change of thresholds alone.
func limits(set func(*Thresholds)) change {
	return func(_ *reporttest.Fixture, t *Thresholds) { set(t) }
}

// run is a change of the run alone.
func run(set func(*reporttest.Fixture)) change {
	return func(f *reporttest.Fixture, _ *Thresholds) { set(f) }
}

var mends = []mended{
	{"grid-adherence", run(func(f *reporttest.Fixture) { f.Header.PeriodNS = 98e6 }), limits(func(t *Thresholds) { t.GridTolerance = 0.03 })},
	{"idle-baseline", run(func(f *reporttest.Fixture) { f.Baseline["duration_s"] = 30.0 }), limits(func(t *Thresholds) { t.BaselineMin = 30 * time.Second })},
	{"event-alignment", run(func(f *reporttest.Fixture) { f.First("prefill").Energy.Method = energy.TR122 }), limits(func(t *Thresholds) { t.ShortEvent = 100 * time.Millisecond })},
	{"continuity-flag", run(func(f *reporttest.Fixture) { said := f.Poller; f.Lose(100, 110); f.Poller = said }), limits(func(t *Thresholds) { t.MaxGap = 2 * time.Second })},
	{"thermal-equilibrium", run(func(f *reporttest.Fixture) { f.Soak.SlopeCPerMin = record.Some(0.6) }), limits(func(t *Thresholds) { t.SoakSlope = 0.7 })},
	{"thermal-equilibrium", run(func(f *reporttest.Fixture) { f.Soak.WindowS = record.Some(60.0) }), limits(func(t *Thresholds) { t.SoakWindow = time.Minute })},
	{"per-event-joules", run(func(f *reporttest.Fixture) { f.First("decode").Energy.Tier = energy.Estimate }), limits(func(t *Thresholds) { t.LongEvent = 2500 * time.Millisecond })},
	{"gap-fraction", run(func(f *reporttest.Fixture) { f.Lose(100, 110) }), limits(func(t *Thresholds) { t.MaxGapFraction = 0.05 })},
	{"gap-fraction", run(func(f *reporttest.Fixture) { f.Lose(100, 110) }), limits(func(t *Thresholds) { t.GapDt = 2 * time.Second })},
	{"dropped-ticks", run(func(f *reporttest.Fixture) {
		for k := 1; k < len(f.Samples); k += 20 {
			f.Lose(k, k+1)
		}
	}), limits(func(t *Thresholds) { t.MaxGapFraction = 0.1 })},
	{"no-data-gating", run(func(f *reporttest.Fixture) { f.First("prefill").Energy.PowerSamples = 1 }), run(func(f *reporttest.Fixture) { f.First("prefill").Energy.Quality = energy.NoData })},
	{"gappy-gating", run(func(f *reporttest.Fixture) { f.First("decode").Energy.GapFraction = record.Some(0.2) }), limits(func(t *Thresholds) { t.GappyFraction = 0.3 })},
	{"baseline-subtraction", run(func(f *reporttest.Fixture) { f.Baseline["idle_watts_mean"] = 99.9 }), run(func(f *reporttest.Fixture) {
		f.Each(func(e *record.Event) { e.Energy.OperationalJ.V = e.Energy.Joules.V - 99.9*e.Duration() })
	})},
	{"energy-integration", run(func(f *reporttest.Fixture) { f.First("square_high").Energy.Joules.V *= 1.1 }), limits(func(t *Thresholds) { t.Integration = 0.2 })},
	{"timestamp-bracketing", run(func(f *reporttest.Fixture) {
		f.First("prefill").RequestID, f.First("decode").RequestID = "r", "r"
		f.First("decode").StartNS -= 1e6
	}), run(func(f *reporttest.Fixture) { f.First("prefill").EndNS -= 1e6 })},
	{"tier-gating", run(func(f *reporttest.Fixture) { f.First("prefill").Energy.Tier = energy.Billable }), limits(func(t *Thresholds) { t.LongEvent, t.BillableReadings = 100*time.Millisecond, 5 })},
	{"tier-gating", run(func(f *reporttest.Fixture) { f.First("decode").Energy.GapFraction = record.Some(0.06) }), limits(func(t *Thresholds) { t.BillableGaps = 0.07 })},
	{"lateness", run(func(f *reporttest.Fixture) { f.Poller.Overall.P95LatenessMS.V = 20 }), limits(func(t *Thresholds) { t.MaxLateness = 0.3 })},
	{"idle-composite", run(func(f *reporttest.Fixture) { f.Baseline["idle_gpu_util_p95"] = 15.0 }), run(func(f *reporttest.Fixture) { f.Baseline["fake_idle_flag"] = true })},
	{"idle-composite", run(func(f *reporttest.Fixture) { f.Baseline["idle_gpu_util_p95"] = 15.0 }), limits(func(t *Thresholds) { t.MaxIdleUtil = 20 })},
	{"one-run", run(func(f *reporttest.Fixture) { f.EventsHeader.RunID = "other" }), run(func(f *reporttest.Fixture) { f.Header.RunID = "other" })},
	{"sample-validity", run(func(f *reporttest.Fixture) {
		j := f.First("square_high").Energy
		j.Method, j.PowerSamples = energy.TR122, 31
		f.Samples[55].ReadOK = false
	}), run(func(f *reporttest.Fixture) { f.First("square_high").Energy.PowerSamples = 30 })},
	{"sensor-floor", run(func(f *reporttest.Fixture) {
		for _, s := range f.Samples[:8] {
			s.PowerW = record.Some(1.2)
		}
	}), limits(func(t *Thresholds) { t.MaxFloorFraction = 0.05 })},
	{"no-throttling", run(func(f *reporttest.Fixture) { f.Samples[60].ThrottleReasons = record.Some(uint64(0x20)) }), run(func(f *reporttest.Fixture) { f.Samples[60].ThrottleReasons = record.Some(uint64(0x4)) })},
	{"thermal-safety", run(func(f *reporttest.Fixture) { f.Samples[7].TempC = record.Some(83.0) }), limits(func(t *Thresholds) { t.MaxTempC = 84 })},
	{"continuity-good", run(func(f *reporttest.Fixture) { f.Lose(100, 110) }), limits(func(t *Thresholds) { t.MaxGap, t.MaxGapFraction = 2*time.Second, 0.05 })},
	{"energy-gating", run(func(f *reporttest.Fixture) { f.First("decode").Energy.Quality = energy.NoData }), run(func(f *reporttest.Fixture) {
		f.First("decode").Energy = &record.Energy{Quality: energy.NoData, Tier: energy.Refused}
	})},
	{"metadata", run(func(f *reporttest.Fixture) { f.Header.Git = nil }), run(func(f *reporttest.Fixture) { f.Header.Git = &record.Version{Hash: "abc"} })},
	{"inputs-readable", run(func(f *reporttest.Fixture) { f.Files["soak.ndjson"] = "{\"record\":\"soak\",\n" }), run(func(f *reporttest.Fixture) { f.Without = []string{"soak.ndjson"} })},
	{"trace-complete", run(func(f *reporttest.Fixture) { f.Cut = true }), run(func(f *reporttest.Fixture) { f.Cut = false })},
	{"run-energy", run(func(f *reporttest.Fixture) { f.Power, f.Counter = nil, nil; f.Lose(100, 150) }), limits(func(t *Thresholds) { t.MaxGapFraction = 0.3 })},
	{"events-in-trace", run(func(f *reporttest.Fixture) { f.EventsHeader.BootID = "boot-2" }), run(func(f *reporttest.Fixture) { f.Header.BootID = "boot-2" })},
	{"idle-samples", run(func(f *reporttest.Fixture) { f.IdlePower[7] += 20 }), limits(func(t *Thresholds) { t.IdleTolerance = 0.01 })},
	{"counter-monotone", run(func(f *reporttest.Fixture) {
		for _, c := range f.Counter[1000:] {
			c.EnergyMilliJ.V -= 1e9
		}
	}), run(func(f *reporttest.Fixture) { f.Counter = f.Counter[1000:] })},
	{"counter-agreement", run(func(f *reporttest.Fixture) {
		for _, p := range f.Power {
			p.PowerW *= 0.95
		}
	}), limits(func(t *Thresholds) { t.CounterTolerance = 0.06 })},
	{"event-channel", run(func(f *reporttest.Fixture) { f.Each(func(e *record.Event) { e.Energy.Method = energy.Average }) }), limits(func(t *Thresholds) { t.CounterTolerance = 0.5 })},
	{"instrument-response", run(func(f *reporttest.Fixture) { f.Sensor["gpus"].([]any)[0].(map[string]any)["use"] = "power" }), run(func(f *reporttest.Fixture) {
		f.Sensor["gpus"].([]any)[0].(map[string]any)["channels"].(map[string]any)["power"].(map[string]any)["pass"] = true
	})},
}

// A fault makes each check fail, and what mends it makes it pass again: no
// verdict sticks, and no threshold is dead.
func TestFlipsBack(t *testing.T) {
	t.Parallel()
	for i, k := range mends {
		t.Run(fmt.Sprintf("%s/%d", k.id, i), func(t *testing.T) {
			t.Parallel()
			verdict := func(changes ...change) Check {
				f, limits := reporttest.New(), Default()
				for _, c := range changes {
					c(f, &limits)
				}
				r, err := Read(directory(t, f), limits)
				if err != nil {
					t.Fatal(err)
				}
				return r.Check(k.id)
			}
			if c := verdict(k.fault); c.Verdict != Fail {
				t.Errorf("with its fault: %s (%s)", c.Verdict, c.Reason)
			}
			if c := verdict(k.fault, k.mend); c.Verdict != Pass {
				t.Errorf("mended: %s (%s)", c.Verdict, c.Reason)
			}
		})
	}
}

// Every check passes on a run that stands, says from what and why, and some
// fault makes it fail, from which it comes back.
func TestEveryCheckFlips(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.New()))
	for _, c := range r.Checks {
		if c.Verdict != Pass {
			t.Errorf("%s: %s (%s): %s", c.ID, c.Verdict, c.Figure, c.Reason)
		}
		if len(c.From) == 0 || c.Figure == "" || c.Threshold == "" || c.Reason == "" {
			t.Errorf("%s: from %q, figure %q, threshold %q, reason %q", c.ID, c.From, c.Figure, c.Threshold, c.Reason)
		}
		if !c.Measured.OK || !c.Limit.OK || c.Unit == "" {
			t.Errorf("%s: measured %v %q %v in %q", c.ID, c.Measured, c.Relation, c.Limit, c.Unit)
		}
		if !slices.ContainsFunc(flips, func(k flip) bool { return k.id == c.ID && k.want == Fail }) {
			t.Errorf("nothing makes %s fail", c.ID)
		}
		if !slices.ContainsFunc(mends, func(k mended) bool { return k.id == c.ID }) {
			t.Errorf("nothing makes %s pass again", c.ID)
		}
	}
	if len(r.Checks) != len(checks) || len(r.Doubts()) > 0 {
		t.Errorf("%d checks, doubts %v", len(r.Checks), r.Doubts())
	}
}

// holds says whether a check's numbers are as a pass has them.
func (c *Check) holds() bool {
	switch a, b := c.Measured.V, c.Limit.V; c.Relation {
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">=":
		return a >= b
	}
	return false
}

// Every check stands in docs/format.md, with sections of TR122 that ask for it,
// and thresholds that there are.
func TestChecksAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			rows[strings.Trim(cells[1], " `")] = cells
		}
	}
	named := Default().Named()
	used := map[string]bool{}
	for _, k := range checks {
		cells := rows[k.id]
		if cells == nil {
			t.Errorf("%s is not in docs/format.md", k.id)
			continue
		}
		if got, want := strings.TrimSpace(cells[2]), strings.TrimPrefix(k.source, "TR122 "); got != want {
			t.Errorf("%s is asked by %q, docs/format.md says %q", k.id, want, got)
		}
		for _, name := range strings.Split(cells[4], ",") {
			if name = strings.Trim(name, " `"); name == absent {
				continue
			}
			if used[name] = true; named[name] == 0 {
				t.Errorf("%s: docs/format.md has a threshold %q that there is not", k.id, name)
			}
		}
	}
	for name := range named {
		if !used[name] {
			t.Errorf("docs/format.md does not say what %s is for", name)
		}
	}
}

// processPart has a quarter of an event's energy be that of one process.
func processPart(f *reporttest.Fixture) {
	j := f.First("square_high").Energy
	j.Joules.V, j.OperationalJ.V, j.ProcessShare = j.Joules.V/4, j.OperationalJ.V/4, record.Some(0.25)
}

// requestPart has a third of an event's power be that of one request.
func requestPart(f *reporttest.Fixture) {
	e := f.First("square_high")
	j := e.Energy
	j.Joules.V, j.OperationalJ.V = j.Joules.V/3, j.OperationalJ.V/3
	j.SharedWith, j.ChargedS = record.Some(int64(2)), record.Some(e.Duration()/3)
}
