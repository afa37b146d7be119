package stream

import (
	"strings"
	"testing"

	"joulepipe/pkg/record"
)

// TestShape reads lines after one whose shape they have, or nearly, and finds in
// each what is found in it alone.
func TestShape(t *testing.T) {
	t.Parallel()
	const first = `{"t_ns": 1, "power_w": 2.5, "error": "none" }`
	for _, tt := range []struct {
		name, line string
		shaped     bool
	}{
		{"itself", first, true},
		{"other values", `{"t_ns": 12345678901, "power_w": -0.125, "error": "" }`, true},
		{"no value", `{"t_ns": 2, "power_w": null, "error": "none" }`, false},
		{"no number", `{"t_ns": 2, "power_w": NaN, "error": "none" }`, false},
		{"exponent", `{"t_ns": 2, "power_w": 3e2, "error": "none" }`, false},
		{"fraction", `{"t_ns": 2.0, "power_w": 3, "error": "none" }`, false},
		{"escape", `{"t_ns": 2, "power_w": 3, "error": "\u0041" }`, false},
		{"string that looks like a field", `{"t_ns": 2, "power_w": 3, "error": "x\", \"y" }`, false},
		{"one field more", `{"t_ns": 2, "power_w": 3, "error": "none", "gpu": 1 }`, false},
		{"one field less", `{"t_ns": 2, "power_w": 3 }`, false},
		{"another order", `{"power_w": 3, "t_ns": 2, "error": "none" }`, false},
		{"other spaces", `{"t_ns":2,"power_w":3,"error":"none"}`, false},
		{"cut", `{"t_ns": 2, "power_w": 3, "error": "none"`, false},
		{"cut in a number", `{"t_ns": 2, "power_w": 3`, false},
		{"two objects", `{"t_ns": 2, "power_w": 3, "error": "none" }{}`, false},
		{"another kind", `{"record": "power", "t_ns": 2, "power_w": 3 }`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			forms := newForms()
			d := &ndjsonReader{objects: objects{forms: forms, last: forms.of[record.KindSample]}, lines: newLines(strings.NewReader(first + "\n"))}
			if _, err := d.next(); err != nil {
				t.Fatal(err)
			}
			if _, ok := d.shape.read(forms, []byte(tt.line)); ok != tt.shaped {
				t.Errorf("of the shape: %v", ok)
			}
			alone := read(t, tt.line+"\n")
			if bad, ok := alone[0].(*record.SyntaxError); ok {
				bad.Line++ // it stands behind the first now
			}
			compare(t, read(t, first+"\n"+tt.line+"\n")[1:], alone)
		})
	}
}
