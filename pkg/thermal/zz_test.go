package thermal_test

import (
	"fmt"
	"os"
)

var dbg = os.Getenv("DBG") != ""

func debug(seed uint64, r run, t float64, lo, at, hi, goal float64, fit bool) {
	if dbg {
		k := "fallback"
		if fit {
			k = "fit"
		}
		ok := "held"
		if !(lo <= goal && goal <= hi) {
			ok = "MISS"
		}
		fmt.Printf("D %s %s seed %d t %.0f [%.2f %.2f %.2f] goal %.2f now %.2f tau %.0f rise %.0f since %.0f slow %.3f/%.0f air %v\n", k, ok, seed, t, lo, at, hi, goal, r.at(t), r.tau, r.end-r.start, r.since(t), r.slow, r.slowTau, r.air != nil)
	}
}
