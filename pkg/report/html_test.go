package report

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"joulepipe/pkg/record"
	"joulepipe/pkg/report/reporttest"
)

func htmlOf(t *testing.T, r *Run) string {
	t.Helper()
	var b strings.Builder
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	tags   = regexp.MustCompile(`<[^>]*>`)
	cells  = regexp.MustCompile(`(?s)<td[^>]*data-head="([^"]*)"[^>]*>(.*?)</td>`)
	styles = regexp.MustCompile(`(?s)<style>.*?</style>`)
)

// shown is what a piece of a page says.
func shown(page string) string { return html.UnescapeString(tags.ReplaceAllString(page, "")) }

// htmlRows are the rows of all tables with verdicts, by their headings.
func htmlRows(page string) (rows []map[string]string) {
	for _, row := range strings.Split(page, "<tr>")[1:] {
		row, _, _ = strings.Cut(row, "</tr>")
		if !strings.Contains(row, `class="verdict`) {
			continue
		}
		m := map[string]string{}
		for _, c := range cells.FindAllStringSubmatch(row, -1) {
			m[html.UnescapeString(c[1])] = shown(c[2])
		}
		if len(m) > 0 {
			rows = append(rows, m)
		}
	}
	return rows
}

// markdownRows are the rows of all tables, by their headings, without what sets
// their words off.
func markdownRows(md string) (rows []map[string]string) {
	bare := strings.NewReplacer("**", "", "`", "", `\|`, "¦")
	var heads []string
	for _, l := range strings.Split(md, "\n") {
		if !strings.HasPrefix(l, "| ") {
			heads = nil
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(bare.Replace(l), "|"), "|") {
			cells = append(cells, strings.TrimSpace(c))
		}
		switch {
		case heads == nil:
			heads = cells
		case strings.HasPrefix(l, "| --"):
		default:
			m := map[string]string{}
			for i := range min(len(cells), len(heads)) {
				m[heads[i]] = cells[i]
			}
			rows = append(rows, m)
		}
	}
	return rows
}

// agree holds the verdicts of every form of a report against those of the run.
func agree(t *testing.T, r *Run) {
	t.Helper()
	var list strings.Builder
	if err := r.Verdicts(&list); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, l := range strings.Split(list.String(), "\n") {
		if verdict, rest, ok := strings.Cut(l, "  "); ok {
			listed[strings.Fields(rest)[0]] = verdict
		}
	}
	page, md := htmlOf(t, r), markdown(t, r)
	_, front, _ := strings.Cut(page, "<main")
	front, _, _ = strings.Cut(front, "<nav")
	front = shown(front)
	inPage, inText := htmlRows(page), markdownRows(md)
	var m struct {
		Checks       []Check
		Claims, Uses []Claim
		Stands       bool
		Front        Front
	}
	if err := json.Unmarshal([]byte(metadataOf(t, r)), &m); err != nil {
		t.Fatal(err)
	}
	all := func(rows []map[string]string, key, value, of string) (said []string) {
		for _, row := range rows {
			if row[key] == value {
				said = append(said, row[of])
			}
		}
		return said
	}
	same := func(what string, said []string, want string) {
		if len(said) == 0 {
			t.Errorf("%s is not there", what)
		}
		for _, s := range said {
			if s != want {
				t.Errorf("%s: %q, want %q", what, s, want)
			}
		}
	}
	for i, c := range r.Checks {
		want := string(c.Verdict)
		same("html "+c.ID, all(inPage, "Check", c.ID, "Verdict"), want)
		same("markdown "+c.ID, all(inText, "Check", c.ID, "Verdict"), want)
		same("metadata "+c.ID, []string{m.Checks[i].ID + string(m.Checks[i].Verdict)}, c.ID+want)
		same("check "+c.ID, []string{listed[c.ID]}, want)
	}
	for i, c := range r.Claims {
		same("html "+c.Title, all(inPage, "Claim", c.Title, "Status"), string(c.Status))
		same("markdown "+c.Title, all(inText, "Claim", c.Title, "Status"), string(c.Status))
		same("metadata "+c.Title, []string{string(m.Claims[i].Status)}, string(c.Status))
	}
	for i, c := range r.Uses {
		want := strings.Trim(useWords[c.Status], "*")
		same("html "+c.Title, all(inPage, "Use", c.Title, "Can it be used"), want)
		same("markdown "+c.Title, all(inText, "Use", c.Title, "Can it be used"), want)
		same("metadata "+c.Title, []string{string(m.Uses[i].Status)}, string(c.Status))
	}
	for _, f := range []struct{ form, text string }{{"html", front}, {"markdown", md}, {"metadata", m.Front.Answer}} {
		if f.form == "html" && !strings.Contains(f.text, r.Front.Because) || f.form == "markdown" && !strings.Contains(f.text, markup.Replace(r.Front.Because)) {
			t.Errorf("%s does not say %q", f.form, r.Front.Because)
		}
		if !strings.Contains(f.text, r.Front.Answer) {
			t.Errorf("%s does not say %q", f.form, r.Front.Answer)
		}
	}
	if m.Stands != (len(r.Doubts()) == 0) || m.Front.Use != r.Front.Use {
		t.Errorf("metadata: stands %t, use %s", m.Stands, m.Front.Use)
	}
	for _, k := range r.Front.Figures {
		if !strings.Contains(front, k.Name+k.Value) {
			t.Errorf("html does not say %s %s", k.Name, k.Value)
		}
	}
}

// The page is one whole: its elements are closed, its links lead to places in it or
// to its own data, nothing is fetched and nothing is run.
func TestPage(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*reporttest.Fixture{"stands": reporttest.New(), "full": reporttest.Full(), "broken": reporttest.Broken()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustRead(t, directory(t, f))
			page := htmlOf(t, r)
			wellFormed(t, page)
			ids := map[string]int{}
			for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
				if ids[id[1]]++; ids[id[1]] > 1 {
					t.Errorf("id %s twice", id[1])
				}
			}
			for _, to := range regexp.MustCompile(` href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
				switch place, inside := strings.CutPrefix(to[1], "#"); {
				case inside && ids[place] == 0:
					t.Errorf("a link to #%s, which is not there", place)
				case !inside && to[1] != "data:," && !strings.HasPrefix(to[1], "figures/"):
					t.Errorf("a link to %q", to[1])
				}
			}
			for _, never := range []string{"<script", "<img", "<iframe", "<object", "onerror=alert(1)>\"", "url(", "@import", " src=", "http://", "https://"} {
				// What came out of a file is there, as words.
				if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(page, "http://www.w3.org/2000/svg", ""), "img src=x", ""), never) {
					t.Errorf("the page has %q", never)
				}
			}
			if notANumber.MatchString(tags.ReplaceAllString(styles.ReplaceAllString(page, ""), "")) || strings.Contains(page, "ZgotmplZ") {
				t.Error("a number that is none, or a value that the template would not have")
			}
			agree(t, r)
		})
	}
}

// wellFormed fails unless every element is closed where it should be.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(regexp.MustCompile(`<(!DOCTYPE|meta|link)[^>]*>`).ReplaceAllString(page, "")))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

// A run that stands has every figure that its files have data for, each with a
// table of even rows.
func TestDrawings(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.Full()))
	var names []string
	for _, f := range r.Figures {
		names = append(names, f.Name)
		var b strings.Builder
		if err := f.WriteCSV(&b); err != nil {
			t.Fatal(err)
		}
		rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
		if err != nil || len(rows) < 2 {
			t.Errorf("%s: %d rows, %v", f.Name, len(rows), err)
		}
		if f.Title == "" || len(f.Desc) < 20 || len(f.Panels) == 0 {
			t.Errorf("%s: %q, %q", f.Name, f.Title, f.Desc)
		}
		for _, p := range f.Panels {
			if p.X.Label == "" && !p.X.Bare || p.Y.Label == "" && p.Y.Categories == nil {
				t.Errorf("%s: an axis without a name", f.Name)
			}
		}
	}
	if want := FigureNames(); !slices.Equal(names, want) {
		t.Errorf("figures %q, want %q", names, want)
	}
	page, md := htmlOf(t, r), markdown(t, r)
	for _, name := range names {
		if !strings.Contains(page, `href="figures/`+name+`.csv"`) || !strings.Contains(md, "](figures/"+name+".svg)") {
			t.Errorf("%s is not in the report", name)
		}
	}
}

// What cannot be drawn says why, and what is not seen for it; no fault is none.
func TestNotDrawn(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.New()))
	page, md := htmlOf(t, r), markdown(t, r)
	for name, why := range map[string]string{
		"soak": "No figure of the heat soak: its course was not recorded", "mismatch": "so how short an event either can be trusted with",
		"joule-curve": "so what a batch saves is not known", "faults": "No fault was recorded",
	} {
		if strings.Contains(page, `figure-`+name+`"`) || !strings.Contains(shown(page), why) || !strings.Contains(md, why) {
			t.Errorf("%s: the report does not say %q", name, why)
		}
	}
}

// docs/format.md has the columns of every figure's data.
func TestColumnsAreDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range mustRead(t, directory(t, reporttest.Full())).Figures {
		row := regexp.MustCompile("(?m)^\\| `" + f.Name + "` .*$").FindString(string(b))
		if f.Name == "memory" {
			row = strings.Replace(row, "as `power`", "`"+strings.Join(f.Heads, "`, `")+"`", 1)
		}
		if !strings.HasSuffix(row, "| `"+strings.Join(f.Heads, "`, `")+"` |") {
			t.Errorf("%s has %q, docs/format.md %q", f.Name, f.Heads, row)
		}
	}
}

// rowsOf are the rows of a figure's data.
func rowsOf(t *testing.T, r *Run, name string) (rows [][]string) {
	t.Helper()
	for _, f := range r.Figures {
		if f.Name == name {
			f.Rows(func(cells ...string) { rows = append(rows, slices.Clone(cells)) })
			return rows
		}
	}
	t.Fatalf("no figure %s: %s", name, r.undrawn[name])
	return nil
}

// Every fault of a run is on the figure of faults, when it was.
func TestFaultsAreDrawn(t *testing.T) {
	t.Parallel()
	r := mustRead(t, directory(t, reporttest.Broken()))
	found := map[string][]float64{}
	for _, row := range rowsOf(t, r, "faults") {
		at, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		found[row[0]] = append(found[row[0]], at)
	}
	for fault, from := range map[string]float64{
		"gap between samples": 9.9, "dropped ticks": 9.9, "failed reading": 20, "below 5 W": 15, "slowed down": 6, "counter went back": 23.98, "counter not read": 14, "marked clock_set": 12, "the trace was cut": 39.98, "event with gaps or no data": 22,
	} {
		if at := found[fault]; len(at) == 0 || math.Abs(at[0]-from) > 0.05 {
			t.Errorf("%s from %v, want %g", fault, at, from)
		}
	}
}

// A hole in the driver's buffer is one of its own: the samples may have none.
func TestHoleIsDrawn(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	f.Power = slices.Delete(f.Power, 500, 600)
	rows := rowsOf(t, mustRead(t, directory(t, f)), "faults")
	if len(rows) != 1 || rows[0][0] != "hole in the driver's buffer" || !strings.HasPrefix(rows[0][1], "9.9") {
		t.Errorf("%q", rows)
	}
}

// Tokens of an event are of all its passes and sequences; its context is of one.
func TestTokensAreDrawn(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	for _, e := range f.Events {
		e.RequestID = fmt.Sprint(e.BatchSize.V)
		if e.Phase == "prefill" {
			e.InputTokens.V *= 3
			e.Extra = []record.Field{{Name: "passes", Value: json.RawMessage("3")}}
		}
	}
	f.First("decode").Extra = []record.Field{{Name: "context", Value: json.RawMessage("2048")}}
	var got []string
	for _, row := range rowsOf(t, mustRead(t, directory(t, f)), "tokens") {
		got = append(got, strings.Join(row[:6], " "))
	}
	want := []string{
		"decode gpt2 1 2048 1 9.375", "decode gpt2 2 1024 1 4.6875", "decode gpt2 4 1024 1 2.34375",
		"prefill gpt2 1 1024 1 0.0439453125", "prefill gpt2 2 1024 1 0.0219726562", "prefill gpt2 4 1024 1 0.0109863281",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Many events make a long file of data and no long page.
func TestPageStaysSmall(t *testing.T) {
	t.Parallel()
	f := reporttest.New()
	for i := range 20_000 {
		e := *f.Events[1+i%11]
		e.ID = strconv.Itoa(i)
		e.StartNS += int64(i) * 1e6
		e.EndNS += int64(i) * 1e6
		f.Events = append(f.Events, &e)
	}
	f.Without = []string{"trace.ndjson"}
	r := mustRead(t, directory(t, f))
	if n := len(htmlOf(t, r)); n > 1e6 {
		t.Errorf("the page has %d bytes", n)
	}
	if n := len(rowsOf(t, r, "events")); n != 20_012 {
		t.Errorf("%d events in the data", n)
	}
}

// The levels and the steps of a square wave are those that it was made of.
func TestResponseIsDrawn(t *testing.T) {
	t.Parallel()
	for _, row := range rowsOf(t, mustRead(t, directory(t, reporttest.New())), "response") {
		var ms, w float64
		if _, err := fmt.Sscan(row[1]+" "+row[2], &ms, &w); err != nil {
			t.Fatal(err)
		}
		want := reporttest.IdleW
		if ms > 0 {
			want = reporttest.LoadW
		}
		if row[0] == record.ChannelDriver && (ms < -20 || ms > 40) && (w < want-1 || w > want+1) {
			t.Errorf("%s W by the driver %s ms after the step, want %g", row[2], row[1], want)
		}
		if row[0] == record.ChannelPower && ms > 400 && ms < 900 && (w < 150 || w > 290) {
			t.Errorf("%s W by a mean over a second %s ms after the step", row[2], row[1])
		}
	}
}

// The answer on the first screen goes by what the energy is good for.
func TestFront(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name   string
		change func(*reporttest.Fixture)
		use    string
		says   string
	}{
		{"whole", func(*reporttest.Fixture) {}, Billing, "stands, by the board's own sensor."},
		{"without a baseline", func(f *reporttest.Fixture) { f.Without = []string{"baseline.json"} }, Billing, "Energy above idle: no baseline.json"},
		{"an estimate", func(f *reporttest.Fixture) { f.First("decode").Energy.Tier = "estimate" }, Analysis, "estimate"},
		{"a gap", func(f *reporttest.Fixture) { f.Lose(100, 110) }, Analysis, "spacing"},
		{"not attributed", func(f *reporttest.Fixture) { f.Without = []string{"generation_events.jsonl"} }, Analysis, "no generation_events.jsonl"},
		{"only a baseline", func(f *reporttest.Fixture) {
			f.Without = []string{"generation_events.jsonl", "trace.ndjson"}
		}, Useless, "no trace.ndjson"},
		{"simulated", func(f *reporttest.Fixture) { f.Header.Config["device"] = "sim" }, Useless, "would be good for billing"},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f := reporttest.New()
			k.change(f)
			r := mustRead(t, directory(t, f))
			if r.Front.Use != k.use || !strings.Contains(r.Front.Because, k.says) {
				t.Errorf("%s: %s", r.Front.Use, r.Front.Because)
			}
			if len(r.Front.Figures) != 3 || (r.Front.First == "") != (len(r.Doubts()) == 0) {
				t.Errorf("%d figures, first: %s", len(r.Front.Figures), r.Front.First)
			}
			for _, figure := range r.Front.Figures {
				if figure.Value == "" || figure.Note == "" || figure.Value == absent && !strings.HasPrefix(figure.Note, "not measured: ") {
					t.Errorf("%+v", figure)
				}
			}
			agree(t, r)
		})
	}
	for i, title := range map[int]string{useRun: "Energy of the whole run", usePhase: "Mean energy of a phase", useIdle: "Energy above idle", useEvent: "Joules of a single event of 1 s or longer", useSteady: "Steady-state performance"} {
		if uses[i].title != title {
			t.Errorf("use %d is %q", i, uses[i].title)
		}
	}
	// What to do first is about what stands in the way of the first use.
	if r := mustRead(t, directory(t, reporttest.Broken())); !strings.Contains(r.Front.First, "run-energy") {
		t.Errorf("first: %s", r.Front.First)
	}
}

// Without a file the page is made all the same, and says what is missing.
func TestPageWithoutFiles(t *testing.T) {
	t.Parallel()
	all := directory(t, reporttest.New())
	for name := range all {
		dir := fstest.MapFS{}
		for other, file := range all {
			if other != name {
				dir[other] = file
			}
		}
		r := mustRead(t, dir)
		page := htmlOf(t, r)
		wellFormed(t, page)
		agree(t, r)
		if !strings.Contains(shown(page), "No "+name+": ") {
			t.Errorf("without %s the page does not say so", name)
		}
	}
	r := mustRead(t, fstest.MapFS{"baseline.json": all["baseline.json"]})
	if page := shown(htmlOf(t, r)); len(r.Figures) > 0 || !strings.Contains(page, "Not measured: no trace.ndjson: power, temperature and clocks were not measured. ") {
		t.Errorf("%d figures of a baseline alone", len(r.Figures))
	}
}

func TestPhrases(t *testing.T) {
	t.Parallel()
	got := phrases("a **b `c|d` e** [f](#g) \\*h\\* &lt;i&gt; `j")
	want := []phrase{{Text: "a "}, {Text: "b ", Strong: true}, {Text: "c|d", Code: true, Strong: true}, {Text: " e", Strong: true}, {Text: " "}, {Text: "f", Link: "#g"}, {Text: " *h* <i&gt; `j"}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// Whatever a file has, HTML says of it what the file has: text and code are read
// back as they went in.
func FuzzPhrases(f *testing.F) {
	for _, s := range []string{"plain", "a|b`c", "**x** [y](#z)", `\`, `\|`, "<script>&lt;&amp;", "< b", "`", "*", "[a](#b)", "\x00\xff", "a\\`b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if want := line(s, sentenceLength); want != "" && spoken(text(s)) != want {
			t.Errorf("text(%q) = %q says %q", s, text(s), spoken(text(s)))
		}
		if want := strings.ReplaceAll(plain(s), "`", "'"); want != "" && spoken(code(s)) != want {
			t.Errorf("code(%q) = %q says %q", s, code(s), spoken(code(s)))
		}
		for _, p := range append(phrases(text(s)), phrases(code(s))...) {
			if p.Strong || p.Link != "" {
				t.Errorf("%q is set as %+v", s, p)
			}
		}
	})
}
