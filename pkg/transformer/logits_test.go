package transformer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"testing"

	"joulepipe/pkg/cuda/kernels"
)

// The file has the tokens, and what the model makes of each.
func TestWriteLogits(t *testing.T) {
	t.Parallel()
	s := small()[1]
	const size, prompt, gen = 2, 5, 3
	m, err := newModel(newHost(t, s), s, kernels.BF16, 9)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteLogits(&bytes.Buffer{}); err == nil {
		t.Error("logits of nothing")
	}
	if err := m.Prepare(size, prompt, gen); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := m.WriteLogits(&file); err != nil {
		t.Fatal(err)
	}
	b := file.Bytes()
	n := binary.LittleEndian.Uint64(b)
	if n%8 != 0 {
		t.Errorf("a header of %d bytes", n)
	}
	var header struct {
		Logits, Tokens tensorEntry
	}
	if err := json.Unmarshal(b[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	data := b[8+n:]
	if len(data) != int(header.Tokens.Offsets[1]) || header.Logits.DType != "BF16" || header.Logits.Shape[2] != s.Vocab {
		t.Fatalf("%d bytes of %+v", len(data), header)
	}
	tokens := make([]int32, size*(prompt+gen))
	if err := binary.Read(bytes.NewReader(data[header.Tokens.Offsets[0]:]), binary.LittleEndian, tokens); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		var seq []int
		for _, token := range tokens[i*(prompt+gen) : (i+1)*(prompt+gen)] {
			seq = append(seq, int(token))
		}
		want := naive(s, 9, seq)
		for k := range 1 + gen {
			best, at := math.Inf(-1), 0
			for v, w := range want[prompt-1+k] {
				bits := binary.LittleEndian.Uint16(data[2*((k*size+i)*s.Vocab+v):])
				got := float64(math.Float32frombits(uint32(bits) << 16))
				if !(math.Abs(got-w) <= 0.01*math.Abs(w)+1e-6) {
					t.Fatalf("sequence %d, answer %d, logit %d: %v, want %v", i, k, v, got, w)
				}
				if w > best {
					best, at = w, v
				}
			}
			if k < gen && seq[prompt+k] != at {
				t.Errorf("sequence %d, answer %d is %d, and %d is likelier", i, k, seq[prompt+k], at)
			}
		}
	}
}
