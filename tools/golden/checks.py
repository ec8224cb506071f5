"""Checks of golden files while they are made: precision, names, router margins, and the teeth."""

import json

import torch
from transformers.cache_utils import MtpCache

from golden import teeth as mistakes
from golden import weights
from golden.reference import double_precision, load, load_mtp, mtp_logits, read_tensors

TOLERANCE = 1e-4  # of the largest |logit|
TEETH = 100.0  # a mistake must move a logit by so many tolerances, in some case
TIE = 1e-3  # router decisions nearer to a tie than this are drawn again


def check_precision(case, single, double):
    """float32 and float64 agree: the golden is not an accident of rounding."""
    worst = 0.0
    for name, reference in double.items():
        if name == "ids":
            continue
        scale = reference.abs().max() if "logits" in name else reference.norm()
        error = (
            (single[name].double() - reference).abs().max()
            if "logits" in name
            else (single[name].double() - reference).norm()
        )
        relative = float(error / scale) if scale > 0 else float(error)
        limit = 1e-5 if "logits" in name else 5e-5
        assert (
            relative < limit
        ), f"{case.name}: {name} differs by {relative:.1e} between float32 and float64"
        worst = max(worst, relative)
    return worst


def check_names(folder, golden):
    """Every trained tensor of the files has a gradient of its shape, and nothing else does."""
    config = json.loads((folder / "config.json").read_text())
    trunk, modules = set(), set()
    for name, tensor in read_tensors(folder).items():
        if name.endswith(("e_score_correction_bias", "_scale_inv")):
            continue
        if (
            name.startswith("model.layers.")
            and int(name.split(".")[2]) >= config["num_hidden_layers"]
        ):
            if not name.endswith(("embed_tokens.weight", "shared_head.head.weight")):
                modules.add(name)
            continue
        trunk.add(name)
        assert golden["grad." + name].shape == tensor.shape, name
    assert {"grad." + n for n in trunk} == {n for n in golden if n.startswith("grad.")}
    expected = {"mtp_grad." + n for n in trunk | modules} if modules else set()
    assert expected == {n for n in golden if n.startswith("mtp_grad.")}


def check_mtp(folder, ids, golden):
    """The path transformers serves with (its own cache and loop) drafts from the same logits."""
    model = load(folder, torch.float64)
    mtp = load_mtp(folder, model)
    with torch.no_grad(), double_precision():
        hidden = model(
            input_ids=ids[None], output_hidden_states=True, use_cache=False
        ).hidden_states[-1]
        cache = MtpCache(config=model.config.get_mtp_config())
        positions = torch.arange(1, len(ids))[None]
        _, drafted, _ = mtp(ids[None, 1:], hidden[:, :-1], None, positions, cache)
    assert moved(drafted[0, 0], golden["mtp_logits"][-1]) < 1e-3


def router_margin(model, ids, mtp=None):
    """For a float64 model: the smallest distance of any routing decision from a tie, over tokens,
    layers and groups.
    """
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
    hooks = [
        m.register_forward_hook(watch) for m in modules if type(m).__name__.endswith("TopkRouter")
    ]
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
    assert (
        moved(forward(model, ids), golden["logits"]) < 1e-6
    ), "the router of teeth.py is not transformers'"
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
        hidden = model(
            input_ids=ids[None], output_hidden_states=True, use_cache=False
        ).hidden_states[-1]
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


def check_teeth(rows):
    """Every mistake is seen by some case."""
    best = {}
    for row in rows.values():
        for name, value in row["teeth"].items():
            best[name] = max(best.get(name, 0.0), value)
    blunt = {name: value for name, value in best.items() if value < TEETH}
    return best, blunt
