"""What transformers computes from a checkpoint folder: logits, loss, gradients, and those of the
MTP modules.

Gradients and tensors go by the checkpoint's names. FP8 weights are multiplied out first, exactly.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_layers import MtpModel

from golden import weights


@contextlib.contextmanager
def double_precision():
    """Inside, what transformers casts to float32 (norms, softmax, router, rope) is computed in
    double.
    """
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


def read_tensors(folder):
    tensors = {}
    for path in sorted(folder.glob("model*.safetensors")):
        tensors.update(load_file(path))
    return tensors


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
        (copy / "config.json").write_text(json.dumps(config))
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
    """Logits of each module: row i of module k from its input h_i and token i+1+k, predicting token
    i+2+k.
    """
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
    """Gradients under the checkpoint's names, through transformers' own reversal of its fused
    tensors.
    """
    fused = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    out = dict(revert_weight_conversion(model, fused))
    for k, layer in enumerate(mtp.layers if mtp else []):
        prefix = f"model.layers.{model.config.num_hidden_layers + k}."
        block = {
            f"model.layers.{k}.{n}": p.grad
            for n, p in layer.mtp_block.named_parameters()
            if p.grad is not None
        }
        split = revert_weight_conversion(model, block)
        out.update({prefix + n.removeprefix(f"model.layers.{k}."): g for n, g in split.items()})
        for name, module in [
            ("enorm", layer.enorm),
            ("hnorm", layer.hnorm),
            ("eh_proj", layer.eh_proj),
            ("shared_head.norm", layer.post_norm),
        ]:
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
    return compute_with(model, load_mtp(folder, model), ids)


def compute_with(model, mtp, ids):
    """The same from a loaded model and its MTP modules or None."""
    with precision(model.dtype):
        out = model(
            input_ids=ids[None], labels=ids[None], output_hidden_states=True, use_cache=False
        )
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
            total = torch.stack(
                [next_token_loss(module, ids, k + 2) for k, module in enumerate(modules)]
            ).mean()
            total.backward()
            result["mtp_loss"] = total.detach()[None]
            result.update({f"mtp_grad.{n}": g for n, g in gradients(model, mtp).items()})
    return result
