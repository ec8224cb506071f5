"""A run of seconds for the tests of what runs write: needs HADAL_BINARY, as run_tests.py sets it."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ATTACK = "</script><img src=x onerror=\"document.title='taken over'\">"


def binary():
    path = os.environ.get("HADAL_BINARY", ROOT / "build/release/hadal")
    if not pathlib.Path(path).exists():
        pytest.skip("the program is not built")
    return path


def train(folder, steps=6, more=()):
    """Writes `folder`/run; its second prompt is an attack on whoever shows it."""
    text = folder / "text.jsonl"
    if not text.exists():
        lines = [json.dumps({"text": f"The cat number {i} sat on the mat."}) for i in range(200)]
        text.write_text("\n".join(lines) + "\n")
        subprocess.run([binary(), "tokenizer", "train", "--input", text, "--vocab-size", "300",
                        "--out", folder / "tok/tokenizer.json"], check=True, capture_output=True)
    sets = {
        "data.tokenizer": str(folder / "tok/tokenizer.json"), "data.train": [str(text)],
        "data.valid": [], "data.valid_share": 0.1, "data.sequence_length": 32,
        "batch.sequences": 4, "batch.micro": 2, "model.num_hidden_layers": 2,
        "model.hidden_size": 64, "run.steps": steps, "run.checkpoint_every": 3,
        "run.layers_every": 2, "run.eval_every": 3, "run.sample_every": 2, "run.sample_tokens": 8,
        "run.sample_prompts": ["The cat", ATTACK],
    }  # fmt: skip
    options = [part for key, value in sets.items()
               for part in ("--set", f"{key}={json.dumps(value)}")]
    subprocess.run([binary(), "train", ROOT / "recipes/text_small.toml", "--threads", "1", "--out",
                    folder / "run", *options, *more], check=True, capture_output=True,
                   env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")})
    return folder / "run"


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
