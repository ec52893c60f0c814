"""The seed's tables as data: every figure, every percentage, and what they really measure."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.plan import suites
from harness.plan.published import load_published
from harness.records import Role
from reports.published_page import build_published, figures_of, per_scene, read_log
from reports.run_view import read_view

pytestmark = pytest.mark.unit

PUBLISHED = load_published()
RESULTS = Path(__file__).parent.parent / "docs" / "results"


@pytest.fixture(scope="module")
def committed():
    """The run on an H200 that the repository holds."""
    return read_view(RESULTS / "h200")


def test_the_tables_are_complete():
    """Six comparisons on three devices, and six scenes on one."""
    cells = {(row.recipe, row.baseline, row.device) for row in PUBLISHED.per_step}
    assert len(PUBLISHED.per_step) == len(cells) == 18
    assert {row.device for row in PUBLISHED.per_step} == {"h100", "gb200", "gb300"}
    assert len({row.scene for row in PUBLISHED.per_scene}) == 6


@pytest.mark.parametrize(
    "row", PUBLISHED.per_step, ids=lambda row: f"{row.recipe}-{row.device}-{row.baseline}"
)
def test_every_printed_speedup_follows_from_its_figures(row):
    """(upstream - FlashDreams) / FlashDreams, rounded to the integer, is what the page prints."""
    assert round(row.recomputed_percent) == row.speedup_percent


@pytest.mark.parametrize(
    ("scene", "percent"),
    [
        ("384x384", 75),
        ("672x384", 106),
        ("384x672", 63),
        ("640x480", 93),
        ("768x416", 59),
        ("1280x704", 42),
    ],
)
def test_scene_speedups_follow_from_their_figures(scene, percent):
    """The per-scene table prints no percentage; these follow from its two columns."""
    (row,) = [row for row in PUBLISHED.per_scene if row.scene == scene]
    assert round(row.recomputed_percent) == percent


def test_every_row_names_a_known_recipe_device_and_baseline():
    """A published figure belongs to a cell that fdbench can list."""
    recipes, devices = suites.load_recipes().recipes, suites.load_devices()
    for row in (*PUBLISHED.per_step, *PUBLISHED.per_scene):
        assert row.device in devices
        assert row.baseline in recipes[row.recipe].baselines
        assert row.gpus == recipes[row.recipe].gpus
        assert row.measures
        assert row.source


def test_every_published_cell_is_in_its_suite():
    """``per-step`` and ``per-scene`` hold the cells of the published tables, ``per-step`` more."""
    for name, rows in (("per-step", PUBLISHED.per_step), ("per-scene", PUBLISHED.per_scene)):
        _, suite = suites.load_suite(name)
        cells = {(cell.recipe, cell.baseline, cell.scene) for cell in suite.cells}
        published = {(row.recipe, row.baseline, row.scene) for row in rows}
        assert published <= cells
        assert name == "per-step" or published == cells


def test_the_h100_log_gives_another_figure_than_the_page():
    """By the stated statistic 318.658 ms; the printed 344 is ``diffuse`` of AR 5, 343.706 ms."""
    (log,) = PUBLISHED.raw_logs
    reading = read_log(log)

    assert reading.stated_ms == pytest.approx(318.658, abs=5e-4)
    assert reading.cited_ms == pytest.approx(343.706, abs=5e-4)
    assert round(reading.cited_ms) == log.published_ms


def test_the_page_keeps_published_and_measured_apart(smoke_run):
    """The report's second page has all 24 lines, and no figure of a tiny run among them."""
    page = (smoke_run.folder / "report" / "published.html").read_text()

    assert page.count("not in this run</small>") == 24
    assert "318.658" in page
    assert "343.706" in page
    assert page.count("<svg") >= 4
    assert not re.search(r"<t[dh][^>]*–", page), "a dash for nothing stands inside a tag"


def test_ratios_of_an_unpublished_gpu_stand_beside_the_published_ones(committed):
    """An H200 has no published line, so its milliseconds are beside none and its ratio is."""
    page = build_published(committed, figures_of(committed.cells))
    pairs = {(pair.recipe, pair.baseline): pair for pair in page.elsewhere}
    pair = pairs["self-forcing-wan2.1-t2v-1.3b-taehv", "official"]

    assert {row.device: round(row.recomputed_percent) for row in pair.published} == {
        "h100": 26,
        "gb200": 72,
        "gb300": 47,
    }
    assert {row.device for row in pair.measured} == {"h200"}
    assert [row.figure for row in pair.measured] == [
        "diffuse, AR 5 alone",
        "diffuse, median from AR 2",
        "diffuse, steady state",
    ]
    assert not any(row.measured for row in page.per_step)


@pytest.mark.slow
def test_published_statistic_comes_first_where_it_was_measured():
    """The H100's line holds AR 5 alone, as the footnote has it, before this project's figures."""
    evidence = read_view(RESULTS / "h100")
    page = build_published(evidence, figures_of(evidence.cells))
    lines = {
        (row.published.recipe, row.published.baseline): row for row in page.per_step if row.measured
    }
    line = lines["self-forcing-wan2.1-t2v-1.3b-taehv", "official"]
    first, *others = line.measured

    assert (line.published.device, first.figure, first.window) == (
        "h100",
        "diffuse, AR 5 alone",
        "AR 5",
    )
    assert [row.window for row in others] == ["AR 2–6", "AR 8–17"]
    (cell,) = [cell for cell in evidence.cells if cell.cell_id == first.cell_id]
    steps = [step for side in cell.processes(Role.CANDIDATE) for step in side if step.ar == 5]
    assert first.flashdreams_each_ms == tuple(step.stages_ms["diffuse"] for step in steps)
    assert len(steps) == 5


def test_statistic_of_streaming_recipes_is_of_no_other(committed):
    """Where the page prints the time of a chunk or a denoising step, AR 5 is not that."""
    (cell,) = [cell for cell in committed.cells if cell.cell_id.endswith("-taehv/h200/official")]
    scene = replace(cell, pair=replace(cell.pair, recipe="flashvsr-v1.1-sparse-ratio-2.0"))

    assert next(row.figure for row in figures_of([cell])) == "diffuse, AR 5 alone"
    assert not any("alone" in row.figure for row in figures_of([scene]))


@pytest.mark.slow
def test_measured_on_a_published_gpu_is_in_that_line_alone(committed):
    """What has a published line stands in it, and variants of a pair stand in none."""
    rows = [replace(row, device="h100") for row in figures_of(committed.cells)]
    page = build_published(committed, rows)
    filled = [row for row in page.per_step if row.measured]

    assert page.elsewhere == ()
    assert {row.published.device for row in filled} == {"h100"}
    assert {row.variant for line in filled for row in line.measured} == {""}


@pytest.mark.slow
@pytest.mark.parametrize("why", ["withheld", "tiny"])
def test_nothing_unproven_stands_beside_a_published_figure(committed, why):
    """Neither times of outputs that differ, nor those of a tiny model."""
    evidence = committed
    rows = figures_of(committed.cells)
    if why == "withheld":
        rows = [replace(row, withheld="outputs differ", speedup_percent=None) for row in rows]
    else:
        evidence = replace(committed, record=replace(committed.record, size="tiny"))
    here, there = (
        build_published(evidence, [replace(row, device=device) for row in rows])
        for device in ("h100", "h200")
    )

    assert here.elsewhere == there.elsewhere == ()
    assert not any(row.measured for page in (here, there) for row in page.per_step)


def test_variants_are_no_scenes(committed):
    """A cell that decodes is not a cell of another input size."""
    assert any(cell.variant for cell in committed.cells)
    assert per_scene(committed, []) == ()
