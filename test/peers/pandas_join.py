#!/usr/bin/env python3
"""usage: pandas_join.py TRACE EVENTS OUTPUT

The energy of each event by pandas and numpy: a running sum of the trapezoids,
looked up by binary search. NDJSON is read in chunks: pandas.read_json of the whole
file takes many gigabytes.
"""

import sys

import numpy as np
import pandas as pd

trace, events, output = sys.argv[1:]
columns = {"t_ns": "int64", "power_w": "float64"}
if trace.endswith(".csv"):
    samples = pd.read_csv(trace, usecols=list(columns), dtype=columns)
else:
    chunks = pd.read_json(trace, lines=True, chunksize=200_000, dtype=False, convert_dates=False)
    samples = pd.concat(chunk[list(columns)] for chunk in chunks)
t, w = samples.t_ns.to_numpy(), samples.power_w.to_numpy()
curve = np.concatenate(([0.0], np.cumsum((w[1:] + w[:-1]) / 2 * (np.diff(t) / 1e9))))

table = pd.read_json(events, lines=True, dtype=False, convert_dates=False)
first = np.searchsorted(t, table.t_start_ns.to_numpy(), "left")
last = np.searchsorted(t, table.t_end_ns.to_numpy(), "right") - 1
known = first < last
joules = np.full(len(table), np.nan)
joules[known] = curve[last[known]] - curve[first[known]]
table = table[["event_id"]].assign(energy_joules=joules)
table.to_json(output, orient="records", lines=True, double_precision=15)
