package stream

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// lean is a record as a batch, which is for use again, has it.
func lean(b *filling, rec record.Record) record.Record {
	b.begin()
	b.add(rec, 0)
	return all(b.end())[0]
}

// all is every record of a batch.
func all(b *Batch) (list []record.Record) {
	samples, powers, others := 0, 0, 0
	for _, run := range b.Runs {
		for range run.N {
			switch run.Kind {
			case record.KindSample:
				var s record.Sample
				b.Samples.Sample(&s, samples, run)
				list = append(list, &s)
				samples++
			case record.KindPower:
				list = append(list, &record.Power{TimeNS: b.Powers.TimeNS[powers], GPU: run.GPU, PowerW: b.Powers.PowerW[powers]})
				powers++
			default:
				rec := b.Others[others]
				if e, ok := rec.(*record.Event); ok {
					rec = e.Clone() // the next batch has its place
				}
				list = append(list, rec)
				others++
			}
		}
	}
	return list
}

// sameInBatches reads data both ways. What is read from it in pieces may be cut
// into other batches.
func sameInBatches(t *testing.T, data []byte, pieces func(io.Reader) io.Reader) {
	t.Helper()
	var b filling
	var want, got []record.Record
	one := NewReader(bytes.NewReader(data), "t")
	for one.Scan() {
		want = append(want, lean(&b, one.Record()))
	}
	many := NewReader(pieces(bytes.NewReader(data)), "t")
	for many.ScanBatch() {
		if len(many.Batch().Runs) == 0 && len(many.Batch().Others) > 0 {
			t.Fatal("others without a run")
		}
		got = append(got, all(many.Batch())...)
	}
	if many.ScanBatch() || many.Batch() != nil {
		t.Fatal("goes on after its end")
	}
	compare(t, got, want)
	if fmt.Sprint(one.Err()) != fmt.Sprint(many.Err()) {
		t.Fatalf("ends with %v, in batches with %v", one.Err(), many.Err())
	}
}

func asItIs(r io.Reader) io.Reader { return r }

// someBytes reads up to n bytes at a time.
type someBytes struct {
	r io.Reader
	n int
}

func (s someBytes) Read(b []byte) (int, error) { return s.r.Read(b[:min(len(b), s.n)]) }

// trace is a stream of every kind of line that a trace may have, good and bad.
func trace(lines int) []byte {
	dice := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	fmt.Fprintln(&b, `{"record":"header","schema":"joulepipe/1","tool":"t","t_ns":0,"unix_ns":0}`)
	for i := range lines {
		ns, w := 1_000_000_000+int64(i)*7_919_131, float64(dice.IntN(7e8))/1e6
		switch dice.IntN(25) {
		case 0, 1, 2:
			fmt.Fprintf(&b, "{\"record\":\"power\",\"t_ns\":%d,\"gpu\":%d,\"power_w\":%.3f}\n", ns, dice.IntN(2), w)
		case 3, 4, 5:
			fmt.Fprintf(&b, "{\"record\":\"sample\",\"t_ns\":%d,\"gpu\":0,\"tick\":%d,\"power_w\":%.3f,\"power_instant_w\":%.6f,\"temp_c\":%d,\"sm_clock_mhz\":%d,\"throttle_reasons\":%d,\"read_ok\":true}\n", ns, i, w, w, 30+i%40, 1980-i%7, i%9)
		case 6, 7, 8:
			fmt.Fprintf(&b, "{\"t_ns\": %d, \"power_w\": %.*f, \"temp_c\": %d}\r\n", ns, dice.IntN(12), w, dice.IntN(100)-50)
		case 9:
			fmt.Fprintf(&b, "{\"record\":\"sample\",\"t_ns\":%d,\"gpu\":0,\"read_ok\":false,\"error\":\"ERROR_TIMEOUT\"}\n", ns)
		case 10:
			fmt.Fprintf(&b, "{\"record\":\"counter\",\"t_before_ns\":%d,\"t_ns\":%d,\"gpu\":0,\"energy_mj\":%d}\n", ns-9, ns, i)
		case 11:
			fmt.Fprintf(&b, "{\"record\":\"event\",\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d,\"gpus\":[0],\"note\":{\"a\":[%d]}}\n", i, ns, ns+5, i)
		case 12:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":\"much\"}\n", ns)
		case 13:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":%g,\"util_gpu\":0%d}\n", ns, w, i%10)
		case 14:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":-%g}\n", ns, w)
		case 15:
			fmt.Fprintf(&b, "{\"t_ns\":%d%d,\"power_w\":%g%d}\n", ns, ns, w, ns)
		case 16:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":%ge%d}\n", ns, w, i%3)
		case 17:
			fmt.Fprintf(&b, "{\"record\":\"marker\",\"name\":\"m%d\",\"t_ns\":%d,\"more\":\"é\"}\n\n", i, ns)
		case 18:
			fmt.Fprintf(&b, "{\"power_w\":%.3f,\"t_ns\":%d.0,\"power_w\":1}\n", w, ns)
		case 19:
			fmt.Fprintf(&b, "{\"record\":\"power\",\"t_ns\":%d,\"gpu\":-1,\"power_w\":%.3f}\n", ns, w)
		case 20:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":%.3f,\"read_ok\":%t}\n", ns, w, i%2 == 0)
		case 21:
			fmt.Fprintf(&b, "not JSON at all %d\n", i)
		case 23:
			fmt.Fprintf(&b, "{\"record\":\"process\",\"t_start_ns\":%d,\"t_ns\":%d,\"gpu\":0,\"pid\":%d,\"sm_util\":%d,\"name\":\"p%d\"}\n", ns-9, ns, 4000+i, i%101, i%3)
		case 22:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":null,\"power_average_w\":%.1f,\"gpu\":%d}\n", ns, w, i%3)
		default:
			fmt.Fprintf(&b, "{\"t_ns\":%d,\"power_w\":%.3f}\n", ns, w)
		}
	}
	fmt.Fprintf(&b, "{\"record\":\"end\",\"records\":%d}\n", lines)
	return b.Bytes()
}

// TestBatches finds in batches the records that there are one by one, with
// their lines' numbers, however the input comes and wherever it is cut.
func TestBatches(t *testing.T) {
	t.Parallel()
	data := trace(3_000)
	sameInBatches(t, data, asItIs)
	for _, n := range []int{1, 3, 1 << 10} {
		sameInBatches(t, data[:len(data)/min(50, 1+100_000/n)], func(r io.Reader) io.Reader { return someBytes{r, n} })
	}
	for range 10 {
		cut := data[:rand.IntN(1<<17)]
		sameInBatches(t, cut, asItIs)
	}
	for _, f := range formats {
		for _, c := range []Compression{None, Zstd} {
			var b bytes.Buffer
			w, err := NewWriter(&b, f, c)
			if err != nil {
				t.Fatal(err)
			}
			r := NewReader(bytes.NewReader(data[:1<<17]), "t")
			for r.Scan() {
				if r.Record().Kind() != record.KindSyntax {
					if err := w.Write(r.Record()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			sameInBatches(t, b.Bytes(), asItIs)
			sameInBatches(t, b.Bytes()[:b.Len()*2/3], asItIs)
		}
	}
	columns := threeColumnsArrow(t)
	sameInBatches(t, columns, asItIs)
	for range 10 {
		sameInBatches(t, columns[:rand.IntN(len(columns))], asItIs)
	}
	for n := 0; n < 600; n += 13 {
		sameInBatches(t, columns[:n], asItIs)
	}
	sameInBatches(t, threeColumns(), asItIs)
	sameInBatches(t, traceCSV(), asItIs)
}

// TestNumbersInBatches has numbers of all widths follow each other in lines of one
// shape, with what is no number between them.
func TestNumbersInBatches(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + r.IntN(10))
		}
		return string(b)
	}
	odd := []string{".", "", "0", "00.5", "1.", ".5", "1..5", "1.5.5", "-1.5", "1.5e3", "1,5", "1:5", "1/5", "1\u00b75", "1·5", "1.5·", "\x00.5", "1.\x005", "\xff.12", "12\xff12", "1.2\xff"}
	number := func() string {
		switch r.IntN(8) {
		case 0:
			return odd[r.IntN(len(odd))]
		case 1:
			return digits(1 + r.IntN(19))
		case 2:
			return digits(1+r.IntN(9)) + "." + digits(1+r.IntN(18))
		default:
			return digits(1+r.IntN(4)) + "." + digits(1+r.IntN(4))
		}
	}
	var lines, rows []byte
	names := []string{"t_ns", "power_w", "temp_c", "tick", "power_average_w"}
	rows = append(rows, "t_ns,power_w,temp_c,tick,power_average_w,read_ok\n"...)
	for i := range 30_000 {
		values := []string{fmt.Sprint(i * 100), number(), number(), digits(1 + r.IntN(3)), number()}
		switch r.IntN(20) {
		case 0:
			values[0] = number()
		case 1:
			values[0] = digits(15 + r.IntN(7))
		}
		for j, v := range values {
			lines = fmt.Appendf(lines, "%c%q:%s", ",{"[1-min(j, 1)], names[j], v)
		}
		// The shape is learnt anew, however many lines were of none.
		lines = append(lines, "}\n{\"t_ns\":1,\"power_w\":302.500,\"temp_c\":5,\"tick\":1,\"power_average_w\":1.25}\n"...)
		for _, v := range values {
			rows = append(append(rows, v...), ',')
		}
		rows = append(rows, []string{"True", "true", "False", "false", "", "1", "\"True\""}[r.IntN(7)]...)
		rows = append(rows, []string{"\n", "\n", "\r\n"}[r.IntN(3)]...)
		rows = append(rows, "1,302.500,5,1,1.25,True\n"...)
		if i%5000 == 4999 { // from here on the same text means something else
			rows = append(rows, []string{"t_ns,temp_c,power_w,tick,power_average_w,read_ok\n", "t_ns,power_average_w,temp_c,tick,power_w,read_ok\n"}[i/5000%2]...)
		}
	}
	for _, data := range [][]byte{lines, rows} {
		sameInBatches(t, data, asItIs)
		sameInBatches(t, data[:len(data)/4], func(r io.Reader) io.Reader { return someBytes{r, 1000} })
	}
}

// TestLongLinesInBatches passes over lines that are too long.
func TestLongLinesInBatches(t *testing.T) {
	t.Parallel()
	line := `{"record":"power","t_ns":1,"gpu":0,"power_w":2}`
	for _, end := range []string{"", "\n", "\n" + line, "\n" + line + "\n"} {
		data := line + "\n" + strings.Repeat("x", 3<<20) + "\n" + line + "\n" + strings.Repeat("y", 2<<20) + end
		s := newBlocks(strings.NewReader(data)).(*blocks)
		s.cutting.Lock()
		s.limit = 1 << 20
		s.cutting.Unlock()
		l := newLines(strings.NewReader(data))
		l.limit = 1 << 20
		d := &ndjsonReader{objects: newObjects(), lines: l}
		var want, got []string
		for {
			r, err := d.next()
			if err != nil {
				want = append(want, err.Error())
				break
			}
			want = append(want, show(r))
		}
		for {
			b, err := s.next()
			if err != nil {
				got = append(got, err.Error())
				break
			}
			for _, r := range all(b) {
				got = append(got, show(r))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestLiveBatches gets every line as soon as it was written.
func TestLiveBatches(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"", "t_ns,power_w\n"} {
		r, w := io.Pipe()
		many := NewReader(r, "t")
		for i := range 5 {
			line := fmt.Sprintf("{\"t_ns\":%d,\"power_w\":2}\n", i)
			if first != "" {
				line = fmt.Sprintf("%d,2\n", i)
				if i == 0 {
					line = first + line
				}
			}
			go io.WriteString(w, line)
			if !many.ScanBatch() || len(many.Batch().Samples.TimeNS) != 1 || many.Batch().Samples.TimeNS[0] != int64(i) {
				t.Fatalf("line %d: %v, %v", i, many.Batch(), many.Err())
			}
		}
		many.Stop()
		w.Close()
	}
}

// workload is lines of events of several shapes, good and bad.
func workload(lines int) []byte {
	dice := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for i := range lines {
		from := int64(i) * 7_919_131
		to := from + dice.Int64N(1e9)
		switch dice.IntN(60) {
		case 0:
			fmt.Fprintf(&b, "{\"event_id\":%d,\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, from, to)
		case 1:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"a\\u0041\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, from, to)
		case 2:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, to+1, from)
		case 3:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":0%d,\"t_end_ns\":%d}\n", i, from, to)
		case 4:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":null,\"t_start_ns\":%d.0,\"t_end_ns\":%d}\n", i, from, to)
		case 5:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d,\"note\":[%d]}\n", i, from, to, i)
		case 6:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"t_start_ns\":%d,\"t_end_ns\":%d,\"t_end_ns\":%d}\n", i, from, from, to)
		case 7:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d}\n", i, from)
		case 8:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"dec\xffode\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, from, to)
		case 9:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d%d,\"t_end_ns\":%d}\n", i, to, to, to)
		case 10, 11, 12, 13, 14, 15, 16, 17, 18, 19:
			fmt.Fprintf(&b, "{\"record\":\"event\",\"event_id\":\"e%d\",\"phase\":\"prefill\",\"t_start_ns\":%d,\"t_end_ns\":%d,\"request_id\":\"r%d\",\"model\":\"é\",\"batch_size\":%d,\"input_tokens\":%d,\"output_tokens\":%d}\n", i, from, to, i/2, 1+i%4, i, i%9)
		case 20, 21, 22, 23, 24, 25, 26, 27, 28, 29:
			fmt.Fprintf(&b, "{\"phase\": \"decode\", \"t_end_ns\": %d, \"t_start_ns\": %d, \"output_tokens\": %d}\r\n", to, from, i%9)
		default:
			fmt.Fprintf(&b, "{\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%d,\"t_end_ns\":%d}\n", i, from, to)
		}
	}
	return b.Bytes()
}

// TestEventsInBatches finds in batches the events that there are one by one,
// however the input comes and wherever it is cut.
func TestEventsInBatches(t *testing.T) {
	t.Parallel()
	data := workload(8_000)
	sameInBatches(t, data, asItIs)
	sameInBatches(t, data, func(r io.Reader) io.Reader { return someBytes{r, 777} })
	for range 10 {
		sameInBatches(t, data[:rand.IntN(len(data))], asItIs)
	}
	sameInBatches(t, append(trace(500), data...), asItIs)
}

// TestEventPlaces has what a plainEvent reads in the field that a form has it in.
func TestEventPlaces(t *testing.T) {
	t.Parallel()
	forms := newForms()
	for name, place := range eventPlaces {
		want := forms.work.fields[forms.work.index[name]].ptr
		var got any
		switch e := &forms.event; {
		case place.name != nil:
			got = place.name(e)
		case place.time != nil:
			got = place.time(e)
		case place.count != nil:
			got = place.count(e)
		}
		if got != want {
			t.Errorf("%s goes into another field", name)
		}
	}
}
