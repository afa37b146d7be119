package vram

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Torture tries allocators.
type Torture struct {
	Clock   clock.Clock
	Emit    Emit
	GPU     int
	Reserve int64 // bytes that stay free for others
	// Hold keeps everything as it is for a while, so that a poller sees it; nil
	// does not wait. The number is what is reserved, in bytes.
	Hold func(ctx context.Context, reserved int64) error
}

// Trial is what a pattern of allocations made of an allocator.
type Trial struct {
	EventID   string  `json:"event_id"`
	Allocator string  `json:"allocator"` // plain | pool
	Pattern   string  `json:"pattern"`   // holes | churn
	ReserveMB float64 `json:"reserve_mb"`

	Before  Fill `json:"before"`  // filled, before anything was freed
	Holes   Fill `json:"holes"`   // every other block freed
	After   Fill `json:"after"`   // after the request for a larger block, or after all cycles
	Trimmed Fill `json:"trimmed"` // after that, and what can go back to the device is back

	FreeMB    float64 `json:"free_mb"`    // what was free then, in the allocator and, beside the reserve, on the device
	LargestMB float64 `json:"largest_mb"` // the largest block that could be had of it

	Coalescing Verdict  `json:"coalescing"`          // of the request for a block that no hole has room for
	Adjoining  *Verdict `json:"adjoining,omitempty"` // of the same one when holes adjoin

	Cycles  int `json:"cycles,omitempty"`  // of freeing a block and taking another
	Refused int `json:"refused,omitempty"` // of these, without another block, though so much was free
	Trims   int `json:"trims,omitempty"`   // how often memory went back to the device to go on

	LeftMB float64 `json:"left_mb"` // still reserved when everything was freed
}

// Fill is how full an allocator is, and how much of what it has is of no use.
type Fill struct {
	ReservedMB float64 `json:"reserved_mb"` // what it has from the device
	UsedMB     float64 `json:"used_mb"`     // what was asked for and is held
	// Fragmentation is (reserved − used) / reserved; absent where the device's
	// figures cannot be this allocator's alone.
	Fragmentation record.Opt[float64] `json:"fragmentation,omitzero"`
}

// Verdict says whether free pieces of memory served as one.
type Verdict struct {
	Outcome string `json:"outcome"` // joined | grew | returned | refused
	Reason  string `json:"reason"`
}

// Outcomes of a request for more than any hole has room for.
const (
	Joined   = "joined"   // it was served from what was free
	Grew     = "grew"     // it was served, but by more memory of the device
	Returned = "returned" // the holes had gone back to the device: nothing was left to join
	Refused  = "refused"  // it was not served
)

// The pattern of TR122 §6.2.
const (
	holeCount   = 100
	holeBytes   = 4 * MiB
	holeRequest = 8 * MiB
)

// Pattern is a sequence of allocations.
type Pattern interface {
	name() string
	make(ctx context.Context, t *Torture, r *room, trial *Trial) error
}

// Holes is TR122's pattern: 100 blocks of 4 MiB, every other one freed, and
// 8 MiB asked for. No two of those holes adjoin, so that only an allocator that
// maps pages anew can serve it from them; therefore the block between two holes is freed
// and 8 MiB asked for once more.
//
// What the allocator has reserved beyond the blocks is filled up first: else
// the request would find room there and tell nothing of the holes.
type Holes struct{}

func (Holes) name() string { return "holes" }

func (Holes) make(ctx context.Context, t *Torture, r *room, trial *Trial) error {
	var blocks []Block
	for range holeCount {
		b, err := r.alloc(holeBytes)
		if err != nil {
			return fmt.Errorf("after %d of %d blocks: %w", len(blocks), holeCount, err)
		}
		blocks = append(blocks, b)
	}
	for range holeCount {
		s, err := r.State()
		if err != nil {
			return err
		}
		if s.Reserved-r.used < holeRequest {
			break
		}
		if _, err := r.alloc(holeBytes); err != nil {
			return err
		}
	}
	full, err := t.fill(ctx, r, &trial.Before)
	if err != nil {
		return err
	}
	for i := 0; i < holeCount; i += 2 {
		if err := r.free(blocks[i]); err != nil {
			return err
		}
	}
	holes, err := t.fill(ctx, r, &trial.Holes)
	if err != nil {
		return err
	}
	request, verdict, err := t.ask(r, full, holes, "no two holes of 4 MiB adjoin")
	if err != nil {
		return err
	}
	trial.Coalescing = verdict
	if _, err := t.fill(ctx, r, &trial.After); err != nil {
		return err
	}
	if request != 0 {
		if err := r.free(request); err != nil {
			return err
		}
	}
	if err := r.free(blocks[1]); err != nil {
		return err
	}
	if holes, err = r.State(); err != nil {
		return err
	}
	_, verdict, err = t.ask(r, full, holes, "three blocks in a row were free")
	trial.Adjoining = &verdict
	return err
}

// ask asks for more than a hole has, after blocks of a full memory were freed.
func (t *Torture) ask(r *room, full, holes State, layout string) (Block, Verdict, error) {
	trims := r.trims
	b, err := r.alloc(holeRequest)
	if errors.Is(err, ErrExhausted) {
		return 0, Verdict{Refused, fmt.Sprintf("%v, with %.0f MiB free in the allocator and %.0f on the device: %s", err, mib(holes.Reserved-r.used), mib(holes.Free), layout)}, nil
	}
	if err != nil {
		return 0, Verdict{}, err
	}
	after, err := r.State()
	switch grown := after.Reserved - holes.Reserved; {
	case err != nil:
		return 0, Verdict{}, err
	case r.trims > trims:
		return b, Verdict{Grew, "it took a trim first: " + layout}, nil
	case holes.Reserved < full.Reserved-holeRequest:
		return b, Verdict{Returned, fmt.Sprintf("freed blocks go back to the device at once, which has %.0f MiB free: only a full device can tell", mib(holes.Free))}, nil
	case grown > 0:
		return b, Verdict{Grew, fmt.Sprintf("%s: it took %.0f MiB more of the device, with %.0f MiB free in the allocator", layout, mib(grown), mib(holes.Reserved-r.used+holeRequest))}, nil
	}
	return b, Verdict{Joined, layout + ", and it took nothing more of the device"}, nil
}

// Churn is long use near the edge: a share of the memory is filled with blocks of
// random sizes, then others take their place, one at a time, and in the end every
// other block is freed: memory that is half holes.
type Churn struct {
	Share  float64 // of what is free beside the reserve, to be in use
	Least  int64   // bytes of a block
	Most   int64
	Cycles int
	Seed   uint64
}

func (Churn) name() string { return "churn" }

func (c Churn) make(ctx context.Context, t *Torture, r *room, trial *Trial) error {
	s, err := r.State()
	if err != nil {
		return err
	}
	most := int64(c.Share * float64(s.Free-t.Reserve))
	if most < c.Most {
		return fmt.Errorf("%w: %.0f MiB are free beside the reserve", ErrExhausted, mib(s.Free-t.Reserve))
	}
	dice := rand.New(rand.NewPCG(c.Seed, 0))
	size := func() int64 { return c.Least + dice.Int64N(c.Most-c.Least+1) }
	var blocks []Block
	next := size()
	// take takes blocks until the share is in use or one cannot be had.
	take := func() error {
		for r.used+next <= most {
			b, err := r.alloc(next)
			next = size()
			if errors.Is(err, ErrExhausted) {
				trial.Refused++
				return nil
			}
			if err != nil {
				return err
			}
			blocks = append(blocks, b)
		}
		return nil
	}
	if err := take(); err != nil {
		return err
	}
	if _, err := t.fill(ctx, r, &trial.Before); err != nil {
		return err
	}
	for ; trial.Cycles < c.Cycles && len(blocks) > 0 && ctx.Err() == nil; trial.Cycles++ {
		i, last := dice.IntN(len(blocks)), len(blocks)-1
		if err := r.free(blocks[i]); err != nil {
			return err
		}
		blocks[i], blocks = blocks[last], blocks[:last]
		if err := take(); err != nil {
			return err
		}
	}
	if _, err := t.fill(ctx, r, &trial.After); err != nil {
		return err
	}
	for i := 0; i < len(blocks); i += 2 {
		if err := r.free(blocks[i]); err != nil {
			return err
		}
	}
	_, err = t.fill(ctx, r, &trial.Holes)
	return err
}

// Try tries an allocator, known by that name, with a pattern, and tells of it in
// an event of phase vram_torture, also where it fails. Afterwards everything is
// freed. The end of ctx ends a pattern early, which is no error.
func (t *Torture) Try(ctx context.Context, allocator string, m Memory, pattern Pattern) (*Trial, error) {
	r := newRoom(m, t.Reserve)
	trial := &Trial{
		EventID: fmt.Sprintf("vram_%s_%s", pattern.name(), allocator), Allocator: allocator, Pattern: pattern.name(),
		ReserveMB: mib(t.Reserve),
	}
	e := &record.Event{ID: trial.EventID, Phase: "vram_torture", StartNS: t.Clock.Now(), GPUs: []int{t.GPU}}
	err := pattern.make(ctx, t, r, trial)
	if err == nil {
		err = t.conclude(ctx, trial, r)
	}
	err = errors.Join(err, r.clear())
	if s, failed := r.State(); failed == nil {
		trial.LeftMB = mib(s.Reserved)
	} else {
		err = errors.Join(err, failed)
	}
	trial.Trims = r.trims
	e.EndNS = t.Clock.Now()
	e.Extra = []record.Field{extra("allocator", trial.Allocator), extra("pattern", trial.Pattern)}
	if ctx.Err() != nil {
		e.Extra = append(e.Extra, extra("interrupted", true))
	}
	if err != nil {
		e.Extra = append(e.Extra, extra("error", err.Error()))
	} else {
		e.Extra = append(e.Extra, extra("before", trial.Before), extra("after", trial.After), extra("trimmed", trial.Trimmed),
			extra("largest_mb", trial.LargestMB), extra("free_mb", trial.FreeMB), extra("coalescing", trial.Coalescing.Outcome))
	}
	return trial, errors.Join(err, t.Emit(e))
}

// conclude trims and finds the largest block.
func (t *Torture) conclude(ctx context.Context, trial *Trial, r *room) error {
	trims := r.trims
	if err := r.Trim(); err != nil {
		return err
	}
	s, err := t.fill(ctx, r, &trial.Trimmed)
	if err != nil {
		return err
	}
	trial.FreeMB = mib(max(0, s.Free-t.Reserve) + s.Reserved - r.used)
	largest, err := r.largest()
	r.trims = trims // those were ours
	trial.LargestMB = mib(largest)
	if trial.Coalescing.Outcome == "" {
		trial.Coalescing = whole(trial)
	}
	return err
}

// whole is the verdict on a memory by the largest block that could be had.
func whole(t *Trial) Verdict {
	share := t.LargestMB / t.FreeMB
	switch {
	case t.Refused > 0:
		return Verdict{Refused, fmt.Sprintf("%d blocks could not be had though so much was free", t.Refused)}
	case share < 0.95:
		return Verdict{Refused, fmt.Sprintf("of %.0f MiB free, half of them between blocks in use, only %.0f could be had as one", t.FreeMB, t.LargestMB)}
	}
	return Verdict{Joined, fmt.Sprintf("of %.0f MiB free, half of them between blocks in use, %.0f could be had as one", t.FreeMB, t.LargestMB)}
}

// fill is how full a memory is, held for a while.
func (t *Torture) fill(ctx context.Context, r *room, f *Fill) (State, error) {
	s, err := r.State()
	if err != nil {
		return s, err
	}
	*f = Fill{ReservedMB: mib(s.Reserved), UsedMB: mib(r.used)}
	if s.Reserved >= r.used && s.Reserved > 0 {
		f.Fragmentation = record.Some(float64(s.Reserved-r.used) / float64(s.Reserved))
	}
	if t.Hold != nil {
		err = t.Hold(ctx, s.Reserved)
	}
	return s, err
}

// extra is a field beyond those that package record knows.
func extra(name string, value any) record.Field {
	b, err := json.Marshal(value)
	if err != nil {
		panic("vram: field " + name + ": " + err.Error())
	}
	return record.Field{Name: name, Value: b}
}
