package vram

import "errors"

// Held is an Engine that takes a model's buffers and computes nothing with
// them: on it memory alone decides what fits.
type Held struct {
	Memory  Memory
	Buffers func(context int) []Buffer
	blocks  []Block
}

// Open takes the buffers.
func (h *Held) Open(context int) error {
	for _, b := range h.Buffers(context) {
		if b.Bytes == 0 {
			continue
		}
		block, err := h.Memory.Alloc(b.Bytes)
		if err != nil {
			return errors.Join(err, h.Close())
		}
		h.blocks = append(h.blocks, block)
	}
	return nil
}

// Release frees the buffers.
func (h *Held) Release() error { return h.Close() }

// Close frees the buffers.
func (h *Held) Close() (err error) {
	for _, b := range h.blocks {
		err = errors.Join(err, h.Memory.Free(b))
	}
	h.blocks = nil
	return err
}
