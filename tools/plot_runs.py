#!/usr/bin/env python3
"""Draws one number of metrics.jsonl along the runs of an ablation, as a small SVG.

    tools/plot_runs.py runs/balance --metric max_vio --log --out docs/maxvio.svg \\
        --title "MaxVio of the worst layer" [--names none,bias,...]

Folders VARIANT-SEED make one line a variant: the mean over its seeds, within a band from the least
to the largest of them. Colours follow the reader's light or dark setting; names stand at the ends
of the lines, so that colour says nothing that is not written. `evaluation.loss` is a number of
evaluations.
"""
import argparse
import html
import json
import math
import pathlib
import sys

WIDTH, HEIGHT = 760, 400
LEFT, TOP, RIGHT, BOTTOM = 56, 44, 208, 44
LIGHT = ["#4b5563", "#c2410c", "#7c3aed", "#0f766e", "#1d4ed8", "#a16207"]
DARK = ["#9ca3af", "#fb923c", "#c4b5fd", "#5eead4", "#93c5fd", "#fde047"]
LABEL_HEIGHT = 16


def number(line, metric):
    for part in metric.split("."):
        line = line.get(part) if isinstance(line, dict) else None
    return line


def read_run(folder, metric):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [(line["tokens"], number(line, metric)) for line in lines]
    return [(tokens, value) for tokens, value in found if value is not None]


def bins(runs, points):
    """(tokens, mean, least, largest) of as many steps each; of the runs the part that all have."""
    length = min(len(run) for run in runs)
    size = max(1, math.ceil(length / points))
    out = []
    for begin in range(0, length, size):
        end = min(begin + size, length)
        means = [sum(v for _, v in run[begin:end]) / (end - begin) for run in runs]
        tokens = sum(t for t, _ in runs[0][begin:end]) / (end - begin)
        out.append((tokens, sum(means) / len(means), min(means), max(means)))
    return out


def ticks(low, high, log):
    if log:
        marks = [m * 10.0**e for e in range(-6, 7) for m in (1, 2, 5)]
        return [m for m in marks if low <= m <= high]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class Axes:
    def __init__(self, curves, log):
        points = [p for curve in curves.values() for p in curve]
        self.log = log
        self.end = max(p[0] for p in points)
        self.low, self.high = min(p[2] for p in points), max(p[3] for p in points)
        if log and self.low <= 0:
            sys.exit(f"a logarithmic axis has no place for {self.low}")
        if self.low == self.high:
            self.low, self.high = self.low * 0.9, self.high * 1.1 + 1e-9

    def x(self, tokens):
        return LEFT + (WIDTH - LEFT - RIGHT) * tokens / self.end

    def y(self, value):
        scale = math.log if self.log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def style(count):
    def rules(colours, text, grid, paper):
        lines = "".join(f".l{i}{{stroke:{c}}}.b{i},.t{i}{{fill:{c}}}"
                        for i, c in enumerate(colours[:count]))
        return f"text{{fill:{text}}}.g{{stroke:{grid}}}.p{{fill:{paper}}}{lines}"

    return ("<style>text{font:13px system-ui,sans-serif}.h{font-size:15px;font-weight:600}"
            ".l{fill:none;stroke-width:2;stroke-linejoin:round}.b{opacity:.16}"
            + rules(LIGHT, "#1f2937", "#e5e7eb", "#ffffff")
            + "@media(prefers-color-scheme:dark){"
            + rules(DARK, "#e5e7eb", "#374151", "#0d1117") + "}</style>")


def path(points):
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def label_places(wanted):
    """Heights of the labels, none closer than a line to the one above it, near where they belong."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places, floor = list(wanted), TOP
    for i in order:
        places[i] = floor = max(places[i], floor)
        floor += LABEL_HEIGHT
    ceiling = HEIGHT - BOTTOM
    for i in reversed(order):
        places[i] = ceiling = min(places[i], ceiling)
        ceiling -= LABEL_HEIGHT
    return places


def grid(axes):
    out = []
    for value in ticks(axes.low, axes.high, axes.log):
        y = axes.y(value)
        out.append(f'<path class="g" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for tokens in ticks(0, axes.end, False):
        label = f"{tokens / 1e6:.4g}M" if tokens else "0"
        out.append(f'<text x="{axes.x(tokens):.1f}" y="{HEIGHT - BOTTOM + 20}" '
                   f'text-anchor="middle">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">tokens</text>')
    return out


def draw(curves, title, log):
    """`curves`: name to bins, in the order of the colours."""
    axes = Axes(curves, log)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
           f'aria-label="{html.escape(title)}">', style(len(curves)),
           f'<rect class="p" width="{WIDTH}" height="{HEIGHT}"/>',
           f'<text class="h" x="{LEFT - 40}" y="24">{html.escape(title)}</text>', *grid(axes)]
    places = label_places([axes.y(curve[-1][1]) for curve in curves.values()])
    for i, (name, curve) in enumerate(curves.items()):
        upper = [(axes.x(p[0]), axes.y(p[3])) for p in curve]
        lower = [(axes.x(p[0]), axes.y(p[2])) for p in reversed(curve)]
        line = [(axes.x(p[0]), axes.y(p[1])) for p in curve]
        out.append(f'<path class="b b{i}" d="{path(upper + lower)}Z"/>')
        out.append(f'<path class="l l{i}" d="{path(line)}"/>')
        label = html.escape(f"{name.replace('_', ' ')} {curve[-1][1]:.3g}")
        out.append(f'<text class="t{i}" x="{WIDTH - RIGHT + 8}" y="{places[i] + 4:.1f}">'
                   f"{label}</text>")
    return "\n".join(out) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="of an ablation's runs")
    parser.add_argument("--metric", default="loss")
    parser.add_argument("--names", help="variants and their order; all there are")
    parser.add_argument("--title", required=True)
    parser.add_argument("--points", type=int, default=50, help="of a line at most")
    parser.add_argument("--log", action="store_true", help="logarithmic axis")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    runs = {}
    for metrics in sorted(arguments.folder.glob("*-*/metrics.jsonl")):
        variant = metrics.parent.name.rpartition("-")[0]
        runs.setdefault(variant, []).append(read_run(metrics.parent, arguments.metric))
    names = arguments.names.split(",") if arguments.names else list(runs)
    for name in names:
        if not any(runs.get(name, [])):
            sys.exit(f"{arguments.folder} has no {arguments.metric} of {name}; "
                     f"there are: {', '.join(runs)}")
    if len(names) > len(LIGHT):
        sys.exit(f"{len(names)} lines, expected at most {len(LIGHT)}; choose with --names")
    curves = {name: bins(runs[name], arguments.points) for name in names}
    arguments.out.write_text(draw(curves, arguments.title, arguments.log))


if __name__ == "__main__":
    main()
