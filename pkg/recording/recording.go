// Package recording judges somebody else's recording of a GPU's power: what
// kind of sensor each column is of, as far as the readings tell, how it was
// polled, what is idle in it, and what joules of what events could be got out
// of it.
//
// It knows nothing of the load. Where the readings do not tell, it says so: a
// guess would be billed by. Memory grows with the changes of the readings.
package recording

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stats"
)

// How sure something is.
const (
	Sure    = "sure"    // three pieces of evidence or more, none against
	Likely  = "likely"  // two, or few against many
	Unknown = "unknown" // the readings do not tell
)

// Assessment is what there is to say of a recording.
type Assessment struct {
	Records   int64  `json:"records"`    // that could be read
	BadLines  int64  `json:"bad_lines"`  // that could not
	Header    bool   `json:"header"`     // there is one: GPU, driver and clock are told
	ClockPair bool   `json:"clock_pair"` // the trace's clock can be turned into wall time, and back
	Simulated bool   `json:"simulated"`
	GPUs      []*GPU `json:"gpus"`
}

// GPU is the recording of one.
type GPU struct {
	GPU       int                 `json:"gpu"`
	Name      string              `json:"name,omitempty"`
	DurationS float64             `json:"duration_s"`
	Polls     Polls               `json:"polls"`
	Channels  map[string]*Channel `json:"channels"`
	Counter   Counter             `json:"counter"`
	Idle      Idle                `json:"idle"`
	Floor     int64               `json:"floor_suspect"` // readings below 5 W
	Absurd    int64               `json:"implausible"`   // readings that no board makes: 0 W, below 0, beyond 5 kW
	Warnings  []string            `json:"warnings"`
	Use       string              `json:"use,omitempty"` // the channel that billing is of
	Billing   *Billing            `json:"billing,omitempty"`
	Events    []Event             `json:"events,omitempty"`

	reads    []int64 // times of the samples, ns
	series   map[string]*series
	levels   []float64 // W, of the best channel's updates
	useIdle  bool      // the trace tells utilisation
	ticked   bool
	lastTick int64
}

// Polls is how the samples stand in time.
type Polls struct {
	Reads       int64               `json:"reads"`
	Failed      int64               `json:"failed"` // without any power
	PeriodMS    record.Opt[float64] `json:"period_ms,omitzero"`
	P95MS       record.Opt[float64] `json:"p95_ms,omitzero"`
	Jitter      record.Opt[float64] `json:"jitter,omitzero"` // scatter of the spacing, as a share of the period
	Gaps        int64               `json:"gaps"`            // spacings above 0.25 s and two periods
	GapFraction float64             `json:"gap_fraction"`
	MaxGapS     float64             `json:"max_gap_s"`
	Dropped     int64               `json:"dropped"`           // readings that a grid of that period would have
	Ticked      bool                `json:"ticked"`            // by their numbers; else by their spacing
	Backwards   int64               `json:"backwards"`         // samples that went back in time, left out
	GrainMS     record.Opt[float64] `json:"grain_ms,omitzero"` // what the times are rounded to
}

// Channel is what one column tells of its sensor.
type Channel struct {
	Reads      int64               `json:"reads"`
	Held       float64             `json:"held"` // share of the reads that repeat the one before
	UpdateMS   record.Opt[float64] `json:"update_ms,omitzero"`
	UpdateSE   record.Opt[float64] `json:"update_ms_se,omitzero"`
	Class      sensor.Class        `json:"class"`
	Confidence string              `json:"confidence"`
	WindowMS   record.Opt[float64] `json:"window_ms,omitzero"` // about so long a mean
	SameAs     string              `json:"same_as,omitempty"`
	Evidence   []string            `json:"evidence"`

	votes  map[sensor.Class]int
	strong bool // one of them is worth several
}

// Counter is the energy counter.
type Counter struct {
	Readings int64 `json:"readings"`
	Back     int64 `json:"backwards"`
	last     int64
}

// Idle is the part of the recording in which the GPU seems to have done nothing.
type Idle struct {
	Share      float64             `json:"share"` // of the time
	Watts      record.Opt[float64] `json:"watts,omitzero"`
	CI95       record.Opt[float64] `json:"ci95_watts,omitzero"` // half-width
	Seconds    float64             `json:"seconds"`
	By         string              `json:"by"`         // utilisation | power
	Confidence string              `json:"confidence"` // never sure: nobody said that it idled
	Doubts     []string            `json:"doubts"`
}

// absurdW is more than any board takes.
const absurdW = 5000

// gapS is TR122's gap.
const gapS = 0.25

// A Judge takes the records of a recording.
type Judge struct {
	a      Assessment
	gpus   map[int]*GPU
	header *record.Header
	fitter *sensor.Fitter
	brief  bool // no trial of what could be billed
}

// NewJudge is a Judge that has seen nothing.
func NewJudge() *Judge {
	return &Judge{gpus: map[int]*GPU{}, fitter: sensor.NewFitter()}
}

// maxGPUs is how many GPUs of a recording are believed.
const maxGPUs = 1 << 10

func (j *Judge) gpu(n int) *GPU {
	g := j.gpus[n]
	if g == nil && len(j.gpus) < maxGPUs {
		g = &GPU{GPU: n, Channels: map[string]*Channel{}, Warnings: []string{}, series: map[string]*series{}}
		g.Idle.Doubts = []string{}
		j.gpus[n] = g
	}
	return g
}

// lastNS is a time that no clock comes to.
const lastNS = math.MaxInt64 / 2

// Observe takes the next record.
func (j *Judge) Observe(r record.Record) {
	switch r := r.(type) {
	case *record.SyntaxError:
		j.a.BadLines++
		return
	case *record.Header:
		if h := *r; j.header == nil {
			j.header = &h
		}
	case *record.Sample:
		if g := j.gpu(r.GPU); g != nil && r.TimeNS >= 0 && r.TimeNS < lastNS && g.sample(r) {
			j.fitter.Observe(r)
		}
	case *record.Power:
		if g := j.gpu(r.GPU); g != nil && r.TimeNS >= 0 && r.TimeNS < lastNS {
			j.fitter.Observe(r)
			g.of(record.ChannelDriver).add(r.TimeNS, r.PowerW)
		}
	case *record.Counter:
		mJ, ok := r.EnergyMilliJ.Get()
		if g := j.gpu(r.GPU); g != nil && ok && r.TimeNS >= 0 && r.TimeNS < lastNS {
			if g.Counter.Readings++; g.Counter.Readings > 1 && mJ < g.Counter.last {
				g.Counter.Back++
			}
			g.Counter.last = mJ
			j.fitter.Observe(r)
		}
	}
	j.a.Records++
}

func (g *GPU) of(channel string) *series {
	s := g.series[channel]
	if s == nil {
		s = &series{}
		g.series[channel] = s
	}
	return s
}

// sample takes a sample, and says whether it is in order and has power.
func (g *GPU) sample(s *record.Sample) bool {
	if n := len(g.reads); n > 0 && s.TimeNS <= g.reads[n-1] {
		g.Polls.Backwards++
		return false
	}
	g.Polls.Reads++
	g.reads = append(g.reads, s.TimeNS)
	if t, ok := s.Tick.Get(); ok {
		if g.ticked && t > g.lastTick+1 {
			g.Polls.Dropped += t - g.lastTick - 1
		}
		g.ticked, g.lastTick = true, t
	}
	good, low := false, false
	for _, c := range []struct {
		name string
		w    record.Opt[float64]
	}{{record.ChannelPower, s.PowerW}, {record.ChannelAverage, s.PowerAverageW}, {record.ChannelInstant, s.PowerInstantW}} {
		w, ok := c.w.Get()
		if !ok || !s.ReadOK {
			continue
		}
		if w <= 0 || w > absurdW {
			g.Absurd++
			continue
		}
		low = low || w < record.FloorW
		good = true
		idle, told := s.UtilGPU.Get()
		g.useIdle = g.useIdle || told
		g.of(c.name).addUsed(s.TimeNS, w, told && idle == 0)
	}
	if low {
		g.Floor++
	}
	if !good {
		g.Polls.Failed++
	}
	return good
}

// Finish judges what it has seen. It is an error when nothing of it is power.
func (j *Judge) Finish() (*Assessment, error) {
	a := &j.a
	a.GPUs = []*GPU{}
	if h := j.header; h != nil {
		a.Header, a.ClockPair = true, h.UnixNS != 0
		device, _ := h.Config["device"].(string)
		a.Simulated = device == "sim" || len(device) > 4 && device[:4] == "sim:"
	}
	fitted, _ := j.fitter.Finish() // without power there is nothing fitted
	for _, n := range slices.Sorted(maps.Keys(j.gpus)) {
		g := j.gpus[n]
		if len(g.series) == 0 {
			continue
		}
		if h := j.header; h != nil {
			for _, k := range h.GPUs {
				if k.Index == n {
					g.Name = k.Name
				}
			}
		}
		g.polls()
		g.channels(fitted)
		g.idle()
		g.warn(a)
		if !j.brief {
			g.bill()
		}
		a.GPUs = append(a.GPUs, g)
	}
	if len(a.GPUs) == 0 {
		return nil, fmt.Errorf("no reading of power in it")
	}
	return a, nil
}

// polls looks at the times of the samples.
func (g *GPU) polls() {
	p := &g.Polls
	p.Ticked = g.ticked
	var dt []float64
	for i := 1; i < len(g.reads); i++ {
		dt = append(dt, float64(g.reads[i]-g.reads[i-1])/1e6)
	}
	if s := g.series[record.ChannelDriver]; s != nil && len(s.runs) > 1 {
		g.DurationS = float64(s.runs[len(s.runs)-1].last-s.runs[0].first) / 1e9
	}
	if len(dt) == 0 {
		return
	}
	g.DurationS = max(g.DurationS, float64(g.reads[len(g.reads)-1]-g.reads[0])/1e9)
	sorted := slices.Sorted(slices.Values(dt))
	period := stats.Quantile(sorted, 0.5)
	p.PeriodMS, p.P95MS = record.Some(period), record.Some(stats.Quantile(sorted, 0.95))
	p.Jitter = record.Some((stats.Quantile(sorted, 0.9) - stats.Quantile(sorted, 0.1)) / 2 / 1.2816 / period)
	lost := 0.0
	for _, d := range dt {
		p.MaxGapS = max(p.MaxGapS, d/1e3)
		if d > 1e3*gapS && d > 2*period {
			p.Gaps++
			lost += d / 1e3
		}
		if n := math.Round(d / period); !g.ticked && n > 1 {
			p.Dropped += int64(n) - 1
		}
	}
	p.GapFraction = lost / g.DurationS
	p.GrainMS = grain(g.reads)
}

// grain is what times are rounded to, ms: the largest power of ten that they all
// are multiples of, from a microsecond on.
func grain(ns []int64) record.Opt[float64] {
	for _, unit := range []int64{1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3} {
		if !slices.ContainsFunc(ns, func(t int64) bool { return (t-ns[0])%unit != 0 }) {
			return record.Some(float64(unit) / 1e6)
		}
	}
	return record.Opt[float64]{}
}

// best is the channel that tells most of short events, as energy's auto method
// takes them.
func (g *GPU) best() string {
	for _, name := range []string{record.ChannelDriver, record.ChannelInstant, record.ChannelAverage, record.ChannelPower} {
		if g.Channels[name] != nil {
			return name
		}
	}
	return ""
}

// idle looks for stretches without work: by utilisation where the recording has
// it, else by power alone.
func (g *GPU) idle() {
	name := cmp.Or(g.power(), g.best())
	s := g.series[name]
	i := &g.Idle
	i.Confidence = Unknown
	say := func(format string, args ...any) { i.Doubts = append(i.Doubts, fmt.Sprintf(format, args...)) }
	if s == nil || len(s.runs) < 20 {
		say("fewer than 20 readings that differ")
		return
	}
	values, quiet, step := s.even(g.step(name))
	g.levels = values
	sorted := sorted(values)
	lo, hi := stats.Quantile(sorted, 0.05), stats.Quantile(sorted, 0.95)
	noise := scatter(values)
	limit := lo + max(4*noise, 0.1*(hi-lo), 1)
	if i.By = "power"; g.useIdle {
		i.By = "utilisation"
	}
	// What is idle now is idle to a sensor only when its window has passed, and
	// a board takes a second to fall to rest.
	settle := int(math.Ceil(2 / step))
	var kept []float64
	var stretches []float64
	for k := 0; k < len(values); {
		idle := func(k int) bool {
			return !math.IsNaN(values[k]) && (g.useIdle && quiet[k] || !g.useIdle && values[k] <= limit)
		}
		if !idle(k) {
			k++
			continue
		}
		end := k
		for end < len(values) && idle(end) {
			end++
		}
		if from := k + settle; end-from >= settle {
			kept = append(kept, values[from:end]...)
			mean, _ := stats.MeanSD(values[from:end])
			stretches = append(stretches, mean)
		}
		k = end
	}
	total := 0
	for _, v := range values {
		if !math.IsNaN(v) {
			total++
		}
	}
	i.Share, i.Seconds = float64(len(kept))/float64(max(total, 1)), float64(len(kept))*step
	if len(kept) < 10 {
		say("no stretch of %.0f s and longer in which the GPU did nothing", 2*float64(settle)*step)
		return
	}
	mean, sd := stats.MeanSD(kept)
	i.Watts = record.Some(mean)
	n := stats.CountIndependent(kept)
	se := sd / math.Sqrt(max(1, min(n.Geyer, n.BatchMeans, n.Bootstrap)))
	freedom := max(1, min(n.Geyer, n.BatchMeans, n.Bootstrap)-1)
	if len(stretches) > 1 {
		_, apart := stats.MeanSD(stretches)
		if between := apart / math.Sqrt(float64(len(stretches))); between > se {
			se, freedom = between, float64(len(stretches)-1)
		}
	}
	i.CI95 = record.Some(stats.T95(freedom) * se)
	i.Confidence = Likely
	switch {
	case !g.useIdle && hi-lo < max(8*noise, 5):
		i.Confidence = Unknown
		say("power is level all the time: all idle or all work, nothing in the recording says which")
	case !g.useIdle:
		say("taken for idle by its low power alone: the recording has no utilisation")
	}
	if n := len(stretches); n > 1 && slices.Max(stretches)-slices.Min(stretches) > 0.05*mean {
		say("%d stretches lie between %.4g and %.4g W: more than one state of the GPU", n, slices.Min(stretches), slices.Max(stretches))
	}
	if len(stretches) == 1 {
		say("one stretch: what idle power does from one to the next is not known")
	}
	if i.Seconds < 120 {
		say("%.0f s of idle, where 120 s are wanted", i.Seconds)
	}
	say("whether a CUDA context existed is not told: idle power is of a state")
}

// power is the polled channel that idle power is usually taken from.
func (g *GPU) power() string {
	for _, name := range []string{record.ChannelPower, record.ChannelAverage, record.ChannelInstant} {
		if g.Channels[name] != nil {
			return name
		}
	}
	return ""
}

// step is how finely a channel's readings are looked at, s: by its updates, or
// by the polls where these are slower.
func (g *GPU) step(channel string) float64 {
	ms := g.Polls.PeriodMS.Or(100)
	if s := g.series[channel]; channel == record.ChannelDriver {
		ms = s.spacing()
	}
	if c := g.Channels[channel]; c != nil && c.UpdateMS.OK {
		ms = max(c.UpdateMS.V, 1)
	}
	return ms / 1e3
}

// warn gathers what a reader must mind.
func (g *GPU) warn(a *Assessment) {
	say := func(format string, args ...any) { g.Warnings = append(g.Warnings, fmt.Sprintf(format, args...)) }
	if a.Simulated {
		say("the device was simulated: no hardware was measured")
	}
	if g.Absurd > 0 {
		say("%d readings are no power of a board (0 W, below 0, or beyond %d W) and were left out", g.Absurd, absurdW)
	}
	if g.Floor > 0 {
		say("%d readings are below %g W, where no board idles: a stale cache, which pulls means down", g.Floor, record.FloorW)
	}
	p := &g.Polls
	if p.Failed > 0 {
		say("%d of %d samples have no power", p.Failed, p.Reads)
	}
	if p.Backwards > 0 {
		say("%d samples went back in time and were left out", p.Backwards)
	}
	if p.Gaps > 0 {
		say("%d gaps, %.3g s the longest, %.2g %% of the time", p.Gaps, p.MaxGapS, 100*p.GapFraction)
	}
	for _, name := range slices.Sorted(maps.Keys(g.Channels)) {
		c := g.Channels[name]
		u, ok := c.UpdateMS.Get()
		poll, polled := p.PeriodMS.Get()
		if name != record.ChannelDriver && polled && !ok && c.Held < 0.2 && poll >= 50 {
			say("%s changes at nearly every poll of %.3g ms: how often its sensor updates, and what it does between two polls, is not seen", name, poll)
		}
		if c.SameAs == "" && c.Class == sensor.Instant && ok && u > 50 && name != record.ChannelDriver {
			say("%s is an instant sensor that updates every %.0f ms: over how much of that it looks cannot be told from its readings. On some boards (A100: 25 of 100 ms, H100 and H200: 20) it is a quarter or less, and short or regular work is misread", name, u)
		}
	}
	if c := g.Channels[record.ChannelPower]; c != nil && c.SameAs == record.ChannelInstant {
		say("power_w repeats power_instant_w: nvmlDeviceGetPowerUsage is no mean of a second on this board, as on the A100, whose sensor sees a part of the time only")
	}
	if g.Counter.Readings == 0 {
		say("no energy counter: nothing shows what the sensor missed")
	}
	if g.Counter.Back > 0 {
		say("the energy counter went back %d times", g.Counter.Back)
	}
	if !a.ClockPair {
		say("no pair of clocks: events join only by the clock of the recording itself")
	}
}
