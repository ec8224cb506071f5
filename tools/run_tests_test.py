import os
import pathlib
import subprocess
import sys

import pytest

RUN_TESTS = pathlib.Path(__file__).parent / "run_tests.py"
REPORT = """{"testsuites": [{"testsuite": [
  {"name": "a", "status": "RUN", "result": "COMPLETED"},
  {"name": "b", "status": "RUN", "result": "COMPLETED", "failures": [{"failure": "x"}]},
  {"name": "c", "status": "RUN", "result": "SKIPPED"},
  {"name": "d", "status": "NOTRUN", "result": "SUPPRESSED"}]}]}"""


@pytest.fixture(name="run")
def make_run(tmp_path):
    """A function that runs run_tests.py on one executable, a shell script; returns code and lines."""
    # What it counts here is no result of the run that this test belongs to.
    environment = {k: v for k, v in os.environ.items() if k != "HADAL_COUNTS"}

    def run(script, *arguments):
        (tmp_path / "test_executables.txt").write_text("x_tests\n")
        program = tmp_path / "x_tests"
        program.write_text("#!/bin/bash\nreport=${1#--gtest_output=json:}\n" + script)
        program.chmod(0o755)
        done = subprocess.run([sys.executable, RUN_TESTS, tmp_path, *arguments],
                              env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()
    return run


def test_counts_come_from_the_report(run):
    code, lines = run(f"cat >$report <<'END'\n{REPORT}\nEND\n"
                      "echo '[ RUN      ] a.b'\necho 'x.cpp:3: Failure'\n"
                      "echo '[  FAILED  ] a.b (0 ms)'\n"
                      "printf 'x.cpp:9: Skipped\\nno such data\\n'\nexit 1\n")
    assert code == 1
    assert lines[-1] == "1 passed, 1 failed, 1 skipped"
    assert "  a.b" in lines and "    x.cpp:3: Failure" in lines
    assert "  1 skipped: no such data" in lines


def test_a_crash_is_a_failure_and_what_passed_before_counts(run):
    code, lines = run("echo '[       OK ] a.a (0 ms)'\nkill -SEGV $$\n")
    assert (code, lines[-1]) == (1, "1 passed, 1 failed, 0 skipped")
    assert any("died of signal 11" in line for line in lines)


def test_a_bad_exit_after_good_tests_is_a_failure(run):
    good = REPORT.replace(', "failures": [{"failure": "x"}]', "")
    code, lines = run(f"cat >$report <<'END'\n{good}\nEND\nexit 66\n")
    assert (code, lines[-1]) == (1, "2 passed, 1 failed, 1 skipped")


def test_a_hang_is_stopped_and_a_failure(run):
    code, lines = run("sleep 100\n", "--timeout", "0.5")
    assert (code, lines[-1]) == (1, "0 passed, 1 failed, 0 skipped")


def test_running_nothing_is_not_success(run):
    code, lines = run("echo '{\"testsuites\": []}' >$report\n")
    assert (code, lines[-1]) == (1, "0 passed, 0 failed, 0 skipped")
