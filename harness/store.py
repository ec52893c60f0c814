"""A run's folder: Parquet tables, logs, captures and a manifest of every file's digest.

Owns column names and units. Files are written beside their place, synced and renamed.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import IntegrityFault, UsageFault
from harness.records import PairRow, ParityRow, StepRow, TrialRow
from runners.protocol.wire import sha256_file

SCHEMA_VERSION = 1
RUN_FILE, MANIFEST_FILE = "run.json", "MANIFEST.jsonl"
STEP, TRIAL, PAIR, PARITY = StepRow, TrialRow, PairRow, ParityRow

Row = TypeVar("Row", StepRow, TrialRow, PairRow, ParityRow)

_STRING, _FLOAT, _INT = pa.string(), pa.float64(), pa.int64()
_COLUMN_TYPES: dict[Any, pa.DataType] = {
    str: _STRING,
    float: _FLOAT,
    int: _INT,
    float | None: _FLOAT,
    dict[str, float]: pa.map_(_STRING, _FLOAT),
    tuple[float, ...]: pa.list_(_FLOAT),
}
_EVIDENCE = ("steps", "logs", "captures")
_UNITS = {"_ms": "ms", "_s": "s", "_gib": "GiB", "byte_start": "byte", "byte_end": "byte"}
_TABLES: dict[type, str] = {
    StepRow: "steps",
    TrialRow: "trials.parquet",
    PairRow: "pairs.parquet",
    ParityRow: "parity.parquet",
}


def schema_of(row_type: type) -> pa.Schema:
    """Parquet schema of a record type: its fields in order, each with its unit."""
    columns = [
        pa.field(
            item.name,
            _COLUMN_TYPES[item.type],
            nullable=item.type == float | None,
            metadata={"unit": _unit(item.name)},
        )
        for item in fields(row_type)
    ]
    return pa.schema(columns, metadata={"fdbench_schema": str(SCHEMA_VERSION)})


def _unit(column: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if column.endswith(suffix)), "")


class Store:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; see :func:`create` and :func:`open_run`."""
        self.folder = folder

    def write_rows(self, rows: Sequence[Row], row_type: type[Row], part: str = "") -> None:
        """Write a whole table, or one part of the step table, in place of what was there."""
        name = _TABLES[row_type]
        path = self.folder / name / f"{part}.parquet" if part else self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([_plain(row) for row in rows], schema=schema_of(row_type))
        beside = path.with_name(path.name + ".tmp")
        pq.write_table(table, beside, write_page_checksum=True)
        _publish(beside, path)
        self.register([path])

    def read_rows(self, row_type: type[Row]) -> list[Row]:
        """Read a table back as records; a table that was never written is empty.

        Raises:
            IntegrityFault: The file is damaged or of another schema version.
        """
        path = self.folder / _TABLES[row_type]
        parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path] * path.exists()
        rows: list[Row] = []
        for part in parts:
            try:
                table = pq.read_table(part, page_checksum_verification=True)
            except (OSError, pa.ArrowException) as error:
                raise IntegrityFault(f"{part}: not a readable Parquet file ({error})") from error
            wanted = schema_of(row_type)
            if table.schema != wanted or table.schema.metadata != wanted.metadata:
                raise IntegrityFault(f"{part}: columns are not those of schema {SCHEMA_VERSION}")
            rows += [_record(row_type, values) for values in table.to_pylist()]
        return rows

    def write_run(self, run: dict[str, Any]) -> None:
        """Write what the run was asked for, and how it stands."""
        path = self.folder / RUN_FILE
        write_text(path, json.dumps(run | {"schema": SCHEMA_VERSION}, indent=1) + "\n")
        self.register([path])

    def read_run(self) -> dict[str, Any]:
        """Read ``run.json``.

        Raises:
            IntegrityFault: It is no JSON object.
        """
        path = self.folder / RUN_FILE
        try:
            run = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise IntegrityFault(f"{path}: not JSON ({error})") from error
        if not isinstance(run, dict):
            raise IntegrityFault(f"{path}: not the record of a run")
        return run

    def commit_trial(self, work: Path, trial_id: str) -> None:
        """Move a finished trial's files to their place by rename and enter them in the manifest."""
        captures, logs = self.folder / "captures" / trial_id, self.folder / "logs" / trial_id
        captures.mkdir(parents=True)
        for capture in work.glob("*.safetensors"):
            capture.rename(captures / capture.name)
        logs.parent.mkdir(exist_ok=True)
        work.rename(logs)
        self.register(_files_in(logs) + _files_in(captures))

    def register(self, paths: Sequence[Path]) -> None:
        """Enter files in the manifest, in place of earlier entries for the same files."""
        manifest = self._manifest()
        manifest |= {str(path.relative_to(self.folder)): sha256_file(path) for path in paths}
        lines = [json.dumps({"path": name, "sha256": manifest[name]}) for name in sorted(manifest)]
        write_text(self.folder / MANIFEST_FILE, "\n".join(lines) + "\n")

    def verify(self) -> None:
        """Compare the run's files with the manifest; what a report added does not count.

        Raises:
            IntegrityFault: A file is missing, altered or unknown; the message names the first.
        """
        manifest = self._manifest()
        known = [path for name in _EVIDENCE for path in _files_in(self.folder / name)]
        for path in [self.folder / RUN_FILE, *sorted(self.folder.glob("*.parquet")), *known]:
            if str(path.relative_to(self.folder)) not in manifest:
                raise IntegrityFault(f"{path} is not in {MANIFEST_FILE}")
        for name, digest in manifest.items():
            path = self.folder / name
            if not path.is_file():
                raise IntegrityFault(f"{self.folder}: {name} is missing")
            if sha256_file(path) != digest:
                raise IntegrityFault(f"{self.folder}: {name} was altered after the run")

    def _manifest(self) -> dict[str, str]:
        path = self.folder / MANIFEST_FILE
        if not path.exists():
            return {}
        try:
            entries = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            return {entry["path"]: entry["sha256"] for entry in entries}
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityFault(f"{path}: not a manifest ({error})") from error


def require_new(folder: Path) -> None:
    """Refuse a folder that exists, before any time is spent.

    Raises:
        UsageFault: It does.
    """
    if folder.exists():
        raise UsageFault(f"{folder} exists; pick another --out, or remove it first")


def create(folder: Path) -> Store:
    """Make the folder of a new run.

    Raises:
        UsageFault: There is one already.
    """
    require_new(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageFault(
            f"{folder} cannot be made: {error.strerror}; pick another --out"
        ) from error
    return Store(folder)


def open_run(folder: Path) -> Store:
    """Open the folder of an existing run.

    Raises:
        UsageFault: It is none.
    """
    if not (folder / RUN_FILE).is_file():
        raise UsageFault(
            f"{folder} is not a run: no {RUN_FILE} in it; runs are made by: fdbench run"
        )
    return Store(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its place, sync it and rename it there."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text, encoding="utf-8")
    _publish(beside, path)


def _files_in(folder: Path) -> list[Path]:
    """Every file below a folder; links, which a side may have made, are no files."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def _publish(beside: Path, path: Path) -> None:
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def _plain(row: Any) -> dict[str, Any]:
    values = asdict(row)
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def _record(row_type: type[Row], values: dict[str, Any]) -> Row:
    for item in fields(row_type):
        if item.type == dict[str, float]:
            values[item.name] = dict(values[item.name])
        elif item.type == tuple[float, ...]:
            values[item.name] = tuple(values[item.name])
    return row_type(**values)
