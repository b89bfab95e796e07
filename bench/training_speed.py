#!/usr/bin/env python3
"""How fast PyTorch trains: transformers' BertForSequenceClassification with AdamW, random weights, made-up batches.

    python bench/training_speed.py [--shape mini base] [--steps N] [--threads 2] [--device cpu|cuda] [--json]

A step is what a fine-tuning loop does: forward with labels, backward, clipping to norm 1, one AdamW step. All batches have
the same size and no padding; dropout is 0.1, as in BERT. The figure is the median over the steps after some that are not
counted. With --fused, torch.optim.AdamW runs its fused kernel instead of its default. Standard output is a table, or JSON
with --json.
"""

import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

SHAPES = {
    "mini": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
STEPS = {"mini": 40, "base": 8}
SEED = 20260101


def measure(name, arguments):
    torch.manual_seed(SEED)
    config = transformers.BertConfig(vocab_size=arguments.vocabulary, num_labels=arguments.labels, **SHAPES[name])
    device = torch.device(arguments.device)
    model = transformers.BertForSequenceClassification(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=arguments.fused or None)
    shape = (arguments.batch, arguments.tokens)

    def step():
        ids = torch.randint(1, arguments.vocabulary, shape, device=device)
        labels = torch.randint(arguments.labels, shape[:1], device=device)
        mask = torch.ones(shape, dtype=torch.long, device=device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    steps = arguments.steps or STEPS[name]
    for _ in range(max(2, steps // 5)):
        step()
    seconds = [step() for _ in range(steps)]
    median = statistics.median(seconds)
    return {
        **SHAPES[name],
        "vocab_size": arguments.vocabulary,
        "batch": arguments.batch,
        "tokens": arguments.tokens,
        "steps": steps,
        "step_milliseconds": 1000 * median,
        "fastest_step_milliseconds": 1000 * min(seconds),
        "samples_per_second": arguments.batch / median,
        "attention": config._attn_implementation,
    }


def main():
    parser = argparse.ArgumentParser(description="Training speed of PyTorch and transformers.")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES), help="encoder shapes")
    parser.add_argument("--steps", type=int, help="counted steps [default: 40 for mini, 8 for base]")
    parser.add_argument("--batch", type=int, default=32, help="samples a step")
    parser.add_argument("--tokens", type=int, default=32, help="tokens a sample")
    parser.add_argument("--vocabulary", type=int, default=21128, help="rows of the embedding table")
    parser.add_argument("--labels", type=int, default=30, help="classes")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--fused", action="store_true", help="AdamW's fused kernel")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: PyTorch sees no CUDA device here; leave out --device cuda.", file=sys.stderr)
        return 1
    torch.set_num_threads(arguments.threads)
    results = {name: measure(name, arguments) for name in arguments.shape}
    if arguments.json:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = {"device": arguments.device, "threads": arguments.threads, "fused": arguments.fused}
        print(json.dumps({"peer": "pytorch", "versions": versions, **about, "shapes": results}, indent=2))
    else:
        for name, found in results.items():
            print(
                f"{name}: {found['samples_per_second']:.1f} samples a second, {found['step_milliseconds']:.1f} ms a step of "
                f"{found['batch']} x {found['tokens']} tokens (median of {found['steps']})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
