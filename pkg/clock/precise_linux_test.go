package clock

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPreciseSetsAndRestoresTheSlack(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	slack := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		if err != nil {
			t.Skip("this kernel does not tell the timer slack:", err)
		}
		return n
	}
	before := slack()
	inside := 0
	Precise(func() { inside = slack() })
	if inside != 1 {
		t.Errorf("slack within Precise = %d ns, want 1", inside)
	}
	if after := slack(); after != before {
		t.Errorf("slack after Precise = %d ns, before %d", after, before)
	}
}
