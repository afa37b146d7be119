package energy

import (
	"math"

	"joulepipe/pkg/record"
)

// Values of [record.Energy].Quality, the rule of TR122 §10.3.
const (
	NoData = "no_data" // fewer than 2 readings inside the event
	Gappy  = "gappy"   // readings inside, with holes
	Good   = "good"
)

// Values of [record.Energy].Tier, from worst to best.
const (
	Refused  = "refused"  // there is no number, or none that can stand
	Estimate = "estimate" // an order of magnitude
	Analysis = "analysis" // good enough to compare
	Billable = "billable" // good enough to charge for
)

// Rules are the thresholds of the quality gates. They judge the spacing of the
// readings, not their truth: a slow sensor passes them with wrong numbers.
type Rules struct {
	GapS             float64 // a spacing longer than this is a gap, s
	GappyFraction    float64 // gappy above this share of the event in gaps
	GappyMaxGapS     float64 // gappy above this longest spacing, s
	RefuseFraction   float64 // refused at this share of the event in gaps
	BillableS        float64 // billable needs an event longer than this, s
	BillableReadings int64   // and more readings than this
	BillableFraction float64 // and less than this share in gaps
	AverageS         float64 // on a 1 s averaging channel nothing shorter is better than an estimate, s
}

// DefaultRules are TR122's thresholds (§2.3, §2.6, §10.3). AverageS is ours: a
// mean over 1 s that is integrated as it is moves half a second's worth of
// power over each edge of an event.
func DefaultRules() Rules {
	return Rules{
		GapS:             0.25,
		GappyFraction:    0.10,
		GappyMaxGapS:     0.5,
		RefuseFraction:   0.10,
		BillableS:        1,
		BillableReadings: 8,
		BillableFraction: 0.05,
		AverageS:         5,
	}
}

// Quality is TR122's label for an event with so many readings inside.
func (r Rules) Quality(readings int64, gapFraction, maxGapS float64) string {
	switch {
	case readings < 2:
		return NoData
	case readings == 2 || gapFraction > r.GappyFraction || maxGapS > r.GappyMaxGapS:
		return Gappy
	}
	return Good
}

// Tier is TR122's tier for an event of that length.
func (r Rules) Tier(durationS float64, readings int64, gapFraction float64) string {
	switch {
	case readings < 2 || gapFraction >= r.RefuseFraction:
		return Refused
	case durationS > r.BillableS && readings > r.BillableReadings && gapFraction < r.BillableFraction:
		return Billable
	}
	return Estimate
}

func seconds(s float64) int64 { return int64(math.Round(s * 1e9)) }

func some(v float64) record.Opt[float64] { return record.Some(v) }

type opt = record.Opt[float64]
