package energy

import "slices"

// How the power of requests that run at the same time is split between them.
const (
	SplitTokens = "tokens" // in proportion to the tokens a second that each is worth over its length
	SplitEqual  = "equal"  // to each the same
	SplitTime   = "time"   // in proportion to their lengths
)

// Splits are the names that [Options].Split takes.
func Splits() []string { return []string{SplitTokens, SplitEqual, SplitTime} }

// weight is an event's claim beside others.
func (a *Attributor) weight(p *pending) float64 {
	d := p.event.Duration()
	switch {
	case a.opts.Split == SplitEqual || d <= 0:
		return 1
	case a.opts.Split == SplitTime:
		return d
	}
	return float64(tokens(&p.event)) / d
}

// part is how much of the power, while those events are going on, is s's, and
// with how many other requests it shares it. An event without request_id is a
// window: all that happens in it is its own. Events of one request do not share
// with each other, and one that names a process does not share with those of
// others: they divide the GPU beforehand.
func (s *share) part(active []*share) (part float64, with int) {
	id := s.event.event.RequestID
	if id == "" {
		return 1, 0
	}
	active = s.rivals(active)
	var sum, own float64
	requests, open := 0, false
	for i, o := range active {
		name := o.event.event.RequestID
		if name == "" || !innermost(active, i) {
			continue
		}
		requests++
		w := o.event.weight
		open = open || w <= 0
		sum += w
		if name == id {
			own = w
		}
	}
	with = max(0, requests-1)
	switch {
	case with == 0:
		return 1, with
	case open:
		return 1 / float64(requests), with
	}
	return own / sum, with
}

// rivals are the events of those that may share with s.
func (s *share) rivals(active []*share) []*share {
	another := func(o *share) bool { return o.event.pid != 0 && o.event.pid != s.event.pid }
	if s.event.pid == 0 || !slices.ContainsFunc(active, another) {
		return active
	}
	return slices.DeleteFunc(slices.Clone(active), another)
}

// innermost says whether the event is the shortest of its request's: the one
// that says what the request is doing.
func innermost(active []*share, i int) bool {
	e := &active[i].event.event
	for j, o := range active {
		x := &o.event.event
		if j == i || x.RequestID != e.RequestID {
			continue
		}
		if d, od := e.EndNS-e.StartNS, x.EndNS-x.StartNS; od < d || od == d && j < i {
			return false
		}
	}
	return true
}

// meet counts, where power is not split, the events of other requests that have a part of
// an event's time on one of its GPUs. Events come in the order of their starts, so that
// only those which have not ended are to be looked at: of requests one after the other
// none. As in [share.part], an event without request_id is a window around others.
func (a *Attributor) meet(p *pending) {
	if a.opts.Method == Auto || p.event.RequestID == "" || p.untimely || p.event.EndNS <= p.event.StartNS {
		return
	}
	kept := a.running[:0]
	for _, o := range a.running {
		if o.event.EndNS <= p.event.StartNS {
			continue
		}
		kept = append(kept, o)
		if a.apart(p, o) {
			continue
		}
		p.beside++
		o.beside++
	}
	clear(a.running[len(kept):])
	a.running = append(kept, p)
}

// apart says that events at the same time have no power in common: they are of one
// request, of two processes that have the GPU divided beforehand, or on other GPUs.
func (a *Attributor) apart(p, o *pending) bool {
	return o.event.RequestID == p.event.RequestID ||
		a.opts.Method != TR122 && o.pid != 0 && p.pid != 0 && o.pid != p.pid ||
		!p.meets(o)
}

// meets says that two events have a GPU in common.
func (p *pending) meets(o *pending) bool {
	return slices.ContainsFunc(p.boards, func(b *board) bool { return slices.Contains(o.boards, b) })
}

// maxWindows is how many events without request_id that go on are looked at: more are not
// a few frames around others, and of those that cross enough is found.
const maxWindows = 64

// cross notices whether an event crosses another, where neither has a request_id.
func (a *Attributor) cross(p *pending) {
	e := &p.event
	if e.RequestID != "" || p.untimely || e.EndNS <= e.StartNS {
		return
	}
	kept, crosses := a.windows[:0], false
	for _, o := range a.windows {
		if o.event.EndNS <= e.StartNS {
			continue
		}
		kept = append(kept, o)
		crosses = crosses || o.event.StartNS < e.StartNS && o.event.EndNS < e.EndNS && o.pid == p.pid && p.meets(o)
	}
	if crosses {
		a.crossing++
	}
	clear(a.windows[len(kept):])
	if a.windows = kept; len(kept) < maxWindows {
		a.windows = append(kept, p)
	}
}
