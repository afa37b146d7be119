#!/usr/bin/env bash
# Two processes on one real GPU: each load alone, then both at once, with nvpoll asking the driver what each process
# does. Prints what that costs and how often it tells, each process's share of the joules by two methods, whether the
# parts add up to the whole, and how far a share by time is from one by power, as each load drew it alone. Needs bin/
# and python3; less than 40 s. Prints its table last.
#
#   process.sh [DIR]     where to keep trace, events and joules
#
# DEVICE=sim:FILE is a rehearsal without a GPU. GPU is an index (0), PERIOD how often the driver is asked (100ms),
# SENSOR this board's sensor.json. Exit status: 0 the parts add up, and are within their intervals of the shares by power.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-$(mktemp -d)}
mkdir -p "$out"
export PATH=$PWD/bin:$PATH
load=${DEVICE:-cuda} gpu=${GPU:-0} sensor=${SENSOR:-docs/validation/2026-11-23-h200-sensor.json}
began=$SECONDS

nvpoll --version
poller=
trap '[ -z "$poller" ] || kill "$poller" 2>/dev/null || true' EXIT
one() { # NAME SECONDS KERNEL INTENSITY: a load, as a process of its own
  nvload sustain --device "$load" --gpu "$gpu" --kernel "$3" --intensity "$4" --duration "$2s" --tell-pid --id "$1" --phase "$1" -o "$out/$1.ndjson"
}
nvpoll --device "${DEVICE:-nvml}" --gpu "$gpu" --channels sample,power,counter,process --process-period "${PERIOD:-100ms}" -o "$out/trace.ndjson" &
poller=$!
sleep 1
one idle 2 fp32 0 # with a context, as both have
one memory_alone 3 memory 0.3
one bf16_alone 3 bf16 0.6
sleep 0.5
one memory 10 memory 0.3 &
first=$!
sleep 1.5 # so that it can be told which is which where the driver has other numbers for processes
one bf16 10 bf16 0.6 &
second=$!
wait "$first"
wait "$second"
sleep 2.5
kill -INT "$poller"
wait "$poller"
poller=

# Events of the time in which both ran: of each process that the driver tells of, and of all of them.
python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
read = lambda name: [json.loads(line) for line in open(f"{out}/{name}.ndjson")]
event = lambda name: next(r for r in read(name) if r["record"] == "event")
trace = read("trace")
told = [r for r in trace if r["record"] == "process"]
work = {name: event(name) for name in ("idle", "memory_alone", "bf16_alone", "memory", "bf16")}
both = max(work["memory"]["t_start_ns"], work["bf16"]["t_start_ns"]), min(work["memory"]["t_end_ns"], work["bf16"]["t_end_ns"])
seen = {}
for r in told:
    if r.get("sm_util") and r["t_ns"] > work["memory"]["t_start_ns"]:
        seen.setdefault(r["pid"], r["t_ns"])
order = sorted(seen, key=seen.get)
for i, name in enumerate(("memory", "bf16")):
    e = work[name]
    e["own_pid"] = e["pid"]
    if e["pid"] not in seen and len(order) > i:
        e["pid"] = order[i]
        print(f"{name}: the driver has no process {e['own_pid']}; taken for its {e['pid']}, which appeared {('first', 'second')[i]}")
with open(f"{out}/events.ndjson", "w") as f:
    def put(id, phase, from_ns, to_ns, **more):
        print(json.dumps({"record": "event", "event_id": id, "phase": phase, "t_start_ns": from_ns, "t_end_ns": to_ns, "gpus": work["memory"]["gpus"], **more}), file=f)
    for name in ("idle", "memory_alone", "bf16_alone"):
        put(name, name, work[name]["t_start_ns"], work[name]["t_end_ns"])
    put("whole", "both", *both)
    names = {work["memory"]["pid"]: "memory", work["bf16"]["pid"]: "bf16"}
    for pid in order:
        put(names.get(pid, f"process {pid}"), "part", *both, pid=pid)
    for name in ("memory", "bf16"):
        put(f"{name}, all of it", "own", work[name]["t_start_ns"], work[name]["t_end_ns"], pid=work[name]["pid"])
PY
for method in driver auto; do
  nvattrib --trace "$out/trace.ndjson" --events "$out/events.ndjson" --sensor "$sensor" --method "$method" -o "$out/$method.ndjson" || echo "nvattrib: exit $?"
done

python3 - "$out" "$((SECONDS - began))" <<'PY'
import json, statistics, sys
out = sys.argv[1]
read = lambda name: [json.loads(line) for line in open(f"{out}/{name}.ndjson")]
trace = read("trace")
told = [r for r in trace if r["record"] == "process"]
print("process channel:", json.dumps(trace[-1]["poller"]["overall"]["channels"].get("process")))
print("first records:")
for r in [r for r in told if "pid" in r][:6]:
    print("  ", json.dumps(r))
by = {}
for r in told:
    by.setdefault(r.get("pid", r.get("error", "none at work")), []).append(r)
print(f"\n{'process':>14} {'name':12}{'records':>8}{'ms apart, median':>17}{'least':>8}{'most':>8}{'covers ms':>10}{'SM % median':>12}{'sd':>6}{'mem %':>7}{'MiB':>9}")
for pid, list_ in sorted(by.items(), key=lambda x: str(x[0])):
    apart = [(b["t_ns"] - a["t_ns"]) / 1e6 for a, b in zip(list_, list_[1:])] or [float("nan")]
    sm = [r["sm_util"] for r in list_ if "sm_util" in r] or [float("nan")]
    mem = [r["mem_util"] for r in list_ if "mem_util" in r] or [float("nan")]
    covers = [(r["t_ns"] - r["t_start_ns"]) / 1e6 for r in list_]
    held = [r["vram_used_mb"] for r in list_ if "vram_used_mb" in r] or [float("nan")]
    print(f"{pid:>14} {list_[0].get('name', '-'):12}{len(list_):8}{statistics.median(apart):17.1f}{min(apart):8.1f}{max(apart):8.1f}{statistics.median(covers):10.1f}"
          f"{statistics.median(sm):12.1f}{statistics.pstdev(sm) if len(sm) > 1 else 0:6.1f}{statistics.median(mem):7.1f}{max(held):9.0f}")

fine = True
truth = None
print(f"\n{'method':8}{'event':20}{'s':>7}{'J':>10}{'± J':>9}{'W':>8}{'share':>8}{'±':>7}  tier")
for method in ("driver", "auto"):
    events = {r["event_id"]: r for r in read(method) if r["record"] == "event"}
    watts = {}
    for id, e in events.items():
        s = (e["t_end_ns"] - e["t_start_ns"]) / 1e9
        j = e.get("energy_joules", float("nan"))
        watts[id] = j / s
        f = lambda k, d: f"{e[k]:.{d}f}" if k in e else "-"
        print(f"{method:8}{id:20}{s:7.2f}{j:10.2f}{f('ci95_joules', 2):>9}{j / s:8.1f}{f('process_share', 4):>8}{f('process_share_ci95', 3):>7}  {e['energy_tier']}")
    parts = [e for e in events.values() if e["phase"] == "part"]
    sum_, whole = sum(e.get("energy_joules", float("nan")) for e in parts), events["whole"].get("energy_joules", float("nan"))
    exact = abs(sum_ - whole) <= 1e-9 * abs(whole)
    fine = fine and exact and len(parts) >= 2
    print(f"{method:8}{len(parts)} parts have {sum_:.6f} J, the whole {whole:.6f} J: {'they add up' if exact else 'THEY DO NOT ADD UP'}")
    # What each drew above idle when it was alone: its share by power, idle split by it as well.
    above = {name: watts[f"{name}_alone"] - watts["idle"] for name in ("memory", "bf16")}
    print(f"{method:8}alone, above {watts['idle']:.1f} W: memory {above['memory']:.1f} W, bf16 {above['bf16']:.1f} W; together {watts['whole'] - watts['idle']:.1f} W")
    for name in ("memory", "bf16"):
        by_power = above[name] / sum(above.values())
        e = events.get(name, {})
        off = e.get("process_share", float("nan")) - by_power
        ok = abs(off) <= e.get("process_share_ci95", 0)
        fine = fine and ok
        print(f"{method:8}{name}: share by time {e.get('process_share', float('nan')):.4f} ± {e.get('process_share_ci95', float('nan')):.3f}, by power alone {by_power:.4f}, apart {off:+.4f}: {'within' if ok else 'NOT within'} the interval")
    if method == "auto":
        for id in ("memory", "memory, all of it"):
            for reason in events.get(id, {}).get("reasons", []):
                print(f"  {id}: {reason}")
print(f"{sys.argv[2]} s")
sys.exit(not fine)
PY
