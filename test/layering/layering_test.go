// Package layering holds the architecture: who imports whom, and what each
// package may touch. docs/architecture.md is the picture.
package layering

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// doors are the packages of the project that a package may import, besides
// record, which all may. A package that is not here may not exist.
var doors = map[string][]string{
	"pkg/record":                   {},
	"pkg/chart":                    {},
	"pkg/clock":                    {},
	"pkg/stats":                    {},
	"pkg/sched":                    {"pkg/clock"},
	"pkg/stream":                   {},
	"pkg/gpu":                      {},
	"pkg/gpu/nvml":                 {"pkg/clock", "pkg/gpu"},
	"pkg/gpu/sim":                  {"pkg/clock", "pkg/gpu"},
	"pkg/gpu/replay":               {"pkg/clock", "pkg/gpu", "pkg/stream"},
	"pkg/poll":                     {"pkg/clock", "pkg/gpu", "pkg/sched"},
	"pkg/cuda":                     {"pkg/gpu"},
	"pkg/cuda/cudatest":            {},
	"pkg/cuda/kernels":             {},
	"pkg/cuda/kernels/kernelstest": {"pkg/cuda/kernels"},
	"pkg/cuda/wave":                {"pkg/clock", "pkg/cuda", "pkg/cuda/kernels", "pkg/load"},
	"pkg/transformer":              {"pkg/cuda", "pkg/cuda/kernels"},
	"pkg/load":                     {"pkg/clock", "pkg/gpu", "pkg/gpu/sim", "pkg/transformer"},
	"pkg/vram":                     {"pkg/clock"},
	"pkg/baseline":                 {"pkg/stats", "pkg/stream"},
	"pkg/energy":                   {"pkg/sensor", "pkg/stats", "pkg/stream"},
	"pkg/thermal":                  {"pkg/stats", "pkg/stream"},
	"pkg/sensor":                   {"pkg/stats", "pkg/stream"},
	"pkg/report":                   {"pkg/baseline", "pkg/chart", "pkg/energy", "pkg/gpu", "pkg/poll", "pkg/sensor", "pkg/stats", "pkg/stream", "pkg/vram"},
	"pkg/compare":                  {"pkg/energy", "pkg/report", "pkg/stats", "pkg/vram"},
	"pkg/recording":                {"pkg/energy", "pkg/sensor", "pkg/stats", "pkg/stream"},
	"pkg/cli":                      {"pkg/clock", "pkg/gpu", "pkg/stream"},
	"pkg/cli/clitest":              {},
	"pkg/gpu/nvml/nvmltest":        {},
	"pkg/report/reporttest":        {"pkg/stream"},
	"cmd/nvpoll":                   {"pkg/cli", "pkg/clock", "pkg/gpu", "pkg/gpu/nvml", "pkg/gpu/replay", "pkg/gpu/sim", "pkg/poll", "pkg/stream"},
	"cmd/nvload":                   {"pkg/cli", "pkg/clock", "pkg/cuda", "pkg/cuda/kernels", "pkg/cuda/wave", "pkg/gpu", "pkg/gpu/nvml", "pkg/gpu/sim", "pkg/load", "pkg/stream", "pkg/transformer", "pkg/vram"},
	"cmd/nvbaseline":               {"pkg/baseline", "pkg/cli", "pkg/sensor", "pkg/stream"},
	"cmd/nvattrib":                 {"pkg/baseline", "pkg/cli", "pkg/energy", "pkg/sensor", "pkg/stream"},
	"cmd/nvsoak":                   {"pkg/cli", "pkg/clock", "pkg/thermal", "pkg/stream"},
	"cmd/nvreport":                 {"pkg/cli", "pkg/compare", "pkg/energy", "pkg/recording", "pkg/report", "pkg/stream"},
}

// foreign are the modules that only these packages import.
var foreign = map[string][]string{
	"github.com/NVIDIA/go-nvml":       {"pkg/gpu/nvml"},
	"github.com/apache/arrow":         {"pkg/stream"},
	"github.com/klauspost/compress":   {"pkg/stream"},
	"gonum.org/v1/gonum":              {"pkg/stats"},
	"go.yaml.in/yaml":                 {"pkg/cli"},
	"golang.org/x/sys":                {"pkg/clock"},
	"golang.org/x/term":               {"pkg/cli"},
	"github.com/cpuguy83/go-md2man":   {"pkg/cli"},
	"github.com/rogpeppe/go-internal": {"pkg/cli/clitest"},
	"github.com/ebitengine/purego":    {"pkg/cuda"},
	"github.com/tmaxmax/go-sse":       {"pkg/load"},

	// In tests alone, which are not looked at here.
	"github.com/santhosh-tekuri/jsonschema": {},
	"github.com/urfave/cli":                 {"pkg/cli", "cmd/nvpoll", "cmd/nvload", "cmd/nvbaseline", "cmd/nvattrib", "cmd/nvsoak", "cmd/nvreport"},
}

// edges are names that only binaries and pkg/cli use: what is below takes its
// streams, its settings and its clock as arguments.
var edges = []string{"os.Args", "os.Stdin", "os.Stdout", "os.Stderr", "os.Exit", "os.Getenv", "os.LookupEnv", "os.Environ", "os.Setenv", "log.Printf", "log.Print", "log.Println", "log.Fatal", "log.Fatalf", "slog.Default", "slog.Info", "slog.Warn", "slog.Error"}

type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json", "./cmd/...", "./pkg/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}

func TestLayers(t *testing.T) {
	for _, p := range list(t) {
		for _, violation := range judge(p) {
			t.Error(violation)
		}
	}
}

// judge says what is wrong with a package's imports.
func judge(p listed) (wrong []string) {
	name := strings.TrimPrefix(p.ImportPath, "joulepipe/")
	allowed, known := doors[name]
	if !known {
		return []string{name + " is not in the picture"}
	}
	if slices.Contains([]string{"util", "common", "helpers", "types"}, filepath.Base(name)) {
		wrong = append(wrong, name+": not a noun of the field")
	}
	for _, imp := range p.Imports {
		if own, ok := strings.CutPrefix(imp, "joulepipe/"); ok {
			if own != "pkg/record" && !slices.Contains(allowed, own) {
				wrong = append(wrong, name+" imports "+own)
			}
			continue
		}
		for module, may := range foreign {
			if (imp == module || strings.HasPrefix(imp, module+"/")) && !slices.Contains(may, name) {
				wrong = append(wrong, name+" imports "+imp)
			}
		}
		if first, _, _ := strings.Cut(imp, "/"); strings.Contains(first, ".") && !slices.ContainsFunc(keys(foreign), func(m string) bool { return strings.HasPrefix(imp, m+"/") || imp == m }) {
			wrong = append(wrong, name+" imports "+imp+", which nobody may")
		}
		if imp == "C" && name != "pkg/gpu/nvml" {
			wrong = append(wrong, name+" uses cgo")
		}
	}
	return wrong
}

func keys(m map[string][]string) (k []string) {
	for name := range m {
		k = append(k, name)
	}
	return k
}

func TestJudge(t *testing.T) {
	for _, p := range []listed{
		{ImportPath: "joulepipe/pkg/util"},
		{ImportPath: "joulepipe/pkg/energy", Imports: []string{"joulepipe/pkg/cli"}},
		{ImportPath: "joulepipe/pkg/energy", Imports: []string{"github.com/apache/arrow/go/v15/arrow"}},
		{ImportPath: "joulepipe/pkg/stream", Imports: []string{"github.com/else/where"}},
		{ImportPath: "joulepipe/pkg/clock", Imports: []string{"C"}},
		{ImportPath: "joulepipe/cmd/nvpoll", Imports: []string{"joulepipe/cmd/nvload"}},
	} {
		if len(judge(p)) == 0 {
			t.Errorf("%+v passes", p)
		}
	}
	if wrong := judge(listed{ImportPath: "joulepipe/pkg/sched", Imports: []string{"fmt", "joulepipe/pkg/clock", "joulepipe/pkg/record"}}); len(wrong) > 0 {
		t.Error(wrong)
	}
}

func TestEdges(t *testing.T) {
	files := 0
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, "joulepipe/")
		if strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "pkg/cli") || strings.HasSuffix(name, "test") {
			continue
		}
		for _, f := range slices.Concat(p.GoFiles, p.CgoFiles) {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files++
			for _, use := range touched(file) {
				t.Errorf("%s/%s uses %s", name, f, use)
			}
		}
	}
	if files < 50 {
		t.Errorf("only %d files read", files)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nimport system \"os\"\nfunc f() { system.Exit(1) }", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := touched(file); !slices.Equal(got, []string{"os.Exit"}) {
		t.Errorf("the check sees %v", got)
	}
}

// touched are the edges that a file uses, under whatever name it imports them.
func touched(file *ast.File) (found []string) {
	names := map[string]string{}
	for _, imp := range file.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		name := path[strings.LastIndexByte(path, '/')+1:]
		if imp.Name != nil {
			names[imp.Name.Name] = name
		} else {
			names[name] = name
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok {
				if use := names[x.Name] + "." + sel.Sel.Name; slices.Contains(edges, use) {
					found = append(found, use)
				}
			}
		}
		return true
	})
	return found
}

// TestRaceDetector has every package that starts goroutines among those that make
// race tests under the race detector.
func TestRaceDetector(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(makefile), "CONCURRENT := ")
	line, _, _ := strings.Cut(strings.ReplaceAll(after, "\\\n", " "), "\n")
	tested := strings.Fields(line)
	if len(tested) < 10 {
		t.Fatalf("CONCURRENT is %q", tested)
	}
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, "joulepipe/")
		if at := goroutine(t, p); at != "" && !slices.Contains(tested, name) {
			t.Errorf("%s starts a goroutine, and is not in the Makefile's CONCURRENT", at)
		}
	}
	if name := "pkg/poll"; !slices.ContainsFunc(list(t), func(p listed) bool { return strings.HasSuffix(p.ImportPath, name) && goroutine(t, p) != "" }) {
		t.Errorf("no goroutine is seen in %s", name)
	}
}

// goroutine is where a package starts one, by a go statement or a method Go.
func goroutine(t *testing.T, p listed) (at string) {
	t.Helper()
	set := token.NewFileSet()
	for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
		f, err := parser.ParseFile(set, filepath.Join(p.Dir, file), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				at = set.Position(n.Pos()).String()
			case *ast.CallExpr:
				if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Go" {
					at = set.Position(n.Pos()).String()
				}
			}
			return true
		})
	}
	return at
}
