#!/usr/bin/env bash
# Does a GPU settle under a load, and does nvsoak foretell where? A soak of eight minutes
# at least, under nvload, until the settled rule holds, and twenty seconds of cooling; then
# the same trace judged again over five minutes. Needs bin/ and python3. Prints its table
# last; ten minutes at most.
#
#   soak.sh [DIR]     where to keep trace, events and soak records
#
# DEVICE=sim:FILE is a rehearsal without a GPU; WINDOW (8m), SHORT (5m) and MAX (9m10s)
# are shorter there.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
nvpoll --version

mkfifo "$out/pipe"
nvpoll --device "${DEVICE:-nvml}" --channels sample --period 200ms >"$out/pipe" &
poller=$!
trap 'kill "$poller" 2>/dev/null || true; rm -f "$out/pipe"' EXIT
tee "$out/trace.ndjson" <"$out/pipe" | {
  code=0
  nvsoak --rule settled --window "${WINDOW:-8m}" --max "${MAX:-9m10s}" --every 5s -o "$out/soak.ndjson" -- \
    nvload --device "${LOAD:-${DEVICE:-cuda}}" sustain --kernel bf16 --duration 24h -o "$out/events.ndjson" || code=$?
  echo "$code" >"$out/code"
  exec 3<&0 # a command in the background would have no input
  cat <&3 >/dev/null &
  sleep 20 # how it cools
  kill -INT "$poller"
  wait
}
again=0
nvsoak --trace "$out/trace.ndjson" --events "$out/events.ndjson" --rule settled --window "${SHORT:-5m}" --every 5s -o "$out/short.ndjson" || again=$?

python3 - "$out" "$again" <<'PY'
import json, sys
out, again = sys.argv[1], int(sys.argv[2])
code = int(open(f"{out}/code").read())
def soak(name):
    records = [json.loads(l) for l in open(f"{out}/{name}.ndjson")]
    records = [r for r in records if r["record"] == "soak"]
    return [r for r in records if not r.get("final")], [r for r in records if r.get("final")][-1]
trace = [r for r in map(json.loads, open(f"{out}/trace.ndjson")) if r["record"] == "sample"]
rows, last = soak("soak")
print(f"{'s':>6} {'°C':>4} {'W':>6} {'MHz':>6} {'°C/min':>8} {'±':>6} {'foretold':>9} {'from':>7} {'to':>7}  throttled")
show = lambda r, key, form: format(r[key], form) if key in r else "-"
for r in rows[::6]:
    now = [s for s in trace if abs(s["t_ns"] - r["t_ns"]) < 1.5e9]
    mean = lambda key: sum(s[key] for s in now if key in s) / max(1, sum(key in s for s in now))
    print(f"{r['duration_s']:6.0f} {r['temp_c']:4.0f} {mean('power_w'):6.0f} {mean('sm_clock_mhz'):6.0f} {show(r, 'slope_c_per_min', '8.3f'):>8} {show(r, 'slope_ci95', '6.3f'):>6}"
          f" {show(r, 'predicted_equilibrium_c', '9.2f'):>9} {show(r, 'predicted_equilibrium_low_c', '7.2f'):>7} {show(r, 'predicted_equilibrium_high_c', '7.2f'):>7}  {' '.join(r.get('throttle_reasons', []) or [])}")
end = [s["temp_c"] for s in trace if "temp_c" in s and last["t_ns"] - 60e9 < s["t_ns"] <= last["t_ns"]]
mean = sum(end) / len(end)
foretold = [r for r in rows if "predicted_equilibrium_low_c" in r]
held = sum(r["predicted_equilibrium_low_c"] <= mean <= r["predicted_equilibrium_high_c"] for r in foretold)
print(f"\nthe last minute's mean is {mean:.2f} °C; {held} of {len(foretold)} predictions hold it")
for r, status in ((last, code), (soak("short")[1], again)):
    print(f"window of {r['window_s'] / 60:g} min: status {status}", {k: v for k, v in r.items() if k not in ("record", "gpu", "t_ns", "final")})
# 3 is that it is not certain yet, which the air of a room can make of any nine minutes.
# The predictions are of one course and go wrong together: of 100 simulated soaks under
# steady fans, in which 97 % of them hold, 13 have fewer than nine in ten that do.
ok = code in (0, 3) and last["duration_s"] >= 480 and held >= 0.9 * len(foretold) > 0
print("PASS" if ok else "FAIL")
sys.exit(not ok)
PY
