package sim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Schema is the version of load files that this package reads and writes.
const Schema = "joulepipe-sim/1"

// Kinds of a load file's lines.
const (
	kindSetup   = "sim"
	kindSegment = "load"
)

// most is how many GPUs a load file may have.
const most = 64

// Setup is the first line of a load file: which GPUs there are, since when, and
// what goes wrong with them.
type Setup struct {
	Profile  string `json:"profile"`   // the board, one of [Profiles]
	Seed     uint64 `json:"seed"`      // of the noise, the stalls and the errors
	GPUs     int    `json:"gpus"`      // how many there are, all alike
	OriginNS int64  `json:"origin_ns"` // when they were switched on, monotonic ns; their counters are 0 then
	BootID   string `json:"boot_id"`   // boot of the machine whose clock that is; empty fits any
	Faults   Faults `json:"faults,omitzero"`
}

// Faults change what goes wrong by itself on the profile's board. A rate is a
// probability from 0 to 1.
type Faults struct {
	ReadErrorRate record.Opt[float64] `json:"read_error_rate,omitzero"` // of a call in a given millisecond to fail
	StallRate     record.Opt[float64] `json:"stall_rate,omitzero"`      // of a new context or allocation to hold up all calls for 100 to 240 ms
	FloorRate     record.Opt[float64] `json:"floor_rate,omitzero"`      // of a power reading in deep idle to be 1.2 W
	AmbientC      record.Opt[float64] `json:"ambient_c,omitzero"`       // temperature of the air that cools the board

	// From LostFromNS until LostUntilNS, nanoseconds after the origin, LostGPU
	// is off the bus: all GPUs where it is absent.
	LostFromNS  int64           `json:"lost_from_ns,omitempty"`
	LostUntilNS int64           `json:"lost_until_ns,omitempty"`
	LostGPU     record.Opt[int] `json:"lost_gpu,omitzero"`
}

// Segment is one line of load: what runs on a GPU for some time. Segments of
// one GPU that overlap add up, compute and memory to 1 at most.
type Segment struct {
	GPU     int     `json:"gpu"`
	FromNS  int64   `json:"from_ns"`           // monotonic ns
	UntilNS int64   `json:"until_ns"`          // monotonic ns, exclusive
	Compute float64 `json:"compute"`           // use of the arithmetic units, 0 to 1
	Memory  float64 `json:"memory"`            // use of the memory's bandwidth, 0 to 1
	VRAMMB  float64 `json:"vram_mb"`           // MiB allocated beside the context's own
	Context bool    `json:"context,omitempty"` // it is of a context; without any, what runs or is allocated has one
	PID     int64   `json:"pid,omitempty"`     // process whose load it is; 0 is one that the driver does not tell of
}

// complete gives the fields that are empty in a new file's first line their
// defaults.
func (s *Setup) complete(now int64) {
	s.OriginNS = cmp.Or(s.OriginNS, now)
	s.BootID = cmp.Or(s.BootID, clock.BootID())
	s.fill()
}

// fill gives defaults to what a first line written by hand may leave out.
func (s *Setup) fill() {
	s.Profile = cmp.Or(s.Profile, profiles[0].name)
	s.Seed = cmp.Or(s.Seed, 1)
	s.GPUs = cmp.Or(s.GPUs, 1)
}

// stale says whether the file's clock is not this boot's.
func (s *Setup) stale(now int64) bool {
	boot := clock.BootID()
	return s.BootID != "" && boot != "" && s.BootID != boot || s.OriginNS > now
}

func (s *Setup) check() error {
	if _, err := findProfile(s.Profile); err != nil {
		return err
	}
	if s.GPUs < 1 || s.GPUs > most {
		return fmt.Errorf("gpus is %d: want 1 to %d", s.GPUs, most)
	}
	if s.OriginNS < 0 {
		return errors.New("origin_ns is negative")
	}
	f := &s.Faults
	for name, rate := range map[string]record.Opt[float64]{
		"read_error_rate": f.ReadErrorRate, "stall_rate": f.StallRate, "floor_rate": f.FloorRate,
	} {
		if rate.OK && !(rate.V >= 0 && rate.V <= 1) {
			return fmt.Errorf("%s is %v: want a probability from 0 to 1", name, rate.V)
		}
	}
	if f.AmbientC.OK && !(f.AmbientC.V >= -50 && f.AmbientC.V <= 100) {
		return fmt.Errorf("ambient_c is %v: want -50 to 100", f.AmbientC.V)
	}
	if f.LostUntilNS < f.LostFromNS {
		return errors.New("lost_until_ns is before lost_from_ns")
	}
	return nil
}

// conflicts says in what a file's setup is not the one asked for.
func (s *Setup) conflicts(asked Setup) error {
	switch {
	case asked.Profile != "" && asked.Profile != s.Profile:
		return fmt.Errorf("the file simulates %s, not %s", s.Profile, asked.Profile)
	case asked.Seed != 0 && asked.Seed != s.Seed:
		return fmt.Errorf("the file has seed %d, not %d", s.Seed, asked.Seed)
	case asked.GPUs != 0 && asked.GPUs != s.GPUs:
		return fmt.Errorf("the file simulates %d GPUs, not %d", s.GPUs, asked.GPUs)
	}
	return nil
}

// lost says whether a GPU is off the bus so many nanoseconds after the origin.
func (f *Faults) lost(gpu int, after int64) bool {
	return f.LostFromNS <= after && after < f.LostUntilNS && (!f.LostGPU.OK || f.LostGPU.V == gpu)
}

func (s *Segment) check(gpus int) error {
	switch {
	case s.GPU < 0 || s.GPU >= gpus:
		return fmt.Errorf("gpu is %d: the file has %d", s.GPU, gpus)
	case s.FromNS < 0 || s.UntilNS <= s.FromNS:
		return fmt.Errorf("from_ns %d, until_ns %d: want 0 <= from_ns < until_ns", s.FromNS, s.UntilNS)
	}
	if s.PID < 0 {
		return fmt.Errorf("pid is %d: want 0 or more", s.PID)
	}
	for name, share := range map[string]float64{"compute": s.Compute, "memory": s.Memory} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%s is %v: want 0 to 1", name, share)
		}
	}
	if !(s.VRAMMB >= 0) || math.IsInf(s.VRAMMB, 1) {
		return fmt.Errorf("vram_mb is %v: want 0 or more", s.VRAMMB)
	}
	return nil
}

// setupLine and segmentLine are the lines as they stand in the file.
type setupLine struct {
	Record string `json:"record"`
	Schema string `json:"schema"`
	Setup
}

type segmentLine struct {
	Record string `json:"record"`
	Segment
}

// encode makes a line of v.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}

func decodeSetup(line []byte) (Setup, error) {
	var l setupLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Setup{}, err
	}
	if l.Record != kindSetup || l.Schema != Schema {
		return Setup{}, fmt.Errorf("not the first line of a load file: record %q of schema %q, want %q of %q", l.Record, l.Schema, kindSetup, Schema)
	}
	l.Setup.fill()
	return l.Setup, l.Setup.check()
}

func decodeSegment(line []byte, gpus int) (Segment, error) {
	var l segmentLine
	if err := json.Unmarshal(line, &l); err != nil {
		return Segment{}, err
	}
	if l.Record != kindSegment {
		return Segment{}, fmt.Errorf("record is %q: want %q", l.Record, kindSegment)
	}
	return l.Segment, l.Segment.check(gpus)
}

// malformed is what is wrong with a line of a load file.
func malformed(file string, line int64, err error) error {
	e := &record.SyntaxError{File: file, Line: line, Msg: strings.TrimPrefix(err.Error(), "json: "), Hint: "remove the line, or the file to start anew"}
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		e.Column = int(syntax.Offset)
	case errors.As(err, &wrong):
		e.Column = int(wrong.Offset)
	}
	return e
}
