package report

import "time"

// Thresholds are the limits that checks judge by. Default has TR122's; the
// struct exists so that it can grow.
type Thresholds struct {
	Period            time.Duration // target spacing of samples where the trace does not say
	GridTolerance     float64       // how far the median spacing may be from the target, as a fraction of it
	GapDt             time.Duration // a longer spacing is a gap
	MaxGap            time.Duration // a longer spacing degrades the trace
	MaxGapFraction    float64       // share of a trace that gaps may take
	GappyFraction     float64       // share of an event in gaps above which it cannot be good
	MaxFloorFraction  float64       // share of readings below record.FloorW that may be left in a trace
	BaselineMin       time.Duration // shortest idle measurement to subtract
	ShortEvent        time.Duration // an event below this cannot be good by TR122's arithmetic
	LongEvent         time.Duration // an event from this on is expected to be billable
	CompareMin        time.Duration // shortest event that channels are compared on
	CounterTolerance  float64       // how far an integral of power may be from the energy counter, as a fraction
	Integration       float64       // how far an event's joules may be from its channel's power over its time, as a fraction
	BillableReadings  int64         // a billable event has more readings
	BillableGaps      float64       // and less than this share of its time in gaps
	MaxLateness       float64       // how late 95 % of the samples may be at most, as a fraction of the period
	MaxIdleUtil       float64       // use of the GPU, p95 in %, above which it was not idle
	SubtractTolerance float64       // how far operational joules may be from energy − idle·T, as a fraction
	IdleTolerance     float64       // how far the baseline's mean may be from that of its samples, as a fraction
	SoakWindow        time.Duration // window that equilibrium is judged on
	SoakSlope         float64       // °C/min below which a window is in equilibrium
	MaxTempC          float64       // temperature that trips the run, °C
}

// Default are TR122's thresholds, and ours where it has none.
func Default() Thresholds {
	return Thresholds{
		Period:            100 * time.Millisecond,
		GridTolerance:     0.01,
		GapDt:             250 * time.Millisecond,
		MaxGap:            500 * time.Millisecond,
		MaxGapFraction:    0.01,
		GappyFraction:     0.10,
		MaxFloorFraction:  0.01,
		BaselineMin:       120 * time.Second,
		ShortEvent:        200 * time.Millisecond,
		LongEvent:         time.Second,
		CompareMin:        3 * time.Second,
		CounterTolerance:  0.03,
		Integration:       0.02,
		BillableReadings:  8,
		BillableGaps:      0.05,
		MaxLateness:       0.1,
		MaxIdleUtil:       10,
		SubtractTolerance: 1e-6,
		IdleTolerance:     1e-4,
		SoakWindow:        5 * time.Minute,
		SoakSlope:         0.5,
		MaxTempC:          83,
	}
}

// Named are the thresholds as a configuration file has them under checks.
func (t Thresholds) Named() map[string]float64 {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return map[string]float64{
		"period_ms":             ms(t.Period),
		"grid_tolerance":        t.GridTolerance,
		"gap_s":                 t.GapDt.Seconds(),
		"max_gap_s":             t.MaxGap.Seconds(),
		"max_gap_fraction":      t.MaxGapFraction,
		"gappy_fraction":        t.GappyFraction,
		"max_lateness":          t.MaxLateness,
		"max_floor":             t.MaxFloorFraction,
		"baseline_min_s":        t.BaselineMin.Seconds(),
		"max_idle_util":         t.MaxIdleUtil,
		"idle_tolerance":        t.IdleTolerance,
		"short_event_ms":        ms(t.ShortEvent),
		"long_event_s":          t.LongEvent.Seconds(),
		"billable_readings":     float64(t.BillableReadings),
		"billable_gaps":         t.BillableGaps,
		"subtract_tolerance":    t.SubtractTolerance,
		"integration_tolerance": t.Integration,
		"compare_min_s":         t.CompareMin.Seconds(),
		"counter_tolerance":     t.CounterTolerance,
		"soak_window_min":       t.SoakWindow.Minutes(),
		"soak_slope":            t.SoakSlope,
		"max_temp":              t.MaxTempC,
	}
}
