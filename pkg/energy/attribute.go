package energy

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// The methods of attribution.
const (
	Auto     = "auto"    // the best channel that has readings for the event
	TR122    = "tr122"   // TR122's own arithmetic over power_w
	Driver   = "driver"  // the driver's sample buffer
	Counter  = "counter" // the energy counter
	Instant  = "instant" // field 186
	Average  = "average" // field 185, or power_w where the trace has no such field
	PowerUse = "power"   // power_w, whatever it is on this board
	maxGPUs  = 1 << 12   // a trace that names more GPUs than this is not believed
)

// Methods are the names that [New] takes.
func Methods() []string {
	return []string{Auto, Counter, Driver, Instant, Average, PowerUse, TR122}
}

// preference is the order in which Auto takes channels: the buffer sees all of
// the time in short windows, the counter all of it in 100 ms ticks, the
// instant reading a part of it, the average all of it smeared over a second.
var preference = []string{Driver, Counter, Instant, Average}

// patience is how long after an event's end a channel that is behind is waited
// for: the driver's buffer comes seconds late, and a channel that the trace
// lacks, or lost, must not hold events back for ever.
const patience = int64(10e9)

// Options say how to attribute.
type Options struct {
	Method string          // one of Methods; empty is Auto
	Idle   map[int]float64 // idle power by GPU, W; a GPU without one has no operational energy
	Rules  Rules           // zero is DefaultRules

	// For Auto.
	Sensors   *sensor.Sensors // outcome of the instrument response test; nil: responses are those of boards of the kind, with wider intervals
	IdleSE    map[int]float64 // standard error of Idle, W
	Split     string          // one of Splits; empty is SplitTokens
	BoardGain float64         // standard deviation of the board's absolute gain; 0 is the constant BoardGain

	Target float64 // half-width of the 95 % interval that a mean is to have, a share of it; 0: none asked for
}

// An Attributor gives events their energy in one pass over a trace. Feed it
// every event before the first record that is later than the event's start,
// events in the order of their starts; it hands each on as soon as the trace
// has passed its end, in the order of their ends. It keeps the open events and
// a few readings, never the trace.
type Attributor struct {
	opts     Options
	channels []string // of each GPU, best first
	emit     func(*record.Event) error
	gpus     map[int]*board
	only     *board         // the trace's only GPU so far
	header   *record.Header // the trace's
	now      int64          // latest time seen in the trace
	started  bool
	open     pendingHeap
	going    []*pending // that a sample may lie in: none is over for longer than patience
	firstEnd int64      // of them
	free     []*pending
	running  []*pending    // requests that go on, where their power is not split
	crowded  int64         // events with joules that are other requests', too
	windows  []*pending    // events without request_id that go on
	crossing int64         // of those, that begin inside another and end after it
	calm     stretch       // while a batch is observed
	seen     []readings    // likewise
	energy   record.Energy // of the event that is handed on
	groups   tally
	requests requests
}

// board is one GPU.
type board struct {
	index                     int
	channels                  []channel
	polled, buffered, counted []channel // of them, by the records that they take
	ns                        int64     // time of its latest sample
	sampled                   bool
	power                     *reconstruction // by Auto
	workers                   workers
}

// pending is an event on its way.
type pending struct {
	event  record.Event
	boards []*board
	spans  []span   // one for each board and channel, channels of a board together
	shares []*share // by Auto, one for each board
	parts  []*part  // where it names a process, one for each board
	progress
}

// progress is what is known of an event on its way.
type progress struct {
	left     int // spans not yet known
	slowed   [len(record.Throttles)]int64
	samples  int64 // that told of throttling
	reads    int64 // of samples inside the event
	lost     int64 // of them, not read
	why      string
	slowest  int64 // SM clock, MHz
	fastest  int64
	untimely bool

	undone int     // shares
	weight float64 // claim beside other requests
	beside int     // events of other requests that have a part of its time, where power is not split
	pid    int64   // process that it names, 0 for none
}

// New makes an attributor that hands finished events to emit. The event given
// to emit and its energy are valid during the call: clone what you keep.
func New(opts Options, emit func(*record.Event) error) (*Attributor, error) {
	a := &Attributor{opts: opts, emit: emit, gpus: map[int]*board{}}
	if a.opts.Rules == (Rules{}) {
		a.opts.Rules = DefaultRules()
	}
	if a.opts.BoardGain == 0 {
		a.opts.BoardGain = BoardGain
	}
	switch opts.Split {
	case "":
		a.opts.Split = SplitTokens
	case SplitTokens, SplitEqual, SplitTime:
	default:
		return nil, fmt.Errorf("no split %q (%s)", opts.Split, strings.Join(Splits(), ", "))
	}
	switch opts.Method {
	case Auto, "":
		a.opts.Method = Auto
		a.channels = preference
	case TR122, Driver, Counter, Instant, Average, PowerUse:
		a.channels = []string{opts.Method}
	default:
		return nil, fmt.Errorf("no method %q (%s)", opts.Method, strings.Join(Methods(), ", "))
	}
	return a, nil
}

func (a *Attributor) board(gpu int) *board {
	if a.only != nil && a.only.index == gpu && len(a.gpus) == 1 {
		return a.only
	}
	b := a.gpus[gpu]
	if b != nil {
		return b
	}
	if len(a.gpus) >= maxGPUs {
		return nil
	}
	idle, ok := a.opts.Idle[gpu]
	b = &board{index: gpu}
	for _, name := range a.channels {
		c := *newCurve(a.opts.Rules, idle, ok)
		switch name {
		case Driver:
			b.channels = append(b.channels, &buffered{c})
		case Counter:
			b.channels = append(b.channels, &counted{curve: c})
		case Instant:
			b.channels = append(b.channels, &polled{c, instant})
		case Average:
			b.channels = append(b.channels, &polled{c, averaged()})
		default:
			b.channels = append(b.channels, &polled{c, usage})
		}
	}
	for _, c := range b.channels {
		switch c.(type) {
		case *buffered:
			b.buffered = append(b.buffered, c)
		case *counted:
			b.counted = append(b.counted, c)
		default:
			b.polled = append(b.polled, c)
		}
	}
	if a.opts.Method == Auto {
		b.power = newReconstruction(gpu, a.opts.Sensors)
	}
	a.gpus[gpu] = b
	a.only = b
	return b
}

// Event takes an event into account. The attributor keeps a copy.
func (a *Attributor) Event(e *record.Event) error { return a.take(e.Clone()) }

// take is Event for a caller that has no further use of what e points to.
func (a *Attributor) take(e *record.Event) error {
	var p *pending
	if n := len(a.free); n > 0 {
		p = a.free[n-1]
		a.free = a.free[:n-1]
	} else {
		p = &pending{}
	}
	p.event, p.progress = *e, progress{}
	p.event.Energy = nil
	p.boards, p.spans, p.shares, p.parts = p.boards[:0], p.spans[:0], p.shares[:0], p.parts[:0]
	p.weight = a.weight(p)
	switch {
	case len(e.GPUs) > 0:
		for _, g := range e.GPUs {
			// One that is named twice has its energy once.
			if b := a.board(g); b == nil || !slices.Contains(p.boards, b) {
				p.boards = append(p.boards, b)
			}
		}
	case len(a.gpus) == 1:
		p.boards = append(p.boards, a.only)
	default:
		p.boards = append(p.boards, a.board(0))
	}
	if slices.Contains(p.boards, nil) {
		return fmt.Errorf("event %q: more than %d GPUs", e.ID, maxGPUs)
	}
	p.untimely = a.started && e.StartNS <= a.now
	a.attend(p)
	a.meet(p)
	a.cross(p)
	p.left = len(p.boards) * len(a.channels)
	p.spans = slices.Grow(p.spans, p.left)[:p.left]
	for i, b := range p.boards {
		for j, c := range b.channels {
			s := &p.spans[i*len(a.channels)+j]
			*s = span{startNS: e.StartNS, endNS: e.EndNS, event: p}
			if p.untimely {
				p.left = 0
			} else {
				c.line().watch(s)
			}
		}
	}
	if a.opts.Method == Auto && !p.untimely {
		for _, b := range p.boards {
			s := p.share()
			*s = share{event: p, own: 1}
			b.power.watch(s)
			if !s.done {
				p.undone++
			}
		}
	}
	heap.Push(&a.open, p)
	if len(a.going) == 0 {
		a.firstEnd = never
	}
	a.going = append(a.going, p)
	a.firstEnd = min(a.firstEnd, p.event.EndNS)
	return nil
}

// share is one more of the event's, of those that it had when it was another
// event, or a new one.
func (p *pending) share() *share {
	n := len(p.shares)
	if n == cap(p.shares) || p.shares[:n+1][n] == nil {
		p.shares = append(p.shares, &share{})
	}
	p.shares = p.shares[:n+1]
	return p.shares[n]
}

// Observe takes a record of the trace. Records that carry no power are passed over.
func (a *Attributor) Observe(r record.Record) error {
	var b *board
	var channels []channel
	switch r := r.(type) {
	case *record.Sample:
		if b = a.board(r.GPU); b != nil {
			a.sample(b, r)
			channels = b.polled
		}
	case *record.Power:
		if b = a.board(r.GPU); b != nil {
			channels = b.buffered
		}
	case *record.Counter:
		if b = a.board(r.GPU); b != nil {
			channels = b.counted
		}
	case *record.Process:
		return a.processes(r)
	default:
		return nil
	}
	if b == nil {
		return fmt.Errorf("more than %d GPUs", maxGPUs)
	}
	for _, c := range channels {
		c.observe(r)
	}
	if b.power != nil {
		b.power.observe(r)
		b.power.advance(false)
		if b.power.heldEdges >= maxHeld {
			b.power.release(finished, false)
		}
	}
	if ns, _ := r.When(); ns > a.now || !a.started {
		a.now, a.started = ns, true
	}
	return a.hand(false)
}

// sample notes what a sample says beside its power.
func (a *Attributor) sample(b *board, s *record.Sample) {
	b.ns, b.sampled = s.TimeNS, true
	if len(a.going) > 0 && s.TimeNS > a.firstEnd+patience {
		a.firstEnd = never
		a.going = slices.DeleteFunc(a.going, func(p *pending) bool {
			over := s.TimeNS > p.event.EndNS+patience
			if !over {
				a.firstEnd = min(a.firstEnd, p.event.EndNS)
			}
			return over
		})
	}
	for _, p := range a.going {
		if s.TimeNS < p.event.StartNS || s.TimeNS > p.event.EndNS || !slices.Contains(p.boards, b) {
			continue
		}
		p.reads++
		if !s.ReadOK {
			p.lost, p.why = p.lost+1, s.Error
		}
		if s.SMClockMHz.OK {
			p.clocked(s.SMClockMHz.V)
		}
		if s.ThrottleReasons.OK {
			p.throttled(s.ThrottleReasons.V)
		}
	}
}

// clocked takes in a sample's SM clock, MHz.
func (p *pending) clocked(mhz int64) {
	if mhz <= 0 {
		return
	}
	if p.slowest == 0 || mhz < p.slowest {
		p.slowest = mhz
	}
	p.fastest = max(p.fastest, mhz)
}

// throttled counts a sample with those reasons.
func (p *pending) throttled(bits uint64) {
	p.samples++
	if bits != 0 {
		for i, t := range record.Throttles {
			if bits&t.Bit != 0 {
				p.slowed[i]++
			}
		}
	}
}

// finished notes that a GPU's share of an event is known.
func finished(s *share) { s.event.undone-- }

// hand gives on the events that are known, in the order of their ends.
func (a *Attributor) hand(all bool) error {
	for len(a.open) > 0 {
		p := a.open[0]
		if !all && (p.undone > 0 || a.now-p.event.EndNS <= patience && !p.known() || a.awaits(p)) {
			return nil
		}
		heap.Pop(&a.open)
		for _, list := range []*[]*pending{&a.going, &a.running, &a.windows} {
			if i := slices.Index(*list, p); i >= 0 {
				*list = slices.Delete(*list, i, i+1)
			}
		}
		systematic := 0.0
		if a.opts.Method == Auto {
			p.event.Energy, systematic = a.conclude(p)
		} else {
			p.event.Energy = a.judge(p)
		}
		systematic = a.allot(p, systematic)
		a.account(&p.event, systematic)
		if err := a.emit(&p.event); err != nil {
			return err
		}
		if p.left > 0 { // curves still hold its spans
			for i := range p.spans {
				p.spans[i].event = nil
			}
			continue
		}
		a.free = append(a.free, p)
	}
	return nil
}

// known says that nothing more can be learnt of the event.
func (p *pending) known() bool {
	if p.left > 0 {
		return false
	}
	for _, b := range p.boards {
		if b.sampled && b.ns <= p.event.EndNS {
			return false
		}
	}
	return true
}

// Finish ends the trace and hands on the events that are left.
func (a *Attributor) Finish() error {
	for _, b := range a.inOrder() {
		for _, c := range b.channels {
			c.finish()
		}
		if b.power != nil {
			b.power.advance(true)
			b.power.release(finished, true)
		}
	}
	if err := a.hand(true); err != nil {
		return err
	}
	a.pool()
	return nil
}

// inOrder is the GPUs by their index.
func (a *Attributor) inOrder() []*board {
	return slices.SortedFunc(maps.Values(a.gpus), func(x, y *board) int { return cmp.Compare(x.index, y.index) })
}

// Header is the last header that [Attributor.Join] came to in the trace, nil
// before it has.
func (a *Attributor) Header() *record.Header { return a.header }

// Empty says that the trace had no reading at all.
func (a *Attributor) Empty() bool { return !a.started }

// Disordered is how many readings were left out because they lay before one
// that had been read already.
func (a *Attributor) Disordered() int64 {
	var n int64
	for _, b := range a.gpus {
		for _, c := range b.channels {
			n += c.line().late
		}
	}
	return n
}

// judge is the event's energy by the method asked for.
func (a *Attributor) judge(p *pending) *record.Energy {
	rules := a.opts.Rules
	d := p.event.Duration()
	e := a.spaced(p, 0)
	if p.untimely {
		return e
	}
	fraction, widest := e.GapFraction.Or(1), e.MaxGapS.Or(d)
	e.Tier = rules.Tier(d, e.PowerSamples, fraction)
	var joules, operational, clamped float64
	known, idle := true, true
	for i, b := range p.boards {
		s := &p.spans[i*len(a.channels)]
		from, to := &s.start, &s.end
		if a.opts.Method == TR122 {
			from, to = &s.first, &s.last
		}
		why := unknown(s, from, to, b.channels[0].line())
		if why != "" {
			known = false
			if len(p.boards) > 1 {
				why = fmt.Sprintf("GPU %d: %s", b.index, why)
			}
			e.Reasons = append(e.Reasons, why)
			continue
		}
		j := to.joules.minus(from.joules)
		joules += j
		if w, ok := a.opts.Idle[b.index]; ok {
			operational += j - w*d
			clamped += to.clamped.minus(from.clamped)
		} else {
			idle = false
		}
	}
	if e.Quality == NoData || !known {
		e.Quality, e.Tier = NoData, Refused
	} else {
		e.Joules = some(joules)
		if idle {
			e.OperationalJ = some(operational)
			e.OperationalClamped = some(clamped)
		}
		perToken(e, &p.event)
	}
	a.explain(e, p, d, fraction, widest)
	if e.Joules.OK && p.beside > 0 {
		a.crowded++
		if a.opts.Method != TR122 { // whose records are what TR122 has in them
			e.Tier = worse(e.Tier, Estimate)
			e.Reasons = append(e.Reasons, fmt.Sprintf("shares its time with %s: its joules are of all of them; --method auto divides them", others(p.beside)))
		}
	}
	return e
}

// Undivided is how many events have joules that are those of other requests too, which
// went on at the same time: of the methods only Auto divides them.
func (a *Attributor) Undivided() int64 { return a.crowded }

// Crossing is how many events without a request_id begin inside another one and end after
// it, as requests do and frames around others do not: each has all joules of the time that
// they have together, by every method.
func (a *Attributor) Crossing() int64 { return a.crossing }

func others(n int) string {
	if n == 1 {
		return "an event of another request"
	}
	return fmt.Sprintf("%d events of other requests", n)
}

// spaced is what the spacing of a channel's readings, by its place in the
// channels, says of an event.
func (a *Attributor) spaced(p *pending, channel int) *record.Energy {
	e := &a.energy
	*e = record.Energy{Method: a.channels[channel]}
	if a.opts.Method == Auto {
		e.Method = Auto + ":" + e.Method
	}
	d := p.event.Duration()
	// Between two of its readings the energy counter misses nothing, however far
	// apart they are: what is not known of an event is how much of the energy
	// between readings on either side of its edges is its own.
	counted := a.channels[channel] == Counter
	var gap, widest float64
	e.PowerSamples = math.MaxInt64
	for i := range p.boards {
		s := &p.spans[i*len(a.channels)+channel]
		e.PowerSamples = min(e.PowerSamples, s.readings())
		if counted {
			gap = max(gap, s.edgeSeconds(seconds(a.opts.Rules.GapS)))
			widest = max(widest, float64(s.widestEdge())/1e9)
			continue
		}
		gap = max(gap, s.gapSeconds(seconds(a.opts.Rules.GapS)))
		widest = max(widest, float64(s.maxGapNS)/1e9)
	}
	fraction := 1.0
	if d > 0 {
		fraction = gap / d
		e.GapFraction = some(fraction)
	}
	if p.untimely {
		e.PowerSamples, e.Quality, e.Tier = 0, NoData, Refused
		e.Reasons = []string{"the event starts before an earlier one in the file by more than is read ahead: sort the events by t_start_ns"}
		return e
	}
	e.MaxGapS = some(widest)
	e.Quality = a.quality(e, d)
	return e
}

// quality is TR122's label for an event. The longest spacing is no measure of
// the energy counter, whose share at the edges is.
func (a *Attributor) quality(e *record.Energy, d float64) string {
	widest := e.MaxGapS.Or(d)
	if strings.TrimPrefix(e.Method, Auto+":") == Counter {
		widest = 0
	}
	return a.opts.Rules.Quality(e.PowerSamples, e.GapFraction.Or(1), widest)
}

// perToken divides an event's joules by what it generated or read.
func perToken(e *record.Energy, x *record.Event) {
	n := float64(tokens(x))
	if n == 0 {
		return
	}
	if j, ok := e.Joules.Get(); ok {
		e.JoulesPerToken = some(j / n)
	}
	if j, ok := e.OperationalJ.Get(); ok {
		e.OperationalPerTok = some(j / n)
	}
}

// choose is the best channel that has enough readings on every GPU of the
// event, or the best of all when none has.
func (a *Attributor) choose(p *pending) int {
	n := len(a.channels)
	for j := range a.channels {
		ok := true
		for i, b := range p.boards {
			s := &p.spans[i*n+j]
			ok = ok && s.readings() >= 2 && unknown(s, &s.start, &s.end, b.channels[j].line()) == ""
		}
		if ok {
			return j
		}
	}
	for j := range a.channels {
		if p.boards[0].channels[j].line().begun {
			return j
		}
	}
	return 0
}

// unknown says why the energy between two marks of a span is not known, or "".
func unknown(s *span, from, to *mark, c *curve) string {
	switch {
	case !c.begun:
		return "the trace has no reading of this channel"
	case s.end.fate == pendingMark:
		return fmt.Sprintf("no reading of this channel came within %s after the event", length(patience))
	case from.fate == tooEarly || to.fate == tooEarly:
		return "the event begins before the trace does"
	case from.fate == tooLate || to.fate == tooLate:
		return "the event ends after the trace does"
	case from.breaks != to.breaks || from.fate == broken || to.fate == broken:
		return "the energy counter was reset during the event"
	case s.readings() < 2:
		return fmt.Sprintf("%d readings inside the event's %s, two are needed", s.readings(), length(s.endNS-s.startNS))
	}
	return ""
}

func length(ns int64) string {
	if ns < 1e9 {
		return fmt.Sprintf("%.4g ms", float64(ns)/1e6)
	}
	return fmt.Sprintf("%.4g s", float64(ns)/1e9)
}

// tokens is what the event's energy is divided by: what it generated, or what
// it read when it generated nothing.
func tokens(e *record.Event) int64 {
	if n := e.OutputTokens.Or(0); n > 0 {
		return n
	}
	return e.InputTokens.Or(0)
}

// explain adds what a user should know or do about the verdict.
func (a *Attributor) explain(e *record.Energy, p *pending, d, fraction, widest float64) {
	rules := a.opts.Rules
	say := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	if e.Joules.OK {
		if e.Quality == Gappy {
			switch {
			case fraction > rules.GappyFraction || widest > rules.GappyMaxGapS:
				say("%.0f %% of the event lies in gaps, the longest %.3g s", 100*fraction, widest)
			default:
				say("only 2 readings inside the event")
			}
		}
		if strings.HasSuffix(e.Method, Average) && d < rules.AverageS {
			e.Tier = worse(e.Tier, Estimate)
			say("the channel is a mean over about 1 s: half a second of power is moved over each edge of the event; use driver, counter or instant for events below %g s", rules.AverageS)
		}
	}
	if a.opts.Method == Auto && p.lost > 0 {
		say("%d of %d reads failed (%s)", p.lost, p.reads, p.why)
	}
	if a.opts.Method == Auto && float64(p.slowest) < 0.9*float64(p.fastest) {
		say("the SM clock was between %d and %d MHz", p.slowest, p.fastest)
	}
	if p.samples > 0 {
		e.Throttled = record.Some(false)
		for i, n := range p.slowed {
			if n > 0 {
				e.Throttled = record.Some(true)
				say("%s in %d of %d samples", record.Throttles[i].Name, n, p.samples)
			}
		}
	}
}

var tiers = []string{Refused, Estimate, Analysis, Billable}

// worse is the lower of two tiers.
func worse(a, b string) string {
	return tiers[min(slices.Index(tiers, a), slices.Index(tiers, b))]
}

// pendingHeap orders open events by their ends, then starts, then names.
type pendingHeap []*pending

func (h pendingHeap) Len() int { return len(h) }
func (h pendingHeap) Less(i, j int) bool {
	a, b := &h[i].event, &h[j].event
	if a.EndNS != b.EndNS {
		return a.EndNS < b.EndNS
	}
	return cmp.Or(cmp.Compare(a.StartNS, b.StartNS), strings.Compare(a.ID, b.ID)) < 0
}
func (h pendingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pendingHeap) Push(x any)   { *h = append(*h, x.(*pending)) }
func (h *pendingHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
