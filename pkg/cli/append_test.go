package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// appending writes a stream of one marker through a tool with --append, or
// fails on the way.
func appending(t *testing.T, fail error, args ...string) outcome {
	t.Helper()
	do := func(c *Context) error {
		out, err := c.Create()
		if err != nil {
			return err
		}
		for _, r := range []record.Record{c.NewHeader(), &record.Marker{Name: "here", TimeNS: 1}, &record.End{Records: 1}} {
			if err := out.Write(r); err != nil {
				return out.Abort(err)
			}
		}
		if fail != nil {
			return out.Abort(fail)
		}
		return out.Close()
	}
	var errs strings.Builder
	tool := &Tool{Name: "nvtest", Flags: append(OutputFlags(), AppendFlag()), Action: do}
	code := Run(tool, Process{Args: append([]string{"--append"}, args...), Stdin: strings.NewReader(""), Stdout: &strings.Builder{}, Stderr: &errs})
	return outcome{code: code, stderr: errs.String()}
}

// kinds reads a file of streams to its end.
func kinds(t *testing.T, name string) map[record.Kind]int {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := map[record.Kind]int{}
	r := stream.NewReader(f, name)
	for r.Scan() {
		n[r.Record().Kind()]++
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	return n
}

func TestAppend(t *testing.T) {
	for _, end := range []string{"", ".zst"} {
		dir := t.TempDir()
		name := filepath.Join(dir, "events.ndjson"+end)
		for i := range 3 {
			if got := appending(t, nil, "-o", name); got.code != 0 || got.stderr != "" {
				t.Fatalf("exit %d, %q", got.code, got.stderr)
			}
			if n := kinds(t, name); n[record.KindHeader] != i+1 || n[record.KindMarker] != i+1 || n[record.KindEnd] != i+1 || len(n) != 3 {
				t.Fatalf("%s holds %v after %d runs", name, n, i+1)
			}
		}
		before, _ := os.ReadFile(name)

		// One that fails leaves the file alone, and what it had beside it.
		got := appending(t, errors.New("gone"), "-o", name)
		after, _ := os.ReadFile(name)
		left, _ := filepath.Glob(filepath.Join(dir, "*"+Partial))
		if got.code != ExitFailed || string(before) != string(after) || len(left) != 1 || !strings.Contains(got.stderr, left[0]) {
			t.Errorf("exit %d, %q; %d bytes became %d, left %v", got.code, got.stderr, len(before), len(after), left)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(name, []byte("t_ns,power_w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"-o", "-"}, {"-o", name}, {"-o", "x.csv"}, {"-o", "x.arrow"}} {
		if got := appending(t, nil, args...); got.code != ExitUsage || !strings.Contains(got.stderr, "--append") {
			t.Errorf("%q: exit %d, %q", args, got.code, got.stderr)
		}
	}
}
