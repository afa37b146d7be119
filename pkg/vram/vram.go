// Package vram tries the memory of a GPU: what an allocator makes of holes and
// of long use near the edge ([Torture]), and how long a context a model has room
// for ([Cliff]), both with real allocations. The outcome is vram.json
// ([Results]).
//
// Sizes are bytes in Go and MiB, 2²⁰ bytes, in files. What is tried is a
// [Memory]: plain allocations or a pool, of a CUDA device or of a simulated
// [Board].
package vram

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"joulepipe/pkg/record"
)

// MiB is 2²⁰ bytes.
const MiB = 1 << 20

// Page is the granularity in bytes at which a GPU's memory is mapped.
const Page = 2 * MiB

// ErrExhausted is what the error of an allocation is when there is no room for
// it. The allocator is as it was before.
var ErrExhausted = errors.New("out of GPU memory")

// Block is a piece of GPU memory, by its address.
type Block uint64

// Memory is the memory of a GPU by one way of allocating it. It is used by one
// goroutine at a time.
type Memory interface {
	// Alloc takes a block. The error is ErrExhausted when there is no room.
	Alloc(bytes int64) (Block, error)
	// Free gives a block back, to the device or to what is reserved.
	Free(b Block) error
	// Trim gives the device what is reserved and not used, so far as that goes.
	Trim() error
	// State is how full the memory is.
	State() (State, error)
}

// State is how full a memory is, in bytes.
type State struct {
	Reserved int64 // what the allocator has from the device
	Free     int64 // what the device has left for all
	Total    int64 // what the device has
}

// Emit takes the records of what was tried, each when it is over.
type Emit func(record.Record) error

// room is a memory of which a part stays free for others.
type room struct {
	Memory
	reserve int64
	sizes   map[Block]int64 // of the blocks held
	used    int64           // their sum
	trims   int             // how often memory had to be trimmed to go on
}

func newRoom(m Memory, reserve int64) *room {
	return &room{Memory: m, reserve: reserve, sizes: map[Block]int64{}}
}

// errReserved is the ErrExhausted of an allocation that the device has room
// for, but not beside the reserve.
var errReserved = fmt.Errorf("%w beside the reserve", ErrExhausted)

// alloc takes a block if the reserve stays free, after a trim if need be.
func (r *room) alloc(bytes int64) (Block, error) {
	b, err := r.try(bytes)
	if !errors.Is(err, ErrExhausted) {
		return b, err
	}
	r.trims++
	if err := r.Trim(); err != nil {
		return 0, err
	}
	return r.try(bytes)
}

// try takes a block if the reserve stays free. What an allocator has reserved and
// not used may have room for a block or not; it is asked, for a block of half the
// reserve at most, and where it takes more of the device, that is given back.
func (r *room) try(bytes int64) (Block, error) {
	before, err := r.State()
	if err != nil {
		return 0, err
	}
	if bytes > before.Free-r.reserve && (bytes > before.Reserved-r.used || bytes > r.reserve/2) {
		return 0, errReserved
	}
	b, err := r.Alloc(bytes)
	if err != nil {
		return 0, err
	}
	r.sizes[b] = bytes
	r.used += bytes
	if after, err := r.State(); err != nil || after.Free < min(before.Free, r.reserve) {
		return 0, errors.Join(cmp.Or(err, errReserved), r.free(b), r.Trim())
	}
	return b, nil
}

func (r *room) free(b Block) error {
	r.used -= r.sizes[b]
	delete(r.sizes, b)
	return r.Free(b)
}

// clear gives everything back.
func (r *room) clear() error {
	var failed error
	for b := range r.sizes {
		failed = errors.Join(failed, r.free(b))
	}
	return errors.Join(failed, r.Trim())
}

// largest is the largest block that can be had, in bytes to the page, by
// bisection with real allocations. It is at most what is free beside the
// reserve.
func (r *room) largest() (int64, error) {
	if err := r.Trim(); err != nil {
		return 0, err
	}
	s, err := r.State()
	if err != nil {
		return 0, err
	}
	fits, fails := int64(0), s.Free/Page+1
	for n := fails - 1; fails-fits > 1; n = (fits + fails) / 2 {
		b, err := r.try(n * Page)
		if errors.Is(err, ErrExhausted) {
			fails = n
			continue
		}
		if err := errors.Join(err, r.free(b), r.Trim()); err != nil {
			return 0, err
		}
		fits = n
	}
	return fits * Page, nil
}

// mib is a number of bytes in MiB, to a thousandth.
func mib(bytes int64) float64 { return math.Round(1e3*float64(bytes)/MiB) / 1e3 }
