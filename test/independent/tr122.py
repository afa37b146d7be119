#!/usr/bin/env python3
"""TR122's event energy, computed a second time in exact rational arithmetic.

usage: tr122.py POWER_TRACE.csv[.gz] EVENTS.ndjson[.gz] IDLE_WATTS_MEAN
       tr122.py --self-test

For each event, in the order of the input, one JSON object a line: event_id,
power_samples, gap_fraction, max_gap_s, energy_joules, operational_joules,
operational_joules_clamped, energy_quality, energy_tier. Floats are the exact rational
results rounded once and written with repr; an absent value is null.

Written from the text of TR122 and of the contract alone, to check nvattrib --method tr122.

The arithmetic
--------------
in-window sample     t_start <= t <= t_end, read_ok, a finite power
energy               trapezoid over neighbouring in-window samples; nothing is added
                     between the event's ends and its first and last sample
operational          energy - idle * (t_end - t_start)
operational clamped  trapezoid of max(0, P - idle), the maximum taken at each sample
spacings             neighbouring in-window samples; start to first; last to end;
                     with no sample in the window the whole event is one spacing
gap_fraction         sum of the spacings longer than 0.25 s, over the duration
max_gap_s            the longest spacing
energy_quality       no_data: fewer than 2 samples (then the energies are null);
                     gappy: gap_fraction > 0.10, max_gap_s > 0.5, or exactly 2 samples;
                     else good
energy_tier          refused: no_data or gap_fraction >= 0.10; billable: longer than 1 s,
                     more than 8 samples and gap_fraction < 0.05; else estimate

All of these limits are compared exactly: 0.10 is one tenth here, not the nearest double.
An event without a length has no gap_fraction (0/0): null, and no gap. Samples at one time
are all used (their trapezoid is nil). An event that ends before it starts is no_data,
refused, gap_fraction and max_gap_s null.
"""

import csv
import gzip
import io
import json
import random
import sys
from bisect import bisect_left, bisect_right
from fractions import Fraction
from itertools import accumulate

NS = 1_000_000_000
GAP_NS = NS // 4             # a spacing longer than this is a gap
LONG_NS = NS // 2            # a max_gap longer than this is gappy
TENTH = Fraction(1, 10)
TWENTIETH = Fraction(1, 20)


class Trace:
    """Sorted valid samples with running sums, so that an event costs only bisections."""

    def __init__(self, samples, idle):
        """samples: (t_ns, power as Fraction) in any order; idle: Fraction."""
        samples = sorted(samples, key=lambda s: s[0])
        self.idle = idle
        self.t = [t for t, _ in samples]
        power = [p for _, p in samples]
        above = [max(Fraction(0), p - idle) for p in power]
        self.dt = [b - a for a, b in zip(self.t, self.t[1:])]
        self.energy = self._running(power)
        self.clamped = self._running(above)
        # gaps[i]: the sum of the spacings longer than 0.25 s before sample i
        self.gaps = [0] + list(accumulate(d if d > GAP_NS else 0 for d in self.dt))
        # longest[k][i]: the longest of the 2**k spacings from spacing i on
        self.longest = [self.dt]
        step = 1
        while 2 * step <= len(self.dt):
            last = self.longest[-1]
            self.longest.append([max(last[i], last[i + step])
                                 for i in range(len(last) - step)])
            step *= 2

    def _running(self, value):
        """Running trapezoid sum up to each sample, in joules, exact."""
        area = (Fraction(d) * (a + b) / (2 * NS) for d, a, b in zip(self.dt, value, value[1:]))
        return [Fraction(0)] + list(accumulate(area))

    def _longest(self, lo, hi):
        """The longest of the spacings lo .. hi-1, 0 if there are none."""
        n = hi - lo
        if n <= 0:
            return 0
        k = n.bit_length() - 1
        return max(self.longest[k][lo], self.longest[k][hi - (1 << k)])

    def event(self, start, end):
        lo = bisect_left(self.t, start)
        hi = bisect_right(self.t, end)
        n = max(0, hi - lo)
        duration = end - start
        if duration < 0:
            return result(0, None, None, None, None, None, duration)
        if n == 0:
            gap_sum = duration if duration > GAP_NS else 0
            max_gap = duration
        else:
            first, last = self.t[lo] - start, end - self.t[hi - 1]
            gap_sum = self.gaps[hi - 1] - self.gaps[lo]
            gap_sum += sum(d for d in (first, last) if d > GAP_NS)
            max_gap = max(first, last, self._longest(lo, hi - 1))
        gap_fraction = Fraction(gap_sum, duration) if duration else None
        if n < 2:
            return result(n, gap_fraction, max_gap, None, None, None, duration)
        energy = self.energy[hi - 1] - self.energy[lo]
        clamped = self.clamped[hi - 1] - self.clamped[lo]
        operational = energy - self.idle * Fraction(duration, NS)
        return result(n, gap_fraction, max_gap, energy, operational, clamped, duration)


def result(n, gap_fraction, max_gap, energy, operational, clamped, duration):
    """The rules on quality and tier; every number still exact."""
    gap = gap_fraction or Fraction(0)
    if n < 2:
        quality = "no_data"
    elif gap > TENTH or max_gap > LONG_NS or n == 2:
        quality = "gappy"
    else:
        quality = "good"
    if quality == "no_data" or gap >= TENTH:
        tier = "refused"
    elif duration > NS and n > 8 and gap < TWENTIETH:
        tier = "billable"
    else:
        tier = "estimate"
    return {
        "power_samples": n,
        "gap_fraction": gap_fraction,
        "max_gap_s": None if max_gap is None else Fraction(max_gap, NS),
        "energy_joules": energy,
        "operational_joules": operational,
        "operational_joules_clamped": clamped,
        "energy_quality": quality,
        "energy_tier": tier,
    }


def as_line(event_id, values):
    out = {"event_id": event_id}
    for key, value in values.items():
        out[key] = float(value) if isinstance(value, Fraction) else value
    return json.dumps(out, ensure_ascii=False)  # json writes a float with repr


def open_text(path):
    """A text file, plain or gzip by its first bytes."""
    with open(path, "rb") as f:
        gz = f.read(2) == b"\x1f\x8b"
    if gz:
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def read_trace(f):
    """The valid samples of a power_trace.csv: (t_ns, power as Fraction)."""
    reader = csv.DictReader(f)
    for need in ("t_ns", "power_w"):
        if need not in (reader.fieldnames or []):
            raise ValueError("power trace: no column %s" % need)
    for row in reader:
        ok = row.get("read_ok")
        if ok is not None and ok.strip().lower() not in ("true", "1"):
            continue
        text = (row["power_w"] or "").strip()
        if text == "" or text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            continue
        yield int(row["t_ns"]), Fraction(text)


def read_events(f):
    """(event_id, t_start_ns, t_end_ns) of every event; other records are passed over."""
    for line in f:
        if not line.strip():
            continue
        e = json.loads(line)
        if e.get("record", "event") != "event":
            continue
        yield e.get("event_id"), e["t_start_ns"], e["t_end_ns"]


def self_test():
    F = Fraction
    ms = 1_000_000

    def trace(pairs, idle="0"):
        return Trace([(t * ms, F(p)) for t, p in pairs], F(idle))

    def check(got, **want):
        for key, value in want.items():
            if got[key] != value:
                raise AssertionError((key, got[key], value))

    # Eleven samples of 100 W at 0, 100 .. 1000 ms; idle 20 W. 1 s: 100 J, 80 J above idle.
    # Good, but not longer than 1 s: no more than an estimate.
    flat = trace([(i * 100, "100") for i in range(11)], "20")
    check(flat.event(0, NS), power_samples=11, gap_fraction=0, max_gap_s=F(1, 10),
          energy_joules=100, operational_joules=80, operational_joules_clamped=80,
          energy_quality="good", energy_tier="estimate")
    # One nanosecond longer: billable; the energy is the same, the idle part grows.
    check(flat.event(0, NS + 1), energy_joules=100, energy_tier="billable",
          operational_joules=80 - F(20, NS))
    # Both ends count as inside: 200 .. 400 ms has 3 samples, 20 J.
    check(flat.event(200 * ms, 400 * ms), power_samples=3, energy_joules=20,
          operational_joules=16, energy_quality="good", energy_tier="estimate")
    check(flat.event(200 * ms + 1, 400 * ms - 1), power_samples=1, energy_joules=None,
          operational_joules=None, operational_joules_clamped=None, max_gap_s=F(100 * ms - 1, NS),
          gap_fraction=0, energy_quality="no_data", energy_tier="refused")
    # 150 .. 350 ms: samples at 200 and 300 only. 10 J between them, idle over 200 ms: 4 J.
    check(flat.event(150 * ms, 350 * ms), power_samples=2, energy_joules=10,
          operational_joules=6, operational_joules_clamped=8, gap_fraction=0,
          energy_quality="gappy", energy_tier="estimate")
    # No sample at all: the whole event is one spacing.
    check(flat.event(2 * NS, 2 * NS + 250 * ms), power_samples=0, gap_fraction=0,
          max_gap_s=F(1, 4), energy_quality="no_data", energy_tier="refused")
    check(flat.event(2 * NS, 2 * NS + 300 * ms), power_samples=0, gap_fraction=1,
          max_gap_s=F(3, 10), energy_quality="no_data", energy_tier="refused")
    # An event without a length, on a sample and beside one; and one that runs backwards.
    check(flat.event(100 * ms, 100 * ms), power_samples=1, gap_fraction=None, max_gap_s=0,
          energy_quality="no_data", energy_tier="refused")
    check(flat.event(150 * ms, 150 * ms), power_samples=0, gap_fraction=None, max_gap_s=0)
    check(flat.event(200 * ms, 100 * ms), power_samples=0, max_gap_s=None,
          energy_quality="no_data", energy_tier="refused")

    # Uneven spacing and a power on either side of idle 25:
    # (10+30)/2*0.1 + (30+20)/2*0.2 = 2 + 5 = 7 J; less 25*0.3 = 7.5: -0.5 J;
    # clamped 0, 5, 0: 2.5*0.1 + 2.5*0.2 = 0.75 J.
    uneven = trace([(0, "10"), (100, "30"), (300, "20")], "25")
    check(uneven.event(0, 300 * ms), energy_joules=7, operational_joules=F(-1, 2),
          operational_joules_clamped=F(3, 4), max_gap_s=F(1, 5), energy_quality="good")
    # Decimal texts are taken exactly: (0.1+0.2)/2*0.1 = 0.015.
    check(trace([(0, "0.1"), (100, "0.2")]).event(0, 100 * ms), energy_joules=F(15, 1000))

    # A spacing of exactly 0.25 s is no gap; one nanosecond more is.
    pair = Trace([(0, F(1)), (250 * ms, F(1)), (400 * ms, F(1))], F(0))
    check(pair.event(0, 400 * ms), gap_fraction=0, energy_quality="good")
    pair = Trace([(0, F(1)), (250 * ms + 1, F(1)), (400 * ms, F(1))], F(0))
    check(pair.event(0, 400 * ms), gap_fraction=F(250 * ms + 1, 400 * ms),
          energy_quality="gappy", energy_tier="refused")

    # 3 s with one hole of 300 ms: gap_fraction is exactly 0.10. Good by the quality rule
    # (not more than 0.10), refused by the tier rule (not less than 0.10).
    hole = trace([(t, "50") for t in range(0, 3001, 100) if t not in (1000, 1100)])
    check(hole.event(0, 3 * NS), power_samples=29, gap_fraction=TENTH, max_gap_s=F(3, 10),
          energy_joules=150, energy_quality="good", energy_tier="refused")
    # The same hole in 6 s: exactly 0.05, not less: an estimate. In 6 s and a bit: billable.
    hole = trace([(t, "50") for t in range(0, 6101, 100) if t not in (1000, 1100)])
    check(hole.event(0, 6 * NS), gap_fraction=TWENTIETH, energy_quality="good",
          energy_tier="estimate")
    check(hole.event(0, 6 * NS + 1), energy_tier="billable")
    # 20 s with a hole of 0.5 s, then of 0.6 s: the second is gappy by its length alone,
    # and still billable by the tier rule.
    hole = trace([(t, "50") for t in range(0, 20001, 100) if not 1000 < t < 1500])
    check(hole.event(0, 20 * NS), max_gap_s=F(1, 2), energy_quality="good",
          energy_tier="billable")
    hole = trace([(t, "50") for t in range(0, 20001, 100) if not 1000 < t < 1600])
    check(hole.event(0, 20 * NS), max_gap_s=F(6, 10), gap_fraction=F(3, 100),
          energy_quality="gappy", energy_tier="billable")
    # Edges are spacings too: 0.3 s before the first and 0.3 s after the last of 2 s.
    edge = trace([(t, "50") for t in range(300, 1701, 100)])
    check(edge.event(0, 2 * NS), gap_fraction=F(3, 10), energy_joules=70,
          energy_quality="gappy", energy_tier="refused")
    # Exactly 8 samples in more than 1 s: no more than an estimate.
    eight = trace([(t, "50") for t in range(0, 1401, 200)])
    check(eight.event(0, 1400 * ms), power_samples=8, energy_joules=70, energy_tier="estimate")

    # Reading: a failed read, an empty cell and NaN are passed over; 1.2 W is a value.
    text = ("power_w,t_ns,read_ok\n1.2,0,True\n999,100000000,False\n,150000000,True\n"
            "nan,160000000,True\n1.2,200000000,True\n")
    got = list(read_trace(io.StringIO(text)))
    assert got == [(0, F(6, 5)), (200 * ms, F(6, 5))], got
    text = ('{"record":"header"}\n\n{"event_id":"a","t_start_ns":1,"t_end_ns":2}\n'
            '{"record":"event","event_id":"b","t_start_ns":3,"t_end_ns":4}\n{"record":"end"}\n')
    assert list(read_events(io.StringIO(text))) == [("a", 1, 2), ("b", 3, 4)]
    assert as_line("a", flat.event(2 * NS, 2 * NS)).endswith(
        '"max_gap_s": 0.0, "energy_joules": null, "operational_joules": null, '
        '"operational_joules_clamped": null, "energy_quality": "no_data", '
        '"energy_tier": "refused"}')

    # The running sums against a plain walk over the samples, 3000 random events.
    rnd = random.Random(122)
    for _ in range(30):
        idle = F(rnd.randrange(0, 100_000), 1000)
        samples = [(rnd.randrange(0, 20_000) * ms, F(rnd.randrange(0, 200_000), 1000))
                   for _ in range(rnd.randrange(0, 200))]
        tr = Trace(samples, idle)
        ordered = sorted(samples, key=lambda s: s[0])
        for _ in range(100):
            a = rnd.randrange(-500, 20_500) * ms
            b = a + rnd.choice([1, 100, 5000]) * rnd.randrange(1, 5) * ms
            inside = [s for s in ordered if a <= s[0] <= b]
            stops = [a] + [t for t, _ in inside] + [b]
            spaces = [y - x for x, y in zip(stops, stops[1:])]
            check(tr.event(a, b), power_samples=len(inside), max_gap_s=F(max(spaces), NS),
                  gap_fraction=F(sum(s for s in spaces if s > GAP_NS), b - a))
            if len(inside) >= 2:
                steps = list(zip(inside, inside[1:]))
                energy = sum((p + q) / 2 * F(u - t, NS) for (t, p), (u, q) in steps)
                clamped = sum(F(max(p - idle, 0) + max(q - idle, 0)) / 2 * F(u - t, NS)
                              for (t, p), (u, q) in steps)
                check(tr.event(a, b), energy_joules=energy, operational_joules_clamped=clamped,
                      operational_joules=energy - idle * F(b - a, NS))
    return 0


def main(argv):
    if argv[1:] == ["--self-test"]:
        code = self_test()
        print("self-test passed")
        return code
    if len(argv) != 4:
        sys.stderr.write("usage: tr122.py POWER_TRACE.csv[.gz] EVENTS.ndjson[.gz] IDLE_WATTS_MEAN\n"
                         "       tr122.py --self-test\n")
        return 2
    with open_text(argv[1]) as f:
        trace = Trace(read_trace(f), Fraction(argv[3]))
    with open_text(argv[2]) as f:
        for event_id, start, end in read_events(f):
            print(as_line(event_id, trace.event(start, end)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
