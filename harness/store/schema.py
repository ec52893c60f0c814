"""Columns of every table: names, types and units, and the version that all files carry."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import IntegrityFault, in_words
from harness.imported_records import ImportedFigure, ImportedStep
from harness.records import LogStep, PairRow, ParityRow, StepRow, TelemetryRow, TrialRow
from harness.store.version import SCHEMA_VERSION, check_version

Row = TypeVar(
    "Row",
    LogStep,
    StepRow,
    TelemetryRow,
    TrialRow,
    PairRow,
    ParityRow,
    ImportedStep,
    ImportedFigure,
)

TABLES: dict[type, str] = {
    StepRow: "steps",
    TelemetryRow: "telemetry",
    TrialRow: "trials",
    PairRow: "pairs",
    ParityRow: "parity",
    ImportedStep: "imported_steps",
    ImportedFigure: "imported_figures",
}
"""Folder of each table: a file for each trial, cell or import."""
WHOLE: dict[type, str] = {
    TrialRow: "trials.parquet",
    PairRow: "pairs.parquet",
    ParityRow: "parity.parquet",
}
"""Tables that were one file in schema 2; a part that was written since stands for its rows."""
PARTED: tuple[type[StepRow] | type[TelemetryRow], ...] = (StepRow, TelemetryRow)
"""Tables that raw evidence gives, and whose parts may be absent: a trial may have no rows."""
_VERSION_KEY = b"fdbench_schema"
_STRING, _FLOAT, _INT = pa.string(), pa.float64(), pa.int64()
_COLUMN_TYPES: dict[Any, pa.DataType] = {
    str: _STRING,
    float: _FLOAT,
    int: _INT,
    float | None: _FLOAT,
    int | None: _INT,
    str | None: _STRING,
    dict[str, float]: pa.map_(_STRING, _FLOAT),
    tuple[float, ...]: pa.list_(_FLOAT),
}
_UNITS = {
    "_ms": "ms",
    "_s": "s",
    "_gib": "GiB",
    "_mhz": "MHz",
    "_w": "W",
    "_c": "°C",
    "_j": "J",
    "_percent": "%",
    "_db": "dB",
    "byte_start": "byte",
    "byte_end": "byte",
}


_SCHEMAS: dict[type, pa.Schema] = {}


def schema_of(row_type: type) -> pa.Schema:
    """Parquet schema of a record type: its fields in order, each with its unit."""
    if row_type not in _SCHEMAS:  # made once: a run may have thousands of files
        _SCHEMAS[row_type] = _make_schema(row_type)
    return _SCHEMAS[row_type]


def _make_schema(row_type: type) -> pa.Schema:
    columns = [
        pa.field(
            item.name,
            _COLUMN_TYPES[item.type],
            nullable=item.type in (float | None, int | None, str | None),
            metadata={"unit": _unit(item.name)},
        )
        for item in fields(row_type)
    ]
    return pa.schema(columns, metadata={_VERSION_KEY: str(SCHEMA_VERSION)})


def units_of(row_type: type) -> dict[str, str]:
    """Unit of every column that has one."""
    return {item.name: _unit(item.name) for item in fields(row_type) if _unit(item.name)}


def to_table(rows: Sequence[Row], row_type: type[Row]) -> pa.Table:
    """Records as a table, column by column: records are flat, and there may be many."""
    schema = schema_of(row_type)
    columns = {
        name: pa.array([_plain(getattr(row, name)) for row in rows], schema.field(name).type)
        for name in schema.names
    }
    return pa.table(columns, schema=schema)


def to_rows(table: pa.Table, row_type: type[Row]) -> list[Row]:
    """A table as records."""
    made = [
        _MAKERS.get(item.type, list)(table.column(item.name).to_pylist())
        for item in fields(row_type)
    ]
    names = [item.name for item in fields(row_type)]
    return [row_type(**dict(zip(names, values, strict=True))) for values in zip(*made, strict=True)]


def read_table(path: Path, row_type: type) -> pa.Table:
    """Read one Parquet file, every page against its checksum.

    A nullable column that came after the file was written is null in all its rows.

    Raises:
        IntegrityFault: It is damaged, of another version, or has other columns.
    """
    try:
        # One read of one file: a writer may put another in its place meanwhile.
        content = pa.BufferReader(path.read_bytes())
        # `pq.read_table` would do the same through pyarrow's dataset, and import pandas.
        with pq.ParquetFile(content, page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise IntegrityFault(f"{path}: not a readable Parquet file ({in_words(error)})") from error
    wanted = schema_of(row_type)
    if table.schema.metadata != wanted.metadata:
        check_version(path, _version(table.schema.metadata))
    table = _completed(table, wanted)
    if table.schema != wanted:
        raise IntegrityFault(f"{path}: columns are not those of schema {SCHEMA_VERSION}")
    return table.replace_schema_metadata(wanted.metadata)


def empty_table(row_type: type) -> pa.Table:
    """A table without rows; ``Schema.empty_table`` would import pandas."""
    return pa.Table.from_batches([], schema=schema_of(row_type))


def _completed(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The table with the nullable columns that it lacks."""
    for place, column in enumerate(wanted):
        if column.nullable and column.name not in table.schema.names:
            table = table.add_column(place, column, pa.nulls(len(table), column.type))
    return table


def _version(metadata: dict[bytes, bytes] | None) -> int | str | None:
    said = (metadata or {}).get(_VERSION_KEY, b"").decode("utf-8", "replace")
    return int(said) if said.isdecimal() else said or None


def _unit(column: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if column.endswith(suffix)), "")


def _plain(value: Any) -> Any:
    """A value as Arrow takes it."""
    return list(value.items()) if isinstance(value, dict) else value


_MAKERS: dict[Any, Callable[[list[Any]], list[Any]]] = {
    dict[str, float]: lambda values: [dict(value) for value in values],
    tuple[float, ...]: lambda values: [tuple(value) for value in values],
}
"""How a column's values become those of a record, where Arrow gives others."""
