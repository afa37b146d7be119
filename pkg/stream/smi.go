package stream

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// smiColumns are the columns of nvidia-smi --format=csv, without their units, and
// the names that they have here. Those that are not here are passed over.
var smiColumns = map[string]string{
	"timestamp":                      "t_ns",
	"index":                          "gpu",
	"power.draw":                     "power_w",
	"power.draw.average":             "power_average_w",
	"power.draw.instant":             "power_instant_w",
	"temperature.gpu":                "temp_c",
	"temperature.memory":             "mem_temp_c",
	"clocks.current.sm":              "sm_clock_mhz",
	"clocks.sm":                      "sm_clock_mhz",
	"clocks.current.memory":          "mem_clock_mhz",
	"clocks.mem":                     "mem_clock_mhz",
	"utilization.gpu":                "util_gpu",
	"utilization.memory":             "util_mem",
	"memory.used":                    "vram_used_mb",
	"pstate":                         "pstate",
	"clocks_throttle_reasons.active": "throttle_reasons",
	"clocks_event_reasons.active":    "throttle_reasons",
}

// smiUnits are what may stand behind a number of nvidia-smi's, so that it is in
// the unit of the column here.
var smiUnits = []string{"W", "MiB", "MHz", "%", "C"}

// fromSMI are the names for the columns of nvidia-smi's CSV; ok is false for any
// other table.
func fromSMI(names []string) (own []string, ok bool) {
	seen := map[string]bool{}
	for _, name := range names {
		name, _, _ = strings.Cut(name, "[")
		to := smiColumns[strings.TrimSpace(name)]
		if seen[to] {
			to = "" // asked for twice, or under both of its names
		}
		seen[to] = true
		own = append(own, to)
	}
	return own, seen["t_ns"] && (seen["power_w"] || seen["power_average_w"] || seen["power_instant_w"])
}

// smiTime is how nvidia-smi writes times: on the wall clock of its place, which
// it does not name. They are read as if it were UTC.
const smiTime = "2006/01/02 15:04:05.999"

// plainSMI makes of nvidia-smi's cells what the reader of plain CSV reads.
func plainSMI(names []string, cells [][]byte) (at int, bad *fault) {
	for i, cell := range cells {
		cell = bytes.TrimSpace(cell)
		switch name := names[i]; {
		case name == "":
		case bytes.HasPrefix(cell, []byte("[")) || bytes.EqualFold(cell, []byte("N/A")):
			cell = nil // [N/A], [Not Supported], [Unknown Error]
		case name == "t_ns":
			t, err := time.Parse(smiTime, string(cell))
			if err != nil {
				return i, &fault{msg: "not a time of nvidia-smi's: " + strconv.Quote(string(clip(cell))), hint: "as 2026/01/31 23:59:59.123"}
			}
			cell = strconv.AppendInt(nil, t.UnixNano(), 10)
		case name == "pstate":
			cell = bytes.TrimPrefix(cell, []byte("P"))
		case name == "throttle_reasons":
			if bits, err := strconv.ParseUint(string(cell), 0, 64); err == nil {
				cell = strconv.AppendUint(nil, bits, 10)
			}
		default:
			for _, unit := range smiUnits {
				if number, ok := bytes.CutSuffix(cell, []byte(" "+unit)); ok {
					cell = bytes.TrimSpace(number)
					break
				}
			}
		}
		cells[i] = cell
	}
	return 0, nil
}
