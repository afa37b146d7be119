package page

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// browser is a Chromium that is told what to do over two pipes, in the messages of
// the DevTools protocol, each ended by a zero byte.
type browser struct {
	to   io.Writer
	from chan message
	last int
}

type message struct {
	ID        int
	SessionID string
	Method    string
	Params    json.RawMessage
	Result    json.RawMessage
	Error     *struct{ Message string }
}

// patience is how long the browser may take for one thing.
const patience = time.Minute

func open(t *testing.T, chromium string) *browser {
	t.Helper()
	commands, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// As root it has no sandbox; all that it opens is ours.
	cmd := exec.Command(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir())
	cmd.ExtraFiles = []*os.File{commands, answers}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	commands.Close()
	answers.Close()
	b := &browser{to: to, from: make(chan message, 1<<14)}
	go func() {
		defer close(b.from)
		for r := bufio.NewReader(from); ; {
			line, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(line[:len(line)-1], &m) == nil {
				b.from <- m
			}
		}
	}()
	t.Cleanup(func() {
		fmt.Fprintf(to, `{"id":0,"method":"Browser.close"}`+"\x00")
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-done
		}
		to.Close()
		from.Close()
	})
	return b
}

// tab is a page in the browser, with what came from it unasked.
type tab struct {
	*browser
	session string
	events  []message
}

// call sends a command and waits for its answer.
func (p *tab) call(t *testing.T, method string, params map[string]any, result any) {
	t.Helper()
	p.last++
	command := map[string]any{"id": p.last, "method": method, "params": params}
	if p.session != "" {
		command["sessionId"] = p.session
	}
	b, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.to.Write(append(b, 0)); err != nil {
		t.Fatal(err)
	}
	m := p.await(t, func(m message) bool { return m.ID == p.last })
	if m.Error != nil {
		t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			t.Fatalf("%s: %v in %.300s", method, err, m.Result)
		}
	}
}

// await is the next message that is wanted; those before it are kept.
func (p *tab) await(t *testing.T, wanted func(message) bool) message {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case m, open := <-p.from:
			if !open {
				t.Fatal("the browser has gone")
			}
			if wanted(m) {
				return m
			}
			p.events = append(p.events, m)
		case <-late:
			t.Fatal("the browser does not answer")
		}
	}
}

// visit opens a page in a window of that width.
func (b *browser) visit(t *testing.T, address string, width int, dark bool) *tab {
	t.Helper()
	p := &tab{browser: b}
	var target struct{ TargetID string }
	p.call(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	p.call(t, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	t.Cleanup(func() {
		p.session = ""
		p.call(t, "Target.closeTarget", map[string]any{"targetId": target.TargetID}, nil)
	})
	p.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.call(t, domain+".enable", nil, nil)
	}
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	p.call(t, "Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	p.call(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	p.call(t, "Page.navigate", map[string]any{"url": address}, nil)
	loaded := func(m message) bool { return m.SessionID == p.session && m.Method == "Page.loadEventFired" }
	for _, m := range p.events {
		if loaded(m) {
			return p
		}
	}
	p.await(t, loaded)
	return p
}

// eval is what an expression comes to in the page, a promise's value included.
func (p *tab) eval(t *testing.T, expression string, value any) {
	t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.call(t, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		t.Fatalf("%.500s", r.ExceptionDetails)
	}
	if value != nil {
		if err := json.Unmarshal(r.Result.Value, value); err != nil {
			t.Fatal(err)
		}
	}
}

// messages are what the page has complained of, and what it has fetched beside
// itself.
func (p *tab) messages() (out []string) {
	for _, m := range p.events {
		if m.SessionID != p.session {
			continue
		}
		switch m.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			out = append(out, fmt.Sprintf("console: %.500s", m.Params))
		case "Network.requestWillBeSent":
			var sent struct{ Request struct{ URL string } }
			if json.Unmarshal(m.Params, &sent) != nil || !strings.HasSuffix(sent.Request.URL, "/report.html") && !strings.HasPrefix(sent.Request.URL, "data:") {
				out = append(out, fmt.Sprintf("fetched: %.300s", m.Params))
			}
		}
	}
	return out
}
