package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/replay"
	"joulepipe/pkg/poll"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// again streams an archived trace, or some GPUs, channels and minutes of it.
func again(c *cli.Context, file string) error {
	speed := 0.0
	if s := c.String("speed"); s != "max" {
		var err error
		if speed, err = strconv.ParseFloat(s, 64); err != nil || !(speed > 0) {
			return c.Usagef("--speed %s: want max or a factor above 0", s)
		}
	}
	in, err := c.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.Create()
	if err != nil {
		return err
	}
	p := &part{
		Writer:   out,
		gpus:     list(c.String("gpu")),
		channels: list(c.String("channels")),
		length:   int64(c.Duration("duration")),
		gap:      c.Duration("gap"),
	}
	err = replay.Play(c.Ctx, in, clock.System(), speed, p)
	if errors.Is(err, errOver) || errors.Is(err, context.Canceled) {
		err = p.end()
	}
	if err != nil {
		return out.Abort(err)
	}
	return out.Close()
}

// errOver ends a replay at its --duration.
var errOver = errors.New("the time is up")

// part is what of a trace is written. Its end counts the records anew, and has
// a new account of the samples' punctuality once something was left out.
type part struct {
	stream.Writer
	gpus     []string // as --gpu has them; empty: all
	channels []string // empty: all
	length   int64    // ns from the first record that has a time; 0: all
	gap      time.Duration

	header  *record.Header // of the stream that has begun and not ended
	keep    map[int]bool   // GPUs of this stream, where some are to be chosen
	started bool
	first   int64 // ns
	records int64 // since the header
	cut     bool  // something was left out since the header
	stats   []*poll.Stats
}

func (p *part) Write(r record.Record) error {
	switch r := r.(type) {
	case *record.Header:
		return p.begin(*r)
	case *record.End:
		if p.cut {
			return p.end()
		}
		p.header = nil
		return p.Writer.Write(&record.End{Records: p.records, Poller: r.Poller})
	}
	if at, ok := r.When(); ok && p.length > 0 {
		if !p.started {
			p.started, p.first = true, at
		}
		if at-p.first >= p.length {
			return errOver
		}
	}
	keep := true
	var err error
	switch r := r.(type) {
	case *record.Sample:
		if keep, err = p.keeps(r.GPU, gpu.Sample); keep {
			p.statsOf(r.GPU).Add(r)
		}
	case *record.Power:
		keep, err = p.keeps(r.GPU, gpu.Power)
	case *record.Counter:
		keep, err = p.keeps(r.GPU, gpu.Counter)
	case *record.GPM:
		keep, err = p.keeps(r.GPU, gpu.GPM)
	case *record.Process:
		keep, err = p.keeps(r.GPU, gpu.Process)
	}
	if err != nil || !keep {
		p.cut = true
		return err
	}
	p.records++
	return p.Writer.Write(r)
}

// begin starts a stream with those of the header's GPUs that are to be kept.
func (p *part) begin(h record.Header) error {
	p.header, p.records, p.cut, p.stats = &h, 0, false, nil
	if len(p.gpus) > 0 {
		var all []gpu.GPU
		for _, g := range h.GPUs {
			all = append(all, archived{info: g})
		}
		kept, err := gpu.Select(all, p.gpus)
		if err != nil {
			return err
		}
		h.GPUs, p.keep = nil, map[int]bool{}
		for _, g := range kept {
			h.GPUs = append(h.GPUs, g.Info())
			p.keep[g.Info().Index] = true
		}
	}
	return p.Writer.Write(&h)
}

// archived is a GPU that can be chosen and not read.
type archived struct {
	gpu.GPU
	info record.GPU
}

func (a archived) Info() record.GPU { return a.info }

func (p *part) keeps(index int, channel string) (bool, error) {
	if len(p.gpus) > 0 && p.keep == nil {
		return false, errors.New("the trace has no header to choose a --gpu from")
	}
	return (p.keep == nil || p.keep[index]) && (len(p.channels) == 0 || slices.Contains(p.channels, channel)), nil
}

func (p *part) statsOf(index int) *poll.Stats {
	for _, s := range p.stats {
		if s.GPU == index {
			return s
		}
	}
	s := &poll.Stats{GPU: index, Gap: p.gap}
	if p.header != nil {
		s.Period = time.Duration(p.header.PeriodNS)
	}
	p.stats = append(p.stats, s)
	return s
}

// end closes a stream that was not written to its own end.
func (p *part) end() error {
	if p.header == nil {
		return nil
	}
	p.header = nil
	account := poll.Account(p.stats)
	return p.Writer.Write(&record.End{Records: p.records, Poller: &account})
}
