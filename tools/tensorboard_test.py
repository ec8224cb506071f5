"""TensorBoard reads what a run writes. Needs the package of tools/requirements-tensorboard.txt."""

import math
import shutil

import pytest

import watched_run

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def load(run):
    events = accumulator.EventAccumulator(
        str(run / "tensorboard"),
        size_guidance={accumulator.TENSORS: 0, accumulator.SCALARS: 0, accumulator.HISTOGRAMS: 0})
    events.Reload()
    return events


def scalars(events, tag):
    return {event.step: event.value for event in events.Scalars(tag)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return watched_run.train(tmp_path_factory.mktemp("tensorboard"))


def test_scalars_are_those_of_the_metrics(run):
    events = load(run)
    lines = [line for line in watched_run.metrics(run) if line["step"] > 0]
    for tag, key in {"train/loss": "loss", "schedule/learning_rate": "lr",
                     "train/gradient_norm": "gradient_norm", "balance/max_vio": "max_vio",
                     "machine/tokens_per_s": "tokens_per_s"}.items():
        values = scalars(events, tag)
        assert sorted(values) == [line["step"] for line in lines]
        for line in lines:
            assert math.isclose(values[line["step"]], line[key], rel_tol=1e-6), (tag, line["step"])
    held_out = {line["step"]: line["evaluation"]["bits_per_byte"]
                for line in watched_run.metrics(run) if "evaluation" in line}
    assert sorted(held_out) == [0, 3, 6]
    found = scalars(events, "held_out/bits_per_byte")
    assert sorted(found) == sorted(held_out)
    assert all(math.isclose(found[s], held_out[s], rel_tol=1e-6) for s in held_out)


def test_layers_and_loads(run):
    events = load(run)
    line = [line for line in watched_run.metrics(run) if line["step"] == 4][0]
    for layer in line["layers"]:
        name = "outside_layers" if layer["layer"] < 0 else f"layer_{layer['layer']}"
        norm = scalars(events, f"{name}/gradient_norm")[4]
        assert math.isclose(norm, layer["gradient_norm"], rel_tol=1e-6)
        if "load" not in layer:
            continue
        entropy = scalars(events, f"{name}/gate_entropy")[4]
        assert math.isclose(entropy, layer["gate_entropy"], rel_tol=1e-6)
        histogram = [h for h in events.Histograms(f"{name}/expert_load") if h.step == 4][0]
        assert list(histogram.histogram_value.bucket) == layer["load"]
        assert histogram.histogram_value.num == sum(layer["load"])


def test_texts(run):
    events = load(run)
    sample = [line for line in watched_run.metrics(run) if line["step"] == 4][0]["samples"][0]
    text = [t for t in events.Tensors("samples/0") if t.step == 4][0].tensor_proto.string_val[0]
    assert text.decode() == "    " + (sample["prompt"] + sample["text"]).replace("\n", "\n    ")


def test_a_resumed_run_counts_each_step_once(tmp_path):
    run = watched_run.train(tmp_path)
    shutil.rmtree(run / "checkpoints" / "step-6")  # from step 3 on
    watched_run.train(tmp_path, steps=7, more=("--resume",))
    steps = [event.step for event in load(run).Scalars("train/loss")]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert [line["step"] for line in watched_run.metrics(run)] == [0, *steps]
