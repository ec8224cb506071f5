"""The golden cases: one row each, tiny models that differ in what they show."""

from dataclasses import dataclass

# Small enough that a case stays near 250 KB or below; few sizes are multiples of a vector register,
# so that tails are exercised.
_V3 = dict(
    vocab_size=70,
    hidden_size=28,
    intermediate_size=24,
    moe_intermediate_size=7,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    n_shared_experts=1,
    n_routed_experts=6,
    num_experts_per_tok=2,
    n_group=1,
    topk_group=1,
    routed_scaling_factor=2.5,
    norm_topk_prob=True,
    kv_lora_rank=14,
    q_lora_rank=None,
    qk_nope_head_dim=8,
    qk_rope_head_dim=8,
    v_head_dim=10,
    first_k_dense_replace=1,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_parameters=dict(rope_type="default", rope_theta=100.0),
    num_nextn_predict_layers=0,
)
_V3_DENSE = dict(_V3, first_k_dense_replace=2, intermediate_size=14)
_V3_ONE = dict(_V3, num_hidden_layers=1)
_V2 = dict(
    {k: v for k, v in _V3.items() if k != "num_nextn_predict_layers"},
    n_shared_experts=2,
    n_group=None,
    topk_group=None,
    topk_method="greedy",
    norm_topk_prob=False,
    routed_scaling_factor=1.0,
)
_LLAMA = dict(
    vocab_size=70,
    hidden_size=24,
    intermediate_size=26,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_parameters=dict(rope_type="default", rope_theta=100.0),
)
_OLMO2 = dict(_LLAMA, pad_token_id=None, bos_token_id=0, eos_token_id=1)


def _yarn(**kwargs):
    """YaRN whose ramp has fractional steps at rotary dimension 8 and original length 16."""
    return dict(
        rope_type="yarn",
        rope_theta=100.0,
        factor=8.0,
        original_max_position_embeddings=16,
        beta_fast=1.0,
        beta_slow=0.1,
        **kwargs,
    )


@dataclass(frozen=True)
class Case:
    """One folder of tests/golden: what the model is and how its files are written."""

    name: str
    why: str  # one sentence, goes to the manifest
    kind: str  # deepseek_v3, deepseek_v2, olmo2, llama
    config: dict
    tokens: int = 32
    dtype: str = "bfloat16"  # of the stored weights
    bias_std: float = 0.15  # of e_score_correction_bias
    bias_mean: float = 0.0  # below -1 every biased score is negative
    sharp: float = 1.6  # multiplies the weights that make the attention scores
    fp8: bool = False
    mtp_tensors: bool = True  # false: the config promises a module the files do not have
    mtp_duplicates: bool = False  # also store embed_tokens and shared_head.head with the module
    released_spelling: bool = False  # config.json as the released models write it
    max_shard_size: str = "5GB"


def _case(name, why, base, kind, **kwargs):
    known = {f for f in Case.__dataclass_fields__}
    options = {k: v for k, v in kwargs.items() if k in known}
    config = dict(base, **{k: v for k, v in kwargs.items() if k not in known})
    return Case(name=name, why=why, kind=kind, config=config, **options)


def v3(name, why, base=_V3, **kwargs):
    return _case(name, why, base, "deepseek_v3", **kwargs)


def v2(name, why, **kwargs):
    return _case(name, why, _V2, "deepseek_v2", **kwargs)


def llama(name, why, **kwargs):
    return _case(name, why, _LLAMA, "llama", **kwargs)


def olmo2(name, why, **kwargs):
    return _case(name, why, _OLMO2, "olmo2", **kwargs)


CASES = [
    v3(
        "v3_plain",
        "MLA without query compression, one group, one shared expert, a dense first layer; the "
        "config says one MTP module without such tensors, as transformers writes it",
        num_nextn_predict_layers=1,
        mtp_tensors=False,
    ),
    v3(
        "v3_qlora",
        "compressed query; a large rms_norm_eps that the two norms inside MLA must not use",
        q_lora_rank=12,
        rms_norm_eps=5e-3,
    ),
    v3(
        "v3_groups",
        "four groups of four experts, the two best kept by the sum of their two best biased "
        "scores; a bias large enough to change the choice and to make scores negative",
        n_routed_experts=16,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=3,
        moe_intermediate_size=5,
        bias_std=0.3,
        bias_mean=-0.8,
    ),
    v3(
        "v3_yarn",
        "YaRN well beyond the original length, mscale equal to mscale_all_dim; cos and sin "
        "unscaled, softmax scale times mscale squared",
        tokens=40,
        q_lora_rank=12,
        max_position_embeddings=128,
        rope_parameters=_yarn(mscale=1.0, mscale_all_dim=1.0),
    ),
    v3(
        "v3_released_config",
        "config.json in the released spelling: rope_theta, rope_scaling.type, torch_dtype, "
        "scoring_func, topk_method; default betas 32 and 1, factor 40",
        released_spelling=True,
        tokens=40,
        q_lora_rank=12,
        n_group=2,
        n_routed_experts=8,
        max_position_embeddings=640,
        rope_parameters=dict(
            rope_type="yarn",
            rope_theta=10000.0,
            factor=40,
            beta_fast=32,
            beta_slow=1,
            original_max_position_embeddings=16,
            mscale=1.0,
            mscale_all_dim=1.0,
        ),
    ),
    v3(
        "v3_yarn_mscale_different",
        "YaRN with mscale 0.5 and mscale_all_dim 1.5: cos and sin times their "
        "quotient, softmax scale by mscale_all_dim",
        base=_V3_ONE,
        tokens=40,
        max_position_embeddings=128,
        rope_parameters=_yarn(mscale=0.5, mscale_all_dim=1.5),
    ),
    v3(
        "v3_yarn_mscale_only",
        "YaRN with mscale alone: its value is not used; cos and sin times 0.1 ln(factor) + 1, "
        "softmax scale plain",
        base=_V3_ONE,
        tokens=40,
        max_position_embeddings=128,
        rope_parameters=_yarn(mscale=0.5),
    ),
    v3(
        "v3_yarn_mscale_all_dim_only",
        "YaRN with mscale_all_dim alone: cos and sin times 0.1 ln(factor) + 1 and "
        "softmax scale by mscale_all_dim",
        base=_V3_ONE,
        tokens=40,
        max_position_embeddings=128,
        rope_parameters=_yarn(mscale_all_dim=1.5),
    ),
    v3(
        "v3_yarn_mscale_none",
        "YaRN with neither: cos and sin times 0.1 ln(factor) + 1, softmax scale plain; "
        "betas left out",
        base=_V3_ONE,
        tokens=40,
        max_position_embeddings=128,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=100.0, factor=8.0, original_max_position_embeddings=16
        ),
    ),
    v3(
        "v3_yarn_attention_factor",
        "YaRN with attention_factor: it is the cos and sin factor, mscale apart",
        base=_V3_ONE,
        tokens=40,
        max_position_embeddings=128,
        rope_parameters=_yarn(mscale=1.0, mscale_all_dim=1.0, attention_factor=1.25),
    ),
    v3(
        "v3_interleave_false",
        "rope_interleave false: halves are rotated against each other, not neighbours",
        rope_interleave=False,
    ),
    v3(
        "v3_tied",
        "tied embeddings: no lm_head.weight in the file, one gradient for both uses",
        tie_word_embeddings=True,
    ),
    v3(
        "v3_fp8",
        "F8_E4M3 weights with 128x128 weight_scale_inv blocks, the last ones partial, heads "
        "straddling blocks; embeddings, head, norms, router not quantised; released spelling",
        fp8=True,
        released_spelling=True,
        num_hidden_layers=1,
        first_k_dense_replace=0,
        num_attention_heads=2,
        num_key_value_heads=2,
        qk_nope_head_dim=60,
        q_lora_rank=136,
        n_routed_experts=4,
    ),
    v3(
        "v3_mtp",
        "one multi-token prediction module in the released naming, with its copies of the "
        "embedding and the head",
        num_nextn_predict_layers=1,
        mtp_duplicates=True,
        n_routed_experts=4,
        intermediate_size=14,
        vocab_size=50,
    ),
    v3(
        "v3_mtp2",
        "two chained modules without copies: the second takes the first one's normed output",
        num_nextn_predict_layers=2,
        n_routed_experts=4,
        num_hidden_layers=1,
        first_k_dense_replace=0,
        vocab_size=50,
    ),
    v3(
        "v3_norm_topk_false",
        "gate values not normalised",
        norm_topk_prob=False,
        routed_scaling_factor=1.7,
    ),
    v3(
        "v3_moe_only",
        "first_k_dense_replace 0; top-1 routing; weights stored as F32",
        first_k_dense_replace=0,
        num_experts_per_tok=1,
        n_routed_experts=4,
        norm_topk_prob=False,
        dtype="float32",
        vocab_size=50,
    ),
    v3(
        "v3_dense_only",
        "first_k_dense_replace equal to the number of layers; biases in the attention; weights "
        "stored as F16",
        base=_V3_DENSE,
        attention_bias=True,
        q_lora_rank=12,
        dtype="float16",
    ),
    v3(
        "v3_sharded",
        "several shards with model.safetensors.index.json; two shared experts",
        max_shard_size="25KB",
        n_shared_experts=2,
    ),
    v2(
        "v2_lite",
        "DeepSeek-V2-Lite: softmax scores, greedy choice, no normalisation, two shared "
        "experts as one MLP",
        rms_norm_eps=5e-3,
    ),
    v2(
        "v2_groups",
        "DeepSeek-V2: group_limited_greedy (a group's score is its maximum), "
        "routed_scaling_factor 16, compressed query",
        topk_method="group_limited_greedy",
        n_routed_experts=12,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=3,
        routed_scaling_factor=16.0,
        q_lora_rank=12,
    ),
    v2(
        "v2_yarn",
        "V2's YaRN with mscale and mscale_all_dim 0.707, released spelling",
        released_spelling=True,
        tokens=40,
        max_position_embeddings=640,
        n_group=1,
        topk_group=1,
        rope_parameters=dict(
            rope_type="yarn",
            rope_theta=100.0,
            factor=40,
            beta_fast=32,
            beta_slow=1,
            original_max_position_embeddings=16,
            mscale=0.707,
            mscale_all_dim=0.707,
        ),
    ),
    olmo2(
        "olmo2_mha",
        "norms after attention and MLP inside the branch, RMSNorm over the whole projected q and k",
        rms_norm_eps=5e-3,
    ),
    olmo2("olmo2_gqa", "the same with two key-value heads", num_key_value_heads=2),
    llama("llama_mha", "plain pre-norm transformer; a large rms_norm_eps", rms_norm_eps=5e-3),
    llama("llama_gqa", "two key-value heads", num_key_value_heads=2),
    llama("llama_mqa", "one key-value head", num_key_value_heads=1),
    llama(
        "llama_rope_llama3",
        "rope type llama3 with low, smoothed and high frequencies",
        tokens=40,
        max_position_embeddings=128,
        num_key_value_heads=2,
        rope_parameters=dict(
            rope_type="llama3",
            rope_theta=100.0,
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    llama(
        "llama_rope_linear",
        "rope type linear",
        num_key_value_heads=2,
        rope_parameters=dict(rope_type="linear", rope_theta=100.0, factor=3.0),
    ),
    llama("llama_tied", "tied embeddings", tie_word_embeddings=True, num_key_value_heads=2),
    llama(
        "llama_head_dim",
        "head_dim set apart from hidden_size / num_attention_heads",
        head_dim=8,
        num_key_value_heads=2,
    ),
    llama(
        "llama_biases",
        "attention_bias and mlp_bias",
        attention_bias=True,
        mlp_bias=True,
        num_key_value_heads=2,
    ),
]


def features(case):
    """What a case has, in words a test can select by."""
    config, out = case.config, []
    add = lambda name, present: out.append(name) if present else None
    rope = config["rope_parameters"]["rope_type"]
    add(f"rope_{rope}", rope != "default")
    if case.kind.startswith("deepseek"):
        routed = config["num_hidden_layers"] > config["first_k_dense_replace"]
        add("mla", True)
        add("q_lora", config["q_lora_rank"] is not None)
        add("moe", routed)
        add("dense_layers", config["first_k_dense_replace"] > 0)
        add("groups", routed and (config["n_group"] or 1) > 1)
        add("rope_halves", config.get("rope_interleave") is False)
        add("mtp", config.get("num_nextn_predict_layers", 0) > 0 and case.mtp_tensors)
    else:
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        add("mha" if kv_heads == heads else "mqa" if kv_heads == 1 else "gqa", True)
    add("biases", config.get("attention_bias", False))
    add("tied", config.get("tie_word_embeddings", False))
    add("fp8", case.fp8)
    add("sharded", case.max_shard_size != "5GB")
    add("released_spelling", case.released_spelling)
    return out
