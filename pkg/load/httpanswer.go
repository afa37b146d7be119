package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"

	"github.com/tmaxmax/go-sse"
)

// answer is what came of a request.
type answer struct {
	sent, end   int64 // monotonic ns: just before it was sent, just after it was over
	first, last int64 // when tokens came; 0 without any
	chunks      int   // that carried text
	id          string
	status      int // of HTTP; 0 without any
	input       record.Opt[int64]
	output      record.Opt[int64]
	err         error // why it is not whole
	interrupted bool  // because the load ended
}

// tokens is how many were generated: chunks where the server does not say.
func (a *answer) tokens() int64 { return a.output.Or(int64(a.chunks)) }

const (
	longestChunk = 1 << 20 // bytes of one event of the stream
	mostSaid     = 2 << 10 // bytes of an error page that are read
)

// ask makes the n-th request and reads its answer to the end.
func (h *HTTP) ask(ctx context.Context, c clock.Clock, n int) answer {
	parent := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(h.Timeout, func() { stop(fmt.Errorf("nothing came for %v", h.Timeout)) })
	defer silence.Stop()
	a := answer{sent: c.Now()}
	a.err = h.read(ctx, c, n, &a, silence)
	a.end = c.Now()
	if cause := context.Cause(ctx); a.err != nil && cause != nil {
		a.err = cause
	}
	a.interrupted = a.err != nil && parent.Err() != nil
	return a
}

// read sends the request and reads the stream that it is answered with; what
// comes puts off the end by silence.
func (h *HTTP) read(ctx context.Context, c clock.Clock, n int, a *answer, silence *time.Timer) error {
	body, err := h.body(n)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	if h.Key != "" {
		req.Header.Set("Authorization", "Bearer "+h.Key)
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, mostSaid)) // it failed already
		return fmt.Errorf("%s%s", resp.Status, reason(said))
	}
	if kind == "application/json" || kind == "text/html" {
		return fmt.Errorf("the answer is %s, not a stream", kind)
	}
	finished := false
	for e, err := range sse.Read(resp.Body, &sse.ReadConfig{MaxEventSize: longestChunk}) {
		now := c.Now()
		silence.Reset(h.Timeout)
		if err != nil {
			return fmt.Errorf("the stream broke off: %w", err)
		}
		if e.Data == "[DONE]" {
			finished = true
			break
		}
		if e.Data == "" {
			continue // to keep the connection open
		}
		end, err := a.take(e.Data, now)
		if err != nil {
			return err
		}
		finished = finished || end
	}
	switch {
	case !finished:
		return errors.New("the stream ended before its answer did")
	case a.chunks == 0:
		return errors.New("the answer has no tokens")
	}
	return nil
}

// chunk is a piece of an answer.
type chunk struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Error   json.RawMessage `json:"error"`
	Choices []struct {
		Text  string `json:"text"`
		Delta struct {
			Content          string            `json:"content"`
			Reasoning        string            `json:"reasoning"`
			ReasoningContent string            `json:"reasoning_content"`
			ToolCalls        []json.RawMessage `json:"tool_calls"`
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     record.Opt[int64] `json:"prompt_tokens"`
		Completion record.Opt[int64] `json:"completion_tokens"`
	} `json:"usage"`
}

// take adds a piece that came at an instant; end says that the text is complete.
func (a *answer) take(data string, now int64) (end bool, err error) {
	var p chunk
	if err := json.Unmarshal([]byte(data), &p); err != nil {
		return false, fmt.Errorf("a piece of the stream does not parse: %w: %s", err, shorten(data))
	}
	if len(p.Error) > 0 && string(p.Error) != "null" || p.Object == "error" {
		return false, fmt.Errorf("the server broke off%s", reason([]byte(data)))
	}
	if p.ID != "" {
		a.id = p.ID
	}
	if p.Usage != nil {
		a.input, a.output = positive(p.Usage.Prompt), positive(p.Usage.Completion)
	}
	for _, choice := range p.Choices {
		d := choice.Delta
		if choice.Text != "" || d.Content != "" || d.Reasoning != "" || d.ReasoningContent != "" || len(d.ToolCalls) > 0 {
			if a.chunks == 0 {
				a.first = now
			}
			a.last = now
			a.chunks++
		}
		end = end || choice.FinishReason != ""
	}
	return end, nil
}

// positive is a count of tokens, absent where it is none.
func positive(n record.Opt[int64]) record.Opt[int64] {
	if n.V <= 0 {
		return record.Opt[int64]{}
	}
	return n
}

// reason is what a server said of a failure, as the end of a sentence.
func reason(said []byte) string {
	var p struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	text := string(said)
	if json.Unmarshal(said, &p) == nil {
		var inner struct {
			Message string `json:"message"`
		}
		var plain string
		switch {
		case json.Unmarshal(p.Error, &inner) == nil && inner.Message != "":
			text = inner.Message
		case json.Unmarshal(p.Error, &plain) == nil && plain != "":
			text = plain
		case p.Message != "":
			text = p.Message
		case len(p.Detail) > 0:
			text = string(p.Detail)
		}
	}
	if text = shorten(text); text == "" {
		return ""
	}
	return ": " + text
}

// shorten makes one line of at most 200 bytes.
func shorten(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}
