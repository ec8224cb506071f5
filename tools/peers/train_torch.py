#!/usr/bin/env python3
"""The training peer: transformers' DeepseekV3ForCausalLM on the shape of recipes/bench_45m.toml,
timed.

    python tools/peers/train_torch.py --steps 10 --threads 2
    python tools/peers/train_torch.py --steps 10 --experts eager --dtype bf16
    python tools/peers/train_torch.py --config config.json --batch 4 --sequence 256

One step is what a recipe's step is: forward, mean next-token cross-entropy, backward, clip to norm
1, fused AdamW (beta 0.9 / 0.95, weight decay 0.1). The default shape has every layer a MoE layer
(first_k_dense_replace 0): 45.4M parameters, 10.2M multiplied per token, the head counted. Prints
one JSON object: tokens_per_s is the median over the steps after the first --warmup ones;
peak_rss_bytes is the whole process. Time a peer in the same minutes as hadal, one after the other,
never at once. Needs the packages of tools/requirements-golden.txt.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

SHAPE = dict(
    model_type="deepseek_v3",
    vocab_size=8192,
    hidden_size=256,
    intermediate_size=768,  # no layer is dense
    moe_intermediate_size=192,
    num_hidden_layers=8,
    num_attention_heads=4,
    num_key_value_heads=4,
    n_routed_experts=32,
    n_shared_experts=1,
    num_experts_per_tok=4,
    n_group=1,
    topk_group=1,
    routed_scaling_factor=2.5,
    norm_topk_prob=True,
    kv_lora_rank=128,
    q_lora_rank=None,
    qk_nope_head_dim=64,
    qk_rope_head_dim=32,
    v_head_dim=64,
    first_k_dense_replace=0,
    max_position_embeddings=4096,
    num_nextn_predict_layers=0,
    tie_word_embeddings=False,
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="a config.json instead of the default shape")
    parser.add_argument("--steps", type=int, default=8, help="timed and untimed together")
    parser.add_argument("--warmup", type=int, default=1, help="steps left out of the median")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--experts", default="grouped_mm", choices=["grouped_mm", "batched_mm", "eager"]
    )
    parser.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    parser.add_argument(
        "--dtype", default="fp32", choices=["fp32", "bf16"], help="bf16: autocast over FP32 weights"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.steps <= args.warmup:
        parser.error(f"--steps {args.steps} leaves nothing to time after --warmup {args.warmup}")
    return args


def build(args):
    """The model in training mode, FP32 weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(args.seed)
    if args.config:
        config = AutoConfig.from_pretrained(args.config)
    else:
        config = AutoConfig.for_model(**SHAPE)
    config.use_cache = False
    model = AutoModelForCausalLM.from_config(
        config,
        dtype=torch.float32,
        attn_implementation=args.attention,
        experts_implementation=args.experts,
    )
    return model.train()


def parameter_counts(model):
    """(all, multiplied per token): routed experts count top_k / n of themselves, the embedding not
    at all.
    """
    config = model.config
    total = active = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if ".experts." in name:
            active += parameter.numel() * config.num_experts_per_tok // config.n_routed_experts
        elif "embed_tokens" not in name and parameter.dim() == 2:
            active += parameter.numel()
    return total, active


def run(args, model):
    """(seconds of each step, loss of each step)"""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    generator = torch.Generator().manual_seed(args.seed)
    seconds, losses = [], []
    for _ in range(args.steps):
        ids = torch.randint(
            0, model.config.vocab_size, (args.batch, args.sequence), generator=generator
        )
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        seconds.append(time.perf_counter() - start)
    return seconds, losses


def main():
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch starts its pool
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    model = build(args)
    total, active = parameter_counts(model)
    seconds, losses = run(args, model)
    tokens = args.batch * args.sequence
    rates = [tokens / s for s in seconds[args.warmup :]]
    print(
        json.dumps(
            {
                "tokens_per_s": round(statistics.median(rates), 1),
                "tokens_per_s_best": round(max(rates), 1),
                "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "parameters": total,
                "active_parameters": active,
                "tokens_per_step": tokens,
                "steps": args.steps,
                "seconds": [round(s, 3) for s in seconds],
                "losses": [round(v, 4) for v in losses],
                "threads": args.threads,
                "dtype": args.dtype,
                "experts": args.experts,
                "attention": args.attention,
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                },
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
