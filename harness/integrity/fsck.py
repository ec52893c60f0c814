"""Compares a run with what its raw evidence says; reads only."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from harness.errors import IntegrityFault
from harness.integrity import import_record, imports
from harness.integrity.comparing import compare, differ
from harness.integrity.findings import Finding, Kind
from harness.integrity.imports import Imported
from harness.integrity.rejudging import rejudge
from harness.judging import cell_verdict
from harness.machine.owners import is_claimed
from harness.plan.cells import repeat_of
from harness.records import Outcome, PairRow, ParityRow, PlannedCell, PlannedTrial, TrialRow
from harness.store.manifest import (
    IMPORTED,
    IMPORTS,
    MANIFEST_FILE,
    RUN_COPY_FILE,
    RUN_FILE,
    RUN_FILES,
    Entry,
    evidence_files,
    misplaced,
    read_manifest,
    unfinished_files,
)
from harness.store.run import CAPTURES, LOGS, WORK, Store
from harness.store.run_record import RunRecord, load_record
from harness.store.schema import PARTED, TABLES, WHOLE, Row, read_table, to_rows
from harness.store.staging import abandoned
from harness.store.tables import KEYS, part_of, path_of
from harness.trials import evidence, trial_record
from harness.trials.evidence import TrialResult


@dataclass(kw_only=True)
class Inspection:
    """What a run's tables should hold, and where they do not."""

    findings: list[Finding] = field(default_factory=list)
    record: RunRecord | None = None
    """``run.json``, or what its copy says; ``None`` where neither can be read."""
    manifest: dict[str, Entry] | None = None
    results: dict[str, TrialResult] = field(default_factory=dict)
    """Every trial there is evidence of, in the order of the plan."""
    judged: dict[str, cell_verdict.Judged] = field(default_factory=dict)
    """Every cell that is over, by id."""
    imports: dict[str, Imported] = field(default_factory=dict)
    """Every import whose raw log is sound, by id."""

    @property
    def plan(self) -> tuple[PlannedCell, ...]:
        """Every planned cell, as far as it is known."""
        return self.record.plan if self.record else ()


def inspect(run_store: Store) -> Inspection:
    """Look at everything in a run's folder; call it while holding the run."""
    return _Inspector(run_store).inspect()


class _Inspector:
    """One look at a run."""

    def __init__(self, run_store: Store) -> None:
        self._store, self._folder = run_store, run_store.folder
        self._found = Inspection()
        self._faulty: dict[str, str] = {}
        """Path to what is wrong with the file, for each file of the manifest."""

    def inspect(self) -> Inspection:
        """Every finding, and what the tables should hold."""
        self._read_manifest()
        self._read_record()
        self._inspect_imports()
        if self._found.record is not None:
            self._look_for_leftovers()
            self._read_trials()
            self._compare_parts()
            self._judge()
        self._look_at_files()
        unique = dict.fromkeys(self._found.findings)
        self._found.findings = sorted(unique, key=lambda finding: finding.path)
        return self._found

    def _note(self, path: Path | str, problem: str, kind: Kind) -> None:
        name = str(path.relative_to(self._folder)) if isinstance(path, Path) else path
        problem = problem.replace(f"{self._folder}/", "")
        self._found.findings.append(Finding(path=name, problem=problem, kind=kind))

    def _read_record(self) -> None:
        """Read the run file, or its copy where that is damaged."""
        faults: dict[str, str] = {}
        for name in (RUN_FILE, RUN_COPY_FILE):
            path = self._folder / name
            if name == RUN_COPY_FILE and not path.exists() and name not in self._entries():
                continue  # a run of an fdbench that wrote none
            try:
                record = load_record(path)
            except IntegrityFault as error:
                faults[name] = str(error)
                continue
            if self._found.record is None:
                self._found.record = record
            elif record != self._found.record:
                faults[name] = f"says something else than {RUN_FILE}"
        for name, problem in faults.items():
            if self._found.record is not None:
                self._note(name, problem, Kind.DERIVABLE)
            else:
                self._note(name, f"{problem}; without the plan nothing can be judged", Kind.LOST)

    def _read_manifest(self) -> None:
        try:
            entries = read_manifest(self._folder)
        except IntegrityFault as error:
            self._note(MANIFEST_FILE, str(error), Kind.DERIVABLE)
            return
        if not entries:
            self._note(MANIFEST_FILE, "is missing", Kind.DERIVABLE)
            return
        self._found.manifest = entries
        self._faulty = {
            name: what for name, entry in entries.items() if (what := self._store.fault_of(entry))
        }

    def _look_for_leftovers(self) -> None:
        for path in (*unfinished_files(self._folder), *abandoned(self._folder)):
            self._note(path, "was never finished", Kind.LEFTOVER)
        cells = {
            each.trial_id: each.cell_id
            for cell in self._found.plan
            for trial in cell.trials
            for each in (trial, repeat_of(trial))
        }
        for path in self._store.unfinished_jobs():
            if path.name not in cells or not self._store.is_held(cells[path.name]):
                self._note(path, "was never finished", Kind.LEFTOVER)
        for path in sorted((self._folder / CAPTURES).glob("*")):
            is_known = any(name.startswith(f"{LOGS}/{path.name}/") for name in self._entries())
            is_moving = self._is_moving(f"{CAPTURES}/{path.name}")
            if not is_known and not is_moving and not (self._folder / LOGS / path.name).exists():
                self._note(path, "belongs to no finished trial", Kind.LEFTOVER)

    def _is_moving(self, name: str) -> bool:
        """Whether a process that may be alive is moving a trial's file there now."""
        folder, trial_id, *_ = (*name.split("/"), "")
        return folder in (LOGS, CAPTURES) and is_claimed(self._folder / WORK / trial_id)

    def _entries(self) -> dict[str, Entry]:
        return self._found.manifest or {}

    def _read_trials(self) -> None:
        parts = self._stored(TrialRow)
        stored = {row.trial_id: row for rows in parts.values() for row in rows}
        for cell in self._found.plan:
            for planned in cell_verdict.expected_trials(cell, self._found.results):
                name, known = planned.trial_id, stored.pop(planned.trial_id, None)
                result = self._read_trial(planned, known)
                if result is None:
                    continue
                if known is None:
                    self._note_missing(TrialRow, name)
                elif differ(known, result.row):
                    self._note(path_of(TrialRow, name), differ(known, result.row), Kind.DERIVABLE)
                elif bool(known.invalid) == bool(result.row.invalid):
                    result = replace(result, row=known)
                self._found.results[name] = result
        for name in stored:
            self._note(self._place_of(TrialRow, name), f"{name} is not planned", Kind.DERIVABLE)

    def _read_trial(self, planned: PlannedTrial, known: TrialRow | None) -> TrialResult | None:
        """A trial from its raw evidence; what is left of it where that is gone."""
        folder = self._folder / LOGS / planned.trial_id
        prefix = f"{LOGS}/{planned.trial_id}/"
        traces = [name for name in self._entries() if name.startswith(prefix)]
        if not folder.exists() and known is None and not traces:
            return None
        try:
            record = trial_record.read_record(folder)
        except IntegrityFault as error:
            words = str(error).replace(f"{self._folder}/", "")
            self._note(f"{prefix}{trial_record.TRIAL_FILE}", words, Kind.LOST)
            return _lost(planned, known, f"lost: {trial_record.TRIAL_FILE} is missing or altered")
        result = evidence.read_trial(folder, record)
        for name in record.files:
            entry = Entry(path=prefix + name, sha256=record.files[name])
            if what := self._store.fault_of(entry):
                self._note(prefix + name, what, Kind.LOST)
        return result

    def _compare_parts(self) -> None:
        for row_type in PARTED:
            folder = self._folder / TABLES[row_type]
            for name, result in self._found.results.items():
                path = folder / f"{name}.parquet"
                stored = self._part(path, row_type) if path.exists() else []
                for problem in compare(stored, result.parts[row_type]):
                    self._note(path, problem, Kind.DERIVABLE)
            for path in sorted(folder.glob("*.parquet")):
                if path.stem not in self._found.results:
                    self._note(path, "belongs to no trial", Kind.DERIVABLE)

    def _part(self, path: Path, row_type: type[Any]) -> list[Any]:
        try:
            return to_rows(read_table(path, row_type), row_type)
        except IntegrityFault as error:
            self._note(path, str(error), Kind.DERIVABLE)
            return []

    def _inspect_imports(self) -> None:
        """Look at every import: its record and raw log, and its rows against that log."""
        for folder in import_record.folders(self._store):
            try:
                record = import_record.read_record(folder)
                imported = imports.read_import(folder, record)
            except IntegrityFault as error:
                self._note(folder / import_record.RECORD_FILE, str(error), Kind.LOST)
                continue
            self._found.imports[folder.name] = imported
            if problem := imports.fault_of_table(self._store, imported):
                self._note(imported.table_name, problem, Kind.DERIVABLE)
        for path in [path for part in IMPORTED for path in (self._folder / part).glob("*.parquet")]:
            if not (self._folder / IMPORTS / path.stem).is_dir():
                self._note(path, "belongs to no import", Kind.DERIVABLE)

    def _judge(self) -> None:
        verdicts = self._stored(PairRow)
        pairs = {row.cell_id: row for rows in verdicts.values() for row in rows}
        distances = self._stored(ParityRow)
        for cell in self._found.plan:
            results = {
                trial.trial_id: self._found.results[trial.trial_id]
                for trial in cell_verdict.expected_trials(cell, self._found.results)
                if trial.trial_id in self._found.results
            }
            stored = pairs.pop(cell.cell_id, None)
            if not results or not cell_verdict.is_over(cell, results):
                if stored is not None:
                    place = self._place_of(PairRow, cell.cell_id)
                    self._note(place, f"{cell.cell_id} is not over", Kind.DERIVABLE)
                continue
            known = distances.get(part_of(cell.cell_id))
            if known is None:
                self._note_missing(ParityRow, cell.cell_id)
            captures = self._folder / CAPTURES
            judged, findings = rejudge(cell, results, captures, stored, known)
            self._found.judged[cell.cell_id] = judged
            self._found.findings += findings
        for name in pairs:
            self._note(self._place_of(PairRow, name), f"{name} is not planned", Kind.DERIVABLE)

    def _stored(self, row_type: type[Row]) -> dict[str, list[Row]]:
        """Rows by part, of the files that the manifest vouches for; see ``WHOLE`` of the schema."""
        found: dict[str, list[Row]] = {}
        whole = self._sound(WHOLE[row_type], row_type)
        if whole is not None:
            found = {part_of(cell.cell_id): [] for cell in self._found.plan}
            for row in whole:
                found.setdefault(part_of(vars(row)[KEYS[row_type]]), []).append(row)
        there = {path.stem for path in (self._folder / TABLES[row_type]).glob("*.parquet")}
        prefix = f"{TABLES[row_type]}/"
        listed = {Path(name).stem for name in self._entries() if name.startswith(prefix)}
        for part in sorted(there | listed):
            rows = self._sound(path_of(row_type, part), row_type)
            names = {vars(row)[KEYS[row_type]] for row in rows or ()}
            if any(part_of(name) != part for name in names):
                problem = f"has a row of {min(names)}"
                self._note(path_of(row_type, part), problem, Kind.DERIVABLE)
                rows = None
            found.pop(part, None)
            if rows is not None:
                found[part] = rows
        return found

    def _sound(self, name: str, row_type: type[Row]) -> list[Row] | None:
        """Rows of one file, if the manifest vouches for it and it can be read."""
        path = self._folder / name
        if name in self._faulty or name not in self._entries() or not path.exists():
            return None
        try:
            return to_rows(read_table(path, row_type), row_type)
        except IntegrityFault as error:
            self._note(name, str(error), Kind.DERIVABLE)
            return None

    def _place_of(self, row_type: type, name: str) -> str:
        """The file that a trial's or a cell's stored rows are in."""
        path = path_of(row_type, name)
        return path if (self._folder / path).exists() else WHOLE[row_type]

    def _note_missing(self, row_type: type, name: str) -> None:
        """Note that rows are not stored, where no other finding has said why."""
        path = path_of(row_type, name)
        noted = {finding.path for finding in self._found.findings} | self._faulty.keys()
        if not noted & {path, WHOLE[row_type]}:
            self._note(path, "is missing", Kind.DERIVABLE)

    def _look_at_files(self) -> None:
        for path, what in misplaced(self._folder).items():
            self._note(path, what, Kind.FOREIGN)
        for name, what in self._faulty.items():
            self._note(name, what, self._kind_of(name))
        if self._found.manifest is None:
            return
        recorded = {n for result in self._found.results.values() for n in result.digests}
        recorded |= {n for one in self._found.imports.values() for n in one.digests}
        leftovers = tuple(f.path for f in self._found.findings if f.kind is Kind.LEFTOVER)
        for name in evidence_files(self._folder):
            if name in self._entries() or name.startswith(leftovers or ("\0",)):
                continue
            if self._is_moving(name):
                continue
            derived = name in recorded or name.endswith(".parquet") or name in RUN_FILES
            kind = Kind.DERIVABLE if derived else Kind.FOREIGN
            self._note(name, f"is not in {MANIFEST_FILE}", kind)

    def _kind_of(self, name: str) -> Kind:
        """Tables can be derived; a run file is good if its own digest says so."""
        is_table = name.split("/", maxsplit=1)[0] in (*TABLES.values(), *WHOLE.values())
        is_sealed = name in RUN_FILES and self._found.record is not None
        return Kind.DERIVABLE if is_table or is_sealed else Kind.LOST


def _lost(planned: PlannedTrial, known: TrialRow | None, why: str) -> TrialResult:
    """What is left of a trial without its raw evidence."""
    if known is not None:
        values = {f.name: getattr(known, f.name) for f in fields(known)}
    else:
        empty: dict[Any, Any] = {str: "", int: 0, float: 0.0}
        values = {f.name: empty.get(f.type) for f in fields(TrialRow)}
        values |= {"outcome": Outcome.FAILED.value, "facts": "{}"}
        values |= {name: getattr(planned, name) for name in ("trial_id", "cell_id", "process")}
        values |= {"role": planned.role.value, "side": str(planned.side), "reason": "unknown"}
    row = TrialRow(**{**values, "invalid": why})
    return TrialResult(row=row, steps=(), settings=None, captures=())
