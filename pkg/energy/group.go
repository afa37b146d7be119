package energy

import (
	"math"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// groups learn what events of one kind have in common, so that one whose own
// readings tell little is told with the help of the others.
type groups struct {
	means map[kind]*pool
}

// pool is the mean power of the events of one kind, from regressions over all
// patches, each batch weighted by its precision.
type pool struct {
	weighted, weight float64 // W/W², 1/W²
	seconds          float64 // of the events
	own              float64 // of their information, added up
	n                int
}

// minGroup is how many events make a kind: below it a spread is not to be had.
const minGroup = 6

// leastSpread is by how much events of one kind differ though no reading shows it, as a
// share, one standard deviation: where readings do show it, this is nothing beside what they
// tell of each.
const leastSpread = 0.02

// kin is the events of one kind in a batch.
type kin struct {
	key      kind
	index    int
	power, v []float64 // each by its own readings: W, W²
	mean     float64   // W
	meanVar  float64   // W², of the mean
	between  float64   // W², from one event to the next
	drift    [maxParams]float64
	beat     [channels]beat
}

// beat is when events begin within the updates of a channel.
type beat struct{ cos, sin float64 }

func (b *beat) add(ns int64, update float64) {
	sin, cos := math.Sincos(2 * math.Pi * math.Mod(float64(ns)/1e9/update, 1))
	b.cos, b.sin = b.cos+cos, b.sin+sin
}

// locked says that n events begin at about the same point of an update: what a
// sensor that sees a part of the time shows of them is always the same part.
func (b *beat) locked(n int) bool {
	return n >= minGroup && math.Hypot(b.cos, b.sin) > 0.9*float64(n)
}

// kind is what makes events alike: work of one name on as many tokens, behind as
// long a prompt, and about as long.
type kind struct {
	groupKey
	input, output int64
	octave        int
}

func kindOf(e *record.Event) kind {
	return kind{keyOf(e), e.InputTokens.Or(0), e.OutputTokens.Or(0), int(math.Floor(math.Log2(e.Duration())))}
}

// findWhole finds the segments that are exactly one event.
func (p *patch) findWhole() {
	for range p.segments {
		p.whole = append(p.whole, nil)
	}
	n, before, first := 0, 0, 0 // the time's number, its first edge, and that of the time before
	for i, e := range p.edges {
		if i == 0 || e.ns != p.edges[i-1].ns {
			n, before, first = n+1, first, i
		}
		if e.start || p.whole[n-1] != nil {
			continue
		}
		for _, o := range p.edges[before:first] {
			if o.start && o.share == e.share {
				p.whole[n-1] = e.share
			}
		}
	}
}

func (p *patch) seconds(g int) float64 {
	s := p.whole[g]
	return float64(s.event.event.EndNS-s.event.event.StartNS) / 1e9
}

// shrink draws each event towards its kind as far as its own readings leave it
// open, patch by patch, so that what one event gains its neighbours lose.
func (g *groups) shrink(held []*patch, tracks []*track) {
	kinds := map[kind]*kin{}
	var list []*kin
	for _, p := range held {
		if p.failed || len(p.readings) == 0 {
			continue
		}
		p.findWhole()
		for i, s := range p.whole {
			if s == nil {
				continue
			}
			key := kindOf(&s.event.event)
			k := kinds[key]
			if k == nil {
				k = &kin{key: key}
				kinds[key] = k
			}
			d := p.seconds(i)
			for c, t := range tracks {
				k.beat[c].add(s.event.event.StartNS, t.response.update)
			}
			k.power = append(k.power, p.joules[i]/d)
			k.v = append(k.v, p.cov[i*p.segments+i]/(d*d))
			for param := range maxParams {
				if dr := p.drift(param); dr != nil {
					k.drift[param] += dr[i] / d
				}
			}
		}
	}
	for _, k := range kinds {
		n := float64(len(k.power))
		k.mean, k.between = heterogeneity(k.power, k.v)
		// A spread found from few may be more.
		k.between *= 1 + 2*math.Sqrt(2/max(n-1, 1))
		sum := 0.0
		for _, w := range k.power {
			sum += w
		}
		least := leastSpread * sum / n
		k.between = max(k.between, spreadAtMost(k.power, k.v), least*least)
		for i := range k.drift {
			k.drift[i] /= n
		}
	}
	for _, p := range held {
		for _, s := range p.whole {
			if s == nil {
				continue
			}
			if k := kinds[kindOf(&s.event.event)]; len(k.power) >= minGroup && k.index == 0 && len(list) < 64 {
				list = append(list, k)
				k.index = len(list)
			}
		}
	}
	for _, p := range held {
		for _, s := range p.whole {
			if s == nil {
				continue
			}
			k := kinds[kindOf(&s.event.event)]
			for c := range tracks {
				s.locked[c] = k.beat[c].locked(len(k.power))
			}
		}
	}
	if len(list) == 0 {
		return
	}
	regress(held, kinds, list)
	for _, k := range list {
		m := g.means[k.key]
		if m == nil {
			m = &pool{}
			g.means[k.key] = m
		}
		m.n += len(k.power)
		if k.meanVar > 0 {
			m.weighted += k.mean / k.meanVar
			m.weight += 1 / k.meanVar
		}
	}
	for _, p := range held {
		if p.failed || p.whole == nil {
			continue
		}
		g.pull(p, kinds)
	}
}

// heterogeneity is the mean of estimates with variances of their own, and the
// variance between what they estimate (Paule and Mandel).
func heterogeneity(x, v []float64) (mean, between float64) {
	return spreadFor(x, v, float64(len(x)-1))
}

// spreadAtMost is the variance between what estimates estimate under which they would
// differ by as little as they do one time in ten: estimates that are wide tell little of it.
func spreadAtMost(x, v []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	n := 2 / (9 * float64(len(x)-1))
	part := 1 - n - 1.2816*math.Sqrt(n) // of chi², to the third root (Wilson and Hilferty)
	_, between := spreadFor(x, v, float64(len(x)-1)*part*part*part)
	return between
}

// spreadFor is the mean, and the variance between what estimates estimate for which the sum
// of squares about it, over the variances, is what is wanted.
func spreadFor(x, v []float64, want float64) (mean, between float64) {
	at := func(t float64) (mean, q float64) {
		sum, w := 0.0, 0.0
		for i := range x {
			sum += x[i] / (v[i] + t)
			w += 1 / (v[i] + t)
		}
		mean = sum / w
		for i := range x {
			q += (x[i] - mean) * (x[i] - mean) / (v[i] + t)
		}
		return mean, q
	}
	mean, q := at(0)
	if q <= want || len(x) < 2 {
		return mean, 0
	}
	lo, hi := 0.0, 1.0
	for _, q = at(hi); q > want && hi < 1e12; _, q = at(hi) {
		hi *= 4
	}
	for range 60 {
		mid := (lo + hi) / 2
		if _, q = at(mid); q > want {
			lo = mid
		} else {
			hi = mid
		}
	}
	mean, _ = at(hi)
	return mean, hi
}

// regress finds the kinds' mean powers together: where two always lie in the
// same readings, what the one has more the other has less, and only their
// various lengths and distances tell them apart.
func regress(held []*patch, kinds map[kind]*kin, list []*kin) {
	n := len(list)
	normal, right := make([]float64, n*n), make([]float64, n)
	for _, p := range held {
		if p.failed || p.whole == nil {
			continue
		}
		m, ok := p.members(kinds)
		if !ok {
			continue
		}
		// Rows of design·inverse: kind a's events summed over.
		for i, a := range m.kin {
			for j, b := range m.kin {
				w := m.inverse[i*len(m.kin)+j] * m.seconds[i]
				normal[(a.index-1)*n+b.index-1] += w * m.seconds[j]
				right[a.index-1] += w * m.joules[j]
			}
		}
	}
	for i := range n {
		normal[i*n+i] *= 1 + 1e-9
	}
	inverse, ok := stats.Invert(normal, n)
	if !ok {
		return
	}
	for i, a := range list {
		a.mean = 0
		for j := range list {
			a.mean += inverse[i*n+j] * right[j]
		}
		a.meanVar = inverse[i*n+i]
	}
}

// members are the events of a patch that belong to kinds.
type members struct {
	at      []int // segments
	kin     []*kin
	seconds []float64
	joules  []float64
	inverse []float64 // of their covariance, that between events included
}

func (p *patch) members(kinds map[kind]*kin) (m members, ok bool) {
	for i, s := range p.whole {
		if s == nil {
			continue
		}
		if k := kinds[kindOf(&s.event.event)]; k != nil && k.index > 0 {
			m.at, m.kin = append(m.at, i), append(m.kin, k)
			m.seconds, m.joules = append(m.seconds, p.seconds(i)), append(m.joules, p.joules[i])
		}
	}
	n := len(m.at)
	if n == 0 {
		return m, false
	}
	c := make([]float64, n*n)
	for i, a := range m.at {
		for j, b := range m.at {
			c[i*n+j] = p.cov[a*p.segments+b]
		}
		c[i*n+i] += m.kin[i].between*m.seconds[i]*m.seconds[i] + 1e-9
	}
	m.inverse, ok = stats.Invert(c, n)
	return m, ok
}

// pull draws a patch's events towards their kinds.
func (g *groups) pull(p *patch, kinds map[kind]*kin) {
	m, ok := p.members(kinds)
	if !ok {
		return
	}
	n, k := len(m.at), p.segments
	gain := make([]float64, k*n)
	for s := range k {
		for j := range n {
			for i := range n {
				gain[s*n+j] += p.cov[s*k+m.at[i]] * m.inverse[i*n+j]
			}
		}
	}
	away := make([]float64, n)
	for i := range n {
		away[i] = m.kin[i].mean*m.seconds[i] - m.joules[i]
	}
	cov := make([]float64, k*k)
	copy(cov, p.cov)
	for s := range k {
		for j := range n {
			p.joules[s] += gain[s*n+j] * away[j]
		}
		for q := range k {
			for j := range n {
				cov[s*k+q] -= gain[s*n+j] * p.cov[m.at[j]*k+q]
				// The kind's mean is not exact either.
				for i := range n {
					if m.kin[i] == m.kin[j] {
						cov[s*k+q] += gain[s*n+j] * gain[q*n+i] * m.kin[j].meanVar * m.seconds[i] * m.seconds[j]
					}
				}
			}
		}
	}
	for param := range maxParams {
		d := p.drift(param)
		if d == nil {
			continue
		}
		change := make([]float64, n)
		for j := range n {
			change[j] = m.kin[j].drift[param]*m.seconds[j] - d[m.at[j]]
		}
		for s := range k {
			for j := range n {
				d[s] += gain[s*n+j] * change[j]
			}
		}
	}
	for j := range n {
		own := 1 - min(1, max(0, gain[m.at[j]*n+j]))
		p.whole[m.at[j]].own = own
		p.whole[m.at[j]].alone = p.cov[m.at[j]*k+m.at[j]]
		pool := g.means[m.kin[j].key]
		pool.seconds += m.seconds[j]
		pool.own += own
	}
	p.cov = cov
}

// pool gives the groups whose events' own readings tell little the mean that
// the regression over all of them found. A group of several kinds, or one on
// several GPUs, has none.
func (a *Attributor) pool() {
	of := map[groupKey][]*pool{}
	for _, b := range a.inOrder() {
		if b.power == nil {
			continue
		}
		for k, m := range b.power.solution.group.means {
			all := k.groupKey
			all.context = record.Opt[int64]{}
			of[all] = append(of[all], m)
			if k.context.OK {
				of[k.groupKey] = append(of[k.groupKey], m)
			}
		}
	}
	for key, pools := range of {
		g, m := a.groups.of[key], pools[0]
		if len(pools) > 1 || g == nil || m.n < g.WithEnergy || m.weight <= 0 || m.own > 0.9*float64(m.n) {
			continue
		}
		seconds := m.seconds / float64(m.n)
		g.pooled(m.weighted/m.weight*seconds, seconds/math.Sqrt(m.weight))
	}
}
