#!/usr/bin/env bash
# The memory of a real GPU: what its allocators make of holes, and how far the
# prediction of the longest context is off, of the whole board without a prefill
# and of 40 GiB with one. Less than a minute. Needs bin/ and python3. Prints its
# tables last.
#
#   FULL=1          a prefill on the whole board as well (a minute more on an H200)
#   DEVICE=sim:FILE a rehearsal without a GPU
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-${OUT:-$(mktemp -d)}}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
result=$out/vram.json
failed=0

nvload --version
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader
device=${DEVICE:-cuda}
nvpoll --device "${DEVICE:-nvml}" --period 50ms --channels sample -o "$out/trace.ndjson" &
poller=$!
sleep 0.5

try() { # NAME ARG…: its events in NAME.ndjson, its status and time printed
  local name=$1 start code
  shift
  start=$(date +%s.%N)
  nvload --device "$device" vram "$@" --hold 200ms --result "$result" -o "$out/$name.ndjson"
  code=$?
  [ "$code" = 0 ] || failed=1
  echo "$name: exit $code after $(python3 -c "import time; print(f'{time.time() - $start:.1f}')") s"
  [ "$code" = 0 ] || tail -n 3 "$out/$name.ndjson"* | cut -c1-2000
}
total=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -n 1)
try torture torture --cycles 2000
try xl cliff --model gpt2-xl
try board cliff --model llama-3.1-8b --batch 64 --no-prefill
try part cliff --model llama-3.1-8b --batch 16 --reserve $((${total:-143000} - 40960))
[ "${FULL:-0}" = 0 ] || try full cliff --model llama-3.1-8b --batch 128
kill -INT "$poller"
wait "$poller"

python3 - "$out" <<'PY'
import glob, json, sys
out = sys.argv[1]
try:
    gpus = json.load(open(f"{out}/vram.json"))["gpus"]
except OSError as e:
    sys.exit(f"no result: {e}")
seen = max(r.get("vram_used_mb", 0) for r in map(json.loads, open(f"{out}/trace.ndjson")))
probes = 0
for name in sorted(glob.glob(f"{out}/*.ndjson")):
    for r in map(json.loads, open(name)):
        if r["record"] == "event":
            probes += 1
            took = (r["t_end_ns"] - r["t_start_ns"]) / 1e9
            keys = ("context", "prefill", "fits", "reason", "error", "out_of_memory", "left_mb", "works")
            print(f"{r['event_id']:20}{took:9.3f} s ", {k: r[k] for k in keys if k in r})
wrong = []
for g in gpus:
    print(f"\n== {g['name']}: what allocators make of holes (MiB)")
    print(f"{'pattern':8}{'by':7}{'filled':>9}{'of':>9}{'frag':>7}{'holes':>9}{'of':>9}{'frag':>7}{'trimmed':>9}{'frag':>7}{'free':>9}{'largest':>9}{'refused':>8}{'trims':>6}{'left':>6}  outcome")
    for t in g.get("torture", []):
        b, h, m = t["before"], t["holes"], t["trimmed"]
        f = lambda x: f"{x['fragmentation']:7.3f}" if "fragmentation" in x else "      –"
        print(f"{t['pattern']:8}{t['allocator']:7}{b['used_mb']:9.0f}{b['reserved_mb']:9.0f}{f(b)}{h['used_mb']:9.0f}{h['reserved_mb']:9.0f}{f(h)}"
              f"{m['reserved_mb']:9.0f}{f(m)}{t['free_mb']:9.0f}{t['largest_mb']:9.0f}{t.get('refused', 0):8}{t.get('trims', 0):6}{t['left_mb']:6.0f}  {t['coalescing']['outcome']}"
              + (f", adjoining {t['adjoining']['outcome']}" if "adjoining" in t else ""))
        print("         " + t["coalescing"]["reason"])
        if t["left_mb"] > 0:
            wrong.append(f"{t['event_id']} left {t['left_mb']} MiB")
    print(f"\n== the longest context (tokens, MiB); the poller saw up to {seen:.0f} MiB in use")
    print(f"{'model':14}{'batch':>6}{'limit':>14}{'found':>8}{'predicted':>10}{'error %':>9}{'memory %':>9}{'weights':>9}{'kv':>9}{'activ.':>8}{'over':>7}{'before':>8}{'context':>8}{'free':>8}{'reserve':>8}{'prefill s':>10}{'probes':>7}  OOM, left, works")
    for c in g.get("cliff", []):
        p, r = c["peak"], c["recovery"]
        o = lambda v, n: f"{v:{n}.2f}" if v is not None else "–".rjust(n)
        print(f"{c['model']:14}{c['batch_size']:6}{c['limit']:>14}{c['max_context']:8}{c['predicted']['capacity_context']:10}{o(c.get('prediction_error_percent'), 9)}"
              f"{o(c.get('memory_error_percent'), 9)}{p['weights_mb']:9.0f}{p['kv_mb']:9.0f}{p['activations_mb']:8.0f}{p['overhead_mb']:7.1f}{p.get('before_mb', -1):8.0f}{p.get('cuda_context_mb', -1):8.0f}"
              f"{p.get('free_mb', -1):8.0f}{c['reserve_mb']:8.0f}{o(c.get('prefill_s'), 10)}{c['probes']:7}  {r['out_of_memory']}, {r['left_mb']}, {r['works']} {r.get('reason', '')}")
        if abs(c.get("prediction_error_percent", 0)) > 3 or abs(c.get("memory_error_percent", 100)) > 3:
            wrong.append(f"the prediction for {c['model']} at batch {c['batch_size']} is more than 3 % off")
        if not (r["out_of_memory"] and r["works"]) or r["left_mb"] > 64:
            wrong.append(f"{c['model']} at batch {c['batch_size']} did not recover: {r}")
print("\nPASS" if not wrong else "\nFAIL: " + "; ".join(wrong))
sys.exit(bool(wrong))
PY
code=$?
[ "$failed" = 0 ] && exit "$code"
echo "FAIL: a command failed, above"
exit 1
