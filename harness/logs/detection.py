"""Which format a file has, found by reading it."""

from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa

from harness.errors import LogFormatError, UsageFault
from harness.imported_records import PublishedFigure
from harness.logs import PARSERS, PUBLISHED, parse_table
from harness.logs.lines import NotThisFormatError, looks_binary
from harness.records import LogStep
from harness.store.schema import to_rows

FORMATS = (*PARSERS, *PUBLISHED)


@dataclass(frozen=True, kw_only=True)
class ParsedLog:
    """What a file holds: steps or published figures, never both."""

    format: str
    table: pa.Table | None = None
    """Steps, with the columns of ``LogStep``."""
    figures: tuple[PublishedFigure, ...] = ()

    @property
    def steps(self) -> tuple[LogStep, ...]:
        """Steps as records."""
        return tuple(to_rows(self.table, LogStep)) if self.table is not None else ()


def read_log(log: BinaryIO, where: str, name: str | None = None) -> ParsedLog:
    """Read a file as the format named, or as the only one that has anything in it.

    A format whose lines are there but damaged counts as found, and its complaint is raised: a torn
    log is never read as something else.

    Raises:
        LogFormatError: No format has anything in it, or the one that has is damaged.
        UsageFault: Several formats have something in it.
    """
    if name is not None:
        return _read(log, where, name)
    found: dict[str, ParsedLog | LogFormatError] = {}
    for candidate in FORMATS:
        try:
            found[candidate] = _read(log, where, candidate)
        except NotThisFormatError:
            continue
        except LogFormatError as error:
            found[candidate] = error
    if not found:
        kind = "a binary file, " if looks_binary(log) else ""
        raise NotThisFormatError(
            f"{where}: {kind}it has no step or figure in any of the formats {', '.join(FORMATS)}"
        )
    if len(found) > 1:
        raise UsageFault(
            f"{where}: holds {' and '.join(found)}; choose with --format {next(iter(found))}"
        )
    only = next(iter(found.values()))
    if isinstance(only, LogFormatError):
        raise only
    return only


def _read(log: BinaryIO, where: str, name: str) -> ParsedLog:
    log.seek(0)
    if name in PUBLISHED:
        return ParsedLog(format=name, figures=PUBLISHED[name](log, where))
    return ParsedLog(format=name, table=parse_table(name, log, where))
