//go:build unix

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// group is a load in a process group of its own: signals that the terminal
// sends to the tool do not reach it, and those for it reach nothing else.
type group struct {
	cmd  *exec.Cmd
	line *lifeline
	trip string        // name of the file that is to say why the load was too hot
	done chan struct{} // closed when the command has been waited for
	once sync.Once
}

// startLoad starts a command whose output goes to w, since the tool's own
// standard output is data and its standard input the trace.
func startLoad(args []string, w io.Writer) (load, error) {
	// The load must not outlive the tool because nobody reads its output any
	// more: a caught SIGPIPE turns into a failed write.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, err
	}
	trip := filepath.Join(os.TempDir(), "joulepipe-trip-"+rand.Text())
	line, err := newLifeline(trip)
	if err != nil {
		return nil, err
	}
	g := &group{line: line, trip: trip, done: make(chan struct{})}
	if err := g.start(append([]string{path}, args[1:]...), w); err != nil {
		line.cut()
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait() // its outcome is in ProcessState
		close(g.done)
	}()
	return g, nil
}

// start starts the command behind the gate, and opens that when the lifeline
// holds the group.
func (g *group) start(args []string, w io.Writer) error {
	r, open, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer open.Close()
	g.cmd = exec.Command("/bin/sh", append([]string{"-c", gate, "nvsoak-load"}, args...)...)
	g.cmd.Stdout, g.cmd.Stderr = w, w
	g.cmd.Env = append(g.cmd.Environ(), tripVariable+"="+g.trip)
	g.cmd.ExtraFiles = []*os.File{r}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g.cmd.WaitDelay = time.Second
	if err := g.cmd.Start(); err != nil {
		return err
	}
	if err := g.line.hold(g.cmd.Process.Pid); err != nil {
		return errors.Join(err, open.Close(), g.cmd.Wait())
	}
	_, err = fmt.Fprintln(open)
	return err
}

// tripVariable names the file to a load, which finds there why it is ended when
// that is for heat. nvload ends with the status of a thermal trip then.
const tripVariable = "JOULEPIPE_TRIP_FILE"

func (g *group) tripped(why string) error {
	f, err := os.OpenFile(g.trip, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, why)
	return errors.Join(err, f.Close())
}

func (g *group) signal(s syscall.Signal) error { return syscall.Kill(-g.cmd.Process.Pid, s) }

func (g *group) hold() error    { return g.signal(syscall.SIGSTOP) }
func (g *group) release() error { return g.signal(syscall.SIGCONT) }

func (g *group) end(grace time.Duration) {
	g.once.Do(func() {
		_ = g.signal(syscall.SIGTERM)
		_ = g.signal(syscall.SIGCONT) // one that is stopped cannot act on the other
		for until := time.Now().Add(grace); time.Now().Before(until) && g.alive(); {
			time.Sleep(10 * time.Millisecond)
		}
		_ = g.signal(syscall.SIGKILL)
		g.line.cut()
		_ = os.Remove(g.trip) // there is none without a trip
	})
	<-g.done
}

// alive says that some process of the group has not ended.
func (g *group) alive() bool {
	return !g.exited() || !errors.Is(g.signal(0), syscall.ESRCH)
}

func (g *group) exited() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *group) status() int {
	<-g.done
	state := g.cmd.ProcessState
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}
