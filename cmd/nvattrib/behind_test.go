package main

import (
	"errors"
	"fmt"
	"testing"

	"joulepipe/pkg/record"
)

// kept is a writer that clones what it is given, and fails from a record on.
type kept struct {
	events []*record.Event
	fails  int // 0: never
}

func (k *kept) Write(r record.Record) error {
	if k.events = append(k.events, r.(*record.Event).Clone()); len(k.events) == k.fails {
		return errors.New("full")
	}
	return nil
}

func (*kept) Flush() error { return nil }
func (*kept) Close() error { return nil }

// TestBehind writes each event as it was, though there is but one that is given.
func TestBehind(t *testing.T) {
	t.Parallel()
	const n = 5*behindSize + 3
	out := &kept{}
	b := writeBehind(out)
	e := &record.Event{Energy: &record.Energy{}}
	for i := range n {
		e.ID, e.EndNS = fmt.Sprint(i), int64(i)
		*e.Energy = record.Energy{PowerSamples: int64(i)}
		if i%10 == 0 {
			e.Energy.Reasons = []string{e.ID}
		}
		if err := b.write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.end(); err != nil || len(out.events) != n {
		t.Fatalf("%d events were written of %d: %v", len(out.events), n, err)
	}
	for i, e := range out.events {
		reasons := e.Energy.Reasons
		if e.ID != fmt.Sprint(i) || e.EndNS != int64(i) || e.Energy.PowerSamples != int64(i) || i%10 == 0 && (len(reasons) != 1 || reasons[0] != e.ID) || i%10 != 0 && reasons != nil {
			t.Fatalf("event %d came out as %+v with %+v", i, e, e.Energy)
		}
	}
}

// TestBehindFails tells of a failure once, and takes no more.
func TestBehindFails(t *testing.T) {
	t.Parallel()
	b := writeBehind(&kept{fails: 5})
	e := &record.Event{Energy: &record.Energy{}}
	told := 0
	for range 10 * behindSize {
		if b.write(e) != nil {
			told++
			break
		}
	}
	if b.end() != nil {
		told++
	}
	if told != 1 {
		t.Errorf("the failure was told %d times", told)
	}
}
