#!/usr/bin/env python3
"""What the GPU's units did in each kind of work: the means of nvpoll's GPM records.

    nvpoll --device replay:run/trace.ndjson.zst --speed max | scripts/gpm.py run/generation_events.jsonl

A record is a mean over a second. It counts for a kind of work (phase, model, batch,
context) if events of that kind fill at least 90 % of its time: with less, it would be
of the pauses too. Kinds shorter than that have no row. Per cent of the most that the
unit can do, not of what it can do at the clock it had.
"""
import json
import sys

SHARE = 0.9
FIELDS = ("sm_util", "tensor_util", "dram_bw_util")


def kind(event):
    return " ".join(
        str(event[name]) if name in ("phase", "model") else f"{label} {event[name]}"
        for name, label in (("phase", ""), ("model", ""), ("batch_size", "batch"), ("context", "context"))
        if name in event
    )


def main():
    with open(sys.argv[1]) as lines:
        events = [e for e in map(json.loads, lines) if e.get("record") == "event"]
    means = {}
    for line in sys.stdin:
        if '"record":"gpm"' not in line:
            continue
        window = json.loads(line)
        begin, end = window["t_start_ns"], window["t_ns"]
        inside = {}
        for e in events:
            common = min(end, e["t_end_ns"]) - max(begin, e["t_start_ns"])
            if common > 0 and window["gpu"] in e.get("gpus", [window["gpu"]]):
                inside[kind(e)] = inside.get(kind(e), 0) + common
        for name, common in inside.items():
            if common >= SHARE * (end - begin) and all(f in window for f in FIELDS):
                means.setdefault(name, []).append([window[f] for f in FIELDS])
    if not means:
        sys.exit("gpm.py: no GPM record lies in an event: poll with --channels sample,power,counter,gpm")
    print(f"{'kind of work':45}{'records':>8}" + "".join(f"{f + ' %':>15}" for f in FIELDS))
    for name, rows in means.items():
        print(f"{name:45}{len(rows):8}" + "".join(f"{sum(column) / len(rows):15.1f}" for column in zip(*rows)))


if __name__ == "__main__":
    main()
