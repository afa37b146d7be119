package main

import (
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/report"

	ucli "github.com/urfave/cli/v2"
)

// keys are the flags' places in the configuration file: all of them in a part
// of their own, checks, and those that TR122's file has in its places as well.
var keys = map[string]string{
	"period":                "checks.period_ms|poller.target_period_ms",
	"grid-tolerance":        "checks.grid_tolerance|poller.grid_tolerance",
	"gap":                   "checks.gap_s|poller.gap_dt_threshold_s",
	"max-gap":               "checks.max_gap_s|poller.max_gap_s",
	"max-gap-fraction":      "checks.max_gap_fraction|poller.max_gap_fraction",
	"gappy-fraction":        "checks.gappy_fraction|poller.gappy_gap_fraction_threshold",
	"max-lateness":          "checks.max_lateness",
	"max-floor":             "checks.max_floor|poller.max_floor_fraction",
	"baseline-min":          "checks.baseline_min_s|baseline.min_duration_s",
	"max-idle-util":         "checks.max_idle_util",
	"idle-tolerance":        "checks.idle_tolerance",
	"short-event":           "checks.short_event_ms|report.short_event_ms",
	"long-event":            "checks.long_event_s|report.long_event_s",
	"billable-readings":     "checks.billable_readings",
	"billable-gaps":         "checks.billable_gaps",
	"subtract-tolerance":    "checks.subtract_tolerance",
	"integration-tolerance": "checks.integration_tolerance",
	"compare-min":           "checks.compare_min_s|report.compare_min_s",
	"counter-tolerance":     "checks.counter_tolerance|report.counter_tolerance",
	"soak-window":           "checks.soak_window_min|tests.heat_soak.rolling_window_min",
	"soak-slope":            "checks.soak_slope|tests.heat_soak.equilibrium_slope",
	"max-temp":              "checks.max_temp|safety.max_temp_c",
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
		number("max-lateness", d.MaxLateness, "allow 95 % of the samples to be late by this `SHARE` of the period"),
		number("max-floor", d.MaxFloorFraction, "allow readings below 5 W this `SHARE` of the trace"),
		duration("baseline-min", d.BaselineMin, "want an idle measurement of at least `TIME`"),
		number("max-idle-util", d.MaxIdleUtil, "call a GPU idle whose use, p95, is up to this `PERCENT`"),
		number("idle-tolerance", d.IdleTolerance, "allow the idle power to be off the mean of its samples by this `SHARE`"),
		duration("short-event", d.ShortEvent, "want no event below `TIME` to be good by tr122"),
		duration("long-event", d.LongEvent, "want every event from `TIME` on to be billable"),
		&ucli.Int64Flag{Name: "billable-readings", Value: d.BillableReadings, Usage: "want billable events to have more than `N` readings"},
		number("billable-gaps", d.BillableGaps, "want billable events to have less than this `SHARE` of their time in gaps"),
		number("subtract-tolerance", d.SubtractTolerance, "allow operational joules to be off energy less idle power by this `SHARE`"),
		number("integration-tolerance", d.Integration, "allow an event's joules to be off its channel's power over its time by this `SHARE`"),
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
		"max-lateness": &t.MaxLateness, "max-idle-util": &t.MaxIdleUtil, "idle-tolerance": &t.IdleTolerance, "billable-gaps": &t.BillableGaps,
		"subtract-tolerance": &t.SubtractTolerance, "integration-tolerance": &t.Integration,
		"counter-tolerance": &t.CounterTolerance, "soak-slope": &t.SoakSlope, "max-temp": &t.MaxTempC,
	} {
		if *to = c.Float64(name); !(*to > 0) {
			return t, c.Usagef("--%s %v: want more than 0", name, *to)
		}
	}
	if t.BillableReadings = c.Int64("billable-readings"); t.BillableReadings < 0 {
		return t, c.Usagef("--billable-readings %d: want 0 or more", t.BillableReadings)
	}
	return t, nil
}
