package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/report/reporttest"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/vram"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemas are the documents that docs/schema describes: JSON Schema, draft
// 2020-12, made of the Go types, their comments and what stands in asked.
var schemas = []struct {
	name, title string
	of          any
}{
	{"run_metadata", "run_metadata.json: what nvreport found in a run directory", metadata{}},
	{"check", "nvreport check --json: the verdicts on a run directory", judgement{}},
	{"baseline", "baseline.json: the idle power of a GPU", baseline.Idle{}},
	{"sensor", "sensor.json: what each power channel does to the truth", sensor.Sensors{}},
	{"vram", "vram.json: what was tried of a GPU's memory", vram.Results{}},
}

// asked is what a schema asks of fields beyond their type, by Go type and JSON
// name.
var asked = map[string]map[string]any{
	"report.metadata.schema_version":  {"minimum": 2},
	"report.judgement.schema_version": {"minimum": 2},
	"report.metadata.run_state":       {"enum": []any{"completed", "aborted", "timeout"}},
	"report.metadata.end_reason":      {"enum": []any{"equilibrium", "thermal_trip", "timeout", "interrupted", "no_trace", "trace_cut", "poller_degraded", "end_of_trace"}},
	"report.Check.id":                 {"pattern": "^[a-z0-9-]+$"},
	"report.Check.verdict":            {"enum": []any{"pass", "fail", "not judged"}},
	"report.Check.relation":           {"enum": []any{"<", "<=", ">="}},
	"report.Check.reason":             {"minLength": 1},
	"report.Claim.status":             {"enum": []any{"validated", "degraded", "not judged", "failed"}},
	"report.Artifact.sha256":          {"pattern": "^[0-9a-f]{64}$"},
	"report.Artifact.bytes":           {"minimum": 0},
	"report.Cost.seconds":             {"minimum": 0},
	"record.PollerStats.gap_fraction": {"minimum": 0, "maximum": 1},
	"record.Version.hash":             {"pattern": "^[0-9a-f]*$"},
	"record.Summary.duration_s":       {"minimum": 0},
	"baseline.Idle.fake_idle_reasons": {"type": []any{"array", "string"}},
	"baseline.Idle.state":             {"enum": []any{"no_context", "context", "resident"}},
	"sensor.Channel.class":            {"enum": []any{"instant", "averaged", "exponential", "integrator", "unknown"}},
	"sensor.Channel.coverage":         {"minimum": 0, "maximum": 1},
}

// optionalFields are those that files of other programs and of earlier versions may
// lack, though ours write them.
var optionalFields = map[string]bool{
	"baseline.Idle.gpu": true, "baseline.Idle.fake_idle_flag": true, "baseline.Idle.fake_idle_reasons": true,
}

// schemaOf is the schema of a document, and which of asked it used.
func schemaOf(name, title string, of any, comments map[string]string, used map[string]bool) map[string]any {
	g := generator{defs: map[string]any{}, comments: comments, used: used}
	root := g.of(reflect.TypeOf(of))
	doc := map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:joulepipe:" + name, "title": title}
	if name == "baseline" {
		doc["anyOf"] = []any{root, map[string]any{
			"type": "object", "required": []any{"gpus"},
			"properties": map[string]any{"gpus": map[string]any{"type": "array", "minItems": 1, "items": root}},
		}}
	} else {
		maps.Copy(doc, root)
	}
	doc["$defs"] = g.defs
	return doc
}

type generator struct {
	defs     map[string]any
	comments map[string]string
	used     map[string]bool
}

// of is the schema of a type; structs are references to definitions.
func (g *generator) of(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Opt[") {
		return g.of(t.Field(0).Type)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.of(t.Elem())}
	case reflect.Interface:
		return map[string]any{}
	case reflect.Struct:
		name := strings.ReplaceAll(t.String(), "*", "")
		if _, ok := g.defs[name]; !ok {
			g.defs[name] = nil // it may hold itself
			properties, required := map[string]any{}, []any{}
			g.fields(t, name, properties, &required)
			def := map[string]any{"type": "object", "properties": properties}
			if len(required) > 0 {
				def["required"] = required
			}
			g.defs[name] = def
		}
		return map[string]any{"$ref": "#/$defs/" + name}
	}
	panic(fmt.Sprintf("no schema for %v", t))
}

func (g *generator) fields(t reflect.Type, name string, properties map[string]any, required *[]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && key == "" {
			g.fields(f.Type, strings.ReplaceAll(f.Type.String(), "*", ""), properties, required)
			continue
		}
		if key == "-" || !f.IsExported() {
			continue
		}
		s := g.of(f.Type)
		if more, ok := asked[name+"."+key]; ok {
			maps.Copy(s, more)
			g.used[name+"."+key] = true
			if _, several := more["type"].([]any); several {
				delete(s, "items")
			}
		}
		if c := g.comments[name+"."+f.Name]; c != "" {
			s["description"] = c
		}
		properties[key] = s
		if options == "" && !optionalFields[name+"."+key] {
			*required = append(*required, key)
		}
	}
}

// comments are what stands beside the fields of structs in the source.
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range []string{".", "../record", "../baseline", "../sensor", "../vram"} {
		names, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						text := f.Comment.Text()
						if text == "" {
							text = f.Doc.Text()
						}
						for _, id := range f.Names {
							all[file.Name.Name+"."+spec.Name.Name+"."+id.Name] = strings.Join(strings.Fields(text), " ")
						}
					}
				}
				return false
			})
		}
	}
	return all
}

// The schemas in docs/schema are those of the types.
func TestSchemasAreOfTheTypes(t *testing.T) {
	t.Parallel()
	said, used := comments(t), map[string]bool{}
	for _, k := range schemas {
		file := "../../docs/schema/" + k.name + ".schema.json"
		var b bytes.Buffer
		if err := encode(&b, schemaOf(k.name, k.title, k.of, said, used)); err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s is not of the types; go test -update writes it anew", file)
		}
	}
	for field := range asked {
		if !used[field] {
			t.Errorf("%s is in no schema", field)
		}
	}
}

// compiled is a schema of docs/schema, in which an object has no field that is
// not listed: a reader may find more in time, a writer may not write more.
func compiled(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("../../docs/schema/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	var close func(v any)
	close = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
				v["additionalProperties"] = false
			}
			for _, inner := range v {
				close(inner)
			}
		case []any:
			for _, inner := range v {
				close(inner)
			}
		}
	}
	close(doc)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func valid(t *testing.T, s *jsonschema.Schema, document []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatalf("%v: %.200s", err, document)
	}
	return s.Validate(v)
}

// study is a run of scripts/physics.sh --quick on the simulated H200.
func study(t *testing.T) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{}
	for _, name := range []string{"trace.ndjson.zst", "events.ndjson.zst", "baseline.json", "baseline_trace.ndjson.zst", "sensor.json",
		"generation_events.jsonl.zst", "soak.ndjson.zst", "vram.json"} {
		b, err := os.ReadFile("../../testdata/study/" + name)
		if err != nil {
			t.Fatal(err)
		}
		dir[name] = &fstest.MapFile{Data: b}
	}
	return dir
}

// What is written of runs of all kinds is as the schemas say.
func TestSchemas(t *testing.T) {
	t.Parallel()
	h200 := fstest.MapFS{}
	for _, name := range []string{"trace.ndjson.zst", "events.ndjson"} {
		b, err := os.ReadFile("../../testdata/h200/" + name)
		if err != nil {
			t.Fatal(err)
		}
		h200[name] = &fstest.MapFile{Data: b}
	}
	broken := reporttest.New()
	broken.Without = []string{"sensor.json", "baseline_trace.ndjson"}
	broken.Cut = true
	broken.Baseline["fake_idle_flag"] = true
	broken.Baseline["fake_idle_reasons"] = "busy"
	broken.Files["soak.ndjson"] = "{{{\n"
	broken.Lose(100, 110)
	nothing := reporttest.New()
	metadataSchema, checkSchema := compiled(t, "run_metadata"), compiled(t, "check")
	for name, dir := range map[string]fs.FS{
		"study": study(t), "h200": h200, "broken": directory(t, broken), "stands": directory(t, reporttest.New()),
		"baseline alone": fstest.MapFS{"baseline.json": directory(t, nothing)["baseline.json"]},
	} {
		r := mustRead(t, dir)
		if err := valid(t, metadataSchema, []byte(metadataOf(t, r))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var b bytes.Buffer
		if err := r.Judgement(&b); err != nil {
			t.Fatal(err)
		}
		if err := valid(t, checkSchema, b.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := study(t)
	for _, name := range []string{"baseline", "sensor", "vram"} {
		s := compiled(t, name)
		if err := valid(t, s, dir[name+".json"].Data); err != nil {
			t.Errorf("%s.json of the study: %v", name, err)
		}
		if err := valid(t, s, []byte(`{"gpus": [{"gpu": "first"}]}`)); err == nil {
			t.Errorf("the schema of %s.json takes anything", name)
		}
	}
	tr122 := `{"idle_watts_mean": 20.7, "idle_watts_std": 9.97, "idle_temp_c": 39.8, "fake_idle_flag": false, "idle_gpu_util_p95": 0,
		"idle_watts_min": 1.2, "idle_watts_max": 26.424, "power_outlier_fraction": 0.0, "clock_varied": false, "fake_idle_reasons": ""}`
	if err := valid(t, compiled(t, "baseline"), []byte(tr122)); err != nil {
		t.Errorf("TR122's baseline.json: %v", err)
	}
}

// A document that is not as the schema says is found out, for each kind of
// fault.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	s := compiled(t, "run_metadata")
	whole := metadataOf(t, mustRead(t, directory(t, reporttest.New())))
	for name, change := range map[string]func(m map[string]any){
		"version 1":        func(m map[string]any) { m["schema_version"] = 1 },
		"no checks":        func(m map[string]any) { delete(m, "checks") },
		"another state":    func(m map[string]any) { m["run_state"] = "done" },
		"another verdict":  func(m map[string]any) { m["checks"].([]any)[0].(map[string]any)["verdict"] = "ok" },
		"check without id": func(m map[string]any) { delete(m["checks"].([]any)[0].(map[string]any), "id") },
		"check of no reason": func(m map[string]any) {
			m["checks"].([]any)[0].(map[string]any)["reason"] = ""
		},
		"unknown field":      func(m map[string]any) { m["surprise"] = true },
		"words for a number": func(m map[string]any) { m["poller"].(map[string]any)["median_dt_ms"] = "fast" },
	} {
		var m map[string]any
		if err := json.Unmarshal([]byte(whole), &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if valid(t, s, b) == nil {
			t.Errorf("%s: not found out", name)
		}
	}
}

// The study in testdata fails where a rehearsal must, and nowhere else.
func TestStudy(t *testing.T) {
	t.Parallel()
	r := mustRead(t, study(t))
	var failed []string
	for _, c := range r.Checks {
		if c.Verdict == Fail {
			failed = append(failed, c.ID)
		}
	}
	// A rehearsal is too short for these two.
	if want := []string{"idle-baseline", "thermal-equilibrium"}; !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
	if !r.Trace.Simulated() || len(r.Problems) > 0 {
		t.Errorf("simulated %v, problems %v", r.Trace.Simulated(), r.Problems)
	}
}
