package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every fault of docs/faults.md names tests, and they exist.
func TestFaultsAreTested(t *testing.T) {
	t.Parallel()
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs/faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]map[string]bool{} // directory → names
	named := regexp.MustCompile("`([a-z/]+)\\.(Test\\w+)`")
	script := regexp.MustCompile("`(\\w+)/(\\w+\\.txtar)`")
	faults := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.HasPrefix(line, "|---") || strings.TrimSpace(cells[1]) == "fault" {
			continue
		}
		faults++
		proofs := 0
		for _, m := range named.FindAllStringSubmatch(cells[4], -1) {
			proofs++
			if tests[m[1]] == nil {
				tests[m[1]] = testsIn(t, filepath.Join(root, m[1]))
			}
			if !tests[m[1]][m[2]] {
				t.Errorf("%s has no %s, which proves: %s", m[1], m[2], cells[1])
			}
		}
		for _, m := range script.FindAllStringSubmatch(cells[4], -1) {
			proofs++
			if _, err := os.Stat(filepath.Join(root, "cmd", m[1], "testdata/script", m[2])); err != nil {
				t.Errorf("%v, which proves: %s", err, cells[1])
			}
		}
		if proofs == 0 || proofs != strings.Count(cells[4], "`")/2 {
			t.Errorf("%d tests could be made out for:%s", proofs, cells[1])
		}
	}
	if faults < 20 {
		t.Errorf("only %d faults in the table", faults)
	}
}

// testsIn are the names of a directory's tests, whatever its build tags.
func testsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s (%v)", dir, err)
	}
	names := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	return names
}
