package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// words is a writer that keeps a few words of each record.
type words []string

func (w *words) Write(r record.Record) error {
	s := string(r.Kind())
	switch r := r.(type) {
	case *record.Header:
		for _, g := range r.GPUs {
			s += fmt.Sprint(" ", g.Index)
		}
	case *record.Sample:
		s += fmt.Sprint(" ", r.GPU)
	case *record.Power:
		s += fmt.Sprint(" ", r.GPU)
	case *record.End:
		s += fmt.Sprint(" ", r.Records)
		if r.Poller != nil {
			s += fmt.Sprint(" of ", r.Poller.Overall.SamplesTotal)
		}
	}
	*w = append(*w, s)
	return nil
}

func (w *words) Flush() error { return nil }
func (w *words) Close() error { return nil }

func TestPart(t *testing.T) {
	t.Parallel()
	at := func(s float64) int64 { return int64(s * float64(time.Second)) }
	header := &record.Header{GPUs: []record.GPU{{Index: 0, UUID: "GPU-aaaaaaaa"}, {Index: 1, UUID: "GPU-bbbbbbbb"}}}
	samples := []record.Record{
		&record.Sample{TimeNS: at(1), GPU: 0},
		&record.Sample{TimeNS: at(1), GPU: 1},
		&record.Power{TimeNS: at(0.5), GPU: 1},
		&record.Marker{TimeNS: at(1.5)},
		&record.Sample{TimeNS: at(2), GPU: 1},
	}
	end := &record.End{Records: 5, Poller: &record.Poller{Overall: record.PollerStats{SamplesTotal: 99}}}
	whole := slices.Concat([]record.Record{header}, samples, []record.Record{end})
	for _, c := range []struct {
		name string
		part part
		in   []record.Record
		want string
		err  string
	}{
		{name: "all", in: whole, want: "header 0 1, sample 0, sample 1, power 1, marker, sample 1, end 5 of 99"},
		{name: "twice", in: slices.Concat(whole, whole),
			want: "header 0 1, sample 0, sample 1, power 1, marker, sample 1, end 5 of 99, header 0 1, sample 0, sample 1, power 1, marker, sample 1, end 5 of 99"},
		{name: "one GPU", part: part{gpus: []string{"1"}}, in: whole, want: "header 1, sample 1, power 1, marker, sample 1, end 4 of 2"},
		{name: "one GPU by UUID", part: part{gpus: []string{"GPU-aaaaaaaa"}}, in: whole, want: "header 0, sample 0, marker, end 2 of 1"},
		{name: "no such GPU", part: part{gpus: []string{"7"}}, in: whole, err: "no GPU \"7\""},
		{name: "one channel", part: part{channels: []string{gpu.Power}}, in: whole, want: "header 0 1, power 1, marker, end 2 of 0"},
		{name: "one second", part: part{length: at(1)}, in: whole, err: errOver.Error(), want: "header 0 1, sample 0, sample 1, power 1, marker, end 4 of 2"},
		{name: "without a header", in: samples, want: "sample 0, sample 1, power 1, marker, sample 1"},
		{name: "choosing without a header", part: part{gpus: []string{"0"}}, in: samples, err: "no header"},
		{name: "cut", in: whole[:3], want: "header 0 1, sample 0, sample 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got words
			c.part.Writer = &got
			var err error
			for _, r := range c.in {
				if err = c.part.Write(r); err != nil {
					break
				}
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if errors.Is(err, errOver) {
				if err := c.part.end(); err != nil {
					t.Error(err)
				}
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("wrote\n\t%s\nwant\n\t%s", s, c.want)
			}
		})
	}
	if header.GPUs[0].UUID != "GPU-aaaaaaaa" || len(header.GPUs) != 2 {
		t.Error("the reader's header was changed")
	}
}
