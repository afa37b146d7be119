#!/usr/bin/env bash
# The instrument response test on a real GPU: nvpoll at 9.7 ms, out of step with all sensors, beside a load of
# known switches, then nvbaseline response. Needs bin/ and python3.
# Prints sensor.json and a table, last.
#
#   response.sh [DIR]     where to keep trace, events and sensor.json
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH

nvpoll --period 9.7ms --counter-period 19ms --compress zstd -o "$out/trace.ndjson.zst" &
poller=$!
sleep 1
nvload response -o "$out/events.ndjson"
sleep 3
kill -INT "$poller"
wait "$poller"
nvbaseline response --trace "$out/trace.ndjson.zst" --events "$out/events.ndjson" -o "$out/sensor.json"
cat "$out/sensor.json"
python3 - "$out/sensor.json" <<'PY'
import json, sys
for gpu in json.load(open(sys.argv[1]))["gpus"]:
    print(f"\nGPU {gpu['gpu']} {gpu['name']}, driver {gpu['driver']}: use {gpu.get('use')}: {gpu.get('advice')}")
    print(f"{'channel':9}{'class':12}{'update ms':>14}{'window ms':>11}{'95 %':>18}{'lag ms':>8}{'95 %':>18}{'rise ms':>9}{'sees':>7}{'gain':>8}{'pass':>6}")
    for name, c in gpu["channels"].items():
        f = lambda k, d=1: f"{c[k]:.{d}f}" if k in c else "-"
        ci = lambda k: "[{:.1f}, {:.1f}]".format(*c[k]) if k in c else "-"
        print(f"{name:9}{c.get('class', '-'):12}{f('update_ms', 3):>14}{f('window_ms'):>11}{ci('window_ms_ci95'):>18}{f('lag_ms'):>8}{ci('lag_ms_ci95'):>18}"
              f"{f('rise_ms', 0):>9}{f('coverage', 2):>7}{f('gain', 4):>8}{str(c.get('pass', '-')):>6}" + (f"  same as {c['same_as']}" if "same_as" in c else ""))
PY
