package energy

import (
	"cmp"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// noise is what makes readings differ from what the model says.
type noise struct {
	sd   [channels]float64 // W, of single readings
	form [channels]float64 // of a reading's kernel: a share of the standard deviation of the power in it
	idle float64           // W²/s: variance by which power walks where no event is going on
	busy float64           // the same inside events
	jump float64           // W: standard deviation of the step at an event's edge
}

// prior is the noise that is taken where few readings tell, of the H200's
// channels.
var prior = noise{
	sd:   [channels]float64{0.3, 3, 1, 0.5},
	form: [channels]float64{0.15, 0.05, 0.15, 0.05},
	idle: 2,
	busy: 4000,
}

const (
	fewPatches  = 6    // fewer tell no noise
	somePatches = 16   // are enough to
	manyKinds   = 8    // of work have a noise of their own
	leastSD     = 0.02 // W: readings come in milliwatts, and sums of squares in float64
	leastWalk   = 1e-4 // W²/s: a hundredth of a watt in a second, which no reading tells from none; of much less the arithmetic is noise
	worstForm   = 0.35 // of a reading's kernel; more is no sensor of that response
)

// What power does inside events within a reading, as with the steps of a decode,
// no reading shows; but where an edge parts a reading it matters. grain is how
// far the energy of a stretch of work that begins and ends anywhere is from what
// its mean says, in seconds of the mean, one standard deviation: not learnt, for
// readings need not show it at all. A square wave of a quarter of the power is
// off by a twentieth of its period.
const (
	grain       = 0.5e-3 // of work that says nothing of its steps
	grainOfStep = 0.05
)

// grainOf is the grain of an event.
func grainOf(e *record.Event) float64 {
	if n := e.OutputTokens.Or(0); n > 1 {
		return math.Max(grain, grainOfStep*e.Duration()/float64(n))
	}
	return grain
}

// learner knows the noise of kinds of work.
type learner struct {
	batches int
	few     noise  // of work that comes too seldom to tell
	all     *noise // of all work, as found last; nil before it was
	kinds   map[work]noise
	jumps   map[work]float64 // W: steps at edges where readings show more of them than most do
}

// work is a phase of a model.
type work struct{ phase, model string }

func (p *patch) work() work {
	e := &p.edges[0].share.event.event
	return work{e.Phase, e.Model}
}

// looks says that the next batch is one that is looked at: the first, the
// second, the fourth, the 16th, the 64th and so on, for neither noise nor channels
// change much.
func (l *learner) looks() bool {
	n := uint(l.batches + 1)
	return n&(n-1) == 0 && (n == 2 || bits.TrailingZeros(n)%2 == 0)
}

// noise is a patch's: that of its kind of work where it is known.
func (l *learner) noise(p *patch) noise {
	w, ok := l.kinds[p.work()]
	if !ok {
		w = l.few
	}
	// What readings do not show need not be little.
	w.jump = max(p.noise.jump, l.jumps[p.work()])
	return w
}

// kinds are patches to learn from: of all of a batch, and of each of the kinds of
// work that have the most.
type kinds struct {
	all   []*patch
	jumps map[work]float64
	work  []work
	some  [][]*patch // by work
}

// kindsOf chooses them.
func kindsOf(held []*patch) (k kinds) {
	of := map[work][]*patch{}
	for _, p := range held {
		w := p.work()
		if of[w] == nil {
			k.work = append(k.work, w)
		}
		of[w] = append(of[w], p)
	}
	slices.SortStableFunc(k.work, func(a, b work) int { return cmp.Compare(len(of[b]), len(of[a])) })
	k.jumps = map[work]float64{}
	for w, some := range of {
		if len(some) < fewPatches {
			continue
		}
		var jumps []float64
		for _, p := range some {
			jumps = append(jumps, p.step())
		}
		slices.Sort(jumps)
		k.jumps[w] = stats.Quantile(jumps, 0.75)
	}
	k.work = k.work[:min(len(k.work), manyKinds)]
	for _, w := range k.work {
		k.some = append(k.some, thin(of[w], somePatches))
	}
	k.all = thin(held, somePatches)
	return k
}

func (l *learner) look(k kinds) {
	all, ok := fit(k.all, prior, l.all, each)
	if ok {
		l.all = &all
	}
	// Of work that is seldom, power may vary as it does in general.
	l.few = all
	l.few.busy = max(all.busy, prior.busy)
	own, known := make([]noise, len(k.work)), make([]bool, len(k.work))
	parallel(len(k.work), len(k.work), func(s *solver, i int) {
		var last *noise
		if was, ok := l.kinds[k.work[i]]; ok {
			last = &was
		}
		own[i], known[i] = fit(k.some[i], all, last, func(some []*patch, f func(*solver, *patch, int)) {
			for i, p := range some {
				f(s, p, i)
			}
		})
	})
	l.jumps = k.jumps
	l.kinds = map[work]noise{}
	for i, w := range k.work {
		if known[i] {
			l.kinds[w] = own[i]
		}
	}
}

// fit is the noise under which the readings of some patches are likeliest, with
// some weight on what is known before; ok is false where they are too few. It is looked for
// from what was found last, if there is such. each calls a function for each of them.
func fit(some []*patch, from noise, last *noise, each func([]*patch, func(*solver, *patch, int))) (found noise, ok bool) {
	if len(some) < fewPatches {
		return from, false
	}
	return likeliest(some, from, last, each), true
}

// likeliest is the noise under which the readings of all those patches are the
// likeliest.
func likeliest(some []*patch, from noise, last *noise, each func([]*patch, func(*solver, *patch, int))) noise {
	var used [channels]int // readings
	for _, p := range some {
		for i := range p.readings {
			used[p.readings[i].channel]++
		}
	}
	x, step := []float64{0, 0}, []float64{1, 1}
	var of []int
	for c := range channels {
		if used[c] >= 40 {
			of = append(of, c)
			x, step = append(x, 0, 0), append(step, 0.7, 0.5)
		}
	}
	set := func(x []float64) noise {
		v := from
		v.idle, v.busy = max(from.idle*math.Exp(x[0]), leastWalk), max(from.busy*math.Exp(x[1]), leastWalk)
		for i, c := range of {
			v.sd[c], v.form[c] = max(from.sd[c]*math.Exp(x[2+2*i]), leastSD), min(from.form[c]*math.Exp(x[3+2*i]), worstForm)
		}
		return v
	}
	parts := make([]float64, len(some))
	unlikely := func(x []float64) float64 {
		v := set(x)
		sum := x[0]*x[0]/16 + x[1]*x[1]/16
		for i := range of {
			sum += x[2+2*i]*x[2+2*i] + x[3+2*i]*x[3+2*i]*2
		}
		each(some, func(s *solver, p *patch, i int) {
			w := v
			w.jump = p.noise.jump
			l, ok := s.solve(p, w, 0, true)
			if !ok {
				l = math.Inf(1)
			}
			parts[i] = l
		})
		for _, l := range parts {
			sum += l
		}
		return sum
	}
	if last != nil {
		x[0], x[1] = math.Log(last.idle/from.idle), math.Log(last.busy/from.busy)
		for i, c := range of {
			x[2+2*i], x[3+2*i] = math.Log(last.sd[c]/from.sd[c]), math.Log(last.form[c]/from.form[c])
		}
		at, _ := stats.Minimize(unlikely, x, step)
		return set(at)
	}
	at, least := stats.Minimize(unlikely, x, step)
	// What no channel sees of power, or what another shows of it, may be noise of readings, or power
	// walks from one to the next: either may look best from where it is begun with.
	for i := range of {
		x[2+2*i] = noisy
	}
	if other, l := stats.Minimize(unlikely, x, step); l < least {
		at = other
	}
	return set(at)
}

// noisy is the logarithm of by how much noise may be more than usual, where it is looked for
// from there.
const noisy = 2.5

// step is how large steps at a patch's edges may be, W: as the readings range,
// twice over, and more where a reading is a mean over longer than the patch's
// shortest stretch between two edges, of whose height it shows a part.
func (p *patch) step() float64 {
	if len(p.readings) == 0 {
		return 20
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	mean := math.Inf(1) // s, of the finest readings
	for i := range p.readings {
		r := &p.readings[i]
		lo, hi = min(lo, r.value), max(hi, r.value)
		mean = min(mean, r.window+2*p.chains[r.channel].tau)
	}
	shortest := math.Inf(1) // s
	for i := 1; i < len(p.edges); i++ {
		if d := float64(p.edges[i].ns-p.edges[i-1].ns) / 1e9; d > 0 {
			shortest = min(shortest, d)
		}
	}
	part := max(1, min(10, mean/shortest))
	return 20 + 2*(hi-lo)*part
}

// each calls f for every patch, on all processors.
func each(patches []*patch, f func(s *solver, p *patch, i int)) {
	parallel((len(patches)+7)/8, len(patches), func(s *solver, i int) { f(s, patches[i], i) })
}

// eachBeside is each while a batch is built, which must not wait for a processor:
// it is what the next solution waits for.
func eachBeside(patches []*patch, f func(s *solver, p *patch, i int)) {
	parallel(max(1, runtime.GOMAXPROCS(0)-1), len(patches), func(s *solver, i int) { f(s, patches[i], i) })
}

// parallel calls f for the numbers below n, on so many processors at the most.
func parallel(most, n int, f func(s *solver, i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), most) {
		wait.Go(func() {
			s := solvers.Get().(*solver)
			defer solvers.Put(s)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(s, i)
			}
		})
	}
	wait.Wait()
}

var solvers = sync.Pool{New: func() any { return new(solver) }}
