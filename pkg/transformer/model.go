package transformer

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
)

// Model is a model's weights on a GPU and room for one batch of requests after
// another. But for Progress it is used by one goroutine at a time.
type Model struct {
	shape   Shape
	dtype   kernels.Type
	seed    uint64
	machine machine
	rows    int // that go through the layers at once, at most

	weights   cuda.Ptr // all of them
	embedding cuda.Ptr
	positions cuda.Ptr
	layers    []layer
	norm      param // the last one
	head      cuda.Ptr
	batch     *batch // what is prepared, nil is nothing
	progress  atomic.Int64
}

// layer is the weights of one.
type layer struct{ attentionNorm, qkv, out, mlpNorm, up, down param }

// param is a tensor and its bias, 0 where there is none.
type param struct{ w, bias cuda.Ptr }

// newModel makes the weights. It takes over the machine when it succeeds.
func newModel(on machine, s Shape, t kernels.Type, seed uint64) (*Model, error) {
	m := &Model{shape: s, dtype: t, seed: seed, machine: on, rows: pieceRows}
	if err := on.Do(m.draw); err != nil {
		return nil, fmt.Errorf("%.0f MiB of weights: %w", mib(s.weightBytes()), err)
	}
	return m, nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// draw allocates the weights and fills them in.
func (m *Model) draw() (err error) {
	if m.weights, err = m.machine.Alloc(m.shape.weightBytes()); err != nil {
		return err
	}
	at := map[string]cuda.Ptr{}
	next := m.weights
	for _, t := range m.shape.Weights(m.seed) {
		at[t.Name] = next
		if t.HalfWidth != 0 {
			m.machine.fill(next, t.Numbers(), t.Seed, t.HalfWidth)
		} else if err := m.machine.Upload(next, ones(m.dtype, t.Numbers())); err != nil {
			return errors.Join(err, m.machine.Free(m.weights))
		}
		next += cuda.Ptr(aligned(bytesPerNumber * t.Numbers()))
	}
	of := func(name string) param { return param{at[name], at[name+".bias"]} }
	for i := range m.shape.Layers {
		in := func(name string) param { return of(inLayer(i, name)) }
		m.layers = append(m.layers, layer{in(attentionNorm), in(attentionQKV), in(attentionOut), in(mlpNorm), in(mlpUp), in(mlpDown)})
	}
	m.embedding, m.positions, m.norm, m.head = at[embedding], at[positions], of(finalNorm), at[head]
	if m.shape.Tied {
		m.head = m.embedding
	}
	if err := m.machine.Synchronize(); err != nil {
		return errors.Join(err, m.machine.Free(m.weights))
	}
	return nil
}

// Shape is the model's.
func (m *Model) Shape() Shape { return m.shape }

// Progress is a number that changes as a Decode goes on. It may be asked for at
// any time.
func (m *Model) Progress() int64 { return m.progress.Load() }

// Close frees all of the model's memory.
func (m *Model) Close() error {
	err := m.Release()
	return errors.Join(err, m.machine.Do(func() error { return m.machine.Free(m.weights) }), m.machine.Close())
}

// ones is so many numbers that are 1.
func ones(t kernels.Type, n int64) []byte {
	one := []byte{0x80, 0x3f}
	if t == kernels.F16 {
		one = []byte{0x00, 0x3c}
	}
	return bytes.Repeat(one, int(n))
}
