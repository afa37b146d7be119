package energy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

const second = int64(1e9)

// did is a record of a process: its share in per cent, between two seconds.
func did(from, to float64, pid int64, percent float64) *record.Process {
	r := &record.Process{StartNS: int64(from * 1e9), TimeNS: int64(to * 1e9)}
	if pid != 0 {
		r.PID, r.SMUtil = record.Some(pid), some(percent)
	}
	return r
}

// told is an event of a process between two seconds.
func told(id string, from, to float64, pid string) *record.Event {
	e := event(id, int64(from*1e9), int64(to*1e9))
	e.Phase = "work"
	if pid != "" {
		e.Extra = []record.Field{{Name: "pid", Value: json.RawMessage(pid)}}
	}
	return e
}

// steady is 40 s of the driver's buffer at 300 W, with what processes did, each
// record of them so late after its time.
func steady(late float64, processes ...*record.Process) []record.Record {
	var trace []record.Record
	processes = slices.SortedStableFunc(slices.Values(processes), func(a, b *record.Process) int { return record.Compare(a, b) })
	for ns := int64(0); ns <= 40*second; ns += 20 * ms {
		for len(processes) > 0 && float64(processes[0].TimeNS)/1e9+late <= float64(ns)/1e9 {
			trace = append(trace, processes[0])
			processes = processes[1:]
		}
		trace = append(trace, &record.Power{TimeNS: ns, PowerW: 300})
	}
	for _, p := range processes {
		trace = append(trace, p)
	}
	return trace
}

// each second from the first to before the last, these shares by pid.
func eachSecond(from, to int, shares map[int64]float64) (list []*record.Process) {
	for s := from; s < to; s++ {
		for pid, share := range shares {
			list = append(list, did(float64(s), float64(s+1), pid, share))
		}
	}
	slices.SortFunc(list, func(a, b *record.Process) int {
		return cmp.Or(cmp.Compare(a.TimeNS, b.TimeNS), cmp.Compare(a.PID.V, b.PID.V))
	})
	return list
}

// TestProcessShare has events in a trace of 300 W, by hand.
func TestProcessShare(t *testing.T) {
	t.Parallel()
	two := eachSecond(0, 30, map[int64]float64{7: 60, 8: 30})
	// noise is one standard deviation of the share for whole per cent of so many
	// records of a second each, of the process and of the others.
	noise := func(w, others, n, m float64) float64 {
		return math.Sqrt(others*others*n*1e-4/12+w*w*m*1e-4/12) / ((w + others) * (w + others))
	}
	ci := func(noise, share, bound float64) float64 {
		return math.Hypot(z95*math.Hypot(noise, unlike*share*(1-share)), bound)
	}
	implausible := did(12, 13, 7, 0)
	implausible.SMUtil, implausible.Error = opt{}, "IMPLAUSIBLE"
	failed := did(12, 13, 0, 0)
	failed.Error = "NVML_ERROR_UNKNOWN"
	allFailed := did(10, 20, 0, 0)
	allFailed.Error = "NVML_ERROR_UNKNOWN"
	for _, tt := range []struct {
		name      string
		processes []*record.Process
		from, to  float64
		pid       string
		joules    opt
		share, ci float64 // where there are joules
		tier      string
		reason    string
	}{
		{"two thirds", two, 10, 20, "7", some(2000), 2. / 3, ci(noise(6, 3, 10, 10), 2./3, 0), Refused, "the interval is ±42.5 % of it"},
		{"nine tenths", eachSecond(0, 30, map[int64]float64{7: 90, 8: 10}), 10, 20, "7", some(2700), 0.9, ci(noise(9, 1, 10, 10), 0.9, 0), Estimate,
			"process 7 has 90 % ± 11.5 % of the energy, as of the time with a kernel running: that is told in whole per cent for up to 1 s at a time, and says nothing of power, in which kernels differ by a factor of three"},
		{"the other third", two, 10, 20, "8", some(1000), 1. / 3, ci(noise(3, 6, 10, 10), 1./3, 0), Refused, "process 8 has 33.3 % ± 28.3 %"},
		{"a number as other programs write it", two, 10, 20, " 7.0 ", some(2000), 2. / 3, ci(noise(6, 3, 10, 10), 2./3, 0), Refused, "process 7 has"},
		{"alone", eachSecond(0, 30, map[int64]float64{7: 60}), 10, 20, "7", some(3000), 1, 0, Billable, ""},
		{"alone, and one that rests", eachSecond(0, 30, map[int64]float64{7: 60, 8: 0}), 10, 20, "7", some(3000), 1, z95 * noise(6, 0, 10, 10), Billable, ""},
		// Of the 0.6 s that it ran from 10 to 11 s, 0.1 to 0.5 s were in the last
		// half; of the other's 0.3 s, none to all. Both edges.
		{"edges within records", two, 10.5, 19.5, "7", some(1800), 2. / 3,
			ci(math.Sqrt((2.7*2.7+5.4*5.4)*8.5*1e-4/12)/(8.1*8.1), 2./3, (2.7*0.4+5.4*0.3)/(8.1*8.1)), Refused, "process 7 has 66.7 %"},
		{"all within a record", two, 10.4, 10.5, "7", some(20), 2. / 3, 2. / 3, Refused, "process 7 has 66.7 % ± 66.7 %"},
		{"it is not there", two, 10, 20, "9", some(0), 0, 0.05 / 9, Refused, "process 9 is in no process record of the event, and others are: in a container"},
		{"nor seen for a second", slices.DeleteFunc(slices.Clone(two), func(p *record.Process) bool { return p.StartNS == 12*second }), 10, 20, "9",
			some(0), 0, 1/(9*0.9+1) + 0.045/8.1, Refused, "process records leave out 10 % of the event"},
		{"alone, but not seen for a second", slices.DeleteFunc(eachSecond(0, 30, map[int64]float64{7: 60}), func(p *record.Process) bool { return p.StartNS == 12*second }),
			10, 20, "7", some(3000), 1, 1 - 5.4/(5.4+1), Estimate, "process records leave out 10 % of the event"},
		{"alone, and not believed for a second", append(slices.DeleteFunc(eachSecond(0, 30, map[int64]float64{7: 60}), func(p *record.Process) bool { return p.StartNS == 12*second }), implausible),
			10, 20, "7", some(3000), 1, 1 - 5.4/(5.4+1), Estimate, "leave out 10 %"},
		{"alone, and a call failed", append(slices.DeleteFunc(eachSecond(0, 30, map[int64]float64{7: 60}), func(p *record.Process) bool { return p.StartNS == 12*second }), failed),
			10, 20, "7", some(3000), 1, 1 - 5.4/(5.4+1), Estimate, "leave out 10 %"},
		{"no records", nil, 10, 20, "7", opt{}, 0, 0, Refused, "the part of process 7: the trace has no process records over the event: poll with --channels …,process"},
		{"records of another time", eachSecond(0, 5, map[int64]float64{7: 60}), 10, 20, "7", opt{}, 0, 0, Refused, "no process records over the event"},
		{"nothing but failures", []*record.Process{allFailed}, 10, 20, "7", opt{}, 0, 0, Refused, "the driver did not tell what processes did in the event (NVML_ERROR_UNKNOWN)"},
		{"none at work", eachSecond(0, 30, map[int64]float64{0: 0}), 10, 20, "7", opt{}, 0, 0, Refused, "no process was at work in the event"},
		{"none at work, as far as is seen", eachSecond(0, 15, map[int64]float64{0: 0}), 10, 20, "7", opt{}, 0, 0, Refused, "no process was at work in the event, so far as process records tell of it (50 %)"},
		{"no pid", two, 10, 20, "", some(3000), -1, 0, Billable, ""},
		{"no number", two, 10, 20, `"7"`, some(3000), -1, 0, Billable, ""},
		{"no process", two, 10, 20, "-7", some(3000), -1, 0, Billable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, late := range []float64{0, 0.9, 5} {
				e := told("e", tt.from, tt.to, tt.pid)
				e.OutputTokens = record.Some(int64(10))
				out, _ := run(t, Options{Method: Driver, Idle: map[int]float64{0: 100}}, steady(late, tt.processes...), []record.Record{e})
				got := out["e"].Energy
				if got.Joules.OK != tt.joules.OK || math.Abs(got.Joules.V-tt.joules.V) > 1e-9 {
					t.Fatalf("%v J, want %v; %+v", got.Joules, tt.joules, got)
				}
				if got.Tier != tt.tier || tt.reason != "" && !strings.Contains(strings.Join(got.Reasons, "\n"), tt.reason) || tt.reason == "" && len(got.Reasons) > 0 {
					t.Errorf("%s late by %v s: %q, want %s and %q", got.Tier, late, got.Reasons, tt.tier, tt.reason)
				}
				if slices.ContainsFunc(got.Reasons, func(s string) bool { return strings.Contains(s, "NaN") || strings.Contains(s, "Inf") }) {
					t.Errorf("%q", got.Reasons)
				}
				if !tt.joules.OK {
					if got.Quality != NoData || got.ProcessShare.OK || got.OperationalJ.OK || got.JoulesPerToken.OK || got.OperationalClamped.OK {
						t.Errorf("numbers that there are none of: %+v", got)
					}
					return
				}
				share := tt.share
				if share < 0 {
					if share = 1; got.ProcessShare.OK || got.ProcessShareCI95.OK {
						t.Errorf("a share of nothing: %+v", got)
					}
				} else if math.Abs(got.ProcessShare.V-share) > 1e-12 || math.Abs(got.ProcessShareCI95.V-tt.ci) > 1e-12 || !got.ProcessShareCI95.OK {
					t.Errorf("share %v ± %v, want %v ± %v", got.ProcessShare, got.ProcessShareCI95, share, tt.ci)
				}
				above := share * 200 * (tt.to - tt.from)
				if !near(got.OperationalJ.V, above, 1e-9) || !near(got.OperationalClamped.V, above, 1e-9) ||
					!near(got.JoulesPerToken.V, tt.joules.V/10, 1e-9) || !near(got.OperationalPerTok.V, above/10, 1e-9) {
					t.Errorf("above idle %v, %v, want %v; a token %v, %v", got.OperationalJ, got.OperationalClamped, above, got.JoulesPerToken, got.OperationalPerTok)
				}
				if len(out["e"].Extra) != len(e.Extra) {
					t.Errorf("further fields %v, want %v", out["e"].Extra, e.Extra)
				}
			}
		})
	}
}

// An event waits for records that come late, and not for ever.
func TestProcessesAreWaitedFor(t *testing.T) {
	t.Parallel()
	for _, late := range []float64{0.1, 3, 9, 25} {
		trace := steady(late, eachSecond(0, 40, map[int64]float64{7: 60, 8: 60})...)
		var at int64
		a, err := New(Options{Method: Driver}, func(e *record.Event) error {
			at = -1
			if e.Energy.Joules.OK {
				at = 1
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Event(told("e", 2.5, 3.5, "7")); err != nil {
			t.Fatal(err)
		}
		for _, r := range trace {
			if err := a.Observe(r); err != nil {
				t.Fatal(err)
			}
			if at != 0 {
				at *= a.now
				break
			}
		}
		// The record from 3 to 4 s is the last that it touches; the next says so.
		want := int64((5 + late) * 1e9)
		if late == 25 {
			want = -int64(13.5e9)
		}
		if math.Abs(float64(at-want)) > 25e6 {
			t.Errorf("late by %v s: handed on at %v s, want %v s (negative: without a number)", late, float64(at)/1e9, float64(want)/1e9)
		}
		if n := len(a.gpus[0].workers.waiting); n != 0 {
			t.Errorf("late by %v s: %d events are still waited for", late, n)
		}
	}
}

// TestPartsOfProcessesAddUp lays an event for each process on the same time: by every
// method, their joules are together those of an event without a process.
func TestPartsOfProcessesAddUp(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var trace, events []record.Record
		mJ, w := 0.0, 300.0
		for ns := int64(0); ns <= 60*second; ns += 20 * ms {
			if ns%(500*ms) == 0 {
				w = 100 + 500*rng.Float64()
			}
			mJ += w * 20
			at := w + rng.NormFloat64()
			trace = append(trace, &record.Power{TimeNS: ns, PowerW: at})
			if ns%(100*ms) == 0 {
				trace = append(trace, &record.Counter{BeforeNS: ns, TimeNS: ns, EnergyMilliJ: record.Some(int64(mJ))},
					&record.Sample{TimeNS: ns, ReadOK: true, PowerW: some(at), PowerInstantW: some(at), PowerAverageW: some(at)})
			}
		}
		pids := int64(1 + rng.IntN(5))
		for pid := range pids {
			for from := rng.Float64(); from < 58; {
				to := from + 0.05 + 2*rng.Float64()
				trace = append(trace, did(from, to, pid+1, float64(rng.IntN(101))))
				if from = to; rng.IntN(4) == 0 {
					from += rng.Float64()
				}
			}
		}
		slices.SortStableFunc(trace, record.Compare)
		const n = 8
		for i := range n {
			from := 5 + 5*float64(i) + rng.Float64()
			to := from + 0.5 + 4*rng.Float64()
			events = append(events, told(fmt.Sprint("whole", i), from, to, ""))
			for pid := range pids {
				events = append(events, told(fmt.Sprintf("%d of %d", pid+1, i), from, to, fmt.Sprint(pid+1)))
			}
		}
		for _, method := range Methods() {
			if method == TR122 {
				continue
			}
			out, _ := run(t, Options{Method: method, Idle: map[int]float64{0: 100}}, trace, events)
			sums := 0
			for i := range n {
				whole := out[fmt.Sprint("whole", i)].Energy
				got := record.Energy{}
				all := true
				for pid := range pids {
					e := out[fmt.Sprintf("%d of %d", pid+1, i)].Energy
					all = all && e.Joules.OK
					got.Joules.V += e.Joules.V
					got.OperationalJ.V += e.OperationalJ.V
					got.OperationalClamped.V += e.OperationalClamped.V
					got.IntegratedJ.V += e.IntegratedJ.V
					got.CounterJ.V += e.CounterJ.V
					got.ProcessShare.V += e.ProcessShare.V
				}
				if !all {
					continue
				}
				sums++
				for _, x := range []struct {
					what      string
					got, want float64
				}{
					{"energy", got.Joules.V, whole.Joules.V}, {"above idle", got.OperationalJ.V, whole.OperationalJ.V},
					{"clamped", got.OperationalClamped.V, whole.OperationalClamped.V},
					{"integrated", got.IntegratedJ.V, whole.IntegratedJ.V}, {"counter", got.CounterJ.V, whole.CounterJ.V},
					{"share", got.ProcessShare.V, 1},
				} {
					if !near(x.got, x.want, 1e-12) {
						t.Errorf("seed %d, %s, event %d: parts of %d processes have %s %v, the whole %v", seed, method, i, pids, x.what, x.got, x.want)
					}
				}
			}
			if sums < n/2 {
				t.Errorf("seed %d, %s: only %d of %d events have parts", seed, method, sums, n)
			}
		}
	}
}

// TestProcessInterval has auto's intervals hold the share's, and not the sums of
// repetitions take away what kernels differ in.
func TestProcessInterval(t *testing.T) {
	t.Parallel()
	var events []record.Record
	for i := range 8 {
		from := 3 + 4*float64(i)
		events = append(events, told(fmt.Sprint("whole", i), from, from+3, ""), told(fmt.Sprint("part", i), from, from+3, "7"))
	}
	for _, e := range events {
		if e := e.(*record.Event); strings.HasPrefix(e.ID, "whole") {
			e.Phase = "all"
		}
	}
	out, a := run(t, Options{}, steady(0.5, eachSecond(0, 40, map[int64]float64{7: 90, 8: 10})...), events)
	for i := range 8 {
		whole, part := out[fmt.Sprint("whole", i)].Energy, out[fmt.Sprint("part", i)].Energy
		s, ci := part.ProcessShare.V, part.ProcessShareCI95.V
		if math.Abs(s-0.9) > 1e-12 || ci < z95*unlike*0.09 || ci > 0.2 {
			t.Errorf("share %v ± %v", s, ci)
		}
		for _, x := range []struct{ got, half, whole opt }{
			{part.CI95J, whole.CI95J, whole.Joules}, {part.AbsoluteCI95J, whole.AbsoluteCI95J, whole.Joules}, {part.IntegratedCI95J, whole.IntegratedCI95J, whole.IntegratedJ},
		} {
			if want := math.Hypot(s*x.half.V, ci*x.whole.V); !near(x.got.V, want, 1e-9) || want == 0 {
				t.Errorf("half-width %v, want %v", x.got, want)
			}
		}
		if part.Tier != Estimate || whole.Tier == Estimate {
			t.Errorf("%s of %s: %q", part.Tier, whole.Tier, part.Reasons)
		}
	}
	for _, s := range a.Summaries() {
		if s.Phase != "work" {
			continue
		}
		// Of 8 repetitions the noise is a third; what kernels differ in is the same in all.
		if least := z95 * unlike * 0.09 * 900; !(s.CI95J.V >= least*0.999 && s.CI95J.V < 1.3*least) {
			t.Errorf("the mean of 8 repetitions is good to %v J, want %v or a little more", s.CI95J, least)
		}
	}
}

// Two GPUs, on which the process has a third and the whole.
func TestProcessOverGPUs(t *testing.T) {
	t.Parallel()
	var trace []record.Record
	for _, r := range steady(0, eachSecond(0, 30, map[int64]float64{7: 30, 8: 60})...) {
		trace = append(trace, r)
		if p, ok := r.(*record.Power); ok {
			trace = append(trace, &record.Power{TimeNS: p.TimeNS, GPU: 1, PowerW: 100})
		}
	}
	for _, p := range eachSecond(0, 30, map[int64]float64{7: 30}) {
		p.GPU = 1
		trace = append(trace, p)
	}
	slices.SortStableFunc(trace, record.Compare)
	var events []record.Record
	for _, pid := range []string{"7", "8"} {
		e := told(pid, 10, 20, pid)
		e.GPUs = []int{0, 1}
		events = append(events, e)
	}
	out, _ := run(t, Options{Method: Driver}, trace, events)
	seven, eight := out["7"].Energy, out["8"].Energy
	if !near(seven.Joules.V, 2000, 1e-12) || !near(eight.Joules.V, 2000, 1e-12) {
		t.Errorf("%v J and %v J, want half of 4000 J each", seven.Joules, eight.Joules)
	}
	// The truth is between a third, as on the one, and all, as on the other.
	if ci := seven.ProcessShareCI95.V; ci < 0.5 || ci > 0.5+1e-9 {
		t.Errorf("share %v ± %v", seven.ProcessShare, ci)
	}
}

// Requests of two processes at the same time, under the same names or others,
// share with their own alone, and are summed up apart.
func TestRequestsOfProcesses(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"r1", "r1"}, {"r1", "r2"}} {
		var events []record.Record
		for k, pid := range []string{"7", "8"} {
			for i, phase := range []string{"prefill", "decode"} {
				e := told(phase+pid, 10+5*float64(i), 15+5*float64(i), pid)
				e.Phase, e.RequestID, e.OutputTokens = phase, names[k], record.Some(int64(1))
				events = append(events, e)
			}
		}
		slices.SortStableFunc(events, record.Compare)
		out, a := run(t, Options{}, steady(0.5, eachSecond(0, 40, map[int64]float64{7: 75, 8: 25})...), events)
		for id, want := range map[string]float64{"prefill7": 1125, "decode7": 1125, "prefill8": 375, "decode8": 375} {
			e := out[id].Energy
			if !near(e.Joules.V, want, 1e-3) || e.SharedWith.OK {
				t.Errorf("%v, %s: %v J, want %v; shared with %v", names, id, e.Joules, want, e.SharedWith)
			}
		}
		for _, s := range a.Summaries() {
			if s.Phase == "request" && (s.Events != 2 || !near(s.EnergyTotalJ.V, 3000, 1e-3)) {
				t.Errorf("%v: %d requests of %v J, want 2 of 3000 J", names, s.Events, s.EnergyTotalJ)
			}
		}
	}
}

// TestTR122KnowsNoProcesses compares its outcome with that of the same trace and
// events without processes.
func TestTR122KnowsNoProcesses(t *testing.T) {
	t.Parallel()
	var plain []record.Record
	for ns := int64(0); ns <= 40*second; ns += 100 * ms {
		plain = append(plain, sample(ns, 300+float64(ns/ms%700)))
	}
	with := slices.Clone(plain)
	for _, p := range eachSecond(0, 40, map[int64]float64{7: 60, 8: 30}) {
		with = append(with, p)
	}
	slices.SortStableFunc(with, record.Compare)
	for i := range 30 {
		from := float64(i) * 1.17
		a, _ := run(t, Options{Method: TR122}, plain, []record.Record{told("e", from, from+2, "")})
		b, _ := run(t, Options{Method: TR122}, with, []record.Record{told("e", from, from+2, "7")})
		want, _ := json.Marshal(a["e"].Energy)
		got, _ := json.Marshal(b["e"].Energy)
		if string(got) != string(want) {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}
