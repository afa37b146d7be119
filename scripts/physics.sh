#!/usr/bin/env bash
# The whole study: one nvpoll for the whole run, loads and marks between its
# phases, then every analysis of what it wrote. A run directory holds the
# artifacts, and nothing in the report comes from anywhere else.
#
#   physics.sh [OPTIONS] DIR
#
#   --device nvml|sim[:FILE]  what to measure (nvml)
#   --auto                    nvml if there is a GPU, else sim
#   --quick                   a rehearsal of a minute instead of half an hour: every stage runs,
#                             but baseline and soak are too short to stand, and the report says so
#   --force                   replace what a run before left in DIR
#   --profile NAME            the simulated board (h200)
#
# Exit status: 0 all analyses stand, or the run was a rehearsal; 3 one of them
# does not stand; else a stage failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -x "$here/../bin/nvpoll" ] && PATH=$(cd "$here/../bin" && pwd):$PATH

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
refuse() {
  echo "physics.sh: $1" >&2
  echo "physics.sh: try --help" >&2
  exit 2
}

device=nvml auto=no quick=no force=no profile=h200 dir=
while [ $# -gt 0 ]; do
  case $1 in
  --device) device=${2:?"--device wants a name"} && shift ;;
  --profile) profile=${2:?"--profile wants a name"} && shift ;;
  --auto) auto=yes ;;
  --quick) quick=yes ;;
  --force) force=yes ;;
  -h | --help) usage && exit ;;
  -*) refuse "no option $1" ;;
  *) [ -z "$dir" ] && dir=$1 || refuse "one directory, not $dir and $1" ;;
  esac
  shift
done
[ -n "$dir" ] || refuse "no directory given"

if [ "$auto" = yes ] && ! nvpoll devices --device nvml >/dev/null 2>&1; then
  device=sim
fi

mkdir -p "$dir"
artifacts=(trace.ndjson.zst events.ndjson baseline.json baseline_trace.ndjson.zst sensor.json generation_events.jsonl
  soak.ndjson vram.json run_metadata.json report.md gpu.sim)
for f in "${artifacts[@]}"; do
  [ -e "$dir/$f" ] || continue
  [ "$force" = yes ] || refuse "$dir has a run already ($f); --force replaces it"
  rm -f "$dir/$f"
done

case $device in
nvml) echo "physics: measuring the GPU of this machine" ;;
sim*)
  echo "physics: no GPU is measured: this is the simulated $profile"
  # The simulation's load is a file: nvload writes it, nvpoll reads it.
  [ "$device" = sim ] && device=sim:$dir/gpu.sim
  ;;
*) refuse "no device $device (nvml or sim)" ;;
esac
export JOULEPIPE_RUN_ID=${JOULEPIPE_RUN_ID:-$(date -u +%Y%m%d_%H%M%S)_$$}

if [ "$quick" = yes ]; then
  idle=14s settle=3s least=10s low=3s high=3s cycles=2 reps=2 exchanges=500 soak=25s window=6s limit=24s
  curve=(--min-event 300ms --gap 300ms) stress=(--batch 1,4 --context 1024 --gen-tokens 64)
else
  idle=155s settle=30s least=120s low=3s high=3s cycles=10 reps=5 exchanges=4000 soak=20m window=5m limit=30m
  curve=(--min-event 1s) stress=(--batch 1,4 --context 1024,4096 --gen-tokens 256)
fi

# 1. Measure. The poller is started once and outlives every load.
poll=(--device "$device")
[ "${device%%:*}" = sim ] && poll+=(--sim-profile "$profile")
nvpoll "${poll[@]}" --compress zstd -o "$dir/trace.ndjson.zst" &
poller=$!
stop() {
  kill -INT "$poller" 2>/dev/null || return 0
  wait "$poller" || true
}
trap stop EXIT
sleep 1

events=$dir/events.ndjson
target=$device
[ "$device" != nvml ] || target=cuda
load() { # of the device, its events appended
  nvload --device "$target" "$@" --append -o "$events"
}
step() { printf 'physics: %s\n' "$*"; }
memory() { # what allocators make of holes, and how long a context there is room for
  step "memory: fragmentation, and the longest context of gpt2-xl and llama-3.1-8b"
  load vram torture --cycles "$exchanges" --result "$dir/vram.json"
  load vram cliff --model gpt2-xl --result "$dir/vram.json"
  load vram cliff --model llama-3.1-8b --batch 64 --result "$dir/vram.json"
}

step "baseline, $idle of idle"
load idle --duration "$idle"
step "square wave, $cycles x $low low and $high high"
load square --low "$low" --high "$high" --cycles "$cycles"
if [ "$quick" = no ]; then
  step "sensor test"
  load response
fi
memory
step "Joule curve: GPT-2, batches 1 to 16, $reps requests of each"
load infer --preset joule-curve --reps "$reps" "${curve[@]}"
step "stress: long prompts, $reps requests of each kind"
# The model that TR122 asks for has 16 GB of weights.
load infer --preset stress --reps "$reps" "${stress[@]}" ||
  load infer --preset stress --reps "$reps" "${stress[@]}" --model gpt2-xl --context 512
step "heat soak, $soak"
load sustain --duration "$soak"
sleep 3 # what the sensors say late still belongs to the run
trap - EXIT
kill -INT "$poller"
wait "$poller"

# 2. Analyse. Status 3 means: done, but the result does not stand; the report says why.
stands=yes
analyse() {
  local code=0
  "$@" || code=$?
  case $code in
  0) ;;
  3 | 5) stands=no ;;
  *)
    echo "physics.sh: $1 failed with status $code" >&2
    exit "$code"
    ;;
  esac
}
trace=$dir/trace.ndjson.zst
analyse nvbaseline idle --trace "$trace" --events "$events" --phase idle --settle "$settle" --min-duration "$least" \
  --samples "$dir/baseline_trace.ndjson.zst" -o "$dir/baseline.json"
analyse nvbaseline response --trace "$trace" --events "$events" -o "$dir/sensor.json"
analyse nvattrib --trace "$trace" --events "$events" --baseline "$dir/baseline.json" --sensor "$dir/sensor.json" \
  -o "$dir/generation_events.jsonl"
if grep -q '"phase":"soak"' "$events"; then
  analyse nvsoak --trace "$trace" --events "$events" --phase soak --window "$window" --max "$limit" -o "$dir/soak.ndjson"
fi
analyse nvreport "$dir"
analyse nvreport check "$dir"

# 3. What a reader wants first.
sed -n '1,/^## /{/^## /!p}' "$dir/report.md"
echo "physics: the report is $dir/report.html, and as text $dir/report.md"
if [ "$quick" = yes ]; then
  echo "physics: this was a rehearsal, too short for a baseline and an equilibrium; without --quick it takes half an hour"
elif [ "$stands" = no ]; then
  exit 3
fi
