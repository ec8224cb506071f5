"""The golden files are those of the manifest, and the tools that made them still agree."""

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
CASES = sorted(MANIFEST["cases"])


@pytest.mark.parametrize("case", CASES)
def test_files_are_those_of_the_manifest(case):
    hashes = MANIFEST["cases"][case]["sha256"]
    assert sorted(hashes) == sorted(path.name for path in (GOLDEN / case).iterdir())
    for name, expected in hashes.items():
        assert hashlib.sha256((GOLDEN / case / name).read_bytes()).hexdigest() == expected, name


def test_no_folder_is_outside_the_manifest():
    assert CASES == sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


def test_files_stay_small():
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*")) < 4_200_000


@pytest.mark.parametrize("mistake", sorted(MANIFEST["teeth_best"]))
def test_every_mistake_shows_in_some_case(mistake):
    best = max(row["teeth"].get(mistake, 0.0) for row in MANIFEST["cases"].values())
    assert best == MANIFEST["teeth_best"][mistake]
    assert best >= MANIFEST["teeth_required"] >= 100


def check_transformers(folder, against):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/check_transformers.py", folder, "--against", against],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("case", ["v3_mtp2", "v3_fp8", "olmo2_gqa"])
def test_transformers_computes_what_the_files_say(case):
    pytest.importorskip("transformers")
    code, report = check_transformers(GOLDEN / case, GOLDEN / case / "golden.safetensors")
    assert code == 0 and not report["wrong"]
    assert report["worst"]["logits"] < 1e-5


def test_a_changed_gradient_is_named(tmp_path):
    pytest.importorskip("transformers")
    torch_files = pytest.importorskip("safetensors.torch")
    tensors = torch_files.load_file(GOLDEN / "llama_gqa/golden.safetensors")
    name = "grad.model.layers.1.self_attn.k_proj.weight"
    tensors[name] = tensors[name] * 1.01
    torch_files.save_file(tensors, tmp_path / "changed.safetensors")
    code, report = check_transformers(GOLDEN / "llama_gqa", tmp_path / "changed.safetensors")
    assert code == 1
    assert len(report["wrong"]) == 1 and report["wrong"][0].startswith(name)


def test_a_missing_tensor_is_named(tmp_path):
    pytest.importorskip("transformers")
    torch_files = pytest.importorskip("safetensors.torch")
    shutil.copytree(GOLDEN / "llama_gqa", tmp_path / "model")
    file = tmp_path / "model/model.safetensors"
    tensors = torch_files.load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    torch_files.save_file(tensors, file, metadata={"format": "pt"})
    code, report = check_transformers(tmp_path / "model", GOLDEN / "llama_gqa/golden.safetensors")
    assert code == 2
    assert report["loading_problems"] == ["missing: model.layers.1.mlp.up_proj.weight"]
