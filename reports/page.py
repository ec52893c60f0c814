"""Everything a report shows, in the order it shows it."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.integrity import import_record
from harness.judging.stats import MIN_PROCESSES
from harness.store.run_record import EnvironmentRecord
from harness.units import format_counted
from reports.bars import latency_charts
from reports.charts import distance_chart, stage_chart, step_chart
from reports.distance import DistanceTable, distance_table
from reports.imported import ImportedSection, imported_section
from reports.latency import LatencyRow, latency_of, protocol_notes
from reports.measurement import (
    ControlRow,
    KernelTimeLine,
    MeasuredSide,
    controls_of,
    kernel_time_line,
    measured_sides,
)
from reports.provenance import (
    Fact,
    SettingsTable,
    TrialLine,
    environments_by_name,
    facts,
    machine_lines,
    settings_table,
    trial_lines,
)
from reports.published_page import Comparison, per_scene
from reports.run_view import CellView, RunView
from reports.side_names import display_device
from reports.stages import StageTable, stage_table
from reports.svg import Chart
from reports.verdicts import Answer, VerdictRow, answer, times_note, verdict_rows


@dataclass(frozen=True, kw_only=True)
class CellSection:
    """What the sections after the latency table show of one cell."""

    cell_id: str
    is_judged: bool
    """Whether a verdict was stored for it."""
    distance: DistanceTable
    distance_chart: Chart | None
    step_chart: Chart | None
    """None for a cell that is not streaming."""
    stages: StageTable
    stage_chart: Chart | None
    sides: tuple[MeasuredSide, ...]
    controls: tuple[ControlRow, ...]
    kernel_time: KernelTimeLine | None
    took_s: float
    """All of its processes, launch to end."""
    planned_s: float | None
    """What the plan said of the whole cell beforehand; None where the run did not keep it."""
    settings: SettingsTable
    trials: tuple[TrialLine, ...]
    command: str
    """Runs this cell alone."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report."""

    title: str
    description: str
    when: str
    host: str
    """The machine in a phrase."""
    machine: tuple[tuple[str, str], ...]
    """Label and value."""
    answer: Answer
    faults: tuple[str, ...]
    verdicts: tuple[VerdictRow, ...]
    unsupported: tuple[tuple[str, str], ...]
    """Cells outside the denominator, with the reason."""
    not_chosen: tuple[str, ...]
    """Cells of the suite that this run was not asked for."""
    names: tuple[str, str]
    """What reference and candidate are called in a sentence."""
    latency: tuple[LatencyRow, ...]
    interval_note: str
    protocol_notes: tuple[str, ...]
    """What the documented commands do not show."""
    latency_charts: tuple[Chart, ...]
    scenes: tuple[Comparison, ...]
    """Published per-scene lines beside this run's; empty where the suite has no scenes."""
    imported: ImportedSection
    cells: tuple[CellSection, ...]
    environments: dict[str, EnvironmentRecord]
    facts: tuple[Fact, ...]
    command: str
    """Makes a run like this one; empty where nothing was run."""


def build_page(view: RunView, note: Callable[[str], None] = lambda _: None) -> Page:
    """Derive every section from what the run left; ``note`` is told what takes time."""
    record = view.record
    times = times_note(record)
    rows = {cell.cell_id: _shown(latency_of(cell), times) for cell in view.cells}
    latency = [row for of_cell in rows.values() for row in of_cell]
    is_run = record.suite != import_record.SUITE
    command = shlex.join(["fdbench", "run", "--suite", record.suite, "--gpu", record.device])
    return Page(
        title=f"{record.suite} on {display_device(record.device)}" if is_run else "Imported logs",
        description=record.description,
        when=_when(record.started, record.finished, len(record.workers)),
        host=_host(view),
        machine=machine_lines(view),
        answer=answer(view),
        faults=view.faults,
        verdicts=verdict_rows(view.cells),
        unsupported=record.unsupported,
        not_chosen=record.not_chosen,
        names=view.names.pair(
            [cell.reference for cell in view.cells], [cell.candidate for cell in view.cells]
        ),
        latency=tuple(latency),
        interval_note=_interval_note(latency),
        protocol_notes=protocol_notes(view.cells),
        latency_charts=tuple(latency_charts(latency, view.names)),
        scenes=per_scene(view, latency),
        imported=imported_section(view.folder, view.imports, view.names),
        cells=tuple(
            _section(view, cell, rows[cell.cell_id][-1], command)
            for cell in _noted(view.cells, note)
        ),
        environments=environments_by_name(view),
        facts=facts(view.cells),
        command=command if is_run else "",
    )


def _shown(rows: list[LatencyRow], times: str) -> list[LatencyRow]:
    """Rows without their speed-ups where the times mean nothing."""
    if not times:
        return rows
    return [
        replace(
            row,
            speedup_percent=None,
            interval_percent=None,
            withheld=row.withheld or "these times mean nothing",
        )
        for row in rows
    ]


def _noted(cells: Sequence[CellView], note: Callable[[str], None]) -> Iterator[CellView]:
    """Each cell, after a line on how many there are."""
    for number, cell in enumerate(cells, start=1):
        note(f"drawing cell {number} of {len(cells)}: {cell.cell_id}")
        yield cell


def _section(view: RunView, cell: CellView, last: LatencyRow, command: str) -> CellSection:
    """Sections of a cell; ``last`` is its last figure, steady or per denoising step."""
    distance, stages = distance_table(cell), stage_table(cell, last.withheld)
    alone = view.record.kernel_time.get(cell.cell_id)
    return CellSection(
        cell_id=cell.cell_id,
        is_judged=cell.pair is not None,
        distance=distance,
        distance_chart=distance_chart(distance),
        step_chart=step_chart(cell),
        stages=stages,
        stage_chart=stage_chart(stages),
        sides=measured_sides(cell),
        controls=controls_of(cell),
        kernel_time=kernel_time_line(alone, last.figure, last.upstream_ms, last.flashdreams_ms),
        took_s=sum(trial.wall_s for trial in cell.trials),
        planned_s=view.record.estimated_s.get(cell.cell_id),
        settings=settings_table(cell),
        trials=trial_lines(view.folder, cell),
        command=f"{command} --only {shlex.quote(cell.cell_id)}",
    )


def _host(view: RunView) -> str:
    """GPUs and CPU in a phrase; workers on alike machines may have had other cards."""
    machine = view.record.machine
    gpus = machine.gpus
    used = {uuid for cell in view.cells for uuids in cell.gpus.values() for uuid in uuids}
    if len(set(gpus)) == 1:
        gpus = gpus[:1] * max(len(used), 1)
    return format_counted([*gpus, machine.cpu])


def _when(started: str, finished: str, workers: int) -> str:
    start, end = (
        moment.replace("T", " ").replace("+00:00", " UTC") for moment in (started, finished)
    )
    when = f"Ran {start} to {end}" if end else f"Started {start}"
    return f"{when}, by {workers} workers" if workers > 1 else when


def _interval_note(rows: list[LatencyRow]) -> str:
    """Why the latency table gives no interval."""
    counts = sorted({count for row in rows for count in row.processes if count})
    if not counts:
        return ""
    few = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "process" if counts == [1] else "processes"
    if counts[-1] < MIN_PROCESSES:
        least = f"it takes at least {MIN_PROCESSES} a side"
        return f"With {few} {noun} a side there is no interval: {least}."
    return (
        f"The figures rest on {few} {noun} a side. The interval holds at 95 % confidence: "
        "processes were resampled, never steps, since the steps of one process are not independent."
        + (f" Below {MIN_PROCESSES} a side there is none." if counts[0] < MIN_PROCESSES else "")
    )
