package vram

import (
	"context"
	"errors"
	"strings"
	"testing"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// trial tries a memory, and returns the one event of it.
func trial(t *testing.T, ctx context.Context, m Memory, reserve int64, p Pattern) (*Trial, *record.Event, error) {
	t.Helper()
	var events []*record.Event
	c := clock.NewFake(1e9)
	torture := Torture{Clock: c, Emit: func(r record.Record) error {
		events = append(events, r.(*record.Event))
		return nil
	}, GPU: 3, Reserve: reserve, Hold: func(context.Context, int64) error {
		c.Advance(1e6)
		return nil
	}}
	got, err := torture.Try(ctx, "some", m, p)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	if e := events[0]; e.Phase != "vram_torture" || e.StartNS != 1e9 || e.EndNS != c.Now() || len(e.GPUs) != 1 || e.GPUs[0] != 3 {
		t.Errorf("event %+v", e)
	}
	return got, events[0], err
}

// remapping is a pool that keeps all it has and makes blocks of any free pages,
// wherever they are.
type remapping struct {
	Memory
	sizes          map[Block]int64
	reserved, used int64
	next           Block
}

func (r *remapping) Alloc(bytes int64) (Block, error) {
	if grown := r.used + bytes - r.reserved; grown > 0 {
		if _, err := r.Memory.Alloc(grown); err != nil {
			return 0, err
		}
		r.reserved += grown
	}
	r.next++
	r.used += bytes
	r.sizes[r.next] = bytes
	return r.next, nil
}

func (r *remapping) Free(b Block) error {
	r.used -= r.sizes[b]
	return nil
}

func (r *remapping) State() (State, error) {
	s, err := r.Memory.State()
	s.Reserved = r.reserved
	return s, err
}

func TestHoles(t *testing.T) {
	t.Parallel()
	const reserve = 64 * MiB
	for _, c := range []struct {
		name               string
		memory             func() Memory
		coalescing, joined string
		before, holes      [2]float64 // reserved and used, MiB
		fragmentation      float64    // of the holes
	}{
		{"plain", func() Memory { return NewBoard(1<<30, 0).Plain() }, Returned, Returned, [2]float64{400, 400}, [2]float64{200, 200}, 0},
		// Eight blocks to a chunk: 13 of 32 MiB, of which fillers leave 4.
		{"pool", func() Memory { return NewBoard(1<<30, 0).Pool() }, Grew, Joined, [2]float64{416, 412}, [2]float64{416, 212}, 204.0 / 416},
		{"remapping", func() Memory { return &remapping{Memory: NewBoard(1<<30, 0).Plain(), sizes: map[Block]int64{}} }, Joined, Joined,
			[2]float64{400, 400}, [2]float64{400, 200}, 0.5},
		// Nothing is left beside the reserve for another chunk, and a trim
		// finds no whole one; but holes that adjoin serve.
		{"full pool", func() Memory { return NewBoard(416*MiB+reserve, 0).Pool() }, Refused, Joined, [2]float64{416, 412}, [2]float64{416, 212}, 204.0 / 416},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, e, err := trial(t, t.Context(), c.memory(), reserve, Holes{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Coalescing.Outcome != c.coalescing || got.Adjoining.Outcome != c.joined || got.Coalescing.Reason == "" {
				t.Errorf("coalescing %+v, %+v: want %s, %s", got.Coalescing, *got.Adjoining, c.coalescing, c.joined)
			}
			if b, h := got.Before, got.Holes; b.ReservedMB != c.before[0] || b.UsedMB != c.before[1] || h.ReservedMB != c.holes[0] || h.UsedMB != c.holes[1] {
				t.Errorf("before %+v, holes %+v: want %v, %v", b, h, c.before, c.holes)
			}
			if got.Holes.Fragmentation != record.Some(c.fragmentation) {
				t.Errorf("fragmentation %+v, want %v", got.Holes.Fragmentation, c.fragmentation)
			}
			if c.name != "remapping" && got.LeftMB != 0 {
				t.Errorf("%v MiB are left", got.LeftMB)
			}
			if f := field(e, "coalescing"); f != `"`+c.coalescing+`"` {
				t.Errorf("the event says %s", f)
			}
		})
	}
}

// In a pool what lies between blocks in use stays there, with plain allocations
// it does not; the largest block is what the board has left, to the page.
func TestChurn(t *testing.T) {
	t.Parallel()
	const total, others, reserve = 4 << 30, 1 << 30, 256 * MiB
	c := Churn{Share: 0.9, Least: 2 * MiB, Most: 64 * MiB, Cycles: 500, Seed: 7}
	var largest [2]float64
	for i, m := range []Memory{NewBoard(total, others).Plain(), NewBoard(total, others).Pool()} {
		w := &watched{Memory: m, least: total}
		got, _, err := trial(t, t.Context(), w, reserve, c)
		if err != nil {
			t.Fatal(err)
		}
		again, _, _ := trial(t, t.Context(), m, reserve, c)
		if again.Holes.Fragmentation != got.Holes.Fragmentation || again.LargestMB != got.LargestMB {
			t.Errorf("not the same from the same seed: %+v, %+v", got, again)
		}
		if used := 0.9 * (total - others - reserve) / MiB; got.Before.UsedMB < used-64 || got.Before.UsedMB > used || got.After.UsedMB < used-128 {
			t.Errorf("used %v MiB, %v after: want up to %v", got.Before.UsedMB, got.After.UsedMB, used)
		}
		if got.Cycles != 500 || got.LeftMB != 0 || got.Holes.UsedMB > 0.6*got.After.UsedMB {
			t.Errorf("%+v", got)
		}
		if want := mib(total - others - reserve); got.LargestMB != want-got.Trimmed.ReservedMB {
			t.Errorf("largest %v MiB with %v reserved: want %v", got.LargestMB, got.Trimmed.ReservedMB, want-got.Trimmed.ReservedMB)
		}
		if w.least < reserve/2 {
			t.Errorf("others were left %d bytes, not %d", w.least, int64(reserve))
		}
		largest[i] = got.LargestMB / got.FreeMB
		if want := []string{Joined, Refused}[i]; got.Coalescing.Outcome != want {
			t.Errorf("coalescing %+v, want %s", got.Coalescing, want)
		}
	}
	if largest[1] > largest[0]-0.05 {
		t.Errorf("of what is free plain gives %v in one block, a pool %v", largest[0], largest[1])
	}
}

// A memory that is to be in use to the last MiB is trimmed on the way, and some
// blocks cannot be had; that is said.
func TestChurnToTheBrim(t *testing.T) {
	t.Parallel()
	got, _, err := trial(t, t.Context(), NewBoard(1<<30, 0).Pool(), 0, Churn{Share: 1, Least: 2 * MiB, Most: 64 * MiB, Cycles: 300, Seed: 7})
	if err != nil {
		t.Fatal(err)
	}
	if got.Refused == 0 || got.Trims < got.Refused || got.Coalescing.Outcome != Refused || !strings.Contains(got.Coalescing.Reason, "blocks could not be had") {
		t.Errorf("%+v", got)
	}
}

// A pool that holds on to what one pattern left has to be trimmed for another.
func TestTrimmedFirst(t *testing.T) {
	t.Parallel()
	m := NewBoard(448*MiB, 0).Pool()
	hog, err := m.Alloc(32 * MiB)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Free(hog); err != nil { // a chunk of its own, reserved and empty
		t.Fatal(err)
	}
	r := newRoom(m, 0)
	if _, err := r.alloc(400 * MiB); err != nil || r.trims != 0 {
		t.Fatalf("%v, %d trims", err, r.trims)
	}
	if _, err := r.alloc(48 * MiB); err != nil || r.trims != 1 {
		t.Errorf("%v, %d trims, want one to make room", err, r.trims)
	}
}

// watched notes the least that others were left.
type watched struct {
	Memory
	least int64
}

func (w *watched) Alloc(bytes int64) (Block, error) {
	b, err := w.Memory.Alloc(bytes)
	s, _ := w.State()
	w.least = min(w.least, s.Free)
	return b, err
}

// broken fails at the n-th allocation, as a device does that is lost.
type broken struct {
	Memory
	n int
}

var errLost = errors.New("device lost")

func (b *broken) Alloc(bytes int64) (Block, error) {
	if b.n--; b.n == 0 {
		return 0, errLost
	}
	return b.Memory.Alloc(bytes)
}

func TestTortureFails(t *testing.T) {
	t.Parallel()
	small := NewBoard(100*MiB, 0)
	for name, c := range map[string]struct {
		m    Memory
		p    Pattern
		want error
		says string
	}{
		"no room for the holes": {small.Plain(), Holes{}, ErrExhausted, "after 25 of 100 blocks"},
		"no room to churn":      {small.Plain(), Churn{Share: 0.1, Least: 1, Most: 64 * MiB, Cycles: 1}, ErrExhausted, "100 MiB are free"},
		"lost while filling":    {&broken{NewBoard(1<<30, 0).Pool(), 50}, Holes{}, errLost, "lost"},
		"lost in the request":   {&broken{NewBoard(1<<30, 0).Plain(), 101}, Holes{}, errLost, "lost"},
		"lost in the churn":     {&broken{NewBoard(1<<30, 0).Pool(), 60}, Churn{Share: 0.9, Least: 2 * MiB, Most: 64 * MiB, Cycles: 100}, errLost, "lost"},
	} {
		_, e, err := trial(t, t.Context(), c.m, 0, c.p)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if !strings.Contains(field(e, "error"), c.says) || field(e, "largest_mb") != "" {
			t.Errorf("%s: event %s", name, e.Extra)
		}
		if s, _ := c.m.State(); s.Reserved != 0 {
			t.Errorf("%s: %d bytes are still held", name, s.Reserved)
		}
	}
}

func TestTortureInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := NewBoard(1<<30, 0).Pool()
	got, e, err := trial(t, ctx, m, 0, Churn{Share: 0.9, Least: 2 * MiB, Most: 64 * MiB, Cycles: 1000})
	if err != nil || got.Cycles != 0 || field(e, "interrupted") != "true" {
		t.Errorf("%+v, %s, %v", got, e.Extra, err)
	}
}

func field(e *record.Event, name string) string {
	for _, f := range e.Extra {
		if f.Name == name {
			return string(f.Value)
		}
	}
	return ""
}
