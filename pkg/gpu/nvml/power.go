//go:build linux && cgo

package nvml

import (
	"cmp"
	"math"
	"slices"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// buffer is how far the driver's power samples have been read.
type buffer struct {
	call call
	stamps
	most int // entries of the longest harvest
}

// stamps is how far something has been read that the driver stamps, and by what
// clock it does.
type stamps struct {
	seen   uint64 // newest stamp read, µs of the clock that the driver uses
	seenNS int64  // the same on the monotonic clock
	clock  string // the clock that fitted last
	span   int64  // ns from the oldest to the newest of a harvest, at most

	offset  int64 // from that clock to the monotonic one when they were last compared
	offNS   int64 // when that was, monotonic
	mixedNS int64 // until then the buffer may have stamps of before the clock was set
}

// A clock that moves against the monotonic one by more than this between two
// harvests was set, or the machine slept. Clocks that are only disciplined gain
// or lose 0.5 ms a second.
const (
	step  = int64(10 * time.Millisecond)
	drift = 1000 // and one part in so many of the time between
)

// Bounds of how old the newest entry of a harvest may be: the driver keeps
// about 2.4 s, and the clocks are not read at the same instant as the buffer.
const (
	youngest = -100 * time.Millisecond
	oldest   = 3 * time.Second
)

// ReadPower appends what the driver's buffer has gained since Open or since the
// last call. The error can come with entries: those that can stand are there.
func (b *board) ReadPower(batch *gpu.PowerBatch) error {
	p := &b.power
	batch.Clock = p.clock
	h, err := b.reach(&p.call)
	if err != nil {
		return err
	}
	typ, samples, ret := h.GetSamples(nv.TOTAL_POWER_SAMPLES, p.since(b.clocks()))
	if ret == nv.ERROR_NOT_FOUND {
		ret, samples = nv.SUCCESS, nil // nothing new; a lost GPU has its own code here
	}
	h.done(&p.call, ret)
	if ret != nv.SUCCESS {
		return name(ret)
	}
	return b.harvest(batch, typ, samples, b.clocks())
}

// instant is what a clock shows, in nanoseconds.
type instant struct {
	clock string
	now   int64
}

// clocks are this instant on every clock that the driver may stamp with. Where
// the machine never slept, the last two are the same and so is what they give.
func (b *board) clocks() [3]instant {
	before := b.dev.clock()
	all := [3]instant{
		{"realtime", time.Now().UnixNano()},
		{"boottime", clock.Uptime()},
		{"monotonic", before},
	}
	all[2].now += (b.dev.clock() - before) / 2
	return all
}

// since is the stamp after which to ask. If the driver's clock was set back, the
// last stamp lies in its future and would hide the new ones.
func (p *stamps) since(clocks [3]instant) uint64 {
	for _, c := range clocks {
		if c.clock == p.clock && c.now-int64(p.seen)*1000 < int64(youngest) {
			p.seen = 0
		}
	}
	return p.seen
}

// mixed says whether the buffer may hold stamps of before and after the
// driver's clock was set: until it has been filled anew nothing tells them
// apart, and a stamp would be moved by the wrong distance.
func (p *stamps) mixed(clocks [3]instant) bool {
	now := clocks[2].now
	for _, c := range clocks {
		if c.clock != p.clock {
			continue
		}
		offset := now - c.now
		moved := max(offset-p.offset, p.offset-offset)
		if moved > step+(now-p.offNS)/drift {
			p.mixedNS = now + max(int64(oldest), p.span)
		}
		p.offset, p.offNS = offset, now
	}
	return now < p.mixedNS
}

// fit finds the clock that stamps are of: the newest, in nanoseconds, is no older
// on it than that. offset is from there to the monotonic clock.
func (p *stamps) fit(clocks [3]instant, newest, oldest int64) (offset int64, ok bool) {
	i := slices.IndexFunc(clocks[:], func(c instant) bool {
		age := c.now - newest
		return int64(youngest) <= age && age <= oldest
	})
	if i < 0 {
		return 0, false
	}
	p.clock = clocks[i].clock
	p.offset, p.offNS = clocks[2].now-clocks[i].now, clocks[2].now
	return p.offset, true
}

// harvest moves the new ones among the driver's samples to the monotonic clock.
func (b *board) harvest(batch *gpu.PowerBatch, typ nv.ValueType, samples []nv.Sample, clocks [3]instant) error {
	p := &b.power
	if p.mixed(clocks) {
		return ErrClockSet
	}
	slices.SortFunc(samples, func(x, y nv.Sample) int { return cmp.Compare(x.TimeStamp, y.TimeStamp) })
	full := len(samples) > 0 && len(samples) >= p.most
	p.most = max(p.most, len(samples))
	samples = slices.DeleteFunc(samples, func(s nv.Sample) bool { return s.TimeStamp <= p.seen })
	if len(samples) == 0 {
		return nil
	}
	newest := int64(samples[len(samples)-1].TimeStamp) * 1000
	p.span = max(p.span, newest-int64(samples[0].TimeStamp)*1000)
	first := p.clock == ""
	offset, ok := p.fit(clocks, newest, int64(oldest))
	if !ok {
		return ErrUnknownClock
	}
	last := p.seenNS
	if first {
		last = math.MinInt64
	}
	batch.Overflow = full && !first && wrapped(samples, last-offset)
	batch.Clock = p.clock

	var err error
	for _, s := range samples {
		t := int64(s.TimeStamp)*1000 + offset
		if t <= last {
			continue // the clock was set back: this one was read before
		}
		last = t
		mw, ok := number(s.SampleValue, typ)
		if !ok || !b.plausible(mw) {
			err = gpu.ErrImplausible
			continue
		}
		batch.Entries = append(batch.Entries, record.Power{TimeNS: t, GPU: b.info.Index, PowerW: mw / 1000})
	}
	p.seen, p.seenNS = samples[len(samples)-1].TimeStamp, last
	return err
}

// wrapped says whether entries are missing between the last one read, in
// nanoseconds of the driver's clock, and these: the way to the first is longer
// than the buffer's spacing allows. The driver's own jitter is a fifth.
func wrapped(samples []nv.Sample, last int64) bool {
	if len(samples) < 2 {
		return false
	}
	spacing := make([]int64, len(samples)-1)
	for i := range spacing {
		spacing[i] = int64(samples[i+1].TimeStamp-samples[i].TimeStamp) * 1000
	}
	slices.Sort(spacing)
	return int64(samples[0].TimeStamp)*1000-last > spacing[len(spacing)/2]*3/2
}
