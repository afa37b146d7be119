//go:build unix

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// group is a load in a process group of its own: signals that the terminal
// sends to the tool do not reach it, and those for it reach nothing else.
type group struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the command has been waited for
	once sync.Once
}

// startLoad starts a command whose output goes to w, since the tool's own
// standard output is data and its standard input the trace.
func startLoad(args []string, w io.Writer) (load, error) {
	// The load must not outlive the tool because nobody reads its output any
	// more: a caught SIGPIPE turns into a failed write.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = w, w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &group{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // its outcome is in ProcessState
		close(g.done)
	}()
	return g, nil
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
