#!/usr/bin/env bash
# Does nvsoak stop a load that is too hot, and let it go on when it has cooled? A
# load runs for some seconds, to see how warm it makes the GPU; then again with
# the trip set just below that, and the resume temperature below it. Needs bin/ and
# python3. Prints its table last; a minute and a half at most.
#
#   trip.sh [DIR]     where to keep traces, events and soak records
#
# LOAD is the load, a command that ends on SIGTERM.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
load=${LOAD:-nvload sustain --kernel bf16 --duration 10m}

soak() { # NAME OPTIONS: what nvsoak exited with
  local name=$1 code=0
  shift
  nvpoll --channels sample,power | tee "$out/$name.trace.ndjson" |
    nvsoak --window 20s --rule settled -o "$out/$name.ndjson" "$@" -- $load >"$out/$name.events.ndjson" 2>&1 || code=${PIPESTATUS[2]}
  echo "$code"
}
echo "warming: exit $(soak warm --max 12s)"
hot=$(python3 -c 'import json, sys; print(int(json.loads(list(open(sys.argv[1]))[-2])["temp_end_c"]))' "$out/warm.ndjson")
echo "after 12 s the GPU has $hot °C: trip at $((hot - 2)), resume at $((hot - 8))"
code=$(soak trip --trip $((hot - 2)) --resume $((hot - 8)) --trips 3 --max 60s)
echo "tripping: exit $code"

python3 - "$out" "$hot" "$code" <<'PY'
import json, sys
out, hot, code = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
soak = [json.loads(l) for l in open(f"{out}/trip.ndjson")]
last = [r for r in soak if r.get("final")][-1]
power = [r for r in map(json.loads, open(f"{out}/trip.trace.ndjson")) if r["record"] == "power"]
temp = [r for r in map(json.loads, open(f"{out}/trip.trace.ndjson")) if r["record"] == "sample" and "temp_c" in r]
edges, on = [], None
smooth = [(power[i]["t_ns"], sum(p["power_w"] for p in power[i:i + 10]) / 10) for i in range(0, len(power) - 10, 5)]
for t, w in smooth:
    now = w > 350 if on is None else (w > 300 if on else w > 450)
    if on is not None and now != on:
        c = min(temp, key=lambda r: abs(r["t_ns"] - t))["temp_c"]
        edges.append((t, now, c))
    on = now
print(f"\n{'s':>8} {'load':>6} {'°C':>5}")
for t, up, c in edges:
    print(f"{(t - smooth[0][0]) / 1e9:8.1f} {'on' if up else 'off':>6} {c:5}")
stops = sum(not up for _, up, _ in edges)
resumes = sum(up for _, up, _ in edges) - 1
print(f"state {last['state']}, trips {last['trips']}, highest {last['temp_max_c']} °C, load's status {last.get('command_exit')}, nvsoak's {code}")
ok = last["trips"] >= 2 and resumes >= 1 and stops >= 2 and last["temp_max_c"] <= hot + 3 and code == 5
print("PASS" if ok else "FAIL: the load did not stop and go on")
sys.exit(not ok)
PY
