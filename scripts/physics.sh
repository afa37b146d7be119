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
#   --soak TIME               the longest heat soak (30m); it ends earlier, at equilibrium
#   --idle TIME               of idle in each of three states (150s)
#   --reps N                  requests of each kind (5)
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

device=nvml auto=no quick=no force=no profile=h200 soak= idle= reps= dir=
while [ $# -gt 0 ]; do
  case $1 in
  --device) device=${2:?"--device wants a name"} && shift ;;
  --profile) profile=${2:?"--profile wants a name"} && shift ;;
  --soak) soak=${2:?"--soak wants a time"} && shift ;;
  --idle) idle=${2:?"--idle wants a time"} && shift ;;
  --reps) reps=${2:?"--reps wants a number"} && shift ;;
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
artifacts=(trace.ndjson.zst trace.ndjson trace.ndjson.partial events.ndjson baseline.json baseline_no_context.json baseline_context.json
  baseline_trace.ndjson.zst sensor.json generation_events.jsonl soak.ndjson vram.json run_metadata.json report.md report.html gpu.sim)
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
  idle=${idle:-13s} settle=3s least=9s low=3s high=3s cycles=2 reps=${reps:-2} exchanges=500 window=6s limit=${soak:-24s}
  states=(no_context resident)
  curve=(--min-event 300ms --gap 300ms) stress=(--batch 1,4 --context 1024 --gen-tokens 64)
else
  idle=${idle:-150s} settle=4s least=120s low=3s high=3s cycles=3 reps=${reps:-5} exchanges=1000 window=5m limit=${soak:-30m}
  states=(no_context context resident)
  curve=(--min-event 400ms --gap 500ms) stress=(--batch 1,4 --context 1024,4096,16384 --gen-tokens 256 --gap 500ms)
fi

# 1. Measure. The poller is started once and outlives every load. What it has
# written so far can be read: that is where the heat soak has its temperatures from.
poll=(--device "$device")
[ "${device%%:*}" = sim ] && poll+=(--sim-profile "$profile")
nvpoll "${poll[@]}" --channels sample,power,counter,gpm -o "$dir/trace.ndjson" &
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
hot=no
load() { # of the device, its events appended; one that got too hot is told in them, and the run goes on
  local code=0
  nvload --device "$target" "$@" --append -o "$events" || code=$?
  [ "$code" -ne 5 ] || hot=yes code=0
  return "$code"
}
step() { printf 'physics: %s\n' "$*"; }
# Idle power belongs to a state, and the states differ: no process with a context
# on the GPU, one with a context, one with a model in memory.
rest() {
  local phase=idle_$1
  step "idle, $1, $idle"
  case $1 in
  no_context) load idle --phase "$phase" --duration "$idle" ;;
  context) load sustain --phase "$phase" --intensity 0 --vram 0 --duration "$idle" ;;
  resident) load sustain --phase "$phase" --intensity 0 --vram 4096 --duration "$idle" ;;
  esac
}
memory() { # what allocators make of holes, and how long a context there is room for
  step "memory: fragmentation, and the longest context of gpt2-xl and llama-3.1-8b"
  load vram torture --cycles "$exchanges" --result "$dir/vram.json"
  load vram cliff --model gpt2-xl --result "$dir/vram.json"
  # A prefill of as many tokens as a whole board has room for takes a minute, and allocates nothing more.
  load vram cliff --model llama-3.1-8b --batch 64 --no-prefill --result "$dir/vram.json"
}
stands=yes
analyse() { # a stage whose status 3 means: done, but the result does not stand; the report says why
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
soak() { # nvsoak starts the load, guards it and ends it
  # The end of nvsoak ends tail with a signal, which is no failure.
  { head -n 1 "$dir/trace.ndjson.partial" && tail -n 0 -f --pid="$poller" "$dir/trace.ndjson.partial" || true; } 2>/dev/null |
    nvsoak --window "$window" --max "$limit" -o "$dir/soak.ndjson" -- \
      nvload --device "$target" sustain --duration 24h --append -o "$events"
}

for state in "${states[@]}"; do rest "$state"; done
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
step "heat soak, $limit at most"
analyse soak
sleep 3 # what the sensors say late still belongs to the run
trap - EXIT
kill -INT "$poller"
wait "$poller"

# 2. Analyse.
[ "$hot" = no ] || stands=no
trace=$dir/trace.ndjson.zst
nvpoll --device "replay:$dir/trace.ndjson" --speed max -o "$trace"
rm "$dir/trace.ndjson"
# Requests had their model in memory: what is above idle is above that idle.
for state in "${states[@]}"; do
  to=(-o "$dir/baseline_$state.json")
  [ "$state" != resident ] || to=(--samples "$dir/baseline_trace.ndjson.zst" -o "$dir/baseline.json")
  analyse nvbaseline idle --trace "$trace" --events "$events" --phase "idle_$state" --state "$state" \
    --settle "$settle" --min-duration "$least" "${to[@]}"
done
analyse nvbaseline response --trace "$trace" --events "$events" -o "$dir/sensor.json"
analyse nvattrib --trace "$trace" --events "$events" --baseline "$dir/baseline.json" --sensor "$dir/sensor.json" \
  -o "$dir/generation_events.jsonl"
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
