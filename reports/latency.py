"""The latency table: per cell and figure, both sides' times over the same steps and stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

from harness.judging import stats
from harness.records import Phase, Role, StepRow, Verdict
from harness.store.run import Store
from harness.units import format_words, speedup_percent
from reports.measurement import clock_fault, disturbance
from reports.run_view import CellView, stored_cells
from reports.side_names import environment_of

COMPARED_STAGE = "diffuse"
"""From the first denoising call of an AR step to its KV update: the stage both sides have."""
DECODE = "decode"
"""The stage that follows where latents are decoded, compared together with the one before it."""
_EMPTY_MS = 1.0
"""Two events with nothing between them lie nearer; the fastest decoder takes ten times that."""


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One line of the latency table."""

    cell_id: str
    recipe: str
    device: str
    baseline: str
    candidate: str
    """Environment of the side under test."""
    variant: str
    """Tells rows of one recipe and baseline apart; empty for most."""
    figure: str
    """What the milliseconds are: stage and statistic."""
    window: str
    """Steps behind the figure, the same in every process; empty where there is none."""
    upstream_ms: float | None
    flashdreams_ms: float | None
    speedup_percent: float | None
    interval_percent: tuple[float, float] | None
    """Bounds of the speed-up at 95 % confidence; None with too few processes."""
    withheld: str
    """Why there is no speed-up; empty where there is one."""
    upstream_each_ms: tuple[float, ...]
    """Figure of each process launch, of which ``upstream_ms`` is the mean."""
    flashdreams_each_ms: tuple[float, ...]

    @property
    def pair(self) -> tuple[str, str, str]:
        """Recipe, baseline and variant: what is compared, whatever the device."""
        return self.recipe, self.baseline, self.variant

    @property
    def processes(self) -> tuple[int, int]:
        """Process launches behind the upstream and the FlashDreams figure."""
        return len(self.upstream_each_ms), len(self.flashdreams_each_ms)


def latency_rows(run: Store) -> list[LatencyRow]:
    """Latency table of a run, cells in stored order.

    Raises:
        IntegrityFault: A table of the run is damaged.
    """
    return [row for cell in stored_cells(run) for row in latency_of(cell)]


def latency_of(cell: CellView) -> list[LatencyRow]:
    """Every figure of a cell; times of trials that failed are in none of them."""
    sides = [cell.processes(role) for role in (Role.REFERENCE, Role.CANDIDATE)]
    if not cell.steps:
        return [_row(cell, sides, "no AR step was timed", _from_ar2(cell, (COMPARED_STAGE,)))]
    if not is_streaming(cell):
        return [_row(cell, sides, "per denoising step with CFG", _per_denoising_step)]
    steady = _steady_on_both(sides)
    spans: list[tuple[str, ...]] = [(COMPARED_STAGE,)]
    if all(_decodes(side) for side in sides):
        spans.insert(0, (COMPARED_STAGE, DECODE))
    return [
        row
        for span in spans
        for row in (
            _row(cell, sides, f"{' and '.join(span)}, {stats.SEED}", _from_ar2(cell, span)),
            _row(cell, steady, f"{' and '.join(span)}, steady state", partial(_steady, span)),
        )
    ]


def step_row(cell: CellView, ar: int) -> LatencyRow:
    """One AR step alone, as the footnote of a published figure may name it."""
    sides = [cell.processes(role) for role in (Role.REFERENCE, Role.CANDIDATE)]
    alone = [[[step for step in trial if step.ar == ar] for trial in side] for side in sides]
    return _row(cell, alone, f"{COMPARED_STAGE}, AR {ar} alone", _from_ar2(cell, (COMPARED_STAGE,)))


def protocol_notes(cells: Sequence[CellView]) -> tuple[str, ...]:
    """Recipes whose documented command ends before the first steady AR step, in a sentence."""
    recipes: dict[tuple[int, int], dict[str, None]] = {}
    for cell in cells:
        sides = [cell.processes(role) for role in (Role.REFERENCE, Role.CANDIDATE)]
        shared = _steady_on_both(sides)
        steady = [step.ar for side in shared for trial in side for step in trial if step.ar > 0]
        ends = cell.documented_ar_steps
        if steady and ends and ends <= min(steady):
            recipes.setdefault((ends, min(steady)), {})[cell.recipe] = None
    return tuple(
        f"The documented {'commands' if len(names) > 1 else 'command'} of "
        f"{format_words(list(names))} {'end' if len(names) > 1 else 'ends'} after {ends} AR steps, "
        f"before the steady state, which begins at AR {begins} at the earliest: "
        f"the {stats.SEED} is that of a window that "
        "is still filling."
        for (ends, begins), names in recipes.items()
    )


def is_streaming(cell: CellView) -> bool:
    """Whether the cell has more than one AR step."""
    return any(step.ar > 0 for step in cell.steps)


def _decodes(side: list[list[StepRow]]) -> bool:
    """Whether each AR step ends in frames; FlashDreams times the stage also where it is empty."""
    return bool(side) and all(
        step.stages_ms.get(DECODE, 0.0) > _EMPTY_MS for t in side for step in t
    )


def _steady_on_both(sides: Sequence[list[list[StepRow]]]) -> list[list[list[StepRow]]]:
    """Steps whose AR index is steady in every process, so that a capture on one side drops out."""
    steady = [
        {step.ar for step in trial if step.phase == Phase.STEADY}
        for trials in sides
        for trial in trials
    ]
    shared = set.intersection(*steady) if steady else set()
    return [[[step for step in trial if step.ar in shared] for trial in trials] for trials in sides]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One process's own figure."""

    ms: float
    window: str


Figure = Callable[[Sequence[StepRow]], _Measured | None]
"""A process's figure from its AR steps; None where it has no step it could describe."""


def _from_ar2(cell: CellView, span: Sequence[str]) -> Figure:
    """The seed's statistic of a span, over the steps that the documented command runs."""
    return lambda trial: _measured(
        stats.seed_statistic(_timed(span, trial), cell.documented_ar_steps)
    )


def _steady(span: Sequence[str], trial: Sequence[StepRow]) -> _Measured | None:
    return _measured(stats.steady_statistic(_timed(span, trial)))


def _per_denoising_step(trial: Sequence[StepRow]) -> _Measured | None:
    denoise_ms = () if trial[0].phase == Phase.PROFILED else trial[0].denoise_ms
    value = stats.denoising_step_ms(denoise_ms)
    window = f"denoising steps 1–{len(denoise_ms) - 1}"
    return None if value is None else _Measured(ms=value, window=window)


def _measured(statistic: stats.Statistic) -> _Measured | None:
    if statistic.value_ms is None:
        return None
    return _Measured(ms=statistic.value_ms, window=statistic.window)


def _timed(span: Sequence[str], trial: Sequence[StepRow]) -> list[stats.Timed]:
    """AR steps that have every stage of the span."""
    return [
        (step.ar, step.phase, sum(step.stages_ms[stage] for stage in span))
        for step in trial
        if step.stages_ms.keys() >= set(span)
    ]


def _row(
    cell: CellView, sides: Sequence[list[list[StepRow]]], name: str, figure: Figure
) -> LatencyRow:
    """One figure of both sides: the mean over processes of each process's own figure."""
    upstream, flashdreams = (
        [value for trial in trials if (value := figure(trial)) is not None] for trials in sides
    )
    windows = sorted({measured.window for measured in (*upstream, *flashdreams)})
    upstream_ms, flashdreams_ms = _mean(upstream), _mean(flashdreams)
    withheld = _withheld(cell, windows, upstream_ms, flashdreams_ms)
    each = [tuple(measured.ms for measured in side) for side in (upstream, flashdreams)]
    speedup, interval = None, None
    if not withheld and upstream_ms is not None and flashdreams_ms is not None:
        speedup = speedup_percent(upstream_ms, flashdreams_ms)
        interval = stats.speedup_interval(*each)
    return LatencyRow(
        cell_id=cell.cell_id,
        recipe=cell.recipe,
        device=cell.device,
        baseline=cell.baseline,
        candidate=environment_of(cell.candidate),
        variant=cell.variant,
        figure=name,
        window=" / ".join(windows),
        upstream_ms=upstream_ms,
        flashdreams_ms=flashdreams_ms,
        speedup_percent=speedup,
        interval_percent=interval,
        withheld=withheld,
        upstream_each_ms=each[0],
        flashdreams_each_ms=each[1],
    )


def _mean(processes: Sequence[_Measured]) -> float | None:
    return mean(measured.ms for measured in processes) if processes else None


def _withheld(
    cell: CellView,
    windows: Sequence[str],
    upstream_ms: float | None,
    flashdreams_ms: float | None,
) -> str:
    """Why these two figures may not be divided; empty if they may."""
    if upstream_ms is None or flashdreams_ms is None or flashdreams_ms <= 0:
        return "a side has no figure"
    if len(windows) > 1:
        return "steps differ"
    if cell.pair is None:
        return "no verdict"
    return _UNCOMPARABLE.get(cell.pair.verdict, "") or clock_fault(cell) or disturbance(cell)


_UNCOMPARABLE = {
    Verdict.FAIL.value: "outputs differ",
    Verdict.INCOMPLETE.value: "cell incomplete",
}
"""Verdicts without proven parity: a speed-up would compare two different computations."""
