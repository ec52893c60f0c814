"""FlashDreams' ``perf-MMDD.md``: the tables its documentation draws charts from.

``| device | fastvideo | official | flashdreams |``

Reads ``docs/source/_static/performance/*/perf-*.md`` of ``NVIDIA/flashdreams@d5c4ce0``. The first
column is the device or scene, every other one a method, by its heading, since their order varies.
An empty cell is a figure that is missing; FlashDreams' own chart would shift the row there.
"""

import re
from collections.abc import Iterator

from harness.errors import LogFormatError
from harness.imported_records import PublishedFigure
from harness.logs.figures import without_repeats
from harness.logs.lines import Line, Log, NotThisFormatError, marked_lines

_TITLE = re.compile(r"#+ (?P<workload>.+?) Benchmark Data \((?P<unit>ms(?:/\w+)?)\)\s*")
_RULE = re.compile(r":?-+:?")
_METHOD = re.compile(r"[a-z][a-z0-9_]*")
_FIGURE = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)


def parse(log: Log, where: str) -> tuple[PublishedFigure, ...]:
    """Return every figure of the table, row by row.

    Raises:
        LogFormatError: There is no such table, a row has another number of cells than its heading,
            or a cell is neither empty nor a plain number.
    """
    matches = (_TITLE.fullmatch(_text(line)) for line in marked_lines(log, b"#"))
    title = next((match for match in matches if match), None)
    if title is None:
        raise NotThisFormatError(f"{where}: no title such as '# Wan2.1 Benchmark Data (ms)'")
    if not isinstance(log, bytes):
        log.seek(0)
    rows = [line for line in marked_lines(log, b"|") if line.text.startswith(b"|")]
    if len(rows) < 3:
        raise LogFormatError(f"{where}: no table with a heading and a row under its title")
    headings = [cell.lower() for cell in _cells(rows[0])]
    _check_headings(headings, _cells(rows[1]), where)
    figures = [
        figure
        for line in rows[2:]
        for figure in _row(line, headings, title["workload"], title["unit"], where)
    ]
    return without_repeats(figures, where)


def _check_headings(headings: list[str], rule: list[str], where: str) -> None:
    odd = [name for name in headings[1:] if not _METHOD.fullmatch(name)]
    if len(headings) < 2 or odd or len(set(headings)) < len(headings):
        raise LogFormatError(f"{where}: headings {headings} name no methods, each once")
    if len(rule) != len(headings) or not all(_RULE.fullmatch(cell) for cell in rule):
        raise LogFormatError(f"{where}: there is no line of dashes under the headings")


def _row(
    line: Line, headings: list[str], workload: str, unit: str, where: str
) -> Iterator[PublishedFigure]:
    device, *cells = _cells(line)
    if not device or len(cells) != len(headings) - 1:
        raise LogFormatError(
            f"{where}: the row at byte {line.start} does not have the {len(headings)} cells of its "
            "heading"
        )
    for method, cell in zip(headings[1:], cells, strict=True):
        if cell and not _FIGURE.fullmatch(cell):
            raise LogFormatError(
                f"{where}: {cell[:40]!r} ({device}, {method}) is not a plain number"
            )
        yield PublishedFigure(
            workload=workload,
            device=device,
            method=method,
            metric=unit,
            status="pass" if cell else "missing",
            value_ms=float(cell) if cell else None,
            byte_start=line.start,
            byte_end=line.end,
        )


def _cells(line: Line) -> list[str]:
    inside = _text(line).strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in inside.split("|")]


def _text(line: Line) -> str:
    return line.text.decode("utf-8", "replace")
