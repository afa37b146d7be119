package main

import (
	"fmt"
	"strings"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/cli"
)

// lookNS is how much of the stream goes by between two looks at how far the
// measurement is.
const lookNS = 2e9

// live watches a measurement of GPUs that idle now, and says when it is over.
type live struct {
	c      *cli.Context
	max    time.Duration // of waiting and measuring together
	lookNS int64         // the next look
	said   string
}

// over says whether the meter has enough, or has had as long as it may. The
// reason for giving up has been said.
func (l *live) over(meter *baseline.Meter, ns int64) bool {
	if ns < l.lookNS {
		return false
	}
	first := l.lookNS == 0
	l.lookNS = ns + lookNS
	if first {
		return false
	}
	enough, late := true, false
	var says, waiting []string
	all := meter.Progress()
	for _, p := range all {
		says = append(says, fmt.Sprintf("GPU %d: %s", p.GPU, p.Says))
		if !p.Enough {
			enough = false
			waiting = append(waiting, says[len(says)-1])
		}
		late = late || l.max > 0 && p.Elapsed >= l.max
	}
	if said := strings.Join(says, "; "); said != l.said {
		l.said = said
		l.c.Infof("%s", said)
	}
	switch {
	case len(all) == 0:
		return false
	case enough:
		return true
	case late:
		l.c.Doubtf("gave up after %v: %s", l.max, strings.Join(waiting, "; "))
		return true
	}
	return false
}
