package load

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Exec is a command with the event that it makes.
type Exec struct {
	Cmd     *exec.Cmd        // not started; streams and environment are its caller's to choose
	Event   record.Event     // what is told, but for the times
	Signals <-chan os.Signal // what comes here is passed on to the command; may be nil

	// Terminal says that the command's terminal is this process's, too. Its
	// Ctrl-C goes to both: an interrupt is not passed on then, for many
	// programs take a second one to mean that they may not even tidy up.
	Terminal bool
}

// Exit is how a command ended.
type Exit struct {
	Code        int    // 128 + n when signal n ended it
	Text        string // the same in words: "exit status 1", "signal: killed"
	Interrupted bool   // a signal was passed on to it, or came from its terminal
}

// Run runs the command to its end and emits an event from just before its start
// until just after its exit. The event has the command in the field command,
// its exit code in command_exit, and interrupted if a signal came. An
// error is that the command could not be started, then there is no event, or
// that the record was not taken; a command that fails is none.
func (e Exec) Run(c clock.Clock, emit Emit) (Exit, error) {
	event := e.Event
	event.StartNS = c.Now()
	if err := e.Cmd.Start(); err != nil {
		return Exit{}, err
	}
	ended := make(chan error, 1)
	go func() {
		err := e.Cmd.Wait()
		event.EndNS = c.Now()
		ended <- err
	}()
	var exit Exit
	var err error
	for {
		select {
		case s := <-e.Signals:
			exit.Interrupted = true
			if e.Terminal && s == os.Interrupt {
				continue
			}
			// It fails where the command is over already, or the system has no
			// such signal; either way its end is what is waited for.
			_ = e.Cmd.Process.Signal(s)
			continue
		case err = <-ended:
		}
		break
	}
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		err = nil // the command did, not the watching
	}
	exit.Code, exit.Text = exitCode(e.Cmd.ProcessState), e.Cmd.ProcessState.String()
	event.Extra = append(slices.Clone(event.Extra), extra("command", e.Cmd.Args), extra("command_exit", exit.Code))
	if exit.Interrupted {
		event.Extra = append(event.Extra, extra("interrupted", true))
	}
	return exit, errors.Join(err, emit(&event))
}

// exitCode is the status of a process that is over, as a shell has it.
func exitCode(p *os.ProcessState) int {
	if status, ok := p.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}
