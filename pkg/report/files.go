package report

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// kind is what a file of a run directory holds.
type kind int

const (
	traceFile kind = iota
	eventsFile
	joulesFile // events with their energy
	idleFile
	idleTraceFile
	soakFile
	sensorFile
	vramFile
)

// contents says for each kind of file which names it goes by (each may carry
// .zst or .gz), why its absence matters and how to get it.
var contents = [...]struct {
	names           []string
	holds, why, how string
}{
	traceFile: {[]string{"trace.ndjson", "trace.arrow", "trace.csv", "power_trace.csv"}, "power trace",
		"power, temperature and clocks were not measured", "measure with one poller over the whole run: `nvpoll -o trace.ndjson`"},
	eventsFile: {[]string{"events.ndjson"}, "what ran, and when",
		"nothing says what the GPU was doing", "log events, or let `nvload … -o events.ndjson` do it"},
	joulesFile: {[]string{"generation_events.jsonl"}, "events with their energy",
		"no energy per event or phase", "attribute: `nvattrib --trace trace.ndjson --events events.ndjson --baseline baseline.json -o generation_events.jsonl`"},
	idleFile: {[]string{"baseline.json"}, "idle power",
		"energy above idle is not known", "measure idle power: `nvbaseline idle --trace baseline_trace.ndjson -o baseline.json`"},
	idleTraceFile: {[]string{"baseline_trace.ndjson", "baseline_trace.arrow", "baseline_trace.csv"}, "samples of the idle power",
		"the idle power cannot be computed again from its samples", "keep the samples of the baseline: `nvbaseline idle --samples baseline_trace.ndjson …`"},
	soakFile: {[]string{"soak.ndjson"}, "heat soak",
		"clocks and leakage may have moved during the run", "heat the GPU to equilibrium: `nvsoak -o soak.ndjson`"},
	sensorFile: {[]string{"sensor.json"}, "instrument response",
		"whether the power channel follows a load is not known", "test the sensor: `nvload square …`, then `nvbaseline response -o sensor.json`"},
	vramFile: {[]string{"vram.json"}, "memory experiments",
		"fragmentation and the memory limit were not tested", "test memory: `nvload vram torture --result vram.json`, then `nvload vram cliff`"},
}

// name is what a file of this kind is called in words, found or not.
func (k kind) name() string { return contents[k].names[0] }

// Artifact is a file of the run directory as the report found it.
type Artifact struct {
	Path   string `json:"path"`
	Holds  string `json:"holds,omitempty"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Missing is a file that the run directory does not have.
type Missing struct {
	Path string `json:"path"`
	Why  string `json:"why"` // why it matters
	How  string `json:"how"` // how to get it
}

// own are the files that a report writes itself; they are no evidence for it.
var own = []string{"report.md", "report.html", "run_metadata.json"}

// inventory lists the files of dir with their checksums, what each kind is
// called here, and what is missing.
func (r *Run) inventory(dir fs.FS) error {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || slices.Contains(own, e.Name()) {
			continue
		}
		a := Artifact{Path: e.Name()}
		plain := strings.TrimSuffix(strings.TrimSuffix(a.Path, ".zst"), ".gz")
		for _, c := range contents {
			if slices.Contains(c.names, plain) {
				a.Holds = c.holds
			}
		}
		if a.Bytes, a.SHA256, err = checksum(dir, a.Path); err != nil {
			return err
		}
		r.Artifacts = append(r.Artifacts, a)
	}
	for k, c := range contents {
		if r.files[k] = r.find(c.names); r.files[k] == "" {
			r.Missing = append(r.Missing, Missing{kind(k).name(), c.why, c.how})
		}
	}
	return nil
}

// find is the first of names among the artifacts, plain or compressed, and ""
// if there is none.
func (r *Run) find(names []string) string {
	for _, name := range names {
		for _, ending := range []string{"", ".zst", ".gz"} {
			if slices.ContainsFunc(r.Artifacts, func(a Artifact) bool { return a.Path == name+ending }) {
				return name + ending
			}
		}
	}
	return ""
}

func checksum(dir fs.FS, name string) (n int64, sum string, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	n, err = io.Copy(h, f)
	return n, hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
