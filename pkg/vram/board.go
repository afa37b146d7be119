package vram

import (
	"cmp"
	"fmt"
	"slices"
)

// Board is the memory of a simulated GPU. Its pages can be mapped in any order,
// as those of a real one, so that pages alone never fragment.
type Board struct {
	total, free int64 // pages
	next        Block // the address of the next mapping
}

// NewBoard is a memory of so many bytes, of which others hold a part.
func NewBoard(total, held int64) *Board {
	return &Board{total: total / Page, free: max(0, total-held) / Page, next: 0x7f0000000000}
}

// take maps pages for so many bytes.
func (b *Board) take(bytes int64) (at Block, pages int64, err error) {
	pages = (bytes + Page - 1) / Page
	if bytes <= 0 {
		return 0, 0, fmt.Errorf("%d bytes asked for", bytes)
	}
	if pages > b.free {
		return 0, 0, ErrExhausted
	}
	at = b.next
	b.free -= pages
	b.next += Block(pages * Page)
	return at, pages, nil
}

func (b *Board) state(reserved int64) State {
	return State{Reserved: reserved, Free: b.free * Page, Total: b.total * Page}
}

// Plain is the board's memory by plain allocations: whole pages, which go
// back to the board at once.
func (b *Board) Plain() Memory { return &paged{board: b, pages: map[Block]int64{}} }

type paged struct {
	board *Board
	pages map[Block]int64
	held  int64 // pages
}

func (p *paged) Alloc(bytes int64) (Block, error) {
	at, pages, err := p.board.take(bytes)
	if err != nil {
		return 0, err
	}
	p.pages[at] = pages
	p.held += pages
	return at, nil
}

func (p *paged) Free(b Block) error {
	pages, ok := p.pages[b]
	if !ok {
		return fmt.Errorf("no block at %#x", b)
	}
	delete(p.pages, b)
	p.held -= pages
	p.board.free += pages
	return nil
}

func (p *paged) Trim() error { return nil }

func (p *paged) State() (State, error) { return p.board.state(p.held * Page), nil }

// chunk is what a pool reserves at least, and grain what its blocks are
// multiples of.
const (
	chunk = 32 * MiB
	grain = 512
)

// Pool is the board's memory by a pool that reserves chunks of 32 MiB or the
// size of a larger block, serves a block from the smallest free stretch of a
// chunk that it fits in, joins stretches that adjoin, and gives a chunk back
// when it is trimmed and nothing is left in it.
func (b *Board) Pool() Memory { return &pool{board: b, sizes: map[Block]int64{}} }

type pool struct {
	board    *Board
	reserved int64
	free     []stretch // by address
	sizes    map[Block]int64
	chunks   []stretch
}

// stretch is some bytes in a row. Chunks are kept apart: none is joined with
// the next.
type stretch struct {
	at    Block
	bytes int64
	chunk Block
}

func (s stretch) end() Block { return s.at + Block(s.bytes) }

func (p *pool) Alloc(bytes int64) (Block, error) {
	size := (bytes + grain - 1) / grain * grain
	best := -1
	for i, s := range p.free {
		if s.bytes >= size && (best < 0 || s.bytes < p.free[best].bytes) {
			best = i
		}
	}
	if best < 0 {
		at, pages, err := p.board.take(max(bytes, chunk))
		if err != nil && bytes < chunk {
			at, pages, err = p.board.take(bytes)
		}
		if err != nil {
			return 0, err
		}
		fresh := stretch{at, pages * Page, at}
		p.reserved += fresh.bytes
		p.chunks = append(p.chunks, fresh)
		p.free = append(p.free, fresh) // addresses grow
		best = len(p.free) - 1
	}
	s := &p.free[best]
	at := s.at
	p.sizes[at] = size
	s.at += Block(size)
	if s.bytes -= size; s.bytes == 0 {
		p.free = slices.Delete(p.free, best, best+1)
	}
	return at, nil
}

func (p *pool) Free(b Block) error {
	size, ok := p.sizes[b]
	if !ok {
		return fmt.Errorf("no block at %#x", b)
	}
	delete(p.sizes, b)
	i, _ := slices.BinarySearchFunc(p.chunks, b, func(c stretch, b Block) int { return cmp.Compare(c.end()-1, b) })
	freed := stretch{b, size, p.chunks[i].at}
	i, _ = slices.BinarySearchFunc(p.free, b, func(s stretch, b Block) int { return cmp.Compare(s.at, b) })
	p.free = slices.Insert(p.free, i, freed)
	p.join(i)
	p.join(i - 1)
	return nil
}

// join makes one of a free stretch and the next if they adjoin in a chunk.
func (p *pool) join(i int) {
	if i < 0 || i+1 >= len(p.free) {
		return
	}
	if s, next := p.free[i], p.free[i+1]; s.end() == next.at && s.chunk == next.chunk {
		p.free[i].bytes += next.bytes
		p.free = slices.Delete(p.free, i+1, i+2)
	}
}

func (p *pool) Trim() error {
	empty := map[stretch]bool{} // chunks, and whether nothing is left in them
	for _, c := range p.chunks {
		empty[c] = false
	}
	p.free = slices.DeleteFunc(p.free, func(s stretch) bool {
		_, whole := empty[s]
		if whole {
			empty[s] = true
			p.reserved -= s.bytes
			p.board.free += s.bytes / Page
		}
		return whole
	})
	p.chunks = slices.DeleteFunc(p.chunks, func(c stretch) bool { return empty[c] })
	return nil
}

func (p *pool) State() (State, error) { return p.board.state(p.reserved), nil }
