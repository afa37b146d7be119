package energy

import (
	"math"
	"slices"
)

// A solution gives events their shares of the patches of one GPU, batch by
// batch. It works while the next batch is built, and for that has the tracks
// as they were when its batch was full, and nothing else that changes
// meanwhile. What it comes to is taken when the next batch is full: at
// the same record of the trace each time, so that what comes out does not depend
// on how fast either was.
type solution struct {
	tracks []*track        // still
	still  [channels]track // as they were, without updates
	held   []*patch
	done   chan struct{} // closed when all is solved; nil where nothing is going on
	beside bool          // the next batch is being built

	active   []*share // events that have begun and not ended in the patches so far
	group    groups
	learner  learner
	ended    []*share // in this batch
	restless bool     // power moves where no event is going on
	disagree bool     // the witnesses
}

// release has the held patches solved, and takes what became of those before, and
// what was found about the channels. At the end it waits for these, too.
func (r *reconstruction) release(finish func(*share), end bool) {
	r.collect(finish)
	if len(r.held) == 0 {
		return
	}
	s := r.solution
	verdict := r.agreement()
	s.disagree = verdict.Verdict == Disagree
	if refuted(verdict) {
		const counter = 1
		for _, p := range r.held {
			p.drop(func(x reading) bool { return x.channel == counter })
		}
	}
	for _, t := range r.tracks {
		t.restVar, t.workVar = t.rest.variance(), t.work.variance()
		t.fewVar = 0
		if t.restVar == 0 {
			t.fewVar = t.rest.short()
		}
	}
	s.held, r.held, r.heldEdges = r.held, s.held[:0], 0
	for i, t := range r.tracks {
		s.still[i] = *t
		s.still[i].updates = nil
		t.straddled = t.straddles
	}
	s.done, s.beside = make(chan struct{}), !end
	go func() {
		defer close(s.done)
		s.solve()
	}()
	if end {
		r.collect(finish)
	}
}

// collect waits for the batch that is being solved.
func (r *reconstruction) collect(finish func(*share)) {
	s := r.solution
	if s.done == nil {
		return
	}
	<-s.done
	s.done = nil
	for i, t := range r.tracks {
		t.learn(s.tracks[i])
	}
	r.restless, r.disagree = s.restless, s.disagree
	for _, e := range s.ended {
		finish(e)
	}
	clear(s.ended)
	s.ended = s.ended[:0]
	r.spare = append(r.spare, s.held...)
	clear(s.held)
	s.held = s.held[:0]
}

// solve solves the batch.
func (r *solution) solve() {
	r.attend()
	r.place()
	r.disown()
	if r.learner.looks() {
		r.look()
	}
	r.learner.batches++
	each := each
	if r.beside {
		each = eachBeside
	}
	each(r.held, func(s *solver, p *patch, _ int) {
		p.cells = &s.cells
		s.lay(p)
		r.find(s, p)
		p.cells = nil
	})
	r.group.shrink(r.held, r.tracks)
	for _, p := range r.held {
		r.restless = r.restless || p.restless
		r.give(p)
	}
}

// look learns from some patches of the batch: of channels of which nothing was
// measured, how late all are, and their noise.
func (r *solution) look() {
	steps, edges := thin(r.held, 2*somePatches), thin(r.held, 64)
	kinds := kindsOf(r.held)
	var some []*patch
	for _, of := range append(kinds.some, kinds.all, steps, edges) {
		for _, p := range of {
			if p.cells == nil {
				p.cells = &cells{}
				some = append(some, p)
			}
		}
	}
	each(some, func(s *solver, p *patch, _ int) {
		s.lay(p)
		s.begin(p, twice)
	})
	r.recognise(steps)
	if r.align(edges) {
		r.place()
		each(some, func(s *solver, p *patch, _ int) { s.begin(p, twice) })
	}
	r.learner.look(kinds)
	for _, p := range some {
		p.cells = nil
	}
}

// thin are some n of the patches that have readings, up to twice as many.
func thin(held []*patch, n int) (some []*patch) {
	for i := 0; i < len(held); i += 1 + len(held)/n {
		if len(held[i].readings) > 0 {
			some = append(some, held[i])
		}
	}
	return some
}

// begin finds what a patch's power is like, by the noise that is usual.
func (s *solver) begin(p *patch, passes int) {
	s.weigh(p)
	p.noise = prior
	p.noise.jump = p.step()
	s.solve(p, p.noise, passes, false)
}

// smoothen takes power to step at a patch's edges alone, but where readings plainly show that
// work was done of which no event tells. Where else it steps is another thing with each
// delay and window, and makes one likelier than the next by chance.
func (s *solver) smoothen(p *patch) {
	s.weigh(p)
	p.smooth = false
	steps := s.unlikely(p)
	p.smooth = true
	p.smooth = s.unlikely(p) <= steps+untoldStep*float64(len(p.rows))
}

// untoldStep is how much likelier each reading of a patch has to be, as -2 log, where power steps
// though no event says so.
const untoldStep = 2.0

// twice is in how many passes the form of a patch's power is found where the likelihood by
// it is wanted, or its slope, or where once is not enough: the first pass takes no reading
// for uncertain because power is steep in it.
const twice = 2

// find finds a patch's energy, by the noise that it has.
func (r *solution) find(s *solver, p *patch) {
	s.begin(p, 1)
	_, ok := s.solve(p, r.noise(p), 0, false)
	if ok && p.scale > 1 {
		s.begin(p, twice)
		_, ok = s.solve(p, r.noise(p), 0, false)
	}
	if ok {
		p.scale *= r.memory(p)
		s.settle(p)
		s.sway(p, r.tracks)
	} else {
		p.failed = true
	}
	s.apportion(p)
}

// noise is a patch's, which it takes.
func (r *solution) noise(p *patch) noise {
	p.noise = r.learner.noise(p)
	for c, t := range r.tracks {
		p.noise.sd[c] = max(p.noise.sd[c], math.Sqrt(t.fewVar))
	}
	if len(p.readings) > 0 && r.tracks[p.readings[0].channel].response.partial() {
		p.noise.busy *= unseenWalk
	}
	return p.noise
}

// memory is how much more a patch's noise is, as a variance, for the memory
// that the noise of its readings has.
func (r *solution) memory(p *patch) float64 {
	if len(p.readings) == 0 {
		return 1
	}
	c := p.readings[0].channel
	t := r.tracks[c]
	more := t.restVar / (p.noise.sd[c] * p.noise.sd[c])
	// No sensor's noise is like that: work was done that no event tells of.
	if most := mostMemory * math.Max(1, t.response.window/t.response.update); more > most {
		p.restless, more = true, most
	}
	return math.Max(1, more)
}

// unseenWalk is by how much the variance by which power walks is more than what readings
// that see a part of the time say: it is found from few of them, and the rest of the
// time goes by it.
const unseenWalk = 3

// mostMemory is how much more the noise of a mean of readings may be for its
// memory, as a variance; for readings that are means over many updates, which
// have most of themselves in common, so many times more.
const mostMemory = 25

// align finds how much later or earlier than thought each channel is against
// the events' edges, as far as the steps of power in some patches tell: one delay
// for all. ok is false where they are too few.
func (r *solution) align(some []*patch) (ok bool) {
	if len(some) < fewPatches {
		return false
	}
	each(some, func(s *solver, p *patch, _ int) { s.smoothen(p) })
	defer func() {
		for _, p := range some {
			p.smooth = false
		}
	}()
	var found [channels]float64
	var known [channels]float64 // 1/s², before
	for c := range r.tracks {
		for _, p := range some {
			if by := p.blind[c]; by > 0 {
				known[c] = 1 / (by * by)
			}
		}
	}
	for c := range r.tracks {
		if known[c] > 0 && known[c] < 1/(0.005*0.005) {
			found[c] = r.scan(some, c, known[c])
		}
	}
	each(some, func(s *solver, p *patch, _ int) { s.shift(p, r.tracks, found) })
	curve := r.newton(some, &found, &known)
	for c, t := range r.tracks {
		if known[c] > 0 && !t.counts && t.turn.ns == 0 && t.polled > 0.9*t.response.update && r.turn(some, c, &found[c], found) {
			each(some, func(s *solver, p *patch, _ int) { s.shift(p, r.tracks, found) })
			curve = r.newton(some, &found, &known)
		}
	}
	r.sharpen(some, &found, &known, &curve)
	for c, t := range r.tracks {
		if known[c] > 0 && curve[c] > known[c] {
			t.shift += found[c]
			t.shiftSE = math.Hypot(1/math.Sqrt(curve[c]+known[c]), edgeS)
			t.aligned = true
		}
	}
	return true
}

// place gives the held patches what has been found about the channels since they
// were built.
func (r *solution) place() {
	for _, p := range r.held {
		for c, t := range r.tracks {
			p.doubt[c] = t.doubt()
			if near := p.originNS - t.turn.ns; t.turn.ns != 0 && max(near, -near) < nearTurn {
				p.doubt[c] = t.response.update
			}
			p.chains[c] = t.response.chain
			p.chains[c].lag += t.later(p)
			if t.aligned {
				p.blind[c] = t.shiftSE
			}
		}
		for i := range p.readings {
			if x := &p.readings[i]; !r.tracks[x.channel].counts {
				x.window = r.tracks[x.channel].response.window
			}
		}
	}
}

// scan is about where a channel's delay is likeliest, of those that are known no
// better than to many milliseconds: what lies next to the first guess need not
// be the best.
func (r *solution) scan(some []*patch, c int, known float64) (best float64) {
	least := math.Inf(1)
	parts := make([]float64, len(some))
	for k := -5; k <= 5; k++ {
		var at [channels]float64
		at[c] = float64(k) * 0.4 / math.Sqrt(known)
		each(some, func(s *solver, p *patch, i int) {
			s.shift(p, r.tracks, at)
			parts[i] = s.unlikely(p)
		})
		sum := at[c] * at[c] * known
		for _, l := range parts {
			sum += l
		}
		if sum < least {
			least, best = sum, at[c]
		}
	}
	return best
}

// newton goes from about where the channels' delays are to where they are likeliest, and
// says how sharp that is, 1/s².
func (r *solution) newton(some []*patch, found, known *[channels]float64) (curve [channels]float64) {
	slopes, curves := make([][channels]float64, len(some)), make([][channels]float64, len(some))
	for range 4 {
		each(some, func(s *solver, p *patch, i int) {
			slopes[i], curves[i] = [channels]float64{}, [channels]float64{}
			if _, ok := s.solve(p, p.noise, twice, false); !ok {
				return
			}
			for c := range r.tracks {
				slopes[i][c], curves[i][c] = s.lateness(p, int8(c))
			}
		})
		for c := range r.tracks {
			slope := 0.0
			curve[c] = 0
			for i := range some {
				slope += slopes[i][c]
				curve[c] += curves[i][c]
			}
			if known[c] == 0 {
				continue
			}
			by := (slope - found[c]*known[c]) / (curve[c] + known[c])
			found[c] += max(-0.02, min(0.02, by))
		}
		each(some, func(s *solver, p *patch, _ int) { s.shift(p, r.tracks, *found) })
	}
	return curve
}

// sharpen finds the delays anew where one of them is plain already. What is open about a delay
// is the same for all readings of its channel, and no noise of each: they tell more
// of it the less it is. Where none is plain, what power does about the edges would pass
// for a delay.
func (r *solution) sharpen(some []*patch, found, known, curve *[channels]float64) {
	plain := false
	for c := range r.tracks {
		plain = plain || known[c] > 0 && curve[c]+known[c] > 1/(plainDelay*plainDelay)
	}
	if !plain {
		return
	}
	for range 3 {
		for c, t := range r.tracks {
			if known[c] == 0 || curve[c] <= known[c] || t.doubt() > 0 {
				continue
			}
			for _, p := range some {
				p.blind[c] = math.Hypot(1/math.Sqrt(curve[c]+known[c]), edgeS)
			}
		}
		*curve = r.newton(some, found, known)
	}
}

// A turn is when a channel that is read as often as it is updated began to be read on the
// other side of its updates: readings before it are so much later, s, than those after.
type turn struct {
	ns int64
	by float64
}

// plainDelay is how well a delay that is plain is known, s.
const plainDelay = 0.001

// nearTurn is for how long about a turn it is not known which side readings are of, ns.
const nearTurn = int64(5e9)

// turn looks whether the patches before some time, or those after it, are far likelier if
// the channel's readings are older or newer by an update. found is the channel's
// delay, of all, which becomes that of those after it: where there are as many of
// either it may be one between the two.
func (r *solution) turn(some []*patch, c int, found *float64, all [channels]float64) bool {
	t := r.tracks[c]
	off := [...]float64{0, -1, 1, -0.5, 0.5} // updates
	var gain [len(off)][]float64
	for i, by := range off {
		at := all
		at[c] += by * t.response.update
		gain[i] = make([]float64, len(some))
		each(some, func(s *solver, p *patch, j int) {
			s.shift(p, r.tracks, at)
			if l := s.unlikely(p); !math.IsInf(l, 1) {
				gain[i][j] = l
			}
		})
	}
	each(some, func(s *solver, p *patch, _ int) { s.shift(p, r.tracks, all) })
	for j := range some {
		was := gain[0][j]
		for i := range off {
			gain[i][j] = max(-mostTurn, min(mostTurn, was-gain[i][j]))
		}
	}
	most, k, before, after := 0.0, 0, 0.0, 0.0
	for x := range off {
		for y := range off {
			if math.Abs(off[x]-off[y]) != 1 {
				continue
			}
			sum := 0.0
			for _, g := range gain[y] {
				sum += g
			}
			for j := 1; j < len(some); j++ {
				if sum += gain[x][j-1] - gain[y][j-1]; sum > most {
					most, k, before, after = sum, j, off[x], off[y]
				}
			}
		}
	}
	if most < plainTurn {
		return false
	}
	*found += after * t.response.update
	t.turn = turn{some[k].originNS, (before - after) * t.response.update}
	return true
}

// plainTurn is how much likelier, as -2 log of the likelihood, a turn has to make the
// patches for it to be one.
const (
	plainTurn = 25
	mostTurn  = 12 // of one patch, which may be likelier for another reason
)

// shift weighs a patch anew, with each channel's delay found so far and more.
func (s *solver) shift(p *patch, tracks []*track, more [channels]float64) {
	for i, t := range tracks {
		p.chains[i] = t.response.chain
		p.chains[i].lag += t.later(p) + more[i]
	}
	s.weigh(p)
}

// edgeS is by how much the stamps of events of different kinds are early or
// late against each other, s.
const edgeS = 0.0005

// attend finds which events go on at the beginning of each held patch, and
// which are merely a frame around others.
func (r *solution) attend() {
	for _, p := range r.held {
		p.going = append(p.going[:0], r.active...)
		for _, e := range p.edges {
			if e.start {
				for _, o := range r.active {
					o.frame = o.frame || o.around(e.share)
					e.share.frame = e.share.frame || e.share.around(o)
				}
			}
			r.active = e.pass(r.active)
		}
	}
}

// around says that the event is longer than the other and has all of it inside.
func (s *share) around(o *share) bool {
	x, y := &s.event.event, &o.event.event
	return x.EndNS-x.StartNS > y.EndNS-y.StartNS && x.StartNS <= y.StartNS && x.EndNS >= y.EndNS
}

// pass is the events that go on after an edge, of those that did before.
func (e *edge) pass(active []*share) []*share {
	if e.start {
		return append(active, e.share)
	}
	if i := slices.Index(active, e.share); i >= 0 {
		return slices.Delete(active, i, i+1)
	}
	return active
}

// apportion finds the events' parts in the segments of a patch.
func (s *solver) apportion(p *patch) {
	p.holds, p.parts = p.holds[:0], p.parts[:0]
	active, at := append(s.active[:0], p.going...), 0
	for g := range p.segments {
		for ; at < len(p.edges) && p.edges[at].ns <= p.starts[g]; at++ {
			active = p.edges[at].pass(active)
		}
		for _, x := range active {
			h := p.hold(x)
			part, with := x.part(active)
			h.parts[g] = part
			h.with = max(h.with, with)
		}
	}
	s.active = active
	for i := range p.holds {
		p.holds[i].readings = p.count(p.holds[i].parts)
	}
}

// hold is an event's part in the patch. It is valid until the next call.
func (p *patch) hold(s *share) *hold {
	for i := range p.holds {
		if p.holds[i].share == s {
			return &p.holds[i]
		}
	}
	n := len(p.parts)
	for range p.segments {
		p.parts = append(p.parts, 0)
	}
	p.holds = append(p.holds, hold{share: s, parts: p.parts[n:len(p.parts):len(p.parts)]})
	return &p.holds[len(p.holds)-1]
}

// give adds a patch's energy, and that of the time before it, to the events.
func (r *solution) give(p *patch) {
	w := &p.noise
	r.seam(p)
	if len(p.going) > 0 && p.spacing > 0 {
		t := r.tracks[p.rest.channel]
		walk := max(w.busy, t.walk())
		sd := w.sd[p.rest.channel]
		variance := max(sd*sd, t.restVar)*t.spacing/1e9*p.spacing + walk*p.rest.holes/12
		for _, s := range p.going {
			if !p.rest.ok {
				s.dark = r.strangers("no reading covers all of the event")
				continue
			}
			part, with := s.part(p.going)
			s.with = max(s.with, with)
			s.others += (1 - part) * p.spacing
			s.joules += part * p.rest.joules
			s.variance += part * part * variance
			s.readings += p.rest.readings
			s.seen += float64(p.rest.readings)
			s.drift[p.rest.channel*perChannel+paramGain] += part * p.rest.joules
		}
	}
	k := p.segments
	for _, h := range p.holds {
		s := h.share
		s.with = max(s.with, h.with)
		if p.failed || len(p.readings) == 0 {
			s.dark = r.strangers("no reading is near the event")
			continue
		}
		variance := 0.0
		for i, wi := range h.parts {
			if wi == 0 {
				continue
			}
			s.joules += wi * p.joules[i]
			s.others += (1 - wi) * p.length(i)
			for j, wj := range h.parts {
				variance += wi * wj * p.cov[i*k+j]
			}
			s.seen += p.seen[i]
		}
		s.readings += h.readings
		s.variance += max(0, variance)
		for param := range maxParams {
			if d := p.drift(param); d != nil {
				for i, wi := range h.parts {
					s.drift[param] += wi * d[i]
				}
			}
		}
	}
	for _, e := range p.edges {
		if !e.start {
			e.share.done = true
			for c := range channels {
				e.share.blind[c] = p.unsure(c)
			}
			r.ended = append(r.ended, e.share)
		}
	}
}

// seam adds what the readings at a patch's beginning have a part in twice, in
// the patch and in what is before it: the two err together.
func (r *solution) seam(p *patch) {
	if len(p.readings) == 0 {
		return
	}
	c := p.readings[0].channel
	at := p.noise.sd[c] * r.tracks[c].spacing / 1e9
	double := 2 * at * at
	if p.spacing > 0 {
		double *= 2 // at the end of the patch before, too
	}
	for _, s := range p.going {
		part, _ := s.part(p.going)
		s.variance += part * part * double
	}
}

// count is how many readings are of segments to a twentieth at least.
func (p *patch) count(segments []float64) (n int64) {
	for i := range p.rows {
		r := &p.rows[i]
		held := 0.0
		for j, h := range r.weights {
			if g := p.segment[r.first+j]; g >= 0 && segments[g] != 0 {
				held += h
			}
		}
		if held >= 0.05 {
			n++
		}
	}
	return n
}
