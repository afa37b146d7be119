package load

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"joulepipe/pkg/record"
)

// A load pauses at the second reading in a row that is too hot, and goes on when
// all GPUs were read and are cool.
func TestGuard(t *testing.T) {
	t.Parallel()
	none := record.Opt[float64]{}
	is := func(temps ...float64) (all []record.Opt[float64]) {
		for _, v := range temps {
			if v == 0 {
				all = append(all, none)
			} else {
				all = append(all, record.Some(v))
			}
		}
		return all
	}
	for _, c := range []struct {
		name  string
		reads [][]record.Opt[float64]
		want  string // after each: . runs, p paused; capital where it is said
	}{
		{"one is none", [][]record.Opt[float64]{is(84), is(82), is(84), is(70)}, "...."},
		{"two in a row", [][]record.Opt[float64]{is(83), is(83), is(81), is(80), is(81)}, ".Pp,."},
		{"another GPU", [][]record.Opt[float64]{is(60, 84), is(85, 60), is(79, 81), is(80, 80)}, ".Pp,"},
		{"a failed read goes on with nothing", [][]record.Opt[float64]{is(84), is(0), is(84), is(0), is(79)}, ".!Pp,"},
		{"one of two failed", [][]record.Opt[float64]{is(84, 0), is(84, 0), is(70, 0), is(70, 70)}, ".Pp,"},
		{"said once", [][]record.Opt[float64]{is(0), is(0), is(70)}, "!.."},
		{"nobody to ask", [][]record.Opt[float64]{nil, nil}, "!."},
	} {
		g := &Guard{Max: 83, Resume: 80}
		got := ""
		for _, r := range c.reads {
			change, said := g.judge(r)
			switch {
			case said && change.Unknown:
				got += "!"
			case said && change.Paused:
				got += "P"
			case said:
				got += ","
			case g.Paused():
				got += "p"
			default:
				got += "."
			}
			if change.Paused != g.Paused() {
				t.Errorf("%s: %+v, paused is %v", c.name, change, g.Paused())
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if (*Guard)(nil).Paused() || (*Guard)(nil).Changes() != nil {
		t.Error("no guard pauses the load")
	}
}

// A request waits until the GPU is cool, and the stream tells from when to when.
func TestGuardWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := bubble{epoch: time.Now()}
		var said int
		g := &Guard{Max: 83, Resume: 80, Say: func(GuardChange) { said++ }, Read: func() []record.Opt[float64] {
			if at := time.Duration(c.Now() - 1e9); at < 3500*time.Millisecond {
				return []record.Opt[float64]{record.Some(90.0)}
			}
			return []record.Opt[float64]{record.Some(50.0)}
		}}
		changes := g.Changes()
		ctx, stop := context.WithCancel(t.Context())
		go g.Watch(ctx, c)
		time.Sleep(1500 * time.Millisecond)
		var names []string
		var at []int64
		emit := func(r record.Record) error {
			m := r.(*record.Marker)
			names, at = append(names, m.Name), append(at, m.TimeNS)
			return nil
		}
		if err := g.Wait(ctx, changes, emit); err != nil || !slices.Equal(names, []string{"thermal_pause", "thermal_resume"}) || said != 2 {
			t.Fatalf("%v, %v, said %d times", err, names, said)
		}
		if at[0] != 2e9 || at[1] != 5e9 || c.Now()-at[1] > 20e6 {
			t.Errorf("paused at %d, resumed at %d, told at %d", at[0], at[1], c.Now())
		}
		stop()
		time.Sleep(time.Second)
		hot := &Guard{}
		hot.paused.Store(true)
		if err := hot.Wait(ctx, nil, emit); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
