#!/usr/bin/env python3
"""How much of what rounded weights cost is that other experts are chosen.

    python tools/peers/fixed_experts.py MODEL TEXT.jsonl

Reads MODEL (DeepSeek-V3's kind, FP32) with transformers and compares its predictions with those of
the same model with matrices rounded to FP16, BF16 and to 8 bits in groups of 32: mean KL divergence
in nats a token, once as the rounded model is, and once with each token sent to the experts that the
FP32 model chose for it. Routers stay in FP32. Needs torch and transformers of PyPI.
"""

import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 512


def int8_groups(w: torch.Tensor) -> torch.Tensor:
    groups = w.reshape(-1, 32)
    scale = (groups.abs().amax(1, keepdim=True) / 127).half().float()
    scale = torch.where(scale == 0, 1.0, scale)
    return ((groups / scale).round().clamp(-127, 127) * scale).reshape(w.shape)


ROUNDED = {
    "fp16": lambda w: w.half().float(),
    "bf16": lambda w: w.bfloat16().float(),
    "int8": lambda w: int8_groups(w) if w.shape[-1] % 32 == 0 else w,
}


def load(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def gates(model) -> list:
    return [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]


class Routing:
    """The experts of every layer for the window at hand: recorded by one model, compared with or
    forced on others."""

    def __init__(self):
        self.experts = {}
        self.differ = []

    def watch(self, model, react) -> None:
        for layer, gate in enumerate(gates(model)):
            own = gate.forward
            gate.forward = lambda x, own=own, gate=gate, layer=layer: react(layer, gate, *own(x))

    def record(self, layer, gate, logits, weights, experts):
        self.experts[layer] = experts.clone()
        return logits, weights, experts

    def compare(self, layer, gate, logits, weights, experts):
        chosen = self.experts[layer].sort(1)[0]
        self.differ.append((experts.sort(1)[0] != chosen).any(1))
        return logits, weights, experts

    def force(self, layer, gate, logits, weights, experts):
        experts = self.experts[layer]
        weights = logits.sigmoid().gather(1, experts)
        if gate.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return logits, weights * gate.routed_scaling_factor, experts


def windows(folder: str, text: str, tokens: int):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for line in open(text, encoding="utf-8"):
        ids = tokenizer(json.loads(line)["text"])["input_ids"]
        for begin in range(0, len(ids) - 1, WINDOW):
            yield torch.tensor([ids[begin : begin + WINDOW]])
            tokens -= min(WINDOW, len(ids) - begin)
        if tokens <= 0:
            return


def predictions(model, ids: torch.Tensor) -> torch.Tensor:
    return model(ids).logits[0].log_softmax(-1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("text", help=".jsonl with a key text")
    parser.add_argument("--tokens", type=int, default=40_000)
    args = parser.parse_args()
    texts = list(windows(args.model, args.text, args.tokens))
    routing = Routing()
    exact = load(args.model)
    routing.watch(exact, routing.record)
    print(f"{sum(ids.numel() for ids in texts)} tokens")
    print("         mean KL   with FP32's experts   other experts: choices   tokens")
    for name, rounded in ROUNDED.items():
        free, fixed = load(args.model), load(args.model)
        for model in (free, fixed):
            for key, weight in model.named_parameters():
                if weight.dim() >= 2 and "gate.weight" not in key:
                    weight.copy_(rounded(weight))
        routing.watch(free, routing.compare)
        routing.watch(fixed, routing.force)
        kl, kl_fixed, differ = [], [], []
        for ids in texts:
            want = predictions(exact, ids)
            routing.differ = []
            for model, to in ((free, kl), (fixed, kl_fixed)):
                to.append((want.exp() * (want - predictions(model, ids))).sum(-1))
            differ.append(torch.stack(routing.differ))
        kl, kl_fixed, differ = torch.cat(kl), torch.cat(kl_fixed), torch.cat(differ, 1).float()
        print(f"{name:5} {kl.mean():10.7f} {kl_fixed.mean():21.7f} {differ.mean():24.2%} "
              f"{differ.amax(0).mean():8.2%}", flush=True)


if __name__ == "__main__":
    main()
