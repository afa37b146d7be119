#!/usr/bin/env bash
# The whole pipeline on a real GPU: one nvpoll with its usual channels at 100 ms for
# more than three minutes, beside an idle stretch, a PyTorch matmul and a
# random-weight GPT-2 generation; then every analysis of what it wrote.
# Needs bin/ and python3 with torch and transformers. Prints its table last.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
idle=${IDLE:-155} # 30 s to settle and 120 s of baseline, with some to spare

nvpoll --version
nvpoll devices
nvpoll --device nvml --period 100ms --compress zstd -o "$out/trace.ndjson.zst" &
poller=$!
sleep 1
{
  nvload mark start_baseline
  sleep "$idle"
  nvload mark end_baseline
  nvload exec --phase matmul --id matmul_process -- python3 scripts/torch_load.py matmul 20
  nvload exec --phase gpt2 --id gpt2_process -- python3 scripts/torch_load.py gpt2 "$out/gpt2.ndjson"
} >"$out/events.ndjson"
cat "$out/gpt2.ndjson" >>"$out/events.ndjson"
sleep 4
kill -INT "$poller"
wait "$poller"

verdict() { # run a stage and say how it ended
  local code=0
  "$@" || code=$?
  echo "exit $code: $*"
}
verdict nvbaseline idle --trace "$out/trace.ndjson.zst" --events "$out/events.ndjson" --phase baseline \
  --samples "$out/baseline_trace.ndjson.zst" -o "$out/baseline.json"
for method in driver counter instant average tr122; do
  verdict nvattrib --trace "$out/trace.ndjson.zst" --events "$out/events.ndjson" --baseline "$out/baseline.json" \
    --method "$method" -o "$out/$method.ndjson"
done
cp "$out/driver.ndjson" "$out/generation_events.jsonl"
verdict nvreport "$out"
verdict nvreport check "$out"
cat "$out/report.md"

python3 - "$out" <<'PY'
import json, subprocess, sys, glob, collections
out = sys.argv[1]
end = None
for line in subprocess.run(["nvpoll", "--device", f"replay:{out}/trace.ndjson.zst", "--speed", "max"], capture_output=True, text=True, check=True).stdout.splitlines():
    r = json.loads(line)
    if r["record"] == "end":
        end = r
p = end["poller"]["overall"]
span = p["samples_total"] * p["target_period_ms"] / 1e3
print("\n== poller")
for k in ("samples_total", "samples_valid", "read_errors", "errors", "dropped_ticks", "median_dt_ms", "p95_dt_ms", "max_gap_ms", "gap_count",
          "median_lateness_ms", "p95_lateness_ms", "scheduling_quality", "continuity_quality", "cpu_s"):
    print(f"{k:20} {p.get(k)}")
print(f"{'cpu_s_per_hour':20} {p['cpu_s'] / span * 3600:.1f}")
for name, c in sorted(p["channels"].items()):
    print(f"channel {name:12} {c}")
print("\n== energy by method, J (mean of each phase and batch; of fewer than n events where it says so)")
table = collections.OrderedDict()
for m in ("driver", "counter", "instant", "average", "tr122"):
    for line in open(f"{out}/{m}.ndjson"):
        r = json.loads(line)
        if r["record"] == "summary":
            table.setdefault((r["phase"], r.get("batch_size")), {})[m] = r
def cell(r):  # with how many events it is of, where some have no joules
    if "energy_joules_mean" not in r:
        return f"{'-':>12}"
    mean = f"{r['energy_joules_mean']:.2f}"
    return f"{mean if r['events_with_energy'] == r['events'] else mean + ' of ' + str(r['events_with_energy']):>12}"
print(f"{'phase':14}{'batch':>6}{'n':>5}{'s each':>10}" + "".join(f"{m:>12}" for m in ("driver", "counter", "instant", "average", "tr122")))
for (phase, batch), row in table.items():
    d = row["driver"]
    cells = "".join(cell(row[m]) for m in row)
    print(f"{phase:14}{batch or '-':>6}{d['events']:>5}{d['duration_s'] / d['events']:10.4f}{cells}")
PY
