package pipeline

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const report = "docs/study-h200.md"

// What the commands print and what the text says of the figures stays with who
// writes it.
var update = flag.Bool("update", false, "put the figures of today's tools into the tables of "+report+", with as many decimals")

// TestStudy types what docs/study-h200.md says and holds every figure of its
// tables against the files that come of it, to the digit printed.
func TestStudy(t *testing.T) {
	if testing.Short() {
		t.Skip("the response of the sensors takes some seconds")
	}
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("python3 is needed for scripts/gpm.py")
		}
		t.Skip("no python3: scripts/gpm.py cannot run")
	}
	text, err := os.ReadFile(filepath.Join(root, report))
	if err != nil {
		t.Fatal(err)
	}
	dir := project(t, "testdata", "scripts", "docs")
	for _, s := range sessions(string(text)) {
		stdout, stderr, _ := shell(t, dir, s.command)
		var got []string
		if text := strings.TrimSuffix(stderr+stdout, "\n"); text != "" {
			got = strings.Split(text, "\n")
		}
		if !matches(got, s.want) {
			t.Errorf("%s:%d: $ %s\n got:\n%s\nwant:\n%s", report, s.line, s.command, strings.Join(got, "\n"), strings.Join(s.want, "\n"))
		}
	}

	// What was measured, and came with it, is what the tools make of it.
	for _, name := range []string{"baseline.json", "baseline_context.json", "baseline_no_context.json"} {
		made, _ := os.ReadFile(filepath.Join(dir, "runs/h200", name))
		came, _ := os.ReadFile(filepath.Join(root, "testdata/h200-study", name))
		if len(made) == 0 || !bytes.Equal(made, came) {
			t.Errorf("%s is not what was measured", name)
		}
	}

	want := figures(t, dir)
	seen := map[string]bool{}
	lines := strings.Split(string(text), "\n")
	for _, table := range tables(string(text)) {
		rows, ok := want[table.head]
		if !ok {
			t.Errorf("%s:%d: nothing to hold the table %q against", report, table.line, table.head)
			continue
		}
		seen[table.head] = true
		labels := rows.labels
		if len(table.rows) != len(rows.cells) && !rows.partly {
			t.Errorf("%s:%d: %d rows, want %d", report, table.line, len(table.rows), len(rows.cells))
		}
		for i, row := range table.rows {
			line, label := table.line+2+i, strings.Join(row[:labels], " ")
			cells, ok := rows.cells[label]
			if !ok {
				t.Errorf("%s:%d: no figures of %q", report, line, label)
				continue
			}
			for k, cell := range cells {
				why := differs(row[labels+k], cell)
				if why != "" && *update {
					old, is := row[labels+k], printed(row[labels+k], cell)
					lines[line-1] = strings.Replace(lines[line-1], "| "+old+" |", "| "+is+" |", 1)
				} else if why != "" {
					t.Errorf("%s:%d: %s, %s: %s", report, line, label, table.columns[labels+k], why)
				}
			}
		}
	}
	for head := range want {
		if !seen[head] {
			t.Errorf("%s has no table %q", report, head)
		}
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, report), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// project is a folder that looks like the top of the project to who reads it.
func project(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		target, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// table is one of a Markdown text; head is its first columns and their number,
// which tell it from the others.
type table struct {
	head    string
	line    int
	columns []string
	rows    [][]string
}

func tables(text string) (all []table) {
	split := func(line string) []string {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i, c := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(c), "`")
		}
		return cells
	}
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "|") || !strings.HasPrefix(lines[i+1], "|---") {
			continue
		}
		t := table{line: i + 1, columns: split(lines[i])}
		t.head = fmt.Sprintf("%s, %s of %d", t.columns[0], t.columns[1], len(t.columns))
		for i += 2; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
			t.rows = append(t.rows, split(lines[i]))
		}
		all = append(all, t)
	}
	return all
}

var number = regexp.MustCompile(`[-−]?\d+(\.\d+)?`)

// differs says how a cell is not what was measured: a text as it stands, numbers
// to the last digit printed. Nil is a dash.
func differs(cell string, want any) string {
	switch want := want.(type) {
	case nil:
		if cell != "–" {
			return fmt.Sprintf("%q, and there is no figure", cell)
		}
	case string:
		if cell != want {
			return fmt.Sprintf("%q, want %q", cell, want)
		}
	case []float64:
		all := number.FindAllString(cell, -1)
		if len(all) != len(want) {
			return fmt.Sprintf("%q, want %v", cell, want)
		}
		for i, text := range all {
			v, err := strconv.ParseFloat(strings.Replace(text, "−", "-", 1), 64)
			_, decimals, _ := strings.Cut(text, ".")
			if err != nil || !(math.Abs(v-want[i]) <= 0.5001*math.Pow10(-len(decimals))) {
				return fmt.Sprintf("%q, want %v", cell, want)
			}
		}
	default:
		return fmt.Sprintf("a figure of type %T", want)
	}
	return ""
}

// printed is a cell with what was measured in the place of its numbers, with as
// many decimals, or the text that it should be.
func printed(cell string, want any) string {
	switch want := want.(type) {
	case string:
		return want
	case []float64:
		i := -1
		return number.ReplaceAllStringFunc(cell, func(text string) string {
			if i++; i >= len(want) {
				return text
			}
			_, decimals, _ := strings.Cut(text, ".")
			return strings.Replace(strconv.FormatFloat(want[i], 'f', len(decimals), 64), "-", "−", 1)
		})
	}
	return cell
}

// figuresOf is what the cells of a table should say: by the first labels columns
// of a row, joined, the columns after them. partly is a table that leaves rows out.
type figuresOf struct {
	labels int
	cells  map[string][]any
	partly bool
}

// object is a JSON object; its numbers are had by path.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

// num is NaN where there is none, which no cell is.
func (o object) num(path ...string) float64 {
	if v, ok := o.at(path...).(float64); ok {
		return v
	}
	return math.NaN()
}

func (o object) text(path ...string) string {
	v, _ := o.at(path...).(string)
	return v
}

func (o object) list(path ...string) (all []object) {
	items, _ := o.at(path...).([]any)
	for _, v := range items {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

func (o object) seconds() float64 { return (o.num("t_end_ns") - o.num("t_start_ns")) / 1e9 }

func f(v ...float64) []float64 { return v }

// share is how many per cent part is of whole.
func share(part, whole float64) []float64 { return f(100 * part / whole) }

func spread(x []float64) (mean, sigma float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		sigma += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, math.Sqrt(sigma)
}

// figures is every table's figures, from the files that the commands wrote into dir.
func figures(t *testing.T, dir string) map[string]figuresOf {
	t.Helper()
	one := func(name string) (o object) {
		data, err := os.ReadFile(filepath.Join(dir, "runs", name))
		if err == nil {
			err = json.Unmarshal(data, &o)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return o
	}
	records := func(from string, text []byte) (all []object) {
		s := bufio.NewScanner(bytes.NewReader(text))
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var o object
			if err := json.Unmarshal(s.Bytes(), &o); err != nil {
				t.Fatalf("%s: %v", from, err)
			}
			all = append(all, o)
		}
		return all
	}
	many := func(name string) []object {
		data, err := os.ReadFile(filepath.Join(dir, "runs", name))
		if err != nil {
			t.Fatal(err)
		}
		return records(name, data)
	}
	trace, _, _ := shell(t, dir, "nvpoll --device replay:runs/h200/trace.ndjson.zst --speed max | grep -E '\"record\":\"(power|end)\"'")
	highest, over, readings, busy := 0., 0., 0., 0.
	for _, o := range records("trace", []byte(trace)) {
		if o.text("record") == "end" {
			busy = o.num("poller", "overall", "cpu_s")
			continue
		}
		highest, readings = max(highest, o.num("power_w")), readings+1
		if o.num("power_w") > 700 {
			over++
		}
	}
	if readings != 45113 || over != 958 {
		t.Errorf("%v readings, %v above 700 W; the text says 45113 and 958", readings, over)
	}

	all := map[string]figuresOf{}

	// Baseline, response, memory: the files of one run each.
	idle := figuresOf{labels: 1, cells: map[string][]any{}}
	for state, name := range map[string]string{"no_context": "baseline_no_context", "context": "baseline_context", "resident": "baseline"} {
		b := one("h200/" + name + ".json")
		idle.cells[state] = []any{f(b.num("idle_watts_mean")), f(b.num("idle_watts_std")), f(b.num("subtract", "watts_se")), f(b.num("samples")), f(b.num("n_eff")),
			f(b.num("idle_temp_c")), f(b.num("conditions", "sm_clock_mhz"))}
		if w := b.num("subtract", "watts"); w != b.num("idle_watts_mean") {
			t.Errorf("%s: %v W are subtracted, which is not the mean", state, w)
		}
	}
	all["state, mean, W of 8"] = idle

	response := figuresOf{labels: 1, cells: map[string][]any{}}
	for name, v := range one("h200/sensor.json").list("gpus")[0].at("channels").(map[string]any) {
		c := object(v.(map[string]any))
		had := func(name string) any {
			var both []float64
			if v := c.num(name); !math.IsNaN(v) {
				both = f(v)
			}
			if ci, ok := c.at(name + "_ci95").([]any); ok {
				both = append(both, ci[0].(float64), ci[1].(float64))
			}
			if both == nil {
				return nil
			}
			return both
		}
		var rule any
		if pass, ok := c.at("pass").(bool); ok {
			rule = map[bool]string{true: "pass", false: "fail"}[pass]
		}
		response.cells[name] = []any{had("update_ms"), had("window_ms"), had("lag_ms"), had("rise_ms"), had("gain"), rule}
	}
	all["channel, update, ms of 7"] = response

	memory := one("h200/vram.json").list("gpus")[0]
	cliff, torture := figuresOf{labels: 2, cells: map[string][]any{}}, figuresOf{labels: 2, cells: map[string][]any{}}
	for _, c := range memory.list("cliff") {
		var off any
		if v := c.num("prediction_error_percent"); !math.IsNaN(v) {
			off = f(v)
		}
		cliff.cells[c.text("model")+" "+fmt.Sprint(c.num("batch_size"))] = []any{f(c.num("max_context")), f(c.num("predicted", "max_context")), off, f(c.num("memory_error_percent")),
			f(c.num("peak", "weights_mb")), f(c.num("peak", "kv_mb")), f(c.num("peak", "free_mb")), f(c.num("probes")), f(c.num("recovery", "left_mb"))}
	}
	for _, c := range memory.list("torture") {
		torture.cells[c.text("allocator")+" "+c.text("pattern")] = []any{f(c.num("holes", "fragmentation")), f(c.num("free_mb")), f(c.num("largest_mb"))}
	}
	all["model, batch of 11"], all["allocator, pattern of 5"] = cliff, torture

	// Joules: by phase, batch and context, which the second attribution keeps apart.
	contexts := many("contexts.ndjson")
	small, large := figuresOf{labels: 2, cells: map[string][]any{}}, figuresOf{labels: 3, cells: map[string][]any{}}
	steps := figuresOf{labels: 1, cells: map[string][]any{}}
	perToken := map[string][]any{} // by phase, batch and context
	for _, s := range contexts {
		model, context, _ := strings.Cut(s.text("model"), " ")
		phase := s.text("phase")
		if s.text("record") != "summary" || phase != "prefill" && phase != "decode" {
			continue
		}
		if s.at("joule_curve") != nil {
			if phase == "decode" && model == "llama-3.1-8b" {
				steps.cells["8B, context "+context] = []any{f(s.num("joule_curve", "joules_per_step"), s.num("joule_curve", "joules_per_step_ci95")),
					f(s.num("joule_curve", "joules_per_token"), s.num("joule_curve", "joules_per_token_ci95"))}
			}
			continue
		}
		times, own := kind(contexts, phase, s.text("model"), s.num("batch_size"))
		mean, sigma := spread(times)
		j := s.num("joules_per_token")
		above := s.num("operational_joules_total") / s.num("energy_joules_total")
		cells := []any{f(j, s.num("joules_per_token_ci95")), f(above * j), f(100 * above), f(own), tiers(s)}
		batch := fmt.Sprint(s.num("batch_size"))
		if model == "gpt2" {
			small.cells[phase+" "+batch] = cells
			continue
		}
		large.cells[phase+" "+batch+" "+context] = append([]any{f(mean), share(sigma, mean), f(s.num("power_w_mean"))}, cells...)
		perToken[phase+" "+batch+" "+context] = cells
	}
	all["phase, batch of 7"], all["phase, batch of 11"], all["decode, J a step of 3"] = small, large, steps

	few := many("few.ndjson")
	forty := many("many.ndjson")
	both := figuresOf{labels: 2, cells: map[string][]any{}}
	for i, s := range forty {
		phase := s.text("phase")
		if s.text("record") != "summary" || phase != "prefill" && phase != "decode" || s.at("joules_per_token") == nil {
			continue
		}
		k := slices.IndexFunc(few, func(o object) bool {
			return o.text("record") == "summary" && o.text("phase") == phase && o.text("model") == s.text("model") && o.at("joules_per_token") != nil
		})
		if k < 0 || few[k].num("events") != 4 || s.num("events") != 40 {
			t.Fatalf("summary %d: not of 4 and of 40", i)
		}
		times, _ := kind(forty, phase, s.text("model"), s.num("batch_size"))
		mean, sigma := spread(times)
		_, context, _ := strings.Cut(s.text("model"), " ")
		a, b := f(few[k].num("joules_per_token"), few[k].num("joules_per_token_ci95")), f(s.num("joules_per_token"), s.num("joules_per_token_ci95"))
		both.cells[phase+" "+context] = []any{f(1000 * mean), share(sigma, mean), a, tiers(few[k]), b, tiers(s)}
		if !(math.Abs(a[0]-b[0]) <= math.Hypot(a[1], b[1])) {
			t.Errorf("%s %s: few and many requests are further apart than their intervals allow: %v, %v", phase, context, a, b)
		}
	}
	all["phase, context of 8"] = both

	// The soak, and the run.
	meta := one("h200/run_metadata.json")
	soak := meta.list("heat_soak")[0]
	events := many("h200/generation_events.jsonl")
	find := func(record, name, value string) object {
		k := slices.IndexFunc(events, func(o object) bool { return o.text("record") == record && (name == "" || o.text(name) == value) })
		if k < 0 {
			t.Fatalf("no %s with %s %s", record, name, value)
		}
		return events[k]
	}
	all["figure, value of 2"] = figuresOf{labels: 1, cells: map[string][]any{
		"Duration, s":            {f(soak.num("duration_s"))},
		"Start, °C":              {f(soak.num("temp_start_c"))},
		"End, °C":                {f(soak.num("temp_end_c"))},
		"Highest, °C":            {f(soak.num("temp_max_c"))},
		"Slope, °C/min":          {f(soak.num("slope_c_per_min"), soak.num("slope_ci95"))},
		"Steepest slope, °C/min": {f(soak.num("max_slope_c_per_min"))},
		"Slope by first readings of each degree, °C/min": {f(soak.num("crossing_c_per_min"), soak.num("crossing_ci95"))},
		"Rise of power over the window, %":               {f(100*soak.num("power_drift"), 100*soak.num("power_drift_ci95"))},
		"Mean power, W":                                  {f(find("summary", "phase", "soak").num("power_w_mean"))},
		"Products, TFLOP/s":                              {f(find("event", "phase", "soak").num("flops_per_s") / 1e12)},
		"Trips":                                          {f(soak.num("trips"))},
		"Hysteresis of the clock, MHz·°C":                {f(soak.num("hysteresis_mhz_c"))},
	}}
	var count, without, pulses, refused float64
	for _, e := range events {
		if e.text("record") != "event" {
			continue
		}
		count++
		if e.at("energy_joules") == nil {
			without++
		}
		if e.text("phase") == "response" {
			pulses++
			if e.text("energy_tier") == "refused" {
				refused++
			}
		}
	}
	run := meta.list("run_energy")[0]
	agree := find("agreement", "", "")
	all["figure, value of 3"] = figuresOf{labels: 1, cells: map[string][]any{
		"Energy of the run": {f(run.num("joules") / 1000)},
		"Time of the run":   {f(run.num("seconds"))},
		"Driver's buffer, added up, over the energy counter": {f(agree.num("ratio"), agree.num("ratio_ci95"))},
		"Idle, no context":                                   {idle.cells["no_context"][0]},
		"Idle, a model in memory":                            {idle.cells["resident"][0]},
		"8B decode, batch 1, context 1024":                   {perToken["decode 1 1024"][0]},
		"8B decode, batch 4, context 1024":                   {perToken["decode 4 1024"][0]},
		"8B prefill, batch 1, context 1024":                  {perToken["prefill 1 1024"][0]},
		"A decode step's fixed part, context 1024":           {steps.cells["8B, context 1024"][0]},
		"Highest reading of the driver's buffer":             {f(highest)},
		"Events without joules, of all":                      {f(without, count)},
		"Pulses of the sensor test that are refused, of all": {f(refused, pulses)},
		"nvpoll, of one core":                                {share(busy, run.num("seconds"))},
	}}

	// What the checks say, the word before a remark.
	stdout, _, _ := shell(t, dir, "nvreport check runs/h200")
	checks := figuresOf{labels: 2, cells: map[string][]any{}, partly: true}
	for _, row := range tablesOf(t, dir) {
		for _, line := range strings.Split(stdout, "\n") {
			if verdict, rest, _ := strings.Cut(line, " "); strings.HasPrefix(strings.TrimSpace(rest), row[1]+" ") {
				if word, _, _ := strings.Cut(row[2], ","); word == verdict {
					verdict = row[2]
				}
				checks.cells[row[0]+" "+row[1]] = []any{verdict}
			}
		}
	}
	all["guarantee (§10.7), check of 4"] = checks

	// GPM: the script's own table.
	stdout, _, _ = shell(t, dir, "nvpoll --device replay:runs/h200/trace.ndjson.zst --speed max | python3 scripts/gpm.py runs/h200/generation_events.jsonl")
	gpm := figuresOf{labels: 1, cells: map[string][]any{}, partly: true}
	for _, line := range strings.Split(strings.TrimSpace(stdout), "\n")[1:] {
		words := strings.Fields(line)
		var cells []any
		for _, w := range words[len(words)-4:] {
			v, err := strconv.ParseFloat(w, 64)
			if err != nil {
				t.Fatal(err)
			}
			cells = append(cells, f(v))
		}
		gpm.cells[strings.Join(words[:len(words)-4], " ")] = cells
	}
	all["kind of work, records of 5"] = gpm
	return all
}

// tablesOf is the rows of the report's table of checks.
func tablesOf(t *testing.T, dir string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, report))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables(string(text)) {
		if strings.HasPrefix(table.head, "guarantee") {
			return table.rows
		}
	}
	t.Fatal("no table of guarantees")
	return nil
}

// kind is the durations of the events of a phase, model and batch size, and the
// middle one of their own intervals, in per cent of their joules.
func kind(events []object, phase, model string, batch float64) (seconds []float64, own float64) {
	var shares []float64
	for _, e := range events {
		if e.text("record") != "event" || e.text("phase") != phase || e.text("model") != model || e.num("batch_size") != batch {
			continue
		}
		seconds = append(seconds, e.seconds())
		if v := 100 * e.num("ci95_joules") / e.num("energy_joules"); !math.IsNaN(v) {
			shares = append(shares, v)
		}
	}
	slices.Sort(shares)
	if len(shares) == 0 {
		return seconds, math.NaN()
	}
	return seconds, shares[len(shares)/2]
}

// tiers is "2 analysis, 1 estimate".
func tiers(s object) string {
	m, _ := s.at("energy_tier").(map[string]any)
	var words []string
	for _, tier := range []string{"billable", "analysis", "estimate", "refused"} {
		if n, ok := m[tier].(float64); ok {
			words = append(words, fmt.Sprintf("%v %s", n, tier))
		}
	}
	return strings.Join(words, ", ")
}

func TestDiffers(t *testing.T) {
	for _, c := range []struct {
		cell string
		want any
		ok   bool
	}{
		{"2.3226 ± 0.0015 J/token", f(2.32264, 0.00154), true},
		{"2.3226 ± 0.0015 J/token", f(2.32266, 0.00154), false},
		{"2.3226", f(2.3226, 0.0015), false},
		{"1004 [993, 1022]", f(1004.02, 993.4, 1022.4), true},
		{"−16.0 [−85.0, 43.4]", f(-16.03, -84.97, 43.41), true},
		{"16.0", f(-16.03), false},
		{"1.0", f(math.NaN()), false},
		{"–", nil, true},
		{"0", nil, false},
		{"pass", "pass", true},
		{"pass", "fail", false},
		{"1", 1, false},
	} {
		if why := differs(c.cell, c.want); (why == "") != c.ok {
			t.Errorf("%q against %v: %q", c.cell, c.want, why)
		}
	}
	if got := printed("2.32 ± 0.01 J", f(2.3144, 0.0281)); got != "2.31 ± 0.03 J" {
		t.Errorf("printed %q", got)
	}
	all := tables("a\n\n| x | `y` |\n|---|---:|\n| 1 | 2 |\n| `3` | 4 |\n\nb\n")
	if len(all) != 1 || all[0].head != "x, y of 2" || all[0].line != 3 || len(all[0].rows) != 2 || all[0].rows[1][0] != "3" {
		t.Errorf("%+v", all)
	}
}
