package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"joulepipe/pkg/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func(){"nvbaseline": main, "idle": idle})
}

func TestScript(t *testing.T) { clitest.Run(t) }

// idle writes a trace of two GPUs, 10 samples a second: idle FILE SECONDS
// UTILISATION. GPU 1 takes 50 W, GPU 0 100 W, and is used so much from half of
// the time on; until then with a minus before it. With a fourth argument the power
// of GPU 0 wanders.
func idle() {
	f, err := os.Create(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer f.Close()
	seconds, _ := strconv.Atoi(os.Args[2])
	util, _ := strconv.Atoi(os.Args[3])
	fmt.Fprintln(f, `{"record":"header","schema":"joulepipe/1","tool":"test","run_id":"r1","boot_id":"b1","t_ns":1000000000,"unix_ns":1700000000000000000,"period_ns":100000000,"gpus":[{"gpu":0,"uuid":"GPU-a"},{"gpu":1,"uuid":"GPU-b"}]}`)
	for k := range seconds * 10 {
		u := 0
		if half := seconds * 5; util > 0 && k >= half || util < 0 && k < half {
			u = max(util, -util)
		}
		ns := int64(k+10) * 1e8
		watts := float64(100+k%2) + 0.5
		if len(os.Args) > 4 {
			watts += 10 * math.Sin(float64(k)/500)
		}
		fmt.Fprintf(f, `{"record":"sample","t_ns":%d,"gpu":0,"power_w":%.4g,"util_gpu":%d,"sm_clock_mhz":345,"vram_used_mb":615,"read_ok":true}`+"\n", ns, watts, u)
		fmt.Fprintf(f, `{"record":"sample","t_ns":%d,"gpu":1,"power_w":50,"util_gpu":0,"sm_clock_mhz":345,"vram_used_mb":17000,"read_ok":true}`+"\n", ns)
	}
	fmt.Fprintf(f, `{"record":"end","records":%d}`+"\n", seconds*20)
}

// The tool needs no cgo anywhere.
func TestBuildsWithoutCgo(t *testing.T) { clitest.BuildsWithoutCgo(t) }
