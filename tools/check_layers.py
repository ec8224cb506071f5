#!/usr/bin/env python3
"""Fails when a file of src/ includes what its folder may not see.

The folders and what each may include stand in src/layers.txt. Tests and benchmarks may include
anything. What is compiled once per CPU family (kernels/isa*.cpp and all it includes) may include
kernels/ only. Includes are written from src/ ("core/error.h"), never relative to a file.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
SUFFIXES = {".h", ".cpp", ".inl"}


def read_layers(path: pathlib.Path) -> tuple[dict[str, list[str]], list[str]]:
    """The table, and what is wrong with it."""
    layers, problems = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z]+):([a-z ]*)", line)
        if not match:
            problems.append(f"{path.name}:{number}: expected 'folder: folders below it'")
            continue
        folder, below = match[1], match[2].split()
        for other in below:
            if other not in layers:
                problems.append(f"{path.name}:{number}: {folder} stands on {other}, "
                                "which is not among the lines above")
        layers[folder] = below
    return layers, problems


def includes(path: pathlib.Path) -> list[tuple[int, str]]:
    return [(number, match[1])
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if (match := INCLUDE.match(line))]


def compiled_per_family(src: pathlib.Path) -> set[pathlib.Path]:
    """kernels/isa*.cpp and every header of ours that they reach."""
    found, queue = set(), list((src / "kernels").glob("isa*.cpp"))
    while queue:
        path = queue.pop()
        if path not in found and path.is_file():
            found.add(path)
            queue += [src / included for _, included in includes(path)]
    return found


def check_file(path: pathlib.Path, src: pathlib.Path, layers, per_family) -> list[str]:
    folder = path.relative_to(src).parts[0]
    is_test = path.stem.endswith(("_test", "_bench")) or path.stem == "testing"
    problems = []
    for number, included in includes(path):
        where = f"{path.relative_to(src.parent)}:{number}:"
        top = included.split("/")[0]
        if is_test and top == "tests":
            continue
        if top not in layers or "/" not in included:
            # Generated headers lie in the folder they are named after (core/version.h).
            problems.append(f'{where} "{included}" does not start with a folder of src/')
        elif path in per_family and top != "kernels":
            problems.append(f"{where} is compiled once per CPU family and may not include {top}/")
        elif not is_test and top != folder and top not in layers[folder]:
            problems.append(f"{where} {folder}/ may not include {top}/")
    return problems


def check(root: pathlib.Path) -> list[str]:
    src = root / "src"
    layers, problems = read_layers(src / "layers.txt")
    per_family = compiled_per_family(src)
    for path in sorted(src.rglob("*")):
        if path.suffix not in SUFFIXES:
            continue
        if path.relative_to(src).parts[0] not in layers:
            problems.append(f"{path.relative_to(root)}: its folder is not in src/layers.txt")
        else:
            problems += check_file(path, src, layers, per_family)
    return problems


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    if root.is_file():
        root = root.parent.parent
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
