#!/usr/bin/env python3
"""Loads a folder written by hadal in Hugging Face transformers and compares numbers.

    python tools/check_transformers.py MODEL --ids 1,2,3 --out theirs.safetensors
    hadal logits MODEL --ids 1,2,3 --out ours.safetensors
    python tools/check_transformers.py MODEL --ids 1,2,3 --against ours.safetensors
    hadal grad MODEL --ids 1,2,3 --out grads.safetensors
    python tools/check_transformers.py MODEL --ids 1,2,3 --against grads.safetensors

MODEL is loaded with AutoModelForCausalLM (float32, eager), its MTP layers with transformers' own
MtpModel, its tokenizer, if it has one, with AutoTokenizer. --against compares whatever the file
holds: logits, mtp_logits, loss, grad.NAME. Prints JSON; exit 0 if all agree, 1 if not, 2 if the
folder does not load as it should (missing or unexpected tensors). Needs the packages of
tools/requirements-golden.txt.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden.reference import compute_with, load, load_mtp, read_tensors

LOGITS_TOLERANCE = 1e-4  # of the largest |logit|
GRADIENT_TOLERANCE = 1e-3  # relative, L2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ids", help="comma separated; default: `ids` of --against, or 0,1,2,3")
    what.add_argument("--text", help="through AutoTokenizer, without special tokens")
    parser.add_argument(
        "--out", type=Path, help="write transformers' logits, loss and gradients here"
    )
    parser.add_argument(
        "--against", type=Path, help="safetensors of `hadal logits` or `hadal grad`"
    )
    parser.add_argument("--logits-tolerance", type=float, default=LOGITS_TOLERANCE)
    parser.add_argument("--gradient-tolerance", type=float, default=GRADIENT_TOLERANCE)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def loading_problems(folder):
    """Tensors transformers misses, or does not know and that are not MTP layers."""
    if any(name.endswith("_scale_inv") for name in read_tensors(folder)):
        return []  # FP8: multiplied out before loading, see golden/reference.py
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    layers = getattr(model.config, "num_hidden_layers")
    problems = [f"missing: {n}" for n in info["missing_keys"]]
    for name in info["unexpected_keys"]:
        part = name.split(".")
        if not (name.startswith("model.layers.") and int(part[2]) >= layers):
            problems.append(f"unexpected: {name}")
    problems += [f"mismatched: {n}" for n in info["mismatched_keys"]]
    return sorted(problems)


def prompt(args, given):
    if args.ids:
        return torch.tensor([int(i) for i in args.ids.split(",")])
    if args.text:
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        return torch.tensor(tokenizer(args.text, add_special_tokens=False)["input_ids"])
    return given.get("ids", torch.tensor([0, 1, 2, 3]))


def check_tokenizer(folder):
    """Loads it and goes there and back; None without a tokenizer."""
    if not (folder / "tokenizer.json").exists():
        return None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "The cat, 12345 times: naïve café — 你好\n\tend"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "round_trip": tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text,
    }


def difference(name, ours, theirs):
    """Relative: of the largest logit, or of the gradient's L2 norm."""
    ours, theirs = ours.double(), theirs.double()
    if ours.shape != theirs.shape:
        return float("inf")
    if "logits" in name:
        return float((ours - theirs).abs().max() / theirs.abs().max())
    error, norm = float((ours - theirs).norm()), float(theirs.norm())
    return error / norm if norm > 0 else error


def compare(args, given, computed):
    """{name: difference} of what both have, and what the file has that transformers has not or the
    other way round.
    """
    found, wrong = {}, []
    for name in sorted(given):
        if name == "ids":
            continue
        if name not in computed:
            wrong.append(f"{name}: transformers has no such tensor")
            continue
        found[name] = difference(name, given[name], computed[name])
        limit = args.logits_tolerance if "logits" in name else args.gradient_tolerance
        if not found[name] <= limit:
            wrong.append(f"{name}: {found[name]:.2e} exceeds {limit:.0e}")
    if "logits" in given and "mtp_logits" in computed and "mtp_logits" not in given:
        wrong.append(f"mtp_logits: not in {args.against}")
    if any(n.startswith("grad.") for n in given):
        wrong += [
            f"{n}: not in {args.against}"
            for n in computed
            if n.startswith("grad.") and n not in given
        ]
    return found, wrong


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    given = load_file(args.against) if args.against else {}
    problems = loading_problems(args.model)
    model = load(args.model, torch.float32)
    mtp = load_mtp(args.model, model)
    ids = prompt(args, given)
    computed = compute_with(model, mtp, ids)
    if args.out:
        save_file({n: t.contiguous() for n, t in computed.items()}, args.out)
    found, wrong = compare(args, given, computed)
    groups = {}
    for name, value in found.items():
        group = name.split(".")[0]
        groups[group] = max(groups.get(group, 0.0), value)
    tokenizer = check_tokenizer(args.model)
    print(
        json.dumps(
            {
                "architecture": type(model).__name__,
                "mtp_modules": len(mtp.layers) if mtp else 0,
                "tokens": len(ids),
                "tokenizer": tokenizer,
                "loading_problems": problems,
                "worst": groups,
                "wrong": wrong,
                "compared": len(found),
                "transformers": transformers.__version__,
            },
            indent=2,
        )
    )
    if problems or (tokenizer and not tokenizer["round_trip"]):
        return 2
    return 1 if wrong or (args.against and not found) else 0


if __name__ == "__main__":
    sys.exit(main())
