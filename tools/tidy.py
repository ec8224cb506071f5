#!/usr/bin/env python3
"""clang-tidy on the folders of src/ that changed, for a limited time.

Checks every source of a folder in which a file changed since BASE (see --base), the changed files
first; tests and benchmarks are left out. What has passed before, to the letter, is remembered in
the user's cache and not checked again. Starts no file after --budget seconds: what is left counts
as skipped, not as failed. Exit code 1 if a file fails.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "hadal/tidy"
TIDY, CLANG = "clang-tidy-14", "clang++-14"


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def default_base() -> str:
    """Where this branch left origin/main; on main itself the commit before; "" when there is none."""
    base = git("merge-base", "HEAD", "origin/main")
    if not base or base == git("rev-parse", "HEAD"):
        base = git("rev-parse", "--verify", "--quiet", "HEAD~1")
    return base


def changed_files(base: str) -> set[pathlib.Path] | None:
    """Files of src/ with a change since base; None means all."""
    if not base:
        return None
    return {ROOT / name for name in git("diff", "--name-only", base, "--", "src").splitlines()}


def sources(build_dir: pathlib.Path, changed: set[pathlib.Path] | None) -> list[dict]:
    """Entries of the compilation database to check: changed files, then the others, newest first."""
    folders = changed and {path.relative_to(ROOT / "src").parts[0] for path in changed}
    chosen = []
    for entry in json.loads((build_dir / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        if not path.is_relative_to(ROOT / "src") or path.stem.endswith(("_test", "_bench")):
            continue
        if "HADAL_EMULATED" in entry["command"]:
            continue  # the same text as the real family's
        if folders is None or path.relative_to(ROOT / "src").parts[0] in folders:
            chosen.append(entry)

    def order(entry: dict) -> tuple:
        path = pathlib.Path(entry["file"])
        return (path not in (changed or ()), -path.stat().st_mtime)

    return sorted(chosen, key=order)


def clang_arguments(entry: dict) -> list[str]:
    """The compile command's flags, without launcher, compiler, output and dependency files."""
    words = iter(shlex.split(entry["command"]))
    flags = []
    for word in words:
        if word in ("-o", "-c", "-MF", "-MT"):
            next(words)
        elif word.startswith(("-I", "-isystem", "-D", "-std", "-m", "-f", "-O", "-W")):
            flags.append(word)
            if word in ("-isystem", "-I", "-D"):
                flags.append(next(words))
    return flags


def check(entry: dict, deadline: float) -> tuple[str, str]:
    """("ok" | "cached" | "late" | "failed", output)"""
    if time.monotonic() > deadline:
        return "late", ""
    command = [entry["file"], "--", "-w", *clang_arguments(entry)]
    text = subprocess.run([CLANG, "-E", "-C", *command[2:], command[0]], cwd=entry["directory"],
                          capture_output=True, check=False).stdout
    key = hashlib.sha256((ROOT / ".clang-tidy").read_bytes() + text).hexdigest()
    if text and (CACHE / key).exists():
        return "cached", ""
    done = subprocess.run([TIDY, "--quiet", *command], cwd=entry["directory"], capture_output=True,
                          text=True, errors="replace", check=False)
    if done.returncode:
        return "failed", done.stdout
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / key).touch()
    return "ok", ""


def print_new(output: str, seen: set[str]) -> None:
    """Prints each finding once, however many files include the header it is in."""
    block: list[str] = []
    for line in [*output.splitlines(), "/end: error: "]:
        if line.startswith("/") and ": error: " in line:
            text = "\n".join(block)
            if text and text not in seen:
                seen.add(text)
                print(text)
            block = []
        block.append(line)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build_dir", type=pathlib.Path, help="holds compile_commands.json")
    parser.add_argument("--base", help="commit to compare with; default: the merge base with "
                        "origin/main, on main the commit before; `none`: check everything")
    parser.add_argument("--budget", type=float, default=600, help="seconds")
    options = parser.parse_args()

    base = default_base() if options.base is None else options.base.replace("none", "")
    entries = sources(options.build_dir, changed_files(base))
    deadline = time.monotonic() + options.budget
    seen: set[str] = set()
    results = {"ok": 0, "cached": 0, "late": 0, "failed": 0}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for status, output in pool.map(lambda e: check(e, deadline), entries):
            results[status] += 1
            print_new(output, seen)
    print(f"clang-tidy: {results['ok']} good, {results['cached']} good before, "
          f"{results['failed']} bad, {results['late']} not reached in {options.budget:.0f} s")
    if "HADAL_COUNTS" in os.environ:  # tools/ci.sh adds up several runs
        with open(os.environ["HADAL_COUNTS"], "a", encoding="utf-8") as out:
            out.write(f"{results['ok'] + results['cached']} passed, {results['failed']} failed, "
                      f"{results['late']} skipped\n")
    return 1 if results["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
