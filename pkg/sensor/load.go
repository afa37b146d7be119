package sensor

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"joulepipe/pkg/record"
)

// work is what is known of the load on one GPU: when it switched, and between
// which levels. Levels are numbers of unknowns: how many watts they are is
// fitted.
type work struct {
	edges  []edge
	levels int
	base   int       // level before the first edge
	alike  [][2]int  // levels that are about the same
	pinned bool      // long loads tell how high the short ones are
	skew   float64   // ms, the most that falls can be later or earlier than rises
	blind  []segment // under a load of unknown shape
}

// edge is a switch of the load at a time in ms. Where fall, the load was
// switched off; where neither rise nor fall, the same load goes on at a level
// of its own, because power drifts.
type edge struct {
	at         float64
	level      int
	rise, fall bool
}

const (
	mostSkewMS = 150 // how far rises and falls of a load may be off against each other,
	mostSkew   = 0.4 // and how much of the shortest load or gap: no load swallows its gaps

	longMS   = 1800 // a stretch so long has levels of its own
	onsetMS  = 600  // so long a rested board takes to reach the power of a load
	settleMS = 3000 // after so long nothing of an edge is left in any window
)

// segment is a stretch of load.
type segment struct {
	from, until float64
	name        string // loads of one name are of one level
}

func (s segment) overlaps(o segment) bool { return s.from < o.until && o.from < s.until }

// layOut makes edges of loaded segments; what lies between them is without
// load. Short segments of one name share a level, but for those at the onset of
// a load after a rest: boards take them more slowly.
// Where loads overlap nobody knows the level. Without any load it is nil.
func layOut(all []segment) *work {
	slices.SortFunc(all, func(a, b segment) int { return cmp.Compare(a.from, b.from) })
	w := &work{levels: 1}
	var loaded []segment
	for _, s := range all {
		n := len(loaded)
		if n == 0 || !s.overlaps(loaded[n-1]) {
			loaded = append(loaded, s)
			continue
		}
		last := &loaded[n-1]
		last.until = max(last.until, s.until)
		w.blind = append(w.blind, *last)
	}
	if len(loaded) == 0 {
		return nil
	}
	named, long := map[string]int{}, map[string]int{}
	level := func(name string, duration float64) int {
		pooled := name != "" && duration < longMS
		if l, ok := named[name]; ok && pooled {
			return l
		}
		w.levels++
		if pooled {
			named[name] = w.levels - 1
		} else if name != "" {
			long[name] = w.levels - 1
		}
		return w.levels - 1
	}
	onset := math.Inf(-1)
	w.skew = mostSkewMS
	put := func(name string, from, until float64, rise, fall bool) {
		first := name
		if from < onset+onsetMS {
			first = "" // never pooled
		}
		w.edges = append(w.edges, edge{from, level(first, until-from), rise, fall})
		if until-from >= longMS {
			w.edges = append(w.edges, edge{at: (from + until) / 2, level: level(name, until-from)})
		}
	}
	for i, s := range loaded {
		if i == 0 || s.from-loaded[i-1].until >= longMS {
			onset = s.from
		}
		put("+"+s.name, s.from, s.until, true, false)
		w.skew = min(w.skew, (s.until-s.from)*mostSkew)
		next := s.until + 2*longMS
		if i+1 < len(loaded) {
			next = loaded[i+1].from
		}
		if next > s.until {
			put("-", s.until, next, false, true)
			w.skew = min(w.skew, (next-s.until)*mostSkew)
		}
	}
	if gap, ok := named["-"]; ok {
		w.alike = append(w.alike, [2]int{gap, w.base})
	}
	for name, l := range long {
		if short, ok := named[name]; ok {
			w.alike = append(w.alike, [2]int{short, l})
			w.pinned = w.pinned || name != "-"
		}
	}
	return w
}

// Phases of events during which a GPU has nothing to do.
var unloaded = []string{"idle", "baseline", "square_low", "response_low", "cool"}

// Phases of events made for the response test: one level each.
var steps = []string{"square_high", "burst", "response", "response_high"}

// fromEvents is the load of a GPU's events. Where some are made for the test,
// those are the loads of one level, and what others did meanwhile is not known;
// else each event of work is a load. An event around loads is only a bracket.
func fromEvents(windows map[string][]record.Window, gpu int, origin int64) *work {
	var made, other []segment
	for phase, ws := range windows {
		idle := slices.ContainsFunc(unloaded, func(p string) bool { return strings.HasPrefix(phase, p) })
		for _, w := range ws {
			s := segment{float64(w.FromNS-origin) / 1e6, float64(w.UntilNS-origin) / 1e6, phase}
			switch {
			case !w.Of(gpu) || s.until <= s.from || idle:
			case slices.Contains(steps, phase):
				made = append(made, s)
			default:
				other = append(other, s)
			}
		}
	}
	if len(made) == 0 {
		made, other = other, nil
	}
	w := layOut(made)
	for _, s := range other {
		if !slices.ContainsFunc(made, s.overlaps) {
			w.blind = append(w.blind, s)
		}
	}
	return w
}

// fromToggles is the load that switches on and off in turn, off at first; the
// same time twice is one switch. An odd one at the end is that of the last rest,
// which some programs write, too.
func fromToggles(times []int64, origin int64) *work {
	times = slices.Compact(slices.Sorted(slices.Values(times)))
	var loaded []segment
	ms := func(i int) float64 { return float64(times[i]-origin) / 1e6 }
	for i := 0; i+1 < len(times); i += 2 {
		loaded = append(loaded, segment{from: ms(i), until: ms(i + 1)})
	}
	return layOut(loaded)
}

// near keeps the rows around the edges, up to reach ms after one and half of it
// before the next, and says of each which edge came last before it.
func (w *work) near(rows []row, reach float64) (kept []row, cluster []int) {
	blind := func(at float64) bool {
		return slices.ContainsFunc(w.blind, func(s segment) bool { return at > s.from-100 && at < s.until+settleMS })
	}
	e := 0
	for _, r := range rows {
		for e < len(w.edges) && w.edges[e].at <= r.at {
			e++
		}
		after := e > 0 && r.at-w.edges[e-1].at < reach
		before := e < len(w.edges) && w.edges[e].at-r.at < reach/2
		if (after || before) && !blind(r.at) {
			kept, cluster = append(kept, r), append(cluster, e)
		}
	}
	return kept, cluster
}

// locked says whether the updates keep step with a train of short loads whose
// height nothing else tells: they leave out a tenth or more of its cycle. Any narrow window in what they do see
// then explains them, with a height of its own.
func (w *work) locked(rows []row) bool {
	var phases []float64 // 0 to 1 in loads, 1 to 2 in gaps
	e := 0
	for _, r := range rows {
		for e < len(w.edges) && w.edges[e].at <= r.at {
			e++
		}
		if e == 0 || e == len(w.edges) || w.edges[e].at-w.edges[e-1].at >= longMS/2 {
			continue
		}
		phase := (r.at - w.edges[e-1].at) / (w.edges[e].at - w.edges[e-1].at)
		if w.edges[e-1].fall {
			phase++
		}
		phases = append(phases, phase)
	}
	if w.pinned || len(phases) < len(rows)/2 || len(phases) < 20 {
		return false
	}
	slices.Sort(phases)
	hole := phases[0] + 2 - phases[len(phases)-1]
	for i, p := range phases[1:] {
		hole = max(hole, p-phases[i])
	}
	return hole > 0.2
}

// pin is what is known of the levels beside the readings: the gaps of a train
// are about as rest, and short loads of one name about as long ones. Readings
// that do not resolve a train leave its height open, and with it the window.
func (w *work) pin() [][2]int { return w.alike }

// spread appends to terms how much of each level a row at that time holds.
func (w *work) spread(terms []term, s shape, at float64) []term {
	newer := 0.0
	i, _ := slices.BinarySearchFunc(w.edges, at-s.LagMS+max(0, -s.skew), func(e edge, t float64) int { return cmp.Compare(e.at, t) })
	for i--; i >= 0; i-- {
		e := w.edges[i]
		x := at - e.at
		if e.fall {
			x -= s.skew
		}
		followed := max(newer, s.Answer(x))
		if followed > newer {
			terms = append(terms, term{e.level, followed - newer})
			newer = followed
		}
		if newer > 1-1e-9 {
			return terms
		}
	}
	return append(terms, term{w.base, 1 - newer})
}

// term is a share of one unknown.
type term struct {
	unknown int
	share   float64
}

// shape is what is fitted of a sensor.
type shape struct {
	Chain
	skew float64 // how much later than a rise the load's falls are, ms
}
