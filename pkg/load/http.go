package load

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// HTTP is a load on a server of the OpenAI kind (vLLM, llama.cpp, Ollama):
// completions asked for as streams, by so many clients at once, each of which
// asks again when it has its answer.
type HTTP struct {
	Client      *http.Client
	URL         string             // the endpoint: …/completions or …/chat/completions
	Key         string             // sent as a bearer token; empty is none
	Model       string             // as the server calls it
	Prompt      func(n int) string // of the n-th request, counted over the whole load
	MaxTokens   int                // to be generated for each request
	Body        map[string]any     // further fields of each request; in place of those above where the names are the same
	Concurrency []int              // clients at once, one group of requests for each
	Requests    int                // of each group
	Warmup      int                // requests before them all, one after another, of phase warmup
	Timeout     time.Duration      // the longest silence of the server
	GPUs        []int              // that the server uses, as the events name them
}

// Served says how the requests of a load went, without its warm-up.
type Served struct {
	Requests   int   // that were sent
	Incomplete int   // of them, without a whole answer, for whatever reason but the end of the load
	First      error // the first of these reasons
	Counted    int   // answers whose tokens the server did not count: chunks were
	AtOnce     int   // answers of several tokens that came in one piece
}

// Run asks and emits the events of each request when its answer is there, and
// those of a group after it.
//
// A request has a prefill, from just before it was sent until its first token,
// with input_tokens, tokens_per_second and ttft_s, and a decode, from the first
// token to the last, with output_tokens, the first included, and the
// tokens_per_second after the first. The batch_size of all is the concurrency,
// so many sequences the server has at once; tokens are those of the request. A
// request without a whole answer is one event of phase incomplete, with the
// reason in the field error, no token counts, and what was known by then:
// http_status, ttft_s, chunks. The event of a group, of phase http, spans its
// requests, and has the tokens of all if all were answered.
//
// The end of ctx ends the load, which is no error; the requests under way are
// incomplete and have the field interrupted. An error is that a warm-up request
// failed, or of emit.
func (h HTTP) Run(ctx context.Context, c clock.Clock, emit Emit) (Served, error) {
	var served Served
	for i := range h.Warmup {
		if ctx.Err() != nil {
			return served, nil
		}
		a := h.ask(ctx, c, i)
		if err := tell(emit, h.warmup(fmt.Sprintf("http_w%d", i), a)); err != nil {
			return served, err
		}
		if a.err != nil && ctx.Err() == nil {
			return served, fmt.Errorf("a warm-up request failed: %w", a.err)
		}
	}
	for i, clients := range h.Concurrency {
		if ctx.Err() != nil {
			break
		}
		if err := h.group(ctx, c, clients, h.Warmup+i*h.Requests, &served, emit); err != nil {
			return served, err
		}
	}
	return served, nil
}

// group makes the requests of one concurrency, with prompts from number first.
func (h *HTTP) group(ctx context.Context, c clock.Clock, clients, first int, served *Served, emit Emit) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type told struct {
		number int
		answer
	}
	answers := make(chan told)
	var next atomic.Int64
	var asking sync.WaitGroup
	for range min(clients, h.Requests) {
		asking.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= h.Requests || ctx.Err() != nil {
					return
				}
				answers <- told{i, h.ask(ctx, c, first+i)}
			}
		})
	}
	go func() {
		asking.Wait()
		close(answers)
	}()
	sum := span{clients: clients}
	var failed error
	for t := range answers {
		served.add(&t.answer)
		sum.add(&t.answer)
		if failed == nil {
			if failed = tell(emit, h.events(fmt.Sprintf("http_c%d_r%d", clients, t.number), clients, &t.answer)); failed != nil {
				stop()
			}
		}
	}
	if failed != nil || sum.requests == 0 {
		return failed
	}
	return emit(h.whole(&sum))
}

// add counts an answer.
func (s *Served) add(a *answer) {
	s.Requests++
	switch {
	case a.interrupted:
	case a.err != nil:
		s.Incomplete++
		if s.First == nil {
			s.First = a.err
		}
	case !a.output.OK:
		s.Counted++
	}
	if a.err == nil && a.chunks == 1 && a.output.Or(1) > 1 {
		s.AtOnce++
	}
}

// span is what the requests of a group come to.
type span struct {
	clients, requests, incomplete int
	interrupted                   bool
	from, until                   int64
	input, output                 int64 // of those whose tokens are known
	silent                        bool  // the server did not count the prompt of one
}

func (s *span) add(a *answer) {
	if s.requests == 0 || a.sent < s.from {
		s.from = a.sent
	}
	s.until = max(s.until, a.end)
	s.requests++
	s.interrupted = s.interrupted || a.interrupted
	if a.err != nil {
		s.incomplete++
	}
	s.silent = s.silent || !a.input.OK
	s.input += a.input.Or(0)
	s.output += a.tokens()
}

func tell(emit Emit, events []*record.Event) error {
	for _, e := range events {
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// events are those of a request.
func (h *HTTP) events(name string, clients int, a *answer) []*record.Event {
	event := func(phase string, from, until int64) *record.Event {
		e := &record.Event{
			ID: name + "_" + phase, Phase: phase, StartNS: from, EndNS: until, GPUs: h.GPUs,
			RequestID: name, Model: h.Model, BatchSize: record.Some(int64(clients)),
		}
		if a.id != "" {
			e.Extra = append(e.Extra, extra("completion_id", a.id))
		}
		return e
	}
	if a.err != nil {
		e := event("incomplete", a.sent, a.end)
		if a.interrupted {
			e.Extra = append(e.Extra, extra("interrupted", true))
		} else {
			e.Extra = append(e.Extra, extra("error", a.err.Error()))
		}
		if a.status != 0 {
			e.Extra = append(e.Extra, extra("http_status", a.status))
		}
		if a.chunks > 0 {
			e.Extra = append(e.Extra, extra("ttft_s", seconds(a.first-a.sent)), extra("chunks", a.chunks))
		}
		return []*record.Event{e}
	}
	prefill := event("prefill", a.sent, a.first)
	prefill.Extra = append(prefill.Extra, extra("ttft_s", prefill.Duration()))
	if n, ok := a.input.Get(); ok {
		prefill.InputTokens = a.input
		prefill.TokensPerSecond = record.Some(float64(n) / prefill.Duration())
	}
	if a.last <= a.first { // one token, or all in one piece
		return []*record.Event{prefill}
	}
	decode := event("decode", a.first, a.last)
	decode.OutputTokens = record.Some(a.tokens())
	decode.TokensPerSecond = record.Some(float64(a.tokens()-1) / decode.Duration())
	decode.Extra = append(decode.Extra, extra("chunks", a.chunks))
	return []*record.Event{prefill, decode}
}

// warmup are the events of a warm-up request, which no statistics count in.
func (h *HTTP) warmup(name string, a answer) []*record.Event {
	events := h.events(name, 1, &a)
	for _, e := range events {
		if e.Phase != "incomplete" {
			e.Phase = "warmup"
		}
		e.InputTokens, e.OutputTokens, e.TokensPerSecond = record.Opt[int64]{}, record.Opt[int64]{}, record.Opt[float64]{}
	}
	return events
}

// whole is the event of a group.
func (h *HTTP) whole(s *span) *record.Event {
	e := &record.Event{
		ID: fmt.Sprintf("http_c%d", s.clients), Phase: "http", StartNS: s.from, EndNS: s.until, GPUs: h.GPUs,
		Model: h.Model, BatchSize: record.Some(int64(s.clients)),
		Extra: []record.Field{extra("requests", s.requests)},
	}
	switch {
	case s.interrupted:
		e.Extra = append(e.Extra, extra("interrupted", true))
	case s.incomplete == 0:
		e.OutputTokens = record.Some(s.output)
		e.TokensPerSecond = record.Some(float64(s.output) / e.Duration())
		if !s.silent {
			e.InputTokens = record.Some(s.input)
		}
	}
	if s.incomplete > 0 {
		e.Extra = append(e.Extra, extra("incomplete", s.incomplete))
	}
	return e
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// body is a request for the n-th prompt.
func (h *HTTP) body(n int) ([]byte, error) {
	all := map[string]any{
		"model": h.Model, "max_tokens": h.MaxTokens,
		"stream": true, "stream_options": map[string]bool{"include_usage": true},
	}
	if h.chat() {
		all["messages"] = []map[string]string{{"role": "user", "content": h.Prompt(n)}}
	} else {
		all["prompt"] = h.Prompt(n)
	}
	maps.Copy(all, h.Body)
	return json.Marshal(all)
}
