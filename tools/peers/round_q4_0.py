#!/usr/bin/env python3
"""A model as llama.cpp's Q4_0 holds it: what `hadal score` compares int4-uniform with.

    hadal quantize MODEL int4 --format int4-uniform
    python tools/peers/round_q4_0.py MODEL int4 q4_0
    hadal score q4_0 TEXT --against MODEL        # beside: hadal score int4 TEXT --against MODEL

Every matrix that the second folder stores in four bits is rounded to Q4_0 by the package gguf,
llama.cpp's own, and written as FP32; all others are MODEL's. Both formats take 4.5 bits a weight.
Prints how many matrices were rounded. Needs gguf, torch and safetensors of PyPI.
"""

import argparse
import json
import shutil
from pathlib import Path

import gguf
import torch
from safetensors import safe_open
from safetensors.torch import save_file

Q4_0 = gguf.GGMLQuantizationType.Q4_0


def stored(folder: Path) -> dict[str, torch.Tensor]:
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors |= {name: file.get_tensor(name) for name in file.keys()}
    return tensors


def rounded(matrix: torch.Tensor) -> torch.Tensor:
    blocks = gguf.quants.quantize(matrix.float().numpy(), Q4_0)
    return torch.from_numpy(gguf.quants.dequantize(blocks, Q4_0))


def four_bit_matrices(folder: Path, shapes: dict[str, torch.Size]) -> list[str]:
    """Matrices of which the folder holds records of 4.5 bits a weight, rows in whole panels."""
    names = []
    for name, tensor in stored(folder).items():
        shape = shapes.get(name)
        if shape is None or tensor.dtype != torch.uint8:
            continue
        bits = 8 * tensor.numel() / shape.numel()
        if bits < 8:
            names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder with weights in FP32 or BF16")
    parser.add_argument("quantized", type=Path, help="the same in int4-uniform")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    weights = stored(args.model)
    names = four_bit_matrices(args.quantized, {n: w.shape for n, w in weights.items()})
    if not names:
        parser.error(f"{args.quantized} holds no matrix of {args.model} in four bits")
    for name in names:
        weights[name] = rounded(weights[name])
    args.out.mkdir(parents=True)
    for path in args.model.iterdir():
        if path.suffix == ".json" and "safetensors" not in path.name:
            shutil.copy(path, args.out)
    config = json.loads((args.out / "config.json").read_text())
    config["torch_dtype"] = "float32"
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({n: w.float().contiguous() for n, w in weights.items()},
              args.out / "model.safetensors", {"format": "pt"})
    print(f"{len(names)} matrices rounded to Q4_0, {len(weights) - len(names)} as they were")


if __name__ == "__main__":
    main()
