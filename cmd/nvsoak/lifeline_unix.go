//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// lifeline ends a load when this process is gone, however it went: a shell of
// its own group waits for the end of a pipe that only this process holds open,
// which the kernel brings about, and kills the load's group. Its name comes by
// the same pipe, and the load waits for that at a gate, so that there is no
// moment at which it runs and nobody would end it.
type lifeline struct {
	cmd  *exec.Cmd
	pipe *os.File
}

const (
	// watcher reads the load's group and then the end of the pipe. It removes
	// the file of the trip, which nobody else is left to do.
	watcher = `trap '' HUP INT TERM
read -r group && {
	read -r forever
	kill -KILL "-$group"
}
rm -f -- "$1"`
	// gate is what a load is started through. The shell becomes the command.
	gate = `read -r go <&3 || exit 125
exec 3<&- "$@"`
)

func newLifeline(trip string) (*lifeline, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", watcher, "nvsoak-lifeline", trip)
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("no lifeline for the load: %w", err)
	}
	return &lifeline{cmd, w}, nil
}

// hold names the group to be killed.
func (l *lifeline) hold(group int) error {
	_, err := fmt.Fprintln(l.pipe, group)
	return err
}

// cut lets go: the load has ended.
func (l *lifeline) cut() {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait() // it was killed
	l.pipe.Close()
}
