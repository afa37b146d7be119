package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/cuda"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/nvml"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
)

// board is a GPU to be loaded, as CUDA and as NVML have it.
type board struct {
	record.GPU
	cuda cuda.Device
	nvml gpu.GPU // nil where there is no NVML, or it does not know the GPU
	dark error   // why there is no NVML
}

// boards are the GPUs to be loaded, and what must be closed after them.
type boards struct {
	driver *cuda.Driver
	all    []*board
	nvml   *nvml.Device // nil where there is none
	dark   error        // why there is none
}

// Close gives NVML back.
func (b *boards) Close() error {
	if b.nvml == nil {
		return nil
	}
	return b.nvml.Close()
}

// openBoards finds the GPUs that --device and --gpu name.
func openBoards(c *cli.Context) (*boards, error) {
	d, err := cuda.Open(cuda.Options{})
	if err != nil {
		return nil, told(c, err)
	}
	devices, err := d.Devices()
	if err != nil {
		return nil, err
	}
	b := &boards{driver: d}
	b.nvml, b.dark = nvml.Open(nvml.Options{})
	if b.dark != nil {
		b.nvml = nil
	}
	if b.all, err = b.choose(c, devices); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// told adds to an error that there is no GPU for CUDA whether there is one that
// is hidden.
func told(c *cli.Context, err error) error {
	missing := (*gpu.UnavailableError)(nil)
	if value := c.Getenv(visible); errors.As(err, &missing) && strings.Contains(missing.What, cuda.ErrNoDevice.Name) && value != "" {
		return &gpu.UnavailableError{What: fmt.Sprintf("%s, with %s=%s", missing.What, visible, value), Hint: missing.Hint}
	}
	return err
}

const visible = "CUDA_VISIBLE_DEVICES"

// choose is the GPUs that the flags name: cuda:N is CUDA's number, an index is
// NVML's, and UUIDs join the two. Where there is no NVML a GPU goes by CUDA's
// number.
func (b *boards) choose(c *cli.Context, devices []cuda.Device) ([]*board, error) {
	_, text, _ := strings.Cut(c.String("device"), ":")
	n, err := strconv.Atoi(cmp.Or(text, "0"))
	if err != nil || n < 0 {
		return nil, c.Usagef("--device %s: want cuda or cuda:N", c.String("device"))
	}
	names := list(c.String("gpu"))
	if len(names) == 0 {
		if n >= len(devices) {
			return nil, hidden(c, fmt.Sprintf("CUDA has no GPU %d: it has %d", n, len(devices)))
		}
		return []*board{b.board(devices[n])}, nil
	}
	if text != "" {
		return nil, c.Usagef("--device %s and --gpu %s both name GPUs", c.String("device"), c.String("gpu"))
	}
	var all []*board
	for _, name := range names {
		found, err := b.find(c, name, devices)
		if err != nil {
			return nil, err
		}
		for _, dev := range found {
			if !slices.ContainsFunc(all, func(o *board) bool { return o.cuda.Ordinal == dev.Ordinal }) {
				all = append(all, b.board(dev))
			}
		}
	}
	slices.SortFunc(all, func(x, y *board) int { return cmp.Compare(x.Index, y.Index) })
	return all, nil
}

// find is the devices that a name of --gpu means.
func (b *boards) find(c *cli.Context, name string, devices []cuda.Device) ([]cuda.Device, error) {
	if name == "all" {
		if n := b.count(); n > len(devices) {
			c.Warnf("CUDA has %d of the %d GPUs: %s=%s hides the others", len(devices), n, visible, c.Getenv(visible))
		}
		return devices, nil
	}
	by := func(what string, same func(cuda.Device) bool) ([]cuda.Device, error) {
		if i := slices.IndexFunc(devices, same); i >= 0 {
			return devices[i : i+1], nil
		}
		return nil, hidden(c, what)
	}
	if strings.Contains(name, ":") {
		return by("CUDA has no GPU at "+name, func(d cuda.Device) bool { return bus(d.PCI) == bus(name) })
	}
	if b.nvml != nil {
		selected, err := gpu.Select(b.nvml.GPUs(), []string{name})
		if err != nil {
			return nil, err
		}
		uuid := selected[0].Info().UUID
		return by(fmt.Sprintf("CUDA has no GPU %s (%s)", name, uuid), func(d cuda.Device) bool { return d.UUID == uuid })
	}
	if n, err := strconv.Atoi(name); err == nil {
		return by(fmt.Sprintf("CUDA has no GPU %d: it has %d", n, len(devices)), func(d cuda.Device) bool { return d.Ordinal == n })
	}
	return by("CUDA has no GPU "+name, func(d cuda.Device) bool { return d.UUID != "" && len(name) >= 8 && strings.HasPrefix(d.UUID, name) })
}

// hidden is that CUDA has no such GPU.
func hidden(c *cli.Context, what string) error {
	hint := "nvpoll devices lists the GPUs of this machine"
	if value := c.Getenv(visible); value != "" {
		hint = fmt.Sprintf("%s=%s hides GPUs", visible, value)
	}
	return &gpu.UnavailableError{What: what, Hint: hint}
}

// bus is a PCI bus id as it compares: NVML's domain has eight digits, CUDA's four.
func bus(id string) string {
	id = strings.ToLower(id)
	if domain, rest, ok := strings.Cut(id, ":"); ok && strings.Contains(rest, ":") {
		return strings.TrimLeft(domain, "0") + ":" + rest
	}
	return ":" + id
}

// count is how many GPUs NVML has.
func (b *boards) count() int {
	if b.nvml == nil {
		return 0
	}
	return len(b.nvml.GPUs())
}

// board is a device with what NVML says of it.
func (b *boards) board(dev cuda.Device) *board {
	if b.nvml != nil {
		for _, g := range b.nvml.GPUs() {
			if info := g.Info(); info.UUID != "" && info.UUID == dev.UUID {
				return &board{GPU: info, cuda: dev, nvml: g}
			}
		}
	}
	return &board{GPU: record.GPU{Index: dev.Ordinal, UUID: dev.UUID, Name: dev.Name, PCI: dev.PCI}, cuda: dev, dark: b.dark}
}

// onCUDA opens the one GPU that --device and --gpu name, for do.
func onCUDA(c *cli.Context, do func(*board, *cuda.Context) error) (err error) {
	b, err := openBoards(c)
	if err != nil {
		return err
	}
	// Of a GPU that hangs the end of the process gives everything back.
	defer func() {
		if !load.Hangs(err) {
			err = errors.Join(err, b.Close())
		}
	}()
	if len(b.all) != 1 {
		return c.Usagef("--gpu %s: want one GPU, not %d", c.String("gpu"), len(b.all))
	}
	on, err := b.driver.NewContext(b.all[0].cuda.Ordinal)
	if err != nil {
		return err
	}
	defer func() {
		if !load.Hangs(err) {
			err = errors.Join(err, on.Close())
		}
	}()
	return do(b.all[0], on)
}
