package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"joulepipe/pkg/cli/clitest"
)

func TestMain(m *testing.M) {
	clitest.Main(m, map[string]func(){"nvsoak": main, "heating": heating, "feed": feed})
}

func TestScript(t *testing.T) { clitest.Run(t) }

// heating writes a trace of a GPU that heats up, in whole degrees, 10 samples a
// second: heating FILE SECONDS START END TAU [GPU].
func heating() {
	f, err := os.Create(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer f.Close()
	var v [4]float64
	for i := range v {
		v[i], _ = strconv.ParseFloat(os.Args[i+2], 64)
	}
	gpu := "0"
	if len(os.Args) > 6 {
		gpu = os.Args[6]
	}
	fmt.Fprintln(f, `{"record":"header","schema":"joulepipe/1","tool":"test","run_id":"r1","boot_id":"b1","t_ns":1000000000,"unix_ns":1700000000000000000}`)
	n := int(v[0] * 10)
	for k := range n {
		t := float64(k) / 10
		fmt.Fprintf(f, `{"record":"sample","t_ns":%d,"gpu":%s,"temp_c":%g,"read_ok":true}`+"\n", int64(k+10)*1e8, gpu, math.Round(v[2]-(v[2]-v[1])*math.Exp(-t/v[3])))
	}
	fmt.Fprintf(f, `{"record":"end","records":%d}`+"\n", n)
}

// feed is the GPU of a load that writes to the file "beat" as long as it runs:
// feed WORD…, where a word is a temperature to show, 100 ms of the trace's time
// a sample, and what to wait for: "50:runs", "84:rests", or "60:ever". "silent"
// shows nothing until the load rests.
func feed() {
	ns := int64(1e9)
	sample := func(celsius string) {
		ns += 1e8
		fmt.Printf(`{"record":"sample","t_ns":%d,"gpu":0,"temp_c":%s,"read_ok":true}`+"\n", ns, celsius)
	}
	size, grown := int64(0), time.Now()
	beats := func() bool {
		if info, err := os.Stat("beat"); err == nil && info.Size() > size {
			size, grown = info.Size(), time.Now()
			return true
		}
		return false
	}
	fmt.Println(`{"record":"header","schema":"joulepipe/1","tool":"test","t_ns":1,"unix_ns":0}`)
	for _, word := range os.Args[1:] {
		beats()
		grown = time.Now()
		for runs := false; ; time.Sleep(2 * time.Millisecond) {
			runs = beats()
			rests := time.Since(grown) > 500*time.Millisecond
			if word == "silent" {
				if rests {
					break
				}
				continue
			}
			celsius, until := word[:2], word[3:]
			sample(celsius)
			if until == "runs" && runs || until == "rests" && rests {
				break
			}
			if time.Since(grown) > 20*time.Second {
				fmt.Fprintf(os.Stderr, "feed: gave up at %s\n", word)
				os.Exit(1)
			}
		}
	}
	fmt.Println(`{"record":"end","records":1}`)
}

// The tool needs no cgo anywhere.
func TestBuildsWithoutCgo(t *testing.T) { clitest.BuildsWithoutCgo(t) }
