package vram

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// Results is vram.json.
type Results struct {
	GPUs []GPU `json:"gpus"`
}

// GPU is what was tried on one.
type GPU struct {
	GPU     int     `json:"gpu"`
	UUID    string  `json:"uuid,omitempty"`
	Name    string  `json:"name,omitempty"`
	Driver  string  `json:"driver,omitempty"`
	Torture []Trial `json:"torture,omitempty"`
	Cliff   []Fall  `json:"cliff,omitempty"`
}

// Load reads vram.json.
func Load(r io.Reader) (*Results, error) {
	var all Results
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return nil, fmt.Errorf("not a vram.json: %w", err)
	}
	if len(all.GPUs) == 0 {
		return nil, fmt.Errorf("not a vram.json: it has no gpus")
	}
	return &all, nil
}

// Merge takes in what was tried on a GPU, in place of earlier trials of the same
// allocator with the same pattern, or of the same model and batch; the rest stays.
func (r *Results) Merge(g GPU) {
	i := slices.IndexFunc(r.GPUs, func(o GPU) bool { return o.GPU == g.GPU && o.UUID == g.UUID })
	if i < 0 {
		r.GPUs = append(r.GPUs, g)
		return
	}
	old := &r.GPUs[i]
	g.Torture = merge(old.Torture, g.Torture, func(a, b Trial) bool { return a.Allocator == b.Allocator && a.Pattern == b.Pattern })
	g.Cliff = merge(old.Cliff, g.Cliff, func(a, b Fall) bool { return a.Model == b.Model && a.Batch == b.Batch })
	*old = g
}

// merge puts each of fresh in the place of the one that is the same, or at the
// end.
func merge[T any](all, fresh []T, same func(a, b T) bool) []T {
	for _, f := range fresh {
		if i := slices.IndexFunc(all, func(o T) bool { return same(o, f) }); i >= 0 {
			all[i] = f
		} else {
			all = append(all, f)
		}
	}
	return all
}
