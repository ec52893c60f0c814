"""FlashDreams' plain step lines read column by column, many thousand at a time.

Only for lines that a regular expression has already found to be whole: words stand where the format
has them, one space apart.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from harness.logs.lines import Piece
from harness.logs.stages import is_kv_update
from harness.records import LogStep
from harness.store.schema import schema_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TOTALS, _MEMORY = 8, 12
"""Words from the bar before the totals on, and from the one before the memory on."""
_RANK = r"^\[(?:default|rank)(?P<rank>\d{1,5})\]"


def plain_lines(piece: Piece, pattern: str) -> npt.NDArray[np.bool_]:
    """Which lines of a piece match a whole-line pattern, in Arrow's syntax."""
    lines = _cut(piece.text, piece.starts, piece.ends)
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(lines, pattern).to_numpy(
        zero_copy_only=False
    )
    return found


def read(piece: Piece, plain: npt.NDArray[np.bool_], rounding_ms: float) -> pa.Table | None:
    """The plain lines of a piece in their order, with the columns of ``LogStep``.

    Args:
        piece: Where the lines are.
        plain: Which of them to read.
        rounding_ms: Half a unit of the last digit printed, and a little.

    Returns:
        None where figures do not add up or a stage is named twice: who reads line by line says it.
    """
    starts, ends = piece.starts[plain], piece.ends[plain]
    words = pc.split_pattern(_cut(piece.text, piece.markers[plain], ends).cast(pa.string()), " ")
    counts = pc.list_value_length(words).to_numpy()
    has_memory = np.frombuffer(piece.text, np.uint8)[ends - 1] == ord("B")
    ranks = _ranks(piece, starts)
    tables = []
    for kind in np.unique(2 * counts + has_memory):
        rows = np.flatnonzero(2 * counts + has_memory == kind)
        line = _Lines(words.take(pa.array(rows)) if len(rows) < len(words) else words, kind)
        for names, chosen in line.layouts():
            table = line.table(names, chosen, rounding_ms)
            if table is None:
                return None
            places = (ranks, piece.offset + starts, piece.offset + ends)
            tables.append(_complete(table, [place[rows][chosen] for place in places]))
    whole = pa.concat_tables(tables)
    if len(tables) == 1:
        return whole
    return whole.take(pa.array(np.argsort(whole["byte_start"].to_numpy())))


class _Lines:
    """Lines of as many words, as columns of words."""

    def __init__(self, words: pa.ListArray, kind: int) -> None:
        count, self._has_memory = divmod(int(kind), 2)
        self._words, self._count = words.flatten(), count
        self._total_at = count - _TOTALS - _MEMORY * self._has_memory
        self._num_stages = (self._total_at - 2) // 3

    def layouts(self) -> Iterator[tuple[tuple[str, ...], Ints]]:
        """Stage names, and the rows that have them in that order."""
        columns = [self._column(2 + 3 * number) for number in range(self._num_stages)]
        named = pc.binary_join_element_wise(*columns, " ").dictionary_encode()
        for number, names in enumerate(named.dictionary.to_pylist()):
            yield tuple(names.split()), np.flatnonzero(named.indices.to_numpy() == number)

    def table(self, names: Sequence[str], rows: Ints, rounding_ms: float) -> pa.Table | None:
        """Columns but for ranks and places; None where the figures do not add up."""
        stages_ms = np.stack(
            [self._figures(3 + 3 * number)[rows] for number in range(len(names))], axis=1
        )
        without_ms = self._figures(self._total_at + 3)[rows]
        total_ms = self._figures(self._total_at + 6)[rows]
        kv_update_ms = stages_ms[:, [is_kv_update(name) for name in names]].sum(axis=1)
        tolerance = rounding_ms * (len(names) + 1)
        apart = np.abs(stages_ms.sum(axis=1) - total_ms)
        apart_without = np.abs(total_ms - kv_update_ms - without_ms)
        if len(set(names)) < len(names) or max(apart.max(), apart_without.max()) > tolerance:
            return None
        peak_gib = self._figures(self._count - 2)[rows] if self._has_memory else None
        schema = schema_of(LogStep)
        return pa.table(
            {
                "ar": self._column(1).cast(pa.int64()).take(pa.array(rows)),
                "stages_ms": _maps(names, stages_ms, schema.field("stages_ms").type),
                "total_wo_finalize_ms": without_ms,
                "total_ms": total_ms,
                "memory_peak_gib": pa.nulls(len(rows), pa.float64())
                if peak_gib is None
                else pa.array(peak_gib),
            }
        )

    def _column(self, place: int) -> pa.Array:
        return self._words.take(pa.array(np.arange(place, len(self._words), self._count)))

    def _figures(self, place: int) -> Floats:
        figures: Floats = self._column(place).cast(pa.float64()).to_numpy()
        return figures


def _complete(table: pa.Table, places: Sequence[Ints]) -> pa.Table:
    """A table with ranks and byte ranges, in the order and types of the record."""
    schema = schema_of(LogStep)
    added = dict(zip(("rank", "byte_start", "byte_end"), places, strict=True))
    columns = [
        pa.chunked_array([pa.array(added[name])]) if name in added else table[name]
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def _maps(names: Sequence[str], values: Floats, map_type: pa.DataType) -> pa.Array:
    """A map a row, from one column a name."""
    rows, width = values.shape
    keys = pa.array(names).take(pa.array(np.tile(np.arange(width), rows)))
    offsets = pa.array(np.arange(0, rows * width + 1, width, dtype=np.int32))
    return pa.MapArray.from_arrays(offsets, keys, pa.array(values.ravel())).cast(map_type)


def _ranks(piece: Piece, starts: Ints) -> Ints:
    """Rank of each line, 0 where it names none."""
    ranks = np.zeros(len(starts), np.int64)
    named = np.frombuffer(piece.text, np.uint8)[starts] == ord("[")
    if named.any():
        heads = _cut(piece.text, starts[named], starts[named] + len("[default12345]"))
        found = pc.extract_regex(heads, _RANK).field("rank").cast(pa.string()).cast(pa.int64())
        ranks[named] = found.to_numpy()
    return ranks


def _cut(text: bytes, starts: Ints, ends: Ints) -> pa.Array:
    """Parts of a text as an Arrow array."""
    bounds = np.empty(2 * len(starts) + 1, np.int32)
    bounds[0:-1:2], bounds[1::2], bounds[-1] = starts, ends, ends[-1] if len(ends) else 0
    buffers = [None, pa.py_buffer(bounds), pa.py_buffer(text)]
    both = pa.Array.from_buffers(pa.binary(), 2 * len(starts), buffers)
    return both.take(pa.array(np.arange(0, 2 * len(starts), 2)))
