package record_test

import (
	"reflect"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

func TestPhase(t *testing.T) {
	t.Parallel()
	p := record.Phase{Name: "idle"}
	for _, r := range []record.Record{
		&record.Header{BootID: "b", TimeNS: 5, UnixNS: 1005},
		&record.Event{Phase: "idle", StartNS: 300, EndNS: 400},
		&record.Event{Phase: "soak", StartNS: 310, EndNS: 320},
		&record.Event{Phase: "idle", StartUnixNS: record.Some(int64(1100)), EndUnixNS: record.Some(int64(1150)), GPUs: []int{1}},
		&record.Marker{Name: "end_idle", TimeNS: 1},
		&record.Marker{Name: "start_idle", TimeNS: 200},
		&record.Marker{Name: "end_idle", TimeNS: 210},
		&record.Marker{Name: "start_idle", TimeNS: 500},
	} {
		p.Add(r)
	}
	got, err := p.On(&record.Header{BootID: "b", TimeNS: 0, UnixNS: 1000, GPUs: []record.GPU{{Index: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []record.Window{{FromNS: 100, UntilNS: 150, GPUs: []int{1}}, {FromNS: 200, UntilNS: 210}, {FromNS: 300, UntilNS: 400, GPUs: []int{3}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !got[1].Of(7) || got[2].Of(0) {
		t.Error("a marker is of every GPU, an event of its own")
	}
	if _, err := p.On(nil); err == nil || !strings.Contains(err.Error(), "wall-clock") {
		t.Errorf("no wall clock: %v", err)
	}
	if _, err := p.On(&record.Header{BootID: "c", UnixNS: 1}); err == nil || !strings.Contains(err.Error(), "different boots") {
		t.Errorf("another boot: %v", err)
	}
}
