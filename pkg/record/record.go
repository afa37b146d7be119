// Package record is the vocabulary of joulepipe: every record that the tools
// write to one another, as Go structs whose field names carry the unit.
//
// A stream is a header, records of any kind, and an end. A value that was not
// read is absent, never 0 and never NaN: see [Opt]. The wire names are the JSON
// tags; package stream has the encodings (NDJSON, Arrow IPC, CSV). This package
// does no I/O.
package record

import "cmp"

// Schema names the version of the record format. It changes only when a reader
// of the old format could no longer make sense of the new one.
const Schema = "joulepipe/1"

// A Record is one of the pointer types of this package: *[Header], *[Sample],
// *[Power], *[Counter], *[GPM], *[Process], *[Event], *[Marker], *[Soak],
// *[Summary], *[Agreement], *[End] or *[SyntaxError]. More kinds may come: skip what you do not know.
type Record interface {
	// Kind is the record's wire name ("sample", "event", …).
	Kind() Kind
	// When is the time that orders the record in a merged stream, in
	// nanoseconds of the monotonic clock. ok is false for records without a
	// time of their own.
	When() (ns int64, ok bool)
}

// Kind is the wire name of a record kind, the value of its "record" field.
type Kind string

// The kinds of record.
const (
	KindHeader    Kind = "header"
	KindSample    Kind = "sample"
	KindPower     Kind = "power"
	KindCounter   Kind = "counter"
	KindGPM       Kind = "gpm"
	KindProcess   Kind = "process"
	KindEvent     Kind = "event"
	KindMarker    Kind = "marker"
	KindSoak      Kind = "soak"
	KindSummary   Kind = "summary"
	KindAgreement Kind = "agreement"
	KindEnd       Kind = "end"
	// KindSyntax is never written: it is how a reader hands on a bad line.
	KindSyntax Kind = "syntax"
)

// Number is what an [Opt] can hold.
type Number interface {
	~int | ~int64 | ~uint64 | ~float64 | ~bool
}

// Opt is a value that may be absent. The zero Opt is absent. On the wire an
// absent value is left out (NDJSON), null (Arrow) or empty (CSV).
type Opt[T Number] struct {
	V  T
	OK bool
}

// Some is a value that is present.
func Some[T Number](v T) Opt[T] { return Opt[T]{v, true} }

// Get is the value and whether there is one.
func (o Opt[T]) Get() (T, bool) { return o.V, o.OK }

// Or is the value, or d where it is absent.
func (o Opt[T]) Or(d T) T {
	if o.OK {
		return o.V
	}
	return d
}

// IsZero says that the value is absent; encoding/json's omitzero asks.
func (o Opt[T]) IsZero() bool { return !o.OK }

// Version says which build wrote a stream.
type Version struct {
	Hash  string `json:"hash,omitempty"` // commit of the build
	Dirty bool   `json:"dirty"`          // built from a changed tree
}

// Header opens a stream: who wrote it, on which machine, with what clock and
// which GPUs. A stream that begins with a Header ends with an [End].
type Header struct {
	Schema   string         `json:"schema"`
	Tool     string         `json:"tool"`
	Version  string         `json:"version,omitempty"`
	RunID    string         `json:"run_id,omitempty"`
	Host     string         `json:"host,omitempty"`
	BootID   string         `json:"boot_id,omitempty"` // the monotonic clock restarts with it
	TimeNS   int64          `json:"t_ns"`              // monotonic, taken together with UnixNS
	UnixNS   int64          `json:"unix_ns"`           // wall clock at TimeNS
	PeriodNS int64          `json:"period_ns,omitempty"`
	GPUs     []GPU          `json:"gpus,omitempty"`
	Config   map[string]any `json:"config,omitempty"` // what was asked for
	Git      *Version       `json:"git,omitempty"`
}

// GPU describes one GPU of a [Header].
type GPU struct {
	Index              int               `json:"gpu"`
	UUID               string            `json:"uuid,omitempty"`
	Name               string            `json:"name,omitempty"`
	Driver             string            `json:"driver,omitempty"`
	CUDA               string            `json:"cuda,omitempty"` // highest CUDA version the driver speaks, "13.0"
	Arch               string            `json:"arch,omitempty"`
	PCI                string            `json:"pci,omitempty"`
	VRAMTotalMB        Opt[float64]      `json:"vram_total_mb,omitzero"` // MiB
	PowerLimitW        Opt[float64]      `json:"power_limit_w,omitzero"`
	PowerLimitDefaultW Opt[float64]      `json:"power_limit_default_w,omitzero"`
	TempSlowdownC      Opt[float64]      `json:"temp_slowdown_c,omitzero"`
	TempShutdownC      Opt[float64]      `json:"temp_shutdown_c,omitzero"`
	MIG                Opt[bool]         `json:"mig,omitzero"`
	Persistence        Opt[bool]         `json:"persistence,omitzero"`
	Channels           map[string]string `json:"channels,omitempty"` // channel → "ok" or the NVML error
}

// Sample is one reading of a GPU on the poller's grid.
type Sample struct {
	TimeNS          int64        `json:"t_ns"` // when the power was read
	GPU             int          `json:"gpu"`
	Tick            Opt[int64]   `json:"tick,omitzero"`             // index on the grid; a missing index is a dropped tick
	PowerW          Opt[float64] `json:"power_w,omitzero"`          // nvmlDeviceGetPowerUsage
	PowerInstantW   Opt[float64] `json:"power_instant_w,omitzero"`  // NVML field 186
	PowerAverageW   Opt[float64] `json:"power_average_w,omitzero"`  // NVML field 185
	TempC           Opt[float64] `json:"temp_c,omitzero"`           // core, degrees Celsius
	MemTempC        Opt[float64] `json:"mem_temp_c,omitzero"`       // memory, NVML field 82
	SMClockMHz      Opt[int64]   `json:"sm_clock_mhz,omitzero"`     //
	MemClockMHz     Opt[int64]   `json:"mem_clock_mhz,omitzero"`    //
	UtilGPU         Opt[int64]   `json:"util_gpu,omitzero"`         // per cent of the time
	UtilMem         Opt[int64]   `json:"util_mem,omitzero"`         // per cent of the time
	VRAMUsedMB      Opt[float64] `json:"vram_used_mb,omitzero"`     // MiB
	ThrottleReasons Opt[uint64]  `json:"throttle_reasons,omitzero"` // nvmlClocksEventReason bits
	PState          Opt[int64]   `json:"pstate,omitzero"`           // 0 is the fastest
	ReadOK          bool         `json:"read_ok"`                   // false: a reading failed, see Error
	Error           string       `json:"error,omitempty"`           // NVML name of what failed
	DtS             Opt[float64] `json:"dt_s,omitzero"`             // seconds since the last sample of this GPU
	LateUS          Opt[float64] `json:"late_us,omitzero"`          // microseconds after the tick's instant
	ReadUS          Opt[float64] `json:"read_us,omitzero"`          // what reading all fields took
}

// Power is one entry of the driver's own power sample buffer
// (nvmlDeviceGetSamples, NVML_TOTAL_POWER_SAMPLES), moved to this clock. The
// entry is the mean of the interval that ends at TimeNS.
type Power struct {
	TimeNS int64   `json:"t_ns"`
	GPU    int     `json:"gpu"`
	PowerW float64 `json:"power_w"`
}

// Counter is one reading of the GPU's energy counter
// (nvmlDeviceGetTotalEnergyConsumption): millijoules since the driver loaded.
// The call lasted from BeforeNS to TimeNS.
type Counter struct {
	BeforeNS     int64      `json:"t_before_ns"`
	TimeNS       int64      `json:"t_ns"`
	GPU          int        `json:"gpu"`
	EnergyMilliJ Opt[int64] `json:"energy_mj,omitzero"` // absent when the read failed
	Error        string     `json:"error,omitempty"`    // NVML name
}

// GPM is the use of the GPU's units between two moments (Hopper and later).
// Utilisations are per cent.
type GPM struct {
	StartNS      int64        `json:"t_start_ns"`
	TimeNS       int64        `json:"t_ns"`
	GPU          int          `json:"gpu"`
	GraphicsUtil Opt[float64] `json:"graphics_util,omitzero"`
	SMUtil       Opt[float64] `json:"sm_util,omitzero"`
	SMOccupancy  Opt[float64] `json:"sm_occupancy,omitzero"`
	TensorUtil   Opt[float64] `json:"tensor_util,omitzero"`
	DRAMBWUtil   Opt[float64] `json:"dram_bw_util,omitzero"`
	PCIeTxMiBs   Opt[float64] `json:"pcie_tx_mib_s,omitzero"`
	PCIeRxMiBs   Opt[float64] `json:"pcie_rx_mib_s,omitzero"`
}

// Process is what one process did on a GPU between two moments, as the driver
// tells (nvmlDeviceGetProcessUtilization). Utilisations are per cent of that
// time with a kernel of it running, or with its memory traffic under way.
//
// A record without a PID and without an Error says that the driver was asked
// and told of no process at work in that time; one with an Error and no PID,
// that it did not answer.
type Process struct {
	StartNS    int64        `json:"t_start_ns"`
	TimeNS     int64        `json:"t_ns"`
	GPU        int          `json:"gpu"`
	PID        Opt[int64]   `json:"pid,omitzero"` // as the driver numbers processes: the host's, in a container
	SMUtil     Opt[float64] `json:"sm_util,omitzero"`
	MemUtil    Opt[float64] `json:"mem_util,omitzero"`
	Name       string       `json:"name,omitempty"`        // as /proc had it
	VRAMUsedMB Opt[float64] `json:"vram_used_mb,omitzero"` // MiB that it holds at TimeNS
	Error      string       `json:"error,omitempty"`       // NVML name
}

// Marker is a named instant in an event stream (start_experiment,
// end_experiment, …).
type Marker struct {
	Name   string  `json:"name"`
	TimeNS int64   `json:"t_ns"`
	Extra  []Field `json:"-"` // further fields, kept in their order
}

// Soak is one verdict of nvsoak: a line per step of the rolling window while
// State is "warming", "stable" or "tripped", and a last one that sums up
// (equilibrium, timeout, thermal_trip or interrupted).
type Soak struct {
	TimeNS          Opt[int64]      `json:"t_ns,omitzero"`
	GPU             int             `json:"gpu"`
	State           string          `json:"state"`
	Final           bool            `json:"final,omitempty"` // the summing-up line
	DurationS       float64         `json:"duration_s"`
	TempC           Opt[float64]    `json:"temp_c,omitzero"`
	TempStartC      Opt[float64]    `json:"temp_start_c,omitzero"`
	TempEndC        Opt[float64]    `json:"temp_end_c,omitzero"`
	TempMaxC        Opt[float64]    `json:"temp_max_c,omitzero"`
	MemTempC        Opt[float64]    `json:"mem_temp_c,omitzero"` // of the memory, where there is a sensor
	MemTempMaxC     Opt[float64]    `json:"mem_temp_max_c,omitzero"`
	WindowS         Opt[float64]    `json:"window_s,omitzero"`
	SlopeCPerMin    Opt[float64]    `json:"slope_c_per_min,omitzero"`
	SlopeCI95       Opt[float64]    `json:"slope_ci95,omitzero"` // half-width, °C/min
	MaxSlopeCPerMin Opt[float64]    `json:"max_slope_c_per_min,omitzero"`
	ThrottleReasons []string        `json:"throttle_reasons,omitempty"`
	Trips           int             `json:"trips"`
	Rule            map[string]bool `json:"rule,omitempty"` // seed, margin, rigorous, settled → did it pass
	PredictedC      Opt[float64]    `json:"predicted_equilibrium_c,omitzero"`
	PredictedLowC   Opt[float64]    `json:"predicted_equilibrium_low_c,omitzero"` // ends of its 95 % interval
	PredictedHighC  Opt[float64]    `json:"predicted_equilibrium_high_c,omitzero"`
	TauS            Opt[float64]    `json:"tau_s,omitzero"`              // time constant of the exponential that suits the readings, seconds
	RemainingC      Opt[float64]    `json:"remaining_rise_c,omitzero"`   // of that exponential, from now
	QuantumC        Opt[float64]    `json:"temp_quantum_c,omitzero"`     // what the readings are rounded to
	Crossings       Opt[int64]      `json:"crossings,omitzero"`          // times that the window's readings reached a further quantum
	CrossingCPerMin Opt[float64]    `json:"crossing_c_per_min,omitzero"` // slope by these times
	CrossingCI95    Opt[float64]    `json:"crossing_ci95,omitzero"`      // half-width, °C/min
	PowerDrift      Opt[float64]    `json:"power_drift,omitzero"`        // over the window, as a share of its mean power
	PowerDriftCI95  Opt[float64]    `json:"power_drift_ci95,omitzero"`   // half-width
	ThrottleSource  string          `json:"throttle_source,omitempty"`   // what ThrottleReasons are from: bits, or the fall of clock or throughput
	PowerCapped     Opt[bool]       `json:"power_capped,omitzero"`       // the power limit held it down
	Overheated      Opt[bool]       `json:"thermal_throttled,omitzero"`  // heat did
	Hysteresis      Opt[float64]    `json:"hysteresis_mhz_c,omitzero"`   // area between the SM clock on the way up and on the way down, MHz·°C
	HysteresisCI95  Opt[float64]    `json:"hysteresis_ci95,omitzero"`    // half-width
	HysteresisC     Opt[float64]    `json:"hysteresis_span_c,omitzero"`  // °C that were passed both ways
	Reason          string          `json:"reason,omitempty"`
	CommandExit     Opt[int64]      `json:"command_exit,omitzero"` // of the load; 128 + n when signal n ended it
}

// Summary is what nvattrib says of all events of one phase, model and batch
// size: of its repetitions. The phase "request" is the events of each
// request_id added up, where the input has no events of that name itself.
// Means are over the events that have energy; intervals are half-widths at
// 95 % and leave the board's absolute gain out unless they say so.
type Summary struct {
	Phase             string         `json:"phase"`
	Model             string         `json:"model,omitempty"`
	BatchSize         Opt[int64]     `json:"batch_size,omitzero"`
	Context           Opt[int64]     `json:"context,omitzero"` // of the events with prompts of so many tokens alone, beside the summary of all
	Over              string         `json:"over,omitempty"`   // "batch_size": over all of them, beside the summaries of each
	Method            string         `json:"method"`
	Events            int            `json:"events"`
	WithEnergy        int            `json:"events_with_energy"`
	DurationS         float64        `json:"duration_s"` // of all events together
	EnergyMeanJ       Opt[float64]   `json:"energy_joules_mean,omitzero"`
	CI95J             Opt[float64]   `json:"ci95_joules,omitzero"`          // of the mean
	AbsoluteCI95J     Opt[float64]   `json:"ci95_absolute_joules,omitzero"` // of the mean, with the gain's uncertainty
	EnergyStdJ        Opt[float64]   `json:"energy_joules_std,omitzero"`    // from one repetition to the next
	EnergyTotalJ      Opt[float64]   `json:"energy_joules_total,omitzero"`
	Precision         Opt[float64]   `json:"precision,omitzero"`          // CI95J as a share of the mean
	TargetPrecision   Opt[float64]   `json:"target_precision,omitzero"`   // what was asked for
	RepetitionsNeeded Opt[int64]     `json:"repetitions_needed,omitzero"` // in all, for the precision asked for
	OperationalMeanJ  Opt[float64]   `json:"operational_joules_mean,omitzero"`
	OperationalCI95J  Opt[float64]   `json:"operational_ci95_joules,omitzero"` // of the mean
	OperationalTotalJ Opt[float64]   `json:"operational_joules_total,omitzero"`
	PowerMeanW        Opt[float64]   `json:"power_w_mean,omitzero"`
	JoulesPerToken    Opt[float64]   `json:"joules_per_token,omitzero"`
	PerTokenCI95J     Opt[float64]   `json:"joules_per_token_ci95,omitzero"`
	TokensPerSecond   Opt[float64]   `json:"tokens_per_second,omitzero"`
	Quality           map[string]int `json:"energy_quality,omitempty"` // no_data, gappy, good → events
	Tier              map[string]int `json:"energy_tier,omitempty"`    // refused, estimate, … → events
	Regression        *Regression    `json:"regression,omitempty"`
	JouleCurve        *JouleCurve    `json:"joule_curve,omitempty"`
	Reasons           []string       `json:"reasons,omitempty"`
}

// Regression is the energy E of an event against its tokens, n_in and n_out
// over all sequences of a batch of b:
//
//	E = fixed + input·n_in + output·n_out + context·(n_in·n_out + n_out²/2)/b
//
// A decode has no input of its own: its input tokens are the prompt, of which
// only the context term speaks. A coefficient that the events cannot tell is
// absent, and Reasons has why.
type Regression struct {
	FixedJ       Opt[float64] `json:"fixed_joules,omitzero"` // may come out below 0
	FixedCI95J   Opt[float64] `json:"fixed_ci95_joules,omitzero"`
	InputJ       Opt[float64] `json:"joules_per_input_token,omitzero"`
	InputCI95J   Opt[float64] `json:"joules_per_input_token_ci95,omitzero"`
	OutputJ      Opt[float64] `json:"joules_per_output_token,omitzero"`
	OutputCI95J  Opt[float64] `json:"joules_per_output_token_ci95,omitzero"`
	ContextJ     Opt[float64] `json:"joules_per_context_token,omitzero"` // for each token that a generated one looks back on; absent where the data does not want it (AICc)
	ContextCI95J Opt[float64] `json:"joules_per_context_token_ci95,omitzero"`
	Fit
}

// JouleCurve is the energy of a phase against the batch size. A step, which
// handles one token of each of the batch's sequences, takes step + token·batch,
// so that a token takes step/batch + token: what the batch shares, and what no
// batch saves.
type JouleCurve struct {
	BatchSizes []int        `json:"batch_sizes,omitempty"`
	StepJ      Opt[float64] `json:"joules_per_step,omitzero"`
	StepCI95J  Opt[float64] `json:"joules_per_step_ci95,omitzero"`
	TokenJ     Opt[float64] `json:"joules_per_token,omitzero"`
	TokenCI95J Opt[float64] `json:"joules_per_token_ci95,omitzero"`
	FixedJ     Opt[float64] `json:"fixed_joules,omitzero"` // of an event: StepJ times its steps, where these are as many in all
	FixedCI95J Opt[float64] `json:"fixed_ci95_joules,omitzero"`
	Fit
}

// Fit is what there is to say of any fit.
type Fit struct {
	Observations int        `json:"observations"`
	Designs      int        `json:"designs"` // different tokens and batch sizes among them
	LackOfFit    *LackOfFit `json:"lack_of_fit,omitempty"`
	Reasons      []string   `json:"reasons,omitempty"`
}

// LackOfFit is the F test of how far the means of repetitions lie from the fit,
// against how far repetitions lie from their mean. A small P says that the form
// of the fit is wrong.
type LackOfFit struct {
	F           float64 `json:"f"`
	Freedom     int     `json:"df_lack"`
	PureFreedom int     `json:"df_pure"`
	P           float64 `json:"p"`
}

// Agreement is what power readings, added up, and the energy counter say of
// the same time of one GPU.
type Agreement struct {
	GPU             int          `json:"gpu"`
	Channel         string       `json:"channel,omitempty"` // of the power readings
	DurationS       Opt[float64] `json:"duration_s,omitzero"`
	IntegratedJ     Opt[float64] `json:"integrated_joules,omitzero"`
	CounterJ        Opt[float64] `json:"counter_joules,omitzero"`
	Ratio           Opt[float64] `json:"ratio,omitzero"`            // integrated over counter
	RatioCI95       Opt[float64] `json:"ratio_ci95,omitzero"`       // half-width
	Verdict         string       `json:"verdict"`                   // agree | disagree | unknown
	MismatchCS      Opt[float64] `json:"mismatch_c_s,omitzero"`     // c of |integrated/counter − 1| = c/T + ε over events of length T
	MismatchEpsilon Opt[float64] `json:"mismatch_epsilon,omitzero"` // ε
	Events          int64        `json:"events,omitempty"`          // that c and ε are from
	Reasons         []string     `json:"reasons,omitempty"`
}

// End closes a stream. Without it a stream that began with a [Header] was cut.
type End struct {
	Records int64   `json:"records"` // between header and end
	Poller  *Poller `json:"poller,omitempty"`
}

// Poller is what nvpoll says of its own punctuality.
type Poller struct {
	Overall PollerStats   `json:"overall"`
	GPUs    []PollerStats `json:"gpus,omitempty"`
}

// PollerStats is the punctuality of one GPU's samples, or of all.
type PollerStats struct {
	GPU               Opt[int]           `json:"gpu,omitzero"`
	SamplesTotal      int64              `json:"samples_total"`
	SamplesValid      int64              `json:"samples_valid"`
	ReadErrors        int64              `json:"read_errors"`
	Errors            map[string]int64   `json:"errors,omitempty"` // NVML name → times
	FloorSuspect      int64              `json:"floor_suspect"`    // valid readings below 5 W
	DroppedTicks      int64              `json:"dropped_ticks"`
	TargetPeriodMS    float64            `json:"target_period_ms"`
	MedianDtMS        Opt[float64]       `json:"median_dt_ms,omitzero"`
	P95DtMS           Opt[float64]       `json:"p95_dt_ms,omitzero"`
	MaxGapMS          Opt[float64]       `json:"max_gap_ms,omitzero"`
	GapCount          int64              `json:"gap_count"` // spacings beyond the gap threshold (0.25 s)
	GapFraction       Opt[float64]       `json:"gap_fraction,omitzero"`
	MedianLatenessMS  Opt[float64]       `json:"median_lateness_ms,omitzero"`
	P95LatenessMS     Opt[float64]       `json:"p95_lateness_ms,omitzero"`
	DtHistogram       []Bin              `json:"dt_histogram,omitempty"`
	SchedulingQuality string             `json:"scheduling_quality,omitempty"` // strict | loose
	ContinuityQuality string             `json:"continuity_quality,omitempty"` // good | degraded
	Quality           string             `json:"quality,omitempty"`            // the worse of the two
	CPUSeconds        Opt[float64]       `json:"cpu_s,omitzero"`
	Channels          map[string]Channel `json:"channels,omitempty"` // what the slow channels did
}

// Bin counts spacings dt with LoMS ≤ dt < HiMS; the last bin has no HiMS.
type Bin struct {
	LoMS  float64      `json:"lo_ms"`
	HiMS  Opt[float64] `json:"hi_ms,omitzero"`
	Count int64        `json:"n"`
}

// Channel is what one slow channel (power, counter, gpm, process) did and cost.
type Channel struct {
	Calls     int64            `json:"calls"`
	Records   int64            `json:"records"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	Gaps      int64            `json:"gaps,omitempty"` // overflows between harvests, or the counter went back
	CallP50MS Opt[float64]     `json:"call_p50_ms,omitzero"`
	CallP95MS Opt[float64]     `json:"call_p95_ms,omitzero"`
	CallMaxMS Opt[float64]     `json:"call_max_ms,omitzero"`
	Clock     string           `json:"clock,omitempty"` // the clock the driver's stamps were found to be of
}

func (*Header) Kind() Kind    { return KindHeader }
func (*Sample) Kind() Kind    { return KindSample }
func (*Power) Kind() Kind     { return KindPower }
func (*Counter) Kind() Kind   { return KindCounter }
func (*GPM) Kind() Kind       { return KindGPM }
func (*Process) Kind() Kind   { return KindProcess }
func (*Event) Kind() Kind     { return KindEvent }
func (*Marker) Kind() Kind    { return KindMarker }
func (*Soak) Kind() Kind      { return KindSoak }
func (*Summary) Kind() Kind   { return KindSummary }
func (*Agreement) Kind() Kind { return KindAgreement }
func (*End) Kind() Kind       { return KindEnd }

func (r *Header) When() (int64, bool)    { return 0, false }
func (r *Sample) When() (int64, bool)    { return r.TimeNS, true }
func (r *Power) When() (int64, bool)     { return r.TimeNS, true }
func (r *Counter) When() (int64, bool)   { return r.TimeNS, true }
func (r *GPM) When() (int64, bool)       { return r.TimeNS, true }
func (r *Process) When() (int64, bool)   { return r.TimeNS, true }
func (r *Event) When() (int64, bool)     { return r.StartNS, true }
func (r *Marker) When() (int64, bool)    { return r.TimeNS, true }
func (r *Soak) When() (int64, bool)      { return r.TimeNS.Get() }
func (r *Summary) When() (int64, bool)   { return 0, false }
func (r *Agreement) When() (int64, bool) { return 0, false }
func (r *End) When() (int64, bool)       { return 0, false }

// Power channels of a [Sample], as flags and files name them.
const (
	ChannelPower   = "power"   // nvmlDeviceGetPowerUsage
	ChannelInstant = "instant" // NVML field 186
	ChannelAverage = "average" // NVML field 185
	ChannelDriver  = "driver"  // the driver's sample buffer
	ChannelCounter = "counter" // the energy counter
)

// FloorW is the power below which a reading that succeeded is suspect: no board
// idles there, and stale caches do. It is kept and counted, never dropped.
const FloorW = 5.0

// Compare orders records by time; records without a time come first.
func Compare(a, b Record) int {
	ta, oka := a.When()
	tb, okb := b.When()
	if !oka || !okb {
		return cmp.Compare(b2i(oka), b2i(okb))
	}
	return cmp.Compare(ta, tb)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
