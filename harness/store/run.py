"""A run's folder: its record, Parquet tables, logs, captures and a manifest of every digest.

Every change happens under the run's lock, in this order: new files are written in a folder of the
change, the manifest names their digests, they are renamed to their places. Whoever takes the lock
next ends or undoes what a killed process had begun. No file of a table is ever written for two
trials or cells, so that writers whom a lock does not keep apart cannot lose a row.
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from harness.errors import EnvironmentFault, IntegrityFault, UsageFault, fdbench_command
from harness.machine.owners import claim_of, claimed, is_claimed, place_of_claim
from harness.records import PairRow, ParityRow, PlannedCell, TrialRow
from harness.store.durable import disk_faults, files_in, sync, write_synced
from harness.store.manifest import (
    MANIFEST_FILE,
    RUN_FILE,
    RUN_FILES,
    Entry,
    append_manifest,
    evidence_files,
    read_manifest,
)
from harness.store.run_folders import is_run, why_no_run
from harness.store.run_record import RunRecord, dump_record, load_record
from harness.store.schema import Row, to_rows, to_table
from harness.store.staging import is_anything_staged, publish, settle, staging
from harness.store.tables import part_of, parts_of, path_of, read_parts, write_parquet
from runners.protocol.wire import sha256_file

_LOOK_S = 3.0
"""How long somebody may hold a cell who only looks whether it is held."""
_AGREE_TIMES = 10
"""How often a writer of the record makes sure that it and the manifest say the same."""
Parts = Mapping[type[Any], Sequence[Any]]
"""Rows of a trial by the table that they are of."""

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
                    self._settle()
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
        lock = FileLock(self.folder / _LOCKS / f"{part_of(cell_id)}.lock")
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

    @contextmanager
    def job_folder(self, trial_id: str) -> Iterator[Path]:
        """Where a trial runs; what a killed process left of it is gone.

        Raises:
            EnvironmentFault: Another process runs the trial, though this one holds its cell.
        """
        work = self.folder / WORK / trial_id
        with ExitStack() as held:
            with self.writing():  # a worker that ends removes the folder around it if it is empty
                work.parent.mkdir(exist_ok=True)
                held.enter_context(claimed(work))
            shutil.rmtree(work, ignore_errors=True)
            yield work

    def unfinished_jobs(self) -> list[Path]:
        """What lies in the folder of job folders and belongs to no process that may be alive."""
        found = sorted((self.folder / WORK).glob("*"))
        places = [place for path in found if (place := place_of_claim(path)) and is_claimed(place)]
        kept = {*places, *map(claim_of, places)}
        return [path for path in found if path not in kept]

    def write_rows(self, rows: Sequence[Row], row_type: type[Row], part: str) -> None:
        """Write the part of a trial, a cell or an import in place of what it held."""
        self.write_part(to_table(rows, row_type), row_type, part)

    def write_part(self, table: pa.Table, row_type: type, part: str) -> None:
        """Write a part that is a table already; see :meth:`write_rows`."""
        self._change({path_of(row_type, part): table})

    def read_rows(self, row_type: type[Row], parts: Collection[str] | None = None) -> list[Row]:
        """Read a table back as records, or the parts of some trials, cells or imports.

        Raises:
            IntegrityFault: A file is damaged or of another schema version.
        """
        return to_rows(self.read_table(row_type, parts), row_type)

    def read_table(self, row_type: type, parts: Collection[str] | None = None) -> pa.Table:
        """Read a table, all parts together; see :meth:`read_rows`."""
        return read_parts(self.folder, row_type, self.read_plan, parts)

    def stored_parts(self, row_type: type) -> set[str]:
        """Names of the parts that a table has, of trials or cells: see :func:`part_of`.

        Raises:
            IntegrityFault: A file of schema 2, which is read for that, is damaged.
        """
        return parts_of(self.folder, row_type)

    def write_record(self, record: RunRecord) -> None:
        """Write what the run was asked for, and how it stands; twice, for no log repeats it."""
        self._change(dict.fromkeys(RUN_FILES, dump_record(record)))
        for _ in range(_AGREE_TIMES):
            # Where locks keep nobody out, two may end in another order than they entered theirs.
            entries = read_manifest(self.folder)
            if all(name in entries and not self.fault_of(entries[name]) for name in RUN_FILES):
                return
            self._change(dict.fromkeys(RUN_FILES, (self.folder / RUN_FILE).read_text("utf-8")))

    def read_record(self) -> RunRecord:
        """Read ``run.json``.

        Raises:
            IntegrityFault: It is damaged or of another version.
        """
        path = self.folder / RUN_FILE
        if not path.is_file():
            return load_record(path)  # which says what is wrong
        found = path.stat()
        return _load_once(path, found.st_ino, found.st_mtime_ns, found.st_size)

    def read_plan(self) -> tuple[PlannedCell, ...]:
        """Every planned cell of the run, in order; see :meth:`read_record`."""
        return self.read_record().plan

    def add_trial(
        self, work: Path, row: TrialRow, parts: Parts, digests: Mapping[str, str]
    ) -> None:
        """Move a finished trial's files to their place and enter its rows.

        Args:
            work: Its job folder; captures lie in it as ``*.safetensors``.
            row: What it came to.
            parts: Its AR steps and telemetry.
            digests: Of every file, by the path it will have in the run's folder.

        Raises:
            EnvironmentFault: Another process has run the trial meanwhile.
        """
        tables = {
            path_of(row_type, row.trial_id): to_table(rows, row_type)
            for row_type, rows in {**parts, TrialRow: [row]}.items()
            if rows
        }
        with self.writing():
            self._move_trial(work, row.trial_id)
            self._change(tables, digests)

    def add_judgement(self, pair: PairRow, parity: Sequence[ParityRow]) -> None:
        """Enter a cell's verdict and its distances, in place of earlier ones."""
        distances = path_of(ParityRow, pair.cell_id), to_table(parity, ParityRow)
        verdict = path_of(PairRow, pair.cell_id), to_table([pair], PairRow)
        self._change(dict((distances, verdict)))

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
            self._change({path_of(row_type, place.name): table}, digests)

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
            for name in evidence_files(self.folder):
                if name not in manifest:
                    yield f"{name} is not in {MANIFEST_FILE}"
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

    def _change(
        self, files: Mapping[str, pa.Table | str], digests: Mapping[str, str] | None = None
    ) -> None:
        """Write tables and texts by path, enter them and other files in the manifest; publish.

        In the order given: what the last file says is there once the others are.
        """
        with self.writing(), staging(self.folder) as staged:
            written = {}
            for name, content in files.items():
                if isinstance(content, str):
                    # Another process publishes a file that says what the manifest has already.
                    written[name] = hashlib.sha256(content.encode()).hexdigest()
                    write_synced(staged / name, content)
                else:
                    write_parquet(content, staged / name)
                    written[name] = sha256_file(staged / name)
            entries = {**(digests or {}), **written}.items()
            append_manifest(self.folder, (Entry(path=n, sha256=sha256) for n, sha256 in entries))
            for name in files:
                publish(self.folder, staged, name)

    def _settle(self) -> None:
        """End the changes that broke off."""
        if is_anything_staged(self.folder):
            try:
                entries = read_manifest(self.folder)
            except IntegrityFault:  # fsck says so; nothing may be thrown away on its word
                return
            settle(self.folder, entries)

    def _move_trial(self, work: Path, trial_id: str) -> None:
        """Captures first: a trial is there once its folder of logs is."""
        captures, logs = self.folder / CAPTURES / trial_id, self.folder / LOGS / trial_id
        if logs.exists():
            raise EnvironmentFault(
                f"{logs} already exists: another process has run this trial meanwhile\n"
                "File locks do not work on this disk; give each process its own run: "
                "fdbench run --out FOLDER"
            )
        if captures.exists():
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


@lru_cache(maxsize=4)
def _load_once(path: Path, *_version: int) -> RunRecord:
    """A record that several steps of a command need; a changed one is another file."""
    return load_record(path)


@contextmanager
def pointing_to_fsck(folder: Path) -> Iterator[None]:
    """Add to an ``IntegrityFault`` of a run, which names one file, how to see all."""
    try:
        yield
    except IntegrityFault as fault:
        raise IntegrityFault(
            f"{fault}\nSee all problems: {fdbench_command('fsck', folder)}"
        ) from fault


def require_new(folder: Path) -> None:
    """Refuse a folder that exists, before any time is spent.

    Raises:
        UsageFault: It does.
    """
    if folder.exists():
        raise UsageFault(f"{folder} already exists; choose another --out, or remove it first")


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
            f"{folder} could not be created: {error.strerror}; choose another {option}"
        ) from error
    return Store(folder)


def open_run(folder: Path) -> Store:
    """Open the folder of an existing run.

    Raises:
        UsageFault: It is none.
    """
    if not is_run(folder):
        raise UsageFault(f"{folder} is not a run: {why_no_run(folder)}")
    return Store(folder)
