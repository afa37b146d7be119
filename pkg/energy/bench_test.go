package energy

import (
	"bytes"
	"fmt"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// BenchmarkIntegrate attributes 1e6 samples to 1e4 events a round.
func BenchmarkIntegrate(b *testing.B) {
	const samples, events = 1_000_000, 10_000
	for _, method := range []string{TR122, Instant, Driver, Counter, Auto} {
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				a, err := New(Options{Method: method, Idle: map[int]float64{0: 20}}, func(*record.Event) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
				s := sample(0, 100)
				p := &record.Power{}
				c := &record.Counter{}
				e := &record.Event{Phase: "decode"}
				next := int64(0)
				for i := range int64(samples) {
					ns := i * 10 * ms
					if next < events && next*1000*ms <= ns {
						e.StartNS, e.EndNS = next*1000*ms+ms, next*1000*ms+900*ms
						if err := a.Event(e); err != nil {
							b.Fatal(err)
						}
						next++
					}
					var r record.Record = s
					switch method {
					case Driver:
						p.TimeNS, p.PowerW = ns, 100
						r = p
					case Counter:
						c.BeforeNS, c.TimeNS, c.EnergyMilliJ = ns, ns, record.Some(i/10*1000)
						r = c
					default:
						s.TimeNS = ns
					}
					if err := a.Observe(r); err != nil {
						b.Fatal(err)
					}
				}
				if err := a.Finish(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkJoin attributes 1e6 samples to 1e4 events a round, from NDJSON.
func BenchmarkJoin(b *testing.B) {
	const samples, events = 1_000_000, 10_000
	var trace, work bytes.Buffer
	for i := range samples {
		fmt.Fprintf(&trace, "{\"t_ns\":%d,\"power_w\":%.3f,\"temp_c\":%d}\n", int64(i)*10*ms, 300+float64(i%997)/8, 50+i%9)
	}
	for i := range events {
		fmt.Fprintf(&work, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, int64(i)*1000*ms+ms, int64(i)*1000*ms+900*ms)
	}
	b.ReportAllocs()
	for b.Loop() {
		a, err := New(Options{Method: TR122}, func(*record.Event) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		if err := a.Join(stream.NewReader(bytes.NewReader(trace.Bytes()), "trace"), stream.NewReader(bytes.NewReader(work.Bytes()), "events")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
