package load

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
	"joulepipe/pkg/transformer"
)

// Model computes requests on a GPU, as [transformer.Model] does.
type Model interface {
	// Prepare makes room for so many sequences, of so many tokens and answers.
	Prepare(size, prompt, gen int) error
	// Prefill and Decode return when the GPU has nothing more to do.
	Prefill(ctx context.Context) error
	Decode(ctx context.Context) error
	// Progress changes while a Decode goes on. It is asked for at any time.
	Progress() int64
}

// Engine is a model with what is known of its GPU.
type Engine struct {
	Model Model
	GPUs  []int             // indices, for the events
	Speed transformer.Speed // what shares of are told in the events; of the zero Speed, none are
	BLAS  string            // the library that multiplies large matrices; empty is own kernels
	// Wait returns when a request may begin, for the sake of the GPU's
	// temperature, and emits that it was waited; nil is always.
	Wait func(ctx context.Context, emit Emit) error
	// Stall is how long the model may take over a prefill, or over some tokens of a
	// decode: longer, and the GPU is given up. 0 is for ever.
	Stall time.Duration
}

// Run makes the requests on an engine. Their events are those of [Infer.Plan],
// but stamped when the GPU had nothing to do before and after, and have in
// flops, weights_bytes and kv_bytes what was computed and cannot be moved less,
// and in matmul_share or copy_share which part that is of the GPU's speed. The
// marker device_speed before all tells this speed, and with what library.
//
// The end of ctx ends the request under way, which is no error: its event has
// the field interrupted, and no token counts. A failure of the model is one; all
// events before it are emitted. Of a GPU that hangs, a [*StallError], the phase
// under way has an event, too; the model is in use still and must not be closed.
func (f Infer) Run(ctx context.Context, c clock.Clock, e Engine, emit Emit) error {
	if e.Speed != (transformer.Speed{}) {
		if err := emit(&record.Marker{Name: "device_speed", TimeNS: c.Now(), Extra: []record.Field{
			extra("copy_bytes_per_s", e.Speed.Copy), extra("matmul_flops_per_s", e.Speed.Matmul), extra("blas", cmp.Or(e.BLAS, "none")),
		}}); err != nil {
			return err
		}
	}
	s := &server{Infer: &f, Engine: e, clock: c, emit: emit, free: c.Now(), least: map[part]time.Duration{}}
	if e.Stall <= 0 {
		return s.all(ctx)
	}
	over := make(chan error, 1)
	go func() { over <- s.all(ctx) }()
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for looked := c.Now(); ; {
		select {
		case err := <-over:
			return err
		case <-tick.C:
		}
		if err := s.look(sinceLooked(c.Now(), &looked)); err != nil {
			return err
		}
	}
}

// all makes the requests.
func (s *server) all(ctx context.Context) error {
	for _, r := range s.requests() {
		if err := s.answer(ctx, r); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		}
	}
	return nil
}

// server is an Infer on an Engine.
type server struct {
	*Infer
	Engine
	clock clock.Clock
	emit  Emit
	ready kind                   // what the model is prepared for
	free  int64                  // when the request before was over
	least map[part]time.Duration // the shortest that a phase took

	mu     sync.Mutex
	busy   bool            // the model was called and has not returned
	calls  int64           // of it
	events []*record.Event // of the request under way, the last one of what the model does now
	lost   bool            // it hangs
	still  stillness       // of calls and the model's progress
}

// part is a phase of requests of a kind.
type part struct {
	kind
	phase string
}

// answer makes a request after its gap.
func (s *server) answer(ctx context.Context, r request) error {
	if err := s.prepare(ctx, r); err != nil {
		return err
	}
	if s.Wait != nil {
		if err := s.Wait(ctx, s.emit); err != nil {
			return err
		}
	}
	if err := clock.Sleep(ctx, s.clock, s.free+int64(r.gap)); err != nil {
		return err
	}
	var failed error
	s.free = s.clock.Now()
	for _, phase := range phases {
		n := 1
		if d := s.least[part{r.kind, phase}]; d > 0 && !r.warmup {
			n = s.passes(d)
		}
		e := s.event(r, phase, n)
		e.StartNS, e.GPUs = s.free, s.GPUs
		s.hold(append(s.events, e))
		if failed = s.compute(ctx, r, phase, n); errors.Is(failed, errLost) {
			return failed // look has told all
		}
		s.free = s.clock.Now()
		if failed != nil && ctx.Err() == nil {
			s.hold(s.events[:len(s.events)-1])
			break
		}
		e.EndNS = s.free
		if failed != nil {
			e.Extra = append(e.Extra, extra("interrupted", true))
			break
		}
		d := time.Duration(s.free - e.StartNS)
		r.count(e, phase, n, d)
		e.Extra = append(e.Extra, s.achieved(r, phase, n, d)...)
	}
	for _, e := range s.events {
		if err := s.emit(e); err != nil {
			return err
		}
	}
	s.hold(nil)
	return failed
}

// hold keeps the events of a request where look finds them.
func (s *server) hold(events []*record.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = events
}

// call calls the model.
func (s *server) call(f func() error) error {
	s.mu.Lock()
	s.busy = true
	s.calls++
	s.mu.Unlock()
	err := f()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if s.lost { // it has come back after all, too late
		return errors.Join(errLost, err)
	}
	return err
}

var errLost = errors.New("the GPU was given up")

// look gives the GPU up if it hangs, with that much time since it was last looked,
// and tells what was under way.
func (s *server) look(seen time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	quiet := s.still.look(s.calls+s.Model.Progress(), s.busy, seen)
	if quiet <= s.Stall {
		return nil
	}
	s.lost = true
	var failed error = &StallError{s.GPUs[0], quiet}
	for i, e := range s.events {
		if i == len(s.events)-1 {
			e.EndNS = s.clock.Now()
			e.Extra = append(e.Extra, extra("interrupted", true), extra("error", "the GPU hangs"))
		}
		failed = errors.Join(failed, s.emit(e))
	}
	return failed
}

// prepare makes the model ready for a request.
func (s *server) prepare(ctx context.Context, r request) error {
	if s.ready != r.kind {
		s.ready = kind{}
		if err := s.call(func() error { return s.Model.Prepare(r.batch, r.prompt, r.gen) }); err != nil {
			return err
		}
		s.ready = r.kind
		if !r.warmup {
			// The first time takes longer, and belongs to no event.
			if err := s.compute(ctx, r, "prefill", 1); err != nil {
				return err
			}
		}
	}
	if s.Least > 0 && !r.warmup && s.least[part{r.kind, "decode"}] == 0 {
		return s.compute(ctx, r, "decode", 1)
	}
	return nil
}

// compute computes a phase so many times.
func (s *server) compute(ctx context.Context, r request, phase string, passes int) error {
	do := s.Model.Prefill
	if phase == "decode" {
		do = s.Model.Decode
	}
	start := s.clock.Now()
	for range passes {
		if err := s.call(func() error { return do(ctx) }); err != nil {
			return err
		}
	}
	took, p := time.Duration(s.clock.Now()-start)/time.Duration(passes), part{r.kind, phase}
	if before, ok := s.least[p]; !ok || took < before {
		s.least[p] = took
	}
	return nil
}

// achieved is what was done in the time, as fields.
func (s *server) achieved(r request, phase string, passes int, d time.Duration) []record.Field {
	w := s.work(r, phase)
	n := int64(passes)
	fields := []record.Field{
		extra("flops", float64(n)*w.FLOPs), extra("weights_bytes", n*w.WeightBytes), extra("kv_bytes", n*w.KVBytes),
	}
	switch {
	case s.Speed == (transformer.Speed{}):
	case phase == "prefill":
		fields = append(fields, extra("matmul_share", float64(n)*w.FLOPs/d.Seconds()/s.Speed.Matmul))
	default:
		fields = append(fields, extra("copy_share", float64(n*w.Bytes())/d.Seconds()/s.Speed.Copy))
	}
	return fields
}
