"""How well a cell was measured: clocks that agree, the GPU's state, kernels that ran, controls."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from harness.records import REPEATED, UNTIMED, ParityRow, Phase, Role, StepRow, TrialRow
from harness.store.run_record import KernelTime
from harness.trials.kernels import attention_ms
from reports.run_view import CellView

PUBLISHABLE = 0.005
"""Relative difference between clocks above which no speed-up is shown."""


@dataclass(frozen=True, kw_only=True)
class MeasuredSide:
    """One side of a cell."""

    name: str
    num_processes: int
    """Launches behind the figures: not one of which every AR step was profiled."""
    gpus: tuple[str, ...]
    """UUIDs; empty without telemetry."""
    log_difference: float | None
    """Largest relative difference, over processes, between the median AR step by the log and by
    fdbench's clock; of all AR steps and of the steady ones. Medians, since they are what a figure
    is made of. None where a process lacks one of the clocks."""
    wall_difference: float | None
    """The same between the host's clock and fdbench's."""
    first_step_s: float | None
    """Median over processes, from launch to the end of the first AR step."""
    sm_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    energy_j: float | None
    """Median over processes, of a whole process."""
    attention: str
    """Attention kernels of the profiled step, by backend; empty where none was profiled."""
    marks: tuple[str, ...]
    """What disturbed a process, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class KernelTimeLine:
    """How far both sides are from the kernel time."""

    figure: str
    """What is held against it."""
    kernel_time_ms: float
    """The large kernels of the span, timed alone and added up."""
    upstream: float | None
    """The side's figure over the kernel time."""
    flashdreams: float | None
    gpu: str
    """UUID of the GPU that the kernels were timed on; empty where the run did not keep it."""


@dataclass(frozen=True, kw_only=True)
class ControlRow:
    """A side that the gate had to refuse."""

    side: str
    relative_l2: float
    """At the AR step where it is nearest to the noise floor."""
    ratio: float | None
    """The same over the noise floor of that AR step."""
    num_steps: int


def measured_sides(cell: CellView) -> tuple[MeasuredSide, ...]:
    """Both sides of a cell, reference first; a side without a completed process is left out."""
    return tuple(
        _side(cell, role, name)
        for role, name in ((Role.REFERENCE, cell.reference), (Role.CANDIDATE, cell.candidate))
        if cell.processes(role)
    )


def clock_fault(cell: CellView) -> str:
    """Why a cell's times may not be published; empty if its clocks agree.

    A CPU run at tiny size is never published, and its steps are too short for the host's clock.
    """
    if cell.device == "cpu":
        return ""
    differences = [
        _largest(_timed(processes), clock)
        for role in _PAIR
        if (processes := cell.processes(role))
        for clock in _OTHER_CLOCKS
    ]
    known = [difference for difference in differences if difference is not None]
    if len(known) < len(differences):
        return "a process lacks one of the three clocks"
    worst = max(known, default=0.0)
    return f"clocks differ by {100 * worst:.2f} %" if worst > PUBLISHABLE else ""


def disturbance(cell: CellView) -> str:
    """Why times of disturbed processes may not be published; empty if none was disturbed.

    A disturbed launch gives way to its repetition; where that was disturbed too, nothing is left.
    """
    counted = {steps[0].trial_id for role in _PAIR for steps in cell.processes(role)}
    marked = [trial for trial in cell.trials if trial.trial_id in counted and trial.marks]
    return "a counted process was disturbed" if marked else ""


_PAIR = (Role.REFERENCE, Role.CANDIDATE)


def controls_of(cell: CellView) -> tuple[ControlRow, ...]:
    """Every control that was compared, by its AR step nearest to the noise floor."""
    latents = [row for row in cell.parity if not row.is_of_frames]
    floors = {row.ar: row.relative_l2 for row in latents if row.comparison == "floor"}
    names = {trial.trial_id: trial.side for trial in cell.trials}
    rows = []
    for trial_id in dict.fromkeys(
        row.candidate_trial for row in latents if row.comparison == "control"
    ):
        own = [row for row in latents if row.candidate_trial == trial_id]
        nearest = min(own, key=lambda row: (_ratio(row, floors), row.relative_l2))
        floor = floors.get(nearest.ar)
        rows.append(
            ControlRow(
                side=cell.names.display(names.get(trial_id, trial_id)),
                relative_l2=nearest.relative_l2,
                ratio=nearest.relative_l2 / floor if floor else None,
                num_steps=len(own),
            )
        )
    return tuple(rows)


def _ratio(row: ParityRow, floors: Mapping[int, float]) -> float:
    """Distance over the noise floor of its AR step; infinite without one: nothing is near to it."""
    floor = floors.get(row.ar)
    return row.relative_l2 / floor if floor else math.inf


def kernel_time_line(
    alone: KernelTime | None, figure: str, upstream_ms: float | None, own_ms: float | None
) -> KernelTimeLine | None:
    """A cell's figure over its kernel time; None where one of them is missing."""
    if alone is None or (upstream_ms is None and own_ms is None):
        return None
    upstream, own = (None if ms is None else ms / alone.diffuse_ms for ms in (upstream_ms, own_ms))
    return KernelTimeLine(
        figure=figure,
        kernel_time_ms=alone.diffuse_ms,
        upstream=upstream,
        flashdreams=own,
        gpu=alone.gpu,
    )


def _side(cell: CellView, role: Role, name: str) -> MeasuredSide:
    processes = cell.processes(role)
    timed = _timed(processes)
    log_difference, wall_difference = (_largest(timed, clock) for clock in _OTHER_CLOCKS)
    counted = {steps[0].trial_id for steps in timed if steps}
    trials = [trial for trial in cell.trials if trial.trial_id in counted]
    return MeasuredSide(
        name=cell.names.display(name),
        num_processes=len(counted),
        gpus=tuple(sorted({gpu for trial in counted for gpu in cell.gpus.get(trial, ())})),
        log_difference=log_difference,
        wall_difference=wall_difference,
        first_step_s=_median([trial.first_step_s for trial in trials]),
        sm_mhz=_median([trial.sm_mhz for trial in trials]),
        power_w=_median([trial.power_w for trial in trials]),
        temperature_c=_median([trial.temperature_c for trial in trials]),
        energy_j=_median([trial.energy_j for trial in trials]),
        attention=_attention([step for trial in processes for step in trial]),
        marks=_marks([trial for trial in cell.trials if trial.role == role]),
    )


_OTHER_CLOCKS = ("total_ms", "wall_ms")
"""Columns of the log's clock and the host's, which fdbench's own is held against."""


def _timed(processes: Sequence[Sequence[StepRow]]) -> list[list[StepRow]]:
    """AR steps of each process whose time is somebody's."""
    return [[step for step in trial if step.phase not in UNTIMED] for trial in processes]


def _largest(processes: Sequence[Sequence[StepRow]], column: str) -> float | None:
    """Largest relative difference of a process's median by a clock from fdbench's own."""
    differences = []
    for timed in filter(None, processes):
        for steps in filter(None, (timed, [s for s in timed if s.phase == Phase.STEADY])):
            other = _median([getattr(step, column) for step in steps])
            own = _median([step.clock_total_ms for step in steps])
            if other is None or not own:
                return None
            differences.append(abs(other - own) / own)
    return max(differences, default=None)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _attention(steps: Sequence[StepRow]) -> str:
    found = attention_ms(steps)
    return ", ".join(f"{backend} {ms:.0f} ms" for backend, ms in sorted(found.items()))


def _marks(trials: Sequence[TrialRow]) -> tuple[str, ...]:
    repeated = {trial.trial_id.removesuffix(REPEATED) for trial in trials if trial.is_repetition}
    return tuple(
        f"process {trial.process}{_FATES[trial.is_repetition, trial.trial_id in repeated]}".format(
            trial.marks
        )
        for trial in trials
        if trial.marks
    )


_FATES = {
    (False, True): ": {}. It was repeated once; the figures take the repetition.",
    (False, False): ": {}. It was not repeated.",
    (True, False): ", repeated: {}. Times of the cell are compared with nothing.",
}
"""Whether a disturbed trial is a repetition, and whether it has one, to what became of it."""
