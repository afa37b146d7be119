package sim

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

const firstLine = `{"record":"sim","schema":"joulepipe-sim/1","profile":"h200","seed":1,"gpus":1,"origin_ns":1,"boot_id":""}` + "\n"

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gpu.sim")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestMalformedFiles(t *testing.T) {
	t.Parallel()
	good := `{"record":"load","gpu":0,"from_ns":1,"until_ns":2,"compute":1}` + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", "watts\n", ":1:1: "},
		{"no end of the first line", firstLine[:len(firstLine)-1], ":1: the first line does not end"},
		{"another file", `{"record":"header"}` + "\n", `:1: not the first line of a load file: record "header"`},
		{"another schema", strings.Replace(firstLine, "sim/1", "sim/2", 1), `of schema "joulepipe-sim/2"`},
		{"no such board", strings.Replace(firstLine, "h200", "abacus", 1), `:1: no board "abacus" to simulate`},
		{"times to come", strings.Replace(firstLine, `"origin_ns":1`, `"origin_ns":9000000000000000000`, 1), ":1: the file is of another boot"},
		{"too many GPUs", strings.Replace(firstLine, `"gpus":1`, `"gpus":65`, 1), ":1: gpus is 65"},
		{"rate", strings.Replace(firstLine, `"boot_id"`, `"faults":{"stall_rate":2},"boot_id"`, 1), ":1: stall_rate is 2"},
		{"origin", strings.Replace(firstLine, `"origin_ns":1`, `"origin_ns":-1`, 1), ":1: origin_ns is negative"},
		{"air", strings.Replace(firstLine, `"boot_id"`, `"faults":{"ambient_c":1000},"boot_id"`, 1), ":1: ambient_c is 1000"},
		{"lost", strings.Replace(firstLine, `"boot_id"`, `"faults":{"lost_from_ns":2,"lost_until_ns":1},"boot_id"`, 1), ":1: lost_until_ns is before"},
		{"no end of a line", firstLine + good + strings.Repeat("x", maxLine+1), ":3: the line does not end"},
		{"segment is no JSON", firstLine + good + "\n" + `{"record":"load",` + "\n", ":4:17: "},
		{"segment of a wrong type", firstLine + `{"record":"load","gpu":"a"}` + "\n", ":2:26: cannot unmarshal"},
		{"another record", firstLine + `{"record":"sample"}` + "\n", `:2: record is "sample": want "load"`},
		{"no such GPU", firstLine + strings.Replace(good, `"gpu":0`, `"gpu":1`, 1), ":2: gpu is 1: the file has 1"},
		{"no time", firstLine + strings.Replace(good, `"until_ns":2`, `"until_ns":1`, 1), ":2: from_ns 1, until_ns 1"},
		{"too much", firstLine + strings.Replace(good, `"compute":1`, `"compute":1.5`, 1), ":2: compute is 1.5"},
		{"less than nothing", firstLine + strings.Replace(good, `"compute":1`, `"vram_mb":-1`, 1), ":2: vram_mb is -1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, c.text)
			_, err := Open(Options{File: file})
			var bad *record.SyntaxError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), file+":") || bad.Hint == "" {
				t.Errorf("error %v, want %q and a hint", err, c.want)
			}
		})
	}
}

func TestMalformedLineWhileFollowing(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{})
	d, c := watch(t, l, 1)
	if s := sample(d); !s.ReadOK {
		t.Fatalf("%+v", s)
	}
	if _, err := l.file.WriteString("oops\n"); err != nil {
		t.Fatal(err)
	}
	c.Advance(second)
	if s := sample(d); s.ReadOK || s.PowerW.OK || s.Error != string(gpu.ErrUnknown) {
		t.Errorf("a reading of a GPU whose load is not known: %+v", s)
	}
	if _, err := d.Energy(0, at(0), at(1)); err == nil || !strings.Contains(err.Error(), ":2:1: ") {
		t.Errorf("energy: %v", err)
	}
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), ":2:1: ") {
		t.Errorf("close: %v", err)
	}
}

func TestHalfWrittenLineIsWaitedFor(t *testing.T) {
	t.Parallel()
	l := newLoad(t, Setup{})
	d, _ := watch(t, l, 2)
	whole := newLoad(t, Setup{}, run(1, 2, 1))
	text, err := os.ReadFile(whole.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	line := text[bytes.IndexByte(text, '\n')+1:]
	idle := energy(t, d, 1, 2)
	for _, b := range line[:len(line)-1] {
		l.file.Write([]byte{b})
		if got := energy(t, d, 1, 2); got != idle {
			t.Fatalf("half a line changed the energy from %v to %v", idle, got)
		}
	}
	l.file.Write(line[len(line)-1:])
	near(t, "energy", energy(t, d, 1, 2), 655, 15)
}

func TestFileOfAnotherBoot(t *testing.T) {
	if clock.BootID() == "" {
		t.Skip("this system does not tell boots apart")
	}
	old := strings.Replace(firstLine, `"boot_id":""`, `"boot_id":"another"`, 1)
	t.Run("named", func(t *testing.T) {
		file := write(t, old)
		_, err := OpenLoad(file, Setup{})
		var bad *record.SyntaxError
		if !errors.As(err, &bad) || !strings.Contains(bad.Msg, "another boot") || bad.Hint == "" {
			t.Errorf("error %v", err)
		}
		if text, _ := os.ReadFile(file); string(text) != old {
			t.Errorf("the file was changed: %s", text)
		}
	})
	t.Run("default", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		if err := os.WriteFile(DefaultFile(), []byte(old+`{"record":"load","gpu":0,"from_ns":1,"until_ns":2}`+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		l, err := OpenLoad("", Setup{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.Setup().BootID != clock.BootID() || l.Setup() != d.load.Setup() {
			t.Errorf("setups %+v, %+v", l.Setup(), d.load.Setup())
		}
		if text, _ := os.ReadFile(DefaultFile()); bytes.Count(text, []byte("\n")) != 1 {
			t.Errorf("the file was not begun anew: %s", text)
		}
	})
}

func TestSetupOfAnOpenFile(t *testing.T) {
	t.Parallel()
	l, err := OpenLoad(filepath.Join(t.TempDir(), "gpu.sim"), Setup{Profile: "rtx4080-laptop", GPUs: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := l.Setup()
	if s.Seed != 1 || s.BootID != clock.BootID() || s.OriginNS <= 0 || s.OriginNS > clock.Now() {
		t.Errorf("defaults: %+v", s)
	}
	for _, same := range []Setup{{}, {Profile: "rtx4080-laptop"}, {Seed: 1, GPUs: 2}} {
		again, err := OpenLoad(l.file.Name(), same)
		if err != nil {
			t.Fatalf("%+v: %v", same, err)
		}
		if again.Setup() != s {
			t.Errorf("setup %+v, want %+v", again.Setup(), s)
		}
		again.Close()
	}
	for want, other := range map[string]Setup{
		"simulates rtx4080-laptop, not h200": {Profile: "h200"},
		"has seed 1, not 2":                  {Seed: 2},
		"simulates 2 GPUs, not 1":            {GPUs: 1},
	} {
		if _, err := OpenLoad(l.file.Name(), other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", other, err, want)
		}
	}
	file := filepath.Join(t.TempDir(), "new.sim")
	var missing *gpu.UnavailableError
	if _, err := OpenLoad(file, Setup{Profile: "abacus"}); !errors.As(err, &missing) {
		t.Errorf("a board that there is not: %v", err)
	}
	if _, err := OpenLoad(file, Setup{}); err != nil {
		t.Errorf("after that: %v", err)
	}
	if err := l.Append(Segment{GPU: 2, UntilNS: 1}); err == nil {
		t.Error("load for a third GPU was taken")
	}
}

func TestManyBeginOneFile(t *testing.T) {
	t.Parallel()
	for range 50 {
		file := filepath.Join(t.TempDir(), "gpu.sim")
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				l, err := OpenLoad(file, Setup{})
				if err != nil {
					t.Error(err)
					return
				}
				defer l.Close()
				for range 3 {
					if err := l.Append(Segment{FromNS: 1, UntilNS: 2}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		d, err := Open(Options{File: file})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if d.tail.line != 1+8*3 {
			t.Fatalf("%d lines", d.tail.line)
		}
	}
}

// A file that another process is beginning is waited for.
func TestBeginningIsExclusive(t *testing.T) {
	t.Parallel()
	file := write(t, "")
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lock(f); err != nil {
		t.Fatal(err)
	}
	opened := make(chan Setup)
	go func() {
		l, err := OpenLoad(file, Setup{})
		if err != nil {
			t.Error(err)
			l = &Load{}
		} else {
			defer l.Close()
		}
		opened <- l.Setup()
	}()
	select {
	case s := <-opened:
		t.Errorf("did not wait: %+v", s)
	case <-time.After(50 * time.Millisecond):
		f.WriteString(strings.Replace(firstLine, `"gpus":1`, `"gpus":3`, 1))
		unlock(f)
		if s := <-opened; s.GPUs != 3 {
			t.Errorf("setup %+v, want that of the other process", s)
		}
	}
}

func TestAskingTooMuch(t *testing.T) {
	t.Parallel()
	d, _ := watch(t, newLoad(t, Setup{}), 10)
	for name, err := range map[string]error{
		"future":      second2(d.Power(0, at(11))),
		"no such GPU": second2(d.Power(1, at(9))),
		"backwards":   second2(d.Energy(0, at(9), at(8))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	near(t, "before the origin", energy(t, d, -1e-9, 0)*1e9, power(t, d, 0), 1e-6)
}

func second2(_ float64, err error) error { return err }

func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, profile := range Profiles() {
		d, _ := watch(t, newLoad(t, Setup{Profile: profile, GPUs: 2}), 1)
		a, b := d.GPUs()[0].Info(), d.GPUs()[1].Info()
		if !strings.HasPrefix(a.Name, "Simulated ") || !strings.HasPrefix(a.UUID, "GPU-SIM-") || a.UUID == b.UUID || b.Index != 1 {
			t.Errorf("%+v\n%+v", a, b)
		}
		for _, channel := range []string{gpu.Sample, gpu.Power, gpu.Counter, gpu.GPM} {
			if a.Channels[channel] == "" {
				t.Errorf("%s says nothing of %s", profile, channel)
			}
		}
	}
}
