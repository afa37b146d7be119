package vram

import (
	"context"
	"errors"
	"fmt"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Buffer is a piece of memory that a model takes.
type Buffer struct {
	Part  Part
	Bytes int64
}

// Part is what a buffer is for.
type Part int

// The parts of a model's memory.
const (
	Weights Part = iota
	KV           // the cache of keys and values
	Activations
)

// Engine is what holds a model on a GPU.
type Engine interface {
	// Open takes all memory for prompts of so many tokens. The error is
	// ErrExhausted when there is not enough; then the engine is as it was before.
	Open(context int) error
	// Release gives back what depends on the context; the weights may stay for
	// the next Open.
	Release() error
	// Close gives everything back, if there is anything. The engine can be
	// opened again.
	Close() error
}

// Prefiller is an Engine that computes.
type Prefiller interface {
	Engine
	// Prefill runs the prompts through the model; the error may be ErrExhausted.
	Prefill() error
}

// Cliff looks for the longest context that a model has room for.
type Cliff struct {
	Clock   clock.Clock
	Emit    Emit
	GPU     int
	Reserve int64                                           // bytes that stay free for others
	Hold    func(ctx context.Context, reserved int64) error // as of Torture

	Memory  Memory // that the engine takes its own from
	Engine  Engine
	Buffers func(context int) []Buffer // that the engine takes for so long a context, of 1 or more
	Model   string
	Batch   int
	Window  int // tokens that the model's architecture allows
	Most    int // tokens to look up to, if fewer; 0 is the window

	// Context is what this process's context takes of the device, in bytes,
	// where that is known.
	Context record.Opt[int64]
}

// most is how far to look.
func (c *Cliff) most() int {
	if c.Most > 0 {
		return min(c.Most, c.Window)
	}
	return c.Window
}

// Edge is what a model's context is limited by.
type Edge string

// The edges.
const (
	Architecture Edge = "architecture" // the model's window ends first
	Capacity     Edge = "capacity"     // the memory does
	Asked        Edge = "asked"        // it was not to be looked for any further
	Nothing      Edge = "nothing_fits" // not even one token does
)

// Fall is what a search for the longest context found.
type Fall struct {
	Model     string  `json:"model"`
	Batch     int     `json:"batch_size"`
	Window    int     `json:"window"` // tokens that the architecture allows
	ReserveMB float64 `json:"reserve_mb"`
	FreeMB    float64 `json:"free_mb"`  // of the device before anything was taken, but with a context
	TotalMB   float64 `json:"total_mb"` // of the device

	Limit      Edge       `json:"limit"`
	MaxContext int        `json:"max_context"` // tokens of each sequence; 0: nothing fits
	Predicted  Prediction `json:"predicted"`
	// ErrorPct is (predicted − found) / found of the context, absent where memory is
	// not what limits it; MemoryErrorPct the same of the memory at the longest.
	ErrorPct       record.Opt[float64] `json:"prediction_error_percent,omitzero"`
	MemoryErrorPct record.Opt[float64] `json:"memory_error_percent,omitzero"`

	Peak     Composition         `json:"peak"`     // at the longest context
	Recovery Recovery            `json:"recovery"` // from asking for more than there is
	Probes   int                 `json:"probes"`
	PrefillS record.Opt[float64] `json:"prefill_s,omitzero"` // what the prompts of the longest context took; absent where none ran
}

// Prediction is what was said before anything was tried.
type Prediction struct {
	MaxContext int         `json:"max_context"`
	Limit      Edge        `json:"limit"`
	Unbounded  int         `json:"capacity_context"` // the same as if the model had no window, to 2²⁴ tokens
	Need       Composition `json:"need"`             // at MaxContext, or of one token where nothing fits
}

// Composition is what a model's memory is made of, in MiB.
type Composition struct {
	Context       int                 `json:"context"` // tokens
	WeightsMB     float64             `json:"weights_mb"`
	KVMB          float64             `json:"kv_mb"`
	ActivationsMB float64             `json:"activations_mb"`
	OverheadMB    float64             `json:"overhead_mb"`              // what the allocator took beyond what was asked for
	ModelMB       float64             `json:"model_mb"`                 // the sum
	BeforeMB      record.Opt[float64] `json:"before_mb,omitzero"`       // in use before: the driver's, other processes', this one's context
	ContextMB     record.Opt[float64] `json:"cuda_context_mb,omitzero"` // of that, this process's context
	FreeMB        record.Opt[float64] `json:"free_mb,omitzero"`
}

// Recovery is whether all is well after memory ran out.
type Recovery struct {
	OutOfMemory bool    `json:"out_of_memory"` // more than there is was asked for, and refused as it should be
	LeftMB      float64 `json:"left_mb"`       // what was missing after everything was freed
	Works       bool    `json:"works"`         // the longest context could be had again
	Reason      string  `json:"reason,omitempty"`
}

// end is what the longest context to be tried is limited by.
func (c *Cliff) end() Edge {
	if c.most() < c.Window {
		return Asked
	}
	return Architecture
}

// pages is so many bytes in whole pages.
func pages(bytes int64) int64 { return (bytes + Page - 1) / Page * Page }

// demand is what buffers come to, in bytes.
type demand struct {
	parts [Activations + 1]int64
	paged int64 // all, each in whole pages
}

// demand is that of a context.
func (c *Cliff) demand(context int) demand {
	var d demand
	for _, b := range c.Buffers(context) {
		d.parts[b.Part] += b.Bytes
		d.paged += pages(b.Bytes)
	}
	return d
}

// composition is what memory of so many bytes is made of.
func (d demand) composition(context int, taken int64) Composition {
	w, kv, act := d.parts[Weights], d.parts[KV], d.parts[Activations]
	return Composition{
		Context: context, WeightsMB: mib(w), KVMB: mib(kv), ActivationsMB: mib(act),
		OverheadMB: mib(taken - w - kv - act), ModelMB: mib(taken),
	}
}

// last is the largest n from 1 to most for which fits holds, 0 if there is
// none; what fits does so at all smaller n.
func last(most int, fits func(n int) bool) int {
	good, bad := 0, most+1
	for bad-good > 1 {
		if n := good + (bad-good)/2; fits(n) {
			good = n
		} else {
			bad = n
		}
	}
	return good
}

// farthest is how many tokens a prediction goes to at least.
const farthest = 1 << 24

// predict says from the buffers and the memory that is free what will fit.
func (c *Cliff) predict(free int64) Prediction {
	p := Prediction{Unbounded: last(max(c.Window, farthest), func(n int) bool { return c.demand(n).paged <= free })}
	p.MaxContext, p.Limit = p.Unbounded, Capacity
	switch {
	case p.Unbounded >= c.most():
		p.MaxContext, p.Limit = c.most(), c.end()
	case p.Unbounded == 0:
		p.Limit = Nothing
	}
	at := max(1, p.MaxContext)
	d := c.demand(at)
	p.Need = d.composition(at, d.paged)
	return p
}

// Run predicts, searches and recovers. Each context that is tried is an event
// of phase vram_cliff. An error is a failure other than that of memory; the end
// of ctx ends the search, which is an error as well. The engine is closed in the
// end.
func (c *Cliff) Run(ctx context.Context) (found *Fall, err error) {
	defer func() { err = errors.Join(err, c.Engine.Close()) }()
	before, err := c.Memory.State()
	if err != nil {
		return nil, err
	}
	f := &Fall{
		Model: c.Model, Batch: c.Batch, Window: c.Window, ReserveMB: mib(c.Reserve),
		FreeMB: mib(before.Free), TotalMB: mib(before.Total), Predicted: c.predict(before.Free - c.Reserve),
	}
	s := &search{Cliff: c, before: before, fall: f, fails: c.most() + 1}
	if err := s.find(ctx); err != nil {
		return nil, err
	}
	f.MaxContext = s.fits
	switch {
	case s.fits == 0:
		f.Limit = Nothing
		f.Recovery.Reason = "nothing was held"
		return f, nil
	case s.fits == c.most():
		f.Limit = c.end()
	default:
		f.Limit = Capacity
		f.ErrorPct = percent(float64(f.Predicted.Unbounded), float64(s.fits))
	}
	f.MemoryErrorPct = percent(mib(c.demand(s.fits).paged), f.Peak.ModelMB)
	return f, s.recover()
}

// percent is how far something said is from what was found.
func percent(said, found float64) record.Opt[float64] {
	if found == 0 {
		return record.Opt[float64]{}
	}
	return record.Some(100 * (said - found) / found)
}

// search is a bisection under way.
type search struct {
	*Cliff
	before      State // anything was taken
	fall        *Fall
	off         int64 // bytes that the engine took beyond its buffers when it was last opened
	fits, fails int   // tokens
}

// find narrows fits and fails until they meet. It begins at the prediction,
// which saves most of the way, and tries memory alone. At the end a prefill has
// to run, too; where it does not, the search goes on below with one at each step.
func (s *search) find(ctx context.Context) error {
	if err := s.narrow(ctx, s.fall.Predicted.MaxContext, false); err != nil || s.fits == 0 {
		return err
	}
	most := s.fits
	ok, err := s.try(ctx, most, true)
	if err != nil || ok {
		return err
	}
	s.fits, s.fails = 0, most
	return s.narrow(ctx, most-1, true)
}

// narrow begins at next, goes on by steps that double, and then bisects.
func (s *search) narrow(ctx context.Context, next int, whole bool) error {
	for step := max(1, next/128); s.fails-s.fits > 1; step *= 2 {
		if next <= s.fits || next >= s.fails {
			next = s.fits + (s.fails-s.fits)/2
		}
		for next > s.fits+1 && s.beyond(next) { // by an account that may be wrong so far ahead
			next = s.fits + (next-s.fits)/2
		}
		ok, err := s.try(ctx, next, whole)
		if err != nil {
			return err
		}
		if ok {
			s.fits = next
			next += step
		} else {
			s.fails = next
			next -= step
		}
	}
	return nil
}

// try says whether a context fits, and tells of it. On the whole, its prefill
// has to run as well, if the engine has one.
func (s *search) try(ctx context.Context, context int, whole bool) (fits bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.fall.Probes++
	_, computes := s.Engine.(Prefiller)
	e := &record.Event{
		ID: fmt.Sprintf("vram_cliff_%d", s.fall.Probes), Phase: "vram_cliff", StartNS: s.Clock.Now(),
		GPUs: []int{s.GPU}, Model: s.Model, BatchSize: record.Some(int64(s.Batch)),
		Extra: []record.Field{extra("context", context), extra("prefill", computes && whole)},
	}
	why := s.attempt(ctx, context, whole)
	e.EndNS = s.Clock.Now()
	if errors.Is(why, ErrExhausted) {
		e.Extra = append(e.Extra, extra("fits", false), extra("reason", why.Error()))
		return false, s.Emit(e)
	}
	if why != nil {
		e.Extra = append(e.Extra, extra("error", why.Error()))
		return false, errors.Join(why, s.Emit(e))
	}
	e.Extra = append(e.Extra, extra("fits", true))
	return true, s.Emit(e)
}

// attempt takes the memory for a context and gives it back; on the whole it
// computes in between, if the engine can, and sees what the memory is made of.
func (s *search) attempt(ctx context.Context, context int, whole bool) (err error) {
	if err := s.open(context); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Engine.Release(), s.Memory.Trim()) }()
	if !whole {
		return nil
	}
	if engine, ok := s.Engine.(Prefiller); ok {
		start := s.Clock.Now()
		if err := engine.Prefill(); err != nil {
			return err
		}
		s.fall.PrefillS = record.Some(float64(s.Clock.Now()-start) / 1e9)
	}
	state, err := s.Memory.State()
	if err != nil {
		return err
	}
	if state.Free < s.Reserve {
		return errReserved
	}
	s.fall.Peak = s.composition(context, state)
	if s.Hold == nil {
		return nil
	}
	return s.Hold(ctx, state.Reserved)
}

// beyond says that a context would take more than half of the reserve, by the
// buffers and what the engine was last seen to take beside them. Nearer it is
// tried, for an instant, so that allocations decide; farther those of others
// might fail.
func (s *search) beyond(context int) bool {
	return s.demand(context).paged+s.off > s.before.Free-s.Reserve/2
}

// open takes the memory for a context.
func (s *search) open(context int) error {
	if s.beyond(context) {
		return fmt.Errorf("%w: %.0f MiB wanted of %.0f, of which %.0f are for others", ErrExhausted,
			mib(s.demand(context).paged+s.off), mib(s.before.Free), mib(s.Reserve))
	}
	if err := s.Engine.Open(context); err != nil {
		return err
	}
	now, err := s.Memory.State()
	if err == nil {
		s.off = s.before.Free - now.Free - s.demand(context).paged
	}
	if err == nil && now.Free < s.Reserve {
		err = errReserved
	}
	if err != nil {
		return errors.Join(err, s.Engine.Release(), s.Memory.Trim())
	}
	return nil
}

// composition is what the memory is made of now.
func (s *search) composition(context int, now State) Composition {
	p := s.demand(context).composition(context, s.before.Free-now.Free)
	p.BeforeMB, p.FreeMB = record.Some(mib(s.before.Total-s.before.Free)), record.Some(mib(now.Free))
	if n, ok := s.Context.Get(); ok {
		p.ContextMB = record.Some(mib(n))
	}
	return p
}

// recover asks for more than there is while the longest context is held, and
// sees whether memory is as before and the same context can be had again.
func (s *search) recover() error {
	r := &s.fall.Recovery
	e := &record.Event{
		ID: "vram_recovery", Phase: "vram_recovery", StartNS: s.Clock.Now(),
		GPUs: []int{s.GPU}, Model: s.Model, BatchSize: record.Some(int64(s.Batch)),
	}
	if err := s.open(s.fits); err != nil {
		return fmt.Errorf("%d tokens fitted and do no longer: %w", s.fits, err)
	}
	b, err := s.Memory.Alloc(s.before.Total)
	switch r.OutOfMemory = errors.Is(err, ErrExhausted); {
	case err == nil:
		r.Reason = "the device gave more memory than it has"
		err = s.Memory.Free(b)
	case r.OutOfMemory:
		err = nil
	}
	if err := errors.Join(err, s.Engine.Close(), s.Memory.Trim()); err != nil {
		return err
	}
	after, err := s.Memory.State()
	if err != nil {
		return err
	}
	r.LeftMB = mib(s.before.Free - after.Free)
	err = s.open(s.fits)
	if err == nil {
		r.Works = true
		err = errors.Join(s.Engine.Close(), s.Memory.Trim())
	} else if errors.Is(err, ErrExhausted) {
		r.Reason, err = fmt.Sprintf("%d tokens fitted before: %v", s.fits, err), nil
	}
	e.EndNS = s.Clock.Now()
	e.Extra = []record.Field{extra("out_of_memory", r.OutOfMemory), extra("left_mb", r.LeftMB), extra("works", r.Works)}
	return errors.Join(err, s.Emit(e))
}
