package main

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/load"

	ucli "github.com/urfave/cli/v2"
)

// httpCommand is nvload http.
func httpCommand() *ucli.Command {
	return &ucli.Command{
		Name: "http", Usage: "requests to a server of the OpenAI kind",
		Description: `Streaming completions from a server such as vLLM, llama.cpp's or Ollama. Each of
--concurrency clients asks again when it has its answer. A request is a prefill
event, until its first token, and a decode event, until its last, with
request_id, model, ttft_s, tokens_per_second, and the tokens that the server
counted (pieces of the stream where it counts none); batch_size is the
concurrency. A group of requests of one concurrency is an event of phase http
with the tokens of all of them. A request that fails is an event of phase
incomplete with its error and no token counts.

Prompts are random words, new ones for each request, so that a server's cache of
prompts saves it nothing; with --prompt all are the same.

  nvload http --url http://localhost:8000 --model llama --concurrency 1,4 --body '{"ignore_eos":true}' -o events.ndjson

The key, if the server wants one, comes from the environment variable that
--api-key-env names.`,
		Flags: append([]ucli.Flag{
			&ucli.StringFlag{Name: "url", Usage: "ask the server at `URL`: http://HOST:PORT, with /v1, or the endpoint itself"},
			&ucli.StringFlag{Name: "model", Usage: "ask for `MODEL`, as the server calls it"},
			&ucli.StringFlag{Name: "api", Value: "completions", Usage: "use the `API`: completions or chat"},
			&ucli.StringFlag{Name: "concurrency", Value: "1,4", Usage: "ask from so many clients at once, one group for each in `LIST`"},
			&ucli.IntFlag{Name: "requests", Value: 16, Usage: "make `N` requests in each group"},
			&ucli.IntFlag{Name: "warmup", Value: 1, Usage: "make `N` warm-up requests before them"},
			&ucli.IntFlag{Name: "prompt-tokens", Value: 512, Usage: "prompts of `N` words, each about a token"},
			&ucli.StringFlag{Name: "prompt", Usage: "the text of `FILE` as the prompt of all requests"},
			&ucli.IntFlag{Name: "max-tokens", Value: 128, Usage: "generate `N` tokens at most for each"},
			&ucli.StringFlag{Name: "body", Usage: "add the fields of the `JSON` object to each request"},
			&ucli.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "give a request up when nothing came for `TIME`"},
			&ucli.Uint64Flag{Name: "seed", Value: 1, Usage: "draw the words from seed `N`"},
			&ucli.StringFlag{Name: "api-key-env", Value: "OPENAI_API_KEY", Usage: "send the key that the environment variable `NAME` has"},
			&ucli.StringFlag{Name: "gpu", Usage: "name the GPUs in `LIST` in the events, by index: those of the server (default: none)"},
		}, streamFlags()...),
		Action: cli.Action(alone(ask)),
	}
}

// ask is http.
func ask(c *cli.Context) error {
	h := load.HTTP{
		Model: c.String("model"), Key: c.Getenv(c.String("api-key-env")), MaxTokens: c.Int("max-tokens"),
		Requests: c.Int("requests"), Warmup: c.Int("warmup"), Timeout: c.Duration("timeout"),
	}
	if err := positive(c, "timeout"); err != nil {
		return err
	}
	api := c.String("api")
	switch {
	case c.String("url") == "":
		return c.Usagef("no server named: --url http://localhost:8000")
	case h.Model == "":
		return c.Usagef("no model named: --model NAME")
	case api != "completions" && api != "chat":
		return c.Usagef("--api %s: want completions or chat", api)
	case h.Requests < 1:
		return c.Usagef("--requests %d: want 1 or more", h.Requests)
	case h.Warmup < 0:
		return c.Usagef("--warmup %d is negative", h.Warmup)
	case h.MaxTokens < 1:
		return c.Usagef("--max-tokens %d: want 1 or more", h.MaxTokens)
	case c.Int("prompt-tokens") < 1:
		return c.Usagef("--prompt-tokens %d: want 1 or more", c.Int("prompt-tokens"))
	}
	var err error
	if h.URL, err = load.Endpoint(c.String("url"), api == "chat"); err != nil {
		return c.Usagef("--url: %v", err)
	}
	if h.Concurrency, err = numbers(c, "concurrency"); err != nil {
		return err
	}
	if text := c.String("body"); text != "" {
		if err := json.Unmarshal([]byte(text), &h.Body); err != nil {
			return c.Usagef("--body: not a JSON object: %v", err)
		}
	}
	h.Prompt = load.Words(c.Uint64("seed"), c.Int("prompt-tokens"))
	if file := c.String("prompt"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		h.Prompt = func(int) string { return string(text) }
	}
	if h.GPUs, err = spared(c); err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = slices.Max(h.Concurrency)
	transport.DisableCompression = true // it would hold tokens back
	h.Client = &http.Client{Transport: transport}
	var served load.Served
	err = tell(c, c.NewHeader(), func(emit load.Emit) (err error) {
		served, err = h.Run(c.Ctx, clock.System(), emit)
		return err
	})
	if err != nil {
		return cli.WithHint(err, "is a server of the OpenAI kind at "+h.URL+"? --api chat asks for conversations instead")
	}
	if served.Counted > 0 {
		c.Warnf("the server did not count the tokens of %d answers: their output_tokens are the pieces that came, and input_tokens are absent", served.Counted)
	}
	if served.AtOnce > 0 {
		c.Warnf("%d answers came in one piece, so that they have no decode: something on the way keeps tokens back", served.AtOnce)
	}
	if served.Incomplete > 0 {
		c.Doubtf("%d of %d requests have no whole answer, the first because of this: %v", served.Incomplete, served.Requests, served.First)
	}
	return nil
}
