package energy

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stream"
)

// A reconstruction is the power of one GPU as its channels together tell it,
// near the edges of events in patches and between those by the readings as
// they are. It keeps what is needed for the next patch and a batch of patches;
// their noise, and what events of one kind have in common, are learnt from the
// batch.
type reconstruction struct {
	gpu    int
	tracks []*track
	named  map[string]*track
	choose choice
	using  []*track // room for useful
	least  int64    // ns after an edge before which its patch is never known well enough

	edges   edgeHeap
	cluster []edge // of the next patch
	await   await
	recent  []int64 // edges before it, not far
	firstNS int64
	nowNS   int64
	begun   bool
	records int

	busyUntil int64 // latest end of an event

	until   int64 // end of the last patch
	account [channels]meter
	built   bool

	held      []*patch
	spare     []*patch // for use again
	heldEdges int
	solution  *solution

	common   common
	mismatch mismatch
	apart    apart
	disagree bool // the witnesses, so far
	restless bool // power moves where no event is going on
}

// edge is where an event begins or ends.
type edge struct {
	ns    int64
	share *share
	start bool
}

// share is what one GPU gives one event.
type share struct {
	event    *pending
	from, to [channels]meter // the tracks' own accounts at its ends
	joules   float64
	variance float64
	drift    [maxParams]float64
	own      float64 // share of the number that its own readings told, the rest its kind; a window around events has all its own
	alone    float64 // J², its variance by its own readings, where its kind told a part
	seen     float64 // independent readings' worth
	readings int64
	dark     string // why its energy cannot be known
	done     bool
	blind    [channels]float64
	with     int            // most requests that it shared power with
	others   float64        // s: of its time, what other requests are charged with
	frame    bool           // around shorter events
	locked   [channels]bool // its kind begins in step with the channel's updates
}

const (
	settled  = int64(500e6) // ns after an event by which a board rests
	maxEdges = 24           // of a patch
	maxHeld  = 1024         // edges, of a batch
)

func newReconstruction(gpu int, sensors *sensor.Sensors) *reconstruction {
	r := &reconstruction{gpu: gpu, named: map[string]*track{}}
	for _, name := range trackNames {
		var c *sensor.Channel
		if sensors != nil {
			c = sensors.Channel(gpu, name)
			if c == nil && name == Average {
				c = sensors.Channel(gpu, record.ChannelPower)
			}
		}
		t := newTrack(name, respond(name, c))
		r.tracks = append(r.tracks, t)
		r.named[name] = t
	}
	r.choose = averaged()
	r.least = leastReach(r.tracks)
	r.await.ns = math.MinInt64
	r.solution = &solution{group: groups{map[kind]*pool{}}}
	for i := range r.solution.still {
		r.solution.tracks = append(r.solution.tracks, &r.solution.still[i])
	}
	return r
}

// observe takes a record of this GPU.
func (r *reconstruction) observe(x record.Record) {
	ns, _ := x.When()
	r.pass(ns)
	switch x := x.(type) {
	case *record.Power:
		r.tracks[0].stamped(x.TimeNS, x.PowerW)
	case *record.Counter:
		if mJ, ok := x.EnergyMilliJ.Get(); ok {
			r.tracks[1].count(x.BeforeNS, x.TimeNS, mJ)
		}
	case *record.Sample:
		if !x.ReadOK {
			return
		}
		if w, ok := x.PowerInstantW.Get(); ok {
			r.tracks[2].at(x.TimeNS, w)
		}
		if w, ok := r.choose.of(x).Get(); ok {
			r.tracks[3].at(x.TimeNS, w)
		}
	}
}

// quiet is the time before which a record of this GPU changes nothing but the
// tracks.
func (r *reconstruction) quiet() int64 {
	if r.heldEdges >= maxHeld {
		return math.MinInt64
	}
	until := never
	if len(r.edges) > 0 {
		until = r.edges[0].ns
	}
	if n := len(r.cluster); n > 0 {
		if last := r.cluster[n-1].ns; r.early(max(r.nowNS, last)) {
			until = min(until, last+r.least)
		} else {
			until = min(until, r.awaits())
		}
	}
	return until
}

// await is what the next patch was last found to wait for: the trace's, or a
// track's, passing of a time.
type await struct {
	ns    int64
	track *track // nil: any record
}

// awaits is the time before which no sample or power record brings on what is waited for;
// math.MinInt64 where it is there, or nothing is waited for.
func (r *reconstruction) awaits() int64 {
	switch w := &r.await; {
	case r.nowNS <= w.ns:
		return w.ns + 1
	case w.track == nil || w.track.lastNS >= w.ns:
		return math.MinInt64
	case w.track.counts:
		return w.track.lastNS + patience
	default:
		return min(w.ns, w.track.lastNS+patience)
	}
}

// pass notes that a record of that time has come.
func (r *reconstruction) pass(ns int64) {
	r.note(ns)
	edge := len(r.edges) > 0 && r.edges[0].ns <= ns
	for _, t := range r.tracks {
		t.note(ns, r.busyUntil)
		if edge {
			t.work.interrupt()
		}
	}
}

// note takes notice of the time of a record.
func (r *reconstruction) note(ns int64) {
	if !r.begun {
		r.begun, r.firstNS, r.nowNS = true, ns, ns
	}
	r.nowNS = max(r.nowNS, ns)
	if r.records++; r.records%1024 == 0 {
		r.trim()
	}
}

// observePowers takes readings of the driver's buffer in a row, before quiet.
func (r *reconstruction) observePowers(times []int64, watts []float64) {
	t := r.tracks[0]
	for i, ns := range times {
		r.note(ns)
		t.note(ns, r.busyUntil)
		t.stamped(ns, watts[i])
	}
}

// observeSamples does so for samples.
func (r *reconstruction) observeSamples(s *stream.Samples, has stream.Has, from, until int) {
	averages := r.choose.columnOf(s)
	for i := from; i < until; i++ {
		ns := s.TimeNS[i]
		r.note(ns)
		if has&stream.HasInstant != 0 {
			r.tracks[2].note(ns, r.busyUntil)
			r.tracks[2].at(ns, s.PowerInstantW[i])
		}
		if has&r.choose.field != 0 {
			r.tracks[3].note(ns, r.busyUntil)
			r.tracks[3].at(ns, averages[i])
		}
	}
}

// trim forgets what no patch will ask for.
func (r *reconstruction) trim() {
	r.compare()
	keep := r.nowNS
	if len(r.cluster) > 0 {
		keep = r.cluster[0].ns
	} else if len(r.edges) > 0 {
		keep = min(keep, r.edges[0].ns)
	}
	for _, t := range r.tracks {
		t.trim(keep - patience)
	}
}

// watch takes an event into account.
func (r *reconstruction) watch(s *share) {
	e := &s.event.event
	if e.EndNS <= e.StartNS {
		s.dark, s.done = "it has no length", true
		return
	}
	r.busyUntil = max(r.busyUntil, e.EndNS)
	r.edges.push(edge{e.StartNS, s, true})
	r.edges.push(edge{e.EndNS, s, false})
}

// flank is how far from an edge readings matter, for tracks in use: for how
// long power matters to a reading, that and some readings more, and how often
// they come, ns.
func flank(tracks []*track) (memory, flank, step float64) {
	step = math.Inf(1)
	for _, t := range tracks {
		window := t.response.window
		if t.counts {
			window = t.spacing / 1e9
		}
		memory = max(memory, t.response.memory(window))
		step = min(step, max(t.response.update, min(t.spacing/1e9, 4*t.response.update)))
	}
	return memory * 1e9, (memory + step) * 1e9, step * 1e9
}

// leastReach is twice what flank is at least, whichever tracks are in use and
// however often they are updated.
func leastReach(tracks []*track) int64 {
	memory, step := math.Inf(1), math.Inf(1)
	for _, t := range tracks {
		window := t.response.window
		if t.counts {
			window = 0
		}
		memory, step = min(memory, t.response.memory(window)), min(step, t.response.update)
	}
	return 2 * int64((memory+step)*1e9)
}

// early says that the next patch cannot be built before a time that is later
// than ns.
func (r *reconstruction) early(ns int64) bool {
	last := r.cluster[len(r.cluster)-1].ns
	if ns > last+r.least || len(r.edges) > 0 && r.edges[0].ns < ns {
		return false
	}
	// Some track is of use, and will be.
	for _, t := range r.tracks {
		if n := len(t.updates); n >= 2 && t.updates[0].ns <= last && t.updates[n-1].ns >= last {
			return true
		}
	}
	return false
}

// useful are the tracks that say something of power about ns: those that see
// it, but beside one that sees all of the time none whose readings are means
// over ten times as long, or of a part of the time only and rarer, or polled
// too seldom to tell when they were made. They are valid until the next call.
func (r *reconstruction) useful(ns int64) (use []*track) {
	finest, update := math.Inf(1), math.Inf(1)
	use = r.using[:0]
	for _, t := range r.tracks {
		if !t.about(ns) {
			continue
		}
		use = append(use, t)
		if !t.response.partial() {
			finest, update = min(finest, t.reach()), min(update, t.response.update)
		}
	}
	r.using = use
	use = use[:0]
	for _, t := range r.using {
		vague := !math.IsInf(update, 1) && t.polled > t.response.update/3
		if t.reach() <= 8*finest && (!t.response.partial() || !vague && t.response.update <= 1.5*update) {
			use = append(use, t)
		}
	}
	return use
}

// reach is how long a mean its readings are, s.
func (t *track) reach() float64 {
	if t.counts {
		return t.spacing/1e9 + 2*t.response.tau
	}
	return t.response.window + 2*t.response.tau
}

// about says whether the track has updates before and after ns, or nearly.
func (t *track) about(ns int64) bool {
	n := len(t.updates)
	reach := int64(4 * t.spacing)
	return n >= 2 && t.updates[0].ns <= ns+reach && t.updates[n-1].ns >= ns-reach
}

// advance builds the patches that are known well enough; all of them at the end.
func (r *reconstruction) advance(all bool) {
	if !all && len(r.cluster) > 0 {
		if r.early(r.nowNS) {
			return
		}
		if (len(r.edges) == 0 || r.edges[0].ns >= r.nowNS) && r.nowNS < r.awaits() {
			return
		}
	}
	r.await = await{ns: math.MinInt64}
	for {
		var last int64
		if n := len(r.cluster); n > 0 {
			last = r.cluster[n-1].ns
		}
		reach := int64(1.5e9) // before anything is known
		if len(r.cluster) > 0 {
			_, f, _ := flank(r.useful(last))
			if f > 0 {
				reach = int64(f)
			}
		}
		if len(r.edges) > 0 && (all || r.edges[0].ns < r.nowNS) {
			e := r.edges[0]
			if len(r.cluster) == 0 || e.ns == last || e.ns-last <= 2*reach && r.distinct() < maxEdges {
				r.cluster = append(r.cluster, r.edges.pop())
				continue
			}
		}
		if len(r.cluster) == 0 {
			return
		}
		if !all {
			if wait := last + 2*reach; r.nowNS <= wait {
				r.await.ns = wait
				return
			} else if t := r.late(wait); t != nil {
				r.await = await{wait, t}
				return
			}
		}
		r.build()
	}
}

// distinct is how many different times the cluster's edges have.
func (r *reconstruction) distinct() int {
	n := 0
	for i, e := range r.cluster {
		if i == 0 || e.ns != r.cluster[i-1].ns {
			n++
		}
	}
	return n
}

// late is a channel that may still come and has not passed ns; nil where there
// is none.
func (r *reconstruction) late(ns int64) *track {
	if r.nowNS-ns > patience {
		return nil
	}
	for _, t := range r.tracks {
		if len(t.updates) == 0 && !t.read && r.nowNS-r.firstNS > patience {
			continue
		}
		if t.lastNS < ns && r.nowNS-t.lastNS < patience {
			return t
		}
	}
	return nil
}

// beside is from when until when there are two readings of one of the tracks that
// are wholly before the first of some edges, and two that are wholly after the last:
// next to a gap that is further than otherwise. ok is false where there are none.
func beside(use []*track, first, last int64) (from, until int64, ok bool) {
	from, until = math.MinInt64, math.MaxInt64
	for _, t := range use {
		lag := int64(t.response.lag * 1e9)
		i := sort.Search(len(t.updates), func(i int) bool { return t.updates[i].ns-lag > first })
		j := sort.Search(len(t.updates), func(i int) bool {
			u := &t.updates[i]
			return u.ns-lag-int64(u.window*1e9) >= last
		})
		if i < 2 || j == len(t.updates) {
			continue
		}
		from, until, ok = max(from, t.updates[i-2].ns-1), min(until, t.updates[min(j+1, len(t.updates)-1)].ns), true
	}
	return from, until, ok
}

// build makes the next patch of the cluster's edges.
func (r *reconstruction) build() {
	first, last := r.cluster[0].ns, r.cluster[len(r.cluster)-1].ns
	use := r.useful(first/2 + last/2)
	memory, reach, step := flank(use)
	p := r.blank()
	p.originNS = first
	p.edges, r.cluster = r.cluster, p.edges[:0]
	if len(use) == 0 {
		memory, reach, step = 1e8, 1e8, 1e8
	}
	from, until := first-int64(reach), last+int64(reach)
	if before, after, ok := beside(use, first, last); ok {
		from, until = min(from, before), max(until, after)
	}
	if r.built {
		from = max(from, r.until)
	}
	if len(r.edges) > 0 && r.edges[0].ns < until+int64(reach) {
		until = min(until, last+(r.edges[0].ns-last)/2)
	}
	until = min(until, max(last+1, r.nowNS)) // what begins later is not known yet
	// Readings just after its end are of its end. More of them would be
	// counted twice, here and by what comes next.
	lo, hi := from-int64(memory), until+int64(memory)

	// Edges, those of the neighbours too.
	cuts := p.cuts
	for _, x := range r.recent {
		if x > lo {
			cuts = append(cuts, x)
		}
	}
	r.recent = append(r.recent[:0], cuts...)
	for _, e := range p.edges {
		if n := len(r.recent); n == 0 || r.recent[n-1] != e.ns {
			cuts = append(cuts, e.ns)
			r.recent = append(r.recent, e.ns)
		}
	}
	for _, e := range r.edges {
		if e.ns < hi {
			cuts = append(cuts, e.ns)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	p.cuts, p.from, p.until, p.lo, p.hi, p.coarse = cuts, from, until, lo, hi, step/2
	for _, t := range use {
		if t.response.partial() {
			p.partly[slices.Index(r.tracks, t)] = true
		}
	}
	p.refine(r.tracks)
	begin := p.sec(lo)

	readings := 0
	for _, t := range use {
		readings += len(t.between(from+1, hi))
	}
	p.readings = slices.Grow(p.readings, readings)
	for _, t := range use {
		channel := int8(slices.Index(r.tracks, t))
		updates := t.between(from+1, hi)
		for i := range updates {
			u := &updates[i]
			at := p.sec(u.ns)
			if u.window <= 0 || u.vague || at-t.response.lag-u.window < begin {
				continue
			}
			p.readings = append(p.readings, reading{at: at, window: u.window, value: u.value, tick: t.tick(u), channel: channel})
			p.blind[channel] = max(p.blind[channel], u.blindS)
		}
		p.blind[channel] = math.Hypot(p.blind[channel], t.response.delaySE)
		if t.aligned {
			p.blind[channel] = t.shiftSE
		}
	}
	for i, t := range r.tracks {
		p.wide[i] = t.response.windowSE
		p.chains[i] = t.response.chain
		p.chains[i].lag += t.shift
	}
	r.between(p, from, until)
	for i := range p.edges {
		e := &p.edges[i]
		m := &e.share.to
		if e.start {
			m = &e.share.from
		}
		for i, t := range r.tracks {
			m[i] = t.meter(e.ns)
			out := int64(t.reach()*1e9) + int64(2*t.spacing)
			if e.start {
				out = -out
			}
			m[i].outer = t.meter(e.ns + out).level
		}
	}
	r.until, r.built = until, true
	r.held = append(r.held, p)
	r.heldEdges += len(p.edges)
}

// between accounts for the time from the last patch to this one.
func (r *reconstruction) between(p *patch, from, until int64) {
	p.spacing = float64(from-r.until) / 1e9
	now := [channels]meter{}
	for i, t := range r.tracks {
		now[i] = t.meter(from)
	}
	if r.built && from > r.until {
		for i, t := range r.tracks {
			a, b := r.account[i], now[i]
			if !a.ok || !b.ok || a.breaks != b.breaks {
				continue
			}
			// What sees all of the time in the shortest steps.
			rank := t.reach() / min(t.response.coverage, 1)
			if holes := b.holes - a.holes; holes > 0 {
				rank += math.Cbrt(holes)
			}
			joules := b.joules.minus(a.joules)
			// When the counter ticks is found out better and better: what it ticked by is
			// of more or less time than that is.
			if ticked := b.ticked - a.ticked; t.counts && ticked > 0 {
				joules *= p.spacing / ticked
			}
			p.rests[i] = rest{joules, max(0, b.holes-a.holes), b.count - a.count, i, rank, true}
		}
		p.settleOn(r.tracks)
	}
	if i, ok := r.witnesses(); ok && r.built {
		r.apart.add(r.account[i], now[i], r.account[1], now[1], p.spacing, r.tracks[1].spacing/1e9)
	}
	for i, t := range r.tracks {
		r.account[i] = t.meter(until)
	}
}

// rest is the energy of the time between two patches.
type rest struct {
	joules   float64
	holes    float64 // s³
	readings int64
	channel  int
	rank     float64
	ok       bool
}

// settleOn takes the channel that tells best of the time before the patch.
func (p *patch) settleOn(tracks []*track) {
	p.rest = rest{}
	for i, o := range p.rests {
		if o.ok && tracks[i].alien == "" && (!p.rest.ok || o.rank < p.rest.rank) {
			p.rest = o
		}
	}
}

// edgeHeap has the next edge first: by time, ends before starts, so that what ends
// where another begins does not overlap it. It is a heap as container/heap has
// it, but takes edges without wrapping them up.
type edgeHeap []edge

func (h edgeHeap) less(i, j int) bool {
	if c := cmp.Compare(h[i].ns, h[j].ns); c != 0 {
		return c < 0
	}
	return !h[i].start && h[j].start && h[i].share != h[j].share
}

func (h *edgeHeap) push(e edge) {
	*h = append(*h, e)
	all := *h
	for j := len(all) - 1; j > 0; {
		i := (j - 1) / 2
		if !all.less(j, i) {
			break
		}
		all[i], all[j] = all[j], all[i]
		j = i
	}
}

func (h *edgeHeap) pop() edge {
	all := *h
	n := len(all) - 1
	first := all[0]
	all[0], all[n] = all[n], edge{}
	all = all[:n]
	*h = all
	for i := 0; 2*i+1 < n; {
		j := 2*i + 1
		if j+1 < n && all.less(j+1, j) {
			j++
		}
		if !all.less(j, i) {
			break
		}
		all[i], all[j] = all[j], all[i]
		i = j
	}
	return first
}
