package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Queue is one real GPU, to which launches of a kernel are handed that it
// computes one after the other. But for Do, its methods are called within Do, on
// one thread.
type Queue interface {
	// Do runs f on a thread of its own on which the GPU can be used.
	Do(f func() error) error
	// Costs are the launches that there are, in the order of their time, and
	// which of them keeps the GPU busiest; longer ones are not used.
	Costs() (all []Cost, usual int)
	// Begin says that the GPU has nothing to do now, before launches follow.
	Begin() error
	// Put hands a launch over: an index into the costs.
	Put(size int) error
	// Done is how many launches are over since Begin. It does not wait.
	Done() (int, error)
	// End says when the first launch since Begin was begun, and when the last was
	// over, by the GPU's own clock: monotonic ns. All are over.
	End() (first, last int64, err error)
	// Check says what is wrong with what was computed, nil if nothing is. All
	// launches are over.
	Check() error
}

// Cost is what a launch takes, and does.
type Cost struct {
	Time  time.Duration // as measured
	FLOPs float64       // operations
	Bytes float64       // of memory, read and written
}

// Rig is some real GPUs that a plan runs on at the same time.
type Rig struct {
	GPUs   []int // indices, for the events
	Queues []Queue
	Guard  *Guard // may be nil
	// Stall is how long a GPU may take over the launches that it has: longer, and
	// it is given up.
	Stall time.Duration
}

// Ran says how a plan went on a rig.
type Ran struct {
	Late   int           // steps that were over before they could begin; nothing is told of them
	Loaded time.Duration // that the plan had load for, as far as it came
	Paused time.Duration // of it, for the guard's sake
	Hot    bool          // the guard has the load paused still
	Unsure error         // what is wrong with what was computed
}

// StallError is that a GPU does not come to the end of its work. It must not be
// waited for any more, not even to close it.
type StallError struct {
	GPU  int // index
	Time time.Duration
}

func (e *StallError) Error() string {
	return fmt.Sprintf("GPU %d hangs: it has done nothing for %v of what it was given", e.GPU, e.Time.Round(100*time.Millisecond))
}

// Hangs says whether an error is that of a GPU that hangs.
func Hangs(err error) bool {
	stalled := (*StallError)(nil)
	return errors.As(err, &stalled)
}

// Within is f's error, or a *StallError if f takes longer than that; f runs on
// then, and what it has must not be touched. 0 is for ever.
func Within(d time.Duration, gpu int, f func() error) error {
	if d <= 0 {
		return f()
	}
	over := make(chan error, 1)
	go func() { over <- f() }()
	select {
	case err := <-over:
		return err
	case <-time.After(d):
		return &StallError{gpu, d}
	}
}

// dutyPeriod is that of a load below full intensity.
const dutyPeriod = 10 * time.Millisecond

// ahead is how much work a GPU is given beforehand: enough that this process may
// be held up for a moment, and what is over within a millisecond or so when it ends.
const ahead = time.Millisecond

// early is how long before a step the GPU's clock is read.
const early = 300 * time.Microsecond

// Run carries out a plan on the rig and emits the event of each step after its
// end. The plan begins 100 ms after the call, and its steps lie on a grid as those
// of [Play] do, but events have the times that were: from just before the first
// launch, when all GPUs had nothing to do, until the last of them has nothing to
// do again.
//
// An event of load has launches, flops or bytes and their rates of all GPUs, busy_s,
// the time with work on the GPU, and how long before and after the GPU's own
// work the event begins and ends, in microseconds, as first_launch_us and
// last_launch_us. Of several GPUs the largest is told. load_gap_s is how long a GPU
// had nothing to do though it should, for more than 1 ms; thermal_pause_s how long
// the guard paused the load.
//
// The end of ctx ends the plan within about a millisecond, which is no error: the
// event under way has the field interrupted. A GPU that fails or hangs ends it in the
// same way, and is an error.
func (r Rig) Run(ctx context.Context, c clock.Clock, plan Plan, emit Emit) (Ran, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	p := ensemble{Rig: r, clock: c, emit: emit, stop: stop, looked: c.Now()}
	changes := r.Guard.Changes()
	t0 := c.Now() + int64(lead)
	for i, q := range r.Queues {
		w := &worker{Queue: q, gpu: r.GPUs[i], clock: c, guard: r.Guard, steps: make(chan stretch, 256), over: make(chan error, 1)}
		p.workers = append(p.workers, w)
		go func() {
			err := w.play(ctx, plan, t0)
			if err != nil {
				stop() // the others do not go on without it
			}
			w.over <- err
		}()
	}
	at := t0
	for s := range plan {
		end := at + int64(s.Duration)
		if !p.step(s, at, changes) {
			break
		}
		at = end
	}
	if p.unheard != nil {
		stop() // a load that nobody is told of
	}
	p.finish(changes)
	p.ran.Hot = r.Guard.Paused()
	return p.ran, errors.Join(p.failed, p.unheard)
}

// ensemble gathers what the workers of a rig did.
type ensemble struct {
	Rig
	clock   clock.Clock
	emit    Emit
	stop    func()
	workers []*worker
	looked  int64 // when it was last looked whether a GPU hangs
	ran     Ran
	failed  error // of a GPU
	unheard error // of emit
}

// step waits until all workers are through with a step, and tells of it. It is
// false when there is nothing more to wait for.
func (p *ensemble) step(s Step, at int64, changes <-chan GuardChange) bool {
	var whole stretch
	n := 0
	for _, w := range p.workers {
		part, ok := p.wait(w, changes)
		if !ok {
			continue
		}
		if n++; n == 1 {
			whole = part
		} else {
			whole.join(part)
		}
	}
	if n == 0 {
		return false
	}
	switch {
	case whole.late:
		p.ran.Late++
	case whole.end > whole.start:
		if s.Level.Share > 0 {
			p.ran.Loaded += time.Duration(whole.end - whole.start)
			p.ran.Paused += time.Duration(whole.paused)
		}
		whole.cut = whole.cut || n < len(p.workers)
		p.tell(s, whole)
	}
	return p.unheard == nil && !whole.cut
}

// wait is the next stretch of a worker; ok is false where none comes.
func (p *ensemble) wait(w *worker, changes <-chan GuardChange) (s stretch, ok bool) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		select {
		case s, ok = <-w.steps:
			if !ok && w.lost.Load() {
				return p.lost(w)
			}
			return s, ok
		case change := <-changes:
			p.mark(change)
			continue
		case <-tick.C:
		}
		if p.look(); w.lost.Load() {
			return p.lost(w)
		}
	}
}

// lost is the stretch in which a GPU was given up.
func (p *ensemble) lost(w *worker) (s stretch, ok bool) {
	if w.told {
		return s, false
	}
	w.told = true
	return stretch{start: w.since, end: p.clock.Now(), cut: true, fault: "the GPU hangs"}, w.since > 0
}

// look gives up GPUs that hang.
func (p *ensemble) look() {
	seen := sinceLooked(p.clock.Now(), &p.looked)
	for _, w := range p.workers {
		at := w.alive.Load()
		if took := w.still.look(at, at != 0, seen); p.Stall > 0 && took > p.Stall && !w.lost.Load() {
			p.failed = errors.Join(p.failed, &StallError{w.gpu, took})
			w.since = w.start.Load()
			w.lost.Store(true)
			p.stop()
		}
	}
}

// watchPeriod is how often it is looked whether a GPU hangs.
const watchPeriod = 100 * time.Millisecond

// finish waits for the workers' end.
func (p *ensemble) finish(changes <-chan GuardChange) {
	for _, w := range p.workers {
		if w.lost.Load() {
			continue
		}
		for { // what comes of a plan that was given up
			if _, ok := p.wait(w, changes); !ok {
				break
			}
		}
		if w.lost.Load() {
			continue
		}
		if err := <-w.over; err != nil {
			if bad := (*unsure)(nil); errors.As(err, &bad) {
				p.ran.Unsure = errors.Join(p.ran.Unsure, fmt.Errorf("GPU %d: %w", w.gpu, bad.error))
			} else {
				p.failed = errors.Join(p.failed, of(w.gpu, err))
			}
		}
	}
	for {
		select {
		case change := <-changes:
			p.mark(change)
			continue
		default:
		}
		return
	}
}

// of says which GPU an error is of.
func of(gpu int, err error) error {
	if Hangs(err) {
		return err
	}
	return fmt.Errorf("GPU %d: %w", gpu, err)
}

// mark tells of a pause.
func (p *ensemble) mark(change GuardChange) {
	if m := change.Marker(); m != nil && p.unheard == nil {
		p.unheard = p.emit(m)
	}
}

// tell emits the event of a step.
func (p *ensemble) tell(s Step, d stretch) {
	if s.Event == nil || p.unheard != nil {
		return
	}
	e := *s.Event
	e.StartNS, e.EndNS = d.start, d.end
	if len(e.GPUs) == 0 {
		e.GPUs = p.GPUs
	}
	e.Extra = append(slices.Clone(e.Extra), d.fields(s.Level.Share > 0)...)
	p.unheard = p.emit(&e)
}

// stretch is what became of a step on a GPU.
type stretch struct {
	start, end    int64
	late          bool // it was over before it could begin
	cut           bool // it ended before its time
	fault         string
	launches      int
	flops, bytes  float64
	busy, gap     int64 // ns with work, and without though there should have been
	paused        int64
	before, after int64 // ns from the start to the first launch, from the last one to the end
	timed         bool  // these are known
	part          bool  // load for a part of the time, which need not end with a launch
}

// join adds the same step of another GPU.
func (s *stretch) join(o stretch) {
	if o.late {
		return
	}
	if s.late {
		*s = o
		return
	}
	s.start, s.end = min(s.start, o.start), max(s.end, o.end)
	s.cut = s.cut || o.cut
	if s.fault == "" {
		s.fault = o.fault
	}
	s.launches += o.launches
	s.flops += o.flops
	s.bytes += o.bytes
	s.busy, s.gap, s.paused = max(s.busy, o.busy), max(s.gap, o.gap), max(s.paused, o.paused)
	s.before, s.after, s.part = max(s.before, o.before), max(s.after, o.after), s.part || o.part
	s.timed = s.timed && o.timed
}

// fields are those of a stretch, in which there was to be load or not.
func (s *stretch) fields(loaded bool) (all []record.Field) {
	d := float64(s.end-s.start) / 1e9
	if loaded && s.launches > 0 {
		all = append(all, extra("launches", s.launches))
		if s.flops > 0 {
			all = append(all, extra("flops", s.flops), extra("flops_per_s", s.flops/d))
		}
		if s.bytes > 0 {
			all = append(all, extra("bytes", s.bytes), extra("bytes_per_s", s.bytes/d))
		}
		all = append(all, extra("busy_s", float64(s.busy)/1e9))
		if s.timed {
			all = append(all, extra("first_launch_us", float64(s.before)/1e3))
		}
		if s.timed && !s.part {
			all = append(all, extra("last_launch_us", float64(s.after)/1e3))
		}
	}
	if s.gap > int64(time.Millisecond) {
		all = append(all, extra("load_gap_s", float64(s.gap)/1e9))
	}
	if s.paused > 0 {
		all = append(all, extra("thermal_pause_s", float64(s.paused)/1e9))
	}
	if s.cut {
		all = append(all, extra("interrupted", true))
	}
	if s.fault != "" {
		all = append(all, extra("error", s.fault))
	}
	return all
}

// unsure is that something is wrong with what was computed.
type unsure struct{ error }

// worker plays a plan on one GPU.
type worker struct {
	Queue
	gpu   int
	clock clock.Clock
	guard *Guard
	steps chan stretch
	over  chan error

	costs  []Cost
	usual  int
	depth  int      // launches that are handed over beforehand
	scale  float64  // how much longer launches take than they did when they were measured
	flight []flight // launches that are not over
	done   int      // launches that are, since Begin
	last   int64    // when the last of them was, as far as is known
	asked  int64    // when it was last asked which are
	late   int64    // what a sleep is late by, ns
	failed error    // of the queue
	start  atomic.Int64
	alive  atomic.Int64 // when the GPU, which has work, last was seen to go on; 0: it has none
	lost   atomic.Bool  // it is given up
	still  stillness    // of it, as the ensemble sees it
	told   bool         // the ensemble has told that the worker is lost
	since  int64        // when the step began in which it was
}

// flight is a launch that is not over.
type flight struct {
	size int
	put  int64 // when it was handed over
}

// stillness is for how long something at work was seen not to go on.
type stillness struct {
	sign  int64 // of its progress, as it was last seen
	quiet time.Duration
}

// look takes note of a sign of progress, with that much time since it was last
// looked, and is how long there has been none.
func (s *stillness) look(sign int64, busy bool, seen time.Duration) time.Duration {
	if !busy || sign != s.sign {
		s.sign, s.quiet = sign, 0
	} else {
		s.quiet += seen
	}
	return s.quiet
}

// sinceLooked is the time since it was last looked, as far as this process has
// seen it: one that was stopped itself (SIGSTOP, as nvsoak does it) has seen
// nothing meanwhile, and takes that for no sign.
func sinceLooked(now int64, looked *int64) time.Duration {
	seen := min(time.Duration(now-*looked), 2*watchPeriod)
	*looked = now
	return seen
}

// play plays a plan to its end, and checks what was computed.
func (w *worker) play(ctx context.Context, plan Plan, at int64) error {
	defer close(w.steps)
	if w.costs, w.usual = w.Costs(); len(w.costs) == 0 {
		w.costs = []Cost{{Time: time.Millisecond}} // there is no load to put
	}
	w.depth = min(max(int((ahead+w.costs[w.usual].Time/2)/max(w.costs[w.usual].Time, 1)), 2), 8)
	w.scale, w.late = 1, int64(60*time.Microsecond)
	return w.Do(func() error {
		for s := range plan {
			end := at + int64(s.Duration)
			d, begun := w.run(ctx, s.Level, at, end)
			w.start.Store(0)
			if w.lost.Load() {
				return nil
			}
			if w.failed != nil {
				d.cut, d.fault = true, w.failed.Error()
			}
			if begun {
				w.steps <- d
			}
			if w.failed != nil || d.cut || !begun && !d.late {
				break
			}
			at = end
		}
		if w.failed != nil {
			return w.failed
		}
		if err := w.Check(); err != nil {
			return &unsure{err}
		}
		return nil
	})
}

// run runs a level from one instant to another; begun is false where the end came
// before.
func (w *worker) run(ctx context.Context, l Level, from, until int64) (s stretch, begun bool) {
	if l.Share > 0 {
		if clock.Sleep(ctx, w.clock, from-int64(early)) != nil {
			return s, false
		}
		w.done = 0
		if w.failed = w.Begin(); w.failed != nil {
			s.start = w.clock.Now()
			s.end = s.start
			return s, true
		}
	}
	if clock.Sleep(ctx, w.clock, from) != nil {
		return s, false
	}
	s.start = w.clock.Now()
	if s.start >= until {
		s.late = true
		return s, true
	}
	w.start.Store(s.start)
	var err error
	if l.Share > 0 {
		err = w.load(ctx, l.Share, until, &s)
	} else {
		err = clock.Sleep(ctx, w.clock, until)
	}
	s.end = w.clock.Now()
	s.cut = err != nil
	if s.launches > 0 && w.failed == nil && !w.lost.Load() {
		first, last, err := w.End()
		w.failed = err
		s.before, s.after, s.timed, s.part = first-s.start, s.end-last, err == nil, l.Share < 1 || s.paused > 0
	}
	return s, true
}

// load keeps the GPU busy for a share of the time. The error is that of ctx.
func (w *worker) load(ctx context.Context, share float64, until int64, s *stretch) error {
	for w.failed == nil && !w.lost.Load() {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := w.clock.Now()
		if until-now < w.took(0)/2 {
			return nil
		}
		if w.guard.Paused() {
			if err := clock.Sleep(ctx, w.clock, min(now+int64(dutyPeriod), until)); err != nil {
				return err
			}
			s.paused += w.clock.Now() - now
			continue
		}
		if share >= 1 {
			w.burst(ctx, until, s)
			continue
		}
		// What one period had too much or too little of, the next makes up for.
		end := min(now+int64(dutyPeriod), until)
		want := int64(share*float64(end-s.start-s.paused)) - s.busy
		if want > 0 {
			w.burst(ctx, min(now+want, end), s)
		}
		if err := clock.Sleep(ctx, w.clock, end); err != nil {
			return err
		}
	}
	return nil
}

// took is how long a launch takes now, in ns.
func (w *worker) took(size int) int64 { return int64(w.scale * float64(w.costs[size].Time)) }

// free is when the GPU will have done what it has.
func (w *worker) free(now int64) int64 {
	if len(w.flight) == 0 {
		return now
	}
	at := max(w.last, w.flight[0].put)
	for _, f := range w.flight {
		at += w.took(f.size)
	}
	return max(at, now)
}

// size is the launch that comes to an end nearest to that many ns from the end of
// those before; −1 is none.
func (w *worker) size(left int64) int {
	for i := w.usual; i >= 0; i-- {
		if w.took(i) <= left+w.took(0)/2 {
			return i
		}
	}
	return -1
}

// burst keeps the GPU busy until an instant, or ctx's end, or a pause, and returns
// when it has nothing more to do.
func (w *worker) burst(ctx context.Context, until int64, s *stretch) {
	began := w.clock.Now()
	first, gap := true, int64(0)
	defer func() {
		if !first {
			s.busy += w.last - began - gap
		}
		s.gap += gap
		w.alive.Store(0)
	}()
	w.last, w.flight = began, w.flight[:0]
	w.alive.Store(began)
	for !w.lost.Load() {
		if !w.look() {
			return
		}
		going := ctx.Err() == nil && !w.guard.Paused()
		for going && len(w.flight) < w.depth {
			now := w.clock.Now()
			size := w.size(until - w.free(now))
			if size < 0 {
				going = false
				break
			}
			if len(w.flight) == 0 && !first {
				gap += max(0, now-w.last)
			}
			if w.failed = w.Put(size); w.failed != nil {
				return
			}
			first = false
			w.flight = append(w.flight, flight{size, now})
			s.launches++
			s.flops += w.costs[size].FLOPs
			s.bytes += w.costs[size].Bytes
		}
		if len(w.flight) == 0 {
			return
		}
		w.nap(!going)
	}
}

// look takes note of launches that are over.
func (w *worker) look() bool {
	n, err := w.Done()
	if err != nil {
		w.failed = err
		return false
	}
	over, now := n-w.done, w.clock.Now()
	asked := w.asked
	w.asked = now
	if over == 0 {
		return true
	}
	begun := max(w.last, w.flight[0].put)
	if f := w.flight[0]; over == 1 {
		// Since it was last asked, so this is how fast the GPU is now: its clocks fall
		// and rise. When exactly is what it should be, as far as that allows it.
		if w.last = min(begun+w.took(f.size), now); w.last < asked {
			w.last = asked + (now-asked)/2
		}
		w.pace(float64(w.last-begun) / float64(w.costs[f.size].Time))
	} else {
		// Seen late, for this process was held up or thinks that the GPU is slower:
		// when it was can only be reckoned.
		var cost time.Duration
		for _, f := range w.flight[:over] {
			cost += w.costs[f.size].Time
			w.last = min(max(w.last, f.put)+w.took(f.size), now)
		}
		w.pace(min(w.scale, float64(now-begun)/float64(cost)))
	}
	if asked <= begun {
		// It was over when it was first asked, and perhaps long before: from who
		// asks in time it is heard when that was too early.
		w.scale *= 0.995
	}
	w.flight = slices.Delete(w.flight, 0, over)
	w.done = n
	w.alive.Store(now)
	return true
}

// pace notes how long a launch took, in times of its cost.
func (w *worker) pace(ratio float64) { w.scale += (min(max(ratio, 0.25), 4) - w.scale) / 8 }

// nap sleeps until the oldest launch should be over; not so long where no others
// follow, for the event ends when the last one is seen to have.
func (w *worker) nap(ending bool) {
	now := w.clock.Now()
	took := w.took(w.flight[0].size)
	due := max(w.last, w.flight[0].put) + took - w.late
	if ending {
		due -= took / 2
	}
	// One that is late is asked after less and less often.
	again := min(max((now-due)/8, int64(20*time.Microsecond)), int64(5*time.Millisecond))
	due = max(due, now+again)
	w.clock.SleepUntil(due)
	w.late += (min(max(w.clock.Now()-due, 0), int64(ahead)/2) - w.late) / 8
}

// Calibration is how long a launch of the usual size took on a GPU before the load,
// as the marker load_calibration.
func Calibration(gpu int, c Cost, library string, now int64) *record.Marker {
	m := &record.Marker{Name: "load_calibration", TimeNS: now, Extra: []record.Field{
		extra("gpu", gpu), extra("launch_us", float64(c.Time)/1e3),
	}}
	if c.FLOPs > 0 {
		m.Extra = append(m.Extra, extra("flops_per_s", c.FLOPs/c.Time.Seconds()))
	}
	if c.Bytes > 0 {
		m.Extra = append(m.Extra, extra("bytes_per_s", c.Bytes/c.Time.Seconds()))
	}
	if library != "" {
		m.Extra = append(m.Extra, extra("blas", library))
	}
	return m
}
