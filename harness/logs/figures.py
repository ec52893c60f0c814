"""A figure that somebody published: no measurement of fdbench's, and never mixed with one."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import LogFormatError


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One number of a table, or the slot that was kept for it."""

    workload: str
    """What ran, in the source's words."""
    device: str
    """Device, or the scene where the table has a row per scene."""
    method: str
    """``flashdreams``, ``official``, ``fastvideo``, ``lightx2v``."""
    metric: str
    status: str
    """``pass``, ``oom`` or ``missing``."""
    value_ms: float | None
    """None where nothing was measured."""
    byte_start: int
    byte_end: int


def without_repeats(figures: Sequence[PublishedFigure], where: str) -> tuple[PublishedFigure, ...]:
    """The same figures, after a look for cells that are there twice.

    Raises:
        LogFormatError: One is.
    """
    seen: set[tuple[str, str, str, str]] = set()
    for figure in figures:
        key = (figure.workload, figure.device, figure.method, figure.metric)
        if key in seen:
            raise LogFormatError(
                f"{where}: {figure.method} {figure.metric} on {figure.device} "
                f"({figure.workload}) stands there twice"
            )
        seen.add(key)
    return tuple(figures)
