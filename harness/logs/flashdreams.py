"""FlashDreams' per-step line, as the library logs it and as the recorder prints it.

``AR 5 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms total 424.593 ms``

Reads flashdreams 0.1.0 (``dc9e5c0``), the same at ``d5c4ce0``: ``infra/pipeline/base.py``,
``StreamInferencePipeline.finalize``. Stages are an open set; FlashVSR has its own. The KV update is
``finalize``.

Plain lines are read many at a time into columns. Whatever is not plain, and every fault, is left to
the one reader of single lines, so a log means the same whichever way it went.
"""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from harness.errors import LogFormatError
from harness.logs import columns
from harness.logs.lines import (
    PREFIX,
    Line,
    Log,
    NotThisFormatError,
    Piece,
    looks_binary,
    marked_pieces,
)
from harness.logs.sequence import Numbering, check_sums, in_order, order_without_gap
from harness.logs.stages import by_name
from harness.records import LogStep
from harness.store.schema import schema_of, to_rows, to_table

_ROUNDING_MS = 0.0011
"""Each figure is rounded to 0.001 ms, so a sum of n may be off by half that times n + 1."""
_AR = Numbering(word="AR")
_BODY = (
    r"AR (?P<ar>\d{1,9}) (?P<stages>(?:\w+ \d{1,12}\.\d{3} ms )+)\| "
    r"total\(w/o finalize\) (?P<without>\d{1,12}\.\d{3}) ms total (?P<total>\d{1,12}\.\d{3}) ms"
    r"(?: \| GPU mem alloc \d{1,12}\.\d{3} GiB reserved \d{1,12}\.\d{3} GiB "
    r"peak (?P<peak>\d{1,12}\.\d{3}) GiB)?"
)
_STEP = re.compile(PREFIX + _BODY.encode() + rb"\s*")
_PLAIN = (
    r"^(?:\[(?:default|rank)\d{1,5}\]:[ \t]?)?"
    r"(?:\d{4}-\d\d-\d\d [\d:.]+ \| (?:TRACE|DEBUG|INFO|SUCCESS|WARNING|ERROR|CRITICAL) +\| "
    r"[\w.<>]+:[\w<>]+:\d+ - )?" + _BODY + "$"
)
"""A part of what ``_STEP`` takes, in the words of Arrow's regular expressions."""
_STAGE = re.compile(r"(\w+) (\d+\.\d{3}) ms", re.ASCII)
_BEGUN = re.compile(PREFIX + rb"(AR -?\d+) (?:\w+ \S+ ms |.*total\(w/o finalize\))")
"""A line that begins as a step; one that is not whole was torn, or has a figure that is none."""
_UNFINISHED = re.compile(PREFIX + rb"AR(?: \d*(?: .*)?)?")


def parse(log: Log, where: str) -> tuple[LogStep, ...]:
    """Return every AR step in order, rank by rank; exact duplicates collapse.

    Raises:
        LogFormatError: There is no step, one is missing, repeated with other figures or cut off,
            its figures do not add up, or there are two runs.
    """
    return tuple(to_rows(parse_table(log, where), LogStep))


def parse_table(log: Log, where: str) -> pa.Table:
    """What :func:`parse` returns, as a table with the columns of ``LogStep``."""
    tables, last_ar = [], -1
    for piece in marked_pieces(log, b"AR "):
        table = _read_piece(piece, where, last_ar)
        last_ar = table["ar"][-1].as_py() if table.num_rows else last_ar
        tables.append(table)
    found = pa.concat_tables([schema_of(LogStep).empty_table(), *tables])
    if not found.num_rows:
        kind = "a binary file" if looks_binary(log) else "no AR step line in it"
        raise NotThisFormatError(
            f"{where}: {kind}; expected lines such as "
            "'AR 0 encode 0.016 ms diffuse 343.706 ms ... | total(w/o finalize) 350.367 ms ...'"
        )
    order = order_without_gap(found["rank"].to_numpy(), found["ar"].to_numpy())
    if order is None:
        return to_table(in_order(to_rows(found, LogStep), _AR, where), LogStep)
    return found.take(pa.array(order))


def _read_piece(piece: Piece, where: str, last_ar: int) -> pa.Table:
    """Steps of a piece in the order of its lines."""
    plain = columns.plain_lines(piece, _PLAIN)
    table = columns.read(piece, plain, _ROUNDING_MS) if plain.any() else None
    others = range(len(plain)) if table is None else np.flatnonzero(~plain).tolist()
    steps = list(_steps(piece.lines(others), where, last_ar))
    if table is None:
        return to_table(steps, LogStep)
    if not steps:
        return table
    whole = pa.concat_tables([table, to_table(steps, LogStep)])
    return whole.take(pa.array(np.argsort(whole["byte_start"].to_numpy())))


def _steps(lines: Iterator[Line], where: str, last_ar: int) -> Iterator[LogStep]:
    for line in lines:
        match = _STEP.fullmatch(line.text)
        if match is None:
            _refuse_torn(line, last_ar, where)
            continue
        step = _to_step(match, line, where)
        check_sums(step, _ROUNDING_MS, _AR, where)
        last_ar = step.ar
        yield step


def _to_step(match: re.Match[bytes], line: Line, where: str) -> LogStep:
    ar = int(match["ar"])
    stages = _STAGE.findall(match["stages"].decode("ascii"))
    return LogStep(
        ar=ar,
        rank=int(match["rank"] or 0),
        stages_ms=by_name(stages, _AR.name(ar), where),
        total_wo_finalize_ms=float(match["without"]),
        total_ms=float(match["total"]),
        memory_peak_gib=float(match["peak"]) if match["peak"] else None,
        byte_start=line.start,
        byte_end=line.end,
    )


def _refuse_torn(line: Line, last_ar: int, where: str) -> None:
    if line.ended and (begun := _BEGUN.match(line.text)):
        raise LogFormatError(
            f"{where}: {begun[2].decode()} at byte {line.start} is not a whole step line"
        )
    # Only behind a step: a file of the two letters AR is no torn log.
    if not line.ended and last_ar >= 0 and _UNFINISHED.fullmatch(line.text):
        raise LogFormatError(
            f"{where}: ends in the middle of a step line after AR {last_ar}: {line.text[-60:]!r}"
        )
