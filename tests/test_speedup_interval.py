"""The interval of a speed-up: honest about few processes, and about what it covers."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.judging import stats
from harness.records import Phase
from harness.units import speedup_percent

pytestmark = pytest.mark.unit

UPSTREAM, FLASHDREAMS = (431.0, 432.5, 430.2, 433.1, 432.0), (344.2, 343.1, 345.0, 344.6, 343.9)
EXPERIMENTS, SEED = 400, 20261124


@pytest.mark.parametrize(
    ("upstream", "flashdreams"),
    [
        pytest.param(UPSTREAM[:4], FLASHDREAMS, id="upstream"),
        pytest.param(UPSTREAM, FLASHDREAMS[:4], id="flashdreams"),
        pytest.param((), (), id="none"),
    ],
)
def test_too_few_processes_have_no_interval(upstream, flashdreams):
    """Four launches on either side say too little about their spread."""
    assert stats.speedup_interval(upstream, flashdreams) is None


def test_same_figures_give_the_same_bounds():
    """The resampling is seeded, so a report is the same bytes every time."""
    first = stats.speedup_interval(UPSTREAM, FLASHDREAMS)

    assert first == stats.speedup_interval(list(UPSTREAM), list(FLASHDREAMS))
    assert first == pytest.approx((24.937614, 25.973967), abs=1e-6)  # of every release so far


@settings(max_examples=settings.default.max_examples // 4)
@given(st.data(), st.integers(5, 24), st.integers(5, 24))
def test_interval_contains_the_point_estimate(data, upstream, flashdreams):
    """The speed-up that is shown lies between its own bounds, whatever the numbers of launches."""
    times = st.floats(90, 110)
    sides = [data.draw(st.lists(times, min_size=n, max_size=n)) for n in (upstream, flashdreams)]
    low, high = stats.speedup_interval(*sides)
    shown = speedup_percent(*(float(np.mean(side)) for side in sides))

    assert low - 1e-9 <= shown <= high + 1e-9


def test_interval_grows_with_the_spread():
    """Launches three times as far apart have bounds about three times as far apart."""
    wide = [np.mean(UPSTREAM) + 3 * (ms - np.mean(UPSTREAM)) for ms in UPSTREAM]
    wider = [np.mean(FLASHDREAMS) + 3 * (ms - np.mean(FLASHDREAMS)) for ms in FLASHDREAMS]
    low, high = stats.speedup_interval(UPSTREAM, FLASHDREAMS)
    low3, high3 = stats.speedup_interval(wide, wider)

    assert (high3 - low3) / (high - low) == pytest.approx(3, rel=0.05)


def test_equal_launches_have_an_interval_of_no_width():
    """Without spread both bounds are the speed-up itself."""
    assert stats.speedup_interval([432.0] * 5, [344.0] * 5) == pytest.approx(
        (25.58, 25.58), abs=0.01
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [5, 8])
def test_interval_covers_the_truth(processes):
    """Of many experiments with normal launches, about 95 % have the true speed-up within bounds."""
    random, covered = np.random.default_rng(SEED), 0
    for _ in range(EXPERIMENTS):
        upstream, flashdreams = (
            random.normal(mean_ms, 0.01 * mean_ms, processes) for mean_ms in (432.0, 344.0)
        )
        low, high = stats.speedup_interval(upstream, flashdreams)
        covered += low <= speedup_percent(432.0, 344.0) <= high

    assert 0.92 <= covered / EXPERIMENTS <= 0.99


def test_few_processes_widen_the_interval_as_students_t_does():
    """Expanded percentiles: t at four degrees of freedom, and the bootstrap's n over n-1."""
    assert stats._expanded_tail(5) == pytest.approx(NormalDist().cdf(-2.776 * (5 / 4) ** 0.5))
    assert stats._expanded_tail(5) < stats._expanded_tail(8) < stats._expanded_tail(20) < 0.025


def test_side_with_fewer_processes_decides_how_wide(monkeypatch):
    """Twenty launches of one side do not make up for five of the other."""
    asked = []
    monkeypatch.setattr(stats, "_expanded_tail", lambda processes: asked.append(processes) or 0.01)
    stats.speedup_interval([432.0] * 5, [344.0] * 20)
    stats.speedup_interval([432.0] * 20, [344.0] * 5)

    assert asked == [5, 5]


def test_seed_statistic_ends_where_the_documented_command_does():
    """Steps that only the longer steady-state protocol runs are not in the seed's figure."""
    steps = [(ar, Phase.STEADY, float(ar)) for ar in range(14)]
    cut, whole = stats.seed_statistic(steps, 7), stats.seed_statistic(steps)

    assert (cut.ar_first, cut.ar_last, cut.num_steps, cut.value_ms) == (2, 6, 5, 4.0)
    assert (whole.ar_last, whole.num_steps) == (13, 12)


@pytest.mark.parametrize("statistic", [stats.seed_statistic, stats.steady_statistic])
def test_profiled_step_is_in_no_figure(statistic):
    """A step's time under the profiler is the profiler's."""
    steps = [(ar, Phase.STEADY, 1.0) for ar in range(5)] + [(5, Phase.PROFILED, 99.0)]

    assert statistic(steps).ar_last == 4
    assert statistic(steps[5:]).value_ms is None
