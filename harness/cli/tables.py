"""Tables, paragraphs and verdicts on a terminal or in a pipe."""

import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.records import Verdict

_PIPE_WIDTH = 1000
"""Columns where there is no terminal to fit: wide enough that no cell breaks."""
_PROSE_WIDTH = 24
"""Columns that prose wants at least; with fewer it is a ladder of words."""
_INDENT = "  "
VERDICT_STYLES = {
    Verdict.PASS.value: "green",
    Verdict.FAIL.value: "red",
    Verdict.INCOMPLETE.value: "yellow",
    Verdict.INCONCLUSIVE.value: "yellow",
}
"""Colours that a terminal has for dark and for light backgrounds."""


def make_console() -> Console:
    """Standard output without guesses at what deserves colour."""
    is_terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        width=None if is_terminal else _PIPE_WIDTH,
        # FORCE_COLOR, which some CI sets, asks for colours; a line that moves needs a terminal.
        force_interactive=None if is_terminal else False,
    )


def wrapped(console: Console, text: str, indent: str = "", further: str | None = None) -> str:
    """Text on as many lines as the terminal needs, words whole; one line where there is none.

    Args:
        console: Where it will be printed.
        text: One paragraph.
        indent: What its lines begin with.
        further: What all lines but the first begin with, if that is something else.
    """
    if not console.is_terminal:
        return indent + text
    return "\n".join(_lines(text, console.width, indent, indent if further is None else further))


def _lines(text: str, width: int, indent: str, further: str) -> list[str]:
    # A word that is too long stays whole: the terminal breaks it, and copied it is one word.
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


class FittingTable(Table):
    """A plain table; on a terminal that is too narrow for it, a block a row."""

    def __init__(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str]],
        left: int,
        *,
        prose: bool,
    ) -> None:
        """Lay out columns as ``make_table`` says."""
        super().__init__(box=None, pad_edge=False, show_header=any(headings))
        self._headings = headings
        self._texts = [tuple(row) for row in rows]
        for number, heading in enumerate(headings):
            cells = [heading, *(row[number] for row in self._texts)]
            may_wrap = prose and number == len(headings) - 1
            natural = max(cell_len(line) for cell in cells for line in cell.split("\n"))
            self.add_column(
                heading,
                justify="left" if number < left else "right",
                no_wrap=not may_wrap,
                min_width=min(natural, _PROSE_WIDTH) if may_wrap else natural,
                overflow="fold",
            )
        for row in self._texts:
            self.add_row(*row)

    def fits(self, console: Console, width: int) -> bool:
        """Whether no word of it would break in so many columns."""
        options = console.options.update_width(_PIPE_WIDTH)
        return not console.is_terminal or Measurement.get(console, options, self).minimum <= width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.fits(console, options.max_width):
            yield from super().__rich_console__(console, options)
        else:
            yield from self._blocks(options.max_width)

    def _blocks(self, width: int) -> Iterator[Text]:
        """Each row's first cell, and below it ``heading: value``, as many in a line as fit."""
        for number, (first, *others) in enumerate(self._texts):
            if number:
                yield Text("")
            # A figure alone would not say what it is.
            title = f"{self._headings[0]} {first}" if first.isdigit() else first
            yield Text("\n".join(_lines(title, width, "", _INDENT)), style="bold")
            named = zip(self._headings[1:], others, strict=True)
            items = [
                f"{heading}: {value}" if heading else value for heading, value in named if value
            ]
            for line in _packed(items, width - len(_INDENT)):
                yield Text("\n".join(_lines(line, width, _INDENT, 2 * _INDENT)))


def _packed(items: Iterable[str], width: int) -> list[str]:
    """Items joined to lines of at most so many columns, but for an item that is longer."""
    lines: list[str] = []
    for item in items:
        joined = f"{lines[-1]} · {item}" if lines else item
        if lines and cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(item)
    return lines


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: int = 1,
    *,
    prose: bool = False,
) -> FittingTable:
    """A plain table; columns from ``left`` on that hold figures are right-aligned by heading.

    Args:
        headings: Column headings; none of them shown if all are empty.
        rows: Cells.
        left: Number of leading columns that hold words.
        prose: Whether the last column may take several lines; others never do.
    """
    return FittingTable(headings, rows, left, prose=prose)


def make_grouped(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    by: Collection[int],
    left: int = 1,
    *,
    prose: bool = False,
) -> FittingTable:
    """A narrower table: what neighbouring rows have in common stands once, on a line above them.

    Args:
        headings: Column headings.
        rows: Cells.
        by: Numbers of the columns that go into that line.
        left: Number of leading columns that hold words, of those that are left.
        prose: Whether the last column may take several lines.
    """
    kept = [number for number in range(len(headings)) if number not in by]
    lines: list[list[str]] = []
    for common, group in groupby(rows, key=lambda row: [row[number] for number in by]):
        lines.append([", ".join(common), *[""] * (len(kept) - 1)])
        for row in group:
            first, *others = [row[number] for number in kept]
            lines.append([_INDENT + first.replace("\n", f"\n{2 * _INDENT}"), *others])
    return FittingTable([headings[number] for number in kept], lines, left, prose=prose)


def print_table(console: Console, table: FittingTable, narrower: FittingTable) -> None:
    """Print the table, or the narrower one where only that fits; where neither does, blocks."""
    has_room = table.fits(console, console.width) or not narrower.fits(console, console.width)
    console.print(table if has_room else narrower)
