// Package poll is the sampling loop: it reads some GPUs on one grid of time,
// and their slow channels beside it, into one stream of records, and gives an
// account of its own punctuality.
//
// Each channel of each GPU has a goroutine of its own, so that a call that
// hangs holds up nothing but itself, and the energy counter, whose call takes
// up to 100 ms, never moves a tick. The grids hand their records on through a
// queue that they never wait for: neither writing nor compression delays a
// reading. A record comes from a fixed store and goes back to it when written;
// a tick that finds the store empty is dropped, while a slow channel waits.
//
// A grid so fine that its ticks fall into calls of the slow channels sleeps on an
// operating system thread of its own, which costs processor time: the runtime wakes
// nobody for up to 10 ms while all that the process does is a call. It gives such a
// thread a processor at once only where one is free: let GOMAXPROCS exceed the number of
// CPUs by the number of GPUs and one more.
package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sched"
)

// Config says what is polled. The zero Config polls nothing.
type Config struct {
	// Channels are the channels to poll and how often; 0 is DefaultPeriod, or for
	// the counter BesidePower where the GPU's driver has its power buffer polled
	// as well. A channel that a GPU does not offer is left out for that GPU.
	Channels map[string]time.Duration
	// Duration is when to stop, rounded up to whole periods; 0 is not before
	// the context ends.
	Duration time.Duration
	// Flush is the longest time that a record waits in the sink's buffer; 0 is
	// 200 ms.
	Flush time.Duration
	// Gap is the spacing of samples that is a gap; 0 is DefaultGap.
	Gap time.Duration
}

// DefaultPeriod is how often a channel is polled unless told otherwise. The
// driver's power buffer holds 2.4 s on an H200; the counter moves every 100 ms;
// a call for GPM keeps a processor busy for up to 9 ms there.
func DefaultPeriod(channel string) time.Duration {
	switch channel {
	case gpu.Power, gpu.GPM, gpu.Process:
		return time.Second
	}
	return 100 * time.Millisecond
}

// BesidePower is how often the counter is read where the driver's power buffer
// has the detail and the counter is the check on it: its call keeps a processor
// busy for 3 to 7 ms on an H200, ten times a second 3 to 7 % of it.
const BesidePower = time.Second

// usual is how often a channel of a GPU is polled where nothing is said.
func usual(g gpu.GPU, channel string, cfg Config) time.Duration {
	if _, asked := cfg.Channels[gpu.Power]; asked && channel == gpu.Counter {
		if ok, _ := Offers(g, gpu.Power); ok {
			return BesidePower
		}
	}
	return DefaultPeriod(channel)
}

// Offers says whether a GPU has the channel, and the reason if not. A channel
// that failed when the device was opened is polled all the same where the
// failure may pass.
func Offers(g gpu.GPU, channel string) (ok bool, why string) {
	switch state := g.Info().Channels[channel]; {
	case state == "ok" || gpu.Error(state).Passing():
		return true, ""
	case state == "":
		return false, "not offered by this device"
	default:
		return false, state
	}
}

// Sink takes the records; a stream.Writer is one. A record is the poller's own
// again when Write returns.
type Sink interface {
	Write(record.Record) error
	Flush() error
}

// HungError says which calls had not returned when the poller stopped. All
// that was read is written, but the device must not be closed.
type HungError struct {
	Calls []string // "GPU 0 counter"
}

func (e *HungError) Error() string {
	return fmt.Sprintf("no answer within %v from the driver for %s", patience, strings.Join(e.Calls, ", "))
}

const (
	lead         = 2 * time.Millisecond // from the call of Run to the first tick: the threads start
	patience     = time.Second          // for calls under way at the end
	defaultFlush = 200 * time.Millisecond
)

// offBeat is when in the period of the grid the slow channels make their calls.
// The driver takes one call at a time: where all began with the tick, the grid's
// own reading stood in line behind the counter's, for 6.5 ms in the median on an
// H200.
var offBeat = map[string]float64{gpu.Power: 0.15, gpu.Counter: 0.3, gpu.GPM: 0.65, gpu.Process: 0.8}

// Run polls the GPUs until the time is up or ctx ends, which is a regular end,
// and returns the account. It fails with the sink's error, or with a
// *HungError when calls to the driver did not return within a second of the
// end; the account holds in both cases.
func Run(ctx context.Context, gpus []gpu.GPU, c clock.Clock, cfg Config, out Sink) (record.Poller, error) {
	p := newPoller(gpus, c, cfg, out)
	if len(p.workers) == 0 {
		return record.Poller{}, errors.New("none of the GPUs offers a channel that is to be polled")
	}
	defer close(p.gone)
	ctx, p.stop = context.WithCancel(ctx)
	defer p.stop()

	var running sync.WaitGroup
	for _, w := range p.workers {
		running.Go(func() {
			w.run(ctx)
			w.done.Store(true)
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	stopped := p.write(ctx, done)
	return p.account(stopped), p.err
}

// poller is one Run. The workers share its first part, which does not change;
// the rest belongs to the goroutine of Run.
type poller struct {
	clock clock.Clock
	begin int64 // the first tick of the grid, ns
	end   int64 // no tick from here on, ns

	// queue has room for every record that the stores have: who has a record
	// can send it without waiting.
	queue     chan record.Record
	samples   store[record.Sample]
	powers    store[record.Power]
	counters  store[record.Counter]
	gpms      store[record.GPM]
	processes store[record.Process]
	gone      chan struct{} // closed when nobody empties the queue any more

	cfg     Config
	workers []*worker
	stats   []*Stats // of the GPUs, in their order
	out     Sink
	stop    func() // ends the workers
	err     error  // what Run ends with

	waiting  bool        // a record is in the sink's buffer
	flushed  int64       // when it last was empty, ns
	flushing *time.Timer // when it is flushed at the latest, while a record waits
}

func newPoller(gpus []gpu.GPU, c clock.Clock, cfg Config, out Sink) *poller {
	p := &poller{
		clock: c,
		begin: c.Now() + int64(lead),
		end:   math.MaxInt64,
		gone:  make(chan struct{}),
		cfg:   cfg,
		out:   out,

		flushing: time.NewTimer(math.MaxInt64),
	}
	if cfg.Duration > 0 {
		p.end = p.begin + int64(cfg.Duration)
	}
	sampling := time.Duration(0)
	if d, ok := cfg.Channels[gpu.Sample]; ok {
		sampling = cmp.Or(d, DefaultPeriod(gpu.Sample))
	}
	for _, g := range gpus {
		index := g.Info().Index
		p.stats = append(p.stats, &Stats{GPU: index, Period: sampling, Gap: cfg.Gap})
		for channel, d := range cfg.Channels {
			d = cmp.Or(d, usual(g, channel, cfg))
			if ok, _ := Offers(g, channel); ok {
				p.workers = append(p.workers, &worker{
					poller:  p,
					gpu:     g,
					index:   index,
					channel: channel,
					grid:    sched.Grid{Start: p.begin + int64(offBeat[channel]*float64(sampling)), Period: int64(d)},
				})
			}
		}
	}
	// The writer may stand still for ten seconds, on a busy disk say, before a
	// grid of usual period loses a tick.
	if sampling > 0 {
		p.samples = newStore[record.Sample](len(gpus) * int(min(max(10*time.Second/sampling, 64), 8192)))
	}
	p.powers = newStore[record.Power](len(gpus) * 256)
	p.counters = newStore[record.Counter](len(gpus) * 64)
	p.gpms = newStore[record.GPM](len(gpus) * 64)
	p.processes = newStore[record.Process](len(gpus) * 64)
	p.queue = make(chan record.Record, cap(p.samples)+cap(p.powers)+cap(p.counters)+cap(p.gpms)+cap(p.processes))
	return p
}

// write empties the queue into the sink until the workers are done or have had
// their second, and returns when the polling stopped.
func (p *poller) write(ctx context.Context, done <-chan struct{}) (stopped int64) {
	defer p.flushing.Stop()
	var timeUp, patienceUp <-chan time.Time
	if p.cfg.Duration > 0 {
		timeUp = time.After(lead + p.cfg.Duration)
	}
	cancelled := ctx.Done()
	over := func() {
		stopped = min(p.clock.Now(), p.end)
		timeUp, cancelled = nil, nil
		patienceUp = time.After(patience)
	}
	for running := true; running; {
		select {
		case r := <-p.queue:
			p.put(r)
		case <-p.flushing.C:
			p.flush()
		case <-timeUp:
			over()
		case <-cancelled:
			over()
		case <-done:
			running = false
		case <-patienceUp:
			running = false
		}
	}
	switch {
	case stopped != 0:
	case ctx.Err() != nil:
		stopped = min(p.clock.Now(), p.end)
	default:
		stopped = p.end // the workers had no tick left before it
	}
	for len(p.queue) > 0 {
		p.put(<-p.queue)
	}
	p.flush()
	p.fail(p.hung())
	return stopped
}

// put writes a record and gives it back to its store. After the sink failed it
// goes on without it: slow channels may be waiting for a record.
func (p *poller) put(r record.Record) {
	if s, ok := r.(*record.Sample); ok {
		p.statsOf(s.GPU).Add(s)
	}
	if p.err == nil {
		p.fail(p.out.Write(r))
		p.hold()
	}
	switch r := r.(type) {
	case *record.Sample:
		p.samples.put(r)
	case *record.Power:
		p.powers.put(r)
	case *record.Counter:
		p.counters.put(r)
	case *record.GPM:
		p.gpms.put(r)
	case *record.Process:
		p.processes.put(r)
	}
}

// hold sees to it that what was written is flushed in time: at once when the
// last flush was long ago, which spares a wake-up of its own.
func (p *poller) hold() {
	if p.waiting {
		return
	}
	p.waiting = true
	now, every := p.clock.Now(), int64(cmp.Or(p.cfg.Flush, defaultFlush))
	if now-p.flushed >= every {
		p.flush()
		return
	}
	p.flushing.Reset(time.Duration(p.flushed + every - now))
}

func (p *poller) flush() {
	if p.waiting && p.err == nil {
		p.waiting, p.flushed = false, p.clock.Now()
		p.fail(p.out.Flush())
	}
}

// fail keeps the first error and ends the workers.
func (p *poller) fail(err error) {
	if p.err == nil && err != nil {
		p.err = err
		p.stop()
	}
}

// hung is a *HungError if there are workers that have not come back.
func (p *poller) hung() error {
	var calls []string
	for _, w := range p.workers {
		if !w.done.Load() {
			calls = append(calls, fmt.Sprintf("GPU %d %s", w.index, w.channel))
		}
	}
	if calls == nil {
		return nil
	}
	slices.Sort(calls)
	return &HungError{calls}
}

func (p *poller) statsOf(index int) *Stats {
	for _, s := range p.stats {
		if s.GPU == index {
			return s
		}
	}
	panic(fmt.Sprintf("poll: a sample of GPU %d, which is not polled", index))
}

// account sums up what the workers did until they were stopped.
func (p *poller) account(stopped int64) record.Poller {
	overall := map[string]*calls{}
	channels := map[int]map[string]record.Channel{} // by GPU
	for _, w := range p.workers {
		if w.channel == gpu.Sample {
			// The tick that was due at the end need not have been read.
			due := w.grid.From(stopped)
			if stopped < p.end {
				due = w.grid.From(stopped - w.grid.Period)
			}
			p.statsOf(w.index).Due(due)
			continue
		}
		if channels[w.index] == nil {
			channels[w.index] = map[string]record.Channel{}
		}
		if overall[w.channel] == nil {
			overall[w.channel] = new(calls)
		}
		channels[w.index][w.channel] = w.calls.account()
		overall[w.channel].merge(&w.calls)
	}
	a := Account(p.stats)
	for i, s := range p.stats {
		a.GPUs[i].Channels = channels[s.GPU]
	}
	for channel, c := range overall {
		if a.Overall.Channels == nil {
			a.Overall.Channels = map[string]record.Channel{}
		}
		a.Overall.Channels[channel] = c.account()
	}
	return a
}
