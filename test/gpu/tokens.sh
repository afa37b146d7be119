#!/usr/bin/env bash
# Joules a token on a real GPU: prefill and decode of Llama-3.1-8B's shape with
# random weights at three contexts, from FEW requests of each (10) and from ten times
# as many; the two must agree within their intervals. Six minutes on an H200.
# Needs bin/ and python3. Prints its table last.
#
#   tokens.sh [DIR]     where to keep traces, events and joules
#
# DEVICE=sim:FILE is a rehearsal without a GPU. SENSOR is this board's sensor.json;
# BASELINE its idle power with a model in memory, else it is measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
few=${FEW:-10} load=${DEVICE:-cuda} sensor=${SENSOR:-docs/validation/2026-11-23-h200-sensor.json}

nvpoll --version
poller=
trap '[ -z "$poller" ] || kill "$poller" 2>/dev/null || true' EXIT
# Each run has a trace of its own: what one does would be untold work in the other's.
# The weights and prompts are the same in both, for what a GPU computes with is
# worth some tenths of a per cent of its power. The few come last, for what is measured
# on a GPU that is still cool need not be what it takes later.
for run in "many $((few * 10))" "few $few"; do
  read -r run reps <<<"$run"
  nvpoll --device "${DEVICE:-nvml}" --period 100ms --compress zstd -o "$out/$run.trace.ndjson.zst" &
  poller=$!
  sleep 1
  [ -n "${BASELINE:-}" ] || [ "$run" = few ] ||
    nvload --device "$load" sustain --phase idle --intensity 0 --vram 16384 --duration "${IDLE:-30s}" -o "$out/idle.ndjson"
  nvload --device "$load" infer --model llama-3.1-8b --batch 1 --context "${CONTEXTS:-1024,4096,16384}" --gen-tokens "${TOKENS:-64}" --gap "${GAP:-300ms}" \
    --reps "$reps" --seed "${SEED:-1}" -o "$out/$run.events.ndjson"
  sleep 4
  kill -INT "$poller"
  wait "$poller"
  poller=
done
if [ -n "${BASELINE:-}" ]; then
  cp "$BASELINE" "$out/baseline.json"
else
  nvbaseline idle --trace "$out/many.trace.ndjson.zst" --events "$out/idle.ndjson" --phase idle --state resident --settle 5s --min-duration 20s \
    -o "$out/baseline.json" || echo "nvbaseline: exit $?"
fi
for run in few many; do
  nvattrib --trace "$out/$run.trace.ndjson.zst" --events "$out/$run.events.ndjson" --baseline "$out/baseline.json" \
    --sensor "$sensor" --target 2% -o "$out/$run.joules.ndjson" || echo "nvattrib: exit $?"
done

python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
rows, single = {}, {}
for run in ("few", "many"):
    for line in open(f"{out}/{run}.joules.ndjson"):
        r = json.loads(line)
        if r["record"] == "event" and r.get("phase") in ("prefill", "decode") and r.get("energy_joules") and r.get("ci95_joules"):
            single.setdefault((r["phase"], r["context"]), []).append((r["ci95_joules"] / r["energy_joules"] * 100, r["energy_tier"]))
        if r["record"] == "summary" and r["phase"] in ("prefill", "decode") and "joules_per_token" in r and "context" in r:
            rows.setdefault((r["phase"], r["context"]), {})[run] = r
        if r["record"] == "agreement":
            print(run, "agreement:", {k: r[k] for k in ("channel", "ratio", "ratio_ci95", "verdict", "mismatch_c_s", "mismatch_epsilon") if k in r})
print("\n== J/token with half-widths of 95 % intervals, from few requests and from ten times as many; what a single event's is, in the middle; tiers of the many")
print(f"{'phase':9}{'context':>8}{'s each':>9}{'n':>5}{'J/token':>12}{'±':>10}{'n':>7}{'J/token':>12}{'±':>10}{'apart':>10}{'allowed':>10}{'single ± %':>11}  tiers")
apart = 0
for (phase, context), r in sorted(rows.items(), key=lambda x: (x[0][0] != "prefill", x[0][1])):
    if len(r) < 2:
        continue
    a, b = r["few"], r["many"]
    ca, cb = a.get("joules_per_token_ci95", float("nan")), b.get("joules_per_token_ci95", float("nan"))
    d, allowed = a["joules_per_token"] - b["joules_per_token"], (ca**2 + cb**2) ** 0.5
    apart += not abs(d) <= allowed
    own = sorted(e[0] for e in single.get((phase, context), [])) or [float("nan")]
    print(f"{phase:9}{context:8}{b['duration_s'] / b['events']:9.4f}{a['events']:5}{a['joules_per_token']:12.5f}{ca:10.5f}{b['events']:7}{b['joules_per_token']:12.5f}{cb:10.5f}{d:10.5f}{allowed:10.5f}"
          f"{own[len(own) // 2]:11.1f}  {b['energy_tier']}")
print(f"{apart} of {len(rows)} are further apart than their intervals allow")
sys.exit(apart > 0 or len(rows) != 6)
PY
