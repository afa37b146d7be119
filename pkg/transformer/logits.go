package transformer

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"joulepipe/pkg/cuda/kernels"
)

// WriteLogits computes what is prepared, and writes a safetensors file of it, for
// comparison with another implementation: tokens, int32 [requests,
// prompt + generated], and logits, of the model's type [1 + generated, requests,
// vocabulary], of the prompts' last tokens and then of each generated one but
// the last. What it takes is no measure of anything.
func (m *Model) WriteLogits(w io.Writer) error {
	b := m.batch
	if b == nil {
		return errUnprepared
	}
	tokens := m.prompts(b)
	row := int64(bytesPerNumber) * int64(b.size) * int64(m.shape.Vocab)
	end := int64(1+b.gen) * row
	names := map[kernels.Type]string{kernels.BF16: "BF16", kernels.F16: "F16"}
	header, err := json.Marshal(map[string]any{
		"__metadata__": map[string]string{"model": m.shape.Name, "seed": fmt.Sprint(m.seed)},
		"logits":       tensorEntry{names[m.dtype], []int{1 + b.gen, b.size, m.shape.Vocab}, [2]int64{0, end}},
		"tokens":       tensorEntry{"I32", []int{b.size, b.prompt + b.gen}, [2]int64{end, end + 4*int64(b.size)*int64(b.prompt+b.gen)}},
	})
	if err != nil {
		return err
	}
	header = append(header, strings.Repeat(" ", -len(header)&7)...)
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)); err != nil {
		return err
	}
	logits, next := make([]byte, row), make([]byte, 4*b.size)
	for i := range 1 + b.gen {
		if err := m.machine.Do(func() error {
			if i == 0 {
				m.machine.launch(b.prefill)
			} else {
				m.machine.launch(b.step)
			}
			if err := m.machine.Synchronize(); err != nil {
				return err
			}
			if err := m.machine.Download(logits, b.logits); err != nil {
				return err
			}
			return m.machine.Download(next, b.next)
		}); err != nil {
			return err
		}
		if _, err := w.Write(logits); err != nil {
			return err
		}
		if i < b.gen {
			for k := range tokens {
				tokens[k] = append(tokens[k], int32(binary.LittleEndian.Uint32(next[4*k:])))
			}
		}
	}
	for _, of := range tokens {
		if err := binary.Write(w, binary.LittleEndian, of); err != nil {
			return err
		}
	}
	return nil
}

// tensorEntry describes a tensor in the header of a safetensors file.
type tensorEntry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}
