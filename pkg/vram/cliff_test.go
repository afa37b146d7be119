package vram

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// fitting is a model of 1000 MiB of weights and 3 MiB for each token.
func fitting(context int) []Buffer {
	return []Buffer{{Weights, 1000 * MiB}, {KV, int64(context) * 2 * MiB}, {Activations, int64(context) * MiB}}
}

// fall is what a cliff finds on a simulated board, and its events.
func fall(t *testing.T, c Cliff) (*Fall, []*record.Event, error) {
	t.Helper()
	var events []*record.Event
	now := clock.NewFake(1e9)
	c.Clock, c.Model, c.Batch = now, "toy", 2
	c.Emit = func(r record.Record) error {
		now.Advance(1e6)
		events = append(events, r.(*record.Event))
		return nil
	}
	if c.Buffers == nil {
		c.Buffers = fitting
	}
	if c.Engine == nil {
		c.Engine = &Held{Memory: c.Memory, Buffers: c.Buffers}
	}
	before, _ := c.Memory.State()
	found, err := c.Run(t.Context())
	if after, _ := c.Memory.State(); after.Free > before.Free {
		t.Errorf("there is more free than before: %+v, %+v", before, after)
	}
	return found, events, err
}

// greedy is an engine that takes more than its buffers, by so many bytes, and
// runs out of memory in a prefill beyond some context.
type greedy struct {
	Held
	more   int64 // for an odd job
	lazy   int64 // taken by a prefill alone
	most   int
	block  Block
	late   Block
	now    int
	leaks  bool
	failed error
}

func (g *greedy) Open(context int) (err error) {
	if g.failed != nil {
		return g.failed
	}
	if err := g.Held.Open(context); err != nil {
		return err
	}
	g.now = context
	if g.block, err = g.Memory.Alloc(g.more); err != nil {
		return errors.Join(err, g.Held.Close())
	}
	return nil
}

func (g *greedy) Prefill() error {
	if g.now > g.most {
		return ErrExhausted
	}
	if g.lazy == 0 {
		return nil
	}
	var err error
	g.late, err = g.Memory.Alloc(g.lazy)
	return err
}

func (g *greedy) Release() error { return g.Close() }

func (g *greedy) Close() error {
	if g.leaks {
		return g.Held.Close()
	}
	err := g.Held.Close()
	if g.block != 0 {
		err = errors.Join(err, g.Memory.Free(g.block))
		g.block = 0
	}
	if g.late != 0 {
		err = errors.Join(err, g.Memory.Free(g.late))
		g.late = 0
	}
	return err
}

// resident is an engine that keeps its weights.
type resident struct {
	Held
	weights Block
}

func (r *resident) Open(context int) (err error) {
	if r.weights == 0 {
		if r.weights, err = r.Memory.Alloc(fitting(1)[0].Bytes); err != nil {
			return err
		}
	}
	return r.Held.Open(context)
}

func (r *resident) Close() error {
	err := r.Release()
	if r.weights != 0 {
		err = errors.Join(err, r.Memory.Free(r.weights))
		r.weights = 0
	}
	return err
}

func TestCliff(t *testing.T) {
	t.Parallel()
	lazy := func(bytes int64) func(Memory) Engine {
		return func(m Memory) Engine {
			return &greedy{Held: Held{Memory: m, Buffers: fitting}, more: 2, lazy: bytes, most: 1 << 20}
		}
	}
	modest := func(m Memory) Engine {
		return &Held{Memory: m, Buffers: func(context int) []Buffer { return fitting(context)[:2] }}
	}
	keeps := func(m Memory) Engine {
		return &resident{Held: Held{Memory: m, Buffers: func(context int) []Buffer { return fitting(context)[1:] }}}
	}
	engine := func(more int64, most int) func(Memory) Engine {
		return func(m Memory) Engine { return &greedy{Held: Held{Memory: m, Buffers: fitting}, more: more, most: most} }
	}
	for _, c := range []struct {
		name      string
		freeMB    int64
		reserveMB int64
		window    int
		most      int
		engine    func(Memory) Engine
		limit     Edge
		found     int
		predicted int
		error     float64 // per cent; NaN: absent
	}{
		// (5000 − 1000) / 3 = 1333.3; buffers are in pages of 2 MiB, and with an
		// odd number of tokens activations take one MiB more.
		{"capacity", 5000, 0, 1 << 20, 0, nil, Capacity, 1333, 1333, 0},
		{"capacity beside a reserve", 5000, 1000, 1 << 20, 0, nil, Capacity, 1000, 1000, 0},
		{"window", 5000, 0, 1024, 0, nil, Architecture, 1024, 1333, math.NaN()},
		{"asked", 5000, 0, 1 << 20, 100, nil, Asked, 100, 1333, math.NaN()},
		{"asked beyond the window", 5000, 0, 1024, 4096, nil, Architecture, 1024, 1333, math.NaN()},
		{"nothing", 1002, 0, 1024, 0, nil, Nothing, 0, 0, math.NaN()},
		{"one token", 1004, 0, 1024, 0, nil, Capacity, 1, 1, 0},
		{"the engine takes more", 5000, 0, 1 << 20, 0, engine(300*MiB, 1<<20), Capacity, 1233, 1333, 100 * 100 / 1233.},
		{"the engine takes more, beside a reserve", 5000, 800, 1 << 20, 0, engine(300*MiB, 1<<20), Capacity, 966, 1066, 100 * 100 / 966.},
		{"the engine takes less", 5000, 500, 1 << 20, 0, modest, Capacity, 1750, 1166, 100 * -584 / 1750.},
		{"weights stay", 5000, 500, 1 << 20, 0, keeps, Capacity, 1166, 1166, 0},
		{"weights have no room", 900, 0, 1 << 20, 0, keeps, Nothing, 0, 0, math.NaN()},
		{"a prefill takes more than is left", 5000, 0, 1 << 20, 0, lazy(200 * MiB), Capacity, 1266, 1333, 100 * 67 / 1266.},
		{"a prefill takes of the reserve", 5000, 800, 1 << 20, 0, lazy(200 * MiB), Capacity, 999, 1066, 100 * 67 / 999.},
		{"prefill takes more", 5000, 0, 1 << 20, 0, engine(2, 777), Capacity, 777, 1333, 100 * 556 / 777.},
		{"prefill takes more than the window", 5000, 0, 1024, 0, engine(2, 777), Capacity, 777, 1333, 100 * 556 / 777.},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := NewBoard((c.freeMB+100)*MiB, 100*MiB).Plain()
			w := &watched{Memory: m, least: c.freeMB * MiB}
			cliff := Cliff{Memory: w, Reserve: c.reserveMB * MiB, Window: c.window, Most: c.most, Context: record.Some(int64(40 * MiB))}
			if c.engine != nil {
				cliff.Engine = c.engine(w)
			}
			got, events, err := fall(t, cliff)
			if err != nil {
				t.Fatal(err)
			}
			if got.Limit != c.limit || got.MaxContext != c.found || got.Predicted.Unbounded != c.predicted {
				t.Errorf("%s %d, predicted %d: want %s %d, %d", got.Limit, got.MaxContext, got.Predicted.Unbounded, c.limit, c.found, c.predicted)
			}
			if e, ok := got.ErrorPct.Get(); ok == math.IsNaN(c.error) || ok && math.Abs(e-c.error) > 1e-9 {
				t.Errorf("error %+v %%, want %v", got.ErrorPct, c.error)
			}
			if w.least < c.reserveMB*MiB/2 {
				t.Errorf("others were left %v MiB of %d", mib(w.least), c.reserveMB)
			}
			if s, _ := m.State(); s.Free != c.freeMB*MiB {
				t.Errorf("%v MiB are still held", float64(c.freeMB)-mib(s.Free))
			}
			tries := 0
			for i, e := range events {
				if e.Phase == "vram_cliff" {
					tries++
				}
				if e.Model != "toy" || e.BatchSize.Or(0) != 2 || i > 0 && e.StartNS < events[i-1].EndNS {
					t.Errorf("event %+v", e)
				}
			}
			if tries != got.Probes || tries > 60 {
				t.Errorf("%d probes, %d events of them", got.Probes, tries)
			}
			if c.found == 0 {
				return
			}
			last := events[len(events)-1]
			if r := got.Recovery; !r.OutOfMemory || !r.Works || r.LeftMB != 0 || last.Phase != "vram_recovery" || field(last, "works") != "true" {
				t.Errorf("recovery %+v, event %s", r, last.Extra)
			}
			p := got.Peak
			if p.Context != c.found || p.WeightsMB != 1000 || p.KVMB != 2*float64(c.found) || p.ActivationsMB != float64(c.found) ||
				p.BeforeMB.Or(0) != 100 || p.ContextMB.Or(0) != 40 || math.Abs(p.ModelMB+p.FreeMB.Or(0)-float64(c.freeMB)) > 1e-3 {
				t.Errorf("peak %+v", p)
			}
			if c.error == 0 && (got.MemoryErrorPct.Or(1) != 0 || got.PrefillS.OK) {
				t.Errorf("memory error %+v, prefill %+v", got.MemoryErrorPct, got.PrefillS)
			}
			if c.error < 0 && (got.MemoryErrorPct.Or(0) <= 0 || got.PrefillS.OK) {
				t.Errorf("memory error %+v, prefill %+v", got.MemoryErrorPct, got.PrefillS)
			}
			if c.error > 0 && (got.MemoryErrorPct.Or(0) >= 0 || !got.PrefillS.OK) {
				t.Errorf("memory error %+v, prefill %+v", got.MemoryErrorPct, got.PrefillS)
			}
		})
	}
}

func TestCliffFails(t *testing.T) {
	t.Parallel()
	m := NewBoard(5000*MiB, 0).Plain()
	_, events, err := fall(t, Cliff{Memory: m, Window: 1 << 20, Engine: &greedy{Held: Held{Memory: m, Buffers: fitting}, failed: errLost}})
	if !errors.Is(err, errLost) || len(events) != 1 || !strings.Contains(field(events[0], "error"), "lost") {
		t.Errorf("%v, %v", err, events)
	}

	// Memory that is not given back is seen, and so is that the context which
	// fitted does no longer.
	found, _, err := fall(t, Cliff{Memory: m, Window: 1333, Engine: &greedy{Held: Held{Memory: m, Buffers: fitting}, more: 4 * MiB, most: 1 << 20, leaks: true}})
	if err == nil && (found.Recovery.Works || found.Recovery.LeftMB < 4) || err != nil && !strings.Contains(err.Error(), "fitted and do no longer") {
		t.Errorf("%+v, %v", found, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Cliff{Clock: clock.NewFake(0), Memory: m, Window: 10, Buffers: fitting, Engine: &Held{Memory: m, Buffers: fitting}}
	if _, err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
