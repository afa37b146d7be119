#!/usr/bin/env python3
"""Make the trimmed test copy of the H200 recording.

usage: make.py INPUT_FOLDER OUTPUT_FOLDER

INPUT_FOLDER holds the full recording: power_trace.csv, poll_5ms.csv.gz,
driver_samples.csv.gz, energy_counter.csv.gz, events.jsonl, info.json.
OUTPUT_FOLDER receives:

power_trace.csv.gz       power_trace.csv byte for byte, gzipped (mtime 0, no name).
trace.ndjson.zst         what a 100 ms poller with the channels sample, power and counter
                         would have written (joulepipe/1 records), through `zstd -19`.
events.ndjson            every event, in the recording's order, with "record":"event" in front.
generation_events.jsonl  the prefill and decode events only, with the fields of TR122's
                         section 3.2 that exist before attribution.

The 100 ms grid starts at the first 5 ms row; tick k is the first 5 ms row in
[t_first + k*100 ms, t_first + (k+1)*100 ms). A tick without such a row was lost: its
index is missing. Numbers keep the text that they have in the CSV; dt_s is exact.

Only the standard library and the zstd command are needed. The same input gives the same
output (the compressed bytes may differ between versions of zlib and zstd, the content not).
"""

import csv
import gzip
import json
import os
import re
import subprocess
import sys

PERIOD_NS = 100_000_000
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?\Z")

# 5 ms column and record key are the same word for all of these; the contract's order.
SAMPLE_COLUMNS = ["power_w", "power_instant_w", "temp_c", "sm_clock_mhz", "mem_clock_mhz",
                  "util_gpu", "util_mem", "vram_used_mb", "throttle_reasons"]

# TR122 section 3.2, in its order; the energy fields come from attribution and are not here.
GENERATION_FIELDS = ["event_id", "phase", "t_start_ns", "t_end_ns", "input_tokens",
                     "output_tokens", "batch_size", "tokens_per_second"]


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def number(text):
    """The text of a CSV cell, checked to be a JSON number as it stands."""
    if not NUMBER.match(text):
        raise ValueError("not a plain number: %r" % text)
    return text


def rows(path):
    with gzip.open(path, "rt", newline="") as f:
        yield from csv.DictReader(f)


def seconds(ns):
    """Nanoseconds as seconds with nine decimals, without floating point."""
    return "%d.%09d" % divmod(ns, 1_000_000_000)


def sample_lines(path):
    origin = previous_t = previous_tick = None
    for row in rows(path):
        t = int(row["t_ns"])
        if origin is None:
            origin = t
        tick = (t - origin) // PERIOD_NS
        if tick == previous_tick:
            continue
        parts = ['{"record":"sample","t_ns":%d,"gpu":0,"tick":%d' % (t, tick)]
        for name in SAMPLE_COLUMNS:
            if row[name] != "":  # a value that was not read is absent
                parts.append('"%s":%s' % (name, number(row[name])))
        parts.append('"read_ok":true')
        if previous_t is not None:
            parts.append('"dt_s":' + seconds(t - previous_t))
        yield t, ",".join(parts) + "}"
        previous_t, previous_tick = t, tick


def power_lines(path):
    for row in rows(path):
        t = int(row["t_ns"])
        yield t, '{"record":"power","t_ns":%d,"gpu":0,"power_w":%s}' % (t, number(row["power_w"]))


def counter_lines(path):
    for row in rows(path):
        t = int(row["t_after_ns"])
        yield t, '{"record":"counter","t_before_ns":%d,"t_ns":%d,"gpu":0,"energy_mj":%s}' % (
            int(row["t_before_ns"]), t, number(row["energy_mj"]))


def header(info, t_ns):
    caps = info["caps"]
    # caps.module: "(field id, NVML return, value)" of nvmlDeviceGetFieldValues;
    # 189 is the default power limit in mW.
    fields = {int(i): int(v) for i, r, v in
              re.findall(r"\((\d+), (\d+), (\d+)\)", caps["module"]) if r == "0"}
    gpu = {"gpu": 0, "name": info["name"], "driver": info["driver"],
           "power_limit_w": caps["limit"] / 1000}
    if 189 in fields:
        gpu["power_limit_default_w"] = fields[189] / 1000
    gpu["temp_slowdown_c"] = caps["slow"]
    gpu["temp_shutdown_c"] = caps["shut"]
    gpu["mig"] = caps["mig"] != "[0, 0]"
    gpu["channels"] = {"sample": "ok", "power": "ok", "counter": "ok"}
    # The recording pairs no wall-clock time with its clock: unix_ns is 0.
    return compact({"record": "header", "schema": "joulepipe/1", "tool": "recorder",
                    "t_ns": t_ns, "unix_ns": 0, "period_ns": PERIOD_NS, "gpus": [gpu]})


def make_trace(source, target):
    lines = []
    for kind, (name, reader) in enumerate([("poll_5ms.csv.gz", sample_lines),
                                           ("driver_samples.csv.gz", power_lines),
                                           ("energy_counter.csv.gz", counter_lines)]):
        got = [(t, kind, line) for t, line in reader(os.path.join(source, name))]
        print("%-20s %6d records" % (name, len(got)))
        lines += got
    lines.sort(key=lambda x: x[:2])  # by time; at one time sample, power, counter
    with open(os.path.join(source, "info.json"), encoding="utf-8") as f:
        info = json.load(f)
    text = [header(info, lines[0][0])]
    text += [line for _, _, line in lines]
    text.append('{"record":"end","records":%d}' % len(lines))
    data = ("\n".join(text) + "\n").encode("utf-8")
    done = subprocess.run(["zstd", "-19", "-q", "-c"], input=data,
                          stdout=subprocess.PIPE, check=True)
    with open(target, "wb") as f:
        f.write(done.stdout)
    print("%-20s %6d records between header and end, %d bytes before zstd"
          % ("trace", len(lines), len(data)))


def make_power_trace(source, target):
    with open(source, "rb") as f:
        data = f.read()
    with open(target, "wb") as f:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=f, mtime=0) as z:
            z.write(data)


def make_events(source, events, generation):
    n = g = 0
    with open(source, encoding="utf-8") as f, \
            open(events, "w", encoding="utf-8", newline="\n") as out, \
            open(generation, "w", encoding="utf-8", newline="\n") as gen:
        for line in f:
            if not line.strip():
                continue
            event = json.loads(line)
            out.write(compact({"record": "event", **event}) + "\n")
            n += 1
            if event["phase"] in ("prefill", "decode"):
                gen.write(compact({k: event[k] for k in GENERATION_FIELDS if k in event}) + "\n")
                g += 1
    print("%-20s %6d events, %d of them prefill or decode" % ("events", n, g))


def main(argv):
    if len(argv) != 3:
        sys.stderr.write("usage: make.py INPUT_FOLDER OUTPUT_FOLDER\n")
        return 2
    source, target = argv[1:]
    os.makedirs(target, exist_ok=True)
    make_power_trace(os.path.join(source, "power_trace.csv"),
                     os.path.join(target, "power_trace.csv.gz"))
    make_trace(source, os.path.join(target, "trace.ndjson.zst"))
    make_events(os.path.join(source, "events.jsonl"), os.path.join(target, "events.ndjson"),
                os.path.join(target, "generation_events.jsonl"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
