package report

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// Comparison is the energy of the same stretches of time by a power channel
// and by the energy counter.
type Comparison struct {
	Phase     string  `json:"phase,omitempty"` // empty: the whole run, second by second
	After     string  `json:"after,omitempty"` // the phase that ended right before, which an averaged channel remembers
	GPU       int     `json:"gpu"`             // of the run; a phase's stretches count all their GPUs
	Channel   string  `json:"channel"`
	Stretches int     `json:"stretches"`
	Seconds   float64 `json:"seconds"`
	Joules    float64 `json:"joules"`
	CounterJ  float64 `json:"counter_joules"`
}

// Ratio is the channel's energy over the counter's.
func (c Comparison) Ratio() float64 { return c.Joules / c.CounterJ }

// where names the stretches, each name set by that function.
func (c Comparison) where(set func(string) string) string {
	switch {
	case c.Phase == "":
		return "whole run, GPU " + strconv.Itoa(c.GPU)
	case c.After == "":
		return set(c.Phase)
	}
	return set(c.Phase) + " after " + set(c.After)
}

// counterLag is how late the energy counter is at an event's edges; on one H200
// it was 29 to 43 ms.
const counterLag = 50 * time.Millisecond

// off says that a channel is further from the counter than tolerated, and for
// events further than the counter's own lag explains.
func (r *Run) off(c Comparison) bool {
	allowed := r.Limits.CounterTolerance * c.CounterJ
	if c.Phase != "" {
		var most record.Opt[float64]
		for _, g := range r.Trace.GPUs {
			most = highest(most, g.PowerMaxW)
		}
		allowed += float64(c.Stretches) * counterLag.Seconds() * most.Or(0)
	}
	return math.Abs(c.Joules-c.CounterJ) > allowed
}

// over says that two comparisons are of the same stretches.
func (c Comparison) over(o Comparison) bool {
	return c.Phase == o.Phase && c.After == o.After && c.GPU == o.GPU
}

// Cost is the energy that one GPU took over the run.
type Cost struct {
	GPU     int     `json:"gpu"`
	Channel string  `json:"channel"` // that it was read from
	Seconds float64 `json:"seconds"` // that it is of
	Joules  float64 `json:"joules"`
}

const (
	// slice is the length of the stretches that a whole run is added up in, so
	// that nothing need be known of its end beforehand; a second, as that is
	// what the longest known sensor averages over. Channels are compared over
	// ten of them: the energy counter is read once a second.
	slice, decade = time.Second, 10 * time.Second
	// counterReads is how many readings make the counter's joules of a stretch
	// good enough to compare others with.
	counterReads = 5
	// memory is how long before an event another one must have ended to be
	// named with it.
	memory = time.Second
	// absurdW is more than any board takes: a reading beyond it is no power.
	absurdW = 1e6
)

// compared are the methods that are held against the counter, which is last.
var compared = [...]string{energy.Driver, energy.Instant, energy.PowerUse, energy.Average, energy.Counter}

// channels integrates every channel over the same stretches: the events that
// are long enough, and the whole run slice by slice.
type channels struct {
	attributors [len(compared)]*energy.Attributor
	todo        []stretch // of the events, by their start
	gpus        []int
	nextNS      int64 // where the next slice of the run starts
	decadeNS    int64 // where the next ten of them do
	begun       bool
	asked       int
	open        map[string]*stretch // by the name that the attributors know it under
	sums        []*Comparison
	index       map[Comparison]*Comparison // by what identifies it
	costs       [len(compared)][]Cost
	integrals   map[int]integral // of the events, by their number
	err         error
}

// integral is the energy of an event by each of the compared channels.
type integral [len(compared)]record.Opt[float64]

// of is the energy by one channel.
func (i integral) of(channel string) record.Opt[float64] {
	if k := slices.Index(compared[:], channel); k >= 0 {
		return i[k]
	}
	return record.Opt[float64]{}
}

// stretch is what is known so far of one stretch.
type stretch struct {
	event   record.Event
	number  int        // of the event among the run's, negative for a slice of the run
	of      Comparison // what it counts for; no phase: the whole run
	slice   bool       // it is added up, and not compared
	joules  integral
	pending int
}

func newChannels(events []record.Event, header *record.Header, limits Thresholds) *channels {
	c := &channels{open: map[string]*stretch{}, index: map[Comparison]*Comparison{}, integrals: map[int]integral{}, gpus: []int{0}}
	if header != nil && len(header.GPUs) > 0 {
		c.gpus = nil
		for _, g := range header.GPUs {
			c.gpus = append(c.gpus, g.Index)
		}
	}
	ends := make([]*record.Event, len(events))
	for i := range events {
		ends[i] = &events[i]
	}
	slices.SortStableFunc(ends, func(a, b *record.Event) int { return cmp.Compare(a.EndNS, b.EndNS) })
	for i := range events {
		e := &events[i]
		if time.Duration(e.EndNS-e.StartNS).Round(100*time.Millisecond) >= limits.CompareMin {
			c.todo = append(c.todo, stretch{
				number: i,
				event:  record.Event{StartNS: e.StartNS, EndNS: e.EndNS, GPUs: e.GPUs},
				of:     Comparison{Phase: cmp.Or(e.Phase, "unnamed"), After: before(ends, e)},
			})
		}
	}
	slices.SortStableFunc(c.todo, func(a, b stretch) int { return cmp.Compare(a.event.StartNS, b.event.StartNS) })
	for i, method := range compared {
		a, err := energy.New(energy.Options{Method: method}, func(e *record.Event) error {
			c.take(i, e)
			return nil
		})
		if err != nil {
			panic(err) // the methods are constants
		}
		c.attributors[i] = a
	}
	return c
}

// before is the phase that ended last before the event, "" if that is long ago.
func before(ends []*record.Event, e *record.Event) string {
	i, _ := slices.BinarySearchFunc(ends, e.StartNS, func(o *record.Event, ns int64) int {
		if o.EndNS <= ns {
			return -1
		}
		return 1
	})
	for i--; i >= 0 && e.StartNS-ends[i].EndNS <= memory.Nanoseconds(); i-- {
		if slices.ContainsFunc(e.GPUs, func(gpu int) bool { return runsOn(ends[i], gpu) }) {
			return ends[i].Phase
		}
	}
	return ""
}

// add takes a record of the trace, after asking for the stretches that begin
// before it.
func (c *channels) add(rec record.Record) {
	switch rec.(type) {
	case *record.Sample, *record.Power, *record.Counter:
	default:
		return
	}
	if c.err != nil {
		return
	}
	ns, _ := rec.When()
	c.ask(ns)
	for _, a := range c.attributors {
		c.note(a.Observe(rec))
	}
}

func (c *channels) ask(ns int64) {
	if !c.begun {
		// A second for every channel to have begun.
		c.begun, c.nextNS, c.decadeNS = true, ns+int64(time.Second), ns+int64(time.Second)
	}
	for len(c.todo) > 0 && c.todo[0].event.StartNS <= ns {
		c.watch(c.todo[0])
		c.todo = c.todo[1:]
	}
	c.nextNS = c.cut(c.nextNS, ns, slice, true)
	c.decadeNS = c.cut(c.decadeNS, ns, decade, false)
}

// cut watches the stretch of the run that begins at next when that is now, and
// returns where the one after it begins.
func (c *channels) cut(next, now int64, length time.Duration, slice bool) int64 {
	if next > now {
		return next
	}
	if now-next > int64(length) {
		next = now // a hole in the trace, or another trace after it
	}
	for _, gpu := range c.gpus {
		c.watch(stretch{
			event: record.Event{StartNS: next, EndNS: next + int64(length), GPUs: []int{gpu}},
			of:    Comparison{GPU: gpu},
			slice: slice,
		})
	}
	return next + int64(length)
}

func (c *channels) watch(s stretch) {
	s.event.ID = strconv.Itoa(c.asked)
	c.asked++
	s.pending = len(compared)
	c.open[s.event.ID] = &s
	for _, a := range c.attributors {
		c.note(a.Event(&s.event))
	}
}

func (c *channels) note(err error) { c.err = cmp.Or(c.err, err) }

// take has the energy of a stretch by one channel. Stretches with gaps in a
// channel would compare its holes, and are left out.
func (c *channels) take(channel int, e *record.Event) {
	s := c.open[e.ID]
	stands := e.Energy.Quality == energy.Good
	if compared[channel] == energy.Counter {
		// Between two of its readings a counter misses nothing, however far
		// apart they are: only where the edges lie between them is guessed.
		stands = e.Energy.MaxGapS.Or(math.Inf(1)) <= e.Duration()/counterReads
	}
	if j := e.Energy.Joules; stands && math.Abs(j.V) < absurdW*e.Duration() {
		s.joules[channel] = j
	}
	if s.pending--; s.pending > 0 {
		return
	}
	delete(c.open, e.ID)
	if s.number >= 0 {
		c.integrals[s.number] = s.joules
	}
	counter := s.joules[len(compared)-1].Or(0)
	for i, channel := range compared {
		j, ok := s.joules[i].Get()
		if !ok {
			continue
		}
		if s.slice {
			c.spend(i, Cost{s.of.GPU, channel, e.Duration(), j})
			continue
		}
		if channel != energy.Counter && counter > 0 {
			sum := c.sum(s.of, channel)
			sum.Stretches++
			sum.Seconds += e.Duration()
			sum.Joules += j
			sum.CounterJ += counter
		}
	}
}

func (c *channels) sum(of Comparison, channel string) *Comparison {
	of.Channel = channel
	if c.index[of] == nil {
		sum := of
		c.index[of] = &sum
		c.sums = append(c.sums, &sum)
	}
	return c.index[of]
}

func (c *channels) spend(channel int, more Cost) {
	for i := range c.costs[channel] {
		if s := &c.costs[channel][i]; s.GPU == more.GPU {
			s.Seconds += more.Seconds
			s.Joules += more.Joules
			return
		}
	}
	c.costs[channel] = append(c.costs[channel], more)
}

// finish is what came of it: the run first, then the phases by their first
// event; and each GPU's cost by the channel that saw most of it, the first of
// equals.
func (c *channels) finish() ([]Comparison, []Cost, error) {
	for _, a := range c.attributors {
		c.note(a.Finish())
	}
	var sums []Comparison
	for _, s := range c.sums {
		sums = append(sums, *s)
	}
	// The sums of one kind of stretch were begun together.
	slices.SortStableFunc(sums, func(a, b Comparison) int {
		return cmp.Or(cmp.Compare(min(1, len(a.Phase)), min(1, len(b.Phase))), cmp.Compare(a.GPU, b.GPU))
	})
	var costs []Cost
	for _, all := range c.costs {
		for _, more := range all {
			i := slices.IndexFunc(costs, func(o Cost) bool { return o.GPU == more.GPU })
			if i < 0 {
				costs = append(costs, more)
			} else if more.Seconds > costs[i].Seconds {
				costs[i] = more
			}
		}
	}
	return sums, costs, c.err
}
