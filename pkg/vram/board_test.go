package vram

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// A pool under random use: blocks never overlap, free and used are all of what
// is reserved, the board's account is right, and nothing is left in the end.
func TestPoolKeepsItsAccounts(t *testing.T) {
	t.Parallel()
	const total = 1 << 30
	for seed := range uint64(20) {
		board := NewBoard(total, 0)
		p := board.Pool().(*pool)
		dice := rand.New(rand.NewPCG(seed, 0))
		type held struct {
			at    Block
			bytes int64
		}
		var blocks []held
		refused := 0
		for range 3000 {
			if len(blocks) > 0 && dice.IntN(2) == 0 {
				i := dice.IntN(len(blocks))
				if err := p.Free(blocks[i].at); err != nil {
					t.Fatal(err)
				}
				blocks[i] = blocks[len(blocks)-1]
				blocks = blocks[:len(blocks)-1]
			} else {
				bytes := 1 + dice.Int64N(80*MiB)
				at, err := p.Alloc(bytes)
				if errors.Is(err, ErrExhausted) {
					refused++
					if err := p.Trim(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range blocks {
					if at < o.at+Block(o.bytes) && o.at < at+Block(bytes) {
						t.Fatalf("seed %d: %d bytes at %#x lie over %d at %#x", seed, bytes, at, o.bytes, o.at)
					}
				}
				blocks = append(blocks, held{at, bytes})
			}
			sum := int64(0)
			for i, s := range p.free {
				sum += s.bytes
				if i > 0 && p.free[i-1].end() == s.at && p.free[i-1].chunk == s.chunk {
					t.Fatalf("seed %d: two free stretches adjoin at %#x", seed, s.at)
				}
			}
			for _, size := range p.sizes {
				sum += size
			}
			if s, _ := p.State(); s.Reserved != sum || s.Free != total-sum {
				t.Fatalf("seed %d: %d bytes used and free, state %+v", seed, sum, s)
			}
		}
		if refused == 0 {
			t.Errorf("seed %d: the board was never full", seed)
		}
		for _, b := range blocks {
			if err := p.Free(b.at); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Trim(); err != nil {
			t.Fatal(err)
		}
		if s, _ := p.State(); s.Reserved != 0 || s.Free != total || len(p.chunks)+len(p.free) > 0 {
			t.Errorf("seed %d: left %+v, %d chunks", seed, s, len(p.chunks))
		}
	}
}

func TestPlainTakesWholePages(t *testing.T) {
	t.Parallel()
	board := NewBoard(10*MiB, 3*MiB) // 3 pages are free, of 5
	m := board.Plain()
	a, err := m.Alloc(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Alloc(2*Page + 1); !errors.Is(err, ErrExhausted) {
		t.Errorf("three pages where two are free: %v", err)
	}
	if s, _ := m.State(); s != (State{Reserved: Page, Free: 2 * Page, Total: 5 * Page}) {
		t.Errorf("state %+v", s)
	}
	if err := m.Free(a); err != nil {
		t.Error(err)
	}
	if err := m.Free(a); err == nil {
		t.Error("a block was freed twice")
	}
	if _, err := m.Alloc(0); err == nil || errors.Is(err, ErrExhausted) {
		t.Errorf("no bytes: %v", err)
	}
	if s, _ := m.State(); s.Free != 3*Page || s.Reserved != 0 {
		t.Errorf("state %+v", s)
	}
}
