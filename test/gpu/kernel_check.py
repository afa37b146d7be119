#!/usr/bin/env python3
"""Checks the kernels in pkg/cuda/kernels on a GPU, and times them beside PyTorch.

    kernel_check.py [--errors-only] [--seed N]

A ratio is a kernel's part of the rate that bounds it, as measured in the same run:
the copy's, the largest product's, the peak; or, where none is named, of PyTorch's.
The goals are for an H200. Whoever misses one is named at the end, and the exit status
is 1 then, as it is where a result is wrong.
"""
import collections
import math
import statistics
import sys
import time

import cupy
import numpy as np
import torch
import torch.nn.functional as F

FOLDER = "pkg/cuda/kernels/"
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
ROUNDING = {"bf16": 1 / 256, "f16": 1 / 2048, "f32": 3e-6}
WORKING = {"bf16": 6e-3, "f16": 8e-4}  # with rounded numbers between
failures = 0


def load():
    """All kernels by name; prints what the driver made of them."""
    functions = {}
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, driver {cupy.cuda.runtime.driverGetVersion()}")
    for name in ("elements", "products", "attend", "waves"):
        with open(FOLDER + name + ".ptx") as f:
            entries = [line.split()[2].rstrip("(") for line in f if line.startswith(".visible .entry")]
        began = time.perf_counter()
        module = cupy.RawModule(path=FOLDER + name + ".ptx")
        mine = {e: module.get_function(e) for e in entries}
        made = [(e, f.num_regs, f.shared_size_bytes, f.local_size_bytes) for e, f in mine.items()]
        print(f"{name}: compiled in {time.perf_counter() - began:.2f} s")
        for e, registers, shared, local in made:
            if "_f16" not in e:
                print(f"  {e:28} {registers:4} registers {shared:6} B shared {local:5} B local")
        functions.update(mine)
    return functions


functions = {}


def launch(name, grid, threads, args, shared=0):
    """Queues a kernel. None is a null pointer, an int 32 bits, an np number itself."""
    f = functions[name]
    if shared:
        f.max_dynamic_shared_size_bytes = shared
    convert = {torch.Tensor: lambda t: np.uint64(t.data_ptr()), type(None): lambda _: np.uint64(0),
               int: np.int32, float: np.float32}
    args = tuple(convert.get(type(a), lambda a: a)(a) for a in args)
    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
        f(tuple(grid) + (1,) * (3 - len(grid)), (threads,), args, shared_mem=shared)


def parts(n, size):
    return -(-n // size)


def flat(name, n, args):
    launch(name, (max(1, min(4096, parts(n, 256))),), 256, args)


def gemm(t, out, x, a, w, bias):
    (m, k), n = a.shape, w.shape[0]
    tiles = [("", 128, 256, 256, 256), ("_middle", 128, 192, 256, 211), ("_small", 64, 64, 128, 74)]
    suffix, tm, tn, threads, _ = min(tiles, key=lambda s: parts(parts(m, s[1]) * parts(n, s[2]), 132) * s[4])
    launch(f"gemm_{t}{suffix}", (parts(m, tm) * parts(n, tn),), threads, (out, x, a, w, bias, m, n, k), 3 * (tm + tn) * 128)


def gemv(name, out, a, w, *rest):
    """Of as many columns as w has rows; rest is its bias, where the kernel takes one."""
    (m, k), n = a.shape, w.shape[0]
    rows, stages = (32, 3) if m > 8 else (16, 4)
    args = (out, a, w, *rest, m, n if rest else n // 2, k)
    launch(name + "_wide" * (m > 8), (parts(n, rows),), 256, args, 8 * stages * rows * 128)


def gemv_silu(t, out, a, w):
    gemv(f"gemv_silu_{t}", out, a, w)


def attend_prefill(t, out, q, k, v, pos0):
    b, h, s, d = q.shape
    launch(f"attend_prefill_{t}_{d}", (parts(s, 64), h, b), 128, (out, q, k, v, pos0, s, h, k.shape[1], k.shape[2]), 512 * d)


def splits(window):
    return min(64, parts(window, 64))


def attend_decode(t, out, partial, q, k, v, pos):
    (b, h, _, d), (_, hkv, window, _) = q.shape, k.shape
    launch(f"attend_decode_{t}_{d}", (splits(window), hkv, b), 128, (partial, q, k, v, pos, h, hkv, window), 768 * d)
    launch(f"attend_reduce_{t}", (b * h,), 256, (out, partial, splits(window), d))


def random(t, *shape):
    return (torch.rand(shape, device="cuda") * 2 - 1).to(TYPES.get(t, torch.float32))


def poisoned(t, *shape):
    return torch.full(shape, math.nan, device="cuda", dtype=TYPES.get(t, torch.float32))


def integers(*v):
    return torch.tensor(v, device="cuda", dtype=torch.int32)


def check(name, got, want, limit):
    """Prints how far off a result is as a part of it. What is below the smallest normal number of f16 is rounded to
    steps of 2^-24, however small it is; a result of one such number would fail by that alone."""
    global failures
    step = 2.0**-25 * math.sqrt(got.numel()) if got.dtype == torch.float16 else 0
    got, want = got.double().flatten(), want.double().flatten()
    error = ((got - want).norm() / want.norm()).item() if len(want) == len(got) else math.nan
    if torch.equal(got, want):
        error = 0.0
    good = error <= limit or bool((got - want).norm() <= limit * want.norm() + step)
    failures += not good
    print(f"{name:58}{error:11.2e}{limit:11.2e}  {'' if good else 'WRONG'}", flush=True)


def attempt(name, case, *args):
    """Runs a case; an error is printed, and the next one runs all the same."""
    global failures
    try:
        case(*args)
        torch.cuda.synchronize()
    except Exception as e:
        failures += 1
        print(f"{name}: {type(e).__name__}: {e}", flush=True)


def elements(t):
    rows, width = 333, 4104
    x, y, bias = random("f32", rows, width), random(t, rows, width), random(t, width)
    want = x.double() + y.double() + bias.double()
    flat(f"add_{t}", rows * width // 8, (x, y, bias, rows, width))
    check(f"add_{t} {rows}×{width}", x, want, ROUNDING["f32"])
    want = F.gelu(y.double() + bias.double(), approximate="tanh")
    flat(f"gelu_{t}", rows * width // 8, (y, bias, rows, width))
    check(f"gelu_{t} {rows}×{width}", y, want, ROUNDING[t])
    both, out = random(t, rows, 2 * width) * 8, poisoned(t, rows, width)
    flat(f"silu_mul_{t}", rows * width // 8, (out, both, rows, width))
    gate, up = both.double().split(width, dim=1)
    check(f"silu_mul_{t} {rows}×{width}", out, F.silu(gate) * up, ROUNDING[t])

    for width in (768, 1600, 8192):
        x, weight, bias = random("f32", rows, width) + 1, random(t, width), random(t, width)
        y = poisoned(t, rows, width)
        launch(f"norm_rms_{t}", (rows,), 512, (y, x, weight, rows, width, 1e-5))
        check(f"norm_rms_{t} {rows}×{width}", y, F.rms_norm(x.double(), (width,), weight.double(), 1e-5), ROUNDING[t])
        y = poisoned(t, rows, width)
        launch(f"norm_layer_{t}", (rows,), 512, (y, x, weight, bias, rows, width, 1e-5))
        check(f"norm_layer_{t} {rows}×{width}", y, F.layer_norm(x.double(), (width,), weight.double(), bias.double(), 1e-5), ROUNDING[t])

    b, s, width, vocab, start = 3, 17, 1600, 50257, 5
    table, positions = random(t, vocab, width), random(t, 1024, width)
    tokens = torch.randint(vocab, (b, s), device="cuda", dtype=torch.int32)
    x = poisoned("f32", b, s, width)
    launch(f"embed_{t}", (s, b), 128, (x, table, positions, tokens, integers(start), s, width))
    check(f"embed_{t}", x, table[tokens].double() + positions[start:start + s].double(), ROUNDING["f32"])

    for vocab in (1, 50257, 128256):
        logits, token = random(t, 5, vocab), integers(*[-1] * 5)
        launch(f"argmax_{t}", (5,), 1024, (token, logits, 5, vocab))
        first = torch.stack([(row == row.max()).nonzero()[0, 0] for row in logits])
        check(f"argmax_{t} {vocab}", token, first, 0)


def fill(t):
    n, seed, width = 10_000_019, 0xfedcba9876543210, 0.02
    out = poisoned(t, n)
    flat(f"fill_uniform_{t}", n, (out, np.int64(n), np.uint64(seed), width))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    u = ((z ^ z >> np.uint64(31)) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    want = torch.from_numpy((2 * u - 1) * np.float32(width)).cuda().to(out.dtype)
    check(f"fill_uniform_{t}", out, want, 0)


def split(t, d, h, hkv):
    b, s, start, window = 2, 33, 100_000, 100_100
    heads = h + 2 * hkv
    qkv, bias = random(t, b, s, heads * d), random(t, heads * d)
    frequencies = torch.rand(d // 2, device="cuda")
    q, k, v = poisoned(t, b, h, s, d), random(t, b, hkv, window, d), random(t, b, hkv, window, d)
    wants = [q.double(), k.double(), v.double()]
    launch(f"split_qkv_{t}", (s, b, parts(heads, 8)), 256, (q, k, v, qkv, bias, integers(start), frequencies, s, h, hkv, d, window))
    x = (qkv.double() + bias.double()).view(b, s, heads, d).transpose(1, 2)
    angle = (torch.arange(start, start + s, device="cuda", dtype=torch.float32)[:, None] * frequencies).double().repeat(1, 2)
    turned = torch.cat((-x[..., d // 2:], x[..., :d // 2]), -1)
    rotated = x * angle.cos() + turned * angle.sin()
    wants[0] = rotated[:, :h]
    wants[1][:, :, start:start + s] = rotated[:, h:h + hkv]
    wants[2][:, :, start:start + s] = x[:, h + hkv:]
    for name, got, want in zip("qkv", (q, k, v), wants):
        check(f"split_qkv_{t} {name} d={d}", got, want, ROUNDING[t])


def products(t):
    for m, n, k in ((1, 1, 8), (17, 50, 136), (333, 771, 1600), (1000, 4100, 4104), (2048, 2048, 14336),
                    (1024, 6144, 4096), (2041, 2041, 200)):
        a, w, bias = random(t, m, k), random(t, n, k), random(t, n)
        want = a.double() @ w.double().T
        out, x = poisoned(t, m, n), random("f32", m, n)
        gemm(t, out, None, a, w, bias)
        check(f"gemm_{t} {m}×{n}×{k}", out, want + bias.double(), ROUNDING[t])
        total = x.double() + want
        gemm(t, None, x, a, w, None)
        check(f"gemm_{t} to x {m}×{n}×{k}", x, total, 1e-4)
    for m, n, k in ((1, 1, 8), (1, 4096, 14336), (3, 50257, 768), (4, 333, 1600), (5, 100, 4096), (8, 4104, 4096), (9, 50257, 768),
                    (11, 4097, 3072), (16, 6144, 4096)):
        a, w, bias = random(t, m, k), random(t, n, k) / 8, random(t, n)
        want = a.double() @ w.double().T + bias.double()
        out, x = poisoned(t, m, n), random("f32", m, n)
        gemv(f"gemv_{t}", out, a, w, bias)
        check(f"gemv_{t} {m}×{n}×{k}", out, want, ROUNDING[t])
        total = x.double() + want
        gemv(f"gemv_add_{t}", x, a, w, bias)
        check(f"gemv_add_{t} {m}×{n}×{k}", x, total, 1e-4)
        out = poisoned(t, m, n)
        gemv(f"gemv_gelu_{t}", out, a, w, bias)
        check(f"gemv_gelu_{t} {m}×{n}×{k}", out, F.gelu(want, approximate="tanh"), ROUNDING[t])
        w, out = random(t, 2 * n, k) / 8, poisoned(t, m, n)
        gemv_silu(t, out, a, w)
        gate, up = (a.double() @ w.double().T).split(n, dim=1)
        check(f"gemv_silu_{t} {m}×{n}×{k}", out, F.silu(gate) * up, ROUNDING[t])


def attention(q, k, v, start):
    """In float64, of [b,h,s,d] as [b,s,h·d]."""
    (b, h, s, d), length = q.shape, start + q.shape[2]
    k, v = (x[:, :, :length].double().repeat_interleave(h // x.shape[1], 1) for x in (k, v))
    score = q.double() @ k.transpose(2, 3) / math.sqrt(d)
    later = torch.arange(length, device="cuda") > torch.arange(start, length, device="cuda")[:, None]
    return (score.masked_fill(later, -math.inf).softmax(-1) @ v).transpose(1, 2).reshape(b, s, h * d)


def attends(t):
    def caches(b, hkv, length, window, d):
        k, v = random(t, b, hkv, window, d) * 4, random(t, b, hkv, window, d)
        k[:, :, length:], v[:, :, length:] = math.nan, math.nan
        return k, v

    for b, s, start, h, hkv, d, window in ((1, 1, 0, 1, 1, 64, 1), (2, 333, 0, 12, 12, 64, 400), (1, 1000, 3000, 8, 2, 128, 4096),
                                           (2, 65, 63, 32, 8, 128, 128), (1, 2048, 0, 4, 1, 128, 2048)):
        q, (k, v) = random(t, b, h, s, d), caches(b, hkv, start + s, window, d)
        out = poisoned(t, b, s, h * d)
        attend_prefill(t, out, q, k, v, integers(start))
        check(f"attend_prefill_{t}_{d} {b}×{s} after {start}, {h}/{hkv} heads", out, attention(q, k, v, start), WORKING[t])
    for b, at, h, hkv, d, window in ((1, 0, 12, 12, 64, 1024), (16, 127, 12, 12, 64, 128), (1, 16383, 32, 8, 128, 16384),
                                     (4, 1000, 32, 8, 128, 1024), (2, 100, 16, 1, 128, 100_000), (3, 77_777, 7, 1, 64, 100_000)):
        q, (k, v) = random(t, b, h, 1, d), caches(b, hkv, at + 1, window, d)
        out, partial = poisoned(t, b, h * d), poisoned("f32", b * h * splits(window) * (d + 2))
        attend_decode(t, out, partial, q, k, v, integers(at))
        check(f"attend_decode_{t}_{d} {b} after {at}, {h}/{hkv} heads", out, attention(q, k, v, at), WORKING[t])


def matmul_f32(c, a, b):
    n = a.shape[0]
    launch("matmul_f32", ((n // 128)**2,), 256, (c, a, b, n))


def copy(out, a):
    n = a.numel() * a.element_size() // 16
    launch("copy", (parts(n, 1024),), 256, (out, a, np.int64(n)))


def waves():
    n = 1152
    a, b, c = random("f32", n, n), random("f32", n, n), poisoned("f32", n, n)
    matmul_f32(c, a, b)
    check(f"matmul_f32 {n}", c, a.double() @ b.double(), ROUNDING["f32"])
    a, out = random("f32", 4 * 10_000_019), poisoned("f32", 4 * 10_000_019)
    copy(out, a)
    check("copy", out, a, 0)
    pos = integers(17)
    launch("advance", (1,), 1, (pos, -3))
    check("advance", pos, integers(14), 0)


def errors():
    print(f"\n{'':58}{'error':>11}{'limit':>11}")
    for t in ("bf16", "f16", "f32"):
        attempt("fill", fill, t)
    for t in TYPES:
        attempt("elements", elements, t)
        attempt("split", split, t, 64, 12, 12)
        attempt("split", split, t, 128, 32, 8)
        attempt("products", products, t)
        attempt("attends", attends, t)
    attempt("waves", waves)


def seconds(calls, repeat=5):
    """The median time of one of these calls, in a CUDA graph of all of them.

    There are as many on different memory as it takes to find none of it in the cache.
    They are repeated until the graph's own start is a small part of the time."""
    calls = calls * parts(12, len(calls))
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    times = []
    for _ in range(repeat):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / len(calls))
    return statistics.median(times)


Result = collections.namedtuple("Result", "name mine rate its other unit ratio goal")
results = []  # rows of the last table


def timed(name, ours, torchs, work, unit, goal=None, of=None):
    """Times the calls; work per second in giga or tera, as the unit says. The goal
    is a part of `of`, or of what PyTorch does; the rate is the result."""
    try:
        mine = seconds(ours)
        its = seconds(torchs) if torchs else math.nan
    except Exception as e:
        global failures
        failures += 1
        print(f"{name}: {type(e).__name__}: {e}", flush=True)
        return math.nan
    scale = {"GB/s": 1e9, "TFLOP/s": 1e12}[unit]
    rate, other = work / mine / scale, work / its / scale
    results.append(Result(name, mine * 1e6, rate, its * 1e6, other, unit, rate / (of or other), goal))
    return rate


def copies(make, bytes_each):
    return [make() for _ in range(max(1, min(16, parts(300_000_000, bytes_each))))]


def times():
    t, dtype = "bf16", torch.bfloat16
    a, out = random("f32", 1 << 28), poisoned("f32", 1 << 28)
    bandwidth = timed("copy 1 GiB", [lambda: copy(out, a)], [lambda: out.copy_(a)], 2 * 4 * a.numel(), "GB/s", 0.9)
    del a, out

    # What is read in less than 20 µs at the copy's rate takes as long to begin and
    # to end: that is held against PyTorch's time.
    def reading(m, n, k):
        if n * k < 4e7:
            return (0.9, None) if n * k > 1e7 else (None, None)
        return 0.8 if m <= 4 else 0.7, bandwidth

    for m, n, k in ((1, 4096, 14336), (1, 4096, 4096), (1, 6144, 4096), (1, 128256, 4096), (1, 2304, 768), (4, 4096, 14336),
                    (4, 4096, 4096), (4, 128256, 4096), (8, 4096, 14336), (8, 28672, 4096), (16, 4096, 14336), (16, 4096, 4096),
                    (16, 28672, 4096)):
        a, out = random(t, m, k), poisoned(t, m, n)
        ws = copies(lambda: random(t, n, k), 2 * n * k)
        timed(f"gemv {m}×{n}×{k}", [lambda w=w: gemv(f"gemv_{t}", out, a, w, None) for w in ws],
              [lambda w=w: torch.mm(a, w.T, out=out) for w in ws], 2 * n * k, "GB/s", *reading(m, n, k))
    for m in (1, 4, 8, 16):
        a, out, n, k = random(t, m, 4096), poisoned(t, m, 14336), 28672, 4096
        ws = copies(lambda: random(t, n, k), 2 * n * k)
        timed(f"gemv_silu {m}×{n}×{k}", [lambda w=w: gemv_silu(t, out, a, w) for w in ws], None, 2 * n * k, "GB/s", *reading(m, n, k))
    del ws

    # Shares of what PyTorch makes of the largest.
    rate = None
    for m, n, k in ((8192, 8192, 8192), (1024, 4096, 14336), (1024, 28672, 4096), (1024, 6144, 4096), (1024, 4096, 4096),
                    (512, 6144, 4096), (8192, 4096, 4096), (128, 4096, 4096), (256, 2304, 768), (32, 4096, 14336)):
        a, w, out = random(t, m, k), random(t, n, k), poisoned(t, m, n)
        timed(f"gemm {m}×{n}×{k}", [lambda: gemm(t, out, None, a, w, None)] * 4, [lambda: torch.mm(a, w.T, out=out)] * 4,
              2 * m * n * k, "TFLOP/s", 0.4 if m >= 1024 else None, rate)
        rate = rate or results[-1].other

    for b, s, h, hkv, d in ((1, 4096, 32, 8, 128), (1, 1024, 32, 8, 128), (1, 16384, 32, 8, 128), (4, 1024, 12, 12, 64)):
        q, k, v, out = random(t, b, h, s, d), random(t, b, hkv, s, d), random(t, b, hkv, s, d), poisoned(t, b, s, h * d)
        zero, each = integers(0), [x.repeat_interleave(h // hkv, 1) for x in (k, v)]
        timed(f"attend_prefill {b}×{s}, {h}/{hkv}×{d}", [lambda: attend_prefill(t, out, q, k, v, zero)] * 2,
              [lambda: F.scaled_dot_product_attention(q, *each, is_causal=True)] * 2, 2 * b * h * s * s * d, "TFLOP/s",
              150 if (s, d) == (4096, 128) else None, 1 if (s, d) == (4096, 128) else None)

    for b, s, h, hkv, d in ((1, 16384, 32, 8, 128), (1, 4096, 32, 8, 128), (1, 1024, 32, 8, 128), (4, 16384, 32, 8, 128), (1, 1024, 12, 12, 64), (16, 128, 12, 12, 64)):
        q, out, partial = random(t, b, h, 1, d), poisoned(t, b, h * d), poisoned("f32", b * h * splits(s) * (d + 2))
        kvs = copies(lambda: (random(t, b, hkv, s, d), random(t, b, hkv, s, d)), 4 * b * hkv * s * d)
        last = integers(s - 1)
        timed(f"attend_decode {b}×{s}, {h}/{hkv}×{d}", [lambda k=k, v=v: attend_decode(t, out, partial, q, k, v, last) for k, v in kvs],
              [lambda k=k, v=v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True) for k, v in kvs] if h == hkv else None,
              4 * b * hkv * s * d, "GB/s", 0.6 if s == 16384 else None, bandwidth)
    del kvs

    n = 4096
    a, b, c = random("f32", n, n), random("f32", n, n), poisoned("f32", n, n)
    torch.backends.cuda.matmul.allow_tf32 = False
    properties = torch.cuda.get_device_properties(0)
    clock = cupy.cuda.runtime.getDeviceProperties(0).get("clockRate") or 1_980_000
    peak = properties.multi_processor_count * 128 * 2 * clock * 1e3 / 1e12
    timed(f"matmul_f32 {n} (peak {peak:.0f})", [lambda: matmul_f32(c, a, b)] * 4, [lambda: torch.mm(a, b, out=c)] * 4, 2 * n**3, "TFLOP/s", 0.55, peak)

    for rows in (1, 8192):
        width, ff, h, hkv, d = 4096, 14336, 32, 8, 128
        x, y, wide, q = random("f32", rows, width), random(t, rows, width), random(t, rows, 2 * ff), poisoned(t, rows, ff)
        weight, zero, frequencies = random(t, width), integers(0), torch.rand(d // 2, device="cuda")
        k, v = poisoned(t, 1, hkv, rows, d), poisoned(t, 1, hkv, rows, d)
        again = 20 if rows == 1 else 2
        for name, bytes_each, call in (
                ("norm_rms", 6 * width, lambda: launch(f"norm_rms_{t}", (rows,), 512, (y, x, weight, rows, width, 1e-5))),
                ("norm_layer", 6 * width, lambda: launch(f"norm_layer_{t}", (rows,), 512, (y, x, weight, weight, rows, width, 1e-5))),
                ("add", 10 * width, lambda: flat(f"add_{t}", rows * width // 8, (x, y, None, rows, width))),
                ("silu_mul", 6 * ff, lambda: flat(f"silu_mul_{t}", rows * ff // 8, (q, wide, rows, ff))),
                ("gelu", 4 * ff, lambda: flat(f"gelu_{t}", rows * ff // 8, (q, None, rows, ff))),
                ("split_qkv", 4 * (h + 2 * hkv) * d, lambda: launch(
                    f"split_qkv_{t}", (rows, 1, 6), 256, (q, k, v, wide, None, zero, frequencies, rows, h, hkv, d, rows)))):
            timed(f"{name} {rows}", [call] * again, None, rows * bytes_each, "GB/s", None, bandwidth)
    pos, token, logits = integers(0), integers(0), random(t, 1, 128256)
    timed("argmax 128256", [lambda: launch(f"argmax_{t}", (1,), 1024, (token, logits, 1, 128256))] * 20, None, 2 * 128256, "GB/s", None, bandwidth)
    timed("advance (a launch)", [lambda: launch("advance", (1,), 1, (pos, 0))] * 20, None, 4, "GB/s", None, bandwidth)
    n = 1 << 29
    out = poisoned(t, n)
    timed("fill 1 GiB", [lambda: flat(f"fill_uniform_{t}", n, (out, np.int64(n), np.uint64(1), 0.02))], None, 2 * n, "GB/s", None, bandwidth)

    print(f"\n{'':38}{'µs':>10}{'rate':>9}{'torch µs':>11}{'rate':>9}{'':9}{'ratio':>8}{'goal':>7}")
    for r in results:
        verdict = "" if not r.goal else f"{r.goal:7g}" + ("" if r.ratio >= r.goal else "  SLOW")
        print(f"{r.name:38}{r.mine:10.1f}{r.rate:9.4g}{r.its:11.1f}{r.other:9.4g} {r.unit:8}{r.ratio:8.3g}{verdict}")
    goals = [r for r in results if r.goal]
    return [r.name for r in goals if not r.ratio >= r.goal], len(goals)


torch.manual_seed(int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else time.time_ns() & 0xffffffff)
print(f"seed {torch.initial_seed()}")
functions.update(load())
errors()
missed, goals = times() if "--errors-only" not in sys.argv else ([], 0)
print(f"\n{failures} wrong" if failures else "\nall right")
if goals:
    print(f"{len(missed)} of {goals} goals missed" + "".join(f"\n  {name}" for name in missed) if missed else f"all {goals} goals reached")
sys.exit(failures > 0 or len(missed) > 0)
