#!/usr/bin/env python3
"""Is decoding with the model's own MTP module ever slower than without?

    tools/bench_speculation.py MODEL --prompts stories.jsonl --pairs 30 --json

Pairs of runs of one text each, alternately first, with drafts as the engine chooses them and with
none; the same prompt in both. Prints the ratio of the decode speeds (median, and the 95% interval
of a bootstrap over the pairs), acceptance, tokens a step, and what the bytes allow: a step that
verifies a draft reads the weights of two rows (`hadal bench --batch 1,2` counts them), the module
and the head once more. Run it on a machine that does nothing else.
"""
import argparse
import json
import pathlib
import random
import re
import statistics
import struct
import subprocess


def hadal_json(arguments, *command):
    out = subprocess.run([arguments.hadal, *command, "--json"], check=True, capture_output=True,
                         text=True)
    return json.loads(out.stdout.splitlines()[0])


def decode(arguments, prompt, speculate, seed):
    return hadal_json(arguments, "generate", str(arguments.model), "-p", prompt, "-n",
                      str(arguments.tokens), "--temperature", str(arguments.temperature),
                      "--seed", str(seed), "--speculate", speculate)


def draft_bytes(folder):
    """Of the first MTP module for one row, and the head once more."""
    config = json.loads((folder / "config.json").read_text())
    layer = f"model.layers.{config['num_hidden_layers']}."
    head = "lm_head.weight"
    if config.get("tie_word_embeddings"):
        head = "model.embed_tokens.weight"
    experts = config.get("n_routed_experts") or 1
    share = (config.get("num_experts_per_tok") or 1) / experts
    total = 0
    for shard in folder.glob("*.safetensors"):
        with open(shard, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            size = tensor["data_offsets"][1] - tensor["data_offsets"][0]
            copy = re.search(r"(embed_tokens|shared_head\.head)\.weight$", name)
            if name == head or (name.startswith(layer) and not copy):
                total += size * (share if ".mlp.experts." in name else 1)
    return total


def interval(ratios, rounds=10_000):
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios)))
                     for _ in range(rounds))
    return medians[rounds // 40], medians[-rounds // 40]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--prompts", required=True, help='.jsonl with "prompt" or "text"')
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--words", type=int, default=12, help="of a text that are its prompt")
    parser.add_argument("-n", "--tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--hadal", default="build/release/hadal")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    prompts = []
    for line in open(arguments.prompts, encoding="utf-8"):
        record = json.loads(line)
        text = record.get("prompt") or " ".join(record["text"].split()[:arguments.words])
        prompts.append(text)

    ratios, runs = [], []
    for pair in range(arguments.pairs):
        speeds = {}
        for mode in ("off", "auto") if pair % 2 == 0 else ("auto", "off"):
            run = decode(arguments, prompts[pair % len(prompts)], mode, pair)
            speeds[mode] = run["tokens_per_s"]
            if mode == "auto":
                runs.append(run)
        ratios.append(speeds["auto"] / speeds["off"])
    total = {key: sum(run[key] for run in runs) for key in ("tokens", "steps", "drafted", "accepted")}
    rows = hadal_json(arguments, "bench", str(arguments.model), "--prefill", "0", "--decode", "8",
                      "--depth", "0", "--batch", "1,2")["rows"]
    plain, double = (row["bytes_per_token"] * row["batch"] for row in rows)
    drafts = total["drafted"] / total["steps"]
    per_step = plain + drafts * (double - plain + draft_bytes(arguments.model))
    tokens_per_step = total["tokens"] / total["steps"]
    low, high = interval(ratios)
    result = {
        "pairs": arguments.pairs,
        "ratio": statistics.median(ratios), "low": low, "high": high,
        "acceptance": total["accepted"] / max(1, total["drafted"]),
        "drafts_per_step": drafts,
        "tokens_per_step": tokens_per_step,
        "bytes_per_plain_step": plain,
        "bytes_per_step": per_step,
        "ratio_the_bytes_allow": tokens_per_step * plain / per_step,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:<24} {value:,.3f}")


if __name__ == "__main__":
    main()
