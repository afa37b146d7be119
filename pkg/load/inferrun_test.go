package load

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
)

// timed is a model whose phases take their time on a clock and do nothing else.
type timed struct {
	clock  *clock.Fake
	calls  []string
	at     int // of the calls, where it does what comes next
	fails  error
	cancel context.CancelFunc
}

func (m *timed) call(name string, d time.Duration) error {
	m.calls = append(m.calls, name)
	m.clock.Advance(int64(d))
	if m.at == 0 || len(m.calls) != m.at {
		return nil
	}
	if m.cancel != nil {
		m.cancel()
		return context.Canceled
	}
	return m.fails
}

func (m *timed) Prepare(size, prompt, gen int) error { return m.call("prepare", 300*time.Millisecond) }
func (m *timed) Prefill(context.Context) error       { return m.call("prefill", 20*time.Millisecond) }
func (m *timed) Decode(context.Context) error        { return m.call("decode", 250*time.Millisecond) }

func (m *timed) Progress() int64 { return int64(len(m.calls)) }

func serve(t *testing.T, ctx context.Context, f Infer, m *timed, speed transformer.Speed) ([]*record.Event, error) {
	t.Helper()
	var events []*record.Event
	err := f.Run(ctx, m.clock, Engine{Model: m, GPUs: []int{3}, Speed: speed}, func(r record.Record) error {
		switch r := r.(type) {
		case *record.Event:
			events = append(events, r)
		case *record.Marker:
			if speed.Copy == 0 || len(events) > 0 || r.Name != "device_speed" || string(r.Extra[0].Value) != "4000000000000" || string(r.Extra[2].Value) != `"none"` {
				t.Errorf("%+v", r)
			}
		}
		return nil
	})
	return events, err
}

func TestInferRun(t *testing.T) {
	t.Parallel()
	f := Infer{
		Shape: shape(t, "gpt2"), DType: "bf16", Batches: []int{1, 2}, Prompts: []int{64}, Gens: []int{10},
		Reps: 2, Warmup: 1, Gap: time.Second, Least: 100 * time.Millisecond,
	}
	m := &timed{clock: clock.NewFake(0)}
	speed := transformer.Speed{Copy: 4e12, Matmul: 7e14}
	events, err := serve(t, context.Background(), f, m, speed)
	if err != nil || len(events) != 12 {
		t.Fatalf("%v, %d events", err, len(events))
	}
	for i, e := range events {
		last := int64(0)
		if i > 0 {
			last = events[i-1].EndNS
		}
		gap := time.Duration(e.StartNS - last)
		d := time.Duration(e.EndNS - e.StartNS)
		if i%2 == 1 && gap != 0 || i > 0 && i%2 == 0 && (gap < f.Gap/2 || gap > f.Gap*3/2) {
			t.Errorf("%s begins %v after the one before", e.ID, gap)
		}
		if len(e.GPUs) != 1 || e.GPUs[0] != 3 {
			t.Errorf("%+v", e)
		}
		if i < 4 {
			if e.Phase != "warmup" || e.InputTokens.OK || e.OutputTokens.OK || d > 250*time.Millisecond {
				t.Errorf("warm-up %+v", e)
			}
			continue
		}
		want, share, w := time.Duration(0), "", transformer.Work{}
		switch n := int(e.BatchSize.V); e.Phase {
		case "prefill":
			// Five of 20 ms are the least length.
			w = f.Shape.PrefillWork(n, 64)
			want, share = 100*time.Millisecond, field(e, "matmul_share")
			if field(e, "passes") != "5" || e.InputTokens.Or(0) != 5*64*e.BatchSize.V || field(e, "flops") != string(extra("", 5*w.FLOPs).Value) {
				t.Errorf("%+v", e)
			}
			checkShare(t, e, share, 5*w.FLOPs/0.1/7e14)
		case "decode":
			w = f.Shape.DecodeWork(n, 64, 10)
			want, share = 250*time.Millisecond, field(e, "copy_share")
			if field(e, "passes") != "" || e.OutputTokens.Or(0) != 10*e.BatchSize.V || field(e, "kv_bytes") != string(extra("", w.KVBytes).Value) {
				t.Errorf("%+v", e)
			}
			checkShare(t, e, share, float64(w.Bytes())/0.25/4e12)
		}
		if d != want {
			t.Errorf("%s takes %v, not %v", e.ID, d, want)
		}
	}
}

func checkShare(t *testing.T, e *record.Event, got string, want float64) {
	t.Helper()
	b := extra("", want).Value
	if len(got) < 6 || len(b) < 6 || got[:6] != string(b)[:6] {
		t.Errorf("%s: a share of %s, want %v", e.ID, got, want)
	}
}

// What fails, or is interrupted, ends the requests; what was before is told.
func TestInferRunEnds(t *testing.T) {
	t.Parallel()
	f := Infer{Shape: shape(t, "gpt2"), Batches: []int{1}, Prompts: []int{64}, Gens: []int{10}, Reps: 3, Gap: time.Second}
	lost := errors.New("device lost")
	// Prepare and a prefill for nothing, then prefill and decode of each request.
	for _, c := range []struct{ at, events, interrupted int }{
		{1, 0, 0}, {2, 0, 0}, {3, 0, 1}, {4, 1, 2}, {5, 2, 3}, {8, 5, 6},
	} {
		m := &timed{clock: clock.NewFake(0), at: c.at, fails: lost}
		events, err := serve(t, context.Background(), f, m, transformer.Speed{})
		if !errors.Is(err, lost) || len(events) != c.events {
			t.Errorf("call %d fails: %v, %d events", c.at, err, len(events))
		}
		for _, e := range events {
			if !e.TokensPerSecond.OK || math.IsInf(e.TokensPerSecond.V, 0) || field(e, "copy_share")+field(e, "matmul_share") != "" {
				t.Errorf("%+v", e)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		m = &timed{clock: clock.NewFake(0), at: c.at, cancel: cancel}
		events, err = serve(t, ctx, f, m, transformer.Speed{})
		if err != nil || len(events) != c.interrupted {
			t.Errorf("call %d is interrupted: %v, %d events", c.at, err, len(events))
			continue
		}
		for i, e := range events {
			last := i == len(events)-1
			if (field(e, "interrupted") == "true") != last || e.TokensPerSecond.OK == last || !strings.HasPrefix(e.ID, "gpt2_b1_r") {
				t.Errorf("%+v", e)
			}
		}
	}
}

// Nothing begins before the GPU is cool enough.
func TestInferRunWaits(t *testing.T) {
	t.Parallel()
	f := Infer{Shape: shape(t, "gpt2"), Batches: []int{1}, Prompts: []int{64}, Gens: []int{10}, Reps: 2}
	m := &timed{clock: clock.NewFake(0)}
	hot := errors.New("too hot")
	n := 0
	err := f.Run(context.Background(), m.clock, Engine{Model: m, Wait: func(context.Context, Emit) error {
		if n++; n == 2 {
			return hot
		}
		return nil
	}}, func(record.Record) error { return nil })
	if !errors.Is(err, hot) || strings.Join(m.calls, " ") != "prepare prefill prefill decode" {
		t.Errorf("%v after %v", err, m.calls)
	}
}

// stuck is a model that hangs in its second decode, until it is let go.
type stuck struct {
	decodes atomic.Int64
	steps   atomic.Int64
	free    chan struct{}
}

func (m *stuck) Prepare(size, prompt, gen int) error { return nil }
func (m *stuck) Prefill(context.Context) error       { time.Sleep(900 * time.Millisecond); return nil }
func (m *stuck) Progress() int64                     { return m.steps.Load() }
func (m *stuck) Decode(context.Context) error {
	for range 5 { // slow, but it goes on
		time.Sleep(700 * time.Millisecond)
		m.steps.Add(1)
	}
	if m.decodes.Add(1) == 2 {
		<-m.free
	}
	return nil
}

// A model that goes on, however slowly, is waited for; one that hangs is given up,
// and what was under way is told.
func TestInferRunHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := Infer{Shape: shape(t, "gpt2"), Batches: []int{1}, Prompts: []int{64}, Gens: []int{10}, Reps: 3, Gap: time.Second}
		m := &stuck{free: make(chan struct{})}
		var events []*record.Event
		c := bubble{epoch: time.Now()}
		err := f.Run(t.Context(), c, Engine{Model: m, GPUs: []int{3}, Stall: time.Second}, func(r record.Record) error {
			events = append(events, r.(*record.Event))
			return nil
		})
		if stalled := (*StallError)(nil); !errors.As(err, &stalled) || stalled.GPU != 3 || stalled.Time < time.Second || stalled.Time > 1300*time.Millisecond {
			t.Errorf("%v", err)
		}
		if len(events) != 4 {
			t.Fatalf("%d events", len(events))
		}
		last := events[3]
		if last.Phase != "decode" || field(last, "interrupted") != "true" || field(last, "error") == "" || last.OutputTokens.OK || last.EndNS-last.StartNS < int64(4*time.Second) {
			t.Errorf("%+v", last)
		}
		if events[2].Phase != "prefill" || field(events[2], "interrupted") != "" || !events[2].InputTokens.OK {
			t.Errorf("%+v", events[2])
		}
		told := len(events)
		close(m.free) // too late
		synctest.Wait()
		if len(events) != told || last.OutputTokens.OK {
			t.Errorf("%d events, %+v", len(events), last)
		}
	})
}
