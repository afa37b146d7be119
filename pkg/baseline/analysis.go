package baseline

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stats"
)

// precise is the share of the mean below which its standard error needs no more
// independent readings: no sensor is as good.
const precise = 1e-3

// mostSegments is how many segments are listed.
const mostSegments = 64

// analyse fills in what takes the order of the readings. sure are the powers of
// the ticks that are not suspect.
func (m *Meter) analyse(g *gpu, t *tally, i *Idle) (sure []float64) {
	ticks, updateNS := t.kept.ticks(int64(m.o.Gap))
	update := float64(updateNS) / 1e9
	w := watts(ticks)
	i.Conditions = m.conditions(g, t, ticks)
	i.Ticks = record.Some(int64(len(ticks)))
	if len(ticks) > 1 {
		i.UpdateS = record.Some(update)
	}
	if t.kept.group > 1 {
		i.Merged = record.Some(t.kept.group)
		i.Notes = append(i.Notes, fmt.Sprintf("of so long a baseline every %d neighbouring ticks were taken together", t.kept.group))
	}
	i.MedianW = record.Some(stats.Median(w))
	counterSE := 0.0
	if watts, se, ok := t.joules.power(); ok {
		i.CounterW, counterSE = record.Some(watts), se
	}

	i.Mixture = mixture(ticks, &t.joules)
	skip := suspects(i.Mixture)
	sure = unsuspected(w, skip)
	i.RobustW = record.Some(stats.Huber(sure))
	if _, sd := stats.MeanSD(w); len(w) > 1 && sd > 0 {
		n := stats.CountIndependent(w)
		i.NEffBy = &NEff{n.Geyer, n.BatchMeans, n.Bootstrap}
		i.NEff = record.Some(n.Least())
		i.SEMEffW = record.Some(sd / math.Sqrt(n.Least()))
	} else {
		i.Notes = append(i.Notes, "no two readings differ: their number says nothing of the mean's certainty")
	}
	i.Drift = drift(ticks, skip)
	i.Noise = energyNoise(ticks, update)
	i.Segments = segments(ticks, skip, update)
	i.Periods = periods(ticks, skip, t)
	i.Subtract = subtract(i, sure)
	m.doubt(i, counterSE)
	if len(i.Segments) > mostSegments {
		i.Notes = append(i.Notes, fmt.Sprintf("%d segments, of which the first %d are listed", len(i.Segments), mostSegments))
		i.Segments = i.Segments[:mostSegments]
	}
	return sure
}

// independent is how many independent readings the ticks so far are worth, and
// whether the mean is known to a thousandth. ok is false where no two differ.
func (t *tally) independent(gapNS int64) (n float64, known, ok bool) {
	ticks, _ := t.kept.ticks(gapNS)
	w := watts(ticks)
	mean, sd := stats.MeanSD(w)
	if len(w) < 2 || sd == 0 {
		return 0, false, false
	}
	n = stats.CountIndependent(w).Least()
	return n, sd/math.Sqrt(n) <= precise*mean, true
}

// suspects are the ticks that are no power, or may be none; nil for none.
func suspects(m *Mixture) []bool {
	if m == nil || m.Verdict == LowPowerState {
		return nil
	}
	return m.floor
}

func unsuspected(w []float64, skip []bool) []float64 {
	if skip == nil {
		return w
	}
	var sure []float64
	for i, v := range w {
		if !skip[i] {
			sure = append(sure, v)
		}
	}
	return sure
}

func (m *Meter) conditions(g *gpu, t *tally, ticks []tick) *Conditions {
	info := m.info[g.index]
	usual := usualSetting(ticks, make([]bool, len(ticks)))
	c := &Conditions{
		Name: info.Name, Driver: info.Driver, Persistence: info.Persistence,
		PowerLimitW: info.PowerLimitW, PowerLimitDefaultW: info.PowerLimitDefaultW,
		PState: usual.pstate, SMClockMHz: usual.sm, MemClockMHz: usual.mem,
	}
	if t.hasVRAM {
		c.VRAMUsedMB = record.Some(t.mostVRAM)
	}
	if t.temps > 0 {
		c.TempMinC, c.TempMaxC = record.Some(t.leastC), record.Some(t.mostC)
	}
	return c
}

// periods are the means of the windows, where there are several.
func periods(ticks []tick, skip []bool, t *tally) (list []Period) {
	for from := 0; from < len(ticks); {
		until := from
		var w []float64
		for ; until < len(ticks) && ticks[until].window == ticks[from].window; until++ {
			if skip == nil || !skip[until] {
				w = append(w, ticks[until].watts)
			}
		}
		if len(w) > 0 {
			mean, sd := stats.MeanSD(w)
			p := Period{StartNS: ticks[from].ns, EndNS: ticks[until-1].ns, Watts: mean}
			if len(w) > 1 {
				p.SE = record.Some(sd / math.Sqrt(stats.CountIndependent(w).Least()))
			}
			if c, ok := t.byWindow[ticks[from].window]; ok {
				p.TempC = record.Some(c.sum / float64(c.n))
			}
			list = append(list, p)
		}
		from = until
	}
	if len(list) < 2 {
		return nil
	}
	return list
}

// subtract chooses which power is subtracted.
func subtract(i *Idle, sure []float64) *Subtract {
	s := &Subtract{Which: Mean, Watts: i.MeanW, Why: "all readings are power, and the mean of all is unbiased"}
	sem := i.SEMEffW.Or(0)
	if x := i.Mixture; x != nil {
		apart := math.Abs(i.MeanW - i.RobustW.V)
		switch x.Verdict {
		case FloorArtefact:
			s.Which, s.Watts = Robust, i.RobustW.V
			s.Why = fmt.Sprintf("%.1f %% of the ticks are no power: %s", 100*x.LowWeight, x.Why)
			if _, sd := stats.MeanSD(sure); len(sure) > 1 {
				own := sd / math.Sqrt(stats.CountIndependent(sure).Least())
				if !x.byCounter && apart > 2*sem {
					s.AmbiguousW = apart / 2
				}
				sem = own
			}
		case Undecided:
			s.Why = fmt.Sprintf("%.1f %% of the ticks may be no power: %s", 100*x.LowWeight, x.Why)
			if apart > 2*sem {
				s.AmbiguousW = apart / 2
			}
		case LowPowerState:
			s.Why = "the low readings are power: " + x.Why
		}
	}
	switch n := len(i.Periods); {
	case n > 1:
		a, b := i.Periods[0], i.Periods[n-1]
		if d := math.Abs(b.Watts - a.Watts); d > 2*math.Hypot(a.SE.Or(0), b.SE.Or(0)) {
			s.DriftW = d / 2
		}
	case i.Drift != nil && i.Drift.Shown:
		s.DriftW = i.Drift.HalfRangeW
	}
	s.SE = math.Sqrt(sem*sem + s.AmbiguousW*s.AmbiguousW + s.DriftW*s.DriftW)
	return s
}

// doubt says what about the readings makes the figures doubtful.
func (m *Meter) doubt(i *Idle, counterSE float64) {
	add := func(format string, args ...any) { i.Doubts = append(i.Doubts, fmt.Sprintf(format, args...)) }
	if n, ok := i.NEff.Get(); ok && n < m.o.LeastNEff && i.SEMEffW.V > precise*i.MeanW {
		add("the readings are worth %.1f independent ones, %g is the least", n, m.o.LeastNEff)
	}
	if x := i.Mixture; x != nil && x.Verdict == Undecided && i.Subtract.AmbiguousW > 0 {
		add("ambiguous: %s", i.Subtract.Why)
	}
	if i.Periods == nil && i.Drift != nil && i.Drift.Shown && i.Drift.HalfRangeW > m.o.Material*i.MeanW {
		add("idle power still drifts by %.2g ± %.1g W/h", i.Drift.WattsPerHour, stats.Z95*i.Drift.SE)
	}
	counter, ok := i.CounterW.Get()
	if i.FloorFraction.V == 1 {
		switch {
		case !ok:
			add("all readings are below %g W, and there is no energy counter that could confirm it", record.FloorW)
		case math.Abs(counter-i.MeanW) > 0.1*counter+3*counterSE:
			add("all readings are below %g W, but the energy counter shows %.1f W", record.FloorW, counter)
		}
	}
	if w := i.Subtract.Watts; ok && counter < w*(1-counterGain)-3*counterSE && i.FloorFraction.V < 1 {
		i.Notes = append(i.Notes, fmt.Sprintf("the energy counter shows only %.1f W", counter))
	}
}

// counterGain is how much the energy counter and the power readings of one board
// may differ without anything being wrong.
const counterGain = 0.03

// unseen are the reasons for a fake idle that utilisation does not show: it is
// the share of time in which anything ran, read now and then, and misses bursts.
func (m *Meter) unseen(g *gpu, t *tally, i *Idle, sure []float64) (reasons []string) {
	add := func(format string, args ...any) { reasons = append(reasons, fmt.Sprintf(format, args...)) }
	material := m.o.Material * i.MeanW
	util := "not read"
	if p95, ok := i.UtilP95.Get(); ok {
		util = fmt.Sprintf("p95 %g %%", p95)
	}
	level := i.Subtract.Watts
	if x := i.Mixture; x != nil && x.floor != nil {
		level = x.HighW // the mean of what is sure
	}
	stepped := false
	for k := 1; k < len(i.Segments); k++ {
		a, b := i.Segments[k-1], i.Segments[k]
		if b.Began == "power" && math.Abs(b.Watts-a.Watts) > max(material, 3*math.Hypot(a.SE.Or(0), b.SE.Or(0))) {
			add("power went from %.4g to %.4g W after %.0f s, with clocks as before (utilisation: %s)", a.Watts, b.Watts, b.FromS, util)
			stepped = true
			break
		}
	}
	if quiet, spread := quiet(sure); !stepped && level-quiet > max(material, 3*spread/math.Sqrt(i.NEff.Or(1)), resolution(sure)) {
		above := 0
		for _, w := range sure {
			if w > quiet+max(3*spread, material) {
				above++
			}
		}
		add("bursts in %.2g %% of the readings add %.2g W to a quiet level of %.4g W (utilisation: %s)", 100*float64(above)/float64(len(sure)), level-quiet, quiet, util)
	}
	if counter, ok := i.CounterW.Get(); ok && counter-level > counterGain*level+3*i.SEMEffW.Or(0) {
		add("the energy counter shows %.4g W where the power readings have %.4g W: bursts between the readings (utilisation: %s)", counter, level, util)
	}
	if t.hasVRAM {
		if said, saw := m.o.State, seen(g, t); said != "" && slices.Index(states, saw) > slices.Index(states, said) {
			add("%.0f MiB of memory are in use, more than a GPU in state %s has: another process holds it", t.vram, said)
		}
		if t.mostVRAM-t.leastVRAM >= variedMB {
			add("memory in use varied from %.0f to %.0f MiB: another process came or went", t.leastVRAM, t.mostVRAM)
		}
	}
	if w := i.Subtract.Watts; m.o.ExpectW > 0 && w > m.o.ExpectW*(1+expectMargin)+3*i.SEMEffW.Or(0) {
		add("%.4g W is more than the %g W that this board is known to idle at", w, m.o.ExpectW)
	}
	if n := len(i.Periods); n > 1 {
		a, b := i.Periods[0], i.Periods[n-1]
		if math.Abs(b.Watts-a.Watts) > max(material, 3*math.Hypot(a.SE.Or(0), b.SE.Or(0))) {
			add("idle power went from %.4g W%s to %.4g W%s from the first window to the last", a.Watts, warm(a), b.Watts, warm(b))
		}
	}
	return reasons
}

// quiet is the level that bursts stand on, and the deviation of readings there,
// both from the lowest quarter of the readings: bursts that each spoil a second
// of an averaging sensor can have most of the others. For a normal distribution
// it is the mean and the standard deviation.
func quiet(w []float64) (level, spread float64) {
	const z05, z25 = 1.645, 0.674
	lowest := stats.Quantile(w, 0.05)
	spread = (stats.Quantile(w, 0.25) - lowest) / (z05 - z25)
	return lowest + z05*spread, spread
}

// resolution is the least difference between two readings: levels that are
// nearer than that cannot be told.
func resolution(w []float64) float64 {
	sorted := slices.Compact(slices.Sorted(slices.Values(w)))
	least := math.Inf(1)
	for k := 1; k < len(sorted); k++ {
		least = min(least, sorted[k]-sorted[k-1])
	}
	return least
}

// states in the order of the power that they take.
var states = []string{NoContext, Context, Resident}

const (
	variedMB     = 64   // MiB: less is the driver's own
	expectMargin = 0.05 // boards of one kind differ by this much
)

func warm(p Period) string {
	if c, ok := p.TempC.Get(); ok {
		return fmt.Sprintf(" (%.0f °C)", c)
	}
	return ""
}

// to says what differs between two settings.
func (s setting) to(next setting) string {
	for _, c := range []struct {
		what, unit string
		a, b       record.Opt[int64]
	}{{"SM clock", " MHz", s.sm, next.sm}, {"memory clock", " MHz", s.mem, next.mem}, {"performance state", "", s.pstate, next.pstate}} {
		if cmp.Compare(c.a.V, c.b.V) != 0 && c.a.OK && c.b.OK {
			return fmt.Sprintf("%s went from %d to %d%s", c.what, c.a.V, c.b.V, c.unit)
		}
	}
	return "a clock was not read"
}
