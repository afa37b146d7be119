package record

import "testing"

func TestWhole(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   Opt[int64]
	}{
		{[]string{"17"}, Some[int64](17)},
		{[]string{" 17.0 "}, Some[int64](17)},
		{[]string{"4e3"}, Some[int64](4000)},
		{[]string{`"17"`, "18"}, Some[int64](18)},
		{[]string{"17.5"}, Opt[int64]{}},
		{[]string{"0"}, Opt[int64]{}},
		{[]string{"-3"}, Opt[int64]{}},
		{[]string{"1e300"}, Opt[int64]{}},
		{[]string{"null"}, Opt[int64]{}},
		{nil, Opt[int64]{}},
	} {
		e := &Event{Extra: []Field{{Name: "other", Value: []byte("1")}}}
		for _, v := range tt.values {
			e.Extra = append(e.Extra, Field{Name: "pid", Value: []byte(v)})
		}
		if got := e.Whole("pid"); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.values, got, tt.want)
		}
	}
}
