package main

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"joulepipe/pkg/cli"
	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/poll"
	"joulepipe/pkg/record"
)

// measure polls a device into the trace.
func measure(c *cli.Context) (err error) {
	dev, err := open(c)
	if err != nil {
		return err
	}
	hung := false
	defer func() {
		if !hung { // else a call is still in the driver, and closing is not allowed
			err = errors.Join(err, dev.Close())
		}
	}()
	gpus, err := gpu.Select(dev.GPUs(), list(c.String("gpu")))
	if err != nil {
		return err
	}
	channels, err := choose(c, gpus)
	if err != nil {
		return err
	}

	h := c.NewHeader()
	h.PeriodNS = int64(channels[gpu.Sample])
	for _, g := range gpus {
		h.GPUs = append(h.GPUs, g.Info())
	}
	out, err := c.Create()
	if err != nil {
		return err
	}
	f := &feed{Writer: out, warn: c.Warnf, clocks: clocks{now: readClocks}}
	if err := f.Writer.Write(h); err != nil {
		return out.Abort(err)
	}

	// A grid sleeps in the kernel and, when it wakes, needs one of the runtime's
	// processors at once. With as many of them as CPUs, encoding and compression
	// may hold them all for milliseconds; with one for each grid and one more,
	// the kernel shares out the CPUs instead, and favours who slept.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), runtime.NumCPU()+len(gpus)+1))

	c.Infof("polling %s, every %v", count(len(gpus), "GPU"), channels[gpu.Sample])
	account, err := poll.Run(c.Ctx, gpus, clock.System(), poll.Config{
		Channels: channels,
		Duration: c.Duration("duration"),
		Gap:      c.Duration("gap"),
		Flush:    flushInterval(c),
	}, f)
	var stuck *poll.HungError
	if errors.As(err, &stuck) {
		hung = true
		c.Warnf("%v", stuck)
	} else if err != nil {
		return out.Abort(err)
	}
	complain(c, account.GPUs)
	if cpu, ok := clock.CPUTime(); ok {
		account.Overall.CPUSeconds = record.Some(cpu.Seconds())
	}
	if err := f.Writer.Write(&record.End{Records: f.records, Poller: &account}); err != nil {
		return out.Abort(err)
	}
	o := account.Overall
	c.Infof("%s, %s dropped, scheduling %s, continuity %s", count(int(o.SamplesTotal), "sample"), count(int(o.DroppedTicks), "tick"), o.SchedulingQuality, o.ContinuityQuality)
	return out.Close()
}

// complain says what of the slow channels is not in the trace.
func complain(c *cli.Context, gpus []record.PollerStats) {
	for _, g := range gpus {
		if n := g.Channels[gpu.Power].Gaps; n > 0 {
			c.Warnf("GPU %d: the driver's power samples have %s, where its buffer was full between two harvests (a shorter --power-period helps)", g.GPU.V, count(int(n), "gap"))
		}
		if n := g.Channels[gpu.Counter].Gaps; n > 0 {
			c.Warnf("GPU %d: the energy counter went back %s: it was reset", g.GPU.V, count(int(n), "time"))
		}
		for _, name := range channelNames {
			channel, failed := g.Channels[name], int64(0)
			for _, n := range channel.Errors {
				failed += n
			}
			if failed > 0 && failed == channel.Calls {
				c.Warnf("GPU %d: channel %s gave nothing but %s", g.GPU.V, name, strings.Join(slices.Sorted(maps.Keys(channel.Errors)), ", "))
			}
		}
	}
}

// choose is what to poll and how often. A channel that was asked for and that a
// GPU lacks is said; without a --channels every GPU is polled for what it has,
// except the use of its units and by processes, which are for those who ask.
func choose(c *cli.Context, gpus []gpu.GPU) (map[string]time.Duration, error) {
	asked := list(c.String("channels"))
	wanted := asked
	if len(asked) == 0 {
		wanted = []string{gpu.Sample, gpu.Power, gpu.Counter}
	}
	channels := map[string]time.Duration{}
	var missing []string
	for _, name := range wanted {
		for _, g := range gpus {
			ok, why := poll.Offers(g, name)
			if ok {
				channels[name] = c.Duration(periodFlag[name])
				continue
			}
			lack := fmt.Sprintf("GPU %d has no channel %s: %s", g.Info().Index, name, why)
			missing = append(missing, lack)
			if len(asked) > 0 {
				c.Warnf("%s", lack)
			}
		}
	}
	if len(channels) == 0 {
		return nil, cli.WithHint(
			cli.Errorf(cli.ExitUnavailable, "nothing to poll: %s", strings.Join(missing, "; ")),
			"nvpoll devices shows what each GPU offers")
	}
	return channels, nil
}

// flushInterval keeps who reads a pipe up to date within 200 ms. A file takes
// larger pieces: Arrow and zstd store small ones several times as large.
func flushInterval(c *cli.Context) time.Duration {
	if !c.OnFile() {
		return 200 * time.Millisecond
	}
	return time.Second
}
