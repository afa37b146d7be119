package replay

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

const second = int64(time.Second)

// script is a reader of these records.
type script struct {
	records []record.Record
	err     error
	i       int
}

func (s *script) Scan() bool            { s.i++; return s.i <= len(s.records) }
func (s *script) Record() record.Record { return s.records[s.i-1] }
func (s *script) Err() error            { return s.err }

// tape is a writer that notes what came when.
type tape struct {
	clock   *clock.Fake
	records []record.Record
	at      []int64
	flushed []int64
	write   func(n int) error // may be nil
}

func (t *tape) Write(r record.Record) error {
	t.records = append(t.records, r)
	t.at = append(t.at, t.clock.Now())
	if t.write != nil {
		return t.write(len(t.records))
	}
	return nil
}

func (t *tape) Flush() error {
	t.flushed = append(t.flushed, t.clock.Now())
	return nil
}

func (t *tape) Close() error { return nil }

func sample(seconds float64) *record.Sample {
	return &record.Sample{TimeNS: int64(seconds * float64(second))}
}

func TestPlay(t *testing.T) {
	t.Parallel()
	run := []record.Record{
		&record.Header{TimeNS: 50 * second},
		sample(100), sample(101), sample(103),
		&record.Power{TimeNS: 102 * second}, // harvested late
		sample(104),
		&record.End{Records: 5},
		&record.Header{TimeNS: 1}, // another boot
		sample(7), sample(7.5),
		&record.End{Records: 2},
	}
	for _, c := range []struct {
		name  string
		speed float64
		want  []float64 // seconds after the start
	}{
		{"own pace", 1, []float64{0, 0, 1, 3, 3, 4, 4, 4, 4, 4.5, 4.5}},
		{"twice as fast", 2, []float64{0, 0, 0.5, 1.5, 1.5, 2, 2, 2, 2, 2.25, 2.25}},
		{"slow motion", 0.1, []float64{0, 0, 10, 30, 30, 40, 40, 40, 40, 45, 45}},
		{"as fast as can be", 0, make([]float64, 11)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const start = 1_000_000
			out := &tape{clock: clock.NewFake(start)}
			if err := Play(t.Context(), &script{records: run}, out.clock, c.speed, out); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(out.records, run) {
				t.Errorf("records changed: %v", out.records)
			}
			var want []int64
			for _, s := range c.want {
				want = append(want, start+int64(s*float64(second)))
			}
			if !slices.Equal(out.at, want) {
				t.Errorf("played at %v, want %v", out.at, want)
			}
		})
	}
}

func TestPlayFlushesBeforeItWaits(t *testing.T) {
	t.Parallel()
	var run []record.Record
	for i := range 101 {
		run = append(run, sample(float64(i)/50))
	}
	run = append(run, sample(10))
	out := &tape{clock: clock.NewFake(0)}
	if err := Play(t.Context(), &script{records: run}, out.clock, 1, out); err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for _, at := range append(out.flushed, 2*second) {
		if at-last > flushAfter {
			t.Errorf("no flush between %v and %v", time.Duration(last), time.Duration(at))
		}
		last = at
	}
	if n := len(out.flushed); n > 15 {
		t.Errorf("%d flushes in 2 s and a pause", n)
	}
	if out.flushed[len(out.flushed)-1] != 2*second {
		t.Errorf("the last flush was at %d, want one at 2 s before the pause", out.flushed[len(out.flushed)-1])
	}
}

func TestPlayEnds(t *testing.T) {
	t.Parallel()
	run := []record.Record{sample(0), sample(1), sample(2), sample(3)}
	broken := errors.New("broken")

	t.Run("with the reader's error", func(t *testing.T) {
		t.Parallel()
		out := &tape{clock: clock.NewFake(0)}
		if err := Play(t.Context(), &script{records: run, err: broken}, out.clock, 0, out); err != broken || len(out.records) != 4 {
			t.Errorf("Play = %v after %d records", err, len(out.records))
		}
	})
	t.Run("with the writer's error", func(t *testing.T) {
		t.Parallel()
		out := &tape{clock: clock.NewFake(0), write: func(n int) error {
			return map[bool]error{true: broken}[n == 2]
		}}
		if err := Play(t.Context(), &script{records: run}, out.clock, 1, out); err != broken || len(out.records) != 2 {
			t.Errorf("Play = %v after %d records", err, len(out.records))
		}
	})
	for _, speed := range []float64{0, 1} {
		t.Run("with its context", func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			out := &tape{clock: clock.NewFake(0), write: func(n int) error {
				if n == 3 {
					cancel()
				}
				return nil
			}}
			if err := Play(ctx, &script{records: run}, out.clock, speed, out); err != context.Canceled || len(out.records) != 3 {
				t.Errorf("Play = %v after %d records", err, len(out.records))
			}
		})
	}
}
