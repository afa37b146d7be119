package recording

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
	"joulepipe/pkg/stream"
)

// Billing is what package energy makes of known work that is read the way the
// recording was: at its times, through a sensor of its class, with its noise.
type Billing struct {
	Assumed string  `json:"assumed"` // what the sensor was taken for, and the work
	IdleW   float64 `json:"idle_watts"`
	LoadW   float64 `json:"load_watts"`
	// Edge is how uncertain the energy of the recording's own work is, as the time
	// that its ends are uncertain by; of Stretches of work that its power shows.
	Edge      record.Opt[float64] `json:"edge_s,omitzero"`
	Stretches int                 `json:"stretches"`
	Rungs     []Rung              `json:"rungs"`
	BillableS record.Opt[float64] `json:"billable_s,omitzero"` // events of that length and longer are good for it; absent: none that was tried
	AnalysisS record.Opt[float64] `json:"analysis_s,omitzero"`
	EstimateS record.Opt[float64] `json:"estimate_s,omitzero"`
	Limits    []string            `json:"limits"` // why shorter ones are not
}

// Rung is events of one length.
type Rung struct {
	Seconds float64             `json:"seconds"`
	Events  int                 `json:"events"`
	Tier    string              `json:"tier"`            // that nine in ten get or better
	Error   record.Opt[float64] `json:"error,omitzero"`  // nine in ten are off by no more than this share
	Inside  record.Opt[float64] `json:"inside,omitzero"` // share of the intervals with the truth in them
	Why     string              `json:"why,omitempty"`
}

// lengths of the events that are tried, s, and how many of each.
var lengths = []struct {
	s float64
	n int
}{{0.05, 10}, {0.1, 10}, {0.2, 10}, {0.4, 10}, {0.7, 10}, {1.2, 8}, {2, 8}, {3, 8}, {5, 6}, {10, 4}, {20, 2}}

// tiers from worst to best.
var tiers = []string{energy.Refused, energy.Estimate, energy.Analysis, energy.Billable}

// mostReads bounds the trial: times are taken from the recording's beginning
// and come again.
const mostReads = 400_000

// bill tries events of all lengths on the channel that energy would go by.
func (g *GPU) bill() {
	name := g.best()
	c := g.Channels[name]
	if c == nil || len(g.reads) < 20 && name != record.ChannelDriver {
		return
	}
	g.Use = name
	b := &Billing{Limits: []string{}}
	b.IdleW, b.LoadW = g.swing()
	m, response, assumed := g.model(name, c)
	waver := g.waver(m, b.IdleW, b.LoadW)
	b.Assumed = fmt.Sprintf("%s; work of up to %.0f W that wavers by %.2g %% within some 50 ms, rests of %.0f W or other work of 0.05 to 3 s before and after",
		assumed, b.LoadW, 100*waver, b.IdleW)
	work, truth, curve := trial(b.IdleW, b.LoadW, waver)
	var emitted []*record.Event
	a, err := energy.New(energy.Options{Sensors: response}, func(e *record.Event) error {
		emitted = append(emitted, e.Clone())
		return nil
	})
	if err != nil {
		panic(err) // the options are constants
	}
	end := work[len(work)-1].EndNS + 5e9
	next := 0
	noise := scatter(g.levels)
	rnd := rand.New(rand.NewPCG(1, 2))
	shown, at := 0.0, int64(-1)
	g.replay(name, end, func(ns int64) {
		for next < len(work) && work[next].StartNS <= ns {
			_ = a.Event(&work[next]) // of one GPU, which there is
			next++
		}
		update := ns
		if m.Update > 0 {
			update = ns - ns%int64(m.Update)
		}
		if update != at {
			at, shown = update, max(0.1, m.Reading(curve, ns)+noise*rnd.NormFloat64())
		}
		_ = a.Observe(sample(name, ns, shown))
	})
	for ; next < len(work); next++ {
		_ = a.Event(&work[next])
	}
	_ = a.Finish()
	b.Edge, b.Stretches = g.edges(name, m, response, b.IdleW, b.LoadW)
	b.climb(emitted, truth)
	g.Billing = b
}

// sample is a reading of a channel.
func sample(channel string, ns int64, w float64) record.Record {
	switch channel {
	case record.ChannelDriver:
		return &record.Power{TimeNS: ns, PowerW: w}
	case record.ChannelInstant:
		return &record.Sample{TimeNS: ns, ReadOK: true, PowerInstantW: record.Some(w)}
	case record.ChannelAverage:
		return &record.Sample{TimeNS: ns, ReadOK: true, PowerAverageW: record.Some(w)}
	}
	return &record.Sample{TimeNS: ns, ReadOK: true, PowerW: record.Some(w)}
}

// swing is the power at rest and at work that the recording shows; where it
// shows one level only, work takes twice that.
func (g *GPU) swing() (idle, load float64) {
	s := sorted(g.levels)
	idle, load = g.Idle.Watts.Or(stats.Quantile(s, 0.05)), stats.Quantile(s, 0.95)
	if !(idle > 0) {
		idle = 50
	}
	if load < idle+10 {
		load = 2 * idle
	}
	return idle, load
}

// waver is by how much the power of work goes up and down, as a share of its
// height above rest, as far as the sensor shows it.
func (g *GPU) waver(m sensor.Model, idle, load float64) float64 {
	if m.Window < m.Update {
		return 1.0 / 3 // most of it is not seen
	}
	half := idle + (load-idle)/2
	var at []float64
	for _, v := range g.levels {
		if !(v > half) {
			v = math.NaN()
		}
		at = append(at, v)
	}
	if len(sorted(at)) < 30 {
		return 1.0 / 3 // too little work to tell
	}
	sd := scatter(at)
	if m.Update > 0 && m.Window > m.Update {
		// Neighbouring means share all but one update.
		sd *= float64(m.Window) / float64(m.Update)
	}
	return min(math.Sqrt(3)*sd/(load-idle), 0.6)
}

// model is the sensor that the trial reads through, and what energy is told of
// it.
func (g *GPU) model(name string, c *Channel) (m sensor.Model, told *sensor.Sensors, assumed string) {
	ms := func(x float64) time.Duration { return time.Duration(x * 1e6) }
	update := c.UpdateMS.Or(100)
	if name == record.ChannelDriver {
		return sensor.Model{Window: ms(update), Lag: ms(2)}, nil, fmt.Sprintf("the driver's buffer, means of %.0f ms that follow one another", update)
	}
	if c.Class == sensor.Instant {
		// The least that published boards look at.
		window := update / 4
		assumed = fmt.Sprintf("%s taken for instant, seeing a quarter of each %.0f ms", name, update)
		m = sensor.Model{Update: ms(update), Window: ms(window), Lag: ms(5)}
		if name == record.ChannelInstant {
			return m, nil, assumed
		}
		return m, &sensor.Sensors{GPUs: []sensor.GPU{{Channels: map[string]*sensor.Channel{name: {
			UpdateMS: record.Some(update), WindowMS: record.Some(window), WindowCI95MS: []float64{5, update}, TauMS: record.Some(13.5),
			LagMS: record.Some(5.0), LagCI95MS: []float64{-40, 50}, Coverage: record.Some(window / update), Class: sensor.Instant,
		}}}}}, assumed
	}
	window := c.WindowMS.Or(1000)
	// What was found has the board's own rise in it.
	second := math.Abs(window-1000) < 80
	if second {
		window = 1000
	}
	assumed = fmt.Sprintf("%s taken for a mean over %.0f ms", name, window)
	if c.Class == sensor.Unknown {
		assumed += ", as its class is not known and this is the worst"
	}
	m = sensor.Model{Update: ms(update), Window: ms(window), Lag: ms(10)}
	if name != record.ChannelInstant && second {
		return m, nil, assumed
	}
	return m, &sensor.Sensors{GPUs: []sensor.GPU{{Channels: map[string]*sensor.Channel{name: {
		UpdateMS: record.Some(update), WindowMS: record.Some(window), WindowCI95MS: []float64{0.9 * window, 1.1 * window}, TauMS: record.Some(13.5),
		LagMS: record.Some(10.0), LagCI95MS: []float64{-50, 70}, Coverage: record.Some(1.0), Class: sensor.Averaged,
	}}}}}, assumed
}

// trial is work of all lengths, each piece a kind of its own, at all phases of
// the sensor; its true joules; and its power.
func trial(idle, load, waver float64) (work []record.Event, truth map[string]float64, curve *sensor.Curve) {
	rnd := rand.New(rand.NewPCG(7, 9))
	curve, truth = &sensor.Curve{}, map[string]float64{}
	ns := int64(5e9)
	curve.Until(1, idle)
	curve.Until(ns, idle)
	for _, l := range lengths {
		for i := range l.n {
			// What lies between is a rest or some other work, and may be short.
			from, between := ns, idle
			ns += int64(5e7 * math.Pow(60, rnd.Float64()))
			if rnd.IntN(2) == 0 {
				between += (load - idle) * rnd.Float64()
				work = append(work, record.Event{ID: "other", Phase: "other", StartNS: from, EndNS: ns, GPUs: []int{0}})
			}
			curve.Until(ns, between)
			e := record.Event{ID: fmt.Sprintf("%g_%d", l.s, i), Phase: fmt.Sprintf("trial_%g", l.s), StartNS: ns, EndNS: ns + int64(l.s*1e9), GPUs: []int{0}}
			most := idle + (load-idle)*(0.5+rnd.Float64()/2) // no two alike: their kind must not tell
			for at := e.StartNS; at < e.EndNS; {
				at = min(at+1+int64(50e6*rnd.ExpFloat64()), e.EndNS)
				w := idle + (most-idle)*(1+2*waver*(rnd.Float64()-0.5))
				curve.Until(at, w)
			}
			truth[e.ID] = curve.Mean(e.StartNS, e.EndNS) * l.s
			ns = e.EndNS
			work = append(work, e)
		}
	}
	curve.Until(ns+60e9, idle)
	return work, truth, curve
}

// replay gives the times of the channel's readings, as the recording has them,
// over and over until the end.
func (g *GPU) replay(channel string, end int64, read func(ns int64)) {
	times, period := g.reads, int64(g.Polls.PeriodMS.Or(100)*1e6)
	if channel == record.ChannelDriver {
		times, period = []int64{0, int64(g.step(channel) * 1e9)}, 0
	}
	if len(times) < 2 || times[1] <= times[0] {
		return
	}
	n := 0
	for ns := int64(1e6); n < mostReads; {
		for i := 1; i < len(times) && n < mostReads; i++ {
			read(ns)
			if ns += times[i] - times[i-1]; ns > end {
				return
			}
			n++
		}
		ns += period
	}
}

// mostStretches bounds how much of the recording's own work is looked at.
const mostStretches = 100

// edges attributes the stretches of work that the power shows, in the recording
// itself, and says by how much time the ends of these are uncertain, s: an
// interval of so many joules is that time at the work's power above rest.
func (g *GPU) edges(name string, m sensor.Model, told *sensor.Sensors, idle, load float64) (edge record.Opt[float64], n int) {
	s := g.series[name]
	values, _, step := s.even(g.step(name))
	level := idle + 0.4*(load-idle)
	// A mean over a window crosses half-way when half of it has passed.
	late := int64(m.Window/2+m.Lag) + int64(step*0.5e9)
	var work []record.Event
	for k := 1; k < len(values) && len(work) < mostStretches; k++ {
		if !(values[k] > level && values[k-1] <= level) {
			continue
		}
		end := k
		for end < len(values) && values[end] > level {
			end++
		}
		if t := float64(end-k) * step; end == len(values) || !(values[end] <= level) || end-k < 3 || t < 0.3 {
			k = end
			continue
		}
		// A reading that is between what was before and after it tells where in
		// it the edge lies.
		at := func(k float64) int64 { return s.runs[0].first + int64(k*step*1e9) - late }
		from, until := float64(k), float64(end)
		if m.Window.Seconds() < 2*step {
			from += 1 - part(values[k-1], values[k], values[k+1])
			if end+1 < len(values) {
				until += part(values[end+1], values[end], values[end-1])
			}
		}
		work = append(work, record.Event{ID: fmt.Sprint(k), Phase: fmt.Sprint("work", k), StartNS: at(from), EndNS: at(until), GPUs: []int{0}})
		k = end
	}
	var all []float64
	a, err := energy.New(energy.Options{Sensors: told}, func(e *record.Event) error {
		j := e.Energy
		if ci, ok := j.CI95J.Get(); ok && j.Joules.OK {
			if above := j.Joules.V/e.Duration() - idle; above > 0 {
				all = append(all, ci/stats.Z95/above)
			}
		}
		return nil
	})
	if err != nil {
		panic(err) // the options are constants
	}
	next := 0
	read := func(ns int64, w float64) {
		for next < len(work) && work[next].StartNS <= ns {
			_ = a.Event(&work[next])
			next++
		}
		_ = a.Observe(sample(name, ns, w))
	}
	if name == record.ChannelDriver {
		for _, r := range s.runs {
			for ns := r.first; ns <= r.last; ns += int64(step * 1e9) {
				read(ns, r.value)
			}
		}
	} else {
		i := 0
		for _, ns := range g.reads[:min(len(g.reads), mostReads)] {
			for i+1 < len(s.runs) && s.runs[i+1].first <= ns {
				i++
			}
			if r := s.runs[i]; ns >= r.first && ns <= r.last {
				read(ns, r.value)
			}
		}
	}
	_ = a.Finish()
	if len(all) == 0 {
		return edge, 0
	}
	slices.Sort(all)
	return record.Some(stats.Quantile(all, 0.5)), len(all)
}

// part is how far a value is from a low one to a high one, 0 to 1.
func part(low, v, high float64) float64 {
	if high <= low {
		return 1
	}
	return min(1, max(0, (v-low)/(high-low)))
}

// climb makes rungs of what became of the events.
func (b *Billing) climb(events []*record.Event, truth map[string]float64) {
	for _, l := range lengths {
		r := Rung{Seconds: l.s, Tier: energy.Refused}
		var ranks []int
		var off []float64
		inside := 0
		reasons := map[string]int{}
		for _, e := range events {
			if name, _, _ := strings.Cut(e.ID, "_"); name != fmt.Sprintf("%g", l.s) {
				continue
			}
			r.Events++
			j := e.Energy
			ranks = append(ranks, slices.Index(tiers, j.Tier))
			if j.Tier != energy.Billable {
				for _, why := range j.Reasons {
					reasons[why]++
				}
			}
			if v, ok := j.Joules.Get(); ok && j.Tier != energy.Refused {
				d := math.Abs(v - truth[e.ID])
				off = append(off, d/truth[e.ID])
				if d <= j.CI95J.Or(0) {
					inside++
				}
			}
		}
		if r.Events == 0 {
			continue // the recording's times do not reach so far
		}
		slices.Sort(ranks)
		r.Tier = tiers[max(0, ranks[len(ranks)/10])]
		if len(off) > 0 {
			slices.Sort(off)
			r.Error = record.Some(stats.Quantile(off, 0.9))
			r.Inside = record.Some(float64(inside) / float64(len(off)))
			// An interval may be narrower than work that wavers unseen allows: what
			// the trial is off by is no better than its tier.
			if at := slices.Index(tiers, offBy(r.Error.V)); at < slices.Index(tiers, r.Tier) {
				r.Tier = tiers[at]
				reasons[fmt.Sprintf("the trial was off by %.2g %%: the sensor did not see all of it", 100*r.Error.V)] = r.Events + 1
			}
		}
		// The recording's own work may be less well told than that of the trial.
		if edge, ok := b.Edge.Get(); ok {
			share := stats.Z95 * edge * (b.LoadW - b.IdleW) / (b.LoadW * l.s)
			if at := slices.Index(tiers, offBy(share)); at < slices.Index(tiers, r.Tier) {
				r.Tier = tiers[at]
				reasons[fmt.Sprintf("the ends of the work in this recording are known to %.2g s only, ±%.2g %% of so short an event", edge, 100*share)] = r.Events + 2
			}
		}
		for why, n := range reasons {
			if n > reasons[r.Why] || n == reasons[r.Why] && why < r.Why {
				r.Why = why
			}
		}
		b.Rungs = append(b.Rungs, r)
	}
	for tier, to := range map[string]*record.Opt[float64]{energy.Billable: &b.BillableS, energy.Analysis: &b.AnalysisS, energy.Estimate: &b.EstimateS} {
		for i := len(b.Rungs) - 1; i >= 0 && slices.Index(tiers, b.Rungs[i].Tier) >= slices.Index(tiers, tier); i-- {
			*to = record.Some(b.Rungs[i].Seconds)
		}
	}
	for _, r := range b.Rungs {
		if why := strings.TrimSpace(r.Why); why != "" && r.Tier != energy.Billable && !slices.Contains(b.Limits, why) {
			b.Limits = append(b.Limits, why)
		}
	}
}

// offBy is the tier of a number that is off by that share.
func offBy(share float64) string {
	switch {
	case share <= 0.05:
		return energy.Billable
	case share <= 0.10:
		return energy.Analysis
	case share <= 0.25:
		return energy.Estimate
	}
	return energy.Refused
}

// Event is what package energy says of one event of the recording.
type Event struct {
	ID       string              `json:"event_id,omitempty"`
	Phase    string              `json:"phase,omitempty"`
	Seconds  float64             `json:"seconds"`
	Tier     string              `json:"tier"`
	Quality  string              `json:"quality"`
	Joules   record.Opt[float64] `json:"energy_joules,omitzero"`
	CI95     record.Opt[float64] `json:"ci95_joules,omitzero"`
	Method   string              `json:"method"`
	Readings int64               `json:"power_samples"`
	Reasons  []string            `json:"reasons,omitempty"`
}

// Sensors is what the recording tells of sensors that are not what their column
// is called, for package energy; nil where all are.
func (a *Assessment) Sensors() *sensor.Sensors {
	var s sensor.Sensors
	for _, g := range a.GPUs {
		if c := g.Channels[g.Use]; c != nil {
			if _, told, _ := g.model(g.Use, c); told != nil {
				told.GPUs[0].GPU = g.GPU
				s.GPUs = append(s.GPUs, told.GPUs...)
			}
		}
	}
	if len(s.GPUs) == 0 {
		return nil
	}
	return &s
}

// Attribute gives each event of the recording its energy by package energy, and
// keeps the outcome with the GPU.
func (a *Assessment) Attribute(trace, events stream.Reader) error {
	at, err := energy.New(energy.Options{Sensors: a.Sensors()}, func(e *record.Event) error {
		a.Take(e)
		return nil
	})
	if err != nil {
		return err
	}
	if err := at.Join(trace, events); err != nil {
		return err
	}
	return errors.Join(trace.Err(), events.Err())
}

// Take adds what energy made of an event of the recording.
func (a *Assessment) Take(e *record.Event) {
	if e.Energy == nil {
		return
	}
	j := e.Energy
	v := Event{
		ID: e.ID, Phase: e.Phase, Seconds: e.Duration(), Tier: j.Tier, Quality: j.Quality, Joules: j.Joules, CI95: j.CI95J,
		Method: j.Method, Readings: j.PowerSamples, Reasons: slices.Clone(j.Reasons),
	}
	for _, g := range a.GPUs {
		if len(e.GPUs) == 0 || slices.Contains(e.GPUs, g.GPU) {
			g.Events = append(g.Events, v)
			return
		}
	}
}

// Tiers counts the events of a GPU by what they are good for.
func (g *GPU) Tiers() map[string]int {
	n := map[string]int{}
	for _, e := range g.Events {
		n[cmp.Or(e.Tier, energy.Refused)]++
	}
	return n
}
