package transformer

import "joulepipe/pkg/cuda"

// machine is what a model of one shape computes on: memory, and the steps of
// which inference is made. Steps are taken in the order of the calls, but only
// Synchronize waits for them; it has the error of the first that failed, and no
// step after that one is taken. Arrays are row-major. Numbers are of the model's
// 16 bit type, but for the hidden state x, of 32 bits, and for tokens and
// positions, which are int32. A bias that is 0 is none. Rows are those of all sequences of a batch, one
// sequence after another.
type machine interface {
	Do(f func() error) error // all below is called in f
	Alloc(bytes int64) (cuda.Ptr, error)
	Free(p cuda.Ptr) error
	Upload(dst cuda.Ptr, src []byte) error // waits
	Download(dst []byte, src cuda.Ptr) error
	Synchronize() error
	// Capture makes the steps that f takes into one to be taken by launch.
	Capture(f func()) (replay, error)
	measure() (Speed, error)
	Close() error

	launch(r replay)
	copy(dst, src cuda.Ptr, bytes int64)
	// fill draws n numbers as a Tensor of mean 0.
	fill(out cuda.Ptr, n int64, seed uint64, halfWidth float32)
	// embed looks up seq tokens of each sequence, the first of them at position
	// *pos0; learnt positions are added where table positions is not 0.
	embed(x, table, positions, tokens, pos0 cuda.Ptr, batch, seq int)
	norm(y, x cuda.Ptr, p param, rows int)
	// multiply is out[rows,n] = a[rows,k] · w[n,k]ᵀ.
	multiply(out, a, w cuda.Ptr, rows, n, k int)
	// multiplyAdd is x[rows,width] += a[rows,k] · p.w[width,k]ᵀ + p.bias; scratch has
	// room for what is added.
	multiplyAdd(x, a cuda.Ptr, p param, scratch cuda.Ptr, rows, k int)
	// activate is the MLP up to its inner numbers, out[rows,ff]; scratch has room
	// for twice as many.
	activate(out, a cuda.Ptr, p param, scratch cuda.Ptr, rows int)
	// split adds a bias, turns queries and keys by their positions where there are
	// frequencies, and puts queries to q [batch,heads,seq,d], keys and values
	// behind *pos0 earlier ones into the caches [batch,kvHeads,window,d].
	split(q cuda.Ptr, c cache, qkv, bias, pos0, frequencies cuda.Ptr, batch, seq int)
	// attendPrompt is causal attention of seq queries of each sequence, the first of
	// them at position *pos0.
	attendPrompt(out, q cuda.Ptr, c cache, pos0 cuda.Ptr, batch, seq int)
	// attendToken is that of one query, at position *pos.
	attendToken(out, q cuda.Ptr, c cache, pos, partial cuda.Ptr, batch int)
	// argmax is the likeliest token of each row of logits.
	argmax(token, logits cuda.Ptr, rows int)
	// advance adds to a position.
	advance(pos cuda.Ptr, by int)
}

// cache is the keys and the values of a layer, with room for so many positions.
type cache struct {
	k, v   cuda.Ptr
	window int
}

// replay is steps that were captured.
type replay interface{ Close() error }
