package cli

import (
	"errors"
	"io"
	"os"
	"strings"

	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"

	ucli "github.com/urfave/cli/v2"
)

// saidLines is how many bad lines are said one by one.
const saidLines = 10

// Input reads a stream for a tool. Lines that cannot be read are said, counted
// and left out; a stream that was cut is said after its last record. Both make
// the exit code 3.
type Input struct {
	stream.Batcher
	s      *session
	files  []io.Closer
	header *record.Header
	err    error
}

// Open opens the named streams, - being standard input, as one stream that is
// merged by time.
func (c *Context) Open(names ...string) (*Input, error) {
	in := &Input{s: c.session}
	var readers []stream.Reader
	for _, name := range names {
		if name == "-" {
			if err := c.take(); err != nil {
				return nil, errors.Join(err, in.Close())
			}
			readers = append(readers, stream.NewReader(c.Stdin, "-"))
			continue
		}
		f, err := c.open(name)
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		in.files = append(in.files, f)
		readers = append(readers, stream.NewReader(f, name))
	}
	in.Batcher = stream.Merge(readers...)
	return in, nil
}

// TraceFlag is the flag that [Context.OpenTrace] goes by.
func TraceFlag() ucli.Flag {
	return &ucli.StringSliceFlag{Name: "trace", Aliases: []string{"t"}, Usage: "read the trace in `FILE` (default: standard input; several are merged by time)"}
}

// OpenTrace opens the files that --trace names, or standard input where it
// names none.
func (c *Context) OpenTrace() (*Input, error) {
	names := c.StringSlice("trace")
	if len(names) == 0 {
		names = []string{"-"}
	}
	return c.Open(names...)
}

// take takes standard input for one reader.
func (c *Context) take() error {
	if c.piped {
		return c.Usagef("standard input can be read only once")
	}
	if terminal(c.Stdin) {
		return c.Usagef("standard input is a terminal: pipe something into it or name a file")
	}
	c.mu.Lock()
	c.piped = true
	c.mu.Unlock()
	return nil
}

// OpenFile opens a file that is no stream of records, - being standard input,
// for reading.
func (c *Context) OpenFile(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.Stdin), c.take()
	}
	return c.open(name)
}

func (c *Context) open(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil {
		c.inputs = append(c.inputs, info)
	}
	return f, nil
}

// Scan goes on to the next record that could be read.
func (in *Input) Scan() bool {
	for in.Batcher.Scan() {
		switch r := in.Record().(type) {
		case *record.SyntaxError:
			in.s.badLine(r)
			continue
		case *record.Header:
			h := *r
			in.header = &h
		}
		return true
	}
	return in.end()
}

// ScanBatch goes on to the next batch. What could not be read has been said and
// is to be passed over.
func (in *Input) ScanBatch() bool {
	if !in.Batcher.ScanBatch() {
		return in.end()
	}
	for _, r := range in.Batch().Others {
		switch r := r.(type) {
		case *record.SyntaxError:
			in.s.badLine(r)
		case *record.Header:
			in.header = r
		}
	}
	return true
}

// end says what the stream ended with.
func (in *Input) end() bool {
	in.err = nil
	for _, err := range parts(in.Batcher.Err()) {
		var cut *stream.TruncatedError
		if errors.As(err, &cut) {
			in.s.doubt(cut.Error())
		} else {
			in.err = errors.Join(in.err, err)
		}
	}
	return false
}

// parts takes joined errors apart.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, parts(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// Err is what reading failed with. A cut stream is no failure here: it has been
// said.
func (in *Input) Err() error { return in.err }

// Header is the last header read, nil before there was one.
func (in *Input) Header() *record.Header { return in.header }

// Close closes the files.
func (in *Input) Close() error {
	var err error
	for _, f := range in.files {
		err = errors.Join(err, f.Close())
	}
	in.files = nil
	return err
}

func (s *session) badLine(e *record.SyntaxError) {
	s.badLines++
	if s.badLines > saidLines {
		s.mu.Lock()
		s.doubts++
		s.mu.Unlock()
		return
	}
	s.doubt(e.Error())
	if e.Hint != "" {
		s.say("hint: " + strings.TrimSuffix(e.Hint, "."))
	}
}
