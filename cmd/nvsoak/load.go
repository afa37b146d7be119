package main

import "time"

// load is a running command with all its descendants.
type load interface {
	// hold stops them where they are; release lets them go on.
	hold() error
	release() error
	// tripped tells them why they are about to be ended, when that is for heat.
	tripped(why string) error
	// end asks them to end, and after the grace time makes them. It returns
	// when they have, and may be called more than once, from any goroutine.
	end(grace time.Duration)
	// exited says that the command itself has ended.
	exited() bool
	// status is the exit code of a command that has ended, 128 + n when signal
	// n ended it.
	status() int
}
