#!/usr/bin/env python3
"""A PyTorch load for GPU checks: no network, no model weights.

    torch_load.py matmul SECONDS       bf16 matrix products for that long
    torch_load.py gpt2 EVENTS_FILE     GPT-2 of its real shape with random weights
    torch_load.py llama EVENTS_FILE N  Llama-3.1-8B's shape with random weights: N requests of each context
    torch_load.py response EVENTS_FILE the load of the instrument response test, 80 s

gpt2 and llama write a prefill and a decode event for each request, on the clock that
nvpoll stamps with: perf_counter_ns is CLOCK_MONOTONIC on Linux.
"""
import itertools
import json
import math
import random
import sys
import time

import torch


def now():
    torch.cuda.synchronize()
    return time.perf_counter_ns()


def matmul(seconds):
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    end = now() + int(seconds * 1e9)
    n = 0
    while now() < end:
        for _ in range(20):
            c = a @ b
        n += 20
    assert torch.isfinite(c).all()
    print(f"{n} products", file=sys.stderr)


def gpt2(events_file, batches=(1, 4), context=512, tokens=256, reps=3):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).cuda().half().eval()
    device = torch.cuda.current_device()
    with open(events_file, "w") as out, torch.inference_mode():
        def request(batch, rep):
            ids = torch.randint(0, model.config.vocab_size, (batch, context), device="cuda")
            t0 = now()
            state = model(ids, use_cache=True)
            t1 = now()
            past, last = state.past_key_values, state.logits[:, -1:].argmax(-1)
            for _ in range(tokens):
                state = model(last, past_key_values=past, use_cache=True)
                past, last = state.past_key_values, state.logits[:, -1:].argmax(-1)
            t2 = now()
            if rep < 0:  # warm-up
                return
            name = f"gpt2_b{batch}_r{rep}"
            for phase, start, end, count in (("prefill", t0, t1, {"input_tokens": batch * context}),
                                             ("decode", t1, t2, {"output_tokens": batch * tokens})):
                event = {"record": "event", "event_id": f"{name}_{phase}", "phase": phase, "t_start_ns": start, "t_end_ns": end,
                         "gpus": [device], "request_id": name, "model": "gpt2-random", "batch_size": batch, **count,
                         "tokens_per_second": sum(count.values()) / ((end - start) / 1e9)}
                out.write(json.dumps(event) + "\n")

        for batch in batches:
            for rep in range(-1, reps):
                request(batch, rep)
                time.sleep(1)


def llama(events_file, reps, contexts=(256, 1024, 4096), tokens=8, seed=1):
    """Requests in random order, random gaps between them, so that phases do not lock to a sensor."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(LlamaConfig(
            hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
            num_key_value_heads=8, vocab_size=128256, max_position_embeddings=8192)).eval()
    draw = random.Random(seed)
    device = torch.cuda.current_device()
    print("ready", flush=True)
    time.sleep(25)  # idle with the model resident, for a baseline
    order = [c for c in contexts for _ in range(2)] + draw.sample([c for c in contexts for _ in range(reps)], reps * len(contexts))
    with open(events_file, "w") as out, torch.inference_mode():
        for n, context in enumerate(order):
            ids = torch.randint(0, model.config.vocab_size, (1, context), device="cuda")
            t0 = now()
            state = model(ids, use_cache=True, logits_to_keep=1)
            t1 = now()
            past, last = state.past_key_values, state.logits[:, -1:].argmax(-1)
            for _ in range(tokens):
                state = model(last, past_key_values=past, use_cache=True)
                past, last = state.past_key_values, state.logits[:, -1:].argmax(-1)
            t2 = now()
            del state, past
            if n >= 2 * len(contexts):  # the first are warm-up
                for phase, start, end, count in (("prefill", t0, t1, {"input_tokens": context}), ("decode", t1, t2, {"output_tokens": tokens})):
                    out.write(json.dumps({
                        "record": "event", "event_id": f"r{n}_{phase}", "phase": phase, "t_start_ns": start, "t_end_ns": end, "gpus": [device],
                        "request_id": f"r{n}", "model": f"llama-3.1-8b shape, context {context}", "batch_size": 1, **count}) + "\n")
            time.sleep(draw.uniform(0.25, 0.55))


def response(events_file, update=0.1, steps=6, seed=1):
    """Stretches of fp32 matrix products of random lengths, as those of nvload response."""
    draw = random.Random(seed)
    a = torch.randn(2048, 2048, device="cuda")
    b = torch.randn(2048, 2048, device="cuda")
    c = torch.empty_like(a)
    torch.mm(a, b, out=c)
    events = []

    def rest(seconds, since):
        """Until seconds after since, to some 10 µs."""
        end = since + int(seconds * 1e9)
        while (left := end - time.perf_counter_ns()) > 0:
            if left > 2_000_000:
                time.sleep((left - 1_500_000) / 1e9)
        return end

    def load(part, seconds, since):
        rest(0, since)
        start = time.perf_counter_ns()
        end = since + int(seconds * 1e9)
        while time.perf_counter_ns() < end:
            torch.mm(a, b, out=c)
            torch.cuda.synchronize()
        events.append((part, start, time.perf_counter_ns()))
        return end

    torch.cuda.synchronize()
    at = rest(3, time.perf_counter_ns())
    for _ in range(steps):
        at = load("step", draw.uniform(2.5, 3.5), at)
        at = rest(draw.uniform(2.5, 3.5), at)
    at = load("step", draw.uniform(2, 2.5), at)
    at = rest(update / 2, at)
    state = 0x1ff  # the m-sequence of x^9 + x^5 + 1
    chips = []
    for _ in range(511):
        chips.append(state & 1)
        state = state >> 1 | ((state & 1) ^ (state >> 4 & 1)) << 8
    for on, run in itertools.groupby(chips):
        stretch = len(list(run)) * draw.uniform(update / 5, update * 3 / 10)
        at = load("random", stretch, at) if on else rest(stretch, at)
    for ratio in (0.67, 0.83, 1.21, 1.47, 0.31, 2.3):
        half = ratio * update / 2
        for _ in range(math.ceil(10 / ratio * 2)):
            at = load("square", half, at)
            at = rest(half, at)
        at = rest(draw.uniform(0, update), at)
    for _ in range(4):
        for share in (0.1, 0.2, 0.5, 1, 2):
            at = rest(draw.uniform(0.6, 0.6 + update), at)
            at = load("burst", share * update, at)
    rest(2, at)
    device = torch.cuda.current_device()
    with open(events_file, "w") as out:
        for k, (part, start, end) in enumerate(events):
            out.write(json.dumps({"record": "event", "event_id": f"response_{part}_{k}", "phase": "response", "part": part,
                                  "t_start_ns": start, "t_end_ns": end, "gpus": [device]}) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "matmul":
        matmul(float(sys.argv[2]))
    elif len(sys.argv) == 3 and sys.argv[1] == "gpt2":
        gpt2(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] == "llama":
        llama(sys.argv[2], int(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "response":
        response(sys.argv[2])
    else:
        sys.exit(__doc__)
