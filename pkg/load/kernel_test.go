package load

import "testing"

func TestKernelLevels(t *testing.T) {
	t.Parallel()
	for _, name := range Kernels() {
		k := Kernel(name)
		full := k.Level(1)
		if want := (Level{VRAMMB: full.VRAMMB, Context: true, Kernel: k}); k.Level(0) != want || full.VRAMMB <= 0 {
			t.Errorf("%s at 0 is %+v: want %+v", name, k.Level(0), want)
		}
		if want := (Level{full.Compute / 2, full.Memory / 2, full.VRAMMB, true, k, 0.5}); k.Level(0.5) != want {
			t.Errorf("%s at one half is %+v: want %+v", name, k.Level(0.5), want)
		}
		if max(full.Compute, full.Memory) != 1 || (full.Memory == 1) != (k == Memory) {
			t.Errorf("%s at 1 is %+v", name, full)
		}
	}
}
