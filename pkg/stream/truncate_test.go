package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"joulepipe/pkg/record"
)

// TestTruncated cuts streams at many places: none ends cleanly, none panics,
// and what is read is what was written up to there.
func TestTruncated(t *testing.T) {
	t.Parallel()
	want := newRandom(7).stream(40)
	for _, f := range formats {
		for _, c := range compressions {
			t.Run(string(f)+"/"+string(c), func(t *testing.T) {
				t.Parallel()
				data := encode(t, f, c, want...)
				step := max(1, len(data)/997)
				for n := 1; n < len(data); n += step {
					cut(t, data[:n], len(data), want)
				}
				for n := max(1, len(data)-40); n < len(data); n++ {
					cut(t, data[:n], len(data), want)
				}
			})
		}
	}
}

func cut(t *testing.T, data []byte, whole int, want []record.Record) {
	t.Helper()
	got, err := readAll(NewReader(bytes.NewReader(data), "t"))
	i := 0
	for _, r := range got {
		if r.Kind() == record.KindSyntax {
			continue
		}
		if i == len(want) || !equal(r, want[i]) {
			t.Fatalf("cut at %d of %d: record %d was not written so: %s", len(data), whole, i, show(r))
		}
		i++
	}
	// The end record can be whole though bytes after it are missing: the line
	// feed of text, the end mark of Arrow, which nothing hangs on.
	if i == len(want) {
		return
	}
	var truncated *TruncatedError
	var syntax *record.SyntaxError
	if !errors.As(err, &truncated) && !errors.As(err, &syntax) {
		t.Fatalf("cut at %d of %d: %d records, then %v", len(data), whole, i, err)
	}
}

func TestTruncatedSays(t *testing.T) {
	t.Parallel()
	header, sample := newRandom(1).header(), fullSample(1)
	end := &record.End{Records: 1}
	lines := bytes.SplitAfter(encode(t, NDJSON, None, header, sample, end), []byte("\n"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	csvLines := bytes.SplitAfter(encode(t, CSV, None, sample, sample), []byte("\n"))
	zst := encode(t, NDJSON, Zstd, header, sample, end)
	arrow := encode(t, Arrow, None, header, sample)
	for _, tt := range []struct {
		name string
		data []byte
		kept int
		err  string
	}{
		{"whole", join(lines...), 3, ""},
		{"last line without its end", bytes.TrimSpace(join(lines...)), 3, ""},
		{"no end", join(lines[0], lines[1]), 2, "t: cut short after line 2: no end record"},
		{"in a line", join(lines[0], lines[1][:20]), 1, "t: cut short after line 2: the last line is incomplete"},
		{"in a line, no header", lines[1][:20], 0, "t: cut short after line 1: the last line is incomplete"},
		{"no header, no end", lines[1], 1, ""},
		{"two streams", join(append(lines, lines...)...), 6, ""},
		{"first of two cut", join(lines[0], lines[1], lines[0], lines[1], lines[2]), 5, "t: cut short after line 3: a new header before the end record"},
		{"CSV without rows", csvLines[0], 0, "t: cut short after line 1: no row after the column names"},
		{"CSV without header", join(csvLines...), 2, ""},
		{"CSV in a row", join(csvLines[0], csvLines[1], csvLines[2][:40]), 1, "t: cut short after line 3: the last row is incomplete"},
		{"zstd", zst[:len(zst)-9], 0, "t: cut short after line 0: unexpected EOF in zstd"},
		{"zstd magic", zst[:4], 0, "t: cut short after line 0: unexpected EOF in zstd"},
		{"Arrow without end record", arrow, 2, "t: cut short after line 1: no end record"},
		{"Arrow in the schema", arrow[:100], 0, "t: cut short after line 0: unexpected EOF in an Arrow message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(NewReader(bytes.NewReader(tt.data), "t"))
			kept := 0
			for _, r := range got {
				if r.Kind() != record.KindSyntax {
					kept++
				}
			}
			if kept != tt.kept {
				t.Errorf("%d records, want %d", kept, tt.kept)
			}
			if s := fmt.Sprint(err); s != tt.err && !(err == nil && tt.err == "") {
				t.Errorf("error %q, want %q", s, tt.err)
			}
			var truncated *TruncatedError
			if errors.As(err, &truncated) != (tt.err != "") {
				t.Errorf("%v is of type %T", err, err)
			}
		})
	}
}

// TestTruncatedMember cuts files of two members, or frames, wherever it can be known. What
// the first has is read, and what is left of the second.
func TestTruncatedMember(t *testing.T) {
	t.Parallel()
	line := func(i int) string {
		return fmt.Sprintf(`{"event_id":"e%d","t_start_ns":%d,"t_end_ns":%d}`+"\n", i, i, i+1)
	}
	for name, pack := range map[string]func(text string, b *bytes.Buffer){
		"gzip": func(text string, b *bytes.Buffer) {
			w := gzip.NewWriter(b)
			w.Name, w.Comment, w.Extra = "events.ndjson", "the second half", []byte("more")
			io.WriteString(w, text)
			w.Close()
		},
		"zstd": func(text string, b *bytes.Buffer) {
			w, _ := zstd.NewWriter(b)
			io.WriteString(w, text)
			w.Close()
		},
	} {
		var b bytes.Buffer
		pack(line(0)+line(1), &b)
		first := b.Len()
		pack(line(2)+line(3), &b)
		for n := 4; n <= b.Len(); n++ {
			for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
				got, err := readAll(NewReader(wrap(bytes.NewReader(b.Bytes()[:n])), "t"))
				var truncated *TruncatedError
				if whole := n == first || n == b.Len(); errors.As(err, &truncated) == whole {
					t.Errorf("%s cut at %d of %d + %d: %v", name, n, first, b.Len()-first, err)
				}
				events := 0
				for _, r := range got {
					if e, ok := r.(*record.Event); ok && e.ID == fmt.Sprint("e", events) {
						events++
					}
				}
				if n >= first && events < 2 || n == b.Len() && events < 4 {
					t.Errorf("%s cut at %d of %d + %d: %d events", name, n, first, b.Len()-first, events)
				}
			}
		}
	}
}

// TestSmallReads reads the same whatever pieces the input comes in.
func TestSmallReads(t *testing.T) {
	t.Parallel()
	want := newRandom(3).stream(30)
	for _, f := range formats {
		for _, c := range compressions {
			for _, tt := range []struct {
				name string
				wrap func(io.Reader) io.Reader
			}{
				{"one byte", iotest.OneByteReader},
				{"half", iotest.HalfReader},
				{"error with data", iotest.DataErrReader},
				{"one byte, error with data", func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) }},
			} {
				t.Run(string(f)+"/"+string(c)+"/"+tt.name, func(t *testing.T) {
					t.Parallel()
					got, err := readAll(NewReader(tt.wrap(bytes.NewReader(encode(t, f, c, want...))), "t"))
					if err != nil {
						t.Fatal(err)
					}
					compare(t, got, want)
				})
			}
		}
	}
}

// TestReadFails hands on an I/O error as such, after what was read before it.
func TestReadFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			recs := []record.Record{newRandom(1).header()}
			for i := range 2 * batchRows {
				recs = append(recs, fullSample(i))
			}
			data := encode(t, f, None, recs...)
			in := io.MultiReader(bytes.NewReader(data[:len(data)*3/4]), iotest.ErrReader(broken))
			got, err := readAll(NewReader(in, "t"))
			if !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
			if len(got) < batchRows {
				t.Errorf("%d records before it", len(got))
			}
		})
	}
	r := NewReader(iotest.ErrReader(broken), "t")
	if r.Scan() || !errors.Is(r.Err(), broken) {
		t.Errorf("error %v", r.Err())
	}
}

// TestFlush makes what was written readable before the stream is closed.
func TestFlush(t *testing.T) {
	t.Parallel()
	for _, f := range formats {
		for _, c := range compressions {
			t.Run(string(f)+"/"+string(c), func(t *testing.T) {
				t.Parallel()
				in, out := io.Pipe()
				w, err := NewWriter(out, f, c)
				if err != nil {
					t.Fatal(err)
				}
				r := NewReader(in, "t")
				ask, read := make(chan bool), make(chan bool)
				go func() {
					for range ask {
						read <- r.Scan()
					}
				}()
				write := make(chan record.Record, 3)
				go func() {
					for rec := range write { // a flush may return only when the next record is asked for
						w.Write(rec)
						w.Flush()
					}
				}()
				for i, rec := range newRandom(5).stream(3) {
					write <- rec
					ask <- true
					if !<-read || !equal(r.Record(), rec) {
						t.Fatalf("record %d: got %v, %v", i, r.Record(), r.Err())
					}
				}
				close(ask)
				close(write)
				out.CloseWithError(io.ErrClosedPipe)
			})
		}
	}
}
