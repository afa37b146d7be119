package cli

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"

	ucli "github.com/urfave/cli/v2"
)

// Set at link time (-ldflags "-X joulepipe/pkg/cli.version=…"); otherwise what
// the Go tool recorded in the binary.
var (
	version string
	commit  string
	dirty   string // "true" when the tree had changes
)

// build is the version and commit of this binary.
func build() (string, record.Version) {
	v, hash, changed := version, commit, dirty == "true"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && commit == "":
				hash = s.Value
			case s.Key == "vcs.modified" && commit == "":
				changed = s.Value == "true"
			}
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v, record.Version{Hash: hash, Dirty: changed}
}

// versionLine is what --version prints.
func versionLine(tool string) string {
	v, git := build()
	from := "commit unknown"
	if git.Hash != "" {
		from = git.Hash[:min(12, len(git.Hash))]
	}
	if git.Dirty {
		from += " dirty"
	}
	return fmt.Sprintf("%s %s (%s) schema %s\n", tool, v, from, record.Schema)
}

// NewHeader is the header of the stream this run writes. The run's name is
// taken from JOULEPIPE_RUN_ID, so that the tools of one study share it, or made
// from the time.
func (c *Context) NewHeader() *record.Header {
	mono, unix := clock.Pair()
	v, git := build()
	host, _ := os.Hostname()
	h := &record.Header{
		Schema:  record.Schema,
		Tool:    c.Tool,
		Version: v,
		RunID:   c.Getenv("JOULEPIPE_RUN_ID"),
		Host:    host,
		BootID:  clock.BootID(),
		TimeNS:  mono,
		UnixNS:  unix,
		Config:  map[string]any{},
		Git:     &git,
	}
	if h.RunID == "" {
		var b [3]byte
		_, _ = rand.Read(b[:]) // never fails
		h.RunID = time.Unix(0, unix).UTC().Format("20060102_150405_") + hex.EncodeToString(b[:])
	}
	for _, f := range slices.Concat(c.App.Flags, c.Command.Flags) {
		switch name := f.Names()[0]; {
		case !c.IsSet(name):
		case name == "output" || name == "append" || name == "quiet" || name == "progress":
		default:
			if list, ok := c.Value(name).(ucli.StringSlice); ok {
				h.Config[name] = list.Value()
			} else {
				h.Config[name] = fmt.Sprint(c.Value(name))
			}
		}
	}
	return h
}

// HeaderAfter is the header of what this run makes out of a trace: on the
// trace's clock and under its run's name, so that the two still join. A trace
// that has no header (nil) may be of any machine, and its outcome is not given
// the clock of this one.
func (c *Context) HeaderAfter(trace *record.Header) *record.Header {
	h := c.NewHeader()
	if trace == nil {
		h.Host, h.BootID, h.TimeNS, h.UnixNS = "", "", 0, 0
	} else {
		h.RunID, h.Host, h.BootID, h.TimeNS, h.UnixNS, h.GPUs = trace.RunID, trace.Host, trace.BootID, trace.TimeNS, trace.UnixNS, trace.GPUs
	}
	return h
}
