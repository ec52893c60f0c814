"""One parser per log format."""

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from harness.imported_records import PublishedFigure
from harness.logs import (
    benchmark_results,
    flashdreams,
    lingbot,
    perf_table,
    self_forcing,
    stats_json,
    tqdm,
)
from harness.logs.lines import Log
from harness.records import LogStep
from harness.store.schema import to_table

LogParser = Callable[[Log, str], tuple[LogStep, ...]]
"""``(log, where) -> steps`` rank by rank in AR order; raises ``LogFormatError``."""

PARSERS: Final[Mapping[str, LogParser]] = {
    "flashdreams": flashdreams.parse,
    "self_forcing": self_forcing.parse,
    "lingbot": lingbot.parse,
    "tqdm": tqdm.parse,
    "stats_json": stats_json.parse,
}
"""Every log format by name."""

parse_steps: Final = PARSERS["flashdreams"]
"""Of the line that every side of a run prints."""

_TABLE_PARSERS: Final[Mapping[str, Callable[[Log, str], pa.Table]]] = {
    "flashdreams": flashdreams.parse_table,
}


def parse_table(name: str, log: Log, where: str) -> pa.Table:
    """What a parser of steps returns, as a table with the columns of ``LogStep``.

    Raises:
        LogFormatError: As the parser does.
    """
    if name in _TABLE_PARSERS:
        return _TABLE_PARSERS[name](log, where)
    return to_table(PARSERS[name](log, where), LogStep)


FigureParser = Callable[[Log, str], tuple[PublishedFigure, ...]]
"""``(file, where) -> figures`` in the file's order; raises ``LogFormatError``."""

PUBLISHED: Final[Mapping[str, FigureParser]] = {
    "benchmark_results": benchmark_results.parse,
    "perf_table": perf_table.parse,
}
"""Formats of published figures, which have no steps."""
