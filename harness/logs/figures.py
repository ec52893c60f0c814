"""What every format of published figures asks of them."""

from collections.abc import Sequence

from harness.errors import LogFormatError
from harness.imported_records import PublishedFigure


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
                f"({figure.workload}) appears twice"
            )
        seen.add(key)
    return tuple(figures)
