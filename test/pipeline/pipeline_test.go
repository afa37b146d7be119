// Package pipeline runs the six binaries together, as a user's shell does, and
// the commands of the README as they are printed.
package pipeline

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var bin string // folder of the six binaries

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "pipeline")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = dir
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/...")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_CFLAGS=-O2 -g -Wno-deprecated-declarations")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%v\n%s", err, out)
	}
	return m.Run(), nil
}

const root = "../.."

// shell runs a script of bash in dir and returns both streams and the status.
func shell(t *testing.T, dir, script string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.Command("bash", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	path, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// session is a block of the README: what is typed after "$ ", going on after "> "
// or a backslash, and what it prints. A line "…" stands for any number of lines.
type session struct {
	line    int
	command string
	want    []string
}

var fence = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

func sessions(text string) (all []session) {
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		n := strings.Count(text[:at[2]], "\n")
		more := false // the command goes on
		for _, line := range strings.Split(strings.TrimSuffix(text[at[2]:at[3]], "\n"), "\n") {
			n++
			command, typed := strings.CutPrefix(line, "$ ")
			switch {
			case typed:
				all = append(all, session{line: n, command: command})
			case len(all) == 0:
			case more || len(all[len(all)-1].want) == 0 && strings.HasPrefix(line, "> "):
				all[len(all)-1].command += "\n" + strings.TrimPrefix(line, "> ")
				command = line
				typed = true
			default:
				all[len(all)-1].want = append(all[len(all)-1].want, line)
			}
			more = typed && strings.HasSuffix(command, `\`)
		}
	}
	return all
}

// matches compares output with what a session wants.
func matches(got, want []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		for i := range len(got) + 1 {
			if matches(got[i:], want[1:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && strings.TrimRight(got[0], " ") == strings.TrimRight(want[0], " ") && matches(got[1:], want[1:])
}

func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := sessions(string(text))
	if len(all) < 4 {
		t.Fatalf("%d commands in the README", len(all))
	}
	// The README's reader stands at the top of the project; what the commands
	// write goes into a folder that looks like it.
	dir := project(t, "testdata", "scripts")
	for _, s := range all {
		if strings.HasPrefix(s.command, "make ") {
			continue // CI runs them
		}
		stdout, stderr, _ := shell(t, dir, s.command)
		var got []string
		if text := strings.TrimSuffix(stderr+stdout, "\n"); text != "" {
			got = strings.Split(text, "\n")
		}
		if !matches(got, s.want) {
			t.Errorf("README.md:%d: $ %s\n got:\n%s\nwant:\n%s", s.line, s.command, strings.Join(got, "\n"), strings.Join(s.want, "\n"))
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		got, want string
		ok        bool
	}{
		{"a b c", "a b c", true},
		{"a b c", "a … c", true},
		{"a c", "a … c", true},
		{"a b", "a b c", false},
		{"a b c", "a b", false},
		{"a x c", "a b c", false},
		{"a", "…", true},
	} {
		if got := matches(strings.Fields(c.got), strings.Fields(c.want)); got != c.ok {
			t.Errorf("%q against %q: %v", c.got, c.want, got)
		}
	}
	all := sessions("x\n```console\n$ one \\\n  two\nout\n$ three\n> four\n> five\n```\n")
	if len(all) != 2 || all[0].command != "one \\\n  two" || all[0].line != 3 || len(all[0].want) != 1 || all[1].command != "three\nfour\nfive" {
		t.Errorf("%+v", all)
	}
}

// One trace in every encoding and compression gives the same joules: the
// recording of an H200, converted by nvpoll.
func TestEncodings(t *testing.T) {
	t.Parallel()
	recording, err := filepath.Abs(filepath.Join(root, "testdata", "h200"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	attribute := func(trace, method string) string {
		// The header tells the time and the name of the trace.
		stdout, stderr, status := shell(t, dir, fmt.Sprintf("nvattrib --method %s --trace %s --events %s/events.ndjson | grep -v '\"record\":\"header\"'", method, trace, recording))
		if status != 0 || stderr != "" || strings.Count(stdout, `"record":"event"`) != 147 {
			t.Fatalf("%s, %s: status %d, %s%d events", trace, method, status, stderr, strings.Count(stdout, `"record":"event"`))
		}
		return stdout
	}
	want := map[string]string{}
	for _, method := range []string{"tr122", "auto", "counter"} {
		want[method] = attribute(recording+"/trace.ndjson.zst", method)
	}
	for _, name := range []string{"t.ndjson", "t.csv", "t.csv.zst", "t.arrow", "t.arrow.zst", "t.csv.gz"} {
		convert := "nvpoll --device replay:" + recording + "/trace.ndjson.zst --speed max -o " + name
		if plain, ok := strings.CutSuffix(name, ".gz"); ok {
			convert = "gzip -k " + plain // we read gzip and do not write it
		}
		if _, stderr, status := shell(t, dir, convert); status != 0 || stderr != "" {
			t.Fatalf("%s: status %d, %s", convert, status, stderr)
		}
		for method, text := range want {
			if got := attribute(name, method); got != text {
				t.Errorf("%s by %s differs from the NDJSON recording", name, method)
			}
		}
	}
	// The seed's own file has the same samples of power, and no throttle reasons.
	known := regexp.MustCompile(`,"throttled":(true|false)|,"software power cap[^"]*"|,"reasons":\["software power cap[^]]*\]`).ReplaceAllString(want["tr122"], "")
	if got := attribute(recording+"/power_trace.csv.gz", "tr122"); got != known {
		t.Error("power_trace.csv.gz by tr122 differs from the NDJSON recording")
	}
}
