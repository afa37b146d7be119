package stream

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"joulepipe/pkg/record"
)

// benchRows is how many records one round of a benchmark moves.
const benchRows = 50_000

// fullSample is a sample with every field that nvpoll reads on a good day.
func fullSample(i int) *record.Sample {
	return &record.Sample{
		TimeNS: 31_034_856_841 + int64(i)*5_000_000, GPU: i % 8, Tick: record.Some(int64(i)),
		PowerW:        record.Some(float64(83_000+i%600_000) / 1000),
		PowerInstantW: record.Some(float64(82_000+i%600_000) / 1000),
		PowerAverageW: record.Some(float64(81_000+i%600_000) / 1000),
		TempC:         record.Some(37.0), SMClockMHz: record.Some[int64](1980), MemClockMHz: record.Some[int64](3201),
		UtilGPU: record.Some(int64(i % 101)), UtilMem: record.Some[int64](3), VRAMUsedMB: record.Some(615.0625),
		ThrottleReasons: record.Some[uint64](1), PState: record.Some[int64](0), ReadOK: true,
		DtS: record.Some(0.005000123), LateUS: record.Some(12.345), ReadUS: record.Some(1403.5),
	}
}

// narrowSample is what a trace made by hand has: three columns.
func narrowSample(i int) *record.Sample {
	return &record.Sample{
		TimeNS: 31_034_856_841 + int64(i)*5_000_000, GPU: i % 8,
		PowerW: record.Some(float64(83_000+i%600_000) / 1000), ReadOK: true,
	}
}

func encoded(tb testing.TB, f Format, c Compression, make func(int) *record.Sample) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, f, c)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range benchRows {
		if err := w.Write(make(i)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// threeColumns is a foreign CSV of t_ns, power_w, util_gpu.
func threeColumns() []byte {
	var b bytes.Buffer
	b.WriteString("t_ns,power_w,util_gpu\n")
	for i := range benchRows {
		fmt.Fprintf(&b, "%d,%.3f,%d\n", 31_034_856_841+int64(i)*5_000_000, 83+float64(i%600_000)/1000, i%101)
	}
	return b.Bytes()
}

// traceCSV is a power_trace.csv as TR122 has it.
func traceCSV() []byte {
	var b bytes.Buffer
	b.WriteString("t_ns,power_w,temp_c,sm_clock_mhz,mem_clock_mhz,util_gpu,util_mem,vram_used_mb,read_ok,dt_s\n")
	for i := range benchRows {
		fmt.Fprintf(&b, "%d,%.3f,37.0,810,3201,%d,0,615.062,True,0.100022174\n", 31_034_856_841+int64(i)*100_000_000, 83+float64(i%600_000)/1000, i%101)
	}
	return b.Bytes()
}

// threeColumnsJSON is the same as Python's json.dumps has it.
func threeColumnsJSON() []byte {
	var b bytes.Buffer
	for i := range benchRows {
		fmt.Fprintf(&b, "{\"t_ns\": %d, \"power_w\": %.3f, \"util_gpu\": %d}\n", 31_034_856_841+int64(i)*5_000_000, 83+float64(i%600_000)/1000, i%101)
	}
	return b.Bytes()
}

// threeColumnsArrow is the same as an Arrow stream.
func threeColumnsArrow(tb testing.TB) []byte {
	tb.Helper()
	var times, utils []int64
	var powers []float32
	for i := range benchRows {
		times = append(times, 31_034_856_841+int64(i)*5_000_000)
		powers = append(powers, float32(83_000+i%600_000)/1000)
		utils = append(utils, int64(i%101))
	}
	return foreignArrow(tb, []arrow.Field{
		{Name: "t_ns", Type: arrow.PrimitiveTypes.Int64},
		{Name: "power_w", Type: arrow.PrimitiveTypes.Float32},
		{Name: "util_gpu", Type: arrow.PrimitiveTypes.Int64},
	}, func(b *array.RecordBuilder) {
		b.Field(0).(*array.Int64Builder).AppendValues(times, nil)
		b.Field(1).(*array.Float32Builder).AppendValues(powers, nil)
		b.Field(2).(*array.Int64Builder).AppendValues(utils, nil)
	})
}

// benchInputs are streams of benchRows samples.
func benchInputs(b *testing.B) []benchInput {
	return []benchInput{
		{"ndjson/narrow", encoded(b, NDJSON, None, narrowSample)},
		{"ndjson/full", encoded(b, NDJSON, None, fullSample)},
		{"ndjson/full/zstd", encoded(b, NDJSON, Zstd, fullSample)},
		{"ndjson/foreign", threeColumnsJSON()},
		{"csv/narrow", threeColumns()},
		{"csv/trace", traceCSV()},
		{"csv/full", encoded(b, CSV, None, fullSample)},
		{"arrow/narrow", threeColumnsArrow(b)},
		{"arrow/full", encoded(b, Arrow, None, fullSample)},
		{"arrow/columns", arrowTable(b, 1, 0, func(int) (float64, bool) { return 300, true })},
	}
}

type benchInput struct {
	name string
	data []byte
}

func BenchmarkDecode(b *testing.B) {
	for _, bench := range benchInputs(b) {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.data)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(bytes.NewReader(bench.data), "bench")
				n := 0
				for r.Scan() {
					if _, ok := r.Record().(*record.Sample); !ok {
						b.Fatal(r.Record())
					}
					n++
				}
				if r.Err() != nil || n != benchRows {
					b.Fatal(n, r.Err())
				}
			}
			b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	samples := make([]*record.Sample, 1000)
	for i := range samples {
		samples[i] = fullSample(i)
	}
	for _, f := range []Format{NDJSON, CSV, Arrow} {
		for _, c := range []Compression{None, Zstd} {
			b.Run(string(f)+"/"+string(c), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					w, err := NewWriter(io.Discard, f, c)
					if err != nil {
						b.Fatal(err)
					}
					for i := range benchRows {
						if err := w.Write(samples[i%len(samples)]); err != nil {
							b.Fatal(err)
						}
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkBatches reads the same in batches.
func BenchmarkBatches(b *testing.B) {
	for _, bench := range benchInputs(b) {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.data)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(bytes.NewReader(bench.data), "bench")
				n := 0
				for r.ScanBatch() {
					n += len(r.Batch().Samples.TimeNS)
				}
				if r.Err() != nil || n != benchRows {
					b.Fatal(n, r.Err())
				}
			}
			b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// benchEvent is an event as nvattrib writes it.
func benchEvent(i int) *record.Event {
	start := int64(i) * 10_000_030_000
	return &record.Event{
		ID: fmt.Sprint("e", i), Phase: []string{"prefill", "decode"}[i%2], StartNS: start, EndNS: start + 5_700_000_000,
		Energy: &record.Energy{
			Method: "tr122", PowerSamples: int64(57 + i%9), GapFraction: record.Some(0.0), MaxGapS: record.Some(0.100007919),
			Joules: record.Some(1637.0544134391164 + float64(i)), Quality: "good", Tier: "billable",
		},
	}
}

// foreignEvents are lines of events as other programs write them.
func foreignEvents() []byte {
	var b bytes.Buffer
	for i := range benchRows {
		e := benchEvent(i)
		fmt.Fprintf(&b, "{\"event_id\":%q,\"phase\":%q,\"t_start_ns\":%d,\"t_end_ns\":%d}\n", e.ID, e.Phase, e.StartNS, e.EndNS)
	}
	return b.Bytes()
}

func BenchmarkEvents(b *testing.B) {
	b.Run("write", func(b *testing.B) {
		events := make([]*record.Event, 1000)
		for i := range events {
			events[i] = benchEvent(i)
		}
		b.ReportAllocs()
		for b.Loop() {
			w := newNDJSONWriter(io.Discard)
			for i := range benchRows {
				if err := w.Write(events[i%len(events)]); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/event")
	})
	for name, data := range map[string][]byte{"own": ownEvents(b), "foreign": foreignEvents()} {
		b.Run("read/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := NewReader(bytes.NewReader(data), "bench")
				n := 0
				for r.ScanBatch() {
					n += len(r.Batch().Others)
				}
				if r.Err() != nil || n != benchRows {
					b.Fatal(n, r.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/event")
		})
	}
}

// ownEvents are the same as this package writes them.
func ownEvents(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := newNDJSONWriter(&b)
	for i := range benchRows {
		e := benchEvent(i)
		e.Energy = nil
		if err := w.Write(e); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}
