"""The page itself: the same bytes each time, nothing loaded from elsewhere, no overflow."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from harness import store
from harness.errors import IntegrityFault, UsageFault
from reports.render import render_run
from tests.test_report import TRIALS, make_run, pair_row, parity_rows, passing_run, rendered


def test_second_render_gives_the_same_bytes(tmp_path):
    """Neither the time of rendering nor the order of a set gets into the files."""
    made = passing_run(tmp_path / "run")
    first = rendered(made)
    call = "import sys, pathlib, reports.render as r; r.render_run(pathlib.Path(sys.argv[1]))"
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", call, str(made.folder)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parent.parent,
        )
        report = made.folder / "report"
        again = tuple((report / name).read_text("utf-8") for name in ("index.html", "report.md"))
        assert again == first


def test_page_loads_nothing_and_links_to_logs_that_exist(tmp_path):
    """Every address is relative or on the page; a log that is missing is not linked."""
    made = passing_run(tmp_path / "run")
    log = made.folder / "logs" / TRIALS[0].trial_id / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("AR 0\n")

    html, _ = rendered(made)
    addresses = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', html)
    assert f"../logs/{TRIALS[0].trial_id}/log.txt" in addresses
    assert all(
        address.startswith(("#", "../")) or address == "published.html" for address in addresses
    )
    assert not re.search(r"<script|@import|url\((?!#)", html)
    assert "its log is not here" in html


def test_folder_without_a_run_and_broken_run_file_are_refused(tmp_path):
    """The two things that leave nothing to show are named, not traced back."""
    with pytest.raises(UsageFault, match="not a run"):
        render_run(tmp_path)
    (tmp_path / store.RUN_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityFault, match="not JSON"):
        render_run(tmp_path)
    (tmp_path / store.RUN_FILE).write_text('{"suite": "smoke"}', encoding="utf-8")
    with pytest.raises(IntegrityFault, match="without a schema version"):
        render_run(tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to open the page with")
@pytest.mark.parametrize("width", [420, 1280])
def test_page_opens_in_a_browser_without_overflow_or_error(tmp_path, width):
    """A real browser shows the latency table, within the window, with nothing on its console."""
    made = make_run(
        tmp_path / "run", pair=pair_row(reason="x" * 300), parity=parity_rows([0.012] * 4)
    )
    page_path, said, asked = render_run(made.folder), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        table = page.locator("#latency table")
        is_shown, cells = table.is_visible(), table.inner_text()
        browser.close()

    assert said == []
    assert asked == [page_path.as_uri()]
    assert overflow_px <= 0
    assert is_shown
    assert "+26%" in cells
