package transformer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
)

// pieceRows is about how many tokens go through the layers at once in a prefill.
// Longer prompts go in pieces, which bounds the memory between the layers and
// leaves the products of matrices large enough to be fast.
const pieceRows = 8192

// batch is the memory of requests that are answered together, and what is done
// to it, captured.
type batch struct {
	size, prompt, gen int
	pieces            []int // of a prompt: tokens that go through the layers at once
	memory            cuda.Ptr
	caches            []cache  // of the layers
	x                 cuda.Ptr // hidden state
	y                 cuda.Ptr // what a norm makes, or attention
	wide              cuda.Ptr // queries, keys and values in one; or scratch
	inner             cuda.Ptr // queries alone, or what is between the halves of the MLP
	partial           cuda.Ptr // of attention to few queries
	logits            cuda.Ptr
	tokens            cuda.Ptr // the prompts, piece by piece
	next              cuda.Ptr // the token that follows, of each sequence
	starts            cuda.Ptr // the position of each piece's first token, then the prompts' length
	pos               cuda.Ptr // that of next
	frequencies       cuda.Ptr // of the rotary positions, 0 where they are learnt
	prefill, step     replay
}

// newBatch is a batch without memory, at most so many of whose tokens go through
// the layers at once.
func newBatch(size, prompt, gen, rows int) *batch {
	b := &batch{size: size, prompt: prompt, gen: gen}
	most := max(1, rows/size)
	for left := prompt; left > 0; left -= most {
		b.pieces = append(b.pieces, min(left, most))
	}
	return b
}

// layout gives each array of a batch its place after base, and is how many
// bytes there are: the cache's, which come first, and the others'.
func (s *Shape) layout(b *batch, base cuda.Ptr) (kv, other int64) {
	at := base
	take := func(numbers ...int) cuda.Ptr {
		n := int64(bytesPerNumber)
		for _, k := range numbers {
			n *= int64(k)
		}
		p := at
		at += cuda.Ptr(aligned(n))
		return p
	}
	window := b.prompt + b.gen
	b.caches = b.caches[:0]
	for range s.Layers {
		each := []int{b.size, s.KVHeads, window, s.HeadDim}
		b.caches = append(b.caches, cache{take(each...), take(each...), window})
	}
	kv = int64(at - base)
	r := b.size * b.pieces[0]
	heads := s.Heads * s.HeadDim
	b.x = take(r, s.Width, 2)
	b.y = take(r, max(s.Width, heads))
	b.wide = take(r, max(s.qkv(), s.up(), s.Width))
	b.inner = take(r, max(heads, s.FF))
	b.partial = take(kernels.Partial(b.size, s.Heads, s.HeadDim, window), 2)
	b.logits = take(b.size, s.Vocab)
	b.tokens = take(b.size, b.prompt, 2)
	b.next = take(b.size, 2)
	b.starts = take(len(b.pieces)+1, 2)
	b.pos = take(2)
	if s.Family == Llama {
		b.frequencies = take(s.HeadDim)
	}
	return kv, int64(at-base) - kv
}

// Prepare makes room for a batch of so many requests, each of a prompt of so many
// tokens and as many generated ones as gen, which may be none, and gives it random
// prompts. What was prepared before is released. Where there is no room, the
// error has cuda.ErrOutOfMemory.
func (m *Model) Prepare(size, prompt, gen int) error {
	if size < 1 || prompt < 1 || gen < 0 || prompt+gen > m.shape.Window {
		return fmt.Errorf("%d requests of %d tokens and %d more: want 1 or more, in a window of %d", size, prompt, gen, m.shape.Window)
	}
	if err := m.Release(); err != nil {
		return err
	}
	b := newBatch(size, prompt, gen, m.rows)
	kv, other := m.shape.layout(b, 0)
	return m.machine.Do(func() (err error) {
		if b.memory, err = m.machine.Alloc(kv + other); err != nil {
			return fmt.Errorf("%.0f MiB of keys and values and %.0f MiB of activations: %w", mib(kv), mib(other), err)
		}
		m.shape.layout(b, b.memory)
		m.batch = b
		if err = m.ready(b); err != nil {
			err = errors.Join(err, m.release())
		}
		return err
	})
}

// ready writes what a batch begins with and captures its computations.
func (m *Model) ready(b *batch) error {
	prompts := m.prompts(b)
	var tokens, starts []int32
	start := 0
	for _, n := range b.pieces {
		starts = append(starts, int32(start))
		for _, p := range prompts {
			tokens = append(tokens, p[start:start+n]...)
		}
		start += n
	}
	starts = append(starts, int32(start))
	var err error
	upload := func(to cuda.Ptr, v any) {
		bytes, bad := binary.Append(nil, binary.LittleEndian, v)
		err = errors.Join(err, bad, m.machine.Upload(to, bytes))
	}
	upload(b.tokens, tokens)
	upload(b.starts, starts)
	upload(b.next, tokens[:b.size])
	upload(b.pos, starts[:1])
	if b.frequencies != 0 {
		upload(b.frequencies, m.shape.Rotary.Frequencies(m.shape.HeadDim))
	}
	if err != nil {
		return err
	}
	// Nothing is captured that was not done before, for what the driver and its
	// libraries load when it is first wanted cannot be captured. One layer has all
	// there is.
	m.prompt(b, m.layers[:1])
	if b.gen > 0 {
		m.answer(b, m.layers[:1])
	}
	if err := m.machine.Synchronize(); err != nil {
		return err
	}
	if b.prefill, err = m.machine.Capture(func() { m.prompt(b, m.layers) }); err != nil || b.gen == 0 {
		return err
	}
	b.step, err = m.machine.Capture(func() { m.answer(b, m.layers) })
	return err
}

// prompts are the prompts of a batch, drawn at random.
func (m *Model) prompts(b *batch) [][]int32 {
	rng := rand.New(rand.NewPCG(m.seed, 3))
	all := make([][]int32, b.size)
	for i := range all {
		all[i] = make([]int32, b.prompt)
		for k := range all[i] {
			all[i][k] = int32(rng.IntN(m.shape.Vocab))
		}
	}
	return all
}

// Release gives back what Prepare took.
func (m *Model) Release() error { return m.machine.Do(m.release) }

func (m *Model) release() (err error) {
	b := m.batch
	if b == nil {
		return nil
	}
	m.batch = nil
	for _, r := range []replay{b.prefill, b.step} {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}
	return errors.Join(err, m.machine.Free(b.memory))
}
