"""A run's folder: Parquet tables, logs, captures and a manifest of every file's digest.

Every change happens under the run's lock, in this order: new files are written beside their places,
the manifest names their digests, they are renamed. Whoever takes the lock next finishes or undoes
what a killed process had begun.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from harness.errors import IntegrityFault, UsageFault
from harness.records import REPEATED, PairRow, ParityRow, PlannedCell, TrialRow
from harness.store.dataframes import Frames
from harness.store.durable import BESIDE, beside, disk_faults, files_in, publish, sync, write_beside
from harness.store.manifest import (
    MANIFEST_FILE,
    RUN_COPY_FILE,
    RUN_FILE,
    Entry,
    evidence_files,
    read_manifest,
    unfinished_files,
    write_manifest,
)
from harness.store.run_record import dump_run, load_plan, load_run
from harness.store.schema import TABLES, Row, read_table, schema_of, to_rows, to_table
from runners.protocol.wire import sha256_file

_LOOK_S = 3.0
"""How long somebody may hold a cell who only looks whether it is held."""
Parts = Mapping[type[Any], Sequence[Any]]
"""Rows of the tables that have a file a trial, by their type."""

LOGS, CAPTURES, WORK, _LOCKS = "logs", "captures", "work", ".locks"


class Store:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; see :func:`create_run` and :func:`open_run`."""
        self.folder = folder
        self._lock = FileLock(folder / _LOCKS / "run.lock")
        self._cells: set[str] = set()
        """Cells that this process holds."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the run against other writers; a lock of a dead process is free.

        Raises:
            EnvironmentFault: The disk is full.
        """
        with disk_faults(self.folder):
            (self.folder / _LOCKS).mkdir(exist_ok=True)
            outermost = not self._lock.is_locked
            with self._lock:
                if outermost:
                    self._settle_files()
                yield

    @contextmanager
    def holding_cell(self, cell_id: str) -> Iterator[None]:
        """Hold a cell while its trials run.

        Raises:
            UsageFault: Another process runs it now.
        """
        with self.holding_cell_if_free(cell_id) as is_ours:
            if not is_ours:
                raise self.busy(cell_id)
            yield

    def busy(self, what: str) -> UsageFault:
        """What to tell somebody who wants a cell that is held."""
        told = f"another process runs {what} now; wait for it, or stop it first"
        return UsageFault(f"{self.folder}: {told}")

    @contextmanager
    def holding_cell_if_free(self, cell_id: str, wait_s: float = _LOOK_S) -> Iterator[bool]:
        """Hold a cell that no other process runs; tells whether it does."""
        (self.folder / _LOCKS).mkdir(exist_ok=True)
        lock = FileLock(self.folder / _LOCKS / f"{_slug(cell_id)}.lock")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            yield False
            return
        self._cells.add(cell_id)
        try:
            yield True
        finally:
            self._cells.discard(cell_id)
            lock.release()

    def is_held(self, cell_id: str) -> bool:
        """Whether another process runs the cell now."""
        if cell_id in self._cells:
            return False
        with self.holding_cell_if_free(cell_id, wait_s=0) as is_free:
            return not is_free

    def write_rows(self, rows: Sequence[Row], row_type: type[Row], part: str = "") -> None:
        """Write a whole table, or one part of the step table, in place of what was there."""
        with self.writing():
            self._publish([self._write_table(rows, row_type, part)])

    def write_part(self, table: pa.Table, row_type: type, part: str) -> None:
        """Write one part of a table of many files in place of what was there."""
        with self.writing():
            self._publish([self._write_parquet(table, row_type, part)])

    def read_rows(self, row_type: type[Row]) -> list[Row]:
        """Read a table back as records; a table that was never written is empty.

        Raises:
            IntegrityFault: The file is damaged or of another schema version.
        """
        return to_rows(self.read_table(row_type), row_type)

    def read_table(self, row_type: type) -> pa.Table:
        """Read a table, all parts together; see :meth:`read_rows`."""
        path = self.folder / TABLES[row_type]
        parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path] * path.exists()
        tables = [read_table(part, row_type) for part in parts]
        return pa.concat_tables([schema_of(row_type).empty_table(), *tables])

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Write what the run was asked for, and how it stands; twice, for no log repeats it."""
        places = [self.folder / RUN_FILE, self.folder / RUN_COPY_FILE]
        text = dump_run(dict(run))
        with self.writing():
            for place in places:
                write_beside(place, text)
            self._publish(places)

    def read_run(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            IntegrityFault: It is damaged or of another version.
        """
        return load_run(self.folder / RUN_FILE)

    def read_plan(self) -> tuple[PlannedCell, ...]:
        """Every planned cell of the run, in order.

        Raises:
            IntegrityFault: ``run.json`` is damaged or has no plan.
        """
        return load_plan(self.read_run().get("plan"), self.folder / RUN_FILE)

    def add_trial(
        self, work: Path, row: TrialRow, parts: Parts, digests: Mapping[str, str]
    ) -> None:
        """Move a finished trial's files to their place and enter its rows.

        Args:
            work: Its job folder; captures lie in it as ``*.safetensors``.
            row: What it came to.
            parts: Its AR steps and telemetry.
            digests: Of every file, by the path it will have in the run's folder.
        """
        with self.writing():
            self._move_trial(work, row.trial_id)
            self.enter_trial(row, parts, digests)

    def enter_trial(self, row: TrialRow, parts: Parts, digests: Mapping[str, str]) -> None:
        """Enter the rows of a trial whose files are in their place, with their digests."""
        with self.writing():
            rows = [old for old in self.read_rows(TrialRow) if old.trial_id != row.trial_id]
            changed = [self._write_table(self._in_order([*rows, row]), TrialRow)]
            for row_type, part in parts.items():
                if part:
                    changed.append(self._write_table(part, row_type, row.trial_id))
            self._publish(changed, digests)

    def add_judgement(self, pair: PairRow, parity: Sequence[ParityRow]) -> None:
        """Enter a cell's verdict and its distances, in place of earlier ones."""
        with self.writing():
            pairs = [row for row in self.read_rows(PairRow) if row.cell_id != pair.cell_id]
            others = [row for row in self.read_rows(ParityRow) if row.cell_id != pair.cell_id]
            self._publish(
                [
                    self._write_table(self._in_order([*pairs, pair]), PairRow),
                    self._write_table(self._in_order([*others, *parity]), ParityRow),
                ]
            )

    def add_import(
        self, work: Path, place: Path, table: pa.Table, row_type: type, digests: Mapping[str, str]
    ) -> None:
        """Move an imported log's files to their place and enter its rows.

        Args:
            work: Folder with its files.
            place: Where that folder belongs; it may be there already, as a stopped import left it.
            table: Its rows.
            row_type: Record that the rows are.
            digests: Of every file, by the path it will have in the run's folder.
        """
        with self.writing():
            if not place.exists():
                for path in files_in(work):
                    sync(path)
                place.parent.mkdir(exist_ok=True)
                work.rename(place)
                sync(place.parent)
            self._publish([self._write_parquet(table, row_type, place.name)], digests)

    def register(self, digests: Mapping[str, str]) -> None:
        """Enter files in the manifest, in place of earlier entries for the same files."""
        with self.writing():
            self._publish([], digests)

    def verify(self) -> None:
        """Compare the run's files with the manifest; what a report added does not count.

        Raises:
            IntegrityFault: A file is missing, altered or unknown; the message names the first.
        """
        for fault in self.faults():
            raise IntegrityFault(f"{self.folder}: {fault}")

    def faults(self) -> Iterator[str]:
        """Say of each file that is missing, altered or unknown what is wrong with it.

        Raises:
            IntegrityFault: The manifest itself is damaged.
        """
        # A run on a read-only disk has no writer to wait for, and none was killed on it.
        with self.writing() if os.access(self.folder, os.W_OK) else nullcontext():
            manifest = read_manifest(self.folder)
            for path in evidence_files(self.folder):
                if str(path.relative_to(self.folder)) not in manifest:
                    yield f"{path.relative_to(self.folder)} is not in {MANIFEST_FILE}"
            for entry in manifest.values():
                what = self.fault_of(entry)
                if what:
                    yield f"{entry.path} {what}"

    def fault_of(self, entry: Entry) -> str:
        """What is wrong with a file of the manifest; empty if nothing is."""
        path = self.folder / entry.path
        if not path.is_file():
            return "" if entry.pruned else "is missing"
        return "" if sha256_file(path) == entry.sha256 else "was altered after the run"

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files and folders that are no evidence, or can be derived again."""
        with self.writing():
            for path in paths:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)

    def _write_table(self, rows: Sequence[Row], row_type: type[Row], part: str = "") -> Path:
        """Write a table beside its place; returns the place."""
        return self._write_parquet(to_table(rows, row_type), row_type, part)

    def _write_parquet(self, table: pa.Table, row_type: type, part: str = "") -> Path:
        name = TABLES[row_type]
        path = self.folder / name / f"{part}.parquet" if part else self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, beside(path), write_page_checksum=True)
        sync(beside(path))
        return path

    def _publish(self, changed: Sequence[Path], digests: Mapping[str, str] | None = None) -> None:
        """Enter files that lie beside their places, and others, in the manifest; then rename."""
        entries = read_manifest(self.folder)
        new = {self._name(path): sha256_file(beside(path)) for path in changed}
        for name, digest in {**(digests or {}), **new}.items():
            entries[name] = Entry(path=name, sha256=digest)
        write_manifest(self.folder, entries.values())
        for path in changed:
            publish(path)

    def _settle_files(self) -> None:
        """Finish the renames that the manifest already names; drop what it does not."""
        unfinished = unfinished_files(self.folder)
        if unfinished:
            try:
                entries = read_manifest(self.folder)
            except IntegrityFault:  # fsck says so; nothing may be thrown away on its word
                return
            for path in unfinished:
                place = path.with_name(path.name.removesuffix(BESIDE))
                entry = entries.get(self._name(place))
                if entry is not None and sha256_file(path) == entry.sha256:
                    publish(place)
                else:
                    path.unlink()

    def _move_trial(self, work: Path, trial_id: str) -> None:
        """Captures first: a trial is there once its folder of logs is."""
        captures, logs = self.folder / CAPTURES / trial_id, self.folder / LOGS / trial_id
        if captures.exists() and not logs.exists():
            shutil.rmtree(captures)
        captures.mkdir(parents=True)
        for path in files_in(work):
            sync(path)
        for capture in work.glob("*.safetensors"):
            capture.rename(captures / capture.name)
        sync(captures)
        logs.parent.mkdir(exist_ok=True)
        work.rename(logs)
        sync(logs.parent)

    def _in_order(self, rows: list[Row]) -> list[Row]:
        """Rows cell by cell and trial by trial as planned, whatever order they came in."""
        cells = self.read_plan() if "plan" in self.read_run() else ()
        order = {cell.cell_id: place for place, cell in enumerate(cells)}
        trials = [trial.trial_id for cell in cells for trial in cell.trials]
        names = [name for trial_id in trials for name in (trial_id, trial_id + REPEATED)]
        places = {name: place for place, name in enumerate(names)}

        def key(row: Row) -> tuple[int, int]:
            cell_id, trial_id = vars(row)["cell_id"], vars(row).get("trial_id", "")
            return order.get(cell_id, len(order)), places.get(trial_id, len(places))

        return sorted(rows, key=key)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def open_store(folder: Path | str) -> Frames:
    """Open a run for analysis.

    Raises:
        UsageFault: It is no run.
        IntegrityFault: A file is missing or was altered.
    """
    run_store = open_run(Path(folder))
    run_store.verify()
    return Frames(run_store.read_table)


@contextmanager
def pointing_to_fsck(folder: Path) -> Iterator[None]:
    """Add to an ``IntegrityFault`` of a run, which names one file, how to see all."""
    try:
        yield
    except IntegrityFault as fault:
        raise IntegrityFault(f"{fault}\nSee everything: fdbench fsck {folder}") from fault


def require_new(folder: Path) -> None:
    """Refuse a folder that exists, before any time is spent.

    Raises:
        UsageFault: It does.
    """
    if folder.exists():
        raise UsageFault(f"{folder} exists; pick another --out, or remove it first")


def create_run(folder: Path, option: str = "--out") -> Store:
    """Make the folder of a new run, which the user named with an option.

    Raises:
        UsageFault: There is one already, or it cannot be made.
    """
    require_new(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageFault(
            f"{folder} cannot be made: {error.strerror}; pick another {option}"
        ) from error
    return Store(folder)


def open_run(folder: Path) -> Store:
    """Open the folder of an existing run.

    Raises:
        UsageFault: It is none.
    """
    if not any((folder / name).is_file() for name in (RUN_FILE, RUN_COPY_FILE)):
        raise UsageFault(
            f"{folder} is not a run: no {RUN_FILE} in it; runs are made by: fdbench run"
        )
    return Store(folder)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]", ".", name)
