package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/record"
)

// Load is a load file that is open for appending. Several processes may append
// to one file at the same time.
type Load struct {
	file  *os.File
	setup Setup
}

// DefaultFile is the load file of a simulated device that no file is named
// for: one for each user, so that two tools see the same GPU.
func DefaultFile() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("joulepipe-sim-%d.ndjson", os.Getuid()))
}

// OpenLoad opens a load file, "" is [DefaultFile]. Where there is none, or an
// empty one, it is begun with s, whose zero fields get defaults: the first
// profile, seed 1, one GPU, this instant and this boot. Otherwise its first line
// counts, and a profile, seed or number of GPUs in s that differs is an error.
//
// The times in a file of another boot mean nothing: the default file is begun
// anew, any other is an error. Errors about what is in the file are a
// *[record.SyntaxError] with a hint.
func OpenLoad(file string, s Setup) (*Load, error) {
	byDefault := file == "" || file == DefaultFile()
	if byDefault {
		file = DefaultFile()
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		f, err = os.Open(file) // enough to watch it
	}
	if err != nil {
		return nil, err
	}
	l := &Load{file: f}
	if err := l.begin(s, byDefault); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// begin reads the first line, or writes it, while no other process does.
func (l *Load) begin(asked Setup, renew bool) error {
	if err := lock(l.file); err != nil {
		return fmt.Errorf("locking %s: %w", l.file.Name(), err)
	}
	defer unlock(l.file)
	size, err := l.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size == 0 {
		return l.create(asked)
	}
	line, err := bufio.NewReader(io.NewSectionReader(l.file, 0, maxLine)).ReadBytes('\n')
	if err == io.EOF {
		err = errors.New("the first line does not end")
	}
	if err == nil {
		l.setup, err = decodeSetup(line)
	}
	if err != nil {
		return malformed(l.file.Name(), 1, err)
	}
	if l.setup.stale(clock.Now()) {
		if !renew {
			return l.refuse("the file is of another boot: its times mean nothing now", "remove it, or name another file")
		}
		if err := l.file.Truncate(0); err != nil {
			return err
		}
		return l.create(asked)
	}
	if err := l.setup.conflicts(asked); err != nil {
		return l.refuse(err.Error(), "remove the file or name another: sim:FILE")
	}
	return nil
}

func (l *Load) create(s Setup) error {
	s.complete(clock.Now())
	if err := s.check(); err != nil {
		return err
	}
	l.setup = s
	return l.write(setupLine{kindSetup, Schema, s})
}

func (l *Load) refuse(msg, hint string) error {
	return &record.SyntaxError{File: l.file.Name(), Line: 1, Msg: msg, Hint: hint}
}

// Setup is the file's first line, with defaults for what it leaves out.
func (l *Load) Setup() Setup { return l.setup }

// Append adds a segment to the file; whoever follows the file sees it at once.
// One that begins in the past changes what the GPU did since then.
func (l *Load) Append(s Segment) error {
	if err := s.check(l.setup.GPUs); err != nil {
		return err
	}
	return l.write(segmentLine{kindSegment, s})
}

// write appends a line in one piece: lines of several processes do not mix.
func (l *Load) write(line any) error {
	b, err := encode(line)
	if err != nil {
		return err
	}
	_, err = l.file.Write(b)
	return err
}

// Close closes the file, which stays.
func (l *Load) Close() error { return l.file.Close() }
