package transformer

// bytesPerNumber is of bf16 and f16 alike.
const bytesPerNumber = 2

// Work is what a computation has to do, whoever does it.
type Work struct {
	FLOPs       float64 // multiplications and additions in the products of matrices and in attention
	WeightBytes int64   // weights that are read from memory
	KVBytes     int64   // keys and values that are read from memory, or first written to it
}

// Bytes is the memory traffic that cannot be avoided.
func (w Work) Bytes() int64 { return w.WeightBytes + w.KVBytes }

// PrefillWork is that of the prompts of a batch, of so many tokens each. Logits
// are of each prompt's last token alone.
func (s *Shape) PrefillWork(batch, prompt int) Work {
	tokens := float64(batch) * float64(prompt)
	return Work{
		FLOPs: 2*tokens*float64(s.layerParams()) + 2*float64(batch)*float64(s.headParams()) +
			s.attention()*tokens*float64(prompt+1)/2,
		WeightBytes: bytesPerNumber * (s.layerParams() + s.headParams()),
		KVBytes:     int64(batch) * int64(prompt) * s.kvBytes(),
	}
}

// DecodeWork is that of so many steps after the prompts, each of which makes one
// token for each sequence.
func (s *Shape) DecodeWork(batch, prompt, steps int) Work {
	n, b := float64(steps), float64(batch)
	seen := n*float64(prompt+1) + n*(n-1)/2 // positions that a sequence's tokens attend to
	return Work{
		FLOPs:       2*b*n*float64(s.layerParams()+s.headParams()) + s.attention()*b*seen,
		WeightBytes: int64(steps) * bytesPerNumber * (s.layerParams() + s.headParams()),
		KVBytes:     int64(b*seen) * s.kvBytes(),
	}
}

// attention is the operations for a token and a position that it attends to.
func (s *Shape) attention() float64 { return 4 * float64(s.Layers) * float64(s.Heads*s.HeadDim) }

// kvBytes is what a token takes in the cache of keys and values.
func (s *Shape) kvBytes() int64 {
	return bytesPerNumber * 2 * int64(s.Layers) * int64(s.KVHeads*s.HeadDim)
}

// layerParams is the numbers in the matrices of all layers.
func (s *Shape) layerParams() int64 {
	w, ff := int64(s.Width), int64(s.FF)
	return int64(s.Layers) * (w*int64(s.qkv()) + int64(s.Heads*s.HeadDim)*w + w*int64(s.up()) + ff*w)
}

// headParams is the numbers in the matrix of the logits.
func (s *Shape) headParams() int64 { return int64(s.Vocab) * int64(s.Width) }
