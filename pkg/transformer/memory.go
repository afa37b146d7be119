package transformer

// Memory is what a model takes of the GPU's memory, in bytes.
type Memory struct {
	Weights     int64
	KV          int64 // the cache of keys and values
	Activations int64 // all else: what one layer hands to the next
}

// Total is all of it.
func (m Memory) Total() int64 { return m.Weights + m.KV + m.Activations }

// align is what each tensor begins at a multiple of, in bytes.
const align = 256

func aligned(bytes int64) int64 { return (bytes + align - 1) &^ (align - 1) }

// Memory is what a [Model] takes that is prepared for so many prompts and
// answers, of so many tokens each. It is exact, but for what the driver and its
// allocator take for themselves.
func (s *Shape) Memory(size, prompt, gen int) Memory {
	kv, activations := s.layout(newBatch(size, prompt, gen, pieceRows), 0)
	return Memory{s.weightBytes(), kv, activations}
}

func (s *Shape) weightBytes() int64 {
	var n int64
	for _, t := range s.Weights(0) {
		n += aligned(bytesPerNumber * t.Numbers())
	}
	return n
}
