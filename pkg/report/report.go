// Package report judges a run directory and tells what its joules can be used
// for: it reads the trace once, in memory that does not grow with it, gathers
// what the other files say, computes every check in one place, and renders that
// as Markdown for people and as JSON for programs, which therefore cannot
// disagree.
//
// It measures nothing and attributes nothing: joules come from the attributed
// events; the trace is only held against them. Events are kept in memory, some
// 500 bytes each.
package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/chart"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stream"
	"joulepipe/pkg/vram"
)

// Run is everything that a report says about a run directory. Read makes it;
// it is not changed afterwards.
type Run struct {
	Limits    Thresholds
	Artifacts []Artifact
	Missing   []Missing
	Problems  []string // what could not be read, with file and line; the result does not stand

	Trace       *Trace // empty where there is none
	Baselines   []baseline.Idle
	Events      []record.Event   // in the order of the file
	Attributed  bool             // the events carry joules
	Summaries   []record.Summary // per phase and batch
	Overall     []record.Summary // per phase, over all batches: their curves
	Agreements  []record.Agreement
	EventsRun   string        // run_id of the event file; empty where it has none
	EventsBoot  string        // boot_id of the event file; empty where it has none
	Soaks       []record.Soak // the last word of nvsoak on each GPU
	Sensors     []sensor.GPU
	Memory      []vram.GPU // what was tried of each GPU's memory
	Comparisons []Comparison
	Costs       []Cost

	Checks    []Check
	Claims    []Claim
	Uses      []Claim
	Decisions []Decision
	Front     *Front
	Figures   []*chart.Figure   // those for which there are data
	contexts  []int64           // of the events, tokens of each sequence; 0: not known
	undrawn   map[string]string // why a figure is missing
	warm      map[int]*warming  // by GPU, the course of the heat soak
	State     string            // completed | aborted | timeout
	EndReason string            // equilibrium, thermal_trip, timeout, interrupted, no_trace, trace_cut, poller_degraded or end_of_trace

	files [len(contents)]string // name of each kind of file here; empty: missing
	idle  map[int]*idleMean     // by GPU, of the samples of the baseline
	runs  map[string][]string   // file → the run_id of each header in it, the empty ones left out
	// by number, the energy of an event by each channel
	integrals map[int]integral
}

// problemsShown is how many bad lines of one file are told one by one.
const problemsShown = 5

// Read gathers and judges the run in dir. Any file may be missing, and what can
// be read of a damaged one is used: Missing and Problems tell. It is an error
// when the directory cannot be read or holds nothing of a run.
func Read(dir fs.FS, limits Thresholds) (*Run, error) {
	r := &Run{Limits: limits, Trace: &Trace{}, runs: map[string][]string{}}
	if err := r.inventory(dir); err != nil {
		return nil, err
	}
	if len(r.Missing) == len(contents) {
		return nil, fmt.Errorf("no file of a run in it: looked for %s and others: %w", traceFile.name(), fs.ErrNotExist)
	}
	r.readBaseline(dir)
	if all := load(r, dir, sensorFile, sensor.Load); all != nil {
		r.Sensors = all.GPUs
	}
	r.readSoak(dir)
	if all := load(r, dir, vramFile, vram.Load); all != nil {
		r.Memory = all.GPUs
	}
	header := r.peek(dir)
	r.readEvents(dir, header)
	r.readTrace(dir, header)
	r.judge()
	r.Front = r.forFront()
	r.draw()
	return r, nil
}

// peek is the header at the beginning of the trace, nil if it has none. What is
// wrong with the file comes out when it is read in full.
func (r *Run) peek(dir fs.FS) *record.Header {
	f, err := dir.Open(cmp.Or(r.files[traceFile], traceFile.name()))
	if err != nil {
		return nil
	}
	defer f.Close()
	for in := stream.NewReader(f, ""); in.Scan(); {
		switch h := in.Record().(type) {
		case *record.Header:
			kept := *h
			return &kept
		case *record.SyntaxError:
		default:
			return nil
		}
	}
	return nil
}

// scan hands the records of a file to take. What is wrong with the file goes to
// Problems; cut says why it counts as cut, and is empty where it is whole.
func (r *Run) scan(dir fs.FS, name string, take func(record.Record)) (cut string) {
	f, err := dir.Open(name)
	if err != nil {
		r.problem("%v", err)
		return err.Error()
	}
	defer f.Close()
	in := stream.NewReader(f, name)
	bad := 0
	for in.Scan() {
		e, ok := in.Record().(*record.SyntaxError)
		if !ok {
			if h, ok := in.Record().(*record.Header); ok && h.RunID != "" && !slices.Contains(r.runs[name], h.RunID) {
				r.runs[name] = append(r.runs[name], h.RunID)
			}
			take(in.Record())
			continue
		}
		if bad++; bad > problemsShown {
			continue
		}
		if e.Hint != "" {
			r.problem("%v (hint: %s)", e, e.Hint)
		} else {
			r.problem("%v", e)
		}
	}
	if bad > problemsShown {
		r.problem("%s: %d more lines that do not parse", name, bad-problemsShown)
	}
	err = in.Err()
	if truncated, ok := errors.AsType[*stream.TruncatedError](err); ok {
		r.problem("%v", truncated)
		return truncated.Why
	}
	if err != nil {
		r.problem("%s: reading stopped: %v", name, err)
		return err.Error()
	}
	return ""
}

func (r *Run) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// load reads a file of the run whole; what is not there, or cannot be read, is
// the zero value.
func load[T any](r *Run, dir fs.FS, k kind, read func(io.Reader) (T, error)) (all T) {
	name := r.files[k]
	if name == "" {
		return all
	}
	f, err := dir.Open(name)
	if err == nil {
		defer f.Close()
		all, err = read(f)
	}
	if err != nil {
		r.problem("%s: %v", name, err)
		return *new(T)
	}
	return all
}

// readBaseline takes the idle power, and where the samples it was made of were
// kept, their mean.
func (r *Run) readBaseline(dir fs.FS) {
	r.Baselines = load(r, dir, idleFile, baseline.Load)
	if r.Baselines == nil || r.files[idleTraceFile] == "" {
		return
	}
	r.idle = map[int]*idleMean{}
	for _, b := range r.Baselines {
		r.idle[b.GPU] = &idleMean{channel: cmp.Or(b.Channel, record.ChannelPower), series: envelope{gapNS: r.Limits.GapDt.Nanoseconds()}}
	}
	r.scan(dir, r.files[idleTraceFile], func(rec record.Record) {
		switch rec := rec.(type) {
		case *record.Sample:
			if m := r.idle[rec.GPU]; m != nil && rec.ReadOK {
				m.add(rec.TimeNS, map[string]record.Opt[float64]{
					record.ChannelPower: rec.PowerW, record.ChannelInstant: rec.PowerInstantW, record.ChannelAverage: rec.PowerAverageW,
				}[m.channel])
			}
		case *record.Power:
			if m := r.idle[rec.GPU]; m != nil && m.channel == record.ChannelDriver {
				m.add(rec.TimeNS, record.Some(rec.PowerW))
			}
		}
	})
}

// idleMean is the mean power of a baseline's samples, and what is drawn of them.
type idleMean struct {
	channel string
	n       int64
	sum     float64
	series  envelope
	spread  spread
}

func (m *idleMean) add(ns int64, w record.Opt[float64]) {
	if w.OK {
		m.n++
		m.sum += w.V
		m.series.add(ns, w.V)
		m.spread.add(w.V)
	}
}

// readEvents takes the attributed events, or the plain ones where there are no
// others. An event that names no GPU ran on the trace's only one, or GPU 0.
func (r *Run) readEvents(dir fs.FS, trace *record.Header) {
	name := r.events()
	if name == "" {
		return
	}
	gpu := 0
	if trace != nil && len(trace.GPUs) == 1 {
		gpu = trace.GPUs[0].Index
	}
	r.scan(dir, name, func(rec record.Record) {
		switch rec := rec.(type) {
		case *record.Header:
			r.EventsRun, r.EventsBoot = rec.RunID, rec.BootID
		case *record.Event:
			e := *rec
			e.Extra = kept(rec.Extra)
			e.GPUs = slices.Clone(rec.GPUs)
			if len(e.GPUs) == 0 {
				e.GPUs = []int{gpu}
			}
			if rec.Energy != nil {
				joules := *rec.Energy
				joules.Reasons = slices.Clone(joules.Reasons)
				e.Energy = &joules
				r.Attributed = true
			}
			r.Events = append(r.Events, e)
			r.contexts = append(r.contexts, contextOf(rec))
		case *record.Summary:
			switch {
			case rec.Over != "": // what is over all batches has no joules of its own
				r.Overall = append(r.Overall, *rec)
			case !rec.Context.OK: // that of all contexts has those of one in it
				r.Summaries = append(r.Summaries, *rec)
			}
		case *record.Agreement:
			r.Agreements = append(r.Agreements, *rec)
		}
	})
}

// kept are the further fields of an event that tell what it was: the rest is
// left out, as there may be much of it.
func kept(fields []record.Field) (some []record.Field) {
	for _, f := range fields {
		if slices.Contains([]string{"context", "dtype", "passes"}, f.Name) && len(f.Value) <= nameLength {
			some = append(some, record.Field{Name: f.Name, Value: slices.Clone(f.Value)})
		}
	}
	return some
}

// events is the file that events are taken from, "" if there is none.
func (r *Run) events() string { return cmp.Or(r.files[joulesFile], r.files[eventsFile]) }

// warming is the course of a heat soak.
type warming struct {
	points []record.Soak
	every  int // of so many records one is kept
	n      int
}

// warmingPoints is how many records of a soak are kept; of more, every other one.
const warmingPoints = 4096

func (r *Run) warmth(s *record.Soak) {
	w := r.warm[s.GPU]
	if w == nil {
		if len(r.warm) >= picturedGPUs {
			return
		}
		if r.warm == nil {
			r.warm = map[int]*warming{}
		}
		w = &warming{every: 1}
		r.warm[s.GPU] = w
	}
	if w.n++; (w.n-1)%w.every != 0 && !s.Final {
		return
	}
	if len(w.points) >= warmingPoints {
		half := w.points[:0]
		for i := 0; i < len(w.points); i += 2 {
			half = append(half, w.points[i])
		}
		w.points, w.every = half, 2*w.every
	}
	kept := *s
	kept.ThrottleReasons, kept.Rule, kept.Reason = nil, nil, ""
	w.points = append(w.points, kept)
}

// readSoak keeps the last record of each GPU.
func (r *Run) readSoak(dir fs.FS) {
	if r.files[soakFile] == "" {
		return
	}
	r.scan(dir, r.files[soakFile], func(rec record.Record) {
		s, ok := rec.(*record.Soak)
		if !ok {
			return
		}
		r.warmth(s)
		last := *s
		last.ThrottleReasons = slices.Clone(s.ThrottleReasons)
		i := slices.IndexFunc(r.Soaks, func(o record.Soak) bool { return o.GPU == s.GPU })
		if i < 0 {
			r.Soaks = append(r.Soaks, last)
		} else {
			r.Soaks[i] = last
		}
	})
}
