package main

import (
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/report"

	ucli "github.com/urfave/cli/v2"
)

// keys are the flags' places in the configuration file. Those under poller,
// tests and safety that TR122's file has are its own.
var keys = map[string]string{
	"period":            "poller.target_period_ms",
	"gap":               "poller.gap_dt_threshold_s",
	"gappy-fraction":    "poller.gappy_gap_fraction_threshold",
	"max-gap":           "poller.max_gap_s",
	"max-gap-fraction":  "poller.max_gap_fraction",
	"grid-tolerance":    "poller.grid_tolerance",
	"max-floor":         "poller.max_floor_fraction",
	"baseline-min":      "baseline.min_duration_s",
	"short-event":       "report.short_event_ms",
	"long-event":        "report.long_event_s",
	"compare-min":       "report.compare_min_s",
	"counter-tolerance": "report.counter_tolerance",
	"soak-window":       "tests.heat_soak.rolling_window_min",
	"soak-slope":        "tests.heat_soak.equilibrium_slope",
	"max-temp":          "safety.max_temp_c",
}

// thresholdFlags are the limits that a run is judged by.
func thresholdFlags() []ucli.Flag {
	d := report.Default()
	duration := func(name string, value time.Duration, usage string) ucli.Flag {
		return &ucli.DurationFlag{Name: name, Value: value, Usage: usage}
	}
	number := func(name string, value float64, usage string) ucli.Flag {
		return &ucli.Float64Flag{Name: name, Value: value, Usage: usage}
	}
	return []ucli.Flag{
		duration("period", d.Period, "expect a sample every `TIME` where the trace does not say"),
		number("grid-tolerance", d.GridTolerance, "allow the median spacing to be off by this `SHARE` of the period"),
		duration("gap", d.GapDt, "call longer spacings of samples than `TIME` gaps"),
		duration("max-gap", d.MaxGap, "call a trace degraded by one gap longer than `TIME`"),
		number("max-gap-fraction", d.MaxGapFraction, "allow gaps and dropped ticks this `SHARE` of the trace"),
		number("gappy-fraction", d.GappyFraction, "allow a good event this `SHARE` of its time in gaps"),
		number("max-floor", d.MaxFloorFraction, "allow readings below 5 W this `SHARE` of the trace"),
		duration("baseline-min", d.BaselineMin, "want an idle measurement of at least `TIME`"),
		duration("short-event", d.ShortEvent, "want no event below `TIME` to be good by tr122"),
		duration("long-event", d.LongEvent, "want every event from `TIME` on to be billable"),
		duration("compare-min", d.CompareMin, "compare channels on events of at least `TIME`"),
		number("counter-tolerance", d.CounterTolerance, "allow integrated power to be off the energy counter by this `SHARE`"),
		duration("soak-window", d.SoakWindow, "want equilibrium over at least `TIME`"),
		number("soak-slope", d.SoakSlope, "want a slope of temperature below this `RATE`, in °C/min"),
		number("max-temp", d.MaxTempC, "want the GPU to stay below this `TEMPERATURE`, in °C"),
	}
}

// thresholds are the limits as the flags have them.
func thresholds(c *cli.Context) (report.Thresholds, error) {
	t := report.Default()
	for name, to := range map[string]*time.Duration{
		"period": &t.Period, "gap": &t.GapDt, "max-gap": &t.MaxGap, "baseline-min": &t.BaselineMin, "short-event": &t.ShortEvent,
		"long-event": &t.LongEvent, "compare-min": &t.CompareMin, "soak-window": &t.SoakWindow,
	} {
		if *to = c.Duration(name); *to <= 0 {
			return t, c.Usagef("--%s %v: want more than 0", name, *to)
		}
	}
	for name, to := range map[string]*float64{
		"grid-tolerance": &t.GridTolerance, "max-gap-fraction": &t.MaxGapFraction, "gappy-fraction": &t.GappyFraction, "max-floor": &t.MaxFloorFraction,
		"counter-tolerance": &t.CounterTolerance, "soak-slope": &t.SoakSlope, "max-temp": &t.MaxTempC,
	} {
		if *to = c.Float64(name); !(*to > 0) {
			return t, c.Usagef("--%s %v: want more than 0", name, *to)
		}
	}
	return t, nil
}
