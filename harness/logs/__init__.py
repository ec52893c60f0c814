"""One parser per log format."""

from collections.abc import Callable, Mapping
from typing import Final

from harness.logs import (
    benchmark_results,
    flashdreams,
    lingbot,
    perf_table,
    self_forcing,
    stats_json,
    tqdm,
)
from harness.logs.figures import PublishedFigure
from harness.logs.lines import Log
from harness.records import LogStep

LogParser = Callable[[Log, str], tuple[LogStep, ...]]
"""``(log, where) -> steps`` rank by rank in AR order; raises ``LogFormatError``."""

PARSERS: Final[Mapping[str, LogParser]] = {
    "flashdreams": flashdreams.parse,
    "self_forcing": self_forcing.parse,
    "lingbot": lingbot.parse,
    "tqdm": tqdm.parse,
    "stats_json": stats_json.parse,
}
"""Every log format by name; both sides of a run print FlashDreams' line."""

FigureParser = Callable[[Log, str], tuple[PublishedFigure, ...]]
"""``(file, where) -> figures`` in the file's order; raises ``LogFormatError``."""

PUBLISHED: Final[Mapping[str, FigureParser]] = {
    "benchmark_results": benchmark_results.parse,
    "perf_table": perf_table.parse,
}
"""Formats of published figures, which have no steps."""
