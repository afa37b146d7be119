#!/usr/bin/env python3
"""Judges what waves.sh wrote.

    waves.py DIR
"""
import json
import os
import statistics
import sys

out = sys.argv[1]
failed = []


def check(what, passed, value=""):
    print(f"{'pass' if passed else 'FAIL'}  {what}{': ' + str(value) if value != '' else ''}")
    if not passed:
        failed.append(what)


def path(name):
    return os.path.join(out, name)


def records(name):
    file = path(name + ".ndjson")
    if not os.path.exists(file):
        file += ".partial"
    rows = []
    if os.path.exists(file):
        for line in open(file):
            try:
                rows.append(json.loads(line))
            except ValueError:
                pass  # a killed writer's last line
    return rows


def events(name):
    return [r for r in records(name) if r["record"] == "event"]


def status(name):
    try:
        return int(open(path(name + ".status")).read())
    except OSError:
        return None


def words(name):
    try:
        return open(path(name + ".log")).read().strip()
    except OSError:
        return ""


trace = records("trace")
samples = [r for r in trace if r["record"] == "sample"]
driver = [(r["t_ns"], r["power_w"]) for r in trace if r["record"] == "power"]
key = "power_instant_w" if any("power_instant_w" in s for s in samples) else "power_w"
powers = [(s["t_ns"], s[key]) for s in samples if key in s]
temps = [(s["t_ns"], s["temp_c"]) for s in samples if "temp_c" in s]
used = [(s["t_ns"], s["util_gpu"]) for s in samples if "util_gpu" in s]


def within(series, start, end):
    return [v for t, v in series if start <= t < end]


def mean(series, e, skip=0.3):
    """Over an event, without its first part, in which the sensor follows."""
    v = within(series, e["t_start_ns"] + int(skip * 1e9), e["t_end_ns"])
    return statistics.fmean(v) if v else float("nan")


def rate(e):
    if "flops_per_s" in e:
        return f"{e['flops_per_s'] / 1e12:.1f} TFLOP/s"
    if "bytes_per_s" in e:
        return f"{e['bytes_per_s'] / 1e9:.0f} GB/s"
    return "-"


def half_rise(high, before):
    """When the driver's power passed the middle between low and high, in ms after the event began."""
    lo = within(driver, before["t_end_ns"] - int(0.2e9), before["t_end_ns"])
    hi = within(driver, high["t_end_ns"] - int(0.2e9), high["t_end_ns"])
    if not lo or not hi:
        return None
    middle = (statistics.median(lo) + statistics.median(hi)) / 2
    last = None
    for t, w in driver:
        if t < high["t_start_ns"] - int(50e6):
            continue
        if w >= middle:
            if last and last[1] < middle:
                t = last[0] + (t - last[0]) * (middle - last[1]) / (w - last[1])
            return (t - high["t_start_ns"]) / 1e6
        last = (t, w)
    return None


table = []
check("the trace has samples and driver's powers", len(samples) > 1000 and len(driver) > 0, f"{len(samples)}, {len(driver)}")
for name in ["square_fp32", "square_bf16", "square_memory", "square_own", "edges", "fast"] + [f"share_{s}" for s in ("0", "0.25", "0.5", "0.75", "1")]:
    if status(name) != 0:
        check(f"{name} ends with status 0", False, f"{status(name)} {words(name)}")
    elif words(name):
        print(f"      {name} says: {words(name)}")

for name in ["square_fp32", "square_bf16", "square_memory", "square_own"]:
    low = [e for e in events(name) if e["phase"] == "square_low"]
    high = [e for e in events(name) if e["phase"] == "square_high"]
    if not high or not low:
        check(f"{name} has events", False)
        continue
    pl, ph = statistics.fmean(mean(powers, e) for e in low[-1:]), statistics.fmean(mean(powers, e) for e in high)
    check(f"{name}: high draws more than low", ph > 1.3 * pl, f"{ph:.0f} W, {pl:.0f} W")
    rise = [half_rise(h, l) for h, l in zip(high, low)]
    check(f"{name}: launches, and a rate", all(e.get("launches", 0) > 100 and rate(e) != "-" for e in high), rate(high[-1]))
    gap = max(e.get("load_gap_s", 0) for e in high)
    check(f"{name}: the GPU has always work", gap < 0.005 and all(e["busy_s"] > 0.98 * (e["t_end_ns"] - e["t_start_ns"]) / 1e9 for e in high), f"longest gap {gap * 1e3:.1f} ms")
    calibration = next((r for r in records(name) if r.get("name") == "load_calibration"), {})
    table.append((name, rate(high[-1]), f"{ph:.0f}", f"{pl:.0f}", f"{calibration.get('launch_us', 0):.0f}",
                  f"{max(e['first_launch_us'] for e in high):.0f}", f"{max(e['last_launch_us'] for e in high):.0f}",
                  " ".join("-" if r is None else f"{r:.0f}" for r in rise), os.path.basename(calibration.get("blas", ""))))

edges = []
for name in ["square_fp32", "square_bf16", "square_memory", "square_own", "edges", "fast"]:
    all_events = events(name)
    high = [e for e in all_events if e["phase"] == "square_high"]
    first = [e["first_launch_us"] for e in high if "first_launch_us" in e]
    last = [e["last_launch_us"] for e in high if "last_launch_us" in e]
    if not first or len(first) != len(high):
        check(f"{name}: all events have their edges", False)
        continue
    edges.append((name, len(high), statistics.median(first), max(first), statistics.median(last), max(last)))
    # A process that is held up for a moment is late, and says so in the event.
    late = [sorted(us)[int(0.95 * len(us))] for us in (first, last)]
    check(f"{name}: the first launch begins within 1 ms of the stamp, and the last ends", max(late) < 1000 and min(first + last) > -100,
          f"95 % {late[0]:.0f} µs, {late[1]:.0f} µs; worst {max(first):.0f} µs, {max(last):.0f} µs")
    t0 = all_events[0]["t_start_ns"]
    grid, off = 0, []
    wanted = {"edges": (20e6, 10e6), "fast": (10e6, 10e6)}.get(name, (700e6, 700e6))
    for i, e in enumerate(all_events):
        off.append(abs(e["t_start_ns"] - t0 - grid) / 1e6)
        grid += wanted[i % 2]
        off.append(abs(e["t_end_ns"] - t0 - grid) / 1e6)
    check(f"{name}: events lie on the grid within 1 ms", sorted(off)[int(0.95 * len(off))] < 1, f"95 % {sorted(off)[int(0.95 * len(off))]:.2f} ms, worst {max(off):.2f} ms")

shares = []
for s in ("0", "0.25", "0.5", "0.75", "1"):
    for e in events("share_" + s):
        d = (e["t_end_ns"] - e["t_start_ns"]) / 1e9
        shares.append((s, mean(powers, e, 0.6), e.get("busy_s", 0) / d, rate(e), mean([(x["t_ns"], x["vram_used_mb"]) for x in samples if "vram_used_mb" in x], e)))
watts = [w for _, w, _, _, _ in shares]
# A board at its power limit has nothing to add, and gives some watts back while it finds its clock.
limit = trace[0]["gpus"][0].get("power_limit_w", 1e9)
check("mean power rises with the intensity, up to the limit", len(shares) == 5 and all(b > a + (10 if b < 0.9 * limit else -0.05 * limit) for a, b in zip(watts, watts[1:])),
      " ".join(f"{w:.0f}" for w in watts))
check("the share of time with work is the intensity", len(shares) == 5 and all(abs(b - float(s)) < 0.03 for s, _, b, _, _ in shares), " ".join(f"{b:.3f}" for _, _, b, _, _ in shares))
check("--vram 4096 is held", len(shares) == 5 and all(v > 4096 for *_, v in shares), " ".join(f"{v:.0f}" for *_, v in shares))

e = events("interrupted")
check("SIGINT: status 0, one event, interrupted, and an end", status("interrupted") == 0 and len(e) == 1 and e[0].get("interrupted") is True
      and records("interrupted")[-1]["record"] == "end", f"status {status('interrupted')}")
if e:
    header = records("interrupted")[0]
    at = int(open(path("interrupted.at")).read()) - header["unix_ns"] + header["t_ns"]
    check("SIGINT: the event ends within 50 ms", abs(e[0]["t_end_ns"] - at) < 50e6, f"{(e[0]['t_end_ns'] - at) / 1e6:.1f} ms after it")

rows = records("killed")
at = int(open(path("killed.at")).read())
check("SIGKILL: what was written stays under .partial", os.path.exists(path("killed.ndjson.partial")) and any(r.get("name") == "load_calibration" for r in rows), status("killed"))
busy = within(powers, at - int(0.5e9), at)
idle = within(powers, at + int(0.8e9), at + int(1.3e9))
util = within(used, at + int(1.0e9), at + int(1.4e9))
check("SIGKILL: power has fallen after 1 s", bool(busy and idle) and statistics.fmean(idle) < 0.6 * statistics.fmean(busy), f"{statistics.fmean(busy or [0]):.0f} W, then {statistics.fmean(idle or [0]):.0f} W")
check("SIGKILL: the GPU is not in use after 1 s", bool(util) and statistics.median(util) <= 5, util[-1] if util else "")

rows, e = records("tripped"), events("tripped")
marks = [(r["name"], r.get("temp_c")) for r in rows if r["record"] == "marker" and r["name"].startswith("thermal")]
if not e:
    check("the load that gets too hot has an event", False, words("tripped"))
elif not marks:
    hottest = max(within(temps, e[0]["t_start_ns"], e[0]["t_end_ns"]), default=None)
    print(f"      the GPU did not get hot enough for a pause: {hottest} °C; nothing is judged")
else:
    check("too hot: the load pauses and the event says for how long", marks[0][0] == "thermal_pause" and e[0].get("thermal_pause_s", 0) > 0, f"{e[0].get('thermal_pause_s', 0):.1f} s, {marks}")
    check("too hot: status 5 if it ended so or mostly paused, else 0", status("tripped") == (5 if marks[-1][0] == "thermal_pause" or
          e[0].get("thermal_pause_s", 0) * 2 > (e[0]["t_end_ns"] - e[0]["t_start_ns"]) / 1e9 else 0), f"status {status('tripped')}; {words('tripped')}")
    check("too hot: standard error says so", "the load pauses" in words("tripped"))
    p = next(r["t_ns"] for r in rows if r.get("name") == "thermal_pause")
    busy, rest = within(powers, p - int(1.5e9), p - int(0.2e9)), within(powers, p + int(0.5e9), p + int(1e9))
    check("too hot: power falls with the pause", bool(busy and rest) and statistics.fmean(rest) < 0.6 * statistics.fmean(busy), f"{statistics.fmean(busy or [0]):.0f} W, then {statistics.fmean(rest or [0]):.0f} W")

print(f"\n{'load':15}{'rate':>16}{'high W':>8}{'low W':>7}{'launch µs':>11}{'first µs':>10}{'last µs':>9}{'half-rise ms':>14}  cuBLAS")
for row in table:
    print(f"{row[0]:15}{row[1]:>16}{row[2]:>8}{row[3]:>7}{row[4]:>11}{row[5]:>10}{row[6]:>9}{row[7]:>14}  {row[8]}")
print(f"\n{'edges':15}{'events':>7}{'first µs: median':>18}{'worst':>7}{'last µs: median':>17}{'worst':>7}")
for name, n, fm, fx, lm, lx in edges:
    print(f"{name:15}{n:>7}{fm:>18.0f}{fx:>7.0f}{lm:>17.0f}{lx:>7.0f}")
print(f"\n{'intensity':10}{'W':>7}{'with work':>11}{'rate':>17}{'MiB used':>10}")
for s, w, b, r, v in shares:
    print(f"{s:10}{w:>7.0f}{b:>11.3f}{r:>17}{v:>10.0f}")
print(f"\n{len(failed)} checks failed, {open(path('seconds')).read().strip()} s")
sys.exit(1 if failed else 0)
