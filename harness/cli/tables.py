"""Tables on a terminal or in a pipe."""

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

_PIPE_WIDTH = 1000
"""Columns where there is no terminal to fit: wide enough that no cell breaks."""


def make_console() -> Console:
    """Standard output without guesses at what deserves colour."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True, width=width)


def make_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Table:
    """A plain table; columns from ``left`` on that hold figures are right-aligned by heading.

    Args:
        headings: Column headings; none of them shown if all are empty.
        rows: Cells.
        left: Number of leading columns that hold words.
    """
    table = Table(box=None, pad_edge=False, show_header=any(headings))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
