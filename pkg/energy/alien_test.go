package energy_test

import (
	"slices"
	"strings"
	"testing"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
)

// TestStrangeBoard is boards whose sensors follow the power in a way that no
// built-in response does, and of which nothing was told: that is found, and the
// reason says what to do. Where there is another channel the energy rests on
// that one.
func TestStrangeBoard(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	var slow, quick eye
	for _, g := range rigs() {
		switch g.name {
		case "exponential 200":
			slow = g.eyes[0]
		case "20/20":
			quick = g.eyes[0]
		}
	}
	for name, c := range map[string]struct {
		eyes   []eye
		method string // "": refused
	}{
		"alone":            {[]eye{slow}, ""},
		"beside a buffer":  {[]eye{quick, slow}, "auto:driver"},
		"a buffer":         {[]eye{quick}, "auto:driver"},
		"beside a counter": {[]eye{slow, {channel: record.ChannelCounter, update: 100, window: 100, poll: 20}}, "auto:counter"},
	} {
		g := rig{name: name, eyes: c.eyes}
		for seed := range uint64(3) {
			s := g.scene(seed, untold)
			done, _ := attribute(t, s.opts, s.trace, s.job.events)
			said := 0
			for _, e := range done {
				if slices.ContainsFunc(e.Energy.Reasons, func(why string) bool { return strings.Contains(why, "nvbaseline response) and give") }) {
					said++
				}
				if c.method == "" && (e.Energy.Joules.OK || e.Energy.Tier != energy.Refused) {
					t.Fatalf("%s: %s has %v J, %s", name, e.ID, e.Energy.Joules, e.Energy.Tier)
				}
				if c.method != "" && e.Energy.Joules.OK && e.Energy.Method != c.method {
					t.Fatalf("%s: %s is by %s, want %s", name, e.ID, e.Energy.Method, c.method)
				}
			}
			if c.method == "" && said < len(done)*9/10 {
				t.Errorf("%s: %d of %d refusals say what to do: %q", name, said, len(done), done[0].Energy.Reasons)
			}
		}
	}
}
