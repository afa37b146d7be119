package clock

import "sync"

// Fake is a clock for tests that stands still until somebody sleeps on it or
// advances it. SleepUntil does not wait: it moves the clock to the time asked
// for, so that a loop that sleeps runs through its schedule at once. A loop of
// several goroutines is better tested in a testing/synctest bubble.
type Fake struct {
	mu  sync.Mutex
	now int64
}

// NewFake is a clock that shows start.
func NewFake(start int64) *Fake { return &Fake{now: start} }

// Now is the time that the clock shows.
func (f *Fake) Now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// SleepUntil sets the clock to ns, unless it is later already.
func (f *Fake) SleepUntil(ns int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = max(f.now, ns)
}

// Advance lets ns nanoseconds pass, as a slow call does.
func (f *Fake) Advance(ns int64) {
	if ns < 0 {
		panic("clock: a monotonic clock does not go back")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += ns
}
