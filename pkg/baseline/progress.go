package baseline

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Progress is how far the measurement of a GPU is, for one that waits for it.
type Progress struct {
	GPU     int
	Elapsed time.Duration // since the GPU's first sample
	// Settled says that readings count by now; Measured is over how long they
	// go.
	Settled  bool
	Measured time.Duration
	// Enough says that it lasted for Options.MinDuration and has as many
	// independent readings as Options wants.
	Enough bool
	Says   string // what it waits for
}

// Progress is how far each GPU is, in order. To count the independent readings
// it goes through all of them: ask now and then, not for every record.
func (m *Meter) Progress() (all []Progress) {
	for _, index := range slices.Sorted(maps.Keys(m.gpus)) {
		g := m.gpus[index]
		if n := len(g.windows); n > 0 {
			all = append(all, m.progress(g, g.windows[n-1]))
		}
	}
	return all
}

func (m *Meter) progress(g *gpu, w *window) Progress {
	now := max(w.sampleNS, w.fromNS)
	p := Progress{GPU: g.index, Elapsed: time.Duration(now - w.fromNS)}
	if w.busy {
		p.Says = fmt.Sprintf("waiting for idle: utilisation is %d %%", g.util.Or(0))
		return p
	}
	if left := int64(m.o.Settle) - (now - w.settleNS); left > 0 {
		p.Says = fmt.Sprintf("settling for %v more", time.Duration(left).Round(time.Second))
		if g.change != "" {
			p.Says += ": " + g.change
		}
		return p
	}
	t := &g.idle
	p.Settled, p.Measured = true, time.Duration(t.coveredNS)
	if p.Measured < m.o.MinDuration {
		p.Says = fmt.Sprintf("measured %v of %v", p.Measured.Round(time.Second), m.o.MinDuration)
		return p
	}
	n, precise, ok := t.independent(int64(m.o.Gap))
	p.Enough = !ok || n >= m.o.LeastNEff || precise
	p.Says = fmt.Sprintf("measured %v: %.0f independent readings", p.Measured.Round(time.Second), n)
	if !p.Enough {
		p.Says += fmt.Sprintf(", %g are wanted", m.o.LeastNEff)
	}
	return p
}
