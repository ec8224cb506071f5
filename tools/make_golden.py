#!/usr/bin/env python3
"""Writes tests/golden: tiny checkpoints with what Hugging Face transformers computes from them.

    python -m venv VENV && VENV/bin/pip install -r tools/requirements-golden.txt
    VENV/bin/python tools/make_golden.py            # all cases, half a minute
    VENV/bin/python tools/make_golden.py --case v3_mtp --case v2_lite

Each case is a folder with a checkpoint (config.json, safetensors) and golden.safetensors, whose
tensors tests/golden/README.md describes. The numbers are computed in double precision from the
files as written, by transformers' own code loading them, and rounded once; a float32 run must
agree. manifest.json lists versions, hashes, features, and for each case how far the mistakes of
golden/teeth.py move the logits, in tolerances of 1e-4 of the largest logit.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

sys.path.insert(0, str(Path(__file__).resolve().parent))
from golden import checks, weights
from golden.cases import CASES, features
from golden.reference import compute, load, load_mtp, read_tensors

ROOT = Path(__file__).resolve().parent.parent


def check_versions():
    """The files are reproducible only with the packages they were made with."""
    wanted = {}
    for line in (Path(__file__).parent / "requirements-golden.txt").read_text().split():
        name, version = line.split("==")
        have = importlib.metadata.version(name).split("+")[0]
        if have != version:
            sys.exit(
                f"{name} {have} is installed, {version} is pinned in tools/requirements-golden.txt"
            )
        wanted[name] = version
    return wanted


# --- writing a checkpoint


def empty_model(case):
    config = AutoConfig.for_model(case.kind, **case.config)
    return AutoModelForCausalLM.from_config(config)


def checkpoint_shapes(model):
    """{name: shape} of the files save_pretrained writes: experts apart, tied tensors once."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    return {name: tuple(t.shape) for name, t in revert_weight_conversion(model, state).items()}


def mtp_shapes(case, model, shapes):
    if not getattr(model.config, "num_nextn_predict_layers", 0) or not case.mtp_tensors:
        return {}
    last = f"model.layers.{model.config.num_hidden_layers - 1}."
    block = {n.removeprefix(last): s for n, s in shapes.items() if n.startswith(last)}
    return weights.mtp_shapes(model.config, block, case.mtp_duplicates)


def released_config(case, config):
    """The same model in the spelling of the released config.json files."""
    out = {"architectures": config["architectures"], "model_type": config["model_type"]}
    out.update({k: v for k, v in case.config.items() if k != "rope_parameters"})
    rope = dict(case.config["rope_parameters"])
    out["rope_theta"] = rope.pop("rope_theta")
    scaled = rope["rope_type"] != "default"
    out["rope_scaling"] = {"type": rope.pop("rope_type"), **rope} if scaled else None
    v3 = case.kind == "deepseek_v3"
    out.setdefault("topk_method", "noaux_tc" if v3 else "greedy")
    out.update(
        attention_bias=False,
        attention_dropout=0.0,
        aux_loss_alpha=0.001,
        bos_token_id=0,
        eos_token_id=1,
        ep_size=1,
        hidden_act="silu",
        initializer_range=0.02,
        moe_layer_freq=1,
        pretraining_tp=1,
        scoring_func="sigmoid" if v3 else "softmax",
        seq_aux=True,
        tie_word_embeddings=False,
        torch_dtype=case.dtype,
        transformers_version="4.33.1",
        use_cache=True,
    )
    return dict(sorted(out.items()))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_checkpoint(case, folder, attempt):
    """Draws the weights and writes them with save_pretrained; what transformers cannot write is
    added by hand.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = empty_model(case)
    shapes = checkpoint_shapes(model)
    extra = mtp_shapes(case, model, shapes)
    drawn = weights.draw_all(case, {**shapes, **extra}, attempt)
    for name in extra:  # copies of the shared tensors are copies
        if name.endswith("embed_tokens.weight"):
            drawn[name] = drawn["model.embed_tokens.weight"].clone()
        elif name.endswith("shared_head.head.weight"):
            drawn[name] = drawn["lm_head.weight"].clone()
    trunk = {name: drawn[name] for name in shapes}
    model = type(model).from_pretrained(
        None, config=model.config, state_dict=trunk, dtype=getattr(torch, case.dtype)
    )
    model.save_pretrained(folder, max_shard_size=case.max_shard_size)
    if extra or case.fp8:
        rewrite_tensors(case, folder, {name: drawn[name] for name in extra})
    if case.fp8 or case.released_spelling:
        rewrite_config(case, folder)
    verify_files(case, folder, drawn)


def rewrite_tensors(case, folder, extra):
    tensors = {**load_file(folder / "model.safetensors"), **extra}
    if case.fp8:
        for name in [n for n in tensors if weights.is_fp8(n)]:
            codes, scale = weights.quantise_fp8(tensors[name])
            tensors[name] = codes
            tensors[name + "_scale_inv"] = scale
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_config(case, folder):
    config = json.loads((folder / "config.json").read_text())
    if case.released_spelling:
        config = released_config(case, config)
    if case.fp8:
        config["quantization_config"] = {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [weights.FP8_BLOCK, weights.FP8_BLOCK],
        }
    write_json(folder / "config.json", config)


def verify_files(case, folder, drawn):
    """save_pretrained must have written the drawn values under the drawn names."""
    stored = read_tensors(folder)
    plain = {n: t for n, t in stored.items() if not n.endswith("_scale_inv")}
    assert plain.keys() == drawn.keys(), plain.keys() ^ drawn.keys()
    for name, tensor in plain.items():
        if tensor.dtype != torch.float8_e4m3fn:
            assert torch.equal(tensor.double(), drawn[name].double()), name


# --- one case


def make_ids(case, attempt):
    rng = np.random.default_rng([zlib.crc32(case.name.encode()), 1, attempt])
    return torch.from_numpy(rng.integers(0, case.config["vocab_size"], case.tokens))


def make_case(case, folder):
    """Draws until no routing decision is near a tie, then computes, checks and writes. Returns the
    manifest's row.
    """
    for attempt in range(64):
        write_checkpoint(case, folder, attempt)
        ids = make_ids(case, attempt)
        model = load(folder, torch.float64)
        margin = checks.router_margin(model, ids, load_mtp(folder, model))
        if margin > checks.TIE:
            break
    else:
        sys.exit(f"{case.name}: every attempt has a routing decision within {checks.TIE} of a tie")
    double = compute(folder, ids, torch.float64)
    difference = checks.check_precision(case, compute(folder, ids, torch.float32), double)
    checks.check_names(folder, double)
    if "mtp_logits" in double:
        checks.check_mtp(folder, ids, double)
    golden = {n: (t if n == "ids" else t.float()).contiguous() for n, t in double.items()}
    save_file(golden, folder / "golden.safetensors")
    found = checks.measure_teeth(case, folder, ids, double)
    files = sorted(folder.iterdir())
    for file in files:
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in files)
    print(
        f"{case.name:28} {size / 1024:6.0f} KB  attempt {attempt}  f32-f64 {difference:.1e}  "
        f"max|logit| {double['logits'].abs().max():6.2f}  loss {float(double['loss']):.3f}  "
        f"margin {margin:.1e}"
    )
    for name, value in found.items():
        print(f"    {name:28} {value:10.1f}{'' if value >= checks.TEETH else '   (below)'}")
    return {
        "why": case.why,
        "features": features(case),
        "architecture": json.loads((folder / "config.json").read_text())["architectures"][0],
        "tokens": case.tokens,
        "stored": "float8_e4m3fn" if case.fp8 else case.dtype,
        "attempt": attempt,
        "router_margin": None if margin == float("inf") else float(f"{margin:.3e}"),
        "float32_against_float64": float(f"{difference:.1e}"),
        "teeth": found,
        "sha256": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden")
    parser.add_argument(
        "--case", action="append", help="only these (their rows of the manifest are replaced)"
    )
    args = parser.parse_args()
    versions = check_versions()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.utils.logging.disable_progress_bar()

    names = {case.name for case in CASES}
    unknown = set(args.case or []) - names
    if unknown:
        sys.exit(f"no such case: {sorted(unknown)}; there are {sorted(names)}")
    manifest_path = args.out / "manifest.json"
    old = (
        json.loads(manifest_path.read_text())["cases"]
        if args.case and manifest_path.exists()
        else {}
    )
    made = {
        c.name: make_case(c, args.out / c.name)
        for c in CASES
        if not args.case or c.name in args.case
    }
    rows = {
        c.name: made.get(c.name, old.get(c.name)) for c in CASES if c.name in made or c.name in old
    }
    best, blunt = checks.check_teeth(rows)
    write_json(
        manifest_path,
        {
            "made_by": "tools/make_golden.py",
            "versions": versions,
            "tolerance": checks.TOLERANCE,
            "teeth_required": checks.TEETH,
            "teeth_best": best,
            "cases": rows,
        },
    )
    if blunt and not args.case:
        sys.exit(f"mistakes no case sees: {blunt}")


if __name__ == "__main__":
    main()
