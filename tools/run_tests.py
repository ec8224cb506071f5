#!/usr/bin/env python3
"""Runs the GoogleTest executables of a build directory and adds up their results.

One line per executable, the text of each failure, the reasons of what was skipped; the last line is
"N passed, N failed, N skipped". An executable that crashes or hangs counts as one failed test. Exit
code 1 if any failed, or if nothing ran.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAIL_LINES = 40  # of an executable that crashed


class Counts:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        return self

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def failure_texts(output: str) -> list[str]:
    """What GoogleTest printed between RUN and FAILED of each failed test."""
    texts, current = [], []
    for line in output.splitlines():
        if line.startswith("[ RUN      ]"):
            current = [line[13:]]
        elif line.startswith("[  FAILED  ]") and current and line[13:].startswith(current[0]):
            texts.append("\n    ".join(current))
            current = []
        elif line.startswith("[") and "]" in line[:14]:
            current = []
        elif current:
            current.append(line)
    return texts


def skip_reasons(output: str) -> collections.Counter:
    """How many tests were skipped for each reason."""
    reasons = collections.Counter()
    lines = output.splitlines()
    for i, line in enumerate(lines):
        if line.endswith(": Skipped") and i + 1 < len(lines):
            reason = lines[i + 1].strip()
            reasons[reason if reason and reason[0] != "[" else "no reason given"] += 1
    return reasons


def count_report(report: pathlib.Path):
    """Counts of a GoogleTest JSON report, or None when the run did not end by itself."""
    try:
        suites = json.loads(report.read_text())["testsuites"]
    except (OSError, ValueError, KeyError):
        return None
    counts = Counts()
    for suite in suites:
        for test in suite["testsuite"]:
            if test.get("status") == "NOTRUN":
                continue  # outside the filter, or disabled
            if test.get("failures"):
                counts.failed += 1
            elif test.get("result") == "SKIPPED":
                counts.skipped += 1
            else:
                counts.passed += 1
    return counts


def report_line(name: str, counts: Counts, seconds: float) -> None:
    mark = "FAIL" if counts.failed else "ok  "
    print(f"{mark} {name:24} {counts}  ({seconds:.1f} s)", flush=True)


def run_executable(path: pathlib.Path, options) -> Counts:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.json"
        command = [*options.wrapper, str(path), f"--gtest_output=json:{report}"]
        if options.filter:
            command.append(f"--gtest_filter={options.filter}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            raw, _ = process.communicate(timeout=options.timeout)
            trouble = None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the programs it started
            raw, _ = process.communicate()
            trouble = f"stopped after {options.timeout} s"
        output = raw.decode("utf-8", "replace")
        counts = count_report(report)
    seconds = time.monotonic() - start
    if trouble is None and process.returncode < 0:
        trouble = f"died of signal {-process.returncode}"
    elif trouble is None and (counts is None or (process.returncode != 0 and not counts.failed)):
        trouble = f"exited with {process.returncode}"  # a sanitizer's report, say
    if trouble:
        counts = counts or Counts(len(re.findall(r"^\[       OK \]", output, re.M)),
                                  len(failure_texts(output)), skip_reasons(output).total())
        counts.failed += 1
    report_line(path.name, counts, seconds)
    for text in failure_texts(output):
        print(f"  {text}")
    if trouble:
        print(f"  {path.name} {trouble}; the end of its output:")
        print("\n".join("    " + line for line in output.splitlines()[-TAIL_LINES:]))
    for reason, number in skip_reasons(output).most_common():
        print(f"  {number} skipped: {reason}")
    return counts


def run_tools_tests() -> Counts:
    files = sorted({*ROOT.glob("tools/**/*_test.py"), *ROOT.glob("tools/**/test_*.py")})
    if not files:
        return Counts()
    start = time.monotonic()
    if subprocess.run([sys.executable, "-c", "import pytest"], capture_output=True).returncode:
        counts = Counts(skipped=1)
        report_line("tools", counts, 0)
        print("  1 skipped: python3-pytest is not installed")
        return counts
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.xml"
        run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                              f"--junitxml={report}", *map(str, files)],
                             cwd=ROOT, capture_output=True, text=True, errors="replace")
        try:
            suite = xml.etree.ElementTree.parse(report).getroot().find("testsuite").attrib
            failed = int(suite["failures"]) + int(suite["errors"])
            skipped = int(suite["skipped"])
            counts = Counts(int(suite["tests"]) - failed - skipped, failed, skipped)
        except (OSError, xml.etree.ElementTree.ParseError):
            counts = Counts(failed=1)
    report_line("tools", counts, time.monotonic() - start)
    if counts.failed:
        print(run.stdout + run.stderr)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build_dir", type=pathlib.Path)
    parser.add_argument("names", nargs="*", help="executables to run; default: all of the build")
    parser.add_argument("--filter", help="handed on as --gtest_filter")
    parser.add_argument("--wrapper", type=shlex.split, default=[], help="program to run each under")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one executable")
    parser.add_argument("--tools", action="store_true", help="run the tests of tools/ as well")
    options = parser.parse_args()

    binary = (options.build_dir / "hadal").resolve()
    if binary.exists():
        os.environ["HADAL_BINARY"] = str(binary)
    listed = (options.build_dir / "test_executables.txt").read_text().split()
    unknown = set(options.names) - set(listed)
    if unknown:
        parser.error(f"no such tests: {' '.join(sorted(unknown))}; there are: {' '.join(listed)}")

    total = Counts()
    for name in options.names or listed:
        total += run_executable(options.build_dir / name, options)
    if options.tools and not options.names:
        total += run_tools_tests()
    if "HADAL_COUNTS" in os.environ:  # tools/ci.sh adds up several runs
        with open(os.environ["HADAL_COUNTS"], "a", encoding="utf-8") as out:
            out.write(f"{total}\n")
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
