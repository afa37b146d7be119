package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/load"
	"joulepipe/pkg/record"
)

func square(c *cli.Context) error {
	if err := positive(c, "low", "high"); err != nil {
		return err
	}
	if c.Int("cycles") < 1 {
		return c.Usagef("--cycles %d: want 1 or more", c.Int("cycles"))
	}
	kernel, err := load.ParseKernel(c.String("kernel"))
	if err != nil {
		return c.Usagef("--kernel: %v", err)
	}
	return wave(c, kernel.Level(1), load.Square{Low: c.Duration("low"), High: c.Duration("high"), Cycles: c.Int("cycles"), Kernel: kernel}.Plan())
}

func sustain(c *cli.Context) error {
	if err := positive(c, "duration"); err != nil {
		return err
	}
	intensity, vram := c.Float64("intensity"), c.Float64("vram")
	if !(intensity >= 0 && intensity <= 1) {
		return c.Usagef("--intensity %v: want 0 to 1", intensity)
	}
	if !(vram >= 0) || math.IsInf(vram, 1) {
		return c.Usagef("--vram %v: want MiB, 0 or more", vram)
	}
	kernel, err := load.ParseKernel(c.String("kernel"))
	if err != nil {
		return c.Usagef("--kernel: %v", err)
	}
	e, err := event(c)
	if err != nil {
		return err
	}
	level := kernel.Level(intensity)
	if c.IsSet("vram") {
		level.VRAMMB = vram
	}
	return wave(c, level, load.Steady{Duration: c.Duration("duration"), Level: level, Event: e}.Plan())
}

func response(c *cli.Context) error {
	if c.Int("steps") < 1 {
		return c.Usagef("--steps %d: want 1 or more", c.Int("steps"))
	}
	if u := c.Duration("update"); u < 5*time.Millisecond || u > 5*time.Second {
		return c.Usagef("--update %v: want 5ms to 5s", u)
	}
	kernel, err := load.ParseKernel(c.String("kernel"))
	if err != nil {
		return c.Usagef("--kernel: %v", err)
	}
	return wave(c, kernel.Level(1), load.Response{Steps: c.Int("steps"), Update: c.Duration("update"), Seed: c.Uint64("seed"), Kernel: kernel}.Plan())
}

func idle(c *cli.Context) error {
	if err := positive(c, "duration"); err != nil {
		return err
	}
	e, err := event(c)
	if err != nil {
		return err
	}
	gpus, err := spared(c)
	if err != nil {
		return err
	}
	return play(c, gpus, nil, load.Steady{Duration: c.Duration("duration"), Event: e}.Plan())
}

// bracket is exec.
func bracket(c *cli.Context) error {
	if c.NArg() == 0 {
		return c.Usagef("no command given: exec -- CMD")
	}
	gpus, err := spared(c)
	if err != nil {
		return err
	}
	e, err := event(c)
	if err != nil {
		return err
	}
	e.GPUs = gpus
	args := c.Args().Slice()
	cmd := exec.Command(args[0], args[1:]...)
	if cmd.Err != nil {
		return cli.WithHint(cmd.Err, "a command of the shell needs one: nvload exec -- sh -c '…'")
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	if c.OnStdout() {
		cmd.Stdout = c.Stderr
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	h := c.NewHeader()
	cmd.Env = append(cmd.Environ(), "JOULEPIPE_RUN_ID="+h.RunID)
	var exit load.Exit
	err = tell(c, h, func(emit load.Emit) (err error) {
		of := func(r record.Record) error {
			if e, ok := r.(*record.Event); ok && cmd.Process != nil {
				tellPID(c, e, cmd.Process.Pid)
			}
			return emit(r)
		}
		exit, err = load.Exec{Cmd: cmd, Event: e, Signals: signals, Terminal: c.OnTerminal()}.Run(clock.System(), of)
		return err
	})
	if err == nil && exit.Code != 0 && !exit.Interrupted {
		c.Doubtf("%s failed: %s", args[0], exit.Text)
	}
	return err
}

// mark writes one marker.
func mark(c *cli.Context) error {
	now := clock.Now()
	if c.NArg() != 1 || c.Args().First() == "" {
		return c.Usagef("want one name to mark")
	}
	extra, err := fields(c)
	if err != nil {
		return err
	}
	for _, f := range extra {
		if f.Name == "record" || knows(&record.Marker{}, f) == nil {
			return c.Usagef("--field %s: this field is not yours to set", f.Name)
		}
	}
	return write(c, c.NewHeader(), func(emit load.Emit) error {
		return emit(&record.Marker{Name: c.Args().First(), TimeNS: now, Extra: extra})
	})
}

// positive refuses durations that are none.
func positive(c *cli.Context, flags ...string) error {
	for _, name := range flags {
		if c.Duration(name) <= 0 {
			return c.Usagef("--%s %v: want more than 0", name, c.Duration(name))
		}
	}
	return nil
}

// onDevice plays a plan on the device that --device names.
func onDevice(c *cli.Context, plan func(load.Board) load.Plan) (err error) {
	dev, err := open(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	return play(c, dev, dev.Info(), plan(dev.Board()))
}

// play plays a plan into the stream.
func play(c *cli.Context, dev load.Device, gpus []record.GPU, plan load.Plan) error {
	if err := load.Fits(dev, plan); err != nil {
		return cli.WithHint(err, "nothing was loaded; ask for less with --vram, --batch or --context")
	}
	h := c.NewHeader()
	h.GPUs = gpus
	return tell(c, h, func(emit load.Emit) error {
		return load.Play(c.Ctx, clock.System(), dev, plan, emit)
	})
}

// tell writes the stream of an experiment.
func tell(c *cli.Context, h *record.Header, do func(load.Emit) error) error {
	name := c.String("experiment")
	if name == "" {
		name = c.Command.Name
	}
	return write(c, h, func(emit load.Emit) error {
		return load.Experiment(name, clock.System(), emit, func() error { return do(emit) })
	})
}

// write writes a stream of what do emits, each record as it comes.
func write(c *cli.Context, h *record.Header, do func(load.Emit) error) error {
	out, err := c.Create()
	if err != nil {
		return err
	}
	if err := out.Write(h); err != nil {
		return out.Abort(err)
	}
	n := int64(0)
	err = do(func(r record.Record) error {
		n++
		if e, ok := r.(*record.Event); ok {
			if e.ID == "" {
				e.ID = fmt.Sprintf("%s_%d", e.Phase, e.StartNS)
			}
			tellPID(c, e, os.Getpid())
			c.Infof("%s, %v", e.ID, time.Duration(e.EndNS-e.StartNS).Round(time.Millisecond))
		}
		return errors.Join(out.Write(r), out.Flush())
	})
	if err != nil {
		return out.Abort(err)
	}
	if err := out.Write(&record.End{Records: n}); err != nil {
		return out.Abort(err)
	}
	return errors.Join(out.Close(), tooHot(c))
}

// tellPID adds the process whose load an event is, if that is to be told and has
// not been.
func tellPID(c *cli.Context, e *record.Event, pid int) {
	named := slices.ContainsFunc(e.Extra, func(f record.Field) bool { return f.Name == "pid" })
	if c.Bool("tell-pid") && !named {
		// A slice of its own: events may have their further fields in common.
		e.Extra = append(slices.Clip(e.Extra), record.Field{Name: "pid", Value: strconv.AppendInt(nil, int64(pid), 10)})
	}
}

// tooHot is the thermal trip for which nvsoak ends the load, nil when none is
// why it ends. Nvsoak writes the reason into the file before it sends the signal.
func tooHot(c *cli.Context) error {
	file := c.Getenv("JOULEPIPE_TRIP_FILE")
	if file == "" || c.Ctx.Err() == nil {
		return nil
	}
	why, err := os.ReadFile(file)
	if err != nil || len(why) == 0 {
		return nil // ended for something else
	}
	return cli.Errorf(cli.ExitThermalTrip, "ended by nvsoak, too hot: %s", strings.TrimSpace(string(why)))
}
