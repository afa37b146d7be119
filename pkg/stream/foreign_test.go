package stream

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"joulepipe/pkg/record"
)

func read(t *testing.T, text string) []record.Record {
	t.Helper()
	got, err := readAll(NewReader(strings.NewReader(text), "t"))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestForeign reads what other programs write, as it is.
func TestForeign(t *testing.T) {
	t.Parallel()
	sample := func(s record.Sample) record.Record { s.ReadOK = true; return &s }
	some := record.Some[float64]
	whole := record.Some[int64]
	for _, tt := range []struct {
		name string
		text string
		want []record.Record
	}{
		{"empty", "", nil},
		{"blank", " \n\n\t\n", nil},
		{"TR122 §3.1 power_trace.csv",
			"t_ns,power_w,temp_c,sm_clock_mhz,mem_clock_mhz,util_gpu,util_mem,vram_used_mb,read_ok,dt_s\r\n" +
				"31034856841,83.621,37.0,810,3201,0,0,615.062,True,0.000000000\r\n" +
				"31139787857,,37.0,810.0,3201,,0,nan,False,0.104931016\r\n",
			[]record.Record{
				sample(record.Sample{TimeNS: 31034856841, PowerW: some(83.621), TempC: some(37), SMClockMHz: whole(810), MemClockMHz: whole(3201),
					UtilGPU: whole(0), UtilMem: whole(0), VRAMUsedMB: some(615.062), DtS: some(0)}),
				&record.Sample{TimeNS: 31139787857, TempC: some(37), SMClockMHz: whole(810), MemClockMHz: whole(3201),
					UtilMem: whole(0), DtS: some(0.104931016)},
			}},
		{"TR122 §3.2 generation_events.jsonl",
			`{"event_id": "bs4_rep2_prefill", "phase": "prefill", "t_start_ns": 1000000000, "t_end_ns": 1100000000, "input_tokens": 512, ` +
				`"output_tokens": 0, "batch_size": 4, "tokens_per_second": 20480.0, "energy_joules": NaN, "operational_joules": null, ` +
				`"energy_quality": "no_data", "gap_fraction": 0.0, "rep": 2}` + "\n",
			[]record.Record{&record.Event{ID: "bs4_rep2_prefill", Phase: "prefill", StartNS: 1000000000, EndNS: 1100000000,
				InputTokens: whole(512), OutputTokens: whole(0), BatchSize: whole(4), TokensPerSecond: some(20480),
				Energy: &record.Energy{Quality: "no_data", GapFraction: some(0)},
				Extra:  []record.Field{{Name: "rep", Value: json.RawMessage("2")}}}}},
		{"events by the wall clock, without newline",
			`{"t_start_unix_ns":1764000000000000000,"t_end_unix_ns":1764000000000000001,"request_id":17}`,
			[]record.Record{&record.Event{StartUnixNS: whole(1764000000000000000), EndUnixNS: whole(1764000000000000001), RequestID: "17"}}},
		{"an energy field alone is none", `{"t_start_ns":1,"t_end_ns":2,"throttled":true}`,
			[]record.Record{&record.Event{StartNS: 1, EndNS: 2, Extra: []record.Field{{Name: "throttled", Value: json.RawMessage("true")}}}}},
		{"nvidia-smi --format=csv",
			"index, timestamp, name, power.draw [W], power.draw.instant [W], clocks.current.sm [MHz], utilization.gpu [%], memory.used [MiB], temperature.gpu, pstate, clocks_event_reasons.active\n" +
				"1, 2026/01/02 03:04:05.678, NVIDIA H200, 126.96 W, 126.80 W, 1980 MHz, 45 %, 615 MiB, 37, P0, 0x0000000000000004\n" +
				"0, 2026/01/02 03:04:05.700, NVIDIA H200, [N/A], [Not Supported], 345 MHz, 0 %, 0 MiB, N/A, P8, [N/A]\n",
			[]record.Record{
				sample(record.Sample{TimeNS: 1767323045678e6, GPU: 1, PowerW: some(126.96), PowerInstantW: some(126.8), SMClockMHz: whole(1980), UtilGPU: whole(45),
					VRAMUsedMB: some(615), TempC: some(37), PState: whole(0), ThrottleReasons: record.Some(uint64(4))}),
				&record.Sample{TimeNS: 1767323045700e6, SMClockMHz: whole(345), UtilGPU: whole(0), VRAMUsedMB: some(0), PState: whole(8)},
			}},
		{"nvidia-smi without units, a column twice", "timestamp, power.draw, power.draw, clocks.sm, clocks.current.sm\n2026/01/02 03:04:05, 126.96, 1.0, 345, 1\n",
			[]record.Record{sample(record.Sample{TimeNS: 1767323045e9, PowerW: some(126.96), SMClockMHz: whole(345)})}},
		{"sample by its fields", "\ufeff \n" + `{"power_average_w":1e2,"t_ns":5}` + "\n\n" + `{"t_ns":6,"power_instant_w":0.1,"read_ok":false,"error":"x\n"}`,
			[]record.Record{
				sample(record.Sample{TimeNS: 5, PowerAverageW: some(100)}),
				&record.Sample{TimeNS: 6, PowerInstantW: some(0.1), Error: "x\n"},
			}},
		{"sample that does not say whether it is right", `{"record":"sample","t_ns":5,"power_w":3}` + "\n" + `{"record":"sample","t_ns":5}`,
			[]record.Record{sample(record.Sample{TimeNS: 5, PowerW: some(3)}), &record.Sample{TimeNS: 5}}},
		{"kinds that may come", `{"record":"vram","x":1}` + "\n" + `{"record":"power","t_ns":1,"gpu":2,"power_w":3.5,"new":{}}`,
			[]record.Record{&record.Power{TimeNS: 1, GPU: 2, PowerW: 3.5}}},
		{"counter CSV", "t_before_ns,t_after_ns,energy_mj\n31332317371,31336720352,2903837\n",
			[]record.Record{&record.Counter{BeforeNS: 31332317371, TimeNS: 31336720352, EnergyMilliJ: whole(2903837)}}},
		{"counter CSV of two GPUs", "gpu,t_ns,t_before_ns,energy_mj\n1,7,6,\n",
			[]record.Record{&record.Counter{BeforeNS: 6, TimeNS: 7, GPU: 1}}},
		{"GPM CSV", "t_start_ns,t_end_ns,graphics_util,tensor_util,pcie_rx_mib_s\n1,2,0.00,12.5,3.74\n",
			[]record.Record{&record.GPM{StartNS: 1, TimeNS: 2, GraphicsUtil: some(0), TensorUtil: some(12.5), PCIeRxMiBs: some(3.74)}}},
		{"processes, and what has no process of its own", "t_start_ns,t_ns,gpu,pid,sm_util,mem_util,name\n1,2,0,4711,63,20,nvload\n2,3,0,,,,\n",
			[]record.Record{
				&record.Process{StartNS: 1, TimeNS: 2, PID: whole(4711), SMUtil: some(63), MemUtil: some(20), Name: "nvload"},
				&record.Process{StartNS: 2, TimeNS: 3},
			}},
		{"a process that ends before it starts", `{"record":"process","t_start_ns":3,"t_ns":2,"pid":1}` + "\n",
			[]record.Record{&record.SyntaxError{File: "t", Line: 1, Msg: "process ends before it starts: t_start_ns 3, t_ns 2", Hint: "were both times taken from the same monotonic clock?"}}},
		{"an event's pid is its own affair", `{"t_start_ns":1,"t_end_ns":2,"pid":4711}` + "\n" + `{"record":"event","t_start_ns":1,"t_end_ns":2,"pid":4711,"sm_util":3}`,
			[]record.Record{
				&record.Event{StartNS: 1, EndNS: 2, Extra: []record.Field{{Name: "pid", Value: json.RawMessage("4711")}}},
				&record.Event{StartNS: 1, EndNS: 2, Extra: []record.Field{{Name: "pid", Value: json.RawMessage("4711")}, {Name: "sm_util", Value: json.RawMessage("3")}}},
			}},
		{"event CSV", "phase,t_end_ns,t_start_ns,gpus,event_id,note,reps,throttled,energy_quality\ndecode,20,10,\"0, 1\",e1,\"a \"\"b\"\",\nc\",3,,\n,2,1,,,,,true,\n",
			[]record.Record{
				&record.Event{ID: "e1", Phase: "decode", StartNS: 10, EndNS: 20, GPUs: []int{0, 1},
					Extra: []record.Field{{Name: "note", Value: json.RawMessage(`"a \"b\",\nc"`)}, {Name: "reps", Value: json.RawMessage("3")}}},
				&record.Event{StartNS: 1, EndNS: 2, Extra: []record.Field{{Name: "throttled", Value: json.RawMessage("true")}}},
			}},
		{"numbers as they come", "t_ns,power_w,util_gpu\n1,+.5,1e1\n2,-0,2.0\n3,1.,None\n4,1e-7,[N/A]\n5, 7 , 8\n",
			[]record.Record{
				sample(record.Sample{TimeNS: 1, PowerW: some(0.5), UtilGPU: whole(10)}),
				sample(record.Sample{TimeNS: 2, PowerW: some(math.Copysign(0, -1)), UtilGPU: whole(2)}),
				sample(record.Sample{TimeNS: 3, PowerW: some(1)}),
				sample(record.Sample{TimeNS: 4, PowerW: some(1e-7)}),
				sample(record.Sample{TimeNS: 5, PowerW: some(7), UtilGPU: whole(8)}),
			}},
		{"stray quotes", "t_start_ns,t_end_ns,note\n1,2,\"a\n3,4,\n5,6,\"b\n7,8,\n",
			[]record.Record{
				&record.SyntaxError{File: "t", Line: 2, Column: 5, Msg: "a quoted cell does not end"},
				&record.Event{StartNS: 3, EndNS: 4},
				&record.SyntaxError{File: "t", Line: 4, Column: 5, Msg: "a quoted cell does not end"},
				&record.Event{StartNS: 7, EndNS: 8},
			}},
		{"nvidia-smi twice, and a time that is none", "timestamp, power.draw [W]\n02/01/2026 03:04, 1 W\n2026/01/02 03:04:05.5, low W\ntimestamp, power.draw.average [W]\n2026/01/02 03:04:06, 2 W\n",
			[]record.Record{
				&record.SyntaxError{File: "t", Line: 2, Column: 1, Msg: `not a time of nvidia-smi's: "02/01/2026 03:04"`, Hint: "as 2026/01/31 23:59:59.123"},
				&record.SyntaxError{File: "t", Line: 3, Column: 23, Msg: `power_w is "low", not a number`},
				sample(record.Sample{TimeNS: 1767323046e9, PowerAverageW: some(2)}),
			}},
		{"two CSV files in one", "t_ns,power_w\n1,2\npower_w,t_ns\nt_ns,temp_c,power_w\n3,4,5\n",
			[]record.Record{
				sample(record.Sample{TimeNS: 1, PowerW: some(2)}),
				&record.SyntaxError{File: "t", Line: 3, Column: 1, Msg: `t_ns is "power_w", not a whole number of 64 bits`},
				sample(record.Sample{TimeNS: 3, TempC: some(4), PowerW: some(5)}),
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compare(t, read(t, tt.text), tt.want)
			var b bytes.Buffer
			w := gzip.NewWriter(&b)
			fmt.Fprint(w, tt.text)
			w.Close()
			compare(t, read(t, b.String()), tt.want)
		})
	}
}

func TestForeignArrow(t *testing.T) {
	t.Parallel()
	dict := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint32, ValueType: arrow.BinaryTypes.String}
	data := foreignArrow(t, []arrow.Field{
		{Name: "t_start_ns", Type: arrow.PrimitiveTypes.Uint64},
		{Name: "t_end_ns", Type: arrow.PrimitiveTypes.Float64},
		{Name: "phase", Type: dict},
		{Name: "batch_size", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
		{Name: "gpus", Type: arrow.ListOf(arrow.PrimitiveTypes.Int64)},
		{Name: "request_id", Type: arrow.PrimitiveTypes.Int16},
		{Name: "model", Type: arrow.BinaryTypes.LargeString},
		{Name: "temperature", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
		{Name: "when", Type: arrow.FixedWidthTypes.Timestamp_ns},
	}, func(b *array.RecordBuilder) {
		b.Field(0).(*array.Uint64Builder).AppendValues([]uint64{1, 3}, nil)
		b.Field(1).(*array.Float64Builder).AppendValues([]float64{2, 2}, nil)
		phase := b.Field(2).(*array.BinaryDictionaryBuilder)
		phase.AppendString("decode")
		phase.AppendString("prefill")
		b.Field(3).(*array.Int8Builder).AppendValues([]int8{0, 8}, []bool{false, true})
		gpus := b.Field(4).(*array.ListBuilder)
		gpus.Append(true)
		gpus.ValueBuilder().(*array.Int64Builder).AppendValues([]int64{4, 5}, nil)
		gpus.Append(true)
		b.Field(5).(*array.Int16Builder).AppendValues([]int16{7, 8}, nil)
		b.Field(6).(*array.LargeStringBuilder).AppendValues([]string{"gpt2", "gpt2"}, nil)
		b.Field(7).(*array.Float32Builder).AppendValues([]float32{0.5, 0}, []bool{true, false})
		b.Field(8).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{1, 2}, nil)
	})
	compare(t, read(t, string(data)+string(data)), []record.Record{
		&record.Event{Phase: "decode", StartNS: 1, EndNS: 2, GPUs: []int{4, 5}, RequestID: "7", Model: "gpt2",
			Extra: []record.Field{{Name: "temperature", Value: json.RawMessage("0.5")}}},
		&record.SyntaxError{File: "t", Line: 2, Msg: "event ends before it starts: t_start_ns 3, t_end_ns 2",
			Hint: "were both times taken from the same monotonic clock?"},
		&record.Event{Phase: "decode", StartNS: 1, EndNS: 2, GPUs: []int{4, 5}, RequestID: "7", Model: "gpt2",
			Extra: []record.Field{{Name: "temperature", Value: json.RawMessage("0.5")}}},
		&record.SyntaxError{File: "t", Line: 4, Msg: "event ends before it starts: t_start_ns 3, t_end_ns 2",
			Hint: "were both times taken from the same monotonic clock?"},
	})

	narrow := threeColumnsArrow(t)
	r := NewReader(bytes.NewReader(narrow), "t")
	for i := 0; r.Scan(); i++ {
		s := r.Record().(*record.Sample)
		if w := float64(float32(83_000+i%600_000) / 1000); s.PowerW != record.Some(w) || s.UtilGPU != record.Some(int64(i%101)) || !s.ReadOK {
			t.Fatalf("row %d: %+v", i, s)
		}
	}
	if r.Err() != nil {
		t.Error(r.Err())
	}
}

// TestBadLines names the place, and goes on after it.
func TestBadLines(t *testing.T) {
	t.Parallel()
	const good = `{"record":"power","t_ns":9,"gpu":0,"power_w":1}`
	const head = "t_ns,power_w,util_gpu\n"
	const clock = "were both times taken from the same monotonic clock?"
	const long = "are both times in ns, and was one of them left at an extreme?"
	for _, tt := range []struct {
		name string
		text string // followed by a good line
		want string
		hint string
	}{
		{"not JSON", `{"record":"power","t_ns":1,}`, `t:1:28: not JSON: invalid character '}' looking for beginning of object key string`, ""},
		{"cut inside", `{"record":"power","t_ns":1`, `t:1:26: not JSON: unexpected end of JSON input`, ""},
		{"value", `{"record":"sample","t_ns":1,"power_w":watts}`, `t:1:39: not JSON: invalid character 'w' looking for beginning of value`, ""},
		{"value of an unknown field", `{"record":"sample","t_ns":1,"foo":[1,}`, `t:1:38: not JSON: invalid character '}' looking for beginning of value`, ""},
		{"NaN inside", `{"t_start_ns":1,"t_end_ns":2,"x":[1,NaN]}`, `t:1:37: not JSON: invalid character 'N' looking for beginning of value`, "JSON has no NaN or Infinity: leave the field out"},
		{"two objects", `{"record":"end","records":0} {}`, `t:1:30: more after the JSON object`, "a stream has one JSON object a line"},
		{"no object", "{\"record\":\"vram\"}\n[1]", `t:2:1: not a JSON object`, "a stream has one JSON object a line"},
		{"type", `{"record":"sample","t_ns":1,"power_w":"83 W"}`, `t:1:39: power_w is "83 W", not a number`, ""},
		{"fraction", `{"record":"sample","t_ns":1.5}`, `t:1:27: t_ns is 1.5, not a whole number of 64 bits`, ""},
		{"too large", `{"record":"sample","t_ns":9223372036854775808}`, `t:1:27: t_ns is 9223372036854775808, not a whole number of 64 bits`, ""},
		{"negative bits", `{"record":"sample","t_ns":1,"throttle_reasons":-1}`, `t:1:48: throttle_reasons is -1, not a whole number of 64 bits from 0`, ""},
		{"leading zero", `{"record":"sample","t_ns":01}`, `t:1:28: not JSON: invalid character '1' after top-level value`, ""},
		{"bool", `{"record":"sample","t_ns":1,"read_ok":1}`, `t:1:39: read_ok is 1, not true or false`, ""},
		{"gpu", `{"record":"sample","t_ns":1,"gpu":-1,"read_ok":true}`, `t:1: sample of gpu -1`, "GPUs are counted from 0"},
		{"no time", `{"record":"sample","power_w":1}`, `t:1: sample without t_ns`, ""},
		{"time absent", `{"record":"sample","t_ns":null,"power_w":1}`, `t:1: sample without t_ns`, ""},
		{"no power", `{"record":"power","t_ns":1,"gpu":0,"power_w":NaN}`, `t:1: power without power_w`, ""},
		{"no start", `{"record":"event","t_end_ns":1}`, `t:1: event without t_start_ns`, "t_start_unix_ns will do, with t_end_unix_ns"},
		{"no end", `{"t_start_ns":1}`, `t:1: event without t_end_ns`, "t_end_unix_ns will do, with t_start_unix_ns"},
		{"backwards", `{"record":"event","t_start_ns":2,"t_end_ns":1}`, `t:1: event ends before it starts: t_start_ns 2, t_end_ns 1`, clock},
		{"wall clock backwards", `{"t_start_unix_ns":2,"t_end_unix_ns":1}`, `t:1: event ends before it starts: t_start_unix_ns 2, t_end_unix_ns 1`, clock},
		{"too long", `{"record":"event","t_start_ns":-9223372036854775808,"t_end_ns":9223372036854775807}`,
			`t:1: event lasts for 292 years and more: t_start_ns -9223372036854775808, t_end_ns 9223372036854775807`, long},
		{"too long by 1 ns", `{"t_start_ns":-1,"t_end_ns":9223372036854775807}`, `t:1: event lasts for 292 years and more: t_start_ns -1, t_end_ns 9223372036854775807`, long},
		{"too long, after one like it", `{"t_start_ns":0,"t_end_ns":9223372036854775807}` + "\n" + `{"t_start_ns":-1,"t_end_ns":9223372036854775807}`,
			`t:2: event lasts for 292 years and more: t_start_ns -1, t_end_ns 9223372036854775807`, long},
		{"backwards by too much", `{"t_start_ns":9223372036854775807,"t_end_ns":-2}`, `t:1: event ends before it starts: t_start_ns 9223372036854775807, t_end_ns -2`, clock},
		{"too long on the wall clock", `{"t_start_unix_ns":-2,"t_end_unix_ns":9223372036854775807}`,
			`t:1: event lasts for 292 years and more: t_start_unix_ns -2, t_end_unix_ns 9223372036854775807`, long},
		{"counter too long", `{"record":"counter","t_before_ns":-9000000000000000000,"t_ns":1000000000000000000,"gpu":0}`,
			`t:1: counter lasts for 292 years and more: t_before_ns -9000000000000000000, t_ns 1000000000000000000`, long},
		{"CSV too long", "t_start_ns,t_end_ns\n-1,9223372036854775807", `t:2: event lasts for 292 years and more: t_start_ns -1, t_end_ns 9223372036854775807`, long},
		{"counter backwards", `{"record":"counter","t_before_ns":2,"t_ns":1,"gpu":0}`, `t:1: counter ends before it starts: t_before_ns 2, t_ns 1`, clock},
		{"kind", `{"record":7,"t_ns":1}`, `t:1:11: record is not the name of a kind`, ""},
		{"no kind", "\n" + `{"temp_c":7,"t_ns":1}`, `t:2: a record of no known kind`, `name it ("record"), or give it t_start_ns and t_end_ns (an event) or t_ns and power_w (a sample)`},
		{"schema", `{"record":"header","schema":"joulepipe/9"}` + "\n" + `{"record":"end","records":0}`, `t:1: schema "joulepipe/9" is not "joulepipe/1"`, "read it with a build that knows this schema"},
		{"CSV cell", head + "1,2,3\n4,five,6", `t:3:3: power_w is "five", not a number`, ""},
		{"CSV row too short", head + "4,5", `t:2: row of 2 cells under 3 column names`, "leave a cell empty where there is no value"},
		{"CSV row too long", head + "4,5,6,7", `t:2: row of 4 cells under 3 column names`, "leave a cell empty where there is no value"},
		{"CSV time", head + ",5,6", `t:2: sample without t_ns`, ""},
		{"CSV quote within", head + `4,5",6"`, `t:2:4: a quote inside a cell that is not quoted`, ""},
		{"CSV quote and more", head + `4,"5"x,6`, `t:2:6: a cell goes on after its closing quote`, ""},
		{"CSV quote open", head + `4,"5,6`, `t:2:3: a quoted cell does not end`, ""},
		{"CSV after lines in quotes", "t_start_ns,t_end_ns,note\n1,2,\"a\nb\"\n1,x,", `t:4:3: t_end_ns is "x", not a whole number of 64 bits`, ""},
		{"CSV kind", "record,t_ns,power_w\n,1,2", `t:2:1: row without a record kind`, ""},
		{"CSV json", "record,t_ns,json\nmarker,1,\"{\"\"name\"\":}\"", `t:2:10: not JSON: invalid character '}' looking for beginning of value`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			after := good
			if first, _, _ := strings.Cut(tt.text, "\n"); strings.Contains(first, ",") && first[0] != '{' {
				// A good row, by the heading.
				cells := strings.Split(first, ",")
				for i, name := range cells {
					cells[i] = map[string]string{"t_ns": "9", "power_w": "1", "t_start_ns": "8", "t_end_ns": "9", "record": "sample"}[name]
				}
				after = strings.Join(cells, ",")
			}
			got, err := readAll(NewReader(strings.NewReader(tt.text+"\n"+after+"\n"), "t"))
			if err != nil {
				t.Fatal(err)
			}
			var bad *record.SyntaxError
			for _, r := range got {
				if e, ok := r.(*record.SyntaxError); ok && bad == nil {
					bad = e
				}
			}
			if bad == nil {
				t.Fatalf("no syntax error in %v", got)
			}
			if bad.Error() != tt.want || bad.Hint != tt.hint {
				t.Errorf("got  %s (%s)\nwant %s (%s)", bad, bad.Hint, tt.want, tt.hint)
			}
			if k := got[len(got)-1].Kind(); k == record.KindSyntax {
				t.Errorf("the line after it is not read: %v", got[len(got)-1])
			}
		})
	}
}

// TestNoStream refuses what is none, and says what it seems to be.
func TestNoStream(t *testing.T) {
	t.Parallel()
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		fmt.Fprint(w, s)
		w.Close()
		return b.String()
	}
	for _, tt := range []struct{ name, text, want string }{
		{"ELF", "\x7fELF\x02\x01\x01\x00\x00", `t:1: not a stream: begins with "\x7fELF\x02\x01\x01\x00"`},
		{"bytes", "\x00\x01", `t:1: not a stream: begins with "\x00\x01"`},
		{"prose", "Hello, world\n", `t:1: not a stream: "Hello,world" are no columns of a record`},
		{"columns", "time,watts\n1,2\n", `t:1: not a stream: "time,watts" are no columns of a record`},
		{"columns twice", "t_ns,power_w,t_ns\n1,2,3\n", `t:1: two columns are named "t_ns"`},
		{"Feather", "ARROW1\x00\x00", `t:1: this is an Arrow file (Feather), not a stream`},
		{"Parquet", "PAR1\x15", `t:1: this is a Parquet file, not a stream`},
		{"array", " [\n{}]", `t:1: this is a JSON array, not a stream`},
		{"UTF-16", "\xff\xfet\x00", `t:1: this is text in UTF-16, not a stream`},
		{"twice packed", gz(gz("x")), `t:1: compressed twice`},
		{"packed garbage", gz("\x00\x01"), `t:1: not a stream: begins with "\x00\x01"`},
		{"gzip broken", "\x1f\x8bxxxxxxxxxxxxxxxxxxxxxx", `t: gzip: gzip: invalid header`},
		{"Arrow broken", "\xff\xff\xff\xff\x08\x00\x00\x00garbage!", `t: corrupt Arrow stream: `},
		{"Arrow of other columns", string(foreignArrow(t, []arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, func(b *array.RecordBuilder) {
			b.Field(0).AppendNull()
		})), `t:1: not a stream: "x" are no columns of a record`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(NewReader(strings.NewReader(tt.text), "t"))
			if len(got) > 0 {
				t.Errorf("records %v", got)
			}
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// TestLongLines reads lines beyond any scanner's buffer, and passes over those
// beyond the limit.
func TestLongLines(t *testing.T) {
	t.Parallel()
	prompt, _ := json.Marshal(strings.Repeat("word ", 1<<18))
	event := &record.Event{ID: "long", StartNS: 1, EndNS: 2, Extra: []record.Field{{Name: "prompt", Value: prompt}}}
	for _, f := range formats {
		compare(t, read(t, string(encode(t, f, None, event, event))), []record.Record{event, event})
	}
	line := `{"record":"power","t_ns":1,"gpu":0,"power_w":2}`
	l := newLines(strings.NewReader(line + "\n" + strings.Repeat("x", 3<<20) + "\n" + line + "\n" + strings.Repeat("y", 2<<20)))
	l.limit = 1 << 20
	d := &ndjsonReader{objects: newObjects(), lines: l}
	var got []string
	for {
		r, err := d.next()
		if err != nil {
			got = append(got, err.Error())
			break
		}
		if e, ok := r.(*record.SyntaxError); ok {
			got = append(got, e.Error())
		} else {
			got = append(got, string(r.Kind()))
		}
	}
	if want := "[power :2: line longer than 64 MiB power :4: line longer than 64 MiB EOF]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestHostileMemory takes no more memory than the input warrants.
func TestHostileMemory(t *testing.T) {
	t.Parallel()
	good := encode(t, Arrow, None, newRandom(1).stream(20)...)
	for i := 0; i+8 < len(good); i += 20 {
		for _, v := range []byte{0xff, 0x7f} {
			bad := bytes.Clone(good)
			bad[i], bad[i+1], bad[i+2], bad[i+3] = v, v, v, 0x7f
			r := NewReader(bytes.NewReader(bad), "t")
			for r.Scan() {
			}
			if i < 8 && r.Err() == nil {
				t.Errorf("length at %d overwritten, and no error", i)
			}
		}
	}
	var m boundedMemory
	m.Free(m.Allocate(arrowLimit / 1024))
	if m.used != 0 {
		t.Errorf("%d bytes in use", m.used)
	}
	defer func() {
		if recover() == nil {
			t.Error("no limit")
		}
	}()
	_ = memory.Allocator(&m).Allocate(arrowLimit + 1)
}

// TestRefused says why a record cannot be written, and leaves the stream whole.
func TestRefused(t *testing.T) {
	t.Parallel()
	field := func(name, value string) []record.Field {
		return []record.Field{{Name: name, Value: json.RawMessage(value)}}
	}
	for _, tt := range []struct {
		name string
		rec  record.Record
		want string
	}{
		{"syntax error", &record.SyntaxError{Msg: "x"}, "cannot write a *record.SyntaxError"},
		{"field of its own", &record.Event{Extra: field("phase", "1")}, `further field "phase" of a event has the name of one of its own`},
		{"mark of energy", &record.Event{Extra: field("energy_joules", "1")}, `further field "energy_joules" of a event has the name of one of its own`},
		{"record", &record.Marker{Extra: field("record", "1")}, `further field "record" of a marker has the name of one of its own`},
		{"not JSON", &record.Marker{Extra: field("x", "")}, `further field "x" of a marker is not JSON: ""`},
		{"not JSON to be", &record.Header{Config: map[string]any{"x": math.NaN()}}, "json: unsupported value: NaN"},
	} {
		for _, f := range formats {
			t.Run(tt.name+"/"+string(f), func(t *testing.T) {
				t.Parallel()
				good := newRandom(1).stream(3)
				var b bytes.Buffer
				w, err := NewWriter(&b, f, None)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range good {
					if err := w.Write(tt.rec); err == nil || err.Error() != tt.want {
						t.Fatalf("error %v, want %s", err, tt.want)
					}
					if err := w.Write(r); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				compare(t, read(t, b.String()), good)
			})
		}
	}
}

// TestNotFinite leaves out what is no number.
func TestNotFinite(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		in := &record.Sample{TimeNS: 1, PowerW: record.Some(math.NaN()), TempC: record.Some(math.Inf(1)), ReadOK: true}
		compare(t, read(t, string(encode(t, f, None, in))), []record.Record{&record.Sample{TimeNS: 1, ReadOK: true}})
	}
}
