"""Lines of a log, read in pieces: any size of file or line in linear time and bounded memory."""

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from harness.errors import LogFormatError

Log = bytes | BinaryIO
"""What a parser reads: a whole log, or a file opened in binary mode at its start."""

MAX_LINE_BYTES: Final = 4096
"""Far above the longest step line; longer lines are skipped unread."""

BAR: Final = (
    rb"[ \t]*(?:[\w.\-][\w .\-]{0,79}:[ \t]*)?\d{1,3}%\|[^|]{0,800}\|[ \t]*\d{1,9}/\d{1,9} "
    rb"\[[\d:]{1,12}<[\d:?]{1,12},[ \t]*[\d.?]{1,12}(?:s/it|it/s)\]"
)
"""One state of a tqdm bar; such a bar ends in no line end, so the next line is glued to it."""
PREFIX: Final = (
    rb"(?:" + BAR + rb")?"
    rb"(?:\[(?:default|rank)(?P<rank>\d{1,5})\]:\s?)?"
    rb"(?:\d{4}-\d\d-\d\d [\d:.]+ \| [A-Z]+ +\| [\w.<>]+:[\w<>]+:\d+ - )?"
)
"""What may stand before a step: a bar, ``torchrun --tee``'s rank, loguru's time and place."""

_CHUNK_BYTES = 1 << 20
_ANSI = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]")


class Line(NamedTuple):
    """One line without its end and without colours."""

    text: bytes
    start: int
    end: int
    ended: bool
    """False for the last line of a log that was cut off or is still written."""
    overwrites: bool
    """Whether a carriage return alone stands before it, as between two states of a bar."""


class NotThisFormatError(LogFormatError):
    """A log has nothing of the format; another parser may read it."""


def marked_lines(log: Log, marker: bytes) -> Iterator[Line]:
    r"""Lines that hold ``marker``, and the last one if nothing ends it.

    ``\n`` and ``\r`` both end a line, since progress bars use the second.
    """
    stream = io.BytesIO(log) if isinstance(log, bytes) else log
    # A piece begins with the end of the line before it, so that every line has one on its left.
    piece, offset, dropping = b"\n", -1, False
    while chunk := stream.read(_CHUNK_BYTES):
        piece += chunk
        cut = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        yield from _lines_in(piece, cut, offset, marker, dropping=dropping)
        dropping = (dropping and cut == 0) or len(piece) - cut - 1 > MAX_LINE_BYTES
        if dropping:
            # Nothing of an endless line is kept but the fact that it goes on.
            offset, piece = offset + len(piece) - 1, b"\n"
        else:
            offset, piece = offset + cut, piece[cut:]
    if not dropping and len(piece) > 1:
        yield _line(piece, 1, len(piece), offset, ended=False)


def looks_binary(log: Log) -> bool:
    """Whether there are zero bytes near the start."""
    if isinstance(log, bytes):
        return b"\0" in log[:65536]
    log.seek(0)
    return b"\0" in log.read(65536)


def _lines_in(
    piece: bytes, cut: int, offset: int, marker: bytes, *, dropping: bool
) -> Iterator[Line]:
    """Marked lines that end at ``cut`` or before."""
    # One kind of line end, so that no search for the other runs through the whole piece.
    text = piece.replace(b"\r", b"\n")
    position = _next_end(text, 1) if dropping else 0
    while (found := text.find(marker, position, cut)) >= 0:
        start = text.rfind(b"\n", position, found) + 1
        position = _next_end(text, found)
        if position - start <= MAX_LINE_BYTES:
            yield _line(piece, start, position, offset, ended=True)


def _next_end(text: bytes, position: int) -> int:
    found = text.find(b"\n", position)
    return found if found >= 0 else len(text)


def _line(piece: bytes, start: int, end: int, offset: int, *, ended: bool) -> Line:
    text = piece[start:end]
    if b"\x1b" in text:
        text = _ANSI.sub(b"", text)
    return Line(text, offset + start, offset + end, ended, piece[start - 1] == 13)
