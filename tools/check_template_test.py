"""Generated templates come out of `hadal template` as out of Jinja2 (where that is installed)."""

import os
import pathlib
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).resolve().parent


@pytest.mark.parametrize("seed", [1, 2])
def test_generated_templates(seed):
    pytest.importorskip("jinja2")
    if "HADAL_BINARY" not in os.environ:
        pytest.skip("HADAL_BINARY does not name the program")
    done = subprocess.run([sys.executable, TOOLS / "check_template.py", os.environ["HADAL_BINARY"], "--seed", str(seed), "--cases", "60"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
