//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stopped says whether a process is held by a signal.
func stopped(pid string) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
	return err == nil && bytes.HasPrefix(state, []byte("T"))
}

// Killed at any moment, before the load is started, while it runs or while it
// is held, nvsoak takes all of it along. The load has nvsoak's standard error,
// so that the end of that pipe is the end of its last process.
func TestKilled(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(6, 6))
	ran, held := 0, 0
	trips := t.TempDir()
	for i := range 16 {
		hot := i%2 == 1
		delay := time.Duration(rng.Float64() * float64(200*time.Millisecond))
		cmd := exec.Command(os.Args[0], "--trips", "9", "--", "/bin/sh", "-c",
			`trap '' HUP TERM; echo $$ >&2; (while :; do sleep 0.05; done) & while :; do sleep 0.05; done`)
		cmd.Args[0] = "nvsoak"
		cmd.Env = append(os.Environ(), "TMPDIR="+trips)
		trace, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = w
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		// On a slow machine no load may have come so far as to be held: the last run waits for it.
		wait, heat := i == 15, make(chan bool)
		if !wait {
			time.AfterFunc(delay/2, func() { close(heat) })
		}
		go func() {
			fmt.Fprintln(trace, `{"record":"header","schema":"joulepipe/1","tool":"test","t_ns":1,"unix_ns":0}`)
			for ns := int64(1e9); ; ns += 1e8 {
				celsius := 50
				select {
				case <-heat:
					if hot {
						celsius = 90
					}
				default:
				}
				if _, err := fmt.Fprintf(trace, `{"record":"sample","t_ns":%d,"gpu":0,"temp_c":%d,"read_ok":true}`+"\n", ns, celsius); err != nil {
					return
				}
				time.Sleep(2 * time.Millisecond)
			}
		}()
		started, ended := make(chan string, 1), make(chan bool)
		go func() {
			in := bufio.NewReader(r)
			if pid, err := in.ReadString('\n'); err == nil {
				started <- strings.TrimSpace(pid)
			}
			_, _ = io.Copy(io.Discard, in)
			close(ended)
		}()
		time.Sleep(delay)
		if wait {
			select {
			case pid := <-started:
				close(heat)
				for until := time.Now().Add(5 * time.Second); !stopped(pid) && time.Now().Before(until); {
					time.Sleep(10 * time.Millisecond)
				}
				started <- pid
			case <-time.After(5 * time.Second):
			}
		}
		select {
		case pid := <-started:
			ran++
			if stopped(pid) {
				held++
			}
		default:
		}
		_ = cmd.Process.Kill()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Errorf("run %d: killed after %v, and its load still runs", i, delay)
		}
		_ = cmd.Wait() // it was killed
		r.Close()
	}
	t.Logf("at its death the load ran in %d of 16, %d of them held", ran, held)
	if ran == 0 || held == 0 {
		t.Errorf("the load ran in %d and was held in %d of 16: nothing was tried", ran, held)
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, _ := filepath.Glob(filepath.Join(trips, "*"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(until) {
			t.Errorf("left behind: %q", left)
			break
		}
	}
}
