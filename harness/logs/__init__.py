"""One parser per log format."""

from collections.abc import Callable, Mapping
from typing import Final

from harness.logs import flashdreams
from harness.records import LogStep

LogParser = Callable[[bytes, str], tuple[LogStep, ...]]
"""``(log, where) -> steps`` in AR order; raises ``LogFormatError``."""

PARSERS: Final[Mapping[str, LogParser]] = {"flashdreams": flashdreams.parse}
"""Every log format by name; both sides of a run print FlashDreams' line."""
