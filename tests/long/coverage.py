"""How often the interval of a speed-up has the true speed-up in it, by how launches scatter."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from harness.judging import stats
from harness.units import speedup_percent
from tests.long.page import table

PROCESSES, EXPERIMENTS, SEED = 5, 4000, 20261128
UPSTREAM_MS, FLASHDREAMS_MS, SPREAD = 432.0, 344.0, 0.01
"""True means of both sides, and the standard deviation of a launch as a share of its mean."""

Draw = Callable[[np.random.Generator], NDArray[np.float64]]


def normal(random: np.random.Generator) -> NDArray[np.float64]:
    """Launches as most are."""
    return random.normal(0, 1, PROCESSES)


def skewed(random: np.random.Generator) -> NDArray[np.float64]:
    """A few slow launches and none as fast: a log-normal, moved to mean 0 and deviation 1."""
    sigma = 1.0
    mean = np.exp(sigma**2 / 2)
    deviation = mean * np.sqrt(np.exp(sigma**2) - 1)
    return (random.lognormal(0, sigma, PROCESSES) - mean) / deviation


def bimodal(random: np.random.Generator) -> NDArray[np.float64]:
    """Each launch is of one of two kinds, as with two clocks of a card."""
    sides = random.choice([-1.0, 1.0], PROCESSES)
    return (sides * 3 + random.normal(0, 1, PROCESSES)) / np.sqrt(10)


def rare(random: np.random.Generator) -> NDArray[np.float64]:
    """One launch of ten is far slower, so that most experiments have none or one of them."""
    slow = random.random(PROCESSES) < 0.1
    return (slow - 0.1) / 0.3 * 0.9 + random.normal(0, np.sqrt(1 - 0.81), PROCESSES)


DRAWS: dict[str, Draw] = {
    "normal": normal,
    "skewed (log-normal, sigma 1)": skewed,
    "bimodal (two equal modes, six deviations apart)": bimodal,
    "one launch of ten is slow": rare,
}


def found() -> Iterator[str]:
    """Coverage by draw."""
    rows = [(what, *_coverage(draw)) for what, draw in DRAWS.items()]
    columns = ("launches", "true speed-up inside", "below it", "above it", "mean width")
    said = (
        f"{EXPERIMENTS:,} experiments a row, {PROCESSES} launches a side, true means "
        f"{UPSTREAM_MS:.0f} and {FLASHDREAMS_MS:.0f} ms, deviation {SPREAD:.0%} of each. The "
        "interval claims 95 %; `below it` is an interval that lies below the truth.\n\n"
    )
    yield said + table(columns, rows)


def _coverage(draw: Draw) -> tuple[str, ...]:
    """Share of intervals with the truth in them, below it and above it, and how wide they are."""
    random, truth = np.random.default_rng(SEED), speedup_percent(UPSTREAM_MS, FLASHDREAMS_MS)
    low, high = np.array(
        [
            stats.speedup_interval(
                *(mean * (1 + SPREAD * draw(random)) for mean in (UPSTREAM_MS, FLASHDREAMS_MS))
            )
            for _ in range(EXPERIMENTS)
        ]
    ).T
    below, above = (high < truth).mean(), (low > truth).mean()
    shares = (1 - below - above, below, above)
    return *(f"{100 * share:.1f} %" for share in shares), f"{(high - low).mean():.2f} points"
