#!/usr/bin/env bash
# The whole study on a real GPU: scripts/physics.sh with two minutes of idle in each
# of three states and a heat soak of eight, then a forced thermal trip. Needs
# bin/ and python3. Prints tables last; 20 minutes.
#
#   study.sh DIR
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:?"study.sh wants a directory"}
export PATH=$PWD/bin:$PATH
nvpoll --version
nvpoll devices
# What fails after ten minutes had better fail now.
nvload infer --model gpt2 --batch 1,8 --context 8 --gen-tokens 8 --reps 1 --gap 10ms >/dev/null || exit
scripts/physics.sh --device nvml --idle "${IDLE:-125s}" --soak "${SOAK:-490s}" --reps "${REPS:-3}" --force "$out"
study=$?
echo "physics.sh: exit $study"
test/gpu/trip.sh "$out/trip"
trip=$?

nvreport check "$out" || true
python3 - "$out" <<'PY'
import json, os, sys
out = sys.argv[1]
print(f"\n{'state':12}{'W':>9}{'subtracted':>12}{'±1 σ':>9}{'s':>8}{'readings':>9}{'N_eff':>8}{'°C':>6}  fake idle")
for state, name in (("no_context", "baseline_no_context"), ("context", "baseline_context"), ("resident", "baseline")):
    if not os.path.exists(f"{out}/{name}.json"):
        continue
    b = json.load(open(f"{out}/{name}.json"))
    s = b.get("subtract", {})
    print(f"{state:12}{b['idle_watts_mean']:9.3f}{s.get('watts', float('nan')):12.3f}{s.get('watts_se', float('nan')):9.4f}{b['duration_s']:8.1f}{b['samples']:9}{b.get('n_eff', float('nan')):8.0f}{b.get('idle_temp_c', float('nan')):6.1f}  {b['fake_idle_flag']} {b['fake_idle_reasons']}")
for line in open(f"{out}/soak.ndjson"):
    last = json.loads(line)
    if last.get("final"):
        end = last
print("\nsoak:", {k: end[k] for k in sorted(end) if k not in ("record",)})
PY
[ "$study" = 0 ] && [ "$trip" = 0 ]
