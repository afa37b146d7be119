package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"

	ucli "github.com/urfave/cli/v2"
)

// outcome is what a run left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs a tool called nvtest whose action is do.
func run(t *testing.T, do func(*Context) error, env map[string]string, args ...string) outcome {
	t.Helper()
	return runOn(t, do, env, "", args...)
}

func runOn(t *testing.T, do func(*Context) error, env map[string]string, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	tool := &Tool{
		Name: "nvtest", Usage: "test", Synopsis: "[--period TIME]", Long: "Tests.", Examples: "# try\nnvtest --period 5s",
		Flags: append([]ucli.Flag{
			&ucli.DurationFlag{Name: "period", Aliases: []string{"p"}, Value: 100 * time.Millisecond, Usage: "every `TIME`"},
			&ucli.StringFlag{Name: "mode", Value: "fast", Usage: "work in `MODE`"},
			&ucli.StringSliceFlag{Name: "trace", Usage: "read `FILE`"},
		}, OutputFlags()...),
		Commands: []*ucli.Command{{Name: "sub", Usage: "a part", Flags: []ucli.Flag{&ucli.StringFlag{Name: "mode", Usage: "work in `MODE`"}}, Action: Action(do)}, {
			Name: "deep part", Usage: "a part of a part", Flags: []ucli.Flag{&ucli.StringFlag{Name: "mode"}}, Action: Action(func(c *Context) error {
				fmt.Fprintf(c.Stdout, "%s %s %q", c.Command.Name, c.String("mode"), c.Args().Slice())
				return c.Ctx.Err()
			}),
		}},
		ConfigKeys:    map[string]string{"period": "own.period_s|poller.target_period_ms", "mode": "test.modes"},
		ConfigSection: "own",
		Action:        do,
	}
	code := Run(tool, Process{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Getenv: func(k string) string { return env[k] }})
	return outcome{code, out.String(), errs.String()}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		do     func(*Context) error
		code   int
		stderr string
	}{
		{"done", nil, func(*Context) error { return nil }, 0, ""},
		{"failed", nil, func(*Context) error { return errors.New("disk on fire") }, 1, "nvtest: disk on fire\n"},
		{"no such flag", []string{"--nope"}, nil, 2, "nvtest: flag provided but not defined: -nope\nnvtest: hint: try 'nvtest --help'\n"},
		{"bad value", []string{"--period", "5"}, nil, 2, "hint: try 'nvtest --help'\n"},
		{"usage", nil, func(c *Context) error { return c.Usagef("no %s", "x") }, 2, "nvtest: no x\nnvtest: hint: try 'nvtest --help'\n"},
		{"usage of a command", []string{"sub", "--nope"}, nil, 2, "hint: try 'nvtest sub --help'\n"},
		{"flag after an argument", []string{"x", "--period", "5s"}, nil, 2, "flags must come before"},
		{"doubt", nil, func(c *Context) error { c.Doubtf("it wobbles"); return nil }, 3, "nvtest: it wobbles\n"},
		{"no device", nil, func(*Context) error {
			return fmt.Errorf("open: %w", &gpu.UnavailableError{What: "no libnvidia-ml.so.1", Hint: "try --device sim"})
		}, 4, "nvtest: open: no libnvidia-ml.so.1\nnvtest: hint: try --device sim\n"},
		{"trip", nil, func(*Context) error { return Errorf(ExitThermalTrip, "83 degrees") }, 5, "nvtest: 83 degrees\n"},
		{"hint keeps the code", nil, func(*Context) error { return WithHint(Errorf(ExitThermalTrip, "hot"), "cool it") }, 5, "nvtest: hot\nnvtest: hint: cool it\n"},
	} {
		got := run(t, c.do, nil, c.args...)
		if got.code != c.code || !strings.HasSuffix(got.stderr, c.stderr) && !strings.Contains(got.stderr, c.stderr) || (c.stderr == "") != (got.stderr == "") {
			t.Errorf("%s: exit %d, stderr %q; want %d, %q", c.name, got.code, got.stderr, c.code, c.stderr)
		}
		if got.stdout != "" {
			t.Errorf("%s: stdout %q", c.name, got.stdout)
		}
	}
}

func TestHelpAndVersionGoToStdout(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"sub", "--help"}, {"--version"}, {"--generate-man"}, {"--generate-completion", "bash"}, {"--generate-completion", "fish"}, {"--generate-completion", "zsh"}} {
		got := run(t, func(*Context) error { t.Errorf("%v ran the action", args); return nil }, nil, args...)
		if got.code != 0 || got.stderr != "" || got.stdout == "" {
			t.Errorf("%v: exit %d, %d bytes out, stderr %q", args, got.code, len(got.stdout), got.stderr)
		}
		if args[0] == "--version" {
			if !strings.HasPrefix(got.stdout, "nvtest ") || !strings.HasSuffix(got.stdout, "schema joulepipe/1\n") {
				t.Errorf("version line %q", got.stdout)
			}
			continue
		}
		// Every flag of the tool, and its default, is in help, manual and completion.
		flag := "period"
		if args[0] == "sub" {
			flag = "mode"
		}
		if !strings.Contains(strings.ReplaceAll(got.stdout, `\-`, "-"), flag) {
			t.Errorf("%v does not name --%s:\n%s", args, flag, got.stdout)
		}
	}
	help := run(t, nil, nil, "--help").stdout
	for _, want := range []string{"--period, -p TIME", "every TIME (default: 100ms)", "NVTEST_PERIOD", "Exit status", "Examples", "--compress", "--config", "--quiet"} {
		if !strings.Contains(help, want) {
			t.Errorf("help lacks %q:\n%s", want, help)
		}
	}
}

// A command's name may be of two words, which are its name alone and nobody's
// arguments.
func TestNamesOfTwoWords(t *testing.T) {
	t.Parallel()
	arguments := func(c *Context) error {
		fmt.Fprintf(c.Stdout, "%q", c.Args().Slice())
		return nil
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"deep", "part"}, `deep part  []`},
		{[]string{"--period", "3s", "deep", "part", "--mode", "odd", "x"}, `deep part odd ["x"]`},
		{[]string{"sub", "--mode", "part"}, `[]`},
		{[]string{"sub", "deep", "part"}, `["deep" "part"]`},
		{[]string{"deep"}, `["deep"]`},
	} {
		if got := run(t, arguments, nil, c.args...); got.stdout != c.want || got.code != 0 {
			t.Errorf("%q: %q, want %q (%s)", c.args, got.stdout, c.want, got.stderr)
		}
	}
	if got := run(t, arguments, nil, "deep", "part", "--moed", "odd"); got.code != ExitUsage || !strings.Contains(got.stderr, "try 'nvtest deep part --help'") {
		t.Errorf("%+v", got)
	}
	if got := run(t, arguments, nil, "deep", "part", "--help"); got.code != 0 || !strings.Contains(got.stdout, "nvtest deep part - a part of a part") {
		t.Errorf("%+v", got)
	}
}

func TestWhereAValueComesFrom(t *testing.T) {
	config := filepath.Join(t.TempDir(), "physics.yaml")
	if err := os.WriteFile(config, []byte("experiment:\n  seed: 42\npoller:\n  target_period_ms: 20\ntest:\n  modes: [slow, careful]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	show := func(c *Context) error {
		fmt.Fprint(c.Stdout, c.Duration("period"), " ", c.String("mode"))
		return nil
	}
	env := map[string]string{"NVTEST_PERIOD": "30ms"}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"default", nil, nil, "100ms fast"},
		{"config", nil, []string{"--config", config}, "20ms slow,careful"},
		{"environment before config", env, []string{"--config", config}, "30ms slow,careful"},
		{"flag before environment", env, []string{"--config", config, "-p", "40ms"}, "40ms slow,careful"},
		{"config named by environment", map[string]string{"NVTEST_CONFIG": config}, nil, "20ms slow,careful"},
		{"flag before the command", nil, []string{"--mode", "odd", "sub"}, "100ms odd"},
		{"flag after the command", nil, []string{"--mode", "odd", "sub", "--mode", "even"}, "100ms even"},
	} {
		if got := run(t, show, c.env, c.args...); got.stdout != c.want {
			t.Errorf("%s: %q, want %q (%s)", c.name, got.stdout, c.want, got.stderr)
		}
	}
	for text, want := range map[string]string{
		"poller:\n  target_period_ms: often\n":     ":2: poller.target_period_ms:",
		"poller:\n  target_period_ms:\n    a: 1\n": ":3: poller.target_period_ms: want a value",
		"poller:\n\ttarget_period_ms: 5\n":         "physics.yaml: ",
		"poller:\n  target_period_ms: 5 parsecs\n": "no duration",
		"poller:\n  target_period_ms: 5-0\n":       ":2: poller.target_period_ms: \"5-0\" is no duration",
		"poller:\n  target_period_ms: 1e300\n":     "is no duration",
		"poller:\n  a: 1\n  a: 2\n":                "already defined",
		"own:\n  preiod_s: 5\n":                    ":2: own.preiod_s is no setting of nvtest",
		"own: 5\n":                                 ":1: own: want keys",
	} {
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := run(t, show, nil, "--config", config); got.code != ExitUsage || !strings.Contains(got.stderr, want) || !strings.Contains(got.stderr, "hint:") {
			t.Errorf("config %q: exit %d, stderr %q; want %q", text, got.code, got.stderr, want)
		}
	}
	for text, want := range map[string]string{
		"own:\n  period_s: 2\npoller:\n  target_period_ms: 20\n": "2s fast",
		"own:\npoller:\n  target_period_ms: 20\n  other: 1\n":    "20ms fast",
		"a: &a\n  target_period_ms: 20\npoller: *a\n":            "20ms fast",
		"a: &a\n  target_period_ms: 20\npoller: {<<: *a}\n":      "20ms fast",
		"a: &a {period_s: 3}\nown: {<<: [*a]}\n":                 "3s fast",
	} {
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := run(t, show, nil, "--config", config); got.stdout != want {
			t.Errorf("config %q: %+v, want %q", text, got, want)
		}
	}
	if got := run(t, show, map[string]string{"NVTEST_PERIOD": "x"}); got.code != ExitUsage || !strings.Contains(got.stderr, "NVTEST_PERIOD") {
		t.Errorf("bad environment: %+v", got)
	}
}

// count reads the trace flags' stream and prints how many records came.
func count(c *Context) error {
	in, err := c.Open(c.StringSlice("trace")...)
	if err != nil {
		return err
	}
	defer in.Close()
	n := 0
	for in.Scan() {
		n++
	}
	fmt.Fprint(c.Stdout, n)
	return in.Err()
}

const head = `{"record":"header","schema":"joulepipe/1","tool":"x","t_ns":1,"unix_ns":2}` + "\n"

func marks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"record":"marker","name":"m","t_ns":%d}`+"\n", i)
	}
	return b.String()
}

func TestInput(t *testing.T) {
	end := `{"record":"end","records":2}` + "\n"
	for _, c := range []struct {
		name, stdin string
		code        int
		stdout      string
		stderr      []string
	}{
		{"whole", head + marks(2) + end, 0, "4", nil},
		{"cut", head + marks(2), 3, "3", []string{"nvtest: -: cut short after line 3"}},
		{"bad line", head + "{oops\n" + marks(2) + end, 3, "4", []string{"nvtest: -:2:2: "}},
		{"many bad lines", marks(1) + strings.Repeat("{\n", 25), 3, "1", []string{"-:11:", "nvtest: 15 more lines could not be read"}},
		{"nothing", "", 0, "0", nil},
	} {
		got := runOn(t, count, nil, c.stdin, "--trace", "-")
		if got.code != c.code || got.stdout != c.stdout || (c.stderr == nil) != (got.stderr == "") {
			t.Errorf("%s: %+v, want exit %d and %s records", c.name, got, c.code, c.stdout)
		}
		for _, want := range c.stderr {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%s: stderr %q lacks %q", c.name, got.stderr, want)
			}
		}
		if strings.Contains(got.stderr, "-:14:") {
			t.Errorf("%s: more than %d bad lines were said one by one", c.name, saidLines)
		}
	}
	if got := run(t, count, nil, "--trace", "/nonexistent"); got.code != 1 || !strings.Contains(got.stderr, "no such file") {
		t.Errorf("missing file: %+v", got)
	}
	if got := run(t, count, nil, "--trace", "-", "--trace", "-"); got.code != 2 {
		t.Errorf("standard input twice: %+v", got)
	}
}

func TestOutputFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(fail error) func(*Context) error {
		return func(c *Context) error {
			out, err := c.Create()
			if err != nil {
				return err
			}
			if err := out.Write(c.NewHeader()); err != nil {
				return out.Abort(err)
			}
			if fail != nil {
				return out.Abort(fail)
			}
			if err := out.Write(&record.End{}); err != nil {
				return out.Abort(err)
			}
			return out.Close()
		}
	}
	name := filepath.Join(dir, "t.ndjson")
	if got := run(t, write(errors.New("gone")), nil, "-o", name); got.code != 1 || !strings.Contains(got.stderr, "gone; what was written is in "+name+Partial) {
		t.Errorf("aborted: %+v", got)
	}
	if b, err := os.ReadFile(name + Partial); err != nil || !strings.Contains(string(b), `"record":"header"`) {
		t.Errorf("partial file: %q, %v", b, err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("an aborted output has its name")
	}
	cut, _ := os.ReadFile(name + Partial)
	if got := run(t, write(nil), nil, "-o", name); got.code != 0 || got.stderr != "" {
		t.Errorf("written: %+v", got)
	}
	if b, err := os.ReadFile(name + Partial); err != nil || !bytes.Equal(b, cut) {
		t.Errorf("what a run was cut short in is %q now, %v", b, err)
	}
	if err := os.Remove(name + Partial); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(name + ".*"); len(left) > 0 {
		t.Errorf("a complete output still has temporary names: %v", left)
	}
	for _, suffix := range []string{".ndjson", ".ndjson.zst", ".csv", ".arrow", ".csv.zst"} {
		name := filepath.Join(dir, "x"+suffix)
		if got := run(t, write(nil), nil, "-o", name); got.code != 0 {
			t.Errorf("%s: %+v", suffix, got)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		magic := map[bool]string{true: "\x28\xb5\x2f\xfd", false: map[string]string{".ndjson": "{", ".csv": "record,", ".arrow": "\xff\xff\xff\xff"}[suffix]}[strings.HasSuffix(suffix, ".zst")]
		if !strings.HasPrefix(string(b), magic) {
			t.Errorf("%s begins with %q", suffix, b[:min(8, len(b))])
		}
		if got := run(t, count, nil, "--trace", name); got.stdout != "2" || got.code != 0 {
			t.Errorf("%s read back: %+v", suffix, got)
		}
	}
	if got := run(t, write(nil), nil, "-o", filepath.Join(dir, "no", "dir")); got.code != 1 {
		t.Errorf("unwritable: %+v", got)
	}
	if got := run(t, write(nil), nil, "--format", "xml"); got.code != 2 || got.stdout != "" {
		t.Errorf("unknown format: %+v", got)
	}
	both := func(c *Context) error {
		in, err := c.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = c.Create()
		return err
	}
	if got := run(t, both, nil, "-o", name); got.code != 2 || !strings.Contains(got.stderr, "is the input") {
		t.Errorf("output over input: %+v", got)
	}
}

// TestOutputIsNoFile writes to what no file must take the place of.
func TestOutputIsNoFile(t *testing.T) {
	write := func(c *Context) error {
		out, err := c.Create()
		if err != nil {
			return err
		}
		return errors.Join(out.Write(c.NewHeader()), out.Write(&record.End{}), out.Close())
	}
	document := func(c *Context) error { return c.WriteJSON(map[string]int{"record": 1}) }
	dir := t.TempDir()
	for name, do := range map[string]func(*Context) error{"stream": write, "document": document} {
		pipe := filepath.Join(dir, name+".pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			b, err := os.ReadFile(pipe)
			got <- fmt.Sprint(string(b), err)
		}()
		if r := run(t, do, nil, "-o", pipe); r.code != 0 || r.stderr != "" {
			t.Errorf("%s into a pipe: %+v", name, r)
		}
		if b := <-got; !strings.Contains(b, `"record"`) || !strings.HasSuffix(b, "<nil>") {
			t.Errorf("%s: the pipe's reader has %q", name, b)
		}
		if info, err := os.Stat(pipe); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
			t.Errorf("%s: the pipe is now %v, %v", name, info, err)
		}

		descriptor, err := os.Create(filepath.Join(dir, name+".open"))
		if err != nil {
			t.Fatal(err)
		}
		defer descriptor.Close()
		fmt.Fprintln(descriptor, "before")
		if r := run(t, do, nil, "-o", fmt.Sprintf("/dev/fd/%d", descriptor.Fd())); r.code != 0 || r.stderr != "" {
			t.Errorf("%s into a descriptor: %+v", name, r)
		}
		if b, err := os.ReadFile(descriptor.Name()); err != nil || !strings.HasPrefix(string(b), "before\n{") {
			t.Errorf("%s: behind the descriptor is %q, %v", name, b, err)
		}

		link, target := filepath.Join(dir, name+".link"), filepath.Join(dir, name+".target")
		if err := errors.Join(os.WriteFile(target, []byte("old"), 0o600), os.Symlink(target, link)); err != nil {
			t.Fatal(err)
		}
		if r := run(t, do, nil, "-o", link); r.code != 0 || r.stderr != "" {
			t.Errorf("%s through a link: %+v", name, r)
		}
		if b, err := os.ReadFile(target); err != nil || !strings.Contains(string(b), `"record"`) {
			t.Errorf("%s: behind the link is %q, %v", name, b, err)
		}
		if _, err := os.Readlink(link); err != nil {
			t.Errorf("%s: the link is none any more: %v", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+Partial)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestOutputNames writes under names that others have something to do with.
func TestOutputNames(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "t.ndjson")
	begin := func(c *Context) (*Output, error) {
		out, err := c.Create()
		if err != nil {
			return nil, err
		}
		return out, errors.Join(out.Write(c.NewHeader()), out.Flush())
	}
	write := func(c *Context) error {
		out, err := begin(c)
		if err != nil {
			return err
		}
		return errors.Join(out.Write(&record.End{}), out.Close())
	}

	// Two at once: each is whole, and the last to end has the name.
	var inner outcome
	if got := run(t, func(c *Context) error {
		out, err := begin(c)
		if err != nil {
			return err
		}
		inner = run(t, write, nil, "-o", name, "--mode", "inner")
		return errors.Join(out.Write(&record.End{}), out.Close())
	}, nil, "-o", name, "--mode", "outer"); got.code != 0 || inner.code != 0 {
		t.Errorf("two at once: %+v, %+v", got, inner)
	}
	if b, err := os.ReadFile(name); err != nil || bytes.Count(b, []byte("\n")) != 2 || !bytes.Contains(b, []byte("outer")) {
		t.Errorf("two at once: %q, %v", b, err)
	}

	link := filepath.Join(dir, "link")
	if err := os.Symlink("behind", link); err != nil {
		t.Fatal(err)
	}
	if got := run(t, write, nil, "-o", link); got.code != 0 {
		t.Errorf("through a link to nothing yet: %+v", got)
	}
	if at, err := os.Readlink(link); err != nil || at != "behind" {
		t.Errorf("the link is %q, %v", at, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "behind")); err != nil {
		t.Error(err)
	}

	for name, want := range map[string]string{dir: "is a directory", name + ".gz": "gzip is read and not written"} {
		if got := run(t, write, nil, "-o", name); got.code != ExitUsage || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, bad := range []string{dir, filepath.Join(dir, "no", "file")} {
		if got := run(t, func(c *Context) error { return c.Writable(bad) }, nil); got.code == 0 {
			t.Errorf("%s can be written", bad)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+Partial)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if got := run(t, write, nil, "-o", fmt.Sprintf("/dev/fd/%d", w.Fd())); got.code != 128+int(syscall.SIGPIPE) || got.stderr != "" {
		t.Errorf("the reader is gone: %+v", got)
	}
}

// broken is a full disk.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestHelpThatCannotBePrinted(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"sub", "--help"}, {"--version"}, {"sub", "--version"}} {
		var errs bytes.Buffer
		tool := &Tool{Name: "nvtest", Usage: "test", Flags: OutputFlags(), Action: func(*Context) error { return nil },
			Commands: []*ucli.Command{{Name: "sub", Flags: OutputFlags(), Action: Action(func(*Context) error { return nil })}}}
		code := Run(tool, Process{Args: args, Stdout: broken{}, Stderr: &errs})
		if code != ExitFailed || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%v: exit %d, %q", args, code, errs.String())
		}
	}
	if got := run(t, nil, nil, "sub", "--mode", "odd", "--version"); got.code != 0 || !strings.HasPrefix(got.stdout, "nvtest ") {
		t.Errorf("version of a command: %+v", got)
	}
}

func TestFileFromStandardInput(t *testing.T) {
	read := func(c *Context) error {
		f, err := c.OpenFile("-")
		if err != nil {
			return err
		}
		if _, err := io.Copy(c.Stdout, f); err != nil {
			return err
		}
		_, err = c.OpenFile("-")
		return err
	}
	if got := runOn(t, read, nil, "words"); got.stdout != "words" || got.code != ExitUsage || !strings.Contains(got.stderr, "only once") {
		t.Errorf("%+v", got)
	}
}

// In the manual, a command in a description keeps its lines, and so do the meanings
// of an exit status.
func TestManual(t *testing.T) {
	page := manPage(&Tool{Name: "nvtest", Usage: "test", Long: "Do this:\n\n  one --long\n  two\n\nDone.", Status: "3 a\n4 b"})
	for _, want := range []string{".EX\none --long\ntwo\n.EE", "\\fB3\\fP\na", "\\fB4\\fP\nb"} {
		if !strings.Contains(strings.ReplaceAll(page, `\-`, "-"), want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}

func TestWarningsAreSaidOnce(t *testing.T) {
	do := func(c *Context) error {
		for range 5 {
			c.Warnf("slow disk")
		}
		c.Infof("half-way")
		return nil
	}
	if got := run(t, do, nil); got.stderr != "nvtest: warning: slow disk\nnvtest: warning: slow disk (5 times)\n" {
		t.Errorf("stderr %q", got.stderr)
	}
	if got := run(t, do, nil, "--quiet"); got.stderr != "" {
		t.Errorf("quiet: stderr %q", got.stderr)
	}
	if got := run(t, do, nil, "--progress"); !strings.Contains(got.stderr, "nvtest: half-way\n") {
		t.Errorf("progress: stderr %q", got.stderr)
	}
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		name   string
		source bool
		stdin  bool
		n      int
		exits  bool
	}{
		{"a source ends its stream", true, false, 1, false},
		{"a source is told twice", true, false, 2, true},
		{"a filter reads on", false, true, 1, false},
		{"a filter is told twice", false, true, 2, true},
		{"a reader of files stops", false, false, 1, true},
	} {
		signals := make(chan os.Signal, 2)
		exited := make(chan int, 2)
		var errs bytes.Buffer
		tool := &Tool{Name: "nvtest", Source: c.source, Flags: OutputFlags(), Action: func(x *Context) error {
			if c.stdin {
				if _, err := x.Open("-"); err != nil {
					return err
				}
			}
			for range c.n {
				signals <- syscall.SIGINT
			}
			<-x.Ctx.Done()
			if c.exits {
				if code := <-exited; code != ExitInterrupted {
					t.Errorf("%s: ended with %d", c.name, code)
				}
			}
			return nil
		}}
		code := Run(tool, Process{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: &errs, Signals: signals, Exit: func(code int) { exited <- code }})
		if code != 0 {
			t.Errorf("%s: exit %d, %s", c.name, code, errs.String())
		}
		if !c.exits && len(exited) > 0 {
			t.Errorf("%s: the process was ended", c.name)
		}
	}
}
