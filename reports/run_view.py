"""What a run left behind, read once: every section of the report is derived from this."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from harness.errors import IntegrityFault
from harness.imported_records import ImportedFigure, ImportedStep
from harness.integrity.import_record import ImportRecord, read_records
from harness.judging.gates import distrusted
from harness.records import (
    REPEATED,
    Outcome,
    PairRow,
    ParityRow,
    Role,
    StepRow,
    TelemetryRow,
    TrialRow,
)
from harness.store.run import Store, open_run
from harness.store.run_record import RunRecord
from reports.side_names import SideNames, known_names, names_of

Rows = TypeVar("Rows")


@dataclass(frozen=True, kw_only=True)
class CellView:
    """Everything one cell left."""

    cell_id: str
    pair: PairRow | None
    """None where the run ended before the cell was judged."""
    trials: tuple[TrialRow, ...]
    steps: tuple[StepRow, ...]
    """Of rank 0, and only of trials that completed and do not contradict themselves."""
    parity: tuple[ParityRow, ...]
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Trial to the UUIDs of its GPUs; nothing for a trial without telemetry."""
    planned_command_ar_steps: int = 0
    """``documented_ar_steps`` by the plan, for a cell without a verdict."""
    planned_candidate: str = ""
    """Side under test by the plan, for the same."""
    names: SideNames = field(default_factory=known_names)
    """What its sides are called."""

    @property
    def documented_ar_steps(self) -> int:
        """AR steps that the recipe's documented command runs; 0 where nothing says so."""
        return self.pair.documented_ar_steps if self.pair else self.planned_command_ar_steps

    @property
    def recipe(self) -> str:
        """FlashDreams slug."""
        return self.pair.recipe if self.pair else self.cell_id.split("/", maxsplit=1)[0]

    @property
    def device(self) -> str:
        """Device key."""
        return self.pair.device if self.pair else self._id_part(1)

    @property
    def baseline(self) -> str:
        """Environment of the reference."""
        return self.pair.baseline if self.pair else self._id_part(2)

    @property
    def variant(self) -> str:
        """What follows the baseline in the cell's id: a variant, a scene, or nothing."""
        return self._id_part(3)

    @property
    def candidate(self) -> str:
        """Side under test."""
        return (
            self.pair.candidate
            if self.pair
            else self._first_side(Role.CANDIDATE, self.planned_candidate)
        )

    @property
    def reference(self) -> str:
        """Side it is held against."""
        return self.pair.reference if self.pair else self._first_side(Role.REFERENCE, self.baseline)

    def processes(self, role: Role) -> list[list[StepRow]]:
        """AR steps of a role, in AR order, grouped by process launch.

        A launch whose times were disturbed gives way to its repetition.
        """
        trials: dict[str, list[StepRow]] = {}
        again = [trial.trial_id for trial in self.trials if trial.is_repetition]
        repeated = {trial_id.removesuffix(REPEATED) for trial_id in again}
        for step in sorted(self.steps, key=lambda step: (step.process, step.ar)):
            if step.role == role and step.trial_id not in repeated:
                trials.setdefault(step.trial_id, []).append(step)
        return list(trials.values())

    def _id_part(self, number: int) -> str:
        parts = self.cell_id.split("/")
        return parts[number] if number < len(parts) else ""

    def _first_side(self, role: Role, otherwise: str) -> str:
        return next((trial.side for trial in self.trials if trial.role == role), otherwise)


@dataclass(frozen=True, kw_only=True)
class ImportedLog:
    """One imported log."""

    record: ImportRecord
    steps: tuple[ImportedStep, ...]
    figures: tuple[ImportedFigure, ...]
    """Empty unless it is a table of published figures."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """Everything a run left."""

    folder: Path
    record: RunRecord
    """``run.json``."""
    cells: tuple[CellView, ...]
    """Planned order."""
    imports: tuple[ImportedLog, ...]
    """Logs that were made elsewhere."""
    names: SideNames
    """What its sides are called."""
    faults: tuple[str, ...]
    """Files that are missing, altered or unreadable, one sentence each."""


def read_view(folder: Path) -> RunView:
    """Read a run; a table that cannot be read is empty and its fault is listed.

    Raises:
        UsageFault: The folder is no run.
        IntegrityFault: ``run.json`` is not what a run writes.
    """
    store = open_run(folder)
    record = store.read_record()
    faults: list[str] = []
    faults += _attempt(store, lambda: list(store.faults()), [], faults)
    cells = _read_cells(store, record.cells, faults)
    cells = _attempt(store, lambda: _with_commands(store, cells), cells, faults)
    if faults:
        cells = [_distrusted(cell) for cell in cells]
    logs: list[ImportedLog] = _attempt(store, lambda: _read_imports(store), [], faults)
    names = names_of(record.environments)
    return RunView(
        folder=folder,
        record=record,
        cells=tuple(replace(cell, names=names) for cell in cells),
        names=names,
        imports=tuple(logs),
        faults=tuple(dict.fromkeys(faults)),
    )


def stored_cells(store: Store) -> list[CellView]:
    """Every cell with a verdict or a trial, as far as figures need it: no telemetry is read.

    Raises:
        IntegrityFault: A table or ``run.json`` is damaged.
    """
    cells = _group(
        [],
        store.read_rows(PairRow),
        store.read_rows(TrialRow),
        store.read_rows(StepRow),
        store.read_rows(ParityRow),
    )
    return _with_commands(store, cells)


def _with_commands(store: Store, cells: Sequence[CellView]) -> list[CellView]:
    """Cells with what their plan says of the documented command and the side under test."""
    if all(cell.pair for cell in cells):
        return list(cells)
    planned = {one.cell_id: one for one in store.read_plan()}
    return [
        replace(
            cell,
            planned_command_ar_steps=planned[cell.cell_id].documented_ar_steps,
            planned_candidate=str(planned[cell.cell_id].candidate),
        )
        if cell.cell_id in planned
        else cell
        for cell in cells
    ]


def _read_imports(store: Store) -> list[ImportedLog]:
    steps: dict[str, list[ImportedStep]] = {}
    for step in store.read_rows(ImportedStep):
        steps.setdefault(step.import_id, []).append(step)
    figures: dict[str, list[ImportedFigure]] = {}
    for figure in store.read_rows(ImportedFigure):
        figures.setdefault(figure.import_id, []).append(figure)
    return [
        ImportedLog(
            record=record,
            steps=tuple(steps.get(record.import_id, ())),
            figures=tuple(figures.get(record.import_id, ())),
        )
        for record in read_records(store)
    ]


def _read_cells(store: Store, planned: Sequence[str], faults: list[str]) -> list[CellView]:
    return _group(
        planned,
        _attempt(store, lambda: store.read_rows(PairRow), [], faults),
        _attempt(store, lambda: store.read_rows(TrialRow), [], faults),
        _attempt(store, lambda: store.read_rows(StepRow), [], faults),
        _attempt(store, lambda: store.read_rows(ParityRow), [], faults),
        _attempt(store, lambda: _gpus(store), {}, faults),
    )


def _gpus(store: Store) -> dict[str, tuple[str, ...]]:
    """Trial to the GPUs it was watched on."""
    readings = store.read_table(TelemetryRow).select(["trial_id", "gpu"])
    found: dict[str, set[str]] = {}
    for row in readings.group_by(["trial_id", "gpu"]).aggregate([]).to_pylist():
        found.setdefault(row["trial_id"], set()).add(row["gpu"])
    return {trial_id: tuple(sorted(gpus)) for trial_id, gpus in found.items()}


def _distrusted(cell: CellView) -> CellView:
    """A cell of a run with altered files: no verdict of it stands, and no times are compared."""
    if cell.pair is None:
        return cell
    reason = "files of the run are missing, altered or unreadable"
    return replace(cell, pair=distrusted(cell.pair, reason))


def _attempt(store: Store, read: Callable[[], Rows], otherwise: Rows, faults: list[str]) -> Rows:
    try:
        return read()
    except IntegrityFault as fault:
        words = str(fault).replace(f"{store.folder}: ", "").replace(f"{store.folder}/", "")
        faults.append(words)
        return otherwise


def _group(
    planned: Sequence[str],
    pairs: Sequence[PairRow],
    trials: Sequence[TrialRow],
    steps: Sequence[StepRow],
    parity: Sequence[ParityRow],
    gpus: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> list[CellView]:
    sound = {
        trial.trial_id
        for trial in trials
        if trial.outcome == Outcome.COMPLETED and not trial.invalid
    }
    judged = {pair.cell_id: pair for pair in pairs}
    ids = dict.fromkeys([*planned, *judged, *(trial.cell_id for trial in trials)])
    return [
        CellView(
            cell_id=cell_id,
            pair=judged.get(cell_id),
            trials=tuple(trial for trial in trials if trial.cell_id == cell_id),
            steps=tuple(
                step
                for step in steps
                if step.cell_id == cell_id and step.rank == 0 and step.trial_id in sound
            ),
            parity=tuple(row for row in parity if row.cell_id == cell_id),
            gpus=gpus,
        )
        for cell_id in ids
    ]
