"""The latency table: per cell and statistic, both sides' figures over the same steps and stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from harness import stats
from harness.records import PairRow, Role, StepRow
from harness.store import Store

COMPARED_STAGE = "diffuse"
"""From the first denoising call of an AR step to its KV update: the stage both sides have."""


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One line of the latency table."""

    cell_id: str
    recipe: str
    device: str
    baseline: str
    figure: str
    """What the milliseconds are: stage, statistic and AR window."""
    upstream_ms: float | None
    flashdreams_ms: float | None
    speedup_percent: float | None
    processes: tuple[int, int]
    """Process launches behind the upstream and the FlashDreams figure."""


def latency_rows(run: Store) -> list[LatencyRow]:
    """Latency table of a run, cells in stored order."""
    steps = [step for step in run.read_rows(StepRow) if step.rank == 0]
    rows = []
    for pair in run.read_rows(PairRow):
        sides = {
            role: _by_process([s for s in steps if s.cell_id == pair.cell_id and s.role == role])
            for role in (Role.REFERENCE, Role.CANDIDATE)
        }
        is_single_step = all(step.ar == 0 for s in sides.values() for trial in s for step in trial)
        figures = _SINGLE_STEP if is_single_step else _STREAMING
        rows += [_row(pair, sides, name, figure) for name, figure in figures.items()]
    return rows


def _by_process(steps: Sequence[StepRow]) -> list[list[StepRow]]:
    """Steps of one side grouped by process launch."""
    trials: dict[str, list[StepRow]] = {}
    for step in steps:
        trials.setdefault(step.trial_id, []).append(step)
    return list(trials.values())


def _from_ar2(trial: Sequence[StepRow]) -> float | None:
    return stats.seed_statistic(_timed(trial)).value_ms


def _steady(trial: Sequence[StepRow]) -> float | None:
    return stats.steady_statistic(_timed(trial)).value_ms


def _per_denoising_step(trial: Sequence[StepRow]) -> float | None:
    return stats.denoising_step_ms(trial[0].denoise_ms)


def _timed(trial: Sequence[StepRow]) -> list[stats.Timed]:
    return [(step.ar, step.phase, step.stages_ms[COMPARED_STAGE]) for step in trial]


Figure = Callable[[Sequence[StepRow]], float | None]
"""Milliseconds of one process from its AR steps; None where it has no step it could describe."""

_STREAMING: dict[str, Figure] = {
    "diffuse, median from AR 2": _from_ar2,
    "diffuse, steady state": _steady,
}
_SINGLE_STEP: dict[str, Figure] = {"per denoising step with CFG": _per_denoising_step}


def _row(
    pair: PairRow, sides: dict[Role, list[list[StepRow]]], name: str, figure: Figure
) -> LatencyRow:
    """One figure of both sides: the median over processes of each process's own figure."""
    known = {
        role: [value for trial in trials if (value := figure(trial)) is not None]
        for role, trials in sides.items()
    }
    upstream, flashdreams = (
        median(known[role]) if known[role] else None for role in (Role.REFERENCE, Role.CANDIDATE)
    )
    return LatencyRow(
        cell_id=pair.cell_id,
        recipe=pair.recipe,
        device=pair.device,
        baseline=pair.baseline,
        figure=name,
        upstream_ms=upstream,
        flashdreams_ms=flashdreams,
        speedup_percent=None
        if upstream is None or flashdreams is None
        else stats.speedup_percent(upstream, flashdreams),
        processes=(len(known[Role.REFERENCE]), len(known[Role.CANDIDATE])),
    )
