#!/usr/bin/env bash
# Is nvpoll's grid as punctual as the machine allows? nvpoll runs beside
# bin/gridloop, a bare clock_nanosleep loop of the same period, in the same
# minutes and under a GPU load; then both at 1 kHz. Needs bin/ and python3 with
# torch. Prints its tables last.
#
#   grid.sh [SECONDS_AT_100MS [SECONDS_AT_10MS]]     600 and 120; SHORT=1: 2 minutes in all
#
# LOAD is the command that loads the GPU for the seconds it gets as argument. The
# traces stay in KEEP where that names a folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "${SHORT:-}" = 1 ]; then slow=45 fast=25 kilo=10; else slow=600 fast=120 kilo=20; fi
slow=${1:-$slow} fast=${2:-$fast}
load=${LOAD:-python3 scripts/torch_load.py matmul}
out=${KEEP:-$(mktemp -d)}
mkdir -p "$out"

$load $((slow + fast + kilo + 90)) &
loader=$!
poller=
stop() {
  kill "$loader" $poller 2>/dev/null || true
  [ -n "${KEEP:-}" ] || rm -rf "$out"
}
trap stop EXIT

echo "waiting for the load to reach the GPU"
for i in {1..60}; do
  bin/nvpoll --channels sample --duration 1s -o "$out/probe.ndjson"
  ! grep '"util_gpu":[1-9]' "$out/probe.ndjson" >/dev/null || break
  kill -0 "$loader" # it has not ended
  [ "$i" -lt 60 ] || { echo "grid.sh: the GPU is idle after a minute" >&2; exit 1; }
done

for run in "100 $slow" "10 $fast" "1 $kilo"; do
  read -r period seconds <<<"$run"
  echo "period $period ms for $seconds s"
  bin/nvpoll --period "${period}ms" --duration "${seconds}s" -o "$out/$period.ndjson" &
  poller=$!
  bin/gridloop "$period" "$seconds" >"$out/$period.late"
  wait "$poller"
  poller=
  kill -0 "$loader" || { echo "grid.sh: the load ended before the measurement" >&2; exit 1; }
done
python3 test/gpu/grid.py "$out"/{100,10,1}
