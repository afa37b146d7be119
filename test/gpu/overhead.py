#!/usr/bin/env python3
"""Throughput of a decode loop beside nvpoll and without it.

    overhead.py SECONDS

Each comparison is of two conditions, measured in legs of half a second one right
after the other, so that a slow change of the machine meets both; which of them
comes first alternates from pair to pair. A poller that is not wanted in a leg is
stopped (SIGSTOP), so that nothing is started between legs. The rounds go through
all comparisons until the time is up. The table has the mean of the pairs'
relative differences with its 95 % confidence interval (Student's t): an interval
that holds 0 shows no cost.
"""
import gc
import math
import os
import signal
import subprocess
import sys
import tempfile
import time

CONTEXT = 256
LEG_S = 0.5  # one measurement
PAIRS = 12  # of a comparison in a round

OFF = None
SAMPLE = ("--period", "100ms", "--channels", "sample")


def at(period):
    return ("--period", period)


def and_(channel):
    return ("--period", "100ms", "--channels", "sample," + channel)


# what, with, without: nvpoll's arguments, or OFF.
COMPARISONS = [
    ("nvpoll at 1 s", at("1s"), OFF),
    ("nvpoll at 100 ms", at("100ms"), OFF),
    ("nvpoll at 10 ms", at("10ms"), OFF),
    ("sample alone, 100 ms", SAMPLE, OFF),
    ("+ power", and_("power"), SAMPLE),
    ("+ counter, 100 ms", (*and_("counter"), "--counter-period", "100ms"), SAMPLE),
    ("+ gpm", and_("gpm"), SAMPLE),
    ("all channels, 100 ms", (*at("100ms"), "--channels", "sample,power,counter,gpm"), OFF),
]


class Decode:
    """Decode steps of a transformer with random weights, batch 1, as a CUDA graph.

    Eight layers of the width of an 8B model: the GPU is busy all the time and
    the host does next to nothing, so that what is measured is the GPU's speed.
    """

    LAYERS, WIDTH, HEADS = 8, 4096, 32

    def __init__(self):
        import torch
        from torch.nn import functional as nn

        torch.manual_seed(0)
        self.torch = torch

        def random(*shape):
            return torch.randn(*shape, device="cuda", dtype=torch.bfloat16) / shape[0] ** 0.5

        d, h = self.WIDTH, self.HEADS
        layers = [(random(d, 3 * d), random(d, d), random(d, 4 * d), random(4 * d, d),
                   random(1, h, CONTEXT, d // h), random(1, h, CONTEXT, d // h)) for _ in range(self.LAYERS)]
        x = random(1, d)

        def step():
            y = x
            for qkv, out, up, down, keys, values in layers:
                q, k, v = (nn.layer_norm(y, (d,)) @ qkv).view(1, 3, h, d // h).unbind(1)
                keys[:, :, -1], values[:, :, -1] = k, v
                y = y + nn.scaled_dot_product_attention(q.view(1, h, 1, -1), keys, values).reshape(1, d) @ out
                y = y + nn.gelu(nn.layer_norm(y, (d,)) @ up) @ down
            return y

        stream = torch.cuda.Stream()
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(3):
                step()
            stream.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=stream):
                self.result = step()
        self.steps = 200
        for _ in range(5):
            took = self.seconds()
        self.steps = max(20, int(LEG_S / took * self.steps))
        end = time.monotonic() + 10  # clocks and temperature settle
        while time.monotonic() < end:
            self.seconds()
        assert torch.isfinite(self.result).all()

    def seconds(self):
        self.torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(self.steps):
            self.graph.replay()
        self.torch.cuda.synchronize()
        return time.perf_counter() - begin


class Poller:
    """nvpoll with these arguments, which samples already; OFF: nothing."""

    def __init__(self, args, folder, name):
        self.process = None
        self.cpu_s = self.wall_s = 0.0
        if args is OFF:
            return
        trace = os.path.join(folder, name + ".ndjson")
        with open(trace, "w") as out:
            self.process = subprocess.Popen(["nvpoll", *args], stdout=out)
        deadline = time.monotonic() + 30
        while True:
            with open(trace) as f:
                if '"record":"sample"' in f.read():
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"overhead.py: nvpoll {' '.join(args)} does not sample (status {self.process.poll()})")
            time.sleep(0.05)
        time.sleep(0.2)
        self.hold()

    def cpu(self):
        # The process's CPU-time clock, in its kernel encoding: all threads, to the nanosecond.
        return time.clock_gettime_ns((~self.process.pid << 3) | 2) / 1e9

    def hold(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def go(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def measure(self, load):
        """The load's seconds while this poller runs."""
        if self.process is None:
            return load.seconds()
        self.cpu_s -= self.cpu()
        self.wall_s -= time.monotonic()
        self.go()
        took = load.seconds()
        self.hold()
        self.cpu_s += self.cpu()
        self.wall_s += time.monotonic()
        return took

    def stop(self):
        if self.process is None:
            return
        self.go()
        self.process.send_signal(signal.SIGINT)
        if self.process.wait(timeout=30) != 0:
            sys.exit(f"overhead.py: nvpoll ended with status {self.process.returncode}")


def student(n):
    """The 97.5 % quantile of Student's t with n degrees of freedom, n >= 3 (Cornish and Fisher)."""
    z = 1.959963984540054
    return (z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
            + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4))


def interval(values):
    """Mean and half-width of its 95 % confidence interval."""
    n = len(values)
    mean = sum(values) / n
    if n < 4:
        return mean, math.inf
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, student(n - 1) * sd / math.sqrt(n)


def main(budget):
    load = Decode()
    work = load.steps
    print(f"{work} decode steps a measurement, {load.seconds():.2f} s; pairs for {budget:g} s", flush=True)
    gc.disable()
    pairs = {what: [] for what, _, _ in COMPARISONS}  # (seconds with, seconds without)
    usage = {what: [0.0, 0.0] for what in pairs}  # CPU and wall seconds of nvpoll, in condition "with"
    begin, rounds, longest = time.monotonic(), 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begin + longest < budget:
            start = time.monotonic()
            for what, with_, without in COMPARISONS:
                a, b = Poller(with_, folder, "with"), Poller(without, folder, "without")
                for i in range(PAIRS):
                    took = {}
                    for name, poller in [("with", a), ("without", b)][:: 1 if i % 2 == 0 else -1]:
                        took[name] = poller.measure(load)
                    pairs[what].append((took["with"], took["without"]))
                a.stop()
                b.stop()
                usage[what][0] += a.cpu_s
                usage[what][1] += a.wall_s
            gc.collect()
            rounds += 1
            table(pairs, usage, work)  # whole after each round, should the time be cut short
            longest = max(longest, time.monotonic() - start)
    if rounds < 1:
        sys.exit(f"overhead.py: no round of {longest:.0f} s fitted into {budget:g} s")


def table(pairs, usage, work):
    print(f"\n{len(next(iter(pairs.values())))} pairs each; steps/s are means, the difference is that of the pairs, relative to without")
    print(f"{'comparison':24}{'without/s':>11}{'with/s':>11}{'difference':>12}{'95 % interval':>22}{'nvpoll CPU':>12}")
    for what, _, _ in COMPARISONS:
        on, off = zip(*pairs[what])
        mean, half = interval([b / a - 1 for a, b in pairs[what]])
        cpu, wall = usage[what]
        print(f"{what:24}{work * len(off) / sum(off):>11.2f}{work * len(on) / sum(on):>11.2f}{100 * mean:>+11.3f}%"
              f"{f'[{100 * (mean - half):+.3f}%, {100 * (mean + half):+.3f}%]':>22}{100 * cpu / wall:>11.2f}%")
    print("nvpoll CPU: its share of one core while the loop ran, all channels of the condition", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(float(sys.argv[1]))
