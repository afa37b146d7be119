//go:build unix

package load

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

func TestExec(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		code         int
		text         string
	}{
		{"done", "exit 0", 0, "exit status 0"},
		{"failed", "exit 7", 7, "exit status 7"},
		{"killed", "kill -KILL $$", 137, "signal: killed"},
	} {
		var events []*record.Event
		before := clock.Now()
		template := record.Event{Phase: "work", Extra: []record.Field{extra("shard", 3)}}
		exit, err := Exec{Cmd: exec.Command("sh", "-c", c.script), Event: template}.Run(clock.System(), func(r record.Record) error {
			events = append(events, r.(*record.Event))
			return nil
		})
		if err != nil || exit != (Exit{Code: c.code, Text: c.text}) || len(events) != 1 {
			t.Errorf("%s: %+v, %v, %d events", c.name, exit, err, len(events))
			continue
		}
		e := events[0]
		if e.StartNS < before || e.EndNS <= e.StartNS || e.EndNS > clock.Now() || e.Phase != "work" {
			t.Errorf("%s: [%d, %d] after %d", c.name, e.StartNS, e.EndNS, before)
		}
		if got := field(e, "command_exit"); got != itoa(c.code) || field(e, "shard") != "3" || field(e, "interrupted") != "" || field(e, "command") != `["sh","-c","`+c.script+`"]` {
			t.Errorf("%s: %s", c.name, e.Extra)
		}
	}
}

func itoa(n int) string { return string(extra("", n).Value) }

func TestExecPassesSignalsOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		signal       syscall.Signal
		code         int
	}{
		{"taken", "trap 'exit 9' INT; echo ready; while :; do sleep 0.02; done", syscall.SIGINT, 9},
		{"not taken", "echo ready; exec sleep 60", syscall.SIGTERM, 143},
	} {
		signals := make(chan os.Signal)
		cmd := exec.Command("sh", "-c", c.script)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = w
		go func() {
			if bufio.NewScanner(r).Scan() {
				signals <- c.signal
			}
			w.Close()
		}()
		var event *record.Event
		exit, err := Exec{Cmd: cmd, Signals: signals}.Run(clock.System(), func(r record.Record) error {
			event = r.(*record.Event)
			return nil
		})
		r.Close()
		if err != nil || exit.Code != c.code || !exit.Interrupted || field(event, "interrupted") != "true" || field(event, "command_exit") != itoa(c.code) {
			t.Errorf("%s: %+v, %v, %+v", c.name, exit, err, event)
		}
	}
}

// A terminal's Ctrl-C has gone to the command already; SIGTERM goes to one
// process alone.
func TestExecOnATerminal(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "trap 'exit 9' INT; trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal) // a send returns when the signal is taken
	go func() {
		bufio.NewReader(out).ReadString('\n')
		signals <- os.Interrupt
		signals <- os.Interrupt
		signals <- syscall.SIGTERM
	}()
	exit, err := Exec{Cmd: cmd, Signals: signals, Terminal: true}.Run(clock.System(), func(record.Record) error { return nil })
	if err != nil || exit.Code != 3 || !exit.Interrupted {
		t.Errorf("%+v, %v; want an exit by SIGTERM alone", exit, err)
	}
}

func TestExecMissing(t *testing.T) {
	t.Parallel()
	none := func(record.Record) error { t.Error("an event of nothing"); return nil }
	if _, err := (Exec{Cmd: exec.Command("no-such-command-here")}).Run(clock.System(), none); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("%v", err)
	}
	full := errors.New("disk full")
	exit, err := Exec{Cmd: exec.Command("sh", "-c", "exit 2")}.Run(clock.System(), func(record.Record) error { return full })
	if !errors.Is(err, full) || exit.Code != 2 {
		t.Errorf("%+v, %v", exit, err)
	}
}
