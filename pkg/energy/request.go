package energy

import (
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// The phase of TR122 §3.2 that ends a request, and that of a whole one.
const (
	phaseDecode  = "decode"
	phaseRequest = "request"
)

// requests puts the events of each request together. A request is what carries
// its request_id up to and including its decode. Those whose decode does not
// come are forgotten, the oldest first.
type requests struct {
	young, old map[requestKey]*request
	groups     tally
	designs    int // held by all groups, those of events too
}

var qualities = []string{NoData, Gappy, Good}

type requestKey struct {
	id, model string
	pid       int64
}

// request is the sum of the events that it has had so far.
type request struct {
	input               int64
	lengthNS            int64
	joules, operational float64
	own                 spread
	known, idle         bool
	quality, tier       string
	gain                opt
}

// maxOpen is how many requests may wait for their decode, at least.
const maxOpen = 1 << 12

// add takes an event in. If it completes a request, that is given back as an
// event whose energy and length are the sums of its parts', with the part of
// its uncertainty that is shared by all.
func (r *requests) add(e *record.Event, systematic float64) (whole *record.Event, shared float64) {
	if e.RequestID == "" || e.Phase == phaseRequest || tokens(e) == 0 {
		return nil, 0
	}
	k := requestKey{e.RequestID, e.Model, e.Whole("pid").Or(0)}
	q, ok := r.young[k]
	if !ok {
		q = r.old[k]
		delete(r.old, k)
	}
	if e.Phase == phaseDecode {
		delete(r.young, k)
		if q == nil {
			return nil, 0
		}
		q.add(e, systematic)
		return q.event(e), q.own.systematic
	}
	if q == nil {
		q = &request{known: true, idle: true, own: spread{told: true}, quality: Good, tier: Billable}
	}
	q.add(e, systematic)
	q.input += e.InputTokens.Or(0)
	if !ok {
		if r.young == nil || len(r.young) == maxOpen {
			r.old, r.young = r.young, map[requestKey]*request{}
		}
		r.young[k] = q
	}
	return nil, 0
}

func (q *request) add(e *record.Event, systematic float64) {
	q.lengthNS = plus(q.lengthNS, e.EndNS-e.StartNS)
	q.tier = worse(q.tier, e.Energy.Tier)
	q.quality = qualities[min(slices.Index(qualities, q.quality), slices.Index(qualities, e.Energy.Quality))]
	q.gain = e.Energy.GainUncertainty
	q.known = q.known && e.Energy.Joules.OK
	q.idle = q.idle && e.Energy.OperationalJ.OK
	q.joules += e.Energy.Joules.V
	q.operational += e.Energy.OperationalJ.V
	own := spreadOf(e.Energy, systematic)
	q.own.told = q.own.told && own.told
	q.own.variance += own.variance
	q.own.systematic += own.systematic
	q.own.baseline += own.baseline
}

// event is the request as one event, its decode the last of its parts.
func (q *request) event(decode *record.Event) *record.Event {
	energy := &record.Energy{Quality: q.quality, Tier: q.tier, GainUncertainty: q.gain}
	if q.known {
		energy.Joules = some(q.joules)
		if q.idle {
			energy.OperationalJ = some(q.operational)
		}
		if q.own.told {
			sd := math.Hypot(math.Sqrt(q.own.variance), q.own.systematic)
			energy.CI95J = some(stats.Z95 * sd)
			energy.OperationalCI95J = some(stats.Z95 * math.Hypot(sd, q.own.baseline))
		}
	}
	return &record.Event{
		Phase: phaseRequest, EndNS: q.lengthNS, Model: decode.Model, BatchSize: decode.BatchSize,
		InputTokens: record.Some(q.input), OutputTokens: decode.OutputTokens, Energy: energy, Extra: decode.Extra,
	}
}
