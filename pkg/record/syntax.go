package record

import "fmt"

// SyntaxError is a line, row or batch that could not be read. A reader hands it
// on as a record, so that the tool decides whether to skip, warn or stop; it is
// never written.
type SyntaxError struct {
	File   string // name as given on the command line, "-" for standard input
	Line   int64  // from 1; for Arrow the row number
	Column int    // byte in the line, from 1; 0 when unknown
	Msg    string // what is wrong, without a full stop
	Hint   string // what to do about it; may be empty
}

func (*SyntaxError) Kind() Kind          { return KindSyntax }
func (*SyntaxError) When() (int64, bool) { return 0, false }

// Error is "file:line:column: message".
func (e *SyntaxError) Error() string {
	if e.Column > 0 {
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
}
