package report

import (
	"fmt"

	"joulepipe/pkg/record"
	"joulepipe/pkg/vram"
)

func (r *Run) memory(p *page) {
	if !r.section(p, "Memory", vramFile) {
		return
	}
	for _, g := range r.Memory {
		tortured(p, g)
		for _, f := range g.Cliff {
			r.cliff(p, g, f)
		}
	}
	p.figure(r, "composition")
	if r.Trace.File != "" {
		p.figure(r, "memory")
	}
}

// tortured is the table of what allocators made of fragmented memory.
func tortured(p *page, g vram.GPU) {
	if len(g.Torture) == 0 {
		return
	}
	p.say("Allocators of GPU %d. Fragmentation is (reserved − used) / reserved; trimmed is after everything went back to the device that can.", g.GPU)
	t := columns("Pattern", "Allocator", ">Filled", ">With holes", ">Trimmed", ">Free, MiB", ">Largest block, MiB", "Free pieces as one")
	for _, trial := range g.Torture {
		t.row(text(trial.Pattern), text(trial.Allocator), optionalPercent(trial.Before.Fragmentation), optionalPercent(trial.Holes.Fragmentation),
			optionalPercent(trial.Trimmed.Fragmentation), fixed(trial.FreeMB, 0), fixed(trial.LargestMB, 0), text(trial.Coalescing.Outcome+": "+trial.Coalescing.Reason))
	}
	p.table(t)
}

// cliff is what limits a model's context, and what its memory is made of.
func (r *Run) cliff(p *page, g vram.GPU, f vram.Fall) {
	model := fmt.Sprintf("%s, batch %d, on GPU %d", code(f.Model), f.Batch, g.GPU)
	switch f.Limit {
	case vram.Nothing:
		p.say("%s: not even a context of one token fits; it would take %s MiB of %s free.", model, fixed(f.Predicted.Need.ModelMB, 0), fixed(f.FreeMB, 0))
		return
	case vram.Architecture:
		p.say("%s: the model's window of %d tokens ends before the memory does, which by prediction has room for %d.", model, f.Window, f.Predicted.Unbounded)
	case vram.Asked:
		p.say("%s: %d tokens fit; no more were tried.", model, f.MaxContext)
	default:
		p.say("%s: memory ends at %d tokens of a window of %d; predicted were %d (%s %%).", model, f.MaxContext, f.Window, f.Predicted.Unbounded, signed(f.ErrorPct))
	}
	peak := f.Peak
	t := columns("At the longest context", ">MiB", ">Share")
	row := func(name string, mib record.Opt[float64]) {
		if v, ok := mib.Get(); ok {
			t.row(name, fixed(v, 0), percent(v/f.TotalMB))
		} else {
			t.row(name, absent, absent)
		}
	}
	for i, mib := range composition(&peak) {
		row(sentence(partNames[i]), mib)
	}
	row("Most in use during the run, by the trace", r.mostUsed(g.GPU))
	p.table(t)
	if c := f.Recovery; !c.OutOfMemory || !c.Works || c.LeftMB > 0 {
		p.say("After more memory was asked for than there is: refused %t, %s MiB not given back, the longest context fits again %t. %s",
			c.OutOfMemory, trimmed(c.LeftMB), c.Works, text(c.Reason))
	} else {
		p.say("More memory than there is was asked for and refused; everything was given back, and the longest context fitted again.")
	}
}

// partNames are what the memory of a GPU is made of.
var partNames = [...]string{"weights", "keys and values", "activations", "allocator's overhead", "CUDA context", "driver and others", "free"}

// composition is how much of the memory each part takes, MiB.
func composition(c *vram.Composition) (mib [len(partNames)]record.Opt[float64]) {
	others := c.BeforeMB
	if own, ok := c.ContextMB.Get(); ok && others.OK {
		others.V -= own
	}
	return [...]record.Opt[float64]{record.Some(c.WeightsMB), record.Some(c.KVMB), record.Some(c.ActivationsMB), record.Some(c.OverheadMB), c.ContextMB, others, c.FreeMB}
}

// mostUsed is the most memory of a GPU that the trace saw in use, MiB.
func (r *Run) mostUsed(gpu int) record.Opt[float64] {
	for _, g := range r.Trace.GPUs {
		if g.Index == gpu {
			return g.VRAMMaxMB
		}
	}
	return record.Opt[float64]{}
}

// signed is a measured percentage with its sign.
func signed(o record.Opt[float64]) string {
	if v, ok := o.Get(); ok {
		return fmt.Sprintf("%+.2f", v)
	}
	return absent
}
