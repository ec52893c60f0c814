"""Statistics with their definitions, and ``fdbench parse``, which prints them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judging import stats
from harness.records import Phase
from harness.store.run import open_run
from harness.units import format_counted, format_interval, format_percent, speedup_percent
from reports.latency import latency_rows
from tests.fakes.command import fdbench
from tests.fakes.samples import step_line

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden" / "flashdreams_0_1_0_h200_self_forcing_14_blocks.log"
RECIPE = ("--recipe", "self-forcing-wan2.1-t2v-1.3b-taehv", "--gpu", "h200")
RESULTS = Path(__file__).parent.parent / "docs" / "results" / "h200"
CELL = "self-forcing-wan2.1-t2v-1.3b-taehv/h200/official"
STAGES = {"encode": 0.016, "diffuse": 343.706, "finalize": 74.226}


def steps(*values, phase=Phase.STEADY):
    """Timed steps from AR 0 on."""
    return [(ar, phase, value) for ar, value in enumerate(values)]


def test_seed_statistic_drops_the_first_two_steps():
    """Compile time never enters the seed's median."""
    statistic = stats.seed_statistic(steps(9e9, 9e9, 1.0, 2.0, 4.0))

    assert (statistic.value_ms, statistic.ar_first, statistic.num_steps) == (2.0, 2, 3)


def test_steady_statistic_takes_steady_steps_only():
    """Neither a filling window nor the capture of the graph counts as steady."""
    mixed = [(0, Phase.FILLING, 1.0), (1, Phase.CAPTURE, 9.0), (2, Phase.STEADY, 5.0)]

    assert stats.steady_statistic(mixed).value_ms == 5.0
    assert stats.steady_statistic(mixed[:2]).value_ms is None


def test_statistic_says_what_it_is():
    """Its definition is what a reader of the page or of a JSON goes by."""
    seed, steady = stats.seed_statistic(steps(*[1.0] * 9), 7), stats.steady_statistic(())

    assert seed.definition == (
        "the first 2 AR steps dropped, and those after the 7 of the documented command"
    )
    assert steady.definition == "median of steady steps"


@pytest.mark.parametrize("count", [pytest.param(0, id="none"), pytest.param(2, id="warm-up-only")])
def test_statistic_of_nothing_is_none(count):
    """A statistic without steps has no value and no window, instead of a zero."""
    statistic = stats.seed_statistic(steps(*[1.0] * count))

    assert (statistic.value_ms, statistic.ar_first, statistic.ar_last) == (None, None, None)
    assert statistic.num_steps == 0


@given(st.lists(st.floats(0.001, 1e6), min_size=3, max_size=40), st.randoms())
def test_median_lies_within_its_steps_in_any_order(values, shuffle):
    """The median is a value that half the steps do not exceed, whatever the order."""
    ordered, mixed = steps(*values), steps(*values)
    shuffle.shuffle(mixed)
    value = stats.seed_statistic(mixed).value_ms

    assert value == stats.seed_statistic(ordered).value_ms
    assert min(values[2:]) <= value <= max(values[2:])
    assert sum(v <= value for v in values[2:]) * 2 >= len(values[2:])


@pytest.mark.parametrize(
    ("denoise_ms", "median_ms"),
    [
        pytest.param((99.0, 1.0, 2.0, 3.0), 2.0, id="first-dropped"),
        pytest.param((99.0, 1.0), 1.0, id="one-is-left"),
        pytest.param((99.0,), None, id="warm-up-only"),
        pytest.param((), None, id="none"),
    ],
)
def test_denoising_step_drops_its_warm_up(denoise_ms, median_ms):
    """The figure of a bidirectional recipe leaves out its first denoising step."""
    assert stats.denoising_step_ms(denoise_ms) == median_ms


@pytest.mark.parametrize(
    ("upstream_ms", "flashdreams_ms", "percent"),
    [
        pytest.param(432, 344, 26, id="seed-h100"),
        pytest.param(350, 203, 72, id="seed-gb200"),
        pytest.param(100, 100, 0, id="equal"),
        pytest.param(100, 125, -20, id="slower"),
    ],
)
def test_speedup_is_the_seeds(upstream_ms, flashdreams_ms, percent):
    """Speed-up is relative to FlashDreams' own time, in percent."""
    assert round(speedup_percent(upstream_ms, flashdreams_ms)) == percent


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (26.4, "+26%"),
        (-3.1, "-3%"),
        (0.96, "+1%"),
        (0.26, "+0.3%"),
        (-0.24, "-0.2%"),
        (-0.01, "+0.0%"),
    ],
)
def test_speedup_near_nothing_is_shown_in_tenths(value, shown):
    """Rounded to whole percent it would read as a signed zero."""
    assert format_percent(value) == shown


def test_interval_around_nothing_has_no_signed_zero():
    """Minus nothing would look like a direction."""
    assert format_interval((-0.04, 0.04)) == "+0.0 to +0.0%"


def test_alike_gpus_are_counted():
    """A host of two says so in one word."""
    assert format_counted(["H100", "H100", "Xeon"]) == "2 × H100, Xeon"


def test_parse_prints_every_step_and_both_statistics():
    """Fourteen rows with phases, then two labelled figures, each with its AR window."""
    done = fdbench("parse", GOLDEN, *RECIPE)
    rows = [line.split() for line in done.out.splitlines() if line.split()[:1] != []]
    phases = [row[1] for row in rows if row[0].isdigit()]

    assert done.code == 0
    assert phases == ["filling"] * 7 + ["capture"] + ["steady"] * 6
    assert "median from AR 2: 317.811 ms (AR 2–6; " in done.out
    assert "after the 7 of the documented command" in done.out
    assert "steady state: 328.081 ms (AR 8–13" in done.out


def test_parse_of_the_first_blocks_has_no_steady_state():
    """Seven blocks end before the window is full, and the output says so."""
    done = fdbench("parse", GOLDEN, *RECIPE, "--blocks", 7)

    assert "median from AR 2: 317.811 ms (AR 2–6" in done.out
    assert "steady state: none" in done.out
    assert "from AR 8 on" in done.out


def test_parse_of_two_blocks_gives_the_right_reason():
    """Two blocks are the seed's warm-up; the full window has nothing to do with that figure."""
    done = fdbench("parse", GOLDEN, *RECIPE, "--blocks", 2)
    said = next(line for line in done.out.splitlines() if line.startswith("median from AR 2"))

    assert said == "median from AR 2: none; the log ends before AR 2"


def test_parse_of_a_recipe_of_one_step_gives_the_right_reason():
    """Its documented command has no AR step that the figure could be of, whatever the log has."""
    wan = ("--recipe", "wan21-t2v-1.3b-480p", "--gpu", "h200")
    out = fdbench("parse", GOLDEN, *wan).out

    assert "median from AR 2: none; the recipe's documented command ends before AR 2" in out


def test_parse_and_report_say_the_same_of_one_process():
    """The figure's name and AR steps are those of the measured run whose log it is."""
    (log,) = RESULTS.glob("logs/*-taehv.h200.official.candidate.*.0/log.txt")
    done = fdbench("parse", log, *RECIPE, "--json")
    figure, _ = json.loads(done.out)["statistics"]
    rows = latency_rows(open_run(RESULTS))
    (row,) = [r for r in rows if r.cell_id == CELL and r.figure == f"diffuse, {figure['name']}"]

    assert row.window == f"AR {figure['ar_first']}–{figure['ar_last']}" == "AR 2–6"
    assert figure["value_ms"] == pytest.approx(row.flashdreams_each_ms[0], rel=1e-3)


def test_parse_keeps_the_figures_of_many_stages(tmp_path):
    """Eight stages do not fit eighty columns; no figure is cut for that."""
    names = ("pad", "bicubic", "projector", "dit_concat", "denoise", "decoder", "color", "finalize")
    stages_ms = {name: 1234.125 + number for number, name in enumerate(names)}
    log = tmp_path / "flashvsr.log"
    log.write_text(step_line(0, stages_ms) + "\n")

    out = fdbench("parse", log, *RECIPE).out

    assert [f"{ms:.3f}" for ms in stages_ms.values() if f"{ms:.3f}" not in out] == []


def test_parse_prints_a_path_as_it_is(tmp_path):
    """Brackets in a file name are no markup."""
    log = tmp_path / "[bold]x[" / "a.log"
    log.parent.mkdir()
    log.write_text(step_line(0, STAGES) + "\n")

    assert str(log) in fdbench("parse", log, *RECIPE).out


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"loading checkpoint\n", id="no-steps"),
        pytest.param(b"\0\1\2" * 100, id="binary"),
        pytest.param(GOLDEN.read_bytes()[:-200], id="truncated"),
        pytest.param(f"[default1]:{step_line(0, STAGES)}\n".encode(), id="rank-1-only"),
    ],
)
def test_parse_refuses_a_damaged_log(tmp_path, content):
    """A log nothing may be concluded from exits 7 with one message."""
    log = tmp_path / "a.log"
    log.write_bytes(content)

    done = fdbench("parse", log, *RECIPE)

    assert (done.code, done.out) == (7, "")
    assert done.err.startswith(f"fdbench: {log}: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("missing.log", *RECIPE), "missing.log", id="missing-file"),
        pytest.param((GOLDEN.parent, *RECIPE), "directory", id="folder"),
        pytest.param(
            (GOLDEN, "--recipe", "self-forcing-wan2.1-t2v-1.3b-tehv", "--gpu", "h200"),
            "self-forcing-wan2.1-t2v-1.3b-taehv",
            id="unknown-recipe",
        ),
        pytest.param((GOLDEN, *RECIPE[:3], "h20"), "h200", id="unknown-device"),
        pytest.param((GOLDEN, *RECIPE, "--blocks", "0"), "blocks", id="no-blocks"),
        pytest.param((GOLDEN,), "--recipe", id="no-recipe"),
    ],
)
def test_parse_refuses_a_request_that_makes_no_sense(arguments, said):
    """A wrong request exits 2 and names what to type instead."""
    done = fdbench("parse", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
