package transformer

import (
	"context"
	"errors"

	"joulepipe/pkg/cuda"
)

// ahead is how many steps of a decode the GPU is given at once. Waiting for them
// costs it some microseconds, and bounds how long it goes on when nobody wants
// the rest any more.
const ahead = 32

var errUnprepared = errors.New("nothing is prepared to be computed")

// Prefill computes the prompts of what is prepared, and the first token of each
// answer. It returns when the GPU has done so; ctx ends it before its start
// only, and is its error then.
func (m *Model) Prefill(ctx context.Context) error {
	if m.batch == nil {
		return errUnprepared
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.machine.Do(func() error {
		m.machine.launch(m.batch.prefill)
		return m.machine.Synchronize()
	})
}

// Decode computes what follows the prompts: for each token that was prepared
// for, one pass through the model, which begins with the likeliest token of the
// one before. It follows a Prefill or another Decode, and returns when the GPU
// is done. The end of ctx ends it some tokens later, and is its error.
func (m *Model) Decode(ctx context.Context) error {
	if m.batch == nil {
		return errUnprepared
	}
	return m.machine.Do(func() error {
		m.rewind(m.batch)
		for i := range m.batch.gen {
			if i%ahead == 0 {
				if err := errors.Join(m.machine.Synchronize(), ctx.Err()); err != nil {
					return err
				}
				m.progress.Add(1)
			}
			m.machine.launch(m.batch.step)
		}
		return m.machine.Synchronize()
	})
}

// rewind puts the next token right behind the prompts.
func (m *Model) rewind(b *batch) {
	m.machine.copy(b.pos, b.starts+cuda.Ptr(4*len(b.pieces)), 4)
}

// prompt is the steps of a prefill through some layers.
func (m *Model) prompt(b *batch, layers []layer) {
	tokens, start, n := b.tokens, b.starts, 0
	for _, n = range b.pieces {
		m.through(layers, b, tokens, start, n, func(c cache) { m.machine.attendPrompt(b.y, b.inner, c, start, b.size, n) })
		tokens += cuda.Ptr(4 * b.size * n)
		start += 4
	}
	m.choose(b, n)
	m.rewind(b)
}

// answer is the steps through some layers for one more token of each answer.
func (m *Model) answer(b *batch, layers []layer) {
	m.through(layers, b, b.next, b.pos, 1, func(c cache) { m.machine.attendToken(b.y, b.inner, c, b.pos, b.partial, b.size) })
	m.choose(b, 1)
	m.machine.advance(b.pos, 1)
}

// through takes n tokens of each sequence, the first of them at position *start,
// through layers, into x.
func (m *Model) through(layers []layer, b *batch, tokens, start cuda.Ptr, n int, attend func(cache)) {
	s, on, rows := &m.shape, m.machine, b.size*n
	on.embed(b.x, m.embedding, m.positions, tokens, start, b.size, n)
	for i, l := range layers {
		on.norm(b.y, b.x, l.attentionNorm, rows)
		on.multiply(b.wide, b.y, l.qkv.w, rows, s.qkv(), s.Width)
		on.split(b.inner, b.caches[i], b.wide, l.qkv.bias, start, b.frequencies, b.size, n)
		attend(b.caches[i])
		on.multiplyAdd(b.x, b.y, l.out, b.wide, rows, s.Heads*s.HeadDim)

		on.norm(b.y, b.x, l.mlpNorm, rows)
		on.activate(b.inner, b.y, l.up, b.wide, rows)
		on.multiplyAdd(b.x, b.inner, l.down, b.wide, rows, s.FF)
	}
}

// choose makes logits of each sequence's last of n rows in x, and of these the
// token that follows.
func (m *Model) choose(b *batch, n int) {
	s, on := &m.shape, m.machine
	for i := range b.size {
		last := (i+1)*n - 1
		on.norm(b.y+cuda.Ptr(bytesPerNumber*i*s.Width), b.x+cuda.Ptr(4*last*s.Width), m.norm, 1)
	}
	on.multiply(b.logits, b.y, m.head, b.size, s.Vocab, s.Width)
	on.argmax(b.next, b.logits, b.size)
}
