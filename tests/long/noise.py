"""How often the parity gate fails equal models and passes different ones, by noise and fault.

Both sides and the noise floor's exact side compute the same latents. Rounding adds noise to the
candidate and to the reference, each its own. The noise lies in few or many directions: what
rounding does to a model is not spread over all of its latents. A fault is one more direction.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from harness.judging import gates, parity
from harness.records import ParityRow, Verdict
from tests.fakes import samples
from tests.long.page import table

EXPERIMENTS, SEED, SIZE = 1000, 20261128, 3072
DIRECTIONS = (4, 16, 64, 1024)
NOISE = 0.01
"""Of the candidate, as a share of the latents' norm."""
UPSTREAM = (0.5, 1.0, 1.5, 2.0)
"""Noise of the upstream side, as a multiple of the candidate's."""
FAULTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Norm of what a wrong model does to the latents, as a multiple of the candidate's noise."""
CELL = samples.cell()
ROWS = samples.parity_rows()
TRIALS = [samples.trial_row(trial) for trial in CELL.trials]


class Launches:
    """One experiment: what each trial of the sample cell captured, rounding and fault included."""

    def __init__(self, random: np.random.Generator, directions: int) -> None:
        self._random, self._directions = random, directions
        self.exact = random.normal(0, 1, SIZE)
        self.exact /= np.linalg.norm(self.exact)

    def noisy(self, level: float) -> np.ndarray:
        """The latents after rounding of that size, in as many directions as rounding has."""
        noise = np.zeros(SIZE)
        places = self._random.choice(SIZE, self._directions, replace=False)
        drawn = self._random.normal(0, 1, self._directions)
        noise[places] = level * drawn / np.sqrt(self._directions)
        return self.exact + noise

    def fault(self, size: float) -> np.ndarray:
        """What a wrong model adds."""
        drawn = self._random.normal(0, 1, SIZE)
        return size * drawn / np.linalg.norm(drawn)


def found() -> Iterator[str]:
    """Tables of false failures and of false passes."""
    equal = [
        (f"{upstream:g}x", *(_share(size, upstream, 0.0, is_pass=False) for size in DIRECTIONS))
        for upstream in UPSTREAM
    ]
    wrong = [
        (f"{fault:g}x", *(_share(size, 1.0, fault, is_pass=True) for size in DIRECTIONS))
        for fault in FAULTS
    ]
    columns = tuple(f"{size:,} directions" for size in DIRECTIONS)
    yield (
        f"{EXPERIMENTS:,} cells an entry, judged by `gates.judge`: two candidate processes, three "
        f"AR steps, a limit of {CELL.limit:g} noise floors, {SIZE:,} latents a step. Rounding is "
        f"{NOISE:.0%} of the candidate's latents and lies in few or many directions; the noise "
        "floor is the candidate against an exact one.\n\n"
        "Equal models that do not pass, by the noise of the upstream side against the "
        "candidate's:\n\n"
        + table(("upstream's noise", *columns), equal)
        + "\nModels that differ and pass, by the size of the difference against the candidate's "
        "noise, with equal noise on both sides:\n\n" + table(("difference", *columns), wrong)
    )


def _share(directions: int, upstream: float, fault: float, *, is_pass: bool) -> str:
    """Share of cells that pass, or of those that do not."""
    random = np.random.default_rng(SEED)
    verdicts = [
        gates.judge(CELL, TRIALS, (), _rows(random, directions, upstream, fault)).verdict
        for _ in range(EXPERIMENTS)
    ]
    hits = sum((verdict == Verdict.PASS) is is_pass for verdict in verdicts)
    return f"{100 * hits / EXPERIMENTS:.1f} %"


def _rows(
    random: np.random.Generator, directions: int, upstream: float, fault: float
) -> list[ParityRow]:
    """Distances of one cell; the noise floor is that of its first candidate."""
    errors: dict[tuple[int, str, str], float] = {}
    for ar in CELL.trials[0].job.capture_steps:
        launches = Launches(random, directions)
        reference, added = launches.noisy(NOISE * upstream), launches.fault(NOISE * fault)
        compared = [row for row in ROWS if row.ar == ar]
        # The floor's exact side is the candidate's own model: it has the fault, too.
        others = {"pair": reference, "floor": launches.exact + added}
        left = {
            name: launches.noisy(NOISE) + added
            for name in sorted({r.candidate_trial for r in compared})
        }
        for row in compared:
            distance = parity.relative_l2(left[row.candidate_trial], others[row.comparison])
            errors[ar, row.comparison, row.candidate_trial] = distance
    return [
        replace(row, relative_l2=errors[row.ar, row.comparison, row.candidate_trial])
        for row in ROWS
    ]
