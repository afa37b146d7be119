package cli

import "joulepipe/pkg/record"

// Phase reads from event files when the named phase was going on. It is an
// error, with exit code 3, when it never was.
func (c *Context) Phase(name string, files ...string) (*record.Phase, error) {
	in, err := c.Open(files...)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	p := &record.Phase{Name: name}
	n := 0
	for in.Scan() {
		p.Add(in.Record())
		n++
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	if p.Len() == 0 {
		return nil, WithHint(Errorf(ExitDoubt, "no event of phase %q and no markers start_%s, end_%s among %d records", name, name, name, n), "--phase names another one")
	}
	return p, nil
}
