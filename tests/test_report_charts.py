"""Charts say what their figures are: speed-up and interval, why there is none, kind of axis."""

import re
from dataclasses import replace
from html import unescape

import pytest

from harness.records import Phase, Role
from reports.bars import grouped_bars, latency_charts
from reports.charts import step_chart
from reports.latency import LatencyRow
from reports.side_names import known_names
from tests.test_measurement import CONTROL, cell, steps_of
from tests.test_report import passing_run, rendered

pytestmark = pytest.mark.unit

NAMES = known_names()
SOUND = LatencyRow(
    cell_id="self-forcing/h100/official",
    recipe="self-forcing",
    device="h100",
    baseline="official",
    candidate="flashdreams",
    variant="",
    figure="diffuse, median from AR 2",
    window="AR 2–6",
    upstream_ms=432.0,
    flashdreams_ms=344.0,
    speedup_percent=25.6,
    interval_percent=(24.1, 27.3),
    withheld="",
    upstream_each_ms=(432.0,) * 5,
    flashdreams_each_ms=(344.0,) * 5,
)
CLOCKS = "clocks differ by 0.57 %"
WITHHELD = replace(SOUND, speedup_percent=None, interval_percent=None, withheld=CLOCKS)


def texts(svg):
    """Every piece of text of a drawing, in the order it was drawn."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def hatched(svg):
    """How many shapes are filled with a pattern of the drawing."""
    patterns = re.findall(r'<pattern id="([^"]+)"', svg)
    return sum(svg.count(f"fill: url(#{pattern})") for pattern in patterns)


def test_speedup_stands_at_the_bars_with_its_interval():
    """A difference and how sure it is are read in one place."""
    (chart,) = latency_charts([SOUND], NAMES)

    assert "speed-up +26%, 95 % interval +24.1 to +27.3%" in texts(chart.svg)
    assert hatched(chart.svg) == 0
    assert "Hatched" not in chart.caption


def test_axis_and_caption_are_of_what_is_drawn():
    """Neither a control's cold start nor a profiled step is a point, or a word under the chart."""
    plain = cell(ar_steps=4)
    candidate = [step for step in plain.steps if step.role == Role.CANDIDATE]
    slow = {"stages_ms": {"diffuse": 77777.0}}
    foreign = [replace(step, **slow) for step in steps_of(CONTROL, 344.0)]
    profiled = replace(candidate[-1], ar=4, phase=Phase.PROFILED, **slow)
    more = replace(plain, steps=(*plain.steps, *foreign, profiled))

    assert step_chart(more).caption == step_chart(plain).caption
    assert step_chart(more).svg == step_chart(plain).svg


def test_speedup_without_an_interval_claims_none():
    """Too few processes give a speed-up and no bounds, and the bars say how few they were."""
    few = replace(SOUND, interval_percent=None, flashdreams_each_ms=(344.0, 345.0))
    (chart,) = latency_charts([few], NAMES)

    assert "speed-up +26%, 2 processes a side" in texts(chart.svg)
    assert "interval" not in chart.svg


def test_withheld_figures_are_hatched_and_say_why():
    """Bars that may not be compared do not look like bars that may; their times stay."""
    steady = replace(SOUND, figure="diffuse, steady state")
    (chart,) = latency_charts([WITHHELD, steady], NAMES)

    shown = texts(chart.svg)
    assert f"speed-up withheld: {CLOCKS}" in shown
    assert [text for text in shown if text in {"432", "344"}] == ["432", "344"] * 2
    assert hatched(chart.svg) == 2
    assert "Hatched" in chart.caption


@pytest.mark.parametrize("baseline", ["official", "fastvideo"])
def test_hatching_keeps_the_colour_of_the_side(baseline):
    """A pattern is drawn in the colours of the legend, so that the sides stay told apart."""
    (sound,) = latency_charts([replace(SOUND, baseline=baseline)], NAMES)
    (withheld,) = latency_charts([replace(WITHHELD, baseline=baseline)], NAMES)
    filled = set(re.findall(r"fill: (#\w+)", sound.svg))

    assert len(filled) == 2
    for pattern in re.findall(r"<pattern.*?</pattern>", withheld.svg, flags=re.DOTALL):
        assert re.search(r"stroke: (#\w+)", pattern)[1] in filled


def test_missing_side_is_a_dash_and_not_a_bar():
    """One side alone is drawn, and named as not comparable."""
    lone = replace(WITHHELD, upstream_ms=None, withheld="a side has no figure")
    (chart,) = latency_charts([lone], NAMES)

    assert "–" in texts(chart.svg)
    assert "speed-up withheld: a side has no figure" in texts(chart.svg)


def test_long_reason_is_broken_into_lines():
    """Words are not cut off at the edge of the drawing."""
    reason = " ".join(["reason"] * 20)
    (chart,) = latency_charts([replace(WITHHELD, withheld=reason)], NAMES)

    lines = [text for text in texts(chart.svg) if "reason" in text]
    assert len(lines) > 1
    assert " ".join(lines) == f"speed-up withheld: {reason}"


def test_more_groups_make_a_chart_higher_and_never_wider():
    """The page scales a chart to its column: a wider one would have smaller text."""
    sizes = []
    for count in (1, 12):
        chart = grouped_bars(
            "t", "", [f"group {n}" for n in range(count)], {"official": [1.0] * count}, NAMES
        )
        sizes.append(re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', chart.svg).groups())
    (width, height), (more_width, more_height) = sizes

    assert more_width == width
    assert float(more_height) > 2 * float(height)


def test_sides_of_one_environment_are_told_apart():
    """By colour in the lines, and each by its whole name in the legend."""
    other = "flashdreams{cuda_graph=true,telemetry=false,capture_steps=[0]}"
    made = cell()
    pair = replace(made.pair, reference="flashdreams{cuda_graph=true}", candidate=other)
    svg = step_chart(replace(made, pair=pair)).svg
    colours = {colour.lower() for colour in re.findall(r"stroke: (#[0-9a-fA-F]{6})", svg)}

    assert {"#f59e0b", "#76b900"} <= colours
    assert "FlashDreams{cuda_graph=true, telemetry=false," in texts(svg)


@pytest.mark.slow
def test_axis_of_parity_says_that_it_is_logarithmic(tmp_path):
    """Equal distances on it are ratios, which its numbers alone do not tell at a glance."""
    html, _ = rendered(passing_run(tmp_path / "run"))

    assert "relative L2 (log)" in texts(html)
