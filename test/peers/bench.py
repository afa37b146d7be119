#!/usr/bin/env python3
"""nvattrib beside its peers on one job, whole processes. README.md says what and how.

usage: bench.py     (make bench-peers builds and installs what it needs first)

environment: SAMPLES (1e7), EVENTS (1e5), ROUNDS (5), LIMIT in seconds for a peer (300),
ONLY, a regular expression on "tool input"
"""

import array
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from statistics import median

here = os.path.dirname(os.path.abspath(__file__))
cache = os.path.join(here, ".cache")
debian = os.path.join(cache, "debian", "root", "usr")
libraries = os.path.join(debian, "lib", platform.machine() + "-linux-gnu")
environment = os.environ | {
    "NODE_PATH": os.path.join(cache, "node_modules"),
    "PATH": os.path.join(debian, "bin") + ":" + os.environ["PATH"],
    "PYTHONPATH": os.path.join(debian, "lib", "python3", "dist-packages"),
    # Debian's numpy has its BLAS by links that an installation would have made.
    "LD_LIBRARY_PATH": ":".join([libraries, libraries + "/blas", libraries + "/lapack"]),
}
python = "/usr/bin/python3"  # Debian's, which its pandas is for
TOLERANCE = 1e-9
SLOW = 10.0  # seconds; the noise in what takes longer does not matter, and it runs once


@dataclass
class Task:
    """A program on an input, and what its runs took."""

    tool: str
    input: str
    argv: list
    output: str
    stdout: bool = False  # the program writes there
    wall: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    peak: float = 0.0  # MB of 1e6 bytes
    late: bool = False  # did not end within the limit

    @property
    def name(self):
        return self.tool + " " + self.input


class Late(Exception):
    pass


def run(task, limit):
    """One run: its wall time, CPU time and the most memory it held."""

    def stop(*_):
        os.kill(pid, signal.SIGKILL)
        os.wait4(pid, 0)
        raise Late

    if os.path.exists(task.output):
        os.unlink(task.output)
    actions = [(os.POSIX_SPAWN_OPEN, 1, task.output, os.O_WRONLY | os.O_CREAT, 0o644)] if task.stdout else []
    signal.signal(signal.SIGALRM, stop)
    program = shutil.which(task.argv[0], path=environment["PATH"])
    begin = time.monotonic()
    # A child's peak begins at its parent's size: this process stays small.
    pid = os.posix_spawn(program, task.argv, environment, file_actions=actions)
    signal.setitimer(signal.ITIMER_REAL, limit)
    _, status, usage = os.wait4(pid, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    wall = time.monotonic() - begin
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        sys.exit(f"{task.name} ended with {code}")
    task.wall.append(wall)
    task.cpu.append(usage.ru_utime + usage.ru_stime)
    task.peak = max(task.peak, usage.ru_maxrss * 1024 / 1e6)


def energies(name, events):
    """The energy of e0, e1, … in a tool's output, NaN where it gives none."""
    got, seen = array.array("d", [math.nan]) * events, 0
    with open(name, encoding="utf-8") as lines:
        for line in lines:
            e = json.loads(line)
            if e.get("record", "event") != "event":
                continue
            seen += 1
            joules = e.get("energy_joules")
            if joules not in (None, ""):
                got[int(e["event_id"][1:])] = joules
    if seen != events:
        sys.exit(f"{name}: {seen} events of {events}")
    return got


def compare(name, got, want):
    """The largest relative difference; ends the comparison if that is too large."""
    worst = 0.0
    for i, (a, b) in enumerate(zip(got, want)):
        if math.isnan(a) != math.isnan(b):
            sys.exit(f"{name}: event e{i} has {a} J, by nvattrib {b} J")
        if not math.isnan(a):
            worst = max(worst, abs(a - b) / max(abs(a), abs(b)))
    if worst > TOLERANCE:
        sys.exit(f"{name} differs from nvattrib by {worst:.2g}")
    return worst


def nvattrib(where, trace, events, method):
    out = os.path.join(where, "out.ndjson")
    argv = ["bin/nvattrib", "-t", f"{where}/{trace}", "-e", f"{where}/{events}", "-m", method, "-o", out]
    return Task("nvattrib " + method, trace, argv, out)


def same_work(where):
    """What does the one job, nvattrib first."""
    out, events = os.path.join(where, "out"), f"{where}/events.ndjson"
    tasks = [nvattrib(where, trace, "events.ndjson", "tr122") for trace in ("trace.ndjson", "trace.csv", "trace.arrow")]
    for tool in ("polars", "duckdb"):
        for trace in ("trace.ndjson", "trace.csv", "trace.parquet"):
            tasks.append(Task(tool, trace, ["node", f"{here}/{tool}.js", f"{where}/{trace}", events, out], out))
    for trace in ("trace.ndjson", "trace.csv"):
        tasks.append(Task("pandas", trace, [python, f"{here}/pandas_join.py", f"{where}/{trace}", events, out], out))
    for trace, form, kind in (("trace.ndjson", "--ijsonl", "ndjson"), ("trace.csv", "--icsv", "csv")):
        never = str(2**63 - 1)
        argv = ["mlr", form, "--ojsonl", "put", "-q", "-s", "next=1", "-s", "joules=0.0", "-s", "never=" + never, "-s", "edge=" + never]
        argv += ["-f", f"{here}/miller.mlr", f"{where}/events.{kind}", f"{where}/{trace}"]
        tasks.append(Task("miller", trace, argv, out, stdout=True))
    return tasks


def own_methods(where):
    """nvattrib's methods over a trace that has all channels."""
    return [nvattrib(where, "channels.ndjson", "channels.events.ndjson", m) for m in ("tr122", "power", "average", "instant", "counter", "driver", "auto")]


def make_inputs(where, samples, events):
    os.makedirs(where)
    subprocess.run(["awk", "-v", f"dir={where}", "-v", f"samples={samples}", "-v", f"events={events}", "-f", f"{here}/inputs.awk"], check=True)
    subprocess.run(["node", f"{here}/tables.js", where], env=environment, check=True)
    os.sync()  # else the disk is still busy with them in the first round


def rounds(tasks, count, limit, events, check):
    """Runs the tasks in turn, round by round. The first round's answers are compared."""
    want, worst = None, 0.0
    for i in range(count):
        for task in tasks:
            if task.late or i > 0 and task.wall[0] > SLOW:
                continue
            try:
                run(task, limit)
            except Late:
                task.late = True
                continue
            if i == 0:
                got = energies(task.output, events)
                if check:
                    want = want or got
                    worst = max(worst, compare(task.name, got, want))
            print(f"round {i + 1}  {task.name:32}{task.wall[-1]:8.2f} s", file=sys.stderr, flush=True)
    return worst


def against(task, base):
    """How many times as long as base it took: the median over the rounds that have both."""
    return median(a / b for a, b in zip(task.wall, base.wall))


def table(tasks, where, base):
    print(f"{'tool':18}{'input':18}{'MB':>6}{'runs':>6}{'s':>8}{'least':>8}{'most':>8}{'CPU s':>8}{'peak MB':>9}{'times':>8}")
    for t in tasks:
        size = os.path.getsize(f"{where}/{t.input}") / 1e6
        if t.late:
            print(f"{t.tool:18}{t.input:18}{size:6.0f}  not within the limit")
            continue
        print(f"{t.tool:18}{t.input:18}{size:6.0f}{len(t.wall):6}{median(t.wall):8.2f}{min(t.wall):8.2f}{max(t.wall):8.2f}{median(t.cpu):8.2f}{t.peak:9.0f}{against(t, base(t)):8.2f}")


def goal(text, got, want, most=False):
    met = got <= want if most else got >= want
    print(f"  {'met   ' if met else 'MISSED'}  {text}: {got:.2f}, {'at most' if most else 'at least'} {want:g}")


def versions():
    """What was compared, by its own account."""

    def say(*argv):
        return subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    node = "const v = p => require(p + '/package.json').version; console.log('polars', v('nodejs-polars'), '(npm nodejs-polars), DuckDB', v('@duckdb/node-api'), '(npm @duckdb/node-api), Node.js', process.version)"
    print(say("bin/nvattrib", "--version").splitlines()[0])
    print(say("node", "-e", node))
    print("pandas", say(python, "-c", "import pandas, numpy, sys; print(pandas.__version__, '(numpy', numpy.__version__ + ', Python', sys.version.split()[0] + '),', end=' ')"), say("mlr", "--version"), "(Debian)")
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    print(f"{os.cpu_count()} × {cpu}, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}")


def main():
    samples, events = int(float(os.environ.get("SAMPLES", "1e7"))), int(float(os.environ.get("EVENTS", "1e5")))
    count, limit = int(os.environ.get("ROUNDS", "5")), float(os.environ.get("LIMIT", "300"))
    only = re.compile(os.environ.get("ONLY", ""))
    os.chdir(os.path.join(here, "..", ".."))
    where = tempfile.mkdtemp(prefix="inputs", dir=cache)
    try:
        versions()
        inputs = where + "/all"
        make_inputs(inputs, samples, events)
        tasks = [t for t in same_work(inputs) if only.search(t.name)]
        worst = rounds(tasks, count, limit, events, check=True)
        first = {t.input: t for t in reversed(tasks)}  # nvattrib's, by input
        first["trace.parquet"] = first.get("trace.arrow", first.get("trace.parquet"))
        print(f"\n{samples} samples, {events} events; energies agree within {worst:.1g}; times: as long as nvattrib takes for the same (Parquet: for Arrow)\n")
        table(tasks, inputs, lambda t: first[t.input])

        late = [t.name for t in tasks if t.late]
        if late:
            small = where + "/tenth"
            make_inputs(small, samples // 10, events // 10)
            again = [t for t in same_work(small) if t.name in late or t.tool == "nvattrib tr122"]
            worst = rounds(again, count, limit, events // 10, check=True)
            base = {t.input: t for t in reversed(again)}
            base["trace.parquet"] = base["trace.arrow"]
            print(f"\n{samples // 10} samples, {events // 10} events; energies agree within {worst:.1g}\n")
            table(again, small, lambda t: base[t.input])

        own = [t for t in own_methods(inputs) if only.search(t.name)]
        rounds(own, count, limit, events, check=False)
        if own:
            driver = next((t for t in own if t.tool == "nvattrib driver"), own[0])
            print(f"\nevery channel, {samples} records, {events} events; times: as long as {driver.tool}\n")
            table(own, inputs, lambda t: driver)

        by = {t.name: t for t in tasks + own if t.wall}
        print("\ngoals")
        for text, slow, fast, want in (
            ("NDJSON, polars over nvattrib", "polars trace.ndjson", "nvattrib tr122 trace.ndjson", 4),
            ("NDJSON, DuckDB over nvattrib", "duckdb trace.ndjson", "nvattrib tr122 trace.ndjson", 6),
            ("polars on Parquet over nvattrib on Arrow", "polars trace.parquet", "nvattrib tr122 trace.arrow", 5),
        ):
            if slow in by and fast in by:
                goal(text, against(by[slow], by[fast]), want)
        lean = [t for t in tasks + own if t.wall and t.tool.startswith("nvattrib") and t.tool != "nvattrib auto"]
        if lean:
            goal("peak MB of tr122 and the channel methods", max(t.peak for t in lean), 64, most=True)
        auto, driver = (by.get(f"nvattrib {m} channels.ndjson") for m in ("auto", "driver"))
        if auto and driver:
            goal("auto over driver", against(auto, driver), 4, most=True)
            goal("peak MB of auto", auto.peak, 256, most=True)
    finally:
        shutil.rmtree(where)


main()
