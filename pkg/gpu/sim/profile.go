package sim

import (
	"fmt"
	"strings"
	"time"

	"joulepipe/pkg/gpu"
)

// profile is a board: what it is, how it draws power and gets warm, and how
// its sensors see that.
type profile struct {
	name    string // as --sim-profile has it
	product string // as NVML names it
	arch    string

	vramMB        float64 // MiB in all
	vramIdleMB    float64 // MiB that the driver holds
	vramContextMB float64 // MiB that a context takes

	// Power. A mode's draw is that at leakRefC; compute and memory add to it.
	modes    [modeCount]mode
	linger   int64         // ms that the board stays awake after load
	computeW float64       // at full clock and use
	memoryW  float64       // at full use
	rise     time.Duration // time constant of a change
	leakWC   float64       // W more for each degree
	leakRefC float64
	limitW   float64
	capW     float64 // what the power limit is held at

	// Heat.
	ambientC  float64
	stillCW   float64 // °C per W with the fan off
	blownCW   float64 // °C per W with the fan on
	heatJC    float64 // J per °C
	fanOnC    float64
	fanOffC   float64
	throttleC float64 // clocks go down from here
	slowdownC float64 // the hardware halves them here
	shutdownC float64

	// Sensors.
	usage      sensor // of nvmlDeviceGetPowerUsage
	instant    sensor // field 186
	average    sensor // field 185
	noise      float64
	driver     bool // the driver keeps power samples
	gpm        bool // units' use can be asked for
	tensor     float64
	rates      rates
	counterLag time.Duration // lag of the energy counter
}

// mode is a state of the board's clocks with what it draws.
type mode struct {
	watts  float64
	pstate int64
	smMHz  float64
	memMHz int64
}

// Modes of a board.
const (
	loaded    = iota // something runs
	lingering        // something ran a moment ago
	resident         // a context exists
	deep             // nothing
	modeCount
)

// sensor is a power reading: every period the mean of a window of the past.
type sensor struct {
	period time.Duration
	window time.Duration
	lag    time.Duration // from the end of the window to the update
	what   int64         // of its noise
}

// rates of what goes wrong by itself.
type rates struct{ readError, stall, floor float64 }

// profiles are the boards, the default first.
//
// The figures of the H200 are those of a recording: 79 W without and 124 W with
// a context, 665 W in fp32 matrix products at first and 690 W in a long bf16
// one, 38 to 61 °C in it within about 20 s.
//
// The laptop's are made so that its readings come out as in TR122 (§4): of mean
// 20.7 W and spread 10 W when idle, which a board of 25.8 W that reads as
// 1.2 W in every fifth update does; 40 °C then, 49 °C at 60 W, and 83 °C at its
// limit.
var profiles = []*profile{
	{
		name: "h200", product: "Simulated NVIDIA H200", arch: "Hopper",
		vramMB: 143771, vramIdleMB: 615, vramContextMB: 529,
		modes: [modeCount]mode{
			loaded:    {124, 0, 1980, 3201},
			lingering: {124, 0, 1980, 3201},
			resident:  {124, 0, 1980, 3201},
			deep:      {80, 0, 345, 3201},
		},
		linger: 2000, computeW: 541, memoryW: 110, rise: 11 * time.Millisecond,
		leakWC: 0.6, leakRefC: 38, limitW: 700, capW: 690,
		ambientC: 32.7, stillCW: 0.0424, blownCW: 0.0424, heatJC: 153, fanOnC: 200, fanOffC: 0,
		throttleC: 87, slowdownC: 89, shutdownC: 95,
		usage:   sensor{100 * time.Millisecond, time.Second, 0, forAverage},
		instant: sensor{100 * time.Millisecond, 20 * time.Millisecond, 0, forInstant},
		average: sensor{100 * time.Millisecond, time.Second, 0, forAverage},
		noise:   0.0127, driver: true, gpm: true, tensor: 0.9,
		rates:      rates{stall: 0.25},
		counterLag: 25 * time.Millisecond,
	},
	{
		name: "rtx4080-laptop", product: "Simulated NVIDIA GeForce RTX 4080 Laptop GPU", arch: "Ada",
		vramMB: 12282, vramIdleMB: 250, vramContextMB: 210,
		modes: [modeCount]mode{
			loaded:    {38, 0, 2280, 9001},
			lingering: {32, 2, 1605, 8751},
			resident:  {27.5, 8, 210, 405},
			deep:      {25.8, 8, 210, 405},
		},
		linger: 20000, computeW: 105, memoryW: 25, rise: 40 * time.Millisecond,
		leakWC: 0.1, leakRefC: 40, limitW: 150, capW: 148,
		ambientC: 25, stillCW: 0.57, blownCW: 0.40, heatJC: 154, fanOnC: 55, fanOffC: 45,
		throttleC: 83, slowdownC: 97, shutdownC: 102,
		usage:      sensor{100 * time.Millisecond, time.Second, 0, forAverage},
		instant:    sensor{100 * time.Millisecond, 112 * time.Millisecond, 0, forInstant},
		average:    sensor{100 * time.Millisecond, time.Second, 0, forAverage},
		noise:      0.01,
		rates:      rates{readError: 1e-4, stall: 0.25, floor: 0.207},
		counterLag: 25 * time.Millisecond,
	},
}

// Profiles are the names of the boards that can be simulated, the default
// first.
func Profiles() []string {
	names := make([]string, len(profiles))
	for i, p := range profiles {
		names[i] = p.name
	}
	return names
}

func findProfile(name string) (*profile, error) {
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
	}
	return nil, &gpu.UnavailableError{
		What: fmt.Sprintf("no board %q to simulate", name),
		Hint: "there are " + strings.Join(Profiles(), " and "),
	}
}
