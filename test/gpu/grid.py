#!/usr/bin/env python3
"""Compares nvpoll's lateness with that of the bare loop in the same run.

    grid.py NAME...     each with NAME.ndjson, a trace, and NAME.late, lines of ns
"""
import json
import sys


def quantile(values, q):
    values = sorted(values)
    rank = q * (len(values) - 1)
    i = int(rank)
    upper = values[min(i + 1, len(values) - 1)]
    return values[i] + (rank - i) * (upper - values[i])


def read(trace):
    """The period in ms, each GPU's samples, and the end's account."""
    period, samples, account = None, {}, None
    with open(trace) as lines:
        for line in lines:
            r = json.loads(line)
            if r["record"] == "header":
                period = r["period_ns"] / 1e6
            elif r["record"] == "sample":
                samples.setdefault(r["gpu"], []).append(r)
            elif r["record"] == "end":
                account = r["poller"]
    if account is None:
        sys.exit(f"{trace} has no end: nvpoll did not finish")
    return period, samples, account


def drops(samples, period_ms):
    """The holes in the grid: (ticks lost, the sample before, is it explained).

    A sample whose wake-up and reading together outlast the period has covered
    the ticks that follow it."""
    for before, after in zip(samples, samples[1:]):
        lost = after["tick"] - before["tick"] - 1
        if lost > 0:
            busy_ms = (before["late_us"] + before["read_us"]) / 1e3
            yield lost, before, busy_ms > lost * period_ms


def main(names):
    runs = []
    for name in names:
        period, samples, account = read(name + ".ndjson")
        with open(name + ".late") as f:
            loop = [int(line) / 1e3 for line in f]
        runs.append((period, samples, account, loop))

    print(f"\n{'period':>8}{'':>10}{'ticks':>8}{'p50 µs':>10}{'p95 µs':>10}{'p99 µs':>10}{'max µs':>10}")
    verdicts = []
    for period, samples, account, loop in runs:
        ours = [s["late_us"] for gpu in samples.values() for s in gpu]
        rows = [[quantile(late, q) for q in (0.5, 0.95, 0.99, 1)] for late in (ours, loop)]
        for who, late, row in (("nvpoll", ours, rows[0]), ("gridloop", loop, rows[1])):
            print(f"{period:>6g}ms{who:>10}{len(late):>8}" + "".join(f"{v:>10.1f}" for v in row))
        print(f"{'':>8}{'ratio':>10}{'':>8}" + "".join(f"{a / b:>10.2f}" for a, b in zip(*rows)))
        verdicts.append((period, rows[0][1] / rows[1][1]))

    print(f"\n{'period':>8}{'gpu':>5}{'samples':>9}{'per s':>9}{'median dt':>11}{'dropped':>9}{'in holes':>10}{'explained':>11}{'read p50 µs':>13}{'p99':>9}")
    for period, samples, account, _ in runs:
        for stats in account["gpus"]:
            mine = samples.get(stats["gpu"], [])
            holes = list(drops(mine, period))
            span = (mine[-1]["t_ns"] - mine[0]["t_ns"]) / 1e9
            reads = [s["read_us"] for s in mine]
            print(f"{period:>6g}ms{stats['gpu']:>5}{len(mine):>9}{(len(mine) - 1) / span:>9.2f}{stats['median_dt_ms']:>9.3f}ms{stats['dropped_ticks']:>9}"
                  f"{sum(h[0] for h in holes):>10}{sum(h[0] for h in holes if h[2]):>11}{quantile(reads, 0.5):>13.1f}{quantile(reads, 0.99):>9.1f}")
            for lost, before, explained in sorted(holes, key=lambda h: -h[0])[:10]:
                why = "covered by the reading before" if explained else "not explained by the reading before"
                print(f"{'':>13}{lost} ticks after tick {before['tick']}: {why} (late_us {before['late_us']:.0f}, read_us {before['read_us']:.0f})")
            if len(holes) > 10:
                print(f"{'':>13}and {len(holes) - 10} more holes")
    print()
    for period, ratio in verdicts:
        print(f"{period:g} ms: p95 lateness is {ratio:.2f} of the bare loop's" + ("" if period < 10 else f", goal <= 1.2: {'met' if ratio <= 1.2 else 'NOT met'}"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
