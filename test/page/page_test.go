// Package page opens reports in a browser, as those do who read them: by day and
// by night, on a screen and on a telephone, and by what a screen reader has of
// them. It needs Debian's chromium, and axe-core, which make setup installs.
package page

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"joulepipe/pkg/report"
	"joulepipe/pkg/report/reporttest"
)

// views are the runs that are looked at, and how: each by day and by night, and on
// a screen and on a telephone.
var views = []struct {
	name    string
	fixture func() *reporttest.Fixture
	width   int
	dark    bool
}{
	{"all on a screen by day", reporttest.Full, 1280, false},
	{"all on a telephone by night", reporttest.Full, 390, true},
	{"faults on a screen by night", reporttest.Broken, 1280, true},
	{"faults on a telephone by day", reporttest.Broken, 390, false},
}

// needed skips a test for want of what make setup installs, and fails it in CI.
func needed(t *testing.T, found bool, what string) {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	if found {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(what + " is missing: make setup installs it")
	}
	t.Skip(what + " is missing: make setup installs it")
}

func write(t *testing.T, f *reporttest.Fixture) (address string) {
	t.Helper()
	dir, err := f.FS()
	if err != nil {
		t.Fatal(err)
	}
	r, err := report.Read(dir, report.Default())
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "report.html")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := r.HTML(file); err != nil {
		t.Fatal(err)
	}
	return "file://" + name
}

func TestReport(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	needed(t, err == nil, "chromium")
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	needed(t, err == nil, "axe-core")
	b := open(t, chromium)
	for _, v := range views {
		t.Run(v.name, func(t *testing.T) {
			p := b.visit(t, write(t, v.fixture()), v.width, v.dark)
			var ground string
			p.eval(t, `getComputedStyle(document.body).backgroundColor`, &ground)
			if dark := ground != "rgb(255, 255, 255)"; dark != v.dark {
				t.Errorf("the ground is %s", ground)
			}
			var wide []string
			p.eval(t, beyond, &wide)
			for _, e := range wide {
				t.Errorf("wider than the screen: %s", e)
			}
			var ugly []string
			p.eval(t, ugliness, &ugly)
			for _, e := range ugly {
				t.Error(e)
			}
			for _, m := range p.messages() {
				t.Error(m)
			}
			p.eval(t, string(axe)+";0", nil)
			var violations []struct {
				ID, Help string
				Nodes    []struct{ HTML, FailureSummary string }
			}
			p.eval(t, `axe.run({resultTypes: ["violations"], preload: false}).then(r => r.violations)`, &violations)
			for _, v := range violations {
				t.Errorf("%s: %s, %d times: %.300s %s", v.ID, v.Help, len(v.Nodes), v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
			}
		})
	}
}

// beyond are the elements that make the page wider than its window.
const beyond = `(() => {
	const out = [];
	const width = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth <= width) return out;
	out.push(document.documentElement.scrollWidth + " of " + width + " pixels");
	for (const e of document.querySelectorAll("main *, header *")) {
		const r = e.getBoundingClientRect();
		if (r.width > 0 && r.right > width + 1 && !e.closest(".scroll")) out.push(e.outerHTML.slice(0, 200));
	}
	return out.slice(0, 5);
})()`

// ugliness are words in figures that are cut off, lie over each other or are too
// small to be read.
const ugliness = `(() => {
	const out = [];
	for (const svg of document.querySelectorAll("figure svg")) {
		const box = svg.getBoundingClientRect();
		if (box.width == 0) continue;
		const title = svg.querySelector("title").textContent;
		const words = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
		for (const [w, r] of words) {
			if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
				out.push(title + ": cut off: " + w);
			if (r.height < 9) out.push(title + ": too small: " + w);
		}
		for (let i = 0; i < words.length; i++) for (let j = 0; j < i; j++) {
			const [a, b] = [words[i][1], words[j][1]];
			if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
				out.push(title + ": over each other: " + words[i][0] + ", " + words[j][0]);
		}
	}
	for (const e of document.querySelectorAll("p, td, dd, li, figcaption"))
		if (e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 12) out.push("too small: " + e.textContent.slice(0, 50));
	return out.slice(0, 10);
})()`

// A report can be printed.
func TestPrint(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	needed(t, err == nil, "chromium")
	b := open(t, chromium)
	p := b.visit(t, write(t, reporttest.Full()), 1280, true)
	var printed struct{ Data string }
	p.call(t, "Page.printToPDF", map[string]any{"printBackground": true}, &printed)
	pdf, err := base64.StdEncoding.DecodeString(printed.Data)
	if pages := strings.Count(string(pdf), "/Type /Page\n"); err != nil || !strings.HasPrefix(string(pdf), "%PDF-") || pages < 3 || pages > 40 {
		t.Errorf("%d pages in %d bytes, %v", pages, len(pdf), err)
	}
}

// The checks see what they are there to see.
func TestFaultyPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	needed(t, err == nil, "chromium")
	name := filepath.Join(t.TempDir(), "faulty.html")
	const faulty = `<!DOCTYPE html><meta name="viewport" content="width=device-width"><title>x</title><main><p style="width:900px;font-size:6px">wide</p><img src="http://example.invalid/x.png">
<figure><svg width="100" height="50"><title>f</title><text x="90" y="20">cut off</text><text x="5" y="20">one</text><text x="8" y="21">two</text></svg></figure></main>
<script>console.error("said"); undefined.x</script>`
	if err := os.WriteFile(name, []byte(faulty), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, chromium).visit(t, "file://"+name, 390, false)
	var wide, ugly []string
	p.eval(t, beyond, &wide)
	p.eval(t, ugliness, &ugly)
	said := fmt.Sprint(p.messages(), ugly)
	for _, want := range []string{"said", "undefined", "example.invalid", "cut off", "over each other", "too small"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not seen: %s", want, said)
		}
	}
	if len(wide) == 0 {
		t.Error("a page wider than its window is not seen")
	}
}
