package report

import (
	"cmp"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/poll"
	"joulepipe/pkg/record"
)

// Trace is what one pass over the power trace gathered, in memory that does
// not grow with the trace.
type Trace struct {
	File    string                `json:"file"` // empty: there is no trace
	Header  *record.Header        `json:"-"`    // nil for a trace without one
	Ended   bool                  `json:"ended"`
	Cut     string                `json:"cut,omitempty"` // why it counts as cut
	FirstNS int64                 `json:"t_first_ns"`
	LastNS  int64                 `json:"t_last_ns"`
	Records map[record.Kind]int64 `json:"records"`
	GPUs    []*GPU                `json:"gpus"`

	// Said is the poller's own account of its punctuality, nil where the trace
	// has none; Seen is the same computed from the samples.
	Said *record.Poller `json:"-"`
	Seen record.Poller  `json:"-"`

	averages bool             // the samples have field 185
	pictures map[int]*picture // of the first GPUs, to be drawn
	markers  map[string]*lane // what the poller marked, as a clock that was set
}

// Seconds is the time from the trace's first record to its last.
func (t *Trace) Seconds() float64 { return seconds(t.LastNS - t.FirstNS) }

// Poller is the poller's own account, or that of the samples.
func (t *Trace) Poller() *record.Poller {
	if t.Said != nil {
		return t.Said
	}
	return &t.Seen
}

// accounts are those of every GPU, the poller's own and those of the samples.
func (t *Trace) accounts() []record.PollerStats {
	all := t.Seen.GPUs
	if t.Said != nil {
		all = append(slices.Concat(all, t.Said.GPUs), t.Said.Overall)
	}
	return all
}

// Ticked says that samples carry their place on the grid, so that the missing
// ones can be counted.
func (t *Trace) Ticked() bool {
	return slices.ContainsFunc(t.GPUs, func(g *GPU) bool { return g.ticked })
}

// Simulated says that no hardware was measured.
func (t *Trace) Simulated() bool {
	if t.Header == nil {
		return false
	}
	device, _ := t.Header.Config["device"].(string)
	if device == "sim" || strings.HasPrefix(device, "sim:") {
		return true
	}
	return slices.ContainsFunc(t.Header.GPUs, func(g record.GPU) bool {
		return strings.Contains(g.Name, "(simulated)")
	})
}

// info is what the trace's header says of a GPU.
func (t *Trace) info(gpu int) record.GPU {
	if t.Header != nil {
		for _, g := range t.Header.GPUs {
			if g.Index == gpu {
				return g
			}
		}
	}
	return record.GPU{Index: gpu}
}

// GPU is what the trace holds of one GPU, beside its poller's account.
type GPU struct {
	Index        int                 `json:"gpu"`
	Samples      int64               `json:"samples"`
	Disordered   int64               `json:"disordered"` // went back in time; not counted below
	Gaps         []Gap               `json:"longest_gaps,omitempty"`
	HeldGaps     int64               `json:"held_gaps"`           // gaps for most of which the poller waited for one read
	ThrottleRead int64               `json:"throttle_read"`       // samples with throttle reasons, none included
	Throttled    map[string]int64    `json:"throttled,omitempty"` // reason → samples
	TempFirstC   record.Opt[float64] `json:"temp_first_c,omitzero"`
	TempLastC    record.Opt[float64] `json:"temp_last_c,omitzero"`
	TempMaxC     record.Opt[float64] `json:"temp_max_c,omitzero"`
	PowerMaxW    record.Opt[float64] `json:"power_max_w,omitzero"`
	VRAMMaxMB    record.Opt[float64] `json:"vram_max_mb,omitzero"` // MiB
	Counted      int64               `json:"counter_readings"`
	CounterBack  int64               `json:"counter_backwards"` // readings of the energy counter below the one before

	ticked      bool
	capped      int64               // samples at the power limit
	lastNS      int64               // of the last sample
	validNS     record.Opt[int64]   // of the last sample with power
	readUS      record.Opt[float64] // the longest read since, its own too
	first, last record.Counter      // the first and last reading of the energy counter
	stats       poll.Stats
	windows     *windows
}

// Gap is a spacing between valid samples longer than the gap threshold.
type Gap struct {
	StartNS int64               `json:"t_start_ns"`
	Seconds float64             `json:"seconds"`
	ReadS   record.Opt[float64] `json:"read_s,omitzero"` // the longest read in it
}

// held says that for most of the gap the poller waited for the driver to answer.
func (g *Gap) held() bool { return g.ReadS.Or(0) > g.Seconds/2 }

// longestGaps is how many gaps are kept to be shown.
const longestGaps = 5

// pass goes over a trace once.
type pass struct {
	*Trace
	limits   Thresholds
	events   []record.Event
	gpus     map[int]*GPU
	channels *channels
	untimely int // records of no possible time
}

// lastNS is a time that no clock comes to, from which sums do not overflow.
const lastNS = math.MaxInt64 / 2

// markersKept is how many kinds of marks in a trace are drawn.
const markersKept = 16

// maxGPUs is how many GPUs of a trace are believed.
const maxGPUs = 1 << 12

// readTrace takes the trace. The events tell it which stretches to measure.
func (r *Run) readTrace(dir fs.FS, header *record.Header) {
	name := r.files[traceFile]
	if name == "" {
		return
	}
	p := pass{
		Trace:    &Trace{File: name, Header: header, Records: map[record.Kind]int64{}, pictures: map[int]*picture{}, markers: map[string]*lane{}},
		limits:   r.Limits,
		events:   r.Events,
		gpus:     map[int]*GPU{},
		channels: newChannels(r.Events, header, r.Limits),
	}
	p.Cut = r.scan(dir, name, p.add)
	var all []*poll.Stats
	for _, i := range slices.Sorted(maps.Keys(p.gpus)) {
		g := p.gpus[i]
		g.windows.finish()
		all = append(all, &g.stats)
		p.GPUs = append(p.GPUs, g)
	}
	p.Seen = poll.Account(all)
	r.Trace = p.Trace
	r.integrals = p.channels.integrals
	var err error
	if r.Comparisons, r.Costs, err = p.channels.finish(); err != nil {
		r.problem("%s: %v", name, err)
	}
	for _, g := range p.GPUs {
		r.Costs = g.cost(r.Costs)
	}
	if p.untimely > 0 {
		r.problem("%s: %s of a time that no clock comes to", name, plural(p.untimely, "record"))
	}
	if len(p.GPUs) == 0 {
		r.problem("%s: no samples in it", name)
	}
}

func (p *pass) add(rec record.Record) {
	p.Records[rec.Kind()]++
	if ns, ok := rec.When(); ok {
		if ns < 0 || ns > lastNS {
			p.untimely++
			return
		}
		if p.FirstNS == 0 && p.LastNS == 0 {
			p.FirstNS, p.LastNS = ns, ns
		}
		p.FirstNS, p.LastNS = min(p.FirstNS, ns), max(p.LastNS, ns)
	}
	switch rec := rec.(type) {
	case *record.End:
		p.Ended = true
		if rec.Poller != nil {
			said := *rec.Poller
			p.Said = &said
		}
	case *record.Sample:
		p.averages = p.averages || rec.PowerAverageW.OK
		if g := p.gpu(rec.GPU); g != nil {
			switch drawn := p.picture(rec.GPU); {
			case !g.sample(rec, p.limits):
				drawn.disordered(rec)
			default:
				drawn.sample(rec, p.limits)
			}
		}
	case *record.Power:
		p.picture(rec.GPU).driver(rec)
	case *record.Marker:
		if l := p.markers[rec.Name]; l != nil || len(p.markers) < markersKept {
			if l == nil {
				l = &lane{}
				p.markers[rec.Name] = l
			}
			l.mark(p.FirstNS, rec.TimeNS, rec.TimeNS)
		}
	case *record.Counter:
		if g := p.gpu(rec.GPU); g != nil {
			g.count(rec)
			p.picture(rec.GPU).count(rec)
		}
	}
	p.channels.add(rec)
}

func (p *pass) gpu(index int) *GPU {
	g := p.gpus[index]
	if g == nil && len(p.gpus) < maxGPUs {
		period := p.limits.Period
		if h := p.Header; h != nil && h.PeriodNS > 0 {
			period = time.Duration(h.PeriodNS)
		}
		g = &GPU{
			Index:     index,
			Throttled: map[string]int64{},
			stats:     poll.Stats{GPU: index, Period: period, Gap: p.limits.GapDt},
			windows:   newWindows(p.events, index),
		}
		p.gpus[index] = g
	}
	return g
}

// picture is what is kept of a GPU to be drawn, nil for one too many.
func (p *pass) picture(gpu int) *picture {
	drawn := p.pictures[gpu]
	if drawn == nil && len(p.pictures) < picturedGPUs {
		drawn = newPicture(p.events, gpu, p.FirstNS, p.limits.GapDt)
		p.pictures[gpu] = drawn
	}
	return drawn
}

// sample takes a sample, and says whether it is newer than those before it.
func (g *GPU) sample(s *record.Sample, limits Thresholds) (newer bool) {
	g.Samples++
	if g.Samples > 1 && s.TimeNS <= g.lastNS {
		g.Disordered++
		return false
	}
	g.lastNS = s.TimeNS
	g.ticked = g.ticked || s.Tick.OK
	g.stats.Add(s)
	if s.TempC.OK {
		g.TempLastC = s.TempC
		if !g.TempFirstC.OK {
			g.TempFirstC = s.TempC
		}
	}
	g.TempMaxC = highest(g.TempMaxC, s.TempC)
	g.VRAMMaxMB = highest(g.VRAMMaxMB, s.VRAMUsedMB)
	g.windows.count(s.TimeNS, s.ReadOK, g.throttle(s.ThrottleReasons))
	if !s.ReadOK {
		g.readUS = highest(g.readUS, s.ReadUS)
		return true
	}
	g.PowerMaxW = highest(g.PowerMaxW, s.PowerW)
	if last, before := g.validNS.Get(); before && s.TimeNS-last > limits.GapDt.Nanoseconds() {
		gap := Gap{StartNS: last, Seconds: seconds(s.TimeNS - last)}
		if us, ok := g.readUS.Get(); ok {
			gap.ReadS = record.Some(us / 1e6)
		}
		g.keep(gap)
	}
	g.validNS, g.readUS = record.Some(s.TimeNS), s.ReadUS
	return true
}

// powerCap is the bit of the one reason that is no fault: a loaded board works
// at its power limit.
const powerCap = 0x4

// throttle counts the reasons of a sample, and says whether one of them is
// more than the power limit.
func (g *GPU) throttle(bits record.Opt[uint64]) (held bool) {
	if !bits.OK {
		return false
	}
	g.ThrottleRead++
	for _, reason := range record.Throttling(bits.V) {
		g.Throttled[reason]++
	}
	if bits.V&powerCap != 0 {
		g.capped++
	}
	return len(record.Throttling(bits.V&^powerCap)) > 0
}

func (g *GPU) keep(gap Gap) {
	if gap.held() {
		g.HeldGaps++
	}
	g.Gaps = append(g.Gaps, gap)
	slices.SortStableFunc(g.Gaps, func(a, b Gap) int { return cmp.Compare(b.Seconds, a.Seconds) })
	g.Gaps = g.Gaps[:min(len(g.Gaps), longestGaps)]
}

func (g *GPU) count(c *record.Counter) {
	mJ, ok := c.EnergyMilliJ.Get()
	if !ok {
		return
	}
	g.Counted++
	if g.Counted == 1 {
		g.first = *c
	} else if mJ < g.last.EnergyMilliJ.V {
		g.CounterBack++
	}
	g.last = *c
}

// stuck says that the counter stood still for seconds, as some virtual GPUs'
// does.
func (g *GPU) stuck() bool {
	return g.Counted > 2 && g.last.TimeNS-g.first.TimeNS > 2e9 && g.CounterBack == 0 && g.last.EnergyMilliJ.V == g.first.EnergyMilliJ.V
}

// cost puts what the counter says of the whole trace in place of what was
// summed up in slices.
func (g *GPU) cost(costs []Cost) []Cost {
	if g.Counted < 2 || g.CounterBack > 0 || g.last.TimeNS <= g.first.TimeNS {
		return costs
	}
	c := Cost{g.Index, record.ChannelCounter, seconds(g.last.TimeNS - g.first.TimeNS), float64(g.last.EnergyMilliJ.V-g.first.EnergyMilliJ.V) / 1e3}
	if g.stuck() {
		return costs
	}
	return append(slices.DeleteFunc(costs, func(o Cost) bool { return o.GPU == g.Index }), c)
}

func highest(a, b record.Opt[float64]) record.Opt[float64] {
	if !a.OK || b.OK && b.V > a.V {
		return b
	}
	return a
}

// inside counts the samples of an event on one of its GPUs.
func (t *Trace) inside(e *record.Event, gpu int) tally {
	i := slices.IndexFunc(t.GPUs, func(g *GPU) bool { return g.Index == gpu })
	if i < 0 {
		return tally{}
	}
	return t.GPUs[i].windows.inside(e)
}
