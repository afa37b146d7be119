package baseline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"joulepipe/pkg/record"
)

// busyFrom is the utilisation in per cent from which a GPU is not waiting for
// work (TR122 §4.2).
const busyFrom = 5

// Memory in use, MiB, from which on there is a context and a model: in all, and
// above the least that the trace has shown. The totals are between what one
// H200 showed: 615 without a context, 1144 to 1436 with one, 1728 and more with
// a model. The least is what tells a context on smaller boards.
const (
	contextMB, contextRiseMB   = 800, 100
	residentMB, residentRiseMB = 1600, 1000
)

// maxW is more than any board takes: readings beyond it, like negative ones,
// are impossible and count as failed.
const maxW = 1e4

// Options say what counts as idle, and for how long.
type Options struct {
	Channel     string        // record.ChannelPower, ChannelAverage, ChannelInstant or ChannelDriver
	Settle      time.Duration // cut from the start of every window
	MinDuration time.Duration // shorter measurements are doubted
	Gap         time.Duration // time between readings further apart does not count as measured

	UtilP95         float64 // fake idle above this utilisation, per cent
	OutlierFraction float64 // fake idle above this share of readings beyond 2 standard deviations
	// Material is the share of the mean from which on power that does not fit is
	// somebody's work: outliers, bursts above the median, steps, a change from
	// the first window to the last. Below it temperature and noise do as much:
	// the steps of 0.2 W that 1 °C makes on an idle H200 are outliers, and
	// nobody's work.
	Material float64
	// ExpectW is what the board is known to idle at; fake idle where more than
	// a twentieth above it. 0: not known.
	ExpectW float64
	// LeastNEff is how many independent readings are wanted, unless the mean is
	// known to a thousandth with fewer.
	LeastNEff float64

	// State is what the GPU idled in, where that is known. Empty: it is told by
	// the memory in use.
	State string

	// Wait makes the settle time begin anew whenever the GPU is used or a clock
	// changes in it, as one that waits for a live GPU wants it.
	Wait bool

	// Windows are when the GPUs idled. Nil: the whole trace is one window.
	Windows []record.Window
}

// DefaultOptions are TR122's rules (§2.2, §4.2). TR122 names no limit for
// outliers: 10 % is twice what a normal distribution has.
func DefaultOptions() Options {
	return Options{
		Channel:         record.ChannelPower,
		Settle:          30 * time.Second,
		MinDuration:     120 * time.Second,
		Gap:             2 * time.Second,
		UtilP95:         10,
		OutlierFraction: 0.10,
		Material:        0.01,
		LeastNEff:       20,
	}
}

// Meter measures the idle power of every GPU in a trace. A window that begins
// busy is waited on: its settle time counts from when utilisation first fell
// below 5 %. Where that never happens, what is measured is the busy GPU, and
// the outcome a fake idle.
type Meter struct {
	o     Options
	value func(*record.Sample) record.Opt[float64] // nil: the driver's buffer
	info  map[int]record.GPU
	gpus  map[int]*gpu
	late  int64
}

// NewMeter is a meter that has seen nothing. It is an error when the options
// make no sense.
func NewMeter(o Options) (*Meter, error) {
	m := &Meter{o: o, info: map[int]record.GPU{}, gpus: map[int]*gpu{}}
	switch o.Channel {
	case record.ChannelPower:
		m.value = func(s *record.Sample) record.Opt[float64] { return s.PowerW }
	case record.ChannelAverage:
		m.value = func(s *record.Sample) record.Opt[float64] { return s.PowerAverageW }
	case record.ChannelInstant:
		m.value = func(s *record.Sample) record.Opt[float64] { return s.PowerInstantW }
	case record.ChannelDriver:
	default:
		return nil, fmt.Errorf("no channel %q (%s, %s, %s or %s)", o.Channel, record.ChannelPower, record.ChannelAverage, record.ChannelInstant, record.ChannelDriver)
	}
	switch o.State {
	case "", NoContext, Context, Resident:
	default:
		return nil, fmt.Errorf("no state %q (%s, %s or %s)", o.State, NoContext, Context, Resident)
	}
	if !(o.Material >= 0 && o.ExpectW >= 0 && o.LeastNEff >= 0) || math.IsNaN(o.UtilP95) || math.IsNaN(o.OutlierFraction) {
		return nil, errors.New("limits must be numbers, and not negative")
	}
	if o.Settle < 0 || o.MinDuration < 0 || o.Gap <= 0 {
		return nil, errors.New("settle and minimum duration must not be negative, the gap must be positive")
	}
	return m, nil
}

// gpu is one GPU on its way through its windows.
type gpu struct {
	index   int
	windows []*window
	idle    tally // settled
	busy    tally // past the settle time, in windows that have not been idle yet
	missing int64 // samples without the channel
	leastMB record.Opt[float64]
	setting setting // of the last sample
	util    record.Opt[int64]
	change  string // the last change of a clock, in words
}

// window is a stretch of time in which the GPU is said to idle.
type window struct {
	fromNS, untilNS int64
	settleNS        int64 // when settling began
	decided, busy   bool  // whether it began busy is known; it did, and still is
	lastNS          int64 // last reading taken, of power
	sampleNS        int64 // last sample
	taken           bool
	index           int
}

// gpu finds or makes the GPU's account; firstNS is its first record's time.
func (m *Meter) gpu(index int, firstNS int64) *gpu {
	if g, ok := m.gpus[index]; ok {
		return g
	}
	g := &gpu{index: index}
	m.gpus[index] = g
	if m.o.Windows == nil {
		g.windows = []*window{newWindow(firstNS, math.MaxInt64)}
		return g
	}
	for _, w := range m.o.Windows {
		if !w.Of(index) {
			continue
		}
		if n := len(g.windows); n > 0 && w.FromNS <= g.windows[n-1].untilNS {
			g.windows[n-1].untilNS = max(g.windows[n-1].untilNS, w.UntilNS)
			continue
		}
		g.windows = append(g.windows, newWindow(w.FromNS, w.UntilNS))
		g.windows[len(g.windows)-1].index = len(g.windows) - 1
	}
	return g
}

func newWindow(from, until int64) *window {
	return &window{fromNS: from, untilNS: until, settleNS: from, sampleNS: math.MinInt64, lastNS: math.MinInt64}
}

// at is the window that a time is in, nil when in none.
func (g *gpu) at(ns int64) *window {
	i, found := slices.BinarySearchFunc(g.windows, ns, func(w *window, ns int64) int { return cmp.Compare(w.fromNS, ns) })
	if !found {
		i--
	}
	if i < 0 || ns > g.windows[i].untilNS {
		return nil
	}
	return g.windows[i]
}

// Observe takes in a record of the trace, and says whether it is one of the
// samples that the idle power is made of. The power of a sample whose reading
// failed is not, and neither is one that goes back in time.
func (m *Meter) Observe(r record.Record) (used bool) {
	switch r := r.(type) {
	case *record.Header:
		for _, g := range r.GPUs {
			m.info[g.Index] = g
		}
	case *record.Sample:
		return m.sample(r)
	case *record.Counter:
		g := m.gpu(r.GPU, r.TimeNS)
		if w := g.at(r.TimeNS); w != nil {
			if t := m.account(g, w, r.TimeNS); t != nil {
				t.joules.add(r, w.index)
				return t == &g.idle
			}
		}
	case *record.Power:
		if m.value != nil {
			return false
		}
		g := m.gpu(r.GPU, r.TimeNS)
		if w := g.at(r.TimeNS); w != nil {
			t := m.account(g, w, r.TimeNS)
			return t != nil && m.power(g, t, w, r.TimeNS, r.PowerW) && t == &g.idle
		}
	}
	return false
}

func (m *Meter) sample(s *record.Sample) (used bool) {
	g := m.gpu(s.GPU, s.TimeNS)
	if v, ok := s.VRAMUsedMB.Get(); ok && s.ReadOK {
		g.leastMB = record.Some(min(v, g.leastMB.Or(v)))
	}
	w := g.at(s.TimeNS)
	if w == nil {
		return false
	}
	if s.TimeNS <= w.sampleNS {
		m.late++
		return false
	}
	w.sampleNS = s.TimeNS
	if !s.ReadOK {
		if t := m.account(g, w, s.TimeNS); t != nil {
			t.failed++
		}
		return false
	}
	was := g.setting
	g.setting, g.util = setting{s.PState, s.SMClockMHz, s.MemClockMHz}, s.UtilGPU
	settling := m.o.Wait && s.TimeNS-w.settleNS < int64(m.o.Settle)
	if settling && !w.busy && w.decided && g.setting != was {
		g.change = was.to(g.setting)
		w.settleNS = s.TimeNS
	}
	if !w.decided || settling {
		switch {
		case s.UtilGPU.Or(0) >= busyFrom:
			w.busy, w.decided, w.settleNS = true, false, s.TimeNS
		case w.busy:
			w.decided, w.busy, w.taken, w.settleNS = true, false, false, s.TimeNS
			g.busy = tally{}
		default:
			w.decided = true
		}
	}
	t := m.account(g, w, s.TimeNS)
	if t == nil {
		return false
	}
	if m.value == nil {
		t.context(s, w.index)
		return t == &g.idle
	}
	v, ok := m.value(s).Get()
	if !ok {
		g.missing++
		return false
	}
	if !m.power(g, t, w, s.TimeNS, v) {
		return false
	}
	t.context(s, w.index)
	return t == &g.idle
}

// account is where readings of that time belong: to the settled GPU, to the one
// that has never been idle, or (nil) nowhere.
func (m *Meter) account(g *gpu, w *window, ns int64) *tally {
	settle := int64(m.o.Settle)
	switch {
	case w.busy && ns-w.fromNS >= settle:
		return &g.busy
	case !w.busy && ns-w.settleNS >= settle:
		return &g.idle
	}
	return nil
}

// power takes a reading into t, if it can be one.
func (m *Meter) power(g *gpu, t *tally, w *window, ns int64, watts float64) (taken bool) {
	if !(watts >= 0 && watts <= maxW) { // NaN too
		t.failed++
		return false
	}
	after := int64(0)
	if w.taken {
		if ns <= w.lastNS {
			m.late++
			return false
		}
		after = ns - w.lastNS
	}
	w.taken, w.lastNS = true, ns
	t.kept.held = m.value != nil // each entry of the driver's buffer is an update
	t.kept.add(ns, watts, w.index, g.setting)
	t.power(watts, after, int64(m.o.Gap))
	return true
}

// Disordered is how many records went back in time and were left out.
func (m *Meter) Disordered() int64 { return m.late }

// Result is the idle power of each GPU, in order, and of those that have none,
// why not.
func (m *Meter) Result() (idle []Idle, without []error) {
	for _, index := range slices.Sorted(maps.Keys(m.gpus)) {
		g := m.gpus[index]
		if len(g.windows) == 0 {
			continue // never said to idle
		}
		i, err := m.judge(g)
		if err != nil {
			without = append(without, fmt.Errorf("GPU %d: %w", index, err))
			continue
		}
		idle = append(idle, i)
	}
	if len(idle)+len(without) == 0 {
		without = append(without, errors.New("no sample of a GPU that was to idle"))
	}
	return idle, without
}

func (m *Meter) judge(g *gpu) (Idle, error) {
	never, windows := 0, int64(0)
	for _, w := range g.windows {
		if w.busy {
			never++
		}
		if w.taken {
			windows++
		}
	}
	t := &g.idle
	if t.n == 0 {
		t = &g.busy
	}
	if t.n == 0 {
		return Idle{}, m.nothing(g)
	}
	i := Idle{
		GPU: g.index, UUID: m.info[g.index].UUID, State: m.state(g, t), Channel: m.o.Channel,
		MeanW: t.mean, MinW: record.Some(t.minW), MaxW: record.Some(t.maxW),
		OutlierFraction: record.Some(t.outliers()),
		FloorFraction:   record.Some(float64(t.floor) / float64(t.n)),
		DurationS:       record.Some(float64(t.coveredNS) / 1e9),
		MaxGapS:         record.Some(float64(t.longestNS) / 1e9),
		Windows:         record.Some(windows),
		Samples:         record.Some(t.n),
		ReadErrors:      record.Some(t.failed),
		FakeIdleReasons: []string{},
	}
	if std, ok := t.std(); ok {
		i.StdW = record.Some(std)
		i.SEMW = record.Some(std / math.Sqrt(float64(t.n)))
	}
	if t.temps > 0 {
		i.TempC = record.Some(t.tempSum / float64(t.temps))
	}
	if p95, ok := t.utilP95(); ok {
		i.UtilP95 = record.Some(p95)
	}
	sure := m.analyse(g, t, &i)
	if t.sm.known || t.mem.known || t.pstate.known {
		i.ClockVaried = record.Some(t.sm.varied() || t.mem.varied() || t.pstate.varied())
	}
	i.FakeIdleReasons = append(i.FakeIdleReasons, m.fake(g, t, &i, sure, never, len(g.windows))...)
	i.FakeIdle = len(i.FakeIdleReasons) > 0

	// The edges of a window fall between readings, up to a spacing at each.
	spacing := time.Duration(0)
	if t.n > windows {
		spacing = time.Duration(t.coveredNS / (t.n - windows))
	}
	if covered := time.Duration(t.coveredNS); covered+time.Duration(2*windows)*spacing < m.o.MinDuration {
		i.Doubts = append([]string{fmt.Sprintf("measured for %.1f s only, %g s is the least", covered.Seconds(), m.o.MinDuration.Seconds())}, i.Doubts...)
	}
	return i, nil
}

// fake says why the GPU was not idle.
func (m *Meter) fake(g *gpu, t *tally, i *Idle, sure []float64, never, windows int) (reasons []string) {
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	switch {
	case never > 0 && windows == 1:
		add("GPU utilisation never fell below %d %%", busyFrom)
	case never > 0:
		add("GPU utilisation never fell below %d %% in %d of %d windows", busyFrom, never, windows)
	}
	if p95, ok := i.UtilP95.Get(); ok && p95 > m.o.UtilP95 {
		add("GPU utilisation p95 %g %% is above %g %%", p95, m.o.UtilP95)
	}
	for _, c := range []struct {
		what, unit string
		span
	}{{"SM clock", " MHz", t.sm}, {"memory clock", " MHz", t.mem}, {"performance state", "", t.pstate}} {
		if c.varied() {
			add("%s varied from %d to %d%s", c.what, c.lo, c.hi, c.unit)
		}
	}
	if out := i.OutlierFraction.V; out > m.o.OutlierFraction && i.StdW.Or(0) > m.o.Material*t.mean {
		add("%.1f %% of the power readings are outliers beyond 2 standard deviations, above %.3g %%", 100*out, 100*m.o.OutlierFraction)
	}
	return append(reasons, m.unseen(g, t, i, sure)...)
}

// state is what the GPU idled in: as said, or by the memory in use.
func (m *Meter) state(g *gpu, t *tally) string {
	if m.o.State != "" {
		return m.o.State
	}
	return seen(g, t)
}

// seen is the state by the memory in use, empty where that was not read.
func seen(g *gpu, t *tally) string {
	rise := t.vram - g.leastMB.Or(t.vram)
	switch {
	case !t.hasVRAM:
		return ""
	case t.vram >= residentMB || rise >= residentRiseMB:
		return Resident
	case t.vram >= contextMB || rise >= contextRiseMB:
		return Context
	}
	return NoContext
}

// nothing says why a GPU has no reading at all.
func (m *Meter) nothing(g *gpu) error {
	seen, settled := false, false
	for _, w := range g.windows {
		last := max(w.sampleNS, w.lastNS)
		if last < w.fromNS {
			continue
		}
		seen = true
		settled = settled || m.account(g, w, last) != nil
	}
	failed := g.idle.failed + g.busy.failed
	switch {
	case !seen:
		return errors.New("no sample in the windows that were to be idle: are trace and events of one clock")
	case !settled && m.o.Wait && g.change != "":
		return fmt.Errorf("its clocks did not stand still for %v: %s", m.o.Settle, g.change)
	case !settled:
		return fmt.Errorf("the trace ends before the settle time of %v", m.o.Settle)
	case g.missing > 0:
		return fmt.Errorf("no reading of channel %s after settling: %d samples are without it", m.o.Channel, g.missing)
	case failed > 0:
		return fmt.Errorf("no valid reading after settling: %d failed", failed)
	}
	return fmt.Errorf("no reading of channel %s after settling", m.o.Channel)
}
