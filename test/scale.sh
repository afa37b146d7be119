#!/usr/bin/env bash
# nvattrib at scale: 1e7 samples and 1e5 events, in each encoding, with its time,
# peak memory and records per second; and nvreport on what comes of it, which must
# take less than 30 s and 500 MB for a page of less than 5 MB. Needs bin/ and python3; 3 GB in a temporary
# directory. Prints its table last.
set -euo pipefail
cd "$(dirname "$0")/.."
samples=${SAMPLES:-10000000} events=${EVENTS:-100000}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

awk -v n="$samples" 'BEGIN {
  print "t_ns,power_w,temp_c,sm_clock_mhz,util_gpu"
  for (i = 0; i < n; i++) printf "%.0f,%.3f,%d,1980,%d\n", i * 1e8 + (i * 7919) % 90000, 300 + 250 * sin(i / 40), 50 + i % 9, i % 101
}' >"$dir/trace.csv"
awk -v n="$events" -v gap="$((samples / events))" 'BEGIN {
  for (i = 0; i < n; i++) printf "{\"record\":\"event\",\"event_id\":\"e%d\",\"phase\":\"decode\",\"t_start_ns\":%.0f,\"t_end_ns\":%.0f,\"output_tokens\":64}\n", i, i * gap * 1e8 + 3e7, (i + 0.7) * gap * 1e8 + 3e7
}' >"$dir/events.ndjson"
bin/nvpoll --device "replay:$dir/trace.csv" --speed max -o "$dir/trace.ndjson"
bin/nvpoll --device "replay:$dir/trace.csv" --speed max --format arrow -o "$dir/trace.arrow"
bin/nvpoll --device "replay:$dir/trace.csv" --speed max --compress zstd -o "$dir/trace.ndjson.zst"

python3 - "$dir" "$samples" "$events" <<'PY'
import hashlib, os, resource, subprocess, sys, time
where, samples, events = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print(f"{samples} samples, {events} events")
print(f"{'input':18}{'method':>10}{'MB':>8}{'s':>8}{'records/s':>12}{'peak MB':>9}")
outcomes = {}

def measure(command, out):
    """Seconds and peak MB of a command, in a process of its own, so that the peak is its own."""
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        with open(out, "w") as f:
            p = subprocess.run(command, stdout=f)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        with open(os.path.join(where, "peak"), "w") as f:
            f.write(str(peak))
        os._exit(p.returncode)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 0:
        sys.exit(f"{command[0]} ended with {code}")
    return time.monotonic() - begin, float(open(os.path.join(where, "peak")).read())

for name in ("trace.csv", "trace.ndjson", "trace.ndjson.zst", "trace.arrow"):
    for method in ("tr122", "auto"):
        out = os.path.join(where, "out")
        took, peak = measure(["bin/nvattrib", "--trace", os.path.join(where, name), "--events", os.path.join(where, "events.ndjson"), "--method", method], out)
        # This process stays small: a child's peak begins at its parent's size.
        count, digest = 0, hashlib.sha256()
        for line in open(out, "rb"):
            if b'"record":"event"' in line:
                count += 1
                digest.update(line)
        if count != events:
            sys.exit(f"{count} events came out of {events}")
        if outcomes.setdefault(method, digest.hexdigest()) != digest.hexdigest():
            sys.exit(f"{name} gives other energies than trace.csv")
        print(f"{name:18}{method:>10}{os.path.getsize(os.path.join(where, name)) / 1e6:8.0f}{took:8.1f}{(samples + events) / took:12.0f}{peak:9.0f}")

run = os.path.join(where, "run")
os.mkdir(run)
os.link(os.path.join(where, "trace.ndjson"), os.path.join(run, "trace.ndjson"))
os.link(os.path.join(where, "out"), os.path.join(run, "generation_events.jsonl"))
took, peak = measure(["bin/nvreport", run], os.devnull)
page = os.path.getsize(os.path.join(run, "report.html")) / 1e6
print(f"nvreport: {took:.1f} s, {peak:.0f} MB, a page of {page:.2f} MB")
if took > 30 or peak > 500 or page > 5:
    sys.exit("nvreport takes too much")
PY
