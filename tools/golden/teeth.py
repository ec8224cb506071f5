"""Mistakes an implementation could make, one function each: what a golden file must be able to see.

`teeth(model)` yields (name, mutate): mutate(model) makes the mistake in a freshly loaded
model and may return a function that undoes what it did outside the model.
"""

import math
import types

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def attentions(model):
    return [layer.self_attn for layer in model.model.layers]


def routed_layers(model):
    return [layer.mlp for layer in model.model.layers if hasattr(layer.mlp, "gate")]


def _set_rope(rope_type, **changes):
    def mutate(model):
        config = model.config
        kept = config.rope_parameters
        config.rope_parameters = dict(kept, rope_type=rope_type, **changes)
        rotary = model.model.rotary_emb
        if rope_type == "default":
            rotary.inv_freq, _ = rotary.compute_default_rope_parameters(config)
        else:
            rotary.inv_freq, _ = ROPE_INIT_FUNCTIONS[rope_type](config)
        config.rope_parameters = kept

    return mutate


def _set_softmax_scale(model):
    for attention in attentions(model):
        attention.scaling = attention.qk_head_dim**-0.5


def _set_cos_factor(model):
    model.model.rotary_emb.attention_scaling = 1.0


def _flip_interleave(model):
    model.config.rope_interleave = not model.config.rope_interleave


def _replace_norm(name):
    def mutate(model):
        for attention in attentions(model):
            setattr(attention, name, torch.nn.Identity())

    return mutate


def _mla_norm_eps_from_config(model):
    for attention in attentions(model):
        attention.kv_a_layernorm.variance_epsilon = model.config.rms_norm_eps
        if attention.q_a_layernorm is not None:
            attention.q_a_layernorm.variance_epsilon = model.config.rms_norm_eps


def _default_rms_norm_eps(model):
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e-6


def _kv_b_all_keys_first(model):
    """Reads kv_b_proj as all heads' keys, then all heads' values."""
    for a in attentions(model):
        weight = a.kv_b_proj.weight.data
        split = a.num_heads * a.qk_nope_head_dim
        k = weight[:split].view(a.num_heads, a.qk_nope_head_dim, -1)
        v = weight[split:].view(a.num_heads, a.v_head_dim, -1)
        a.kv_b_proj.weight.data = torch.cat([k, v], dim=1).reshape(weight.shape)


def route_v3(
    gate,
    x,
    bias=True,
    biased_gate=False,
    limit=True,
    group_score="top2",
    masked=-math.inf,
    normalise=None,
    scale=True,
):
    """The V3 router with switches; with the defaults it is transformers' own (checked by
    make_golden.py).
    """
    logits = torch.nn.functional.linear(x.view(-1, gate.hidden_dim), gate.weight)
    scores = logits.sigmoid()
    choice = scores + gate.e_score_correction_bias if bias else scores
    in_groups = choice.view(len(choice), gate.num_group, -1)
    best = (
        in_groups.topk(2, dim=-1).values.sum(-1)
        if group_score == "top2"
        else in_groups.max(-1).values
    )
    kept = best.topk(gate.topk_group if limit else gate.num_group, dim=-1).indices
    mask = torch.zeros_like(best).scatter_(1, kept, 1).bool().unsqueeze(-1).expand_as(in_groups)
    limited = in_groups.masked_fill(~mask, masked).reshape(choice.shape)
    indices = limited.topk(gate.top_k, dim=-1).indices
    weights = (choice if biased_gate else scores).gather(1, indices)
    if gate.norm_topk_prob if normalise is None else normalise:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return logits, weights * (gate.routed_scaling_factor if scale else 1.0), indices


def route_v2(gate, x, limit=True, group_score="max", normalise=False, scale=True, sigmoid=False):
    """The V2 router with switches, as above."""
    logits = torch.nn.functional.linear(x.view(-1, gate.hidden_dim), gate.weight)
    scores = logits.sigmoid() if sigmoid else logits.softmax(-1)
    choice = scores
    if gate.topk_method == "group_limited_greedy" and limit:
        in_groups = scores.view(len(scores), gate.num_group, -1)
        best = (
            in_groups.max(-1).values
            if group_score == "max"
            else in_groups.topk(2, dim=-1).values.sum(-1)
        )
        kept = best.topk(gate.topk_group, dim=-1).indices
        mask = torch.zeros_like(best).scatter_(1, kept, 1).bool().unsqueeze(-1).expand_as(in_groups)
        choice = in_groups.masked_fill(~mask, -math.inf).reshape(scores.shape)
    indices = choice.topk(gate.top_k, dim=-1).indices
    weights = scores.gather(1, indices)
    if normalise:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return logits, weights * (gate.routed_scaling_factor if scale else 1.0), indices


def set_router(**switches):
    def mutate(model):
        route = route_v2 if model.config.model_type == "deepseek_v2" else route_v3
        for moe in routed_layers(model):
            moe.gate.forward = types.MethodType(
                lambda gate, x: route(gate, x, **switches), moe.gate
            )

    return mutate


def _shared_expert_off(model):
    for moe in routed_layers(model):
        moe.shared_experts.down_proj.weight.data.zero_()


def _qk_norm_per_head(model):
    """OLMo 2 normalises the whole projection; this does each head by itself."""

    def per_head(norm, head_dim):
        def forward(x):
            y = x.view(*x.shape[:-1], -1, head_dim)
            y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
            return norm.weight * y.reshape(x.shape)

        return forward

    for a in attentions(model):
        a.q_norm.forward = per_head(a.q_norm, a.head_dim)
        a.k_norm.forward = per_head(a.k_norm, a.head_dim)


def _post_norm_off(model):
    for layer in model.model.layers:
        layer.post_attention_layernorm = torch.nn.Identity()
        layer.post_feedforward_layernorm = torch.nn.Identity()


def _tile_kv_heads(model):
    """Query head h reads key-value head h % n_kv instead of h / (n_heads / n_kv)."""
    import sys

    module = sys.modules[type(model).__module__]
    kept = module.repeat_kv
    module.repeat_kv = lambda x, n: x.repeat(1, n, 1, 1)
    return lambda: setattr(module, "repeat_kv", kept)


def _zero_biases(part):
    def mutate(model):
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") and part in name:
                parameter.data.zero_()

    return mutate


def _rope_teeth(model):
    rope = model.config.rope_parameters
    if rope["rope_type"] == "default":
        return
    yield "rope_scaling_off", _set_rope("default")
    if rope["rope_type"] in ("yarn", "llama3"):
        yield "rope_scaling_as_linear", _set_rope("linear")
    if model.model.rotary_emb.attention_scaling != 1.0:
        yield "cos_factor_off", _set_cos_factor


def _mla_teeth(model):
    attention = attentions(model)[0]
    if attention.scaling != attention.qk_head_dim**-0.5:
        yield "mscale_off", _set_softmax_scale
    if model.config.model_type == "deepseek_v3":
        yield "rope_interleave_flipped", _flip_interleave
    yield "kv_a_layernorm_off", _replace_norm("kv_a_layernorm")
    if attention.q_a_layernorm is not None:
        yield "q_a_layernorm_off", _replace_norm("q_a_layernorm")
    if model.config.rms_norm_eps >= 1e-3:
        yield "mla_norm_eps_from_config", _mla_norm_eps_from_config
    yield "kv_b_all_keys_first", _kv_b_all_keys_first


def _router_teeth(model):
    config = model.config
    v3 = config.model_type == "deepseek_v3"
    yield "shared_expert_off", _shared_expert_off
    if config.routed_scaling_factor != 1.0:
        yield "routed_scaling_factor_off", set_router(scale=False)
    normalised = v3 and config.norm_topk_prob
    yield "norm_topk_prob_flipped", set_router(normalise=not normalised)
    if v3:
        yield "routing_bias_off", set_router(bias=False)
        yield "routing_bias_in_gate_value", set_router(biased_gate=True)
    else:
        yield "sigmoid_scores", set_router(sigmoid=True)
    if (config.n_group or 1) > (config.topk_group or 1):
        yield "group_limit_off", set_router(limit=False)
        other = "max" if v3 else "top2"
        yield f"group_score_{other}", set_router(group_score=other)
        if v3:
            yield "masked_groups_zero", set_router(masked=0.0)


def _dense_teeth(model):
    config = model.config
    if config.model_type == "olmo2":
        yield "q_norm_off", _replace_norm("q_norm")
        yield "k_norm_off", _replace_norm("k_norm")
        yield "qk_norm_per_head", _qk_norm_per_head
        yield "post_norm_off", _post_norm_off
    if 1 < config.num_key_value_heads < config.num_attention_heads:
        yield "kv_heads_tiled", _tile_kv_heads


def teeth(model):
    """All mistakes that make a difference to a model with this one's features."""
    yield from _rope_teeth(model)
    if model.config.model_type.startswith("deepseek"):
        yield from _mla_teeth(model)
        if routed_layers(model):
            yield from _router_teeth(model)
    else:
        yield from _dense_teeth(model)
    if model.config.rms_norm_eps >= 1e-3:
        yield "rms_norm_eps_ignored", _default_rms_norm_eps
    for part in ("self_attn", "mlp"):
        if any(n.endswith(".bias") and part in n for n, _ in model.named_parameters()):
            yield f"{part}_bias_off", _zero_biases(part)
