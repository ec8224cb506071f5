"""Random weights for the golden cases: seeded, exactly representable in the type they are stored
in.
"""

import zlib

import numpy as np
import torch

FP8_BLOCK = 128
FP8_MAX = 448.0


def _std(name, shape, case):
    fan_in = shape[-1]
    if "embed_tokens" in name:
        return 0.35
    if name.endswith(".bias"):
        return 0.3
    if name.endswith("mlp.gate.weight"):
        return 1.4 / fan_in**0.5
    sharp = any(part in name for part in ("q_proj", "q_b_proj", "kv_b_proj", "k_proj"))
    return (case.sharp if sharp else 1.2) / fan_in**0.5


def draw(case, name, shape, attempt):
    """One tensor's values in float64, a function of the case's name, the tensor's name and the
    attempt alone.
    """
    rng = np.random.default_rng(
        [zlib.crc32(case.name.encode()), zlib.crc32(name.encode()), attempt]
    )
    if name.endswith("e_score_correction_bias"):
        return torch.from_numpy(rng.normal(case.bias_mean, case.bias_std, shape))
    if "norm" in name:
        return torch.from_numpy(rng.uniform(0.7, 1.3, shape))
    values = rng.normal(0.0, _std(name, shape, case), shape)
    if "kv_a_proj_with_mqa" in name:
        # Small latents: the norm's eps shows. The rope part stays large: RoPE shows.
        values[: case.config["kv_lora_rank"]] *= 0.25
    if "q_a_proj" in name:
        values *= 0.25
    return torch.from_numpy(values)


def draw_all(case, shapes, attempt):
    """{checkpoint name: tensor in its stored type}."""
    dtype = getattr(torch, case.dtype)
    tensors = {}
    for name, shape in shapes.items():
        stored = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        tensors[name] = draw(case, name, tuple(shape), attempt).to(stored)
    return tensors


def is_fp8(name):
    """What the released FP8 checkpoints quantise: the matrices of attention and experts, nothing
    else.
    """
    return (
        name.endswith("_proj.weight") and "eh_proj" not in name or name.endswith("_with_mqa.weight")
    )


def quantise_fp8(weight):
    """(codes, weight_scale_inv) of 128x128 blocks.

    Neighbouring blocks are drawn with different sizes, so that a scale read from the wrong block
    shows.
    """
    rows, cols = weight.shape
    grid = (-(-rows // FP8_BLOCK), -(-cols // FP8_BLOCK))
    block_of_row = torch.arange(rows) // FP8_BLOCK
    block_of_col = torch.arange(cols) // FP8_BLOCK
    index = block_of_row[:, None] * grid[1] + block_of_col[None, :]
    sized = weight.double() * (1.0 + 0.75 * index)
    amax = torch.zeros(grid[0] * grid[1], dtype=torch.float64)
    amax.scatter_reduce_(0, index.flatten(), sized.abs().flatten(), "amax")
    scale = (amax / FP8_MAX).float()
    codes = (sized / scale.double()[index]).to(torch.float8_e4m3fn)
    return codes, scale.view(grid)


def dequantise_fp8(codes, scale, block=(FP8_BLOCK, FP8_BLOCK)):
    """code * scale of its block, exactly (F64)."""
    grid = scale.double().repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    return codes.double() * grid[: codes.shape[0], : codes.shape[1]]


def dequantise_even(codes, scale):
    """A mistake: as many equal blocks as there are scales, whatever the block size (transformers
    5.23 does this).
    """
    return dequantise_fp8(codes, scale, tuple(-(-n // k) for n, k in zip(codes.shape, scale.shape)))


def dequantise_transposed(codes, scale):
    """A mistake: the scales in column-major order."""
    return dequantise_fp8(codes, scale.t().reshape(scale.shape))


def mtp_shapes(config, block_shapes, duplicates):
    """Names and shapes of the MTP modules in the released naming; block_shapes are those of one MoE
    layer.
    """
    hidden, vocab = config.hidden_size, config.vocab_size
    shapes = {}
    for k in range(config.num_nextn_predict_layers):
        prefix = f"model.layers.{config.num_hidden_layers + k}."
        shapes.update({prefix + name: shape for name, shape in block_shapes.items()})
        shapes[prefix + "enorm.weight"] = (hidden,)
        shapes[prefix + "hnorm.weight"] = (hidden,)
        shapes[prefix + "eh_proj.weight"] = (hidden, 2 * hidden)
        shapes[prefix + "shared_head.norm.weight"] = (hidden,)
        if duplicates:
            shapes[prefix + "embed_tokens.weight"] = (vocab, hidden)
            shapes[prefix + "shared_head.head.weight"] = (vocab, hidden)
    return shapes
