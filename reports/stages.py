"""Where the time of an AR step goes: median time of each stage on each side."""

from dataclasses import dataclass
from statistics import median

from harness.judging.stats import WARMUP_AR_STEPS
from harness.records import UNTIMED, Role, StepRow
from reports.latency import COMPARED_STAGE, DECODE, is_streaming
from reports.run_view import CellView


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of a cell."""

    stage: str
    upstream_ms: float | None
    """None where the side has no such stage."""
    flashdreams_ms: float | None
    compared: str
    """Whether the two times are held against each other, in words."""


@dataclass(frozen=True, kw_only=True)
class StageTable:
    """The stage breakdown of a cell."""

    cell_id: str
    upstream: str
    flashdreams: str
    window: str
    """AR steps the medians are over."""
    rows: tuple[StageRow, ...]


def stage_table(cell: CellView, withheld: str) -> StageTable:
    """Median stage times of both sides; without rows where no step was timed.

    Args:
        cell: Whose.
        withheld: Why its figures may not be compared; empty if they may.
    """
    late = any(step.ar >= WARMUP_AR_STEPS for step in cell.steps)
    first_ar = WARMUP_AR_STEPS if late else 0
    upstream, flashdreams = (
        _medians(cell.processes(role), first_ar) for role in (Role.REFERENCE, Role.CANDIDATE)
    )
    names = dict.fromkeys([*flashdreams, *upstream])
    return StageTable(
        cell_id=cell.cell_id,
        upstream=cell.names.display(cell.reference),
        flashdreams=cell.names.display(cell.candidate),
        window=f"every AR step from {WARMUP_AR_STEPS} on"
        if late
        else "every AR step, the first included",
        rows=tuple(
            StageRow(
                stage=name,
                upstream_ms=upstream.get(name),
                flashdreams_ms=flashdreams.get(name),
                compared=_compared(cell, name, withheld)
                if name in upstream and name in flashdreams
                else "no, one side only",
            )
            for name in names
        ),
    )


def _medians(processes: list[list[StepRow]], first_ar: int) -> dict[str, float]:
    """Median over processes of each process's median, per stage in the order they ran."""
    each: dict[str, list[float]] = {}
    for steps in processes:
        times: dict[str, list[float]] = {}
        for step in steps:
            is_counted = step.ar >= first_ar and step.phase not in UNTIMED
            for stage, ms in step.stages_ms.items() if is_counted else ():
                times.setdefault(stage, []).append(ms)
        for stage, values in times.items():
            each.setdefault(stage, []).append(median(values))
    return {stage: median(values) for stage, values in each.items()}


def _compared(cell: CellView, stage: str, withheld: str) -> str:
    """Of a stage that both sides have."""
    if stage not in (COMPARED_STAGE, DECODE):
        return "no, shown only"
    if withheld:
        return f"no, {withheld}"
    return "yes" if is_streaming(cell) else "by denoising step"
