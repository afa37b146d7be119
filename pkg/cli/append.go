package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"

	"joulepipe/pkg/stream"

	ucli "github.com/urfave/cli/v2"
)

// AppendFlag is the flag of a tool whose runs may share one file.
func AppendFlag() ucli.Flag {
	return &ucli.BoolFlag{Name: "append", Usage: "add a stream to --output, when it is complete, instead of replacing the file"}
}

// appendable refuses what would make a file that nobody can read.
func (c *Context) appendable(name string, format stream.Format, compression stream.Compression) error {
	if format != stream.NDJSON {
		return c.Usagef("--append: streams of format %s cannot be appended to one another, only ndjson", format)
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(f, first); err != nil {
		return nil // empty
	}
	want := byte('{')
	if compression == stream.Zstd {
		want = 0x28 // of the magic number
	}
	if first[0] != want {
		return c.Usagef("--append: %s does not begin as %s with compression %s does", name, format, compression)
	}
	return nil
}

// appendFile adds a complete stream, which is in the file from, to the end of
// another, in one write: those of several processes do not mix.
func appendFile(name, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	to, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	last := make([]byte, 1)
	if info, err := to.Stat(); err == nil && info.Size() > 0 && bytes.HasPrefix(b, []byte{'{'}) {
		if _, err := to.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			b = append([]byte{'\n'}, b...) // after a line that was cut
		}
	}
	_, err = to.Write(b)
	return errors.Join(err, to.Close())
}
