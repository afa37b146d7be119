package energy

import (
	"fmt"
	"math"
	"slices"

	"joulepipe/pkg/record"
)

// Events that name a process in a further field pid have that process's part of
// the energy of the time: as large as its part of the time with a kernel
// running, over all processes that the driver tells of (record.Process).

const (
	// unlike is how far the power of one process, for each second with a kernel
	// of it running, may be from that of the others: one standard deviation, of
	// the logarithm. What keeps an H200 at work all of the time draws, in
	// testdata/h200-study and docs/validation, 229 W (decodes of GPT-2), 240 W
	// (its prefills), 558 and 574 W (decodes of Llama-3.1-8B at batches of 1 and
	// 4), 565 W (fp32), 588 W (memory), 706 W (prefills of Llama) and 727 W
	// (bf16): 0.46 is one's deviation, √2 of that the difference of two.
	unlike = 0.65

	// maxRecord is the longest record of a process that an event waits for, ns.
	maxRecord = int64(60e9)
)

// workers is what is to be known of the processes on a GPU: sums for each event
// that waits, and nothing of what has been.
type workers struct {
	waiting   []*part
	longestNS int64 // of all records, up to maxRecord
}

// part is what the records of the processes on one GPU say of an event.
type part struct {
	pid            int64
	startNS, endNS int64
	own, all       sum   // time with a kernel running, in per cent · ns, which are whole numbers
	ours, theirs   doubt // of its own, and of that of the others
	coveredNS      int64 // of the event's time, in records
	coveredTo      int64
	darkNS         int64 // of it, in records that tell of a process and not what it did
	longestNS      int64 // of the records that it touches
	failure        string
	done           bool // no more is to come
}

// doubt is how far such a time may be off.
type doubt struct {
	variance float64 // s², of rounding
	edges    float64 // s, at most, of records that are not all in the event
}

// watch takes an event into account.
func (w *workers) watch(e *record.Event, pid int64) *part {
	p := &part{pid: pid, startNS: e.StartNS, endNS: e.EndNS, coveredTo: e.StartNS}
	w.waiting = append(w.waiting, p)
	return p
}

// observe adds a record to what is known of the events that it touches. The
// first that begins after an event's end says that all of the event is told.
func (w *workers) observe(r *record.Process) {
	w.longestNS = max(w.longestNS, min(r.TimeNS-r.StartNS, maxRecord))
	kept := w.waiting[:0]
	for _, p := range w.waiting {
		p.observe(r)
		if !p.done {
			kept = append(kept, p)
		}
	}
	clear(w.waiting[len(kept):])
	w.waiting = kept
}

// drop forgets an event.
func (w *workers) drop(p *part) {
	if i := slices.Index(w.waiting, p); i >= 0 {
		w.waiting = slices.Delete(w.waiting, i, i+1)
	}
}

func (p *part) observe(r *record.Process) {
	told := r.PID.OK || r.Error == ""
	p.done = p.done || told && r.StartNS >= p.endNS
	from, to := max(p.startNS, r.StartNS), min(p.endNS, r.TimeNS)
	if to <= from {
		return
	}
	util, ok := r.SMUtil.Get()
	switch {
	case !told:
		p.failure = r.Error
		return
	case r.PID.OK && !(ok && util >= 0):
		p.darkNS += to - from
		p.cover(from, to)
		return
	}
	p.cover(from, to)
	if !r.PID.OK {
		return
	}
	p.longestNS = max(p.longestNS, r.TimeNS-r.StartNS)
	inside, whole := float64(to-from)/1e9, float64(r.TimeNS-r.StartNS)/1e9
	ran := util * float64(to-from)
	p.all = p.all.add(ran)
	if r.PID.V == p.pid {
		p.own = p.own.add(ran)
		p.ours.add(util/100, inside, whole)
	} else {
		p.theirs.add(util/100, inside, whole)
	}
}

// add takes in a record that has the share u of whole seconds, of which so many
// are inside the event. u is told in whole per cent, and where in the record the
// kernels ran is not told: what runs for the event alone ran all inside.
func (d *doubt) add(u, inside, whole float64) {
	d.variance += inside * inside * 0.01 * 0.01 / 12
	if inside < whole {
		busy := u * whole
		least, most := max(0, busy-(whole-inside)), min(inside, busy)
		d.edges += max(0, most-u*inside, u*inside-least)
	}
}

// cover notes that a record tells of that time.
func (p *part) cover(from, to int64) {
	if from = max(from, p.coveredTo); to > from {
		p.coveredNS += to - from
		p.coveredTo = to
	}
}

// divided is what a process has of an event's energy.
type divided struct {
	share      float64
	ci         float64 // half-width
	systematic float64 // one standard deviation of the part of it that is the same for all events
	alone      bool    // no other process was at work
	unseen     float64 // share of the event's time that no record tells of
	why        string  // there is none
}

// partition finds a process's share over the GPUs of an event.
func partition(parts []*part) (d divided) {
	var own, all sum
	var ours, theirs doubt
	var unseen, length, covered float64
	least, most := math.Inf(1), math.Inf(-1)
	failure := ""
	for _, p := range parts {
		own, all = own.plus(p.own), all.plus(p.all)
		ours = doubt{ours.variance + p.ours.variance, ours.edges + p.ours.edges}
		theirs = doubt{theirs.variance + p.theirs.variance, theirs.edges + p.theirs.edges}
		took := p.endNS - p.startNS
		length += float64(took) / 1e9
		covered += float64(p.coveredNS) / 1e9
		unseen += float64(min(took, took-p.coveredNS+p.darkNS)) / 1e9
		if a := p.all.minus(sum{}); a > 0 {
			s := p.own.minus(sum{}) / a
			least, most = min(least, s), max(most, s)
		}
		if p.failure != "" {
			failure = p.failure
		}
	}
	w, a := own.minus(sum{})/1e11, all.minus(sum{})/1e11 // s
	switch {
	case covered == 0 && failure != "":
		d.why = fmt.Sprintf("the driver did not tell what processes did in the event (%s)", failure)
	case covered == 0:
		d.why = "the trace has no process records over the event: poll with --channels …,process"
	case a == 0:
		d.why = "no process was at work in the event"
		if unseen > 0 {
			d.why += fmt.Sprintf(", so far as process records tell of it (%s)", percent(1-unseen/length))
		}
	}
	if d.why != "" {
		return d
	}
	others := a - w
	d.share, d.alone, d.unseen = own.minus(sum{})/all.minus(sum{}), others <= 0, unseen/length
	if w == 0 {
		ours.edges += 0.005 * covered // what would have been told as 0 %
	}
	// What was not seen may have been its own, or the others'. Over several GPUs
	// the share is one of those on each.
	bound := max((w+unseen)/(a+unseen)-d.share, d.share-w/(a+unseen), 0) + max(d.share-least, most-d.share) +
		(others*ours.edges+w*theirs.edges)/(a*a)
	noise := math.Sqrt(others*others*ours.variance+w*w*theirs.variance) / (a * a)
	d.systematic = d.share * (1 - d.share) * unlike
	d.ci = min(math.Hypot(z95*math.Hypot(noise, d.systematic), bound), max(d.share, 1-d.share))
	return d
}

// attend gives an event that names a process its place among those who wait
// for what the driver tells of processes.
func (a *Attributor) attend(p *pending) {
	if p.pid = p.event.Whole("pid").Or(0); p.pid == 0 || a.opts.Method == TR122 || p.untimely {
		return
	}
	for _, b := range p.boards {
		p.parts = append(p.parts, b.workers.watch(&p.event, p.pid))
	}
}

// processes takes a record of what a process did.
func (a *Attributor) processes(r *record.Process) error {
	if a.opts.Method == TR122 {
		return nil
	}
	b := a.board(r.GPU)
	if b == nil {
		return fmt.Errorf("more than %d GPUs", maxGPUs)
	}
	b.workers.observe(r)
	return a.hand(false)
}

// awaits says that an event is to wait for records of processes: they come late
// by a poll, and tell of the time since the poll before.
func (a *Attributor) awaits(p *pending) bool {
	for i, x := range p.parts {
		if !x.done && a.now-x.endNS <= patience+2*p.boards[i].workers.longestNS {
			return true
		}
	}
	return false
}

// allot gives an event that names a process that process's part of the energy.
// systematic is the part of the energy's interval that repetitions do not take
// away, one standard deviation, J, and so is what is returned.
func (a *Attributor) allot(p *pending, systematic float64) float64 {
	if len(p.parts) == 0 {
		return systematic
	}
	for i, x := range p.parts {
		p.boards[i].workers.drop(x)
	}
	e := p.event.Energy
	if !e.Joules.OK {
		return systematic
	}
	d := partition(p.parts)
	if d.why != "" {
		e.Reasons = append(e.Reasons, fmt.Sprintf("the part of process %d: %s", p.pid, d.why))
		withhold(e)
		return 0
	}
	whole := e.Joules.V
	d.scale(e)
	perToken(e, &p.event)
	d.grade(e, p)
	return math.Hypot(d.share*systematic, whole*d.systematic)
}

// withhold takes an event's numbers away.
func withhold(e *record.Energy) {
	for _, v := range joules(e) {
		*v = opt{}
	}
	e.GainUncertainty, e.OwnInformation = opt{}, opt{}
	e.Quality, e.Tier = NoData, Refused
}

// joules are all that an event has in joules.
func joules(e *record.Energy) []*opt {
	return []*opt{
		&e.Joules, &e.OperationalJ, &e.OperationalClamped, &e.CI95J, &e.AbsoluteCI95J, &e.OperationalCI95J,
		&e.IntegratedJ, &e.IntegratedCI95J, &e.CounterJ, &e.CounterCI95J, &e.JoulesPerToken, &e.OperationalPerTok,
	}
}

// scale makes of a GPU's joules the process's, whose intervals hold that of the
// share.
func (d *divided) scale(e *record.Energy) {
	e.ProcessShare, e.ProcessShareCI95 = some(d.share), some(d.ci)
	for _, x := range []struct{ of, ci *opt }{
		{&e.Joules, &e.CI95J}, {&e.Joules, &e.AbsoluteCI95J}, {&e.OperationalJ, &e.OperationalCI95J},
		{&e.IntegratedJ, &e.IntegratedCI95J}, {&e.CounterJ, &e.CounterCI95J},
	} {
		if x.ci.OK {
			*x.ci = some(math.Hypot(d.share*x.ci.V, d.ci*x.of.V))
		}
	}
	for _, v := range []*opt{&e.Joules, &e.OperationalJ, &e.OperationalClamped, &e.IntegratedJ, &e.CounterJ} {
		if v.OK {
			*v = some(d.share * v.V)
		}
	}
}

// grade says what the number is good for, once it is a part.
func (d *divided) grade(e *record.Energy, p *pending) {
	say := func(format string, args ...any) { e.Reasons = append(e.Reasons, fmt.Sprintf(format, args...)) }
	if d.unseen > 0 && d.ci > 0 {
		say("process records leave out %s of the event", percent(d.unseen))
	}
	switch {
	case d.share == 0:
		say("process %d is in no process record of the event, and others are: in a container, the driver may know it by another number", p.pid)
	case !d.alone:
		spacing := int64(0)
		for _, x := range p.parts {
			spacing = max(spacing, x.longestNS)
		}
		say("process %d has %s ± %s of the energy, as of the time with a kernel running: that is told in whole per cent for up to %s at a time, and says nothing of power, in which kernels differ by a factor of three",
			p.pid, percent(d.share), percent(d.ci), length(spacing))
	}
	if d.ci > 0 {
		relative := d.ci / d.share
		if e.CI95J.OK && e.Joules.V > 0 {
			relative = max(relative, e.CI95J.V/e.Joules.V)
		}
		if tier := worse(e.Tier, tierOf(relative)); tier != e.Tier {
			if e.Tier = tier; tier == Refused && d.share > 0 {
				say("the interval is ±%s of it", percent(relative))
			}
		}
	}
	if !d.alone {
		e.Tier = worse(e.Tier, Estimate)
	}
}
