package poll

import (
	"maps"
	"sync"

	"joulepipe/pkg/record"
)

// calls is the account of a slow channel. A call that hangs may return while
// others read it, hence the lock.
type calls struct {
	mu       sync.Mutex
	n        int64
	records  int64
	gaps     int64
	failures map[string]int64
	took     histogram
	clock    string
}

// outcome is that of one call.
type outcome struct {
	took    int64 // ns
	records int
	failure string // name of the error, empty if it succeeded
	gap     bool   // the buffer had overflowed, the counter had gone back
	clock   string // of the driver's stamps, if the channel has such
}

func (c *calls) add(o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.records += int64(o.records)
	c.took.add(o.took)
	if o.failure != "" {
		c.fail(o.failure, 1)
	}
	if o.gap {
		c.gaps++
	}
	if o.clock != "" {
		c.clock = o.clock
	}
}

func (c *calls) fail(name string, n int64) {
	if c.failures == nil {
		c.failures = map[string]int64{}
	}
	c.failures[name] += n
}

// merge adds o's account; c is not shared yet.
func (c *calls) merge(o *calls) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.n += o.n
	c.records += o.records
	c.gaps += o.gaps
	for name, n := range o.failures {
		c.fail(name, n)
	}
	c.took.merge(&o.took)
	if o.clock != "" {
		c.clock = o.clock
	}
}

func (c *calls) account() record.Channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return record.Channel{
		Calls:     c.n,
		Records:   c.records,
		Errors:    maps.Clone(c.failures),
		Gaps:      c.gaps,
		CallP50MS: c.took.quantile(0.5),
		CallP95MS: c.took.quantile(0.95),
		CallMaxMS: c.took.quantile(1),
		Clock:     c.clock,
	}

}
