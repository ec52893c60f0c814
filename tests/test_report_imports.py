"""Imported logs and scenes on the report: beside what was measured, in columns of their own."""

import re
from dataclasses import replace
from html import unescape

import pytest
from playwright.sync_api import sync_playwright

from harness.records import Phase, Role, StepRow, TrialRow
from harness.store.dataframes import open_store
from reports.render import render_run
from tests.fakes.command import fdbench
from tests.fakes.samples import step_line
from tests.fakes.stored import write_rows
from tests.test_report import TRIALS, make_run, pair_row, parity_rows, run_record, step_row, words

pytestmark = pytest.mark.unit

RECIPE = "self-forcing-wan2.1-t2v-1.3b-taehv"
FLASHVSR = "flashvsr-v1.1-sparse-ratio-2.0"
SCENE_CELL = f"{FLASHVSR}/gb200/official/640x480"


def write_log(path, diffuse, count=6, before=""):
    """A log with one diffuse time throughout."""
    lines = [before + step_line(ar, {"diffuse": diffuse, "finalize": 5.0}) for ar in range(count)]
    path.write_text("\n".join(lines) + "\n")
    return path


def bring(log, run, *words):
    """Import a log of an H100."""
    done = fdbench("import", log, "--into", run, "--gpu", "h100", *words)
    assert done.code == 0, done.err


def table_rows(page, section):
    """Cells of every table row of a section, as a reader sees them."""
    inside = re.search(rf'<section id="{section}">.*?</section>', page, re.DOTALL)[0]
    found = re.findall(r"<tr>(.*?)</tr>", inside, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in found]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", " ", c)).split()) for c in row] for row in cells]


@pytest.fixture
def measured(tmp_path):
    """A measured run whose only cell passes, 432 against 344 ms."""
    return make_run(tmp_path / "run", pair=pair_row(), parity=parity_rows([0.012] * 4)).folder


@pytest.mark.slow
def test_imported_log_stands_apart_from_what_was_measured(measured, tmp_path):
    """Its figure is in its own table; the measured table and its speed-up are as before."""
    before = table_rows(render_run(measured).read_text(), "latency")
    bring(
        write_log(tmp_path / "a.log", 111.0), measured, "--recipe", RECIPE, "--side", "flashdreams"
    )
    html = render_run(measured).read_text()
    markdown = (measured / "report" / "report.md").read_text()

    assert table_rows(html, "latency") == before
    assert ["111", "–", "total(w/o finalize), median from AR 2", "1"] in [
        row[-4:] for row in table_rows(html, "imported")
    ]
    assert "| 111 | – | total(w/o finalize), median from AR 2 | 1 |" in markdown
    assert re.search(r'href="\.\./imports/[^"]+/log\.txt"', html)


@pytest.mark.slow
def test_imported_log_is_read_as_far_as_a_measured_one(measured, tmp_path):
    """AR steps that the documented command does not run are in no figure of that name."""
    log = tmp_path / "long.log"
    lines = [step_line(ar, {"diffuse": 100.0 if ar < 7 else 900.0}) for ar in range(30)]
    log.write_text("\n".join(lines) + "\n")
    bring(log, measured, "--recipe", RECIPE, "--side", "flashdreams")
    rows = table_rows(render_run(measured).read_text(), "imported")

    assert ["100", "–", "total(w/o finalize), median from AR 2", "1"] in [row[-4:] for row in rows]


@pytest.mark.slow
def test_logs_of_one_side_are_its_processes(measured, tmp_path):
    """The figure is the median over logs; each log's own is beside it."""
    for ms in (100.0, 120.0, 170.0):
        log = write_log(tmp_path / f"{ms}.log", ms)
        bring(log, measured, "--recipe", RECIPE, "--side", "official")
    (row,) = [r for r in table_rows(render_run(measured).read_text(), "imported") if "3" in r[-1:]]

    assert row[3:5] == ["Official runner", "120 100 · 120 · 170"]


@pytest.mark.slow
def test_slowest_rank_is_beside_rank_0(measured, tmp_path):
    """The statistic is rank 0's; a slower rank is shown, not mixed in."""
    log = tmp_path / "ranks.log"
    one = write_log(tmp_path / "0.log", 100.0, before="[default0]:").read_text()
    other = write_log(tmp_path / "1.log", 107.0, before="[default1]:").read_text()
    log.write_text(one + other)
    bring(log, measured, "--recipe", RECIPE, "--side", "flashdreams", "--num-gpus", 2)
    (row,) = [r for r in table_rows(render_run(measured).read_text(), "imported") if len(r) == 8][
        1:
    ]

    assert row[1] == "2×H100"
    assert row[4:6] == ["100", "107"]


@pytest.mark.slow
def test_published_page_keeps_three_kinds_apart(measured, tmp_path):
    """Published, measured and parsed stand side by side; a parsed figure makes no speed-up."""
    bring(write_log(tmp_path / "a.log", 222.0), measured, "--recipe", RECIPE, "--side", "official")
    render_run(measured)
    head, columns, *rows = table_rows(
        (measured / "report" / "published.html").read_text(), "per-step"
    )
    of_cell = next(row for row in rows if row[1:3] == ["H100", "Official runner"])

    assert head[-3:] == ["Published (ms)", "Parsed from logs (ms)", "Measured here (ms)"]
    assert columns[3:] == [*["Upstream", "FlashDreams"] * 2, "Speedup"]
    assert of_cell[3:] == [
        "432",
        "344",
        "+26%",
        "222",
        "–",
        "432",
        "344",
        "+26% diffuse, median from AR 2",
    ]


@pytest.mark.slow
def test_log_of_another_number_of_gpus_is_not_beside_the_published_figure(measured, tmp_path):
    """The published LingBot row is of four GPUs: a log of one belongs to no row of that table."""
    log = write_log(tmp_path / "a.log", 555.0)
    bring(log, measured, "--recipe", "lingbot-world-fast", "--side", "official", "--num-gpus", 1)
    page = render_run(measured)

    assert "555" in words(page.read_text())
    assert "555" not in words(page.with_name("published.html").read_text())


def test_folder_of_logs_alone_shows_no_empty_sections(tmp_path):
    """There is nothing to say about verdicts, parity or machines there."""
    bring(
        write_log(tmp_path / "a.log", 1.5),
        tmp_path / "run",
        "--recipe",
        RECIPE,
        "--side",
        "official",
    )
    page = render_run(tmp_path / "run")
    text = words(page.read_text())

    assert "Nothing was measured here" in text
    assert "Parity per AR step" not in text + page.with_name("report.md").read_text()
    assert "fdbench run" not in text


def scene_run(folder):
    """A measured per-scene cell, GB200."""
    trials = [replace(trial, cell_id=SCENE_CELL) for trial in TRIALS]
    pair = pair_row(cell_id=SCENE_CELL, recipe=FLASHVSR, device="gb200")
    parity = [replace(row, cell_id=SCENE_CELL) for row in parity_rows([0.012] * 4)]
    run = run_record(suite="per-scene", device="gb200", cells=(SCENE_CELL,))
    made = make_run(folder, run=run, pair=pair, trials=(), parity=parity)
    write_rows(made, trials, TrialRow)
    for trial in trials:
        ms = 300.0 if trial.role == Role.REFERENCE else 150.0
        steps = [replace(step_row(trial, ar, ms), cell_id=SCENE_CELL) for ar in range(4)]
        made.write_rows(steps, StepRow, part=trial.trial_id)
    assert steps[-1].phase == Phase.STEADY
    return made


@pytest.mark.slow
def test_per_scene_table_has_the_measured_scene_beside_its_published_one(tmp_path):
    """The measured figure stands in the row of its own scene and in no other."""
    made = scene_run(tmp_path / "run")
    _, _, *rows = table_rows(render_run(made.folder).read_text(), "scenes")
    measured = {row[3]: row[4:] for row in rows if len(row) > 4}

    assert len(measured) == 6
    assert measured["640x480"][:3] == ["255.7", "132.5", "+93%"]
    assert measured["640x480"][3:] == ["300", "150", "+100% diffuse, median from AR 2"]
    assert all(row[3] == "–" for scene, row in measured.items() if scene != "640x480")
    assert (
        "| 640x480 | 255.7 | 132.5 | +93% | 300 | 150 | +100% |"
        in (made.folder / "report" / "report.md").read_text()
    )


def test_scenes_that_cannot_run_still_have_their_published_figures(tmp_path):
    """A suite of scenes shows the published table even where none of its cells could run."""
    run = run_record(cells=(), unsupported=((SCENE_CELL, "no runner yet"),))
    made = make_run(tmp_path / "run", run=run, trials=())
    _, _, *rows = table_rows(render_run(made.folder).read_text(), "scenes")

    assert [row[3] for row in rows][:2] == ["384x384", "672x384"]
    assert all("not in this run" in row[-1] for row in rows)


@pytest.mark.slow
def test_run_without_scenes_has_no_such_table(measured):
    """It would be about something else."""
    assert 'id="scenes"' not in render_run(measured).read_text()


@pytest.mark.parametrize("name", ["index.html", "published.html"])
@pytest.mark.parametrize("width", [420, 1280])
def test_pages_with_imports_open_without_overflow(chromium, measured, tmp_path, name, width):
    """A real browser shows both pages within the window, with nothing on its console."""
    bring(write_log(tmp_path / "a.log", 222.0), measured, "--recipe", RECIPE, "--side", "official")
    page_path, said = render_run(measured).with_name(name), []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.goto(page_path.as_uri())
        overflow_px = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        text = page.inner_text("main")
        browser.close()

    assert (said, overflow_px <= 0) == ([], True)
    assert "222" in text
    assert open_store(measured).imported_steps()["ar"].max() == 5
