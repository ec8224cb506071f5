"""The page of `hadal report` in a browser: it draws, and no text of a run becomes part of it."""

import html
import re
import shutil
import subprocess

import pytest

import watched_run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_page_draws_and_takes_no_orders(tmp_path):
    runs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        watched_run.train(tmp_path / name)
        runs.append(tmp_path / f"{name}-run")
        (tmp_path / name / "run").rename(runs[-1])
    page = tmp_path / "report.html"
    subprocess.run([watched_run.binary(), "report", *runs, "--out", page], check=True)
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser",
         "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True)  # fmt: skip
    dom = shown.stdout
    assert "<title>Training report</title>" in dom  # an onerror would have changed it
    body = dom[dom.index('<div id="report">') : dom.index('<script type="application/json"')]
    assert "<img" not in body and "<script" not in body
    assert html.escape(watched_run.ATTACK, quote=False) in body
    assert len(re.findall(r'class="curve"[^>]* d="M[^"]*L', body)) >= 10
    assert body.count("<canvas") >= 2
    assert "CONSOLE" not in shown.stderr, shown.stderr
