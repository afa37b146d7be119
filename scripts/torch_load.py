#!/usr/bin/env python3
"""A PyTorch load for GPU checks: no network, no model weights.

    torch_load.py matmul SECONDS       bf16 matrix products for that long
    torch_load.py gpt2 EVENTS_FILE     GPT-2 of its real shape with random weights

gpt2 writes a prefill and a decode event for each request, on the clock that
nvpoll stamps with: perf_counter_ns is CLOCK_MONOTONIC on Linux.
"""
import json
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


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "matmul":
        matmul(float(sys.argv[2]))
    elif len(sys.argv) == 3 and sys.argv[1] == "gpt2":
        gpt2(sys.argv[2])
    else:
        sys.exit(__doc__)
