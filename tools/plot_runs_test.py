"""Curves of an ablation's runs as SVG: the numbers drawn are those of the runs."""

import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

import plot_runs

TOOL = pathlib.Path(__file__).with_name("plot_runs.py")
SPACE = "{http://www.w3.org/2000/svg}"


def write_run(folder, values):
    folder.mkdir(parents=True)
    lines = [{"tokens": 0, "evaluation": {"loss": 9.0}}]
    lines += [{"tokens": 100 * (i + 1), "loss": v} for i, v in enumerate(values)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def plot(folder, *more):
    out = folder / "out.svg"
    done = subprocess.run([sys.executable, TOOL, folder, "--title", "a < b", "--out", out, *more],
                          capture_output=True, text=True)  # fmt: skip
    return done, out


def test_lines_are_means_in_bands(tmp_path):
    write_run(tmp_path / "with_x-1", [8.0, 4.0])
    write_run(tmp_path / "with_x-2", [6.0, 2.0, 1.0])  # one more step: not compared
    write_run(tmp_path / "plain-1", [8.0, 8.0])
    done, out = plot(tmp_path, "--names", "plain,with_x")
    assert done.returncode == 0, done.stderr
    root = xml.etree.ElementTree.fromstring(out.read_text())
    paths = {p.get("class"): p.get("d") for p in root.iter(f"{SPACE}path")}
    heights = [float(y) for y in re.findall(r" ([\d.]+)", paths["l l1"])]
    axes = plot_runs.Axes({"all": [(100, 8, 8, 8), (200, 2, 2, 2)]}, log=False)
    assert heights == [round(axes.y(7), 1), round(axes.y(3), 1)]
    band = [float(y) for y in re.findall(r" ([\d.]+)", paths["b b1"])]
    assert band == [round(axes.y(v), 1) for v in (8, 4, 2, 6)]
    texts = [t.text for t in root.iter(f"{SPACE}text")]
    assert "with x 3" in texts and "plain 8" in texts and "a < b" in texts


def test_labels_keep_apart_and_inside():
    places = plot_runs.label_places([300, 299, 301, 40, 10000])
    assert places[3] == plot_runs.TOP
    inside = sorted(places)
    assert all(b - a >= plot_runs.LABEL_HEIGHT for a, b in zip(inside, inside[1:]))
    assert inside[-1] <= plot_runs.HEIGHT - plot_runs.BOTTOM
    assert places[1] < places[0] < places[2] < places[4]


def test_what_is_not_there_is_named(tmp_path):
    write_run(tmp_path / "plain-1", [8.0, 0.0])
    for more in (["--metric", "max_vio"], ["--names", "other"]):
        done, out = plot(tmp_path, *more)
        assert done.returncode != 0 and "there are: plain" in done.stderr
    done, out = plot(tmp_path, "--log")
    assert "logarithmic" in done.stderr and not out.exists()
