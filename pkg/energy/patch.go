package energy

import (
	"math"
	"slices"

	"joulepipe/pkg/stats"
)

// A patch is a stretch of one GPU's time around edges of events, where what a
// reading shows is of more than one of them. Power in it is taken as constant
// over cells, a few to a sensor's update; cells meet at every edge. Between
// patches the readings stand for themselves.
type patch struct {
	originNS    int64
	lo, hi      int64          // ns: power is solved for from then until then
	from, until int64          // ns: and counted from then until then
	fine        float64        // ns, of cells where they are the finest
	coarse      float64        // ns: the same, were no channel to see a part of the time
	partly      [channels]bool // which do
	cuts        []int64        // ns: edges, those of the neighbours too
	edges       []edge         // its own, in the order of time
	going       []*share       // events that go on at its beginning

	readings []reading
	chains   [channels]chain
	blind    [channels]float64 // s, by which the channels may be later or earlier than thought, one standard deviation
	wide     [channels]float64 // s, by which their windows may be wider, one standard deviation
	doubt    [channels]float64 // s, the same because a reading may be an update older

	*cells   // while it is being solved
	segments int
	starts   []int64 // ns, of the segments

	rest    rest           // the time before it, up to the patch before
	rests   [channels]rest // of each channel
	spacing float64        // s, its length
	failed  bool
	noise   noise
	scale   float64 // of its noise over that of all, variances

	// What it comes to.
	joules   []float64 // of each segment
	cov      []float64 // of them, segments × segments, J²
	drifts   []float64 // params × segments: what a unit of each of the sensors' parameters adds to them
	moving   uint32    // the parameters, as bits, of which that is something
	seen     []float64 // of each segment: readings' worth that fell into it
	whole    []*share  // the event that a segment is
	holds    []hold
	parts    []float64 // room for those of holds
	restless bool      // power moves though no event goes on
}

// cells are the cells of a patch and what is found about them.
type cells struct {
	ends    []float64 // cells: from ends[i] until ends[i+1], s after origin
	segment []int     // of each cell; -1: solved for, but another patch's to count
	jump    []bool    // cell i begins at an edge of an event
	busy    []bool    // an event is going on in cell i
	smooth  bool      // power is taken to step at edges alone
	steps   []float64 // W²: of steps at cells' beginnings that no event tells of
	grain   []float64 // s, of each cell: see grainOf
	texture []float64 // W²: what the grain adds to the variance at cells' beginnings
	rows    []row     // of the readings
	store   []float64 // their weights and slopes
}

// hold is an event's part in a patch.
type hold struct {
	share    *share
	parts    []float64 // of each segment
	with     int       // most other requests that have a part too
	readings int64     // that are about the event
}

// blank is a patch with the room of one that is done with.
func (r *reconstruction) blank() *patch {
	n := len(r.spare)
	if n == 0 {
		return &patch{}
	}
	p := r.spare[n-1]
	r.spare = r.spare[:n-1]
	clear(p.edges)
	clear(p.going)
	clear(p.whole)
	clear(p.holds)
	*p = patch{
		cuts: p.cuts[:0], edges: p.edges[:0], going: p.going[:0], readings: p.readings[:0], starts: p.starts[:0],
		joules: p.joules[:0], cov: p.cov[:0], seen: p.seen[:0], whole: p.whole[:0], holds: p.holds[:0],
		drifts: p.drifts, parts: p.parts[:0],
	}
	return p
}

// reading is the mean of the power, followed as its channel follows it, over a
// window that ends at a time.
type reading struct {
	at      float64 // s after the patch's origin
	window  float64 // s
	value   float64 // W
	tick    float64 // W²: variance for its having one tick of the counter more or less
	channel int8    // index in the reconstruction's chains
}

// row is what the cells add to a reading.
type row struct {
	reading
	first   int // cell of the first weight
	last    int // cell after that of the last
	weights []float64
	slope   []float64 // what a second later would add to the weights
	steep   float64   // W/s: what a second later would show
	spread  float64   // W²: of the power in the kernel
}

// chain is how a channel follows the power.
type chain struct {
	tau, lag float64 // s
}

// memory is how long before a reading power matters to it.
func (c chain) memory(window float64) float64 { return c.lag + window + 5*c.tau }

// parameters of a channel that all of its readings share.
const (
	paramLate = iota
	paramEarly
	paramGain
	paramWindow // s, by which its window is wider about its middle; or by the other way in which it may follow power
	perChannel
)

const (
	channels  = 4
	maxParams = channels * perChannel
)

// weigh finds what each cell adds to each row: what the reading shows of a step
// of power at the cell's beginning, less what it shows of one at its end. Of a
// step it shows the mean, over its window, of the approach to it.
func (s *solver) weigh(p *patch) {
	n := len(p.ends) - 1
	size, lo, hi := 0, 0, 0
	for i := range p.rows {
		r := &p.rows[i]
		c := &p.chains[r.channel]
		lo = seek(p.ends, r.at-c.memory(r.window), lo)
		hi = seek(p.ends, r.at-c.lag+1e-4, hi)
		r.last = min(max(hi, 1), n)
		r.first = min(max(lo-1, 0), r.last-1)
		size += 2 * (r.last - r.first)
	}
	if cap(p.store) < size {
		p.store = make([]float64, size)
	}
	store := p.store[:size]
	tau := math.Inf(1)       // that growth is for
	window, over := 0.0, 1.0 // by how much what is left of an approach is more a window before
	for i := range p.rows {
		r := &p.rows[i]
		c := &p.chains[r.channel]
		if c.tau != tau || r.window != window {
			window, over = r.window, math.Exp(min(r.window/c.tau, followed))
		}
		if c.tau != tau {
			tau = c.tau
			s.rise(p.ends, tau)
		}
		k := r.last - r.first
		r.weights, r.slope, store = store[:k:k], store[k:2*k:2*k], store[2*k:]
		// What lies before the first cell is as the first, and after the last
		// as the last.
		from, until := r.first+1, min(r.last+1, n)
		r.weigh(p.ends[from:until], s.growth[from:until], r.at-c.lag, tau, over)
	}
}

// seek is [sort.SearchFloat64s] for an x that is near to where the one before
// was found.
func seek(a []float64, x float64, at int) int {
	for at < len(a) && a[at] < x {
		at++
	}
	for at > 0 && a[at-1] >= x {
		at--
	}
	return at
}

// weigh finds the row's weights and slopes for steps of power at those times: of each it
// shows the mean of the approach to it over the window that ends at a time. over is
// by how much more is left of an approach at the window's beginning than at its end.
func (r *row) weigh(steps, growth []float64, at, tau, over float64) {
	weights, slope := r.weights, r.slope[:len(r.weights)]
	growth = growth[:len(steps)]
	per := 1 / r.window
	before, rising := 1.0, 0.0
	left, leftBefore := 0.0, 0.0 // of the approach, at the window's end and at its beginning
	for j := range weights {
		after, steep := 0.0, 0.0
		if j < len(steps) && steps[j] < at {
			x := at - steps[j]
			switch {
			case left > 0:
				left *= growth[j]
			case x <= followed*tau:
				left = math.Exp(-x / tau)
			}
			after, steep = x-tau+tau*left, 1-left
			if y := x - r.window; y > 0 {
				switch {
				case leftBefore > 0:
					leftBefore *= growth[j]
				case left > 0:
					leftBefore = left * over
				case y <= followed*tau:
					leftBefore = math.Exp(-y / tau)
				}
				after -= y - tau + tau*leftBefore
				steep -= 1 - leftBefore
			}
			after, steep = after*per, steep*per
		}
		weights[j], slope[j] = before-after, rising-steep
		before, rising = after, steep
	}
}

// followed is after how many time constants nothing is left of an approach.
const followed = 40

// rise finds by how much what is left of the approach to a step is more when it
// began at a cell's beginning than at that of the cell before.
func (s *solver) rise(ends []float64, tau float64) {
	s.growth = resize(s.growth, len(ends))
	width, growth := 0.0, 1.0
	for e := 1; e < len(ends); e++ {
		// Neighbours are often as wide as each other.
		if d := ends[e] - ends[e-1]; math.Abs(d-width) > 1e-12 {
			width, growth = d, math.Exp(min(d/tau, followed))
		}
		s.growth[e] = growth
	}
}

// drift is what a unit of a parameter adds to each segment, nil where that is nothing.
func (p *patch) drift(param int) []float64 {
	if p.moving&(1<<param) == 0 {
		return nil
	}
	return p.drifts[param*p.segments:][:p.segments]
}

// move is drift of a parameter of which it is something.
func (p *patch) move(param int) []float64 {
	p.moving |= 1 << param
	return p.drift(param)
}

// drop leaves readings out.
func (p *patch) drop(out func(reading) bool) {
	p.readings = slices.DeleteFunc(p.readings, out)
	if p.cells != nil {
		p.rows = slices.DeleteFunc(p.rows, func(x row) bool { return out(x.reading) })
	}
}

// unsure is by how much a channel may be later or earlier than thought, s, one
// standard deviation.
func (p *patch) unsure(c int) float64 {
	if p.doubt[c] == 0 {
		return p.blind[c]
	}
	return math.Hypot(p.blind[c], p.doubt[c])
}

// length is a segment's, s.
func (p *patch) length(segment int) float64 {
	end := p.until
	if segment+1 < len(p.starts) {
		end = p.starts[segment+1]
	}
	return float64(end-p.starts[segment]) / 1e9
}

// sec is a time in s after the patch's origin.
func (p *patch) sec(ns int64) float64 { return float64(ns-p.originNS) / 1e9 }

// refine finds how fine cells are. Of a reading that sees a part of a cell, the rest of the
// cell is another thing.
func (p *patch) refine(tracks []*track) {
	p.fine = p.coarse
	for c, t := range tracks {
		if p.partly[c] {
			p.fine = min(p.fine, max(t.reach(), t.response.update/8)*1e9)
		}
	}
}

// lay divides a patch into cells, at every edge, and by step from there on, in
// growing steps, and says in which of them work goes on: in those of events that
// are not merely a frame around others. Where a channel sees a part of the time they
// are fine at both ends of a stretch, whatever these are: power may be another
// wherever it does not look.
func (s *solver) lay(p *patch) {
	p.ends, p.segment, p.jump = p.ends[:0], p.segment[:0], p.jump[:0]
	p.segments, p.starts = 0, p.starts[:0]
	marks := append(append(s.marks[:0], p.lo, p.from, p.until, p.hi), p.cuts...)
	slices.Sort(marks)
	marks = slices.Compact(marks)
	s.marks = marks
	partly := slices.Contains(p.partly[:], true)
	segment := -1
	_, edge := slices.BinarySearch(p.cuts, marks[0]) // at the beginning of the next stretch
	for i := 0; i+1 < len(marks); i++ {
		a, b, inside := marks[i], marks[i+1], edge
		switch {
		case a == p.from:
			segment = 0
		case a >= p.until || a < p.from:
			segment = -1
		case inside:
			segment++
		}
		if segment >= p.segments {
			p.segments++
			p.starts = append(p.starts, a)
		}
		_, edge = slices.BinarySearch(p.cuts, b)
		switch length := float64(b - a); {
		case inside && edge || partly:
			s.widths = divide(s.widths[:0], length, p.fine)
		case inside:
			s.widths = grow(s.widths[:0], length, p.fine)
		case edge:
			s.widths = grow(s.widths[:0], length, p.fine)
			slices.Reverse(s.widths)
		default:
			s.widths = equal(s.widths[:0], length, 2*p.fine)
		}
		at := p.sec(a)
		for j, w := range s.widths {
			p.ends = append(p.ends, at)
			p.segment = append(p.segment, segment)
			p.jump = append(p.jump, j == 0 && inside)
			at += w / 1e9
		}
	}
	p.ends = append(p.ends, p.sec(p.hi))
	p.busy = append(p.busy[:0], p.jump...)
	clear(p.busy)
	p.grain = resize(p.grain, len(p.segment))
	p.rows = slices.Grow(p.rows[:0], len(p.readings))[:len(p.readings)]
	for i := range p.rows {
		p.rows[i].reading = p.readings[i]
	}
	active, at := append(s.active[:0], p.going...), 0
	busy, grain := workOf(active)
	next := math.Inf(1) // s, of the next edge
	if len(p.edges) > 0 {
		next = p.sec(p.edges[0].ns)
	}
	for i := range p.busy {
		if next <= p.ends[i]+1e-9 {
			for ; at < len(p.edges) && p.sec(p.edges[at].ns) <= p.ends[i]+1e-9; at++ {
				active = p.edges[at].pass(active)
			}
			if next = math.Inf(1); at < len(p.edges) {
				next = p.sec(p.edges[at].ns)
			}
			busy, grain = workOf(active)
		}
		p.busy[i], p.grain[i] = busy, grain
	}
	s.active = active
}

// workOf says whether events go on that are not merely a frame around others, and their
// grain, s.
func workOf(active []*share) (busy bool, grain float64) {
	for _, x := range active {
		if !x.frame {
			busy, grain = true, max(grain, grainOf(&x.event.event))
		}
	}
	return busy, grain
}

// Away from an edge cells are wider from one to the next, up to so many times the finest,
// which is two updates of a sensor.
const (
	cellGrowth = 1.4
	mostGrown  = 4
)

// divide appends the widths of the cells of a stretch: step at its ends, more
// in the middle.
func divide(w []float64, length, step float64) []float64 {
	if n := math.Ceil(length / step); n <= 4 {
		return equal(w, length, length/max(n, 1))
	}
	w = grow(w, length/2, step)
	for i := len(w) - 1; i >= 0; i-- {
		w = append(w, w[i])
	}
	return w
}

// grow appends the widths of the cells of a stretch: step at its beginning, more
// and more from there on.
func grow(w []float64, length, step float64) []float64 {
	sum := 0.0
	for x := step; sum < length*(1-1e-9); x = min(mostGrown*step, x*cellGrowth) {
		w = append(w, x)
		sum += x
	}
	for i := range w {
		w[i] *= length / sum
	}
	return w
}

// equal appends the widths of the cells of a stretch, all the same, about step.
func equal(w []float64, length, step float64) []float64 {
	n := max(1, math.Round(length/step))
	for range int(n) {
		w = append(w, length/n)
	}
	return w
}

// solver is the storage that patches share.
type solver struct {
	a       stats.Band
	x, z, w []float64
	sum, u  []float64 // the counter's sum, over cells, and the solution for it
	sumVar  float64   // 0: there is none
	weights []float64 // of rows: 1/variance
	growth  []float64 // of cells, for weigh
	marks   []int64   // for lay
	widths  []float64
	active  []*share
	cells   cells // of patches that are solved in one go
}

// solve finds the power of each cell and -2 log of the readings' likelihood
// but for a constant. The noise of a patch is that of all by a factor of its
// own, which its misfit tells. What the patch's power is like, on which the readings'
// noise depends, is found in so many passes, or some more; 0: it is known. Without
// likelihood only the power is found.
func (s *solver) solve(p *patch, w noise, passes int, likelihood bool) (twologL float64, ok bool) {
	misfit := 0.0
	n := len(p.ends) - 1
	width := 1
	for i := range p.rows {
		width = max(width, len(p.rows[i].weights)-1)
	}
	most := passes + 2
	if passes > 0 {
		p.steps, p.texture = resize(p.steps, n), resize(p.texture, n)
		for i := range p.rows {
			p.rows[i].steep, p.rows[i].spread = 0, 100
		}
	}
	changed := true
	for pass := 1; changed; pass++ {
		s.a.Reset(n, width)
		s.x = resize(s.x, n)
		s.weights = resize(s.weights, len(p.rows))
		misfit = 0
		var variances stats.Product
		for i := 1; i < n; i++ {
			v := p.walk(i, w)
			if p.jump[i] {
				v += w.jump * w.jump
			}
			v += p.texture[i] + p.steps[i]
			s.a.AddDifference(i, 1/v)
			if likelihood {
				variances.Times(v)
			}
		}
		for i := range p.rows {
			r := &p.rows[i]
			c := r.channel
			late := p.blind[c] * r.steep
			v := w.sd[c]*w.sd[c] + w.form[c]*w.form[c]*r.spread + late*late + r.tick
			weight := 1 / v
			s.weights[i] = weight
			if likelihood {
				variances.Times(v)
			}
			value := r.value * weight
			misfit += r.value * value
			s.a.AddOuter(r.first, r.weights, weight)
			x := s.x[r.first:r.last]
			for j, h := range r.weights {
				x[j] += h * value
			}
		}
		if !s.a.Factorize() {
			return 0, false
		}
		s.z = resize(s.z, n)
		copy(s.z, s.x)
		s.a.Solve(s.x)
		for i, v := range s.z {
			misfit -= v * s.x[i]
		}
		if off, v, ok := s.total(p, w); ok {
			misfit += off * off / v
			variances.Times(v)
		}
		if likelihood {
			twologL = variances.Log() + s.a.LogDet()
		}
		if passes == 0 {
			break
		}
		changed = (s.form(p, w) || pass < passes) && pass < most
	}
	// A patch that is further off than its noise allows has more of it.
	rows := float64(len(p.rows))
	p.scale = math.Max(1, misfit/(rows+2*math.Sqrt(rows)))
	return twologL + misfit, true
}

// form finds what a patch's power is like: its texture, where it steps though no event
// says so, and how steep and how wide it is in each reading. changed says that it steps
// elsewhere than was thought.
func (s *solver) form(p *patch, w noise) (changed bool) {
	for i := 1; i < len(p.steps); i++ {
		if p.busy[i] && p.busy[i-1] {
			p.texture[i] = p.rough(i, s.x[i])
		}
		if p.jump[i] || p.smooth {
			continue
		}
		was := p.steps[i]
		p.steps[i] = stepped(s.x[i]-s.x[i-1], p.walk(i, w)+p.texture[i])
		changed = changed || (was > 0) != (p.steps[i] > 0)
	}
	for i := range p.rows {
		r := &p.rows[i]
		steep, mean, spread := 0.0, 0.0, 0.0
		watts, weights := s.x[r.first:r.last], r.weights[:len(r.slope)]
		for j, h := range r.slope {
			x := watts[j]
			steep += h * x
			mean += weights[j] * x
			spread += weights[j] * x * x
		}
		r.steep, r.spread = steep, max(0, spread-mean*mean)
	}
	return changed
}

// unlikely is -2 log of a patch's likelihood but for a constant, whatever its power is like;
// +Inf where it has no readings. Work that is rougher than the patch's noise has it is so
// whatever the channels are like.
func (s *solver) unlikely(p *patch) float64 {
	twologL, ok := s.solve(p, p.noise, twice, true)
	if !ok {
		return math.Inf(1)
	}
	if n := float64(len(p.rows)); p.scale > 1 {
		misfit := p.scale * (n + 2*math.Sqrt(n))
		twologL += n + n*math.Log(misfit/n) - misfit
	}
	return twologL
}

// walk is the variance by which power walks from one cell to that cell, W².
func (p *patch) walk(cell int, w noise) float64 {
	v := w.idle
	if p.busy[cell] {
		v = w.busy
	}
	return v * ((p.ends[cell+1] - p.ends[cell-1]) / 2)
}

// rough is what the grain of the work adds to the variance of the step of power
// at the beginning of a cell inside an event, W².
func (p *patch) rough(cell int, watts float64) float64 {
	before := p.grain[cell-1] / (p.ends[cell] - p.ends[cell-1])
	after := p.grain[cell] / (p.ends[cell+1] - p.ends[cell])
	return watts * watts * (before*before + after*after)
}

// stepped is the variance for a step of power of that height where no event
// says that there is one: none, unless it is far beyond how power walks.
func stepped(height, walk float64) float64 {
	if height*height > 9*walk {
		return height * height
	}
	return 0
}

// total takes into the solution what the counter's ticks add up to: an error in
// the time of a tick moves energy from one to the next and leaves their sum as
// it is, but for the first and the last. What is left is that the counter is a
// sum of samples itself. off is by how much the sum is off the solution's, J,
// and v the variance of that.
func (s *solver) total(p *patch, w noise) (off, v float64, ok bool) {
	n := len(p.ends) - 1
	s.sum, s.u = resize(s.sum, n), resize(s.u, n)
	s.sumVar = 0
	const counter = 1
	var first, last *row
	for i := range p.rows {
		r := &p.rows[i]
		if r.channel != counter {
			continue
		}
		if first == nil {
			first = r
		}
		last = r
		v += r.window * r.window * w.form[counter] * w.form[counter] * r.spread
		off += r.value * r.window
		for j, h := range r.weights {
			s.sum[r.first+j] += h * r.window
		}
	}
	if first == last {
		return 0, 0, false
	}
	for _, r := range []*row{first, last} {
		v += r.window * r.window * (w.sd[counter]*w.sd[counter] + r.tick/2)
	}
	copy(s.u, s.sum)
	s.a.Solve(s.u)
	for j, h := range s.sum {
		off -= h * s.x[j]
		v += h * s.u[j]
	}
	for j, u := range s.u {
		s.x[j] += u * off / v
	}
	s.sumVar = v
	return off, v, true
}

func resize(x []float64, n int) []float64 {
	if cap(x) < n {
		return make([]float64, n)
	}
	x = x[:n]
	clear(x)
	return x
}

// settle writes the outcome of solve into the patch.
func (s *solver) settle(p *patch) {
	n, k := len(p.ends)-1, p.segments
	p.joules, p.cov, p.seen = resize(p.joules, k), resize(p.cov, k*k), resize(p.seen, k)
	p.drifts, p.moving = resize(p.drifts, maxParams*k), 0
	z := resize(s.z, n*k) // of each segment n: what its energy has to do with that of the cells
	s.z = z
	for i, g := range p.segment {
		if g < 0 {
			continue
		}
		d := p.ends[i+1] - p.ends[i]
		p.joules[g] += d * s.x[i]
		z[g*n+i] = d
	}
	for g := range k {
		zg := z[g*n : (g+1)*n]
		s.a.Solve(zg)
		if s.sumVar == 0 {
			continue
		}
		at := 0.0
		for j, h := range s.sum {
			at += h * zg[j]
		}
		for j, u := range s.u {
			zg[j] -= u * at / s.sumVar
		}
	}
	for i, g := range p.segment {
		if g < 0 {
			continue
		}
		d := p.scale * (p.ends[i+1] - p.ends[i])
		for j := range k {
			p.cov[g*k+j] += d * z[j*n+i]
		}
	}
	for i := range p.rows {
		r := &p.rows[i]
		for j, g := range p.segment[r.first:r.last] {
			if g >= 0 {
				p.seen[g] += r.weights[j]
			}
		}
		// A channel that is later than thought by a second shows what the
		// model would have shown a second before.
		of := int(r.channel) * perChannel
		late, gain := p.move(of+paramLate), p.move(of+paramGain)
		var wide []float64
		ends := 0.0 // W/s: what a second more would show
		if p.wide[r.channel] > 0 {
			wide, ends = p.move(of+paramWindow), s.ends(p, r)
		}
		for g := range k {
			at := 0.0
			for j, v := range z[g*n:][r.first:r.last] {
				at += r.weights[j] * v
			}
			at *= s.weights[i]
			late[g] += r.steep * at
			gain[g] += r.value * at
			if wide != nil {
				wide[g] += ends * at
			}
		}
	}
	for c := range channels {
		if late := p.drift(c*perChannel + paramLate); late != nil {
			copy(p.move(c*perChannel+paramEarly), late)
		}
	}
}

// ends is what a reading would show for each second by which its window is wider about its
// middle: of the power at its ends more, and of what it shows less, W/s.
func (s *solver) ends(p *patch, r *row) float64 {
	c := &p.chains[r.channel]
	until := r.at - c.lag - c.tau
	watts := func(at float64) float64 {
		i := r.first
		for i+1 < r.last && p.ends[i+1] <= at {
			i++
		}
		return s.x[i]
	}
	shown := 0.0
	for j, h := range r.weights {
		shown += h * s.x[r.first+j]
	}
	return ((watts(until)+watts(until-r.window))/2 - shown) / r.window
}

// sway finds what it comes to if a channel of which that is known badly is later
// or earlier than thought by one standard deviation: where that takes a reading over
// an edge, the slope at the edge does not tell.
func (s *solver) sway(p *patch, tracks []*track) {
	scale := p.scale
	for c := range channels {
		if p.doubt[c] > 0 && !tracks[c].counts {
			s.miss(p, int8(c))
		}
	}
	for c := range channels {
		by := p.unsure(c)
		late := p.drift(c*perChannel + paramLate)
		if late == nil {
			continue
		}
		if g := tracks[c].instead; g.odds > leastOdds {
			other, window, was := p.move(c*perChannel+paramWindow), tracks[c].response.window, p.chains[c]
			p.chains[c] = chain{g.tau, was.lag + was.tau - g.tau + (window-g.window)/2 + g.later}
			s.window(p, c, g.window)
			s.differ(p, other, 1)
			p.chains[c] = was
			s.window(p, c, window)
			s.weigh(p)
		}
		if by < leastSway {
			continue
		}
		early := p.drift(c*perChannel + paramEarly)
		for _, way := range []struct {
			by    float64
			drift []float64
		}{{by, late}, {-by, early}} {
			p.chains[c].lag += way.by
			s.differ(p, way.drift, way.by)
			p.chains[c].lag -= way.by
		}
		s.weigh(p)
	}
	p.scale = scale
}

// miss adds to the variances what it comes to if one of a channel's readings is not
// of the update that it is taken for, but of one next to it: then it tells nothing
// of what it is thought to, which may be most of what is known of a short event.
func (s *solver) miss(p *patch, channel int8) {
	u := resize(s.z, len(p.ends)-1)
	s.z = u
	s.w = resize(s.w, p.segments)
	most := s.w // J², of each segment
	for i := range p.rows {
		r := &p.rows[i]
		if r.channel != channel {
			continue
		}
		clear(u)
		copy(u[r.first:], r.weights)
		s.a.Solve(u)
		left := 1 / s.weights[i]
		for j, h := range r.weights {
			left -= h * u[r.first+j]
		}
		at := 0.0
		for j, g := range p.segment {
			if g >= 0 {
				at += (p.ends[j+1] - p.ends[j]) * u[j]
			}
			if g >= 0 && (j+1 == len(p.segment) || p.segment[j+1] != g) {
				most[g] = max(most[g], at*at/left)
				at = 0
			}
		}
	}
	for g, v := range most {
		p.cov[g*p.segments+g] += missOdds * p.scale * v
	}
}

const (
	missOdds  = 0.1   // that a reading is of another update, where which one it is of is in doubt
	leastSway = 0.002 // s
	leastOdds = 0.01
)

// window takes a channel's readings for means over a window.
func (s *solver) window(p *patch, c int, window float64) {
	for i := range p.rows {
		if int(p.rows[i].channel) == c {
			p.rows[i].window = window
		}
	}
}

// differ solves a patch that was changed, and writes by how much its segments'
// energy is another, over by.
func (s *solver) differ(p *patch, drift []float64, by float64) {
	s.weigh(p)
	if _, ok := s.solve(p, p.noise, 0, false); !ok {
		return
	}
	for g := range drift {
		drift[g] = -p.joules[g]
	}
	for i, g := range p.segment {
		if g >= 0 {
			drift[g] += (p.ends[i+1] - p.ends[i]) * s.x[i]
		}
	}
	for g := range drift {
		drift[g] /= by
	}
}

// lateness is what a patch, once solved, tells of how much later than thought a
// channel is: the likelihood's slope and curvature over it, 1/s and 1/s².
func (s *solver) lateness(p *patch, channel int8) (slope, curvature float64) {
	u := resize(s.z, len(p.ends)-1)
	s.z = u
	for i := range p.rows {
		r := &p.rows[i]
		if r.channel != channel {
			continue
		}
		rest := r.value
		for j, h := range r.weights {
			rest -= h * s.x[r.first+j]
			u[r.first+j] += s.weights[i] * r.steep * h
		}
		slope -= s.weights[i] * r.steep * rest
		curvature += s.weights[i] * r.steep * r.steep
	}
	s.w = append(s.w[:0], u...)
	s.a.Solve(u)
	for i, v := range s.w {
		curvature -= v * u[i]
	}
	return slope / p.scale, math.Max(0, curvature) / p.scale
}

// tell is what patches tell of how much more slowly than thought a channel follows the power, with
// its delay as it is, and how much later: the likelihood's slopes, 1/s, and curvatures, 1/s².
type tell struct{ slow, late, slows, lates, both float64 }

// slowness is what a patch, once solved, tells of that.
func (s *solver) slowness(p *patch, channel int8) (x tell) {
	const by = 0.0003 // s
	c := &p.chains[channel]
	was := *c
	dull := make([]float64, len(p.rows)) // W/s: what a second more would show
	for _, way := range []float64{by, -by} {
		*c = chain{was.tau + way, was.lag - way}
		s.weigh(p)
		for i := range p.rows {
			if r := &p.rows[i]; r.channel == channel {
				for j, h := range r.weights {
					dull[i] += h * s.x[r.first+j] / way / 2
				}
			}
		}
	}
	*c = was
	s.weigh(p)
	n := len(p.ends) - 1
	slow, late := make([]float64, n), make([]float64, n)
	for i := range p.rows {
		r := &p.rows[i]
		if r.channel != channel {
			continue
		}
		rest, weight := r.value, s.weights[i]
		for j, h := range r.weights {
			rest -= h * s.x[r.first+j]
			slow[r.first+j] += weight * dull[i] * h
			late[r.first+j] -= weight * r.steep * h
		}
		x.slow += weight * dull[i] * rest
		x.late -= weight * r.steep * rest
		x.slows += weight * dull[i] * dull[i]
		x.lates += weight * r.steep * r.steep
		x.both -= weight * dull[i] * r.steep
	}
	slowed, later := append([]float64(nil), slow...), append([]float64(nil), late...)
	s.a.Solve(slowed)
	s.a.Solve(later)
	for i := range n {
		x.slows -= slow[i] * slowed[i]
		x.lates -= late[i] * later[i]
		x.both -= slow[i] * later[i]
	}
	x.slow, x.late, x.both = x.slow/p.scale, x.late/p.scale, x.both/p.scale
	x.slows, x.lates = max(0, x.slows)/p.scale, max(0, x.lates)/p.scale
	return x
}
