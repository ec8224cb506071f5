#!/usr/bin/env python3
"""Writes tests/golden: tiny checkpoints with what Hugging Face transformers computes from them.

    python -m venv VENV && VENV/bin/pip install -r tools/requirements-golden.txt
    VENV/bin/python tools/make_golden.py            # all cases, a minute or two
    VENV/bin/python tools/make_golden.py --case v3_mtp --case v2_lite

Each case is a folder with a checkpoint (config.json, safetensors) and golden.safetensors:
    ids          [T]     I64  the prompt
    logits       [T, V]  F32
    loss         [1]     F32  mean cross-entropy of positions 1..T-1 given their past, no auxiliary terms
    grad.NAME            F32  d loss / d NAME for every trained tensor of the checkpoint, by its name there
    mtp_logits   [T-1,V] F32  row i: from h_i and the embedding of token i+1; predicts token i+2
    mtp_logits.1 [T-2,V] F32  the second chained module, one token further on
    mtp_loss     [1]     F32  mean over modules of the mean cross-entropy of the rows whose target is in the prompt
    mtp_grad.NAME        F32  d mtp_loss / d NAME, trunk included
The numbers are computed in double precision from the files as written, by transformers' own code loading them, and
rounded once; a float32 run must agree. manifest.json lists versions, hashes, features, and for each case how far the
mistakes in golden/teeth.py move the logits, in tolerances of 1e-4 of the largest logit.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import MtpCache
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_layers import MtpModel

sys.path.insert(0, str(Path(__file__).parent))
from golden import teeth as mistakes  # noqa: E402
from golden import weights  # noqa: E402
from golden.cases import CASES, features  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4  # of the largest |logit|
TEETH = 100.0  # a mistake must move a logit by so many tolerances, in some case
TIE = 1e-3  # router decisions nearer to a tie than this are drawn again


def check_versions():
    """The files are reproducible only with the packages they were made with."""
    wanted = {}
    for line in (Path(__file__).parent / "requirements-golden.txt").read_text().split():
        name, version = line.split("==")
        have = importlib.metadata.version(name).split("+")[0]
        if have != version:
            sys.exit(f"{name} {have} is installed, {version} is pinned in tools/requirements-golden.txt")
        wanted[name] = version
    return wanted


@contextlib.contextmanager
def double_precision():
    """Inside, what transformers casts to float32 (norms, softmax, router, rope) is computed in double."""
    kept = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept
        torch.set_default_dtype(torch.float32)


def precision(dtype):
    return double_precision() if dtype == torch.float64 else contextlib.nullcontext()


# --- writing a checkpoint ---------------------------------------------------------------------------------------------


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
        attention_bias=False, attention_dropout=0.0, aux_loss_alpha=0.001, bos_token_id=0, eos_token_id=1, ep_size=1,
        hidden_act="silu", initializer_range=0.02, moe_layer_freq=1, pretraining_tp=1,
        scoring_func="sigmoid" if v3 else "softmax", seq_aux=True, tie_word_embeddings=False,
        torch_dtype=case.dtype, transformers_version="4.33.1", use_cache=True,
    )
    return dict(sorted(out.items()))


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_checkpoint(case, folder, attempt):
    """Draws the weights and writes them with save_pretrained; what transformers cannot write is added by hand."""
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
            "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [weights.FP8_BLOCK, weights.FP8_BLOCK],
        }
    write_json(folder / "config.json", config)


def read_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def verify_files(case, folder, drawn):
    """save_pretrained must have written the drawn values under the drawn names."""
    stored = read_tensors(folder)
    plain = {n: t for n, t in stored.items() if not n.endswith("_scale_inv")}
    assert plain.keys() == drawn.keys(), plain.keys() ^ drawn.keys()
    for name, tensor in plain.items():
        if tensor.dtype != torch.float8_e4m3fn:
            assert torch.equal(tensor.double(), drawn[name].double()), name


# --- loading and computing ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def loadable(folder, dequantise):
    """The folder itself, or for FP8 a copy of it with the weights multiplied out exactly (F64)."""
    stored = read_tensors(folder)
    scaled = [n for n in stored if n.endswith("_scale_inv")]
    if not scaled:
        yield folder
        return
    for name in scaled:
        weight = name.removesuffix("_scale_inv")
        stored[weight] = dequantise(stored[weight], stored.pop(name)).contiguous()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"]
        write_json(copy / "config.json", config)
        yield copy


def load(folder, dtype, dequantise=weights.dequantise_fp8):
    """The model as transformers loads it, with rope frequencies in the working precision."""
    with loadable(folder, dequantise) as path:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager", experts_implementation="eager"
        )
    with precision(dtype):
        rotary = model.model.rotary_emb
        inv_freq = type(rotary)(model.config).inv_freq
        assert torch.allclose(inv_freq.double(), rotary.inv_freq.double(), rtol=1e-5)
        rotary.inv_freq = inv_freq
    return model.eval()


def load_mtp(folder, model):
    """transformers' MtpModel over the checkpoint's extra layers, None without them."""
    first = model.config.num_hidden_layers
    if not any(f"model.layers.{first}." in name for name in read_tensors(folder)):
        return None
    # transformers knows the layer number of the released model only (61); these models are shorter.
    model._keys_to_ignore_on_load_unexpected = [rf"^model\.layers\.{first + k}\." for k in range(8)]
    model.config.name_or_path = str(folder)
    return MtpModel.from_pretrained(model).eval()


def mtp_logits(mtp, ids, hidden):
    """Logits of each module: row i of module k from its input h_i and token i+1+k, predicting token i+2+k."""
    out = []
    tokens = len(ids)
    for k in range(len(mtp.layers)):
        rows = tokens - 1 - k
        inputs = ids[None, k + 1 :]
        positions = torch.arange(k + 1, tokens)[None]
        hidden = mtp.forward_layer(k, hidden[:, :rows], positions, None, input_ids=inputs)
        out.append(mtp._project_to_logits(hidden)[0])
    return out


def next_token_loss(logits, ids, ahead):
    """Mean cross-entropy of the rows of logits [n, V] whose target ids[row + ahead] exists."""
    rows = len(ids) - ahead
    return torch.nn.functional.cross_entropy(logits[:rows], ids[ahead:])


def gradients(model, mtp):
    """Gradients under the checkpoint's names, through transformers' own reversal of its fused tensors."""
    fused = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    out = dict(revert_weight_conversion(model, fused))
    for k, layer in enumerate(mtp.layers if mtp else []):
        prefix = f"model.layers.{model.config.num_hidden_layers + k}."
        block = {f"model.layers.{k}.{n}": p.grad for n, p in layer.mtp_block.named_parameters() if p.grad is not None}
        split = revert_weight_conversion(model, block)
        out.update({prefix + n.removeprefix(f"model.layers.{k}."): g for n, g in split.items()})
        for name, module in [("enorm", layer.enorm), ("hnorm", layer.hnorm), ("eh_proj", layer.eh_proj),
                             ("shared_head.norm", layer.post_norm)]:
            if module.weight.grad is not None:
                out[f"{prefix}{name}.weight"] = module.weight.grad
    return {n: g.clone() for n, g in out.items()}


def clear_gradients(*modules):
    for module in modules:
        if module is not None:
            module.zero_grad(set_to_none=True)


def compute(folder, ids, dtype):
    """Everything golden.safetensors holds, in dtype."""
    model = load(folder, dtype)
    mtp = load_mtp(folder, model)
    with precision(dtype):
        out = model(input_ids=ids[None], labels=ids[None], output_hidden_states=True, use_cache=False)
        logits = out.logits[0]
        loss = next_token_loss(logits, ids, 1)
        assert torch.allclose(loss, out.loss, rtol=1e-5), "transformers' own loss is another one"
        result = {"ids": ids, "logits": logits.detach(), "loss": loss.detach()[None]}
        loss.backward(retain_graph=mtp is not None)
        result.update({f"grad.{n}": g for n, g in gradients(model, mtp).items()})
        if mtp is not None:
            clear_gradients(model, mtp)
            modules = mtp_logits(mtp, ids, out.hidden_states[-1])
            for k, module in enumerate(modules):
                result["mtp_logits" + (f".{k}" if k else "")] = module.detach()
            total = torch.stack([next_token_loss(module, ids, k + 2) for k, module in enumerate(modules)]).mean()
            total.backward()
            result["mtp_loss"] = total.detach()[None]
            result.update({f"mtp_grad.{n}": g for n, g in gradients(model, mtp).items()})
    return result


# --- checks ---------------------------------------------------------------------------------------------------------


def check_precision(case, single, double):
    """float32 and float64 agree: the golden is not an accident of rounding."""
    worst = 0.0
    for name, reference in double.items():
        if name == "ids":
            continue
        scale = reference.abs().max() if "logits" in name else reference.norm()
        error = (single[name].double() - reference).abs().max() if "logits" in name else (
            single[name].double() - reference).norm()
        relative = float(error / scale) if scale > 0 else float(error)
        limit = 1e-5 if "logits" in name else 5e-5
        assert relative < limit, f"{case.name}: {name} differs by {relative:.1e} between float32 and float64"
        worst = max(worst, relative)
    return worst


def check_names(folder, golden):
    """Every trained tensor of the files has a gradient of its shape, and nothing else does."""
    stored = {n: t for n, t in read_tensors(folder).items()}
    config = json.loads((folder / "config.json").read_text())
    trunk = set()
    for name, tensor in stored.items():
        module = name.startswith("model.layers.") and int(name.split(".")[2]) >= config["num_hidden_layers"]
        if module or name.endswith(("e_score_correction_bias", "_scale_inv")):
            continue
        trunk.add("grad." + name)
        assert golden["grad." + name].shape == tensor.shape, name
    assert trunk == {n for n in golden if n.startswith("grad.")}


def check_mtp(folder, ids, golden):
    """The path transformers serves with (its own cache and loop) drafts from the same logits."""
    model = load(folder, torch.float64)
    mtp = load_mtp(folder, model)
    with torch.no_grad(), double_precision():
        hidden = model(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states[-1]
        cache = MtpCache(config=model.config.get_mtp_config())
        positions = torch.arange(1, len(ids))[None]
        _, drafted, _ = mtp(ids[None, 1:], hidden[:, :-1], None, positions, cache)
    assert moved(drafted[0, 0], golden["mtp_logits"][-1]) < 1e-3


def router_margin(model, ids, mtp=None):
    """For a float64 model: the smallest distance of any routing decision from a tie, over tokens, layers and groups."""
    margins = [float("inf")]

    def watch(gate, inputs, output):
        x = inputs[0].reshape(-1, gate.hidden_dim)
        logits = torch.nn.functional.linear(x, gate.weight)
        if hasattr(gate, "e_score_correction_bias"):
            choice = logits.sigmoid() + gate.e_score_correction_bias
            grouped = choice.view(len(choice), gate.num_group, -1)
            best = grouped.topk(2, dim=-1).values.sum(-1)
            limited = gate.num_group > 1
        else:
            choice = logits.softmax(-1)
            limited = gate.topk_method == "group_limited_greedy"
            grouped = choice.view(len(choice), gate.num_group if limited else 1, -1)
            best = grouped.max(-1).values
        if limited:
            order = best.sort(dim=-1, descending=True)
            k = gate.topk_group
            margins.append(float((order.values[:, k - 1] - order.values[:, k]).min()))
            mask = torch.zeros_like(best).scatter_(1, order.indices[:, :k], 1).bool()
            choice = grouped.masked_fill(~mask.unsqueeze(-1), -1e9).reshape(choice.shape)
        order = choice.sort(dim=-1, descending=True).values
        if gate.top_k < order.shape[-1]:
            margins.append(float((order[:, gate.top_k - 1] - order[:, gate.top_k]).min()))

    modules = [m for root in (model, mtp) if root is not None for m in root.modules()]
    hooks = [m.register_forward_hook(watch) for m in modules if type(m).__name__.endswith("TopkRouter")]
    with torch.no_grad(), double_precision():
        out = model(input_ids=ids[None], output_hidden_states=True, use_cache=False)
        if mtp is not None:
            mtp_logits(mtp, ids, out.hidden_states[-1])
    for hook in hooks:
        hook.remove()
    return min(margins)


def forward(model, ids):
    with torch.no_grad(), double_precision():
        return model(input_ids=ids[None], use_cache=False).logits[0]


def moved(changed, reference):
    """The largest change in tolerances."""
    return float((changed - reference).abs().max() / (TOLERANCE * reference.abs().max()))


def measure_teeth(case, folder, ids, golden):
    """{mistake: tolerances it moves the logits by}."""
    out = {}
    model = load(folder, torch.float64)
    mistakes.set_router()(model)
    assert moved(forward(model, ids), golden["logits"]) < 1e-6, "the router of teeth.py is not transformers'"
    for name, mutate in list(mistakes.teeth(load(folder, torch.float64))):
        model = load(folder, torch.float64)
        with double_precision():
            undo = mutate(model)
        out[name] = round(moved(forward(model, ids), golden["logits"]), 1)
        if undo:
            undo()
    if case.fp8:
        for mistake in (weights.dequantise_even, weights.dequantise_transposed):
            changed = forward(load(folder, torch.float64, mistake), ids)
            out["fp8_" + mistake.__name__] = round(moved(changed, golden["logits"]), 1)
    if "mtp_logits" in golden:
        out.update(measure_mtp_teeth(folder, ids, golden))
    return out


def measure_mtp_teeth(folder, ids, golden):
    """Mistakes around the modules, in tolerances of the module's own logits."""
    out = {}
    model = load(folder, torch.float64)
    mtp = load_mtp(folder, model)
    before_norm = []
    hook = model.model.norm.register_forward_hook(lambda m, args, y: before_norm.append(args[0]))
    with torch.no_grad(), double_precision():
        hidden = model(input_ids=ids[None], output_hidden_states=True, use_cache=False).hidden_states[-1]
        hook.remove()
        last = len(mtp.layers) - 1
        reference = golden["mtp_logits" + (f".{last}" if last else "")]
        out["mtp_h_before_final_norm"] = moved(mtp_logits(mtp, ids, before_norm[0])[-1], reference)
        mtp.config.mtp_hidden_states_first = True
        out["mtp_h_first"] = moved(mtp_logits(mtp, ids, hidden)[-1], reference)
        mtp.config.mtp_hidden_states_first = False
        if last:
            normed = mtp.layers[0].post_norm
            mtp.layers[0].post_norm = torch.nn.Identity()
            out["mtp_chain_unnormed"] = moved(mtp_logits(mtp, ids, hidden)[-1], reference)
            mtp.layers[0].post_norm = normed
    return {name: round(value, 1) for name, value in out.items()}


# --- one case ---------------------------------------------------------------------------------------------------------


def make_ids(case, attempt):
    rng = np.random.default_rng([zlib.crc32(case.name.encode()), 1, attempt])
    return torch.from_numpy(rng.integers(0, case.config["vocab_size"], case.tokens))


def make_case(case, folder):
    """Draws until no routing decision is near a tie, then computes, checks and writes. Returns the manifest's row."""
    for attempt in range(64):
        write_checkpoint(case, folder, attempt)
        ids = make_ids(case, attempt)
        model = load(folder, torch.float64)
        margin = router_margin(model, ids, load_mtp(folder, model))
        if margin > TIE:
            break
    else:
        sys.exit(f"{case.name}: every attempt has a routing decision within {TIE} of a tie")
    double = compute(folder, ids, torch.float64)
    difference = check_precision(case, compute(folder, ids, torch.float32), double)
    check_names(folder, double)
    if "mtp_logits" in double:
        check_mtp(folder, ids, double)
    golden = {n: (t if n == "ids" else t.float()).contiguous() for n, t in double.items()}
    save_file(golden, folder / "golden.safetensors")
    found = measure_teeth(case, folder, ids, double)
    files = sorted(folder.iterdir())
    for file in files:
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in files)
    print(f"{case.name:28} {size / 1024:6.0f} KB  attempt {attempt}  f32-f64 {difference:.1e}  "
          f"max|logit| {double['logits'].abs().max():6.2f}  loss {float(double['loss']):.3f}  margin {margin:.1e}")
    for name, value in found.items():
        print(f"    {name:28} {value:10.1f}{'' if value >= TEETH else '   (below)'}")
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


def check_teeth(rows):
    """Every mistake is seen by some case."""
    best = {}
    for row in rows.values():
        for name, value in row["teeth"].items():
            best[name] = max(best.get(name, 0.0), value)
    blunt = {name: value for name, value in best.items() if value < TEETH}
    return best, blunt


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "golden")
    parser.add_argument("--case", action="append", help="only these (their rows of the manifest are replaced)")
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
    old = json.loads(manifest_path.read_text())["cases"] if args.case and manifest_path.exists() else {}
    made = {c.name: make_case(c, args.out / c.name) for c in CASES if not args.case or c.name in args.case}
    rows = {c.name: made.get(c.name, old.get(c.name)) for c in CASES if c.name in made or c.name in old}
    best, blunt = check_teeth(rows)
    write_json(manifest_path, {
        "made_by": "tools/make_golden.py", "versions": versions, "tolerance": TOLERANCE,
        "teeth_required": TEETH, "teeth_best": best, "cases": rows,
    })
    if blunt and not args.case:
        sys.exit(f"mistakes no case sees: {blunt}")


if __name__ == "__main__":
    main()
