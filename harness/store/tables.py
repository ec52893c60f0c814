"""Tables of a run: a folder with a part for each trial, cell or import, read as one."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.records import PairRow, ParityRow, PlannedCell, TrialRow
from harness.store.durable import sync
from harness.store.schema import TABLES, WHOLE, empty_table, read_table

KEYS: dict[type, str] = {TrialRow: "trial_id", PairRow: "cell_id", ParityRow: "cell_id"}
"""Column whose value names the part that a row is in, of the tables that are shown as planned."""


def part_of(name: str) -> str:
    """Name of a trial's or a cell's part: a cell's id is no file name."""
    return re.sub(r"[^\w.-]", ".", name)


def path_of(row_type: type, name: str) -> str:
    """Path in the run's folder of the part of a trial, a cell or an import."""
    return f"{TABLES[row_type]}/{part_of(name)}.parquet"


def parts_of(folder: Path, row_type: type) -> set[str]:
    """Names of the parts that a table has, those that are in a file of schema 2 included."""
    parts = {path.stem for path in (folder / TABLES[row_type]).glob("*.parquet")}
    whole = folder / WHOLE[row_type]
    if whole.exists():
        parts |= set(map(part_of, read_table(whole, row_type).column(KEYS[row_type]).to_pylist()))
    return parts


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write and sync a Parquet file with a checksum a page; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    # Of a single row, dictionaries and statistics are most of a file and of its reading.
    is_long = table.num_rows > 1
    pq.write_table(
        table,
        path,
        write_page_checksum=True,
        use_dictionary=is_long,
        write_statistics=is_long,
        compression="snappy" if is_long else "none",
    )
    sync(path)


def read_parts(
    folder: Path,
    row_type: type,
    plan: Callable[[], Iterable[PlannedCell]],
    names: Collection[str] | None = None,
) -> pa.Table:
    """Read a table, or the parts of it that are named; one that was never written is empty.

    Args:
        folder: Of the run.
        row_type: Record that the rows are.
        plan: Gives the cells in whose order the rows of trials, verdicts and distances are shown;
            others come by the name of their part.
        names: Trials, cells or imports; ``None`` for all there are.

    Raises:
        IntegrityFault: A file is damaged or of another schema version.
    """
    place = folder / TABLES[row_type]
    wanted = None if names is None else {part_of(name) for name in names}
    paths = [
        path for path in sorted(place.glob("*.parquet")) if wanted is None or path.stem in wanted
    ]
    whole = folder / WHOLE[row_type] if row_type in WHOLE else None
    if whole is None or not whole.exists():
        if row_type in KEYS and len(paths) > 1:
            places = _places(plan())
            paths.sort(key=lambda path: places.get(path.stem, len(places)))
        read = _read_once if row_type is TrialRow else read_table
        return pa.concat_tables([empty_table(row_type), *(read(path, row_type) for path in paths)])
    old = _without(read_table(whole, row_type), KEYS[row_type], paths, wanted)
    if not paths:
        return old
    table = pa.concat_tables([old, *(read_table(path, row_type) for path in paths)])
    return _in_order(table, KEYS[row_type], _places(plan()))


def _read_once(path: Path, row_type: type) -> pa.Table:
    """A trial's row, which several steps of a command ask for and nobody changes."""
    found = path.stat()
    return _read_version(path, row_type, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4096)
def _read_version(path: Path, row_type: type, *_version: int) -> pa.Table:
    return read_table(path, row_type)


def _without(
    old: pa.Table, key: str, paths: Sequence[Path], wanted: Collection[str] | None
) -> pa.Table:
    """Rows of a table of schema 2 that no part stands for, of the trials or cells wanted."""
    newer = {path.stem for path in paths}
    parts = [part_of(name) for name in old.column(key).to_pylist()]
    kept = [
        place
        for place, part in enumerate(parts)
        if part not in newer and (wanted is None or part in wanted)
    ]
    return old if len(kept) == len(parts) else old.take(pa.array(kept, pa.int64()))


def _in_order(table: pa.Table, key: str, places: dict[str, int]) -> pa.Table:
    """Rows as planned, whatever order their trials ended in."""
    order = [places.get(part_of(name), len(places)) for name in table.column(key).to_pylist()]
    return table.take(pa.array(sorted(range(len(order)), key=order.__getitem__), pa.int64()))


def _places(cells: Iterable[PlannedCell]) -> dict[str, int]:
    """Part of each planned cell and trial, repetitions included, to its place in the plan."""
    names = [name for cell in cells for name in (cell.cell_id, *cell.trial_ids)]
    return {part_of(name): place for place, name in enumerate(names)}
