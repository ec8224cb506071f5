#!/usr/bin/env python3
"""Trains a recipe in two precisions with the same seeds, and compares the losses.

    tools/compare_precision.py recipes/text_small.toml --out runs/fp8 --steps 300 --seeds 1,2
    tools/compare_precision.py RECIPE --out DIR --with run.fp8_gradient_tiles=128x128

For each seed: the mean training loss over the last fifth of the steps, where the batches are the
same, and its relative error, |FP8 - BF16| / BF16 of these means (the DeepSeek-V3 report, 3.3, asks
for less than 0.25%). The same over two seeds of BF16 says how large the noise is. Runs that exist
are not run again.
"""
import argparse
import json
import pathlib
import subprocess
import sys


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    return [step["loss"] for step in steps if "loss" in step]


def train(arguments, name, seed, sets):
    folder = pathlib.Path(arguments.out) / f"{name}-seed{seed}"
    if not (folder / "model" / "config.json").exists():
        command = [arguments.hadal, "train", arguments.recipe, "--out", str(folder), "--json"]
        sets = [f"run.steps={arguments.steps}", f"run.seed={seed}", "run.eval_every=0"] + sets
        for one in sets + arguments.set:
            command += ["--set", one]
        if (folder / "metrics.jsonl").exists():
            command.append("--resume")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = losses(folder)
    tail = log[-max(1, len(log) // 5):]
    if not all(x == x for x in tail):
        sys.exit(f"{folder}: the loss is not a number")
    return sum(tail) / len(tail)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--out", required=True, help="folder for the runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--set", action="append", default=[], help="for both sides")
    parser.add_argument("--with", dest="extra", action="append", default=[], help="for FP8 alone")
    parser.add_argument("--hadal", default="build/release/hadal")
    arguments = parser.parse_args()
    name = "-".join(["fp8"] + [one.split("=")[1] for one in arguments.extra])
    base = []
    print(f"{'seed':>4} {'bf16':>9} {name:>12} {'error':>8}")
    for seed in arguments.seeds.split(","):
        bf16 = train(arguments, "bf16", seed, ["run.precision=bf16"])
        fp8 = train(arguments, name, seed, ["run.precision=fp8"] + arguments.extra)
        base.append(bf16)
        print(f"{seed:>4} {bf16:9.4f} {fp8:12.4f} {100 * (fp8 - bf16) / bf16:+7.3f}%", flush=True)
    if len(base) > 1:
        print(f"between seeds of BF16: {100 * (max(base) - min(base)) / min(base):.3f}%")


if __name__ == "__main__":
    main()
