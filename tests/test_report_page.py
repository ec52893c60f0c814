"""The page itself: the same bytes each time, nothing loaded from elsewhere, no overflow."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from harness.errors import IntegrityFault, UsageFault
from harness.records import Phase
from harness.store.run import RUN_FILE
from reports.latency import latency_of
from reports.page import build_page
from reports.render import render_run
from reports.run_view import CellView, read_view
from reports.stages import stage_table
from tests.fakes.command import fdbench
from tests.test_report import (
    CELL,
    TRIALS,
    make_run,
    pair_row,
    parity_rows,
    passing_run,
    rendered,
    step_row,
    words,
)

pytestmark = pytest.mark.unit

RESULTS = Path(__file__).parent.parent / "docs" / "results"


@pytest.mark.contract
@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_altered_times_are_compared_with_nothing(tmp_path):
    """A readable table that is not what was measured gives no verdict, no speed-up and a 7."""
    made = passing_run(tmp_path / "run")
    table = made.folder / "steps" / f"{TRIALS[0].trial_id}.parquet"
    shutil.copy(made.folder / "steps" / f"{TRIALS[1].trial_id}.parquet", table)
    logs = made.folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / "foreign.txt").write_text("not of this run", encoding="utf-8")
    done = fdbench("report", made.folder)
    html, markdown = ((made.folder / "report" / n).read_text() for n in ("index.html", "report.md"))

    assert done.code == 7
    assert f"steps/{TRIALS[0].trial_id}.parquet was altered after the run" in words(html)
    assert "foreign.txt is not in MANIFEST.jsonl" in words(html)
    assert "pass 0 fail 0 incomplete 1 of 1 planned" in words(html)
    assert "| incomplete |" in markdown
    assert not re.search(r"[+-]\d+%", html + markdown)


def test_profiled_process_is_in_no_stage_time(tmp_path):
    """A profiler slows what it watches: its step is no median of the breakdown either."""
    steps = [step_row(trial, 0, ms) for trial, ms in zip(TRIALS, (432.0, 344.0), strict=True)]
    slow = replace(step_row(TRIALS[1], 0, 900.0), phase=Phase.PROFILED, trial_id="other")
    cell = CellView(cell_id=CELL, pair=pair_row(), trials=TRIALS, steps=(*steps, slow), parity=())

    diffuse = next(row for row in stage_table(cell, "").rows if row.stage == "diffuse")
    assert (diffuse.upstream_ms, diffuse.flashdreams_ms) == (432.0, 344.0)


def test_stage_of_a_cell_without_a_verdict_is_not_compared(tmp_path):
    """What the latency table withholds, the breakdown does not offer either."""
    steps = tuple(step_row(trial, 0, ms) for trial, ms in zip(TRIALS, (432.0, 344.0), strict=True))

    def build(cell):
        return stage_table(cell, latency_of(cell)[-1].withheld)

    judged = CellView(cell_id=CELL, pair=pair_row(), trials=TRIALS, steps=steps, parity=())
    compared = [
        {row.stage: row.compared for row in build(cell).rows}["diffuse"]
        for cell in (judged, replace(judged, pair=None))
    ]

    assert compared == ["by denoising step", "no, no verdict"]


@pytest.mark.slow
def test_flashdreams_against_itself_has_no_upstream(tmp_path):
    """Nor does an AR step that the suite left out of the captures look as if it were missing."""
    run = shutil.copytree(RESULTS / "h100-overhead", tmp_path / "run")
    text = words(render_run(run).read_text("utf-8"))

    assert "Reference (ms) Candidate (ms)" in text
    assert text.count("not captured") == 17
    assert "within 0.5x the noise floor, where captured." in text
    assert "upstream" not in text.lower()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        pytest.param("h200", "2 × NVIDIA H200,", id="one-card-a-day"),
        pytest.param("h100-overhead", "on NVIDIA H100 80GB HBM3,", id="one-of-two"),
    ],
)
def test_page_counts_the_gpus_that_were_used(name, gpus):
    """Not those of the machine: workers on alike ones may have had other cards, or one of two."""
    page = build_page(read_view(RESULTS / name))

    assert gpus in f"on {page.host}"


def test_folder_without_a_run_and_broken_run_file_are_refused(tmp_path):
    """The two things that leave nothing to show are named, not traced back."""
    with pytest.raises(UsageFault, match="not a run"):
        render_run(tmp_path)
    (tmp_path / RUN_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityFault, match="not JSON"):
        render_run(tmp_path)
    (tmp_path / RUN_FILE).write_text('{"suite": "smoke"}', encoding="utf-8")
    with pytest.raises(IntegrityFault, match="without a schema version"):
        render_run(tmp_path)


@pytest.mark.parametrize("width", [420, 1280])
def test_page_opens_in_a_browser_without_overflow_or_error(chromium, tmp_path, width):
    """A real browser shows the latency table, within the window, with nothing on its console."""
    made = make_run(
        tmp_path / "run", pair=pair_row(reason="x" * 300), parity=parity_rows([0.012] * 4)
    )
    page_path, said, asked = render_run(made.folder), [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
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
