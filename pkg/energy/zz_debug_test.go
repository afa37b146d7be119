package energy_test

import (
	"fmt"
	"math"
	"os"
	"testing"
)

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	for _, g := range rigs() {
		if os.Getenv("JOULEPIPE_RIG") != "" && g.name != os.Getenv("JOULEPIPE_RIG") {
			continue
		}
		type st struct{ n, in, far, z, z2, ci, err float64 }
		for cls := range 3 {
			by := map[string]*st{}
			for i := range 20 {
				seed := uint64(i*12 + cls)
				s := g.scene(seed, told)
				done, _ := attribute(t, s.opts, s.trace, s.job.events)
				for _, e := range done {
					v := rate(e, s.job.truth[e.ID])
					if math.IsNaN(v.z) {
						continue
					}
					k := size(e)
					if by[k] == nil {
						by[k] = &st{}
					}
					b := by[k]
					b.n++
					b.z += v.z
					b.z2 += v.z * v.z
					b.ci += e.Energy.CI95J.V / 1.96 / v.truth
					b.err += math.Pow(e.Energy.Joules.V/v.truth-1, 2)
					if math.Abs(v.z) < 1.96 {
						b.in++
					}
					if math.Abs(v.z) > 4 {
						b.far++
					}
				}
			}
			for _, k := range append([]string{"idle"}, sizes...) {
				b := by[k]
				if b == nil {
					continue
				}
				fmt.Printf("%-22s tex %d %-9s n %4.0f in %.3f far %.4f mean z %5.2f rms z %5.2f  mean rel sd %.4f rms rel err %.4f\n", g.name, cls, k, b.n, b.in/b.n, b.far/b.n, b.z/b.n, math.Sqrt(b.z2/b.n), b.ci/b.n, math.Sqrt(b.err/b.n))
			}
		}
	}
}
