#!/usr/bin/env bash
# Joules a token on a real GPU: prefill and decode of Llama-3.1-8B's shape with
# random weights at three contexts, from FEW requests of each and from ten times as
# many; the two must agree within their intervals. About seven minutes.
# Needs bin/ and python3 with torch and transformers. Prints its table last.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
few=${FEW:-10}

nvpoll --version
for run in few many; do
  nvpoll --device nvml --period 100ms --compress zstd -o "$out/$run.ndjson.zst" &
  poller=$!
  python3 scripts/torch_load.py llama "$out/$run.events.ndjson" $((run == "many" ? few * 10 : few)) | {
    read -r _ # the model is resident
    nvload mark start_idle
    sleep 24
    nvload mark end_idle
    cat >/dev/null
  } >"$out/$run.marks.ndjson"
  sleep 4
  kill -INT "$poller"
  wait "$poller"
  nvbaseline idle --trace "$out/$run.ndjson.zst" --events "$out/$run.marks.ndjson" --phase idle --settle 4s --min-duration 15s \
    -o "$out/$run.baseline.json" || echo "nvbaseline: exit $?"
  nvattrib --trace "$out/$run.ndjson.zst" --events "$out/$run.events.ndjson" --baseline "$out/$run.baseline.json" \
    --sensor docs/validation/2026-11-23-h200-sensor.json --target 2% -o "$out/$run.joules.ndjson" || echo "nvattrib: exit $?"
done

python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
rows = {}
for run in ("few", "many"):
    for line in open(f"{out}/{run}.joules.ndjson"):
        r = json.loads(line)
        if r["record"] == "summary" and r["phase"] in ("prefill", "decode") and "joules_per_token" in r and "over" not in r:
            rows.setdefault((r["phase"], int(r["model"].split()[-1])), {})[run] = r
        if r["record"] == "agreement":
            print(run, "agreement:", {k: r.get(k) for k in ("channel", "ratio", "ratio_ci95", "verdict", "mismatch_c_s", "mismatch_epsilon")})
print("\n== J/token, half-widths of 95 % intervals")
print(f"{'phase':9}{'context':>8}{'n':>5}{'J/token':>12}{'±':>10}{'n':>7}{'J/token':>12}{'±':>10}{'apart':>9}{'allowed':>9}")
apart = 0
for (phase, context), r in sorted(rows.items()):
    a, b = r["few"], r["many"]
    ca, cb = a.get("joules_per_token_ci95", float("nan")), b.get("joules_per_token_ci95", float("nan"))
    d, allowed = a["joules_per_token"] - b["joules_per_token"], (ca**2 + cb**2) ** 0.5
    apart += abs(d) > allowed
    print(f"{phase:9}{context:8}{a['events']:5}{a['joules_per_token']:12.5f}{ca:10.5f}{b['events']:7}{b['joules_per_token']:12.5f}{cb:10.5f}{d:9.5f}{allowed:9.5f}")
print(f"{apart} of {len(rows)} are further apart than their intervals allow")
PY
