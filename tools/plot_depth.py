#!/usr/bin/env python3
"""Decode tokens/s against the tokens in the cache: measures with `hadal bench`, and draws.

    tools/plot_depth.py                       shapes S and M in int8; writes docs/decode_depth.{json,svg}
    tools/plot_depth.py --draw                draws again what the JSON holds
    tools/plot_depth.py --runner 'nice -n -5' --runs 5

Each run of a shape is one process that decodes at every depth, so that all depths meet the same
minutes; runs of the shapes alternate, and the median of the runs is drawn. The shapes are those of
bench/shapes with a context long enough and without multi-token prediction.
"""
import argparse
import datetime
import json
import math
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPTHS = [0] + [1024 << i for i in range(8)]  # to 131,072
LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT = 64, 96, 52, 56, 760, 420

STYLE = """
  svg { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --a: #0969da; --b: #bc4c00; }
  @media (prefers-color-scheme: dark) {
    svg { --ink: #f0f6fc; --soft: #9198a1; --line: #3d444d; --a: #4493f8; --b: #f0883e; }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--soft); }
  .title { font-size: 15px; font-weight: 600; fill: var(--ink); }
  .grid { stroke: var(--line); stroke-width: 1; }
  .series { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .a { stroke: var(--a); } .b { stroke: var(--b); }
  circle.a { fill: var(--a); } circle.b { fill: var(--b); }
  text.a { fill: var(--a); stroke: none; font-weight: 600; }
  text.b { fill: var(--b); stroke: none; font-weight: 600; }
"""


def bench(options, shape):
    """Tokens/s at each depth, of one process."""
    config = json.loads((ROOT / "bench" / "shapes" / f"{shape}.json").read_text())
    config["max_position_embeddings"] = max(options.depths) + options.tokens
    config["num_nextn_predict_layers"] = 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"{shape}.json"
        path.write_text(json.dumps(config))
        command = shlex.split(options.runner) + [
            options.hadal, "bench", str(path), "--format", options.format, "--prefill", "0",
            "--decode", str(options.tokens), "--depth", ",".join(map(str, options.depths)),
            "--batch", "1", "--json"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(shape, [round(row["tokens_per_s"], 1) for row in result["rows"]], file=sys.stderr)
    return result


def measure(options):
    runs = {shape: [] for shape in options.shapes}
    for _ in range(options.runs):
        for shape in options.shapes:
            runs[shape].append(bench(options, shape))
    first = runs[options.shapes[0]][0]
    series = {}
    for shape, results in runs.items():
        rows = zip(*(result["rows"] for result in results))
        series[shape] = [
            {"depth": at[0]["depth"],
             "tokens_per_s": round(statistics.median(r["tokens_per_s"] for r in at), 2),
             "runs": [round(r["tokens_per_s"], 2) for r in at],
             "peak_rss_bytes": max(r["peak_rss_bytes"] for r in at)} for at in rows]
    return {"date": datetime.date.today().isoformat(), "format": options.format,
            "cache_dtype": first["cache_dtype"], "family": first["family"],
            "threads": first["threads"], "synthetic_cache": True, "series": series}


def depth_name(depth):
    return "0" if depth == 0 else f"{depth // 1024}k" if depth >= 1024 else str(depth)


def rate_name(value):
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def draw(data):
    depths = [row["depth"] for row in next(iter(data["series"].values()))]
    rates = [row["tokens_per_s"] for rows in data["series"].values() for row in rows]
    # Powers of ten between 1, 2 and 5 around all rates; depths are evenly apart, 0 among them.
    ticks = [m * 10**e for e in range(-2, 5) for m in (1, 2, 5)]
    low = max(t for t in ticks if t <= min(rates))
    high = min(t for t in ticks if t >= max(rates))

    def x(depth):
        return LEFT + (WIDTH - LEFT - RIGHT) * depths.index(depth) / (len(depths) - 1)

    def y(rate):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(rate / low) / math.log(high / low)

    title = f"Decode, tokens/s by tokens in the cache ({data['format']}, one text)"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{title}">',
           f"<style>{STYLE}</style>", f'<text class="title" x="{LEFT}" y="26">{title}</text>']
    for tick in (t for t in ticks if low <= t <= high):
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" '
                   f'y2="{y(tick):.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for depth in depths:
        out.append(f'<text x="{x(depth):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
                   f"{depth_name(depth)}</text>")
    out.append(f'<text x="{LEFT}" y="{HEIGHT - 12}">tokens in the cache, which is synthetic; '
               f"{data['family']}, {data['threads']} threads, {data['date']}; both axes logarithmic"
               "</text>")
    for (shape, rows), name in zip(data["series"].items(), "ab"):
        points = [(x(row["depth"]), y(row["tokens_per_s"])) for row in rows]
        out.append(f'<polyline class="series {name}" points="'
                   + " ".join(f"{px:.1f},{py:.1f}" for px, py in points) + '"/>')
        for row, (px, py) in zip(rows, points):
            out.append(f'<circle class="{name}" cx="{px:.1f}" cy="{py:.1f}" r="4"><title>{shape}, '
                       f"{row['depth']:,} tokens: {row['tokens_per_s']} tokens/s</title></circle>")
            label = py - 10 if name == "a" else py + 20
            out.append(f'<text x="{px:.1f}" y="{label:.1f}" text-anchor="middle">'
                       f"{rate_name(row['tokens_per_s'])}</text>")
        px, py = points[-1]
        out.append(f'<text class="{name}" x="{px + 14:.1f}" y="{py + 4:.1f}">shape {shape}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hadal", default=str(ROOT / "build" / "release" / "hadal"))
    parser.add_argument("--shapes", default="S,M", type=lambda text: text.split(",")[:2])
    parser.add_argument("--depths", default=DEPTHS,
                        type=lambda text: [int(d) for d in text.split(",")])
    parser.add_argument("--format", default="int8")
    parser.add_argument("--tokens", default=8, type=int, help="decoded at each depth")
    parser.add_argument("--runs", default=3, type=int)
    parser.add_argument("--runner", default="", help="put before the command")
    parser.add_argument("--out", default=str(ROOT / "docs" / "decode_depth"))
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    options = parser.parse_args()
    table = pathlib.Path(options.out + ".json")
    if not options.draw:
        table.write_text(json.dumps(measure(options), indent=1) + "\n")
    pathlib.Path(options.out + ".svg").write_text(draw(json.loads(table.read_text())))


if __name__ == "__main__":
    main()
