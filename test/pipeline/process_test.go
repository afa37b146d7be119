package pipeline

import (
	"math"
	"strings"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// Two loads at once on one simulated GPU, each a process: the joules of each are
// as its time on the GPU, and together what the GPU took.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stdout, stderr, status := shell(t, dir, `
nvpoll --device sim:gpu.sim --duration 6s --channels sample,power,process --process-period 200ms -o trace.ndjson & poll=$!
sleep 0.3
nvload sustain --device sim:gpu.sim --kernel bf16 --intensity 0.8 --duration 3s --tell-pid --id a -o a.ndjson & a=$!
nvload sustain --device sim:gpu.sim --kernel memory --intensity 0.1 --duration 3s --tell-pid --id b -o b.ndjson & b=$!
wait $a && wait $b && wait $poll || exit 9
sed -n 's/"event_id":"a"\(.*\),"pid":[0-9]*/"event_id":"whole"\1/p' a.ndjson > whole.ndjson
nvattrib --trace trace.ndjson --events a.ndjson --events b.ndjson --events whole.ndjson --method driver
`)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	events := map[string]*record.Energy{}
	in := stream.NewReader(strings.NewReader(stdout), "joules")
	for in.Scan() {
		if e, ok := in.Record().(*record.Event); ok {
			j := *e.Energy
			events[e.ID] = &j
		}
	}
	a, b, whole := events["a"], events["b"], events["whole"]
	if a == nil || b == nil || whole == nil || !a.Joules.OK || !b.Joules.OK || !whole.Joules.OK {
		t.Fatalf("not all have joules: %s", stdout)
	}
	if s := a.ProcessShare.V; math.Abs(s-8./9) > 0.03 || a.Tier != "estimate" {
		t.Errorf("the share of the one is %v ± %v, %s; want 8/9", s, a.ProcessShareCI95, a.Tier)
	}
	// The two did not begin in the same millisecond.
	if sum := a.Joules.V + b.Joules.V; math.Abs(sum-whole.Joules.V) > 0.05*whole.Joules.V {
		t.Errorf("%v J and %v J of %v J", a.Joules, b.Joules, whole.Joules)
	}
}
