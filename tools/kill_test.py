#!/usr/bin/env python3
"""Kills training at random moments, half of the times while it saves, and looks at what is left.

  tools/kill_test.py build/release/hadal --kills 200

A tiny model saves after every step. After each SIGKILL every whole checkpoint must be, byte for
byte, that of a run which was never disturbed, and none that was there may be lost; the run is then
resumed, on one thread or two. Exit code 1 and the folder of the run if anything differs. Among the
tests of tools/ it runs with few kills.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

STEPS = 12
COMPARED = ("model.safetensors", "optimizer.safetensors", "state.json")
RECIPE = """
[run]
steps = {steps}
checkpoint_every = 1
eval_every = 0
[data]
tokenizer = "{folder}/tokenizer.json"
train = ["{folder}/text.jsonl"]
sequence_length = 16
[batch]
sequences = 4
[optim]
lr = 1e-2
warmup_steps = 2
[model]
hidden_size = 16
intermediate_size = 16
moe_intermediate_size = 8
num_hidden_layers = 2
num_attention_heads = 1
q_lora_rank = 0
kv_lora_rank = 8
qk_nope_head_dim = 8
qk_rope_head_dim = 4
v_head_dim = 8
n_routed_experts = 4
n_shared_experts = 1
n_group = 1
topk_group = 1
num_experts_per_tok = 2
first_k_dense_replace = 1
num_nextn_predict_layers = 1
"""


class Failure(Exception):
    pass


def contents(checkpoint: pathlib.Path) -> list[str]:
    return [hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in COMPARED]


def checkpoints(run: pathlib.Path) -> dict[int, pathlib.Path]:
    """The folders that a resumed run may take, by step."""
    found = {}
    for path in (run / "checkpoints").glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)", path.name):
            found[int(match[1])] = path
    return found


def saving(run: pathlib.Path) -> bool:
    return any((run / "checkpoints").glob("step-*.tmp-*"))


class KillTest:
    def __init__(self, program: pathlib.Path, folder: pathlib.Path, seed: int):
        self.program, self.folder = program, folder
        self.random = random.Random(seed)
        self.kills = self.while_saving = self.compared = self.runs = 0

    def command(self, run: pathlib.Path, *more: str) -> list[str]:
        return [str(self.program), "train", str(self.folder / "recipe.toml"), "--out", str(run),
                "--threads", str(self.random.choice((1, 2))), *more]

    def prepare(self) -> None:
        """Text, tokenizer, recipe, and the run that is never disturbed."""
        text = self.folder / "text.jsonl"
        text.write_text("".join(json.dumps({"text": f"Cat {i} sat on mat {i % 7}."}) + "\n"
                                for i in range(80)))
        subprocess.run([self.program, "tokenizer", "train", "--input", text, "--vocab-size", "270",
                        "--out", self.folder / "tokenizer.json"], check=True, capture_output=True)
        (self.folder / "recipe.toml").write_text(RECIPE.format(steps=STEPS, folder=self.folder))
        run = self.folder / "undisturbed"
        start = time.monotonic()
        done = subprocess.run(self.command(run, "--set", f"run.keep={STEPS}"), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Failure(f"exit code {done.returncode}: {done.stdout}")
        self.step_s = (time.monotonic() - start) / STEPS
        self.expected = {step: contents(path) for step, path in checkpoints(run).items()}
        if len(self.expected) != STEPS:
            raise Failure(f"{len(self.expected)} checkpoints of {STEPS} steps")

    def kill(self, run: pathlib.Path, while_saving: bool) -> bool:
        """Starts or resumes the run and kills it; False if it came to its end."""
        process = subprocess.Popen(self.command(run, "--resume"), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        if while_saving:
            mark = f"step-*.tmp-{process.pid}"
            while process.poll() is None and not any((run / "checkpoints").glob(mark)):
                time.sleep(0.0002)
            time.sleep(self.random.uniform(0, self.step_s))
        else:
            time.sleep(self.random.uniform(0, 4 * self.step_s))
        process.kill()
        output = process.communicate()[0].decode(errors="replace")
        if process.returncode == 0:
            return False
        if process.returncode != -9:
            raise Failure(f"exit code {process.returncode}: {output}")
        self.kills += 1
        self.while_saving += saving(run)
        return True

    def compare(self, run: pathlib.Path, newest: int) -> int:
        """Looks at every checkpoint; the newest step."""
        steps = checkpoints(run)
        for step, path in steps.items():
            if contents(path) != self.expected[step]:
                raise Failure(f"{path} is not what it would have been")
            self.compared += 1
        if max(steps, default=0) < newest:
            raise Failure(f"{run} had a checkpoint of step {newest}, and has not")
        return max(steps, default=0)

    def run(self, kills: int) -> None:
        self.prepare()
        run, newest = self.folder / "run", 0
        while self.kills < kills or 2 * self.while_saving < kills:
            going_on = self.kill(run, 2 * self.while_saving <= self.kills)
            newest = self.compare(run, newest)
            if not going_on:
                self.runs += 1
                if newest != STEPS or saving(run):
                    raise Failure(f"{run} came to its end at step {newest}")
                shutil.rmtree(run)
                newest = 0


def kill(program: pathlib.Path, kills: int, seed: int) -> str:
    """The result; the folder stays where Failure says so."""
    start = time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hadal-kill-"))
    test = KillTest(program.resolve(), folder, seed)
    try:
        test.run(kills)
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        raise Failure(f"after {test.kills} kills: {failure}\nthe run is in {folder}") from failure
    shutil.rmtree(folder)
    return (f"{test.kills} kills, {test.while_saving} while saving; {test.runs} runs came to their "
            f"end; {test.compared} checkpoints compared, none differs "
            f"({time.monotonic() - start:.0f} s)")


def test_kills():
    if "HADAL_BINARY" not in os.environ:
        raise unittest.SkipTest("HADAL_BINARY does not name the program")
    print(kill(pathlib.Path(os.environ["HADAL_BINARY"]), kills=40, seed=int(time.time())))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        print(kill(options.program, options.kills, options.seed))
    except Failure as failure:
        print(f"FAIL {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
