package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// paced is a clock that a server moves: it stands still until the client has
// looked at it so many times.
type paced struct {
	*clock.Fake
	mu    sync.Mutex
	cond  *sync.Cond
	looks int
}

func newPaced() *paced {
	p := &paced{Fake: clock.NewFake(1e9)}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *paced) Now() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	p.cond.Broadcast()
	return p.Fake.Now()
}

// after waits for the n-th look and moves the clock on.
func (p *paced) after(n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.looks < n {
		p.cond.Wait()
	}
	p.Advance(int64(d))
}

// ask makes the requests of a load to a server, and returns its events.
func ask(t *testing.T, c clock.Clock, h HTTP, serve http.HandlerFunc) (Served, []*record.Event, error) {
	t.Helper()
	server := httptest.NewServer(serve)
	defer server.Close()
	if h.URL == "" {
		h.URL = server.URL + "/v1/completions"
	}
	h.Client, h.Model = server.Client(), "toy"
	if h.Timeout == 0 {
		h.Timeout = time.Minute
	}
	if h.Prompt == nil {
		h.Prompt = Words(1, 8)
	}
	var events []*record.Event
	served, err := h.Run(t.Context(), c, func(r record.Record) error {
		events = append(events, r.(*record.Event))
		return nil
	})
	return served, events, err
}

// say writes lines of a stream and sends them off.
func say(w http.ResponseWriter, lines ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, line := range lines {
		fmt.Fprintf(w, "%s\n\n", line)
	}
	w.(http.Flusher).Flush()
}

// token is a piece of a completion.
func token(text string) string {
	return fmt.Sprintf(`data: {"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":%q,"finish_reason":null}]}`, text)
}

const (
	done  = "data: [DONE]"
	stop  = `data: {"id":"cmpl-1","choices":[{"index":0,"text":"","finish_reason":"length"}]}`
	usage = `data: {"id":"cmpl-1","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":3,"total_tokens":11}}`
)

func TestHTTPTimes(t *testing.T) {
	t.Parallel()
	c := newPaced()
	served, events, err := ask(t, c, HTTP{Concurrency: []int{1}, Requests: 1, MaxTokens: 3, GPUs: []int{2}, Key: "secret", Body: map[string]any{"ignore_eos": true}},
		func(w http.ResponseWriter, r *http.Request) {
			var body map[string]any
			b, _ := io.ReadAll(r.Body)
			if err := json.Unmarshal(b, &body); err != nil || r.URL.Path != "/v1/completions" || r.Header.Get("Authorization") != "Bearer secret" {
				t.Errorf("%s %s, %v", r.URL, r.Header, err)
			}
			if body["model"] != "toy" || body["max_tokens"] != 3.0 || body["stream"] != true || body["ignore_eos"] != true || len(strings.Fields(body["prompt"].(string))) != 8 ||
				body["stream_options"].(map[string]any)["include_usage"] != true {
				t.Errorf("body %s", b)
			}
			c.after(1, 2*time.Second)
			say(w, ": ping", token("a"))
			c.after(2, time.Second)
			say(w, token("b"))
			c.after(3, time.Second)
			say(w, token("c"))
			c.after(4, time.Second)
			say(w, stop, usage, done)
		})
	if err != nil || served != (Served{Requests: 1}) {
		t.Fatalf("%+v, %v", served, err)
	}
	if len(events) != 3 {
		t.Fatalf("%d events", len(events))
	}
	prefill, decode, whole := events[0], events[1], events[2]
	if prefill.Phase != "prefill" || prefill.StartNS != 1e9 || prefill.EndNS != 3e9 || prefill.InputTokens.Or(0) != 8 || prefill.TokensPerSecond.Or(0) != 4 || field(prefill, "ttft_s") != "2" || prefill.OutputTokens.OK {
		t.Errorf("prefill %+v", prefill)
	}
	if decode.Phase != "decode" || decode.StartNS != 3e9 || decode.EndNS != 5e9 || decode.OutputTokens.Or(0) != 3 || decode.TokensPerSecond.Or(0) != 1 || decode.InputTokens.OK || field(decode, "completion_id") != `"cmpl-1"` {
		t.Errorf("decode %+v", decode)
	}
	if whole.Phase != "http" || whole.StartNS != 1e9 || whole.EndNS != 6e9 || whole.InputTokens.Or(0) != 8 || whole.OutputTokens.Or(0) != 3 || whole.BatchSize.Or(0) != 1 || field(whole, "requests") != "1" {
		t.Errorf("whole %+v", whole)
	}
	for _, e := range events {
		if e.Model != "toy" || !slices.Equal(e.GPUs, []int{2}) || e.BatchSize.Or(0) != 1 || e != whole && e.RequestID != "http_c1_r0" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	delta := func(text string) string {
		return fmt.Sprintf(`data: {"id":"chat-1","choices":[{"index":0,"delta":%s}]}`, text)
	}
	lines := func(all ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { say(w, all...) }
	}
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	hang := func(before ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if len(before) > 0 {
				say(w, before...)
			}
			io.Copy(io.Discard, r.Body) // else the server does not see the client leave
			<-r.Context().Done()
		}
	}
	for _, c := range []struct {
		name    string
		chat    bool
		serve   http.HandlerFunc
		failure string // part of the error; empty: none
		status  string
		phases  string
		input   record.Opt[int64]
		output  int64
		chunks  string
		served  Served // but for Requests and First
	}{
		{name: "whole", serve: lines(token("a"), token("b"), stop, usage, done), phases: "prefill decode", input: record.Some(int64(8)), output: 3},
		{name: "without usage", serve: lines(token("a"), token("b"), stop, done), phases: "prefill decode", output: 2, served: Served{Counted: 1}},
		{name: "without DONE", serve: lines(token("a"), token("b"), stop), phases: "prefill decode", output: 2, served: Served{Counted: 1}},
		{name: "without reason to stop", serve: lines(token("a"), token("b"), done), phases: "prefill decode", output: 2, served: Served{Counted: 1}},
		{name: "no usage to speak of", serve: lines(token("a"), token("b"), strings.Replace(strings.Replace(usage, "8", "0", 1), "3", "0", 1), done), phases: "prefill decode", output: 2, served: Served{Counted: 1}},
		{name: "one token", serve: lines(token("a"), strings.Replace(usage, "3", "1", 1), done), phases: "prefill", input: record.Some(int64(8))},
		{name: "in one piece", serve: lines(token("abc"), stop, usage, done), phases: "prefill", input: record.Some(int64(8)), served: Served{AtOnce: 1}},
		{name: "chat", chat: true, serve: lines(delta(`{"role":"assistant","content":""}`), delta(`{"content":"a"}`), delta(`{"content":"b"}`), stop, usage, done), phases: "prefill decode", input: record.Some(int64(8)), output: 3},
		{name: "thoughts", chat: true, serve: lines(delta(`{"role":"assistant","content":null}`), delta(`{"reasoning_content":"a"}`), delta(`{"reasoning":"b","content":null}`), delta(`{"tool_calls":[{}]}`), stop, done), phases: "prefill decode", output: 3, served: Served{Counted: 1}},

		{name: "error page", serve: status(500, "oops\n\x00"), failure: "500 Internal Server Error: oops", status: "500"},
		{name: "error in JSON", serve: status(404, `{"error":{"message":"no such model","code":404}}`), failure: "404 Not Found: no such model", status: "404"},
		{name: "error as Ollama says it", serve: status(404, `{"error":"model 'toy' not found"}`), failure: "model 'toy' not found", status: "404"},
		{name: "error as vLLM says it", serve: status(400, `{"object":"error","message":"too long"}`), failure: "400 Bad Request: too long", status: "400"},
		{name: "detail", serve: status(422, `{"detail":[{"loc":["body"]}]}`), failure: `[{"loc":["body"]}]`, status: "422"},
		{name: "another success", serve: status(204, ""), failure: "204 No Content", status: "204"},
		{name: "no stream", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, `{"choices":[{"text":"a b c"}]}`)
		}, failure: "the answer is application/json, not a stream", status: "200"},
		{name: "nothing", serve: lines(), failure: "ended before its answer did", status: "200"},
		{name: "no tokens", serve: lines(stop, done), failure: "the answer has no tokens", status: "200"},
		{name: "cut between tokens", serve: lines(token("a"), token("b")), failure: "ended before its answer did", status: "200", chunks: "2"},
		{name: "cut within a token", serve: func(w http.ResponseWriter, _ *http.Request) {
			say(w, token("a"))
			io.WriteString(w, `data: {"id":"cm`)
		}, failure: "broke off", status: "200", chunks: "1"},
		{name: "connection lost", serve: func(w http.ResponseWriter, _ *http.Request) {
			say(w, token("a"))
			panic(http.ErrAbortHandler)
		}, failure: "broke off", status: "200", chunks: "1"},
		{name: "no JSON", serve: lines(token("a"), "data: <html>"), failure: "a piece of the stream does not parse: invalid character '<'", status: "200", chunks: "1"},
		{name: "another JSON", serve: lines(`data: {"choices":"many"}`), failure: "does not parse", status: "200"},
		{name: "a piece without end", serve: func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "data: "+strings.Repeat("x", longestChunk+100))
		}, failure: "broke off", status: "200"},
		{name: "error in the stream", serve: lines(token("a"), `data: {"error":{"message":"CUDA out of memory"}}`, done), failure: "the server broke off: CUDA out of memory", status: "200", chunks: "1"},
		{name: "error object in the stream", serve: lines(token("a"), `data: {"object":"error","message":"gone"}`, done), failure: "the server broke off: gone", status: "200", chunks: "1"},
		{name: "hangs", serve: hang(), failure: "nothing came for"},
		{name: "hangs between tokens", serve: hang(token("a")), failure: "nothing came for", status: "200", chunks: "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := HTTP{Concurrency: []int{1}, Requests: 1, MaxTokens: 3}
			if strings.HasPrefix(c.name, "hangs") {
				h.Timeout = 100 * time.Millisecond
			}
			serve := func(w http.ResponseWriter, r *http.Request) {
				if c.chat {
					var body struct {
						Messages []struct{ Role, Content string }
					}
					if json.NewDecoder(r.Body).Decode(&body) != nil || len(body.Messages) != 1 || body.Messages[0].Role != "user" || r.URL.Path != "/v1/chat/completions" {
						t.Errorf("%s %+v", r.URL, body)
					}
				}
				c.serve(w, r)
			}
			server := httptest.NewServer(http.HandlerFunc(serve))
			defer server.Close()
			var err error
			if h.URL, err = Endpoint(server.URL, c.chat); err != nil {
				t.Fatal(err)
			}
			served, events, err := ask(t, clock.System(), h, nil)
			if err != nil {
				t.Fatal(err)
			}
			whole := events[len(events)-1]
			if c.failure != "" {
				e := events[0]
				if len(events) != 2 || e.Phase != "incomplete" || e.InputTokens.OK || e.OutputTokens.OK || e.TokensPerSecond.OK || field(e, "interrupted") != "" {
					t.Errorf("events %+v", events)
				}
				if said, _ := json.Marshal(c.failure); !strings.Contains(field(e, "error"), string(said[1:len(said)-1])) || field(e, "http_status") != c.status || field(e, "chunks") != c.chunks {
					t.Errorf("event %s, want error %q, status %s, chunks %s", e.Extra, c.failure, c.status, c.chunks)
				}
				if served.Incomplete != 1 || served.First == nil || whole.OutputTokens.OK || field(whole, "incomplete") != "1" {
					t.Errorf("%+v, whole %+v", served, whole)
				}
				return
			}
			var phases []string
			for _, e := range events[:len(events)-1] {
				phases = append(phases, e.Phase)
			}
			if strings.Join(phases, " ") != c.phases {
				t.Errorf("phases %v, want %s", phases, c.phases)
			}
			if events[0].InputTokens != c.input || whole.InputTokens != c.input {
				t.Errorf("input %+v, %+v, want %+v", events[0].InputTokens, whole.InputTokens, c.input)
			}
			if len(phases) == 2 && (events[1].OutputTokens.Or(0) != c.output || whole.OutputTokens.Or(0) != c.output) {
				t.Errorf("output %+v, want %d", events[1].OutputTokens, c.output)
			}
			c.served.Requests = 1
			if served != c.served {
				t.Errorf("%+v, want %+v", served, c.served)
			}
		})
	}
}

// So many clients are at work at once, and never more; every request is told,
// and the prompts are all different.
func TestHTTPConcurrency(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	prompts := map[string]int{}
	now, groups := 0, []int{}
	full := make(chan struct{}, 100)
	served, events, err := ask(t, clock.System(), HTTP{Concurrency: []int{1, 3}, Requests: 9, Warmup: 2, MaxTokens: 3}, func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Prompt string }
		json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		prompts[body.Prompt]++
		now++
		groups = append(groups, now)
		meet := len(prompts) > 11 && len(prompts) <= 14
		mu.Unlock()
		if meet { // the first of the second group wait for one another
			full <- struct{}{}
			for len(full) < 3 {
				time.Sleep(time.Millisecond)
			}
		}
		say(w, token("a"))
		mu.Lock()
		now--
		mu.Unlock()
		say(w, token("b"), usage, done)
	})
	if err != nil || served != (Served{Requests: 18}) {
		t.Fatalf("%+v, %v", served, err)
	}
	if len(prompts) != 20 || slices.Max(groups[:11]) != 1 || slices.Max(groups) != 3 {
		t.Errorf("%d prompts, at once %v", len(prompts), groups)
	}
	count := map[string]int{}
	for _, e := range events {
		count[fmt.Sprint(e.Phase, " ", e.BatchSize.Or(0))]++
		if e.Phase == "warmup" && (e.OutputTokens.OK || e.InputTokens.OK || e.TokensPerSecond.OK) {
			t.Errorf("a warm-up has tokens: %+v", e)
		}
		if e.Phase == "http" && e.OutputTokens.Or(0) != 27 {
			t.Errorf("whole %+v", e)
		}
	}
	want := map[string]int{"warmup 1": 4, "prefill 1": 9, "decode 1": 9, "http 1": 1, "prefill 3": 9, "decode 3": 9, "http 3": 1}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", count, want)
	}
}

func TestHTTPWarmupFails(t *testing.T) {
	t.Parallel()
	_, events, err := ask(t, clock.System(), HTTP{URL: "http://127.0.0.1:1/v1/completions", Concurrency: []int{4}, Requests: 9, Warmup: 1}, nil)
	if err == nil || !strings.Contains(err.Error(), "a warm-up request failed: ") || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
	if len(events) != 1 || events[0].Phase != "incomplete" || !strings.Contains(field(events[0], "error"), "refused") {
		t.Errorf("%+v", events)
	}
}

// The end of the load ends the requests under way, which are told.
func TestHTTPInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		say(w, token("a"))
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	h := HTTP{Client: server.Client(), URL: server.URL + "/v1/completions", Prompt: Words(1, 1), Concurrency: []int{2, 4}, Requests: 50, Timeout: time.Minute}
	var events []*record.Event
	served, err := h.Run(ctx, clock.System(), func(r record.Record) error {
		events = append(events, r.(*record.Event))
		return nil
	})
	if err != nil || served.Requests < 1 || served.Requests > 2 || served.Incomplete != 0 {
		t.Errorf("%+v, %v", served, err)
	}
	for _, e := range events {
		if e.Phase != "incomplete" && e.Phase != "http" || field(e, "interrupted") != "true" || e.OutputTokens.OK || field(e, "error") != "" {
			t.Errorf("%+v", e)
		}
	}
	if len(events) != served.Requests+1 {
		t.Errorf("%d events of %d requests", len(events), served.Requests)
	}
}

// When the events cannot be told, the load ends.
func TestHTTPUnheard(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, token("a"), done) }))
	defer server.Close()
	h := HTTP{Client: server.Client(), URL: server.URL + "/v1/completions", Prompt: Words(1, 1), Concurrency: []int{4}, Requests: 1e6, Timeout: time.Minute}
	full := errors.New("the disk is full")
	served, err := h.Run(t.Context(), clock.System(), func(record.Record) error { return full })
	if !errors.Is(err, full) || served.Requests > 1000 {
		t.Errorf("%d requests, %v", served.Requests, err)
	}
}

// A long answer is no silence.
func TestHTTPSlow(t *testing.T) {
	t.Parallel()
	served, events, err := ask(t, clock.System(), HTTP{Concurrency: []int{1}, Requests: 1, Timeout: 500 * time.Millisecond}, func(w http.ResponseWriter, _ *http.Request) {
		for range 8 {
			say(w, token("a"))
			time.Sleep(100 * time.Millisecond)
		}
		say(w, done)
	})
	if err != nil || served.Incomplete > 0 || events[0].Phase != "prefill" {
		t.Errorf("%+v, %v", served, err)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		chat    bool
		want    string // "": an error
	}{
		{"http://localhost:8000", false, "http://localhost:8000/v1/completions"},
		{"http://localhost:8000/", true, "http://localhost:8000/v1/chat/completions"},
		{"https://host/api/v1", false, "https://host/api/v1/completions"},
		{"https://host/v1/chat/completions?x=1", false, "https://host/v1/chat/completions?x=1"},
		{"localhost:8000", false, ""},
		{"/v1", false, ""},
		{"ftp://host", false, ""},
		{"http://user:word@host", false, ""},
		{"http://ho st", false, ""},
	} {
		got, err := Endpoint(c.address, c.chat)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v: want %q", c.address, got, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "word@") {
			t.Errorf("the password is told: %v", err)
		}
	}
}
