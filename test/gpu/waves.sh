#!/usr/bin/env bash
# Does nvload do on a real GPU what its events say? nvpoll at 10 ms, beside square waves of each kernel, several
# intensities, edges as sharp as those of the sensor test, a load that is interrupted, one that gets too hot, and one
# that is killed. Needs bin/ and python3. Prints every check and a table, last; less than a minute.
#
#   waves.sh [GPU]        an index, 0 if none is given
#
# KEEP names a folder for the files. Exit status: 0 all checks passed, 1 not.
set -uo pipefail
cd "$(dirname "$0")/../.."
gpu=${1:-0}
out=${KEEP:-$(mktemp -d)}
mkdir -p "$out"
[ -n "${KEEP:-}" ] || trap 'rm -rf "$out"' EXIT
export PATH=$PWD/bin:$PATH
began=$SECONDS
load() { # NAME COMMAND…: its events in NAME.ndjson, what it says in NAME.log, its status in NAME.status
  local name=$1
  shift
  nvload "$@" --gpu "$gpu" -o "$out/$name.ndjson" 2>"$out/$name.log" &
  echo $! >"$out/$name.pid"
  wait $!
  echo $? >"$out/$name.status"
}
running() { # NAME: waits until a load has begun to write events
  for _ in $(seq 300); do
    grep -qs load_calibration "$out/$1.ndjson.partial" && return
    sleep 0.05
  done
}

nvpoll --gpu "$gpu" --period 10ms --channels sample,power -o "$out/trace.ndjson" 2>"$out/trace.log" &
poller=$!
sleep 0.5
for kernel in fp32 bf16 memory; do
  load "square_$kernel" square --kernel "$kernel" --low 700ms --high 700ms --cycles 2
done
load square_own square --kernel bf16 --blas none --low 700ms --high 700ms --cycles 2
load edges square --kernel fp32 --low 20ms --high 10ms --cycles 40
load fast square --kernel bf16 --low 10ms --high 10ms --cycles 40
for share in 0 0.25 0.5 0.75 1; do
  load "share_$share" sustain --kernel bf16 --intensity "$share" --vram 4096 --duration 1200ms
done

load interrupted sustain --kernel fp32 --duration 60s &
loader=$!
running interrupted
sleep 1
date +%s%N >"$out/interrupted.at"
kill -INT "$(cat "$out/interrupted.pid")"
wait "$loader"

load killed sustain --kernel bf16 --duration 60s 2>/dev/null &
loader=$!
running killed
sleep 1.5
kill -KILL "$(cat "$out/killed.pid")"
python3 -c 'import time; print(time.perf_counter_ns())' >"$out/killed.at"
wait "$loader"
sleep 1.5

temp=$(tail -n 50 "$out/trace.ndjson.partial" | grep -o '"temp_c":[0-9]*' | tail -n 1 | cut -d: -f2)
if [ -n "$temp" ]; then
  load tripped sustain --kernel bf16 --max-temp $((temp + 4)) --resume-temp $((temp + 2)) --duration 17s
fi
kill -INT "$poller"
wait "$poller"
echo "$((SECONDS - began))" >"$out/seconds"
python3 test/gpu/waves.py "$out"
