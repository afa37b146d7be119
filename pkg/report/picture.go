package report

import (
	"math"
	"slices"
	"time"

	"joulepipe/pkg/record"
)

// picturedGPUs is how many GPUs of a trace figures show.
const picturedGPUs = 8

// picture is what one pass over the trace keeps of a GPU to be drawn, half a
// megabyte at most. A nil picture takes everything and keeps nothing.
type picture struct {
	startNS                       int64                // of the trace
	power                         map[string]*envelope // by channel
	temp, clock, memory           *envelope
	late                          [lateBins]int64
	lateRead                      int64
	heat                          map[heatCell]int64
	lanes                         [len(laneNames)]lane
	tick, tickNS, validNS, readNS record.Opt[int64]
	counter, driverNS             record.Opt[int64]
	gapNS                         int64 // a longer spacing is a gap
	rise                          *fold
}

// Faults that have a lane of their own, in the order of the figure.
const (
	laneGap = iota
	laneDropped
	laneFailed
	laneFloor
	laneBack
	laneCounter
	laneUncounted
	laneHole
	laneSlow
	laneCap
)

var laneNames = [...]string{
	laneGap: "gap between samples", laneDropped: "dropped ticks", laneFailed: "failed reading", laneFloor: "below 5 W", laneBack: "time went back",
	laneCounter: "counter went back", laneUncounted: "counter not read", laneHole: "hole in the driver's buffer", laneSlow: "slowed down", laneCap: "at the power limit",
}

// heatCell is a temperature and a clock, to what they are counted by.
type heatCell struct{ temp, clock int64 }

const (
	clockStep = 15      // MHz
	heatCells = 1 << 14 // more of them are no board's
)

// Lateness is counted in quarters of powers of two of a microsecond, up to a
// minute.
const (
	lateBins   = 104
	latePerOct = 4.0
)

func newPicture(events []record.Event, gpu int, startNS int64, gap time.Duration) *picture {
	return &picture{
		startNS: startNS, gapNS: gap.Nanoseconds(),
		power: map[string]*envelope{
			record.ChannelPower: {gapNS: gap.Nanoseconds()}, record.ChannelInstant: {gapNS: gap.Nanoseconds()}, record.ChannelDriver: {gapNS: gap.Nanoseconds()},
			record.ChannelAverage: {gapNS: gap.Nanoseconds()},
		},
		temp: &envelope{gapNS: gap.Nanoseconds()}, clock: &envelope{gapNS: gap.Nanoseconds()}, memory: &envelope{gapNS: gap.Nanoseconds()},
		heat: map[heatCell]int64{},
		rise: newFold(events, gpu),
	}
}

// disordered takes a sample that is older than the one before.
func (p *picture) disordered(s *record.Sample) {
	if p != nil {
		p.note(laneBack, s.TimeNS, s.TimeNS)
	}
}

func (p *picture) note(fault int, from, until int64) { p.lanes[fault].mark(p.startNS, from, until) }

// sample takes a sample that is newer than all before it.
func (p *picture) sample(s *record.Sample, limits Thresholds) {
	if p == nil {
		return
	}
	ns := s.TimeNS
	if tick, ok := s.Tick.Get(); ok {
		if last, before := p.tick.Get(); before && tick > last+1 {
			p.note(laneDropped, p.tickNS.V, ns)
		}
		p.tick, p.tickNS = s.Tick, record.Some(ns)
	}
	if us, ok := s.LateUS.Get(); ok && !math.IsNaN(us) {
		p.lateRead++
		k := 0
		if us > 1 {
			k = int(latePerOct * math.Log2(us))
		}
		p.late[min(k, lateBins-1)]++
	}
	if bits, ok := s.ThrottleReasons.Get(); ok {
		if bits&powerCap != 0 {
			p.note(laneCap, ns, ns)
		}
		if len(record.Throttling(bits&^powerCap)) > 0 {
			p.note(laneSlow, ns, ns)
		}
	}
	if t, ok := s.TempC.Get(); ok {
		p.temp.add(ns, t)
		if mhz, ok := s.SMClockMHz.Get(); ok && math.Abs(t) < 1000 {
			cell := heatCell{int64(math.Round(t)), mhz / clockStep}
			if p.heat[cell] > 0 || len(p.heat) < heatCells {
				p.heat[cell]++
			}
		}
	}
	if mhz, ok := s.SMClockMHz.Get(); ok {
		p.clock.add(ns, float64(mhz))
	}
	if mb, ok := s.VRAMUsedMB.Get(); ok {
		p.memory.add(ns, mb)
	}
	if !s.ReadOK {
		p.note(laneFailed, ns, ns)
		return
	}
	if last, before := p.validNS.Get(); before && ns-last > limits.GapDt.Nanoseconds() {
		p.note(laneGap, last, ns)
	}
	p.validNS = record.Some(ns)
	p.watts(record.ChannelPower, ns, s.PowerW)
	p.watts(record.ChannelInstant, ns, s.PowerInstantW)
	p.watts(record.ChannelAverage, ns, s.PowerAverageW)
	if s.PowerW.OK && s.PowerW.V < record.FloorW {
		p.note(laneFloor, ns, ns)
	}
}

func (p *picture) watts(channel string, ns int64, w record.Opt[float64]) {
	if w.OK {
		p.power[channel].add(ns, w.V)
		p.rise.add(channel, ns, w.V)
	}
}

// driver takes an entry of the driver's buffer.
func (p *picture) driver(s *record.Power) {
	if p == nil {
		return
	}
	if last, before := p.driverNS.Get(); before && s.TimeNS-last > p.gapNS {
		p.note(laneHole, last, s.TimeNS)
	}
	p.driverNS = record.Some(s.TimeNS)
	p.watts(record.ChannelDriver, s.TimeNS, record.Some(s.PowerW))
}

func (p *picture) count(c *record.Counter) {
	if p == nil {
		return
	}
	mJ, ok := c.EnergyMilliJ.Get()
	if !ok {
		p.note(laneUncounted, c.TimeNS, c.TimeNS)
		return
	}
	if last, before := p.counter.Get(); before && mJ < last {
		p.note(laneCounter, p.readNS.V, c.TimeNS)
	}
	p.counter, p.readNS = c.EnergyMilliJ, record.Some(c.TimeNS)
}

// fold lays the rising edges of a square wave over each other.
type fold struct {
	edges    []int64 // the instants at which the load was switched on
	untilNS  int64   // how long after them it stayed on at least
	channels map[string][]envelopeBin
}

const (
	foldStep   = 10 * time.Millisecond
	foldBefore = 500 * time.Millisecond
	foldAfter  = 2 * time.Second
	foldBins   = int((foldBefore + foldAfter) / foldStep)
)

// newFold looks for the edges on one GPU among events.
func newFold(events []record.Event, gpu int) *fold {
	f := &fold{untilNS: foldAfter.Nanoseconds(), channels: map[string][]envelopeBin{}}
	var lows []int64 // ends
	for i := range events {
		if e := &events[i]; e.Phase == "square_low" && runsOn(e, gpu) && e.EndNS-e.StartNS >= foldBefore.Nanoseconds() {
			lows = append(lows, e.EndNS)
		}
	}
	slices.Sort(lows)
	for i := range events {
		e := &events[i]
		if e.Phase != "square_high" || !runsOn(e, gpu) || e.EndNS-e.StartNS < foldBefore.Nanoseconds() {
			continue
		}
		near := int64(100 * time.Millisecond)
		k, _ := slices.BinarySearch(lows, e.StartNS-near)
		if k < len(lows) && lows[k] <= e.StartNS+near {
			f.edges = append(f.edges, e.StartNS)
			f.untilNS = min(f.untilNS, e.EndNS-e.StartNS)
		}
	}
	slices.Sort(f.edges)
	return f
}

func (f *fold) add(channel string, ns int64, watts float64) {
	if len(f.edges) == 0 || math.Abs(watts) > absurdW || math.IsNaN(watts) {
		return
	}
	k, _ := slices.BinarySearch(f.edges, ns-f.untilNS+1)
	if k == len(f.edges) || ns-f.edges[k] < -foldBefore.Nanoseconds() || ns-f.edges[k] >= f.untilNS {
		return
	}
	bins := f.channels[channel]
	if bins == nil {
		bins = make([]envelopeBin, foldBins)
		f.channels[channel] = bins
	}
	b := &bins[(ns-f.edges[k]+foldBefore.Nanoseconds())/foldStep.Nanoseconds()]
	*b = b.with(envelopeBin{1, watts, watts, watts, false})
}

// at is the middle of a bin, in seconds after the edge.
func (f *fold) at(bin int) float64 {
	return (float64(bin)+0.5)*foldStep.Seconds() - foldBefore.Seconds()
}

// level is the mean of a channel between two times after the edge, in seconds.
func (f *fold) level(channel string, from, until float64) (w float64, ok bool) {
	var sum envelopeBin
	for i, b := range f.channels[channel] {
		if t := f.at(i); t >= from && t < until {
			sum = sum.with(b)
		}
	}
	return sum.sum / float64(sum.n), sum.n > 0
}
