package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"joulepipe/pkg/stream"

	ucli "github.com/urfave/cli/v2"
)

// OutputFlags are the flags of a tool that writes a stream.
func OutputFlags() []ucli.Flag {
	return []ucli.Flag{
		OutputFlag(),
		&ucli.StringFlag{Name: "format", Value: string(stream.NDJSON), Usage: "write `FORMAT`: ndjson, arrow or csv (also told by the end of --output)"},
		&ucli.StringFlag{Name: "compress", Value: string(stream.None), Usage: "compress with `METHOD`: none or zstd (also told by the end of --output)"},
	}
}

// OutputFlag is the flag of a tool that writes one document.
func OutputFlag() ucli.Flag {
	return &ucli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "-", Usage: "write to `FILE`, - being standard output; it has that name only when it is complete"}
}

// Partial is the end of the name of a file that is not complete.
const Partial = ".partial"

// file is an output file under its temporary name, made at the first write. What is
// no regular file, as /dev/null or a named pipe, is written to as it is.
type file struct {
	s        *session
	name     string
	append   bool // to what the name has already
	straight bool // under its own name
	f        *os.File
}

// closedError is that the reader of a named pipe or a descriptor is gone. It ends
// the tool without a word, as the signal does that a write to standard output
// brings.
type closedError struct{ error }

func (e *closedError) Unwrap() error { return e.error }

func (f *file) Write(p []byte) (int, error) {
	if f.f == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(p)
	if f.straight && errors.Is(err, syscall.EPIPE) {
		err = &closedError{err}
	}
	return n, err
}

func (f *file) open() (err error) {
	if f.straight = special(f.name); f.straight {
		f.f, err = os.OpenFile(f.name, os.O_WRONLY|os.O_APPEND, 0)
		return err
	}
	f.name = target(f.name)
	if f.f, err = temporary(f.name); err == nil {
		f.s.begun(f.f.Name())
	}
	return err
}

// target is the file that a link names, also one that is not there yet: the link
// stays one. Any other name is its own.
func target(name string) string {
	for range 40 { // as many as Linux follows
		link, err := os.Readlink(name)
		if err != nil {
			break
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil && !filepath.IsAbs(link) {
			link = filepath.Join(dir, link)
		}
		name = link
	}
	return name
}

// temporary makes the file that is to have the name when it is complete. It takes
// no other's place: that may be of a run that was cut short, or of one that goes on.
func temporary(name string) (f *os.File, err error) {
	partial := name + Partial
	for n := 1; n <= 10000; n++ {
		if f, err = os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666); !errors.Is(err, fs.ErrExist) {
			break
		}
		partial = fmt.Sprintf("%s.%d%s", name, n, Partial)
	}
	return f, err
}

// special says whether a file is none that another could take the place of: a
// device, a pipe, a socket, or a descriptor of this process, as /dev/stdout is.
func special(name string) bool {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return true
	}
	dir, _ := filepath.EvalSymlinks(filepath.Dir(name))
	link, _ := os.Readlink(name)
	return strings.HasPrefix(dir, "/proc/") || strings.HasPrefix(link, "/proc/")
}

// commit gives the file its name, or its content to the file of that name.
func (f *file) commit() error {
	if f.f == nil {
		if _, err := f.Write(nil); err != nil {
			return err
		}
	}
	if err := f.f.Close(); err != nil || f.straight {
		return err
	}
	defer f.s.complete(f.f.Name())
	if !f.append {
		return os.Rename(f.f.Name(), f.name)
	}
	if err := appendFile(f.name, f.f.Name()); err != nil {
		return f.leave(err)
	}
	return os.Remove(f.f.Name())
}

// leave closes the file under its temporary name and says so.
func (f *file) leave(err error) error {
	if f.f == nil {
		return err
	}
	f.f.Close()
	if f.straight {
		return err
	}
	return fmt.Errorf("%w; what was written is in %s", err, f.f.Name())
}

// Output is the stream that a tool writes.
type Output struct {
	stream.Writer
	file *file // nil: standard output
}

// Create opens the output that --output, --format and --compress name.
func (c *Context) Create() (*Output, error) {
	format, compression := encoding(c.String("output"))
	if c.IsSet("format") {
		format = stream.Format(c.String("format"))
	}
	if c.IsSet("compress") {
		compression = stream.Compression(c.String("compress"))
	}
	return c.create(c.String("output"), format, compression)
}

// CreateFile opens a stream for writing under that name, in the encoding that
// its end tells.
func (c *Context) CreateFile(name string) (*Output, error) {
	format, compression := encoding(name)
	return c.create(name, format, compression)
}

// encoding is what the end of a file's name tells.
func encoding(name string) (format stream.Format, compression stream.Compression) {
	format, compression = stream.NDJSON, stream.None
	if base, ok := strings.CutSuffix(name, ".zst"); ok {
		name, compression = base, stream.Zstd
	}
	switch {
	case strings.HasSuffix(name, ".arrow"):
		format = stream.Arrow
	case strings.HasSuffix(name, ".csv"):
		format = stream.CSV
	}
	return format, compression
}

// create opens a stream for writing under that name, - being standard output.
func (c *Context) create(name string, format stream.Format, compression stream.Compression) (*Output, error) {
	if _, err := stream.ParseFormat(string(format)); err != nil {
		return nil, c.Usagef("%v", err)
	}
	if _, err := stream.ParseCompression(string(compression)); err != nil {
		return nil, c.Usagef("%v", err)
	}
	out := &Output{}
	var to io.Writer = c.Stdout
	appending := c.Bool("append")
	if name == "-" || name == "" {
		if appending {
			return nil, c.Usagef("--append wants a file: -o FILE")
		}
		if (format == stream.Arrow || compression != stream.None) && terminal(c.Stdout) && !c.IsSet("output") {
			return nil, c.Usagef("binary output to a terminal: redirect it, or say -o -")
		}
	} else {
		if err := c.Writable(name); err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, ".gz") && !c.IsSet("compress") {
			return nil, c.Usagef("%s: gzip is read and not written; .zst is", name)
		}
		if appending && !special(name) {
			if err := c.appendable(name, format, compression); err != nil {
				return nil, err
			}
		}
		out.file = &file{s: c.session, name: name, append: appending}
		to = out.file
	}
	var err error
	out.Writer, err = stream.NewWriter(to, format, compression)
	return out, err
}

// OnStdout says whether --output is standard output, by whatever name.
func (c *Context) OnStdout() bool {
	name := c.String("output")
	if name == "-" || name == "" {
		return true
	}
	stdout, ok := c.Stdout.(*os.File)
	if !ok {
		return false
	}
	at, err := os.Stat(name)
	if err != nil {
		return false
	}
	to, err := stdout.Stat()
	// Two that write to one device, as /dev/null, need not know of each other.
	return err == nil && os.SameFile(at, to) && (terminal(stdout) || to.Mode()&fs.ModeCharDevice == 0)
}

// OnFile says whether --output is a file, that is read when it is complete.
func (c *Context) OnFile() bool { return !c.OnStdout() && !special(c.String("output")) }

// Writable refuses a name that nothing can be written under, while there is
// nothing to write yet: what was measured would be lost.
func (c *Context) Writable(name string) error {
	if name == "-" || name == "" || special(name) {
		return nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return c.Usagef("%s is a directory: name a file in it", name)
	}
	if err := c.notAnInput(name); err != nil {
		return err
	}
	f, err := temporary(target(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// notAnInput refuses to write over what is being read.
func (c *Context) notAnInput(name string) error {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil // it does not exist yet, or creating it will say why not
	}
	for _, in := range c.inputs {
		if os.SameFile(info, in) {
			return c.Usagef("%s is the input", name)
		}
	}
	return nil
}

// Close completes the stream and gives the file its name.
func (o *Output) Close() error {
	if err := o.Writer.Close(); err != nil {
		if o.file != nil {
			return o.file.leave(err)
		}
		return err
	}
	if o.file != nil {
		return o.file.commit()
	}
	return nil
}

// Abort gives up the stream because of err: what was written stays readable
// under the temporary name, and the error says where.
func (o *Output) Abort(err error) error {
	flush := o.Writer.Flush()
	if flush != nil && !errors.Is(err, flush) && flush.Error() != err.Error() {
		err = errors.Join(err, flush)
	}
	if o.file != nil {
		return o.file.leave(err)
	}
	return err
}

// WriteJSON writes v as one indented document to --output.
func (c *Context) WriteJSON(v any) error { return c.WriteJSONFile(c.String("output"), v) }

// WriteJSONFile writes v as one indented document under that name, - being
// standard output.
func (c *Context) WriteJSONFile(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return c.WriteFile(name, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
}

// WriteFile writes a document under that name, - being standard output. The
// file has the name only when it is complete.
func (c *Context) WriteFile(name string, write func(io.Writer) error) error {
	if name == "-" || name == "" {
		return write(c.Stdout)
	}
	if err := c.notAnInput(name); err != nil {
		return err
	}
	f := &file{s: c.session, name: name}
	if err := write(f); err != nil {
		return f.leave(err)
	}
	return f.commit()
}
