"""Lines of a log, read in pieces: any size of file or line in linear time and bounded memory."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

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

_CHUNK_BYTES = 4 << 20
_SPARSE_BYTES = 1000
"""Bytes a marker above which it is faster to look around each."""
_LF, _CR = b"\n\r"
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Piece:
    """Where the marked lines of a part of a log are."""

    text: bytes
    """Begins with the end of the line before."""
    offset: int
    """Of ``text`` in the log."""
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    markers: npt.NDArray[np.int64]
    """First marker of each line; all three are places in ``text``."""
    ended: bool = True
    """False for the last line of a log that was cut off or is still written."""

    def lines(self, which: Iterable[int]) -> Iterator[Line]:
        """Some of the lines, by number."""
        for number in which:
            start, end = int(self.starts[number]), int(self.ends[number])
            yield _line(self.text, start, end, self.offset, ended=self.ended)


def marked_lines(log: Log, marker: bytes) -> Iterator[Line]:
    r"""Lines that hold ``marker``, and the last one if nothing ends it.

    ``\n`` and ``\r`` both end a line, since progress bars use the second.
    """
    for piece in marked_pieces(log, marker):
        yield from piece.lines(range(len(piece.starts)))


def marked_pieces(log: Log, marker: bytes) -> Iterator[Piece]:
    """The same lines as :func:`marked_lines`, as places in the log."""
    stream = io.BytesIO(log) if isinstance(log, bytes) else log
    pattern = re.compile(re.escape(marker))
    # A piece begins with the end of the line before it, so that every line has one on its left.
    text, offset, dropping = b"\n", -1, False
    while chunk := stream.read(_CHUNK_BYTES):
        text += chunk
        cut = max(text.rfind(b"\n"), text.rfind(b"\r"))
        if found := _piece(text, cut, offset, pattern, dropping=dropping):
            yield found
        dropping = (dropping and cut == 0) or len(text) - cut - 1 > MAX_LINE_BYTES
        if dropping:
            # Nothing of an endless line is kept but the fact that it goes on.
            offset, text = offset + len(text) - 1, b"\n"
        else:
            offset, text = offset + cut, text[cut:]
    if not dropping and len(text) > 1:
        whole = np.array([1]), np.array([len(text)]), np.array([max(text.find(marker), 1)])
        yield Piece(
            text=text, offset=offset, starts=whole[0], ends=whole[1], markers=whole[2], ended=False
        )


def looks_binary(log: Log) -> bool:
    """Whether there are zero bytes near the start."""
    if isinstance(log, bytes):
        return b"\0" in log[:65536]
    log.seek(0)
    return b"\0" in log.read(65536)


def _piece(
    text: bytes, cut: int, offset: int, marker: re.Pattern[bytes], *, dropping: bool
) -> Piece | None:
    """Marked lines that end at ``cut`` or before; None if there is none."""
    markers = [found.start() for found in marker.finditer(text, 0, cut)]
    if not markers:
        return None
    # One kind of line end, so that no search for the other runs through the whole piece.
    text_lf = text.replace(b"\r", b"\n")
    spans = (_near if len(markers) * _SPARSE_BYTES < cut else _among_all)(text_lf, cut, markers)
    starts, ends, first = np.array(spans, np.int64)
    kept = (ends - starts <= MAX_LINE_BYTES) & ~(dropping & (starts == 1))
    return Piece(
        text=text, offset=offset, starts=starts[kept], ends=ends[kept], markers=first[kept]
    )


def _near(text: bytes, cut: int, markers: list[int]) -> tuple[Sequence[int], ...]:
    """Start, end and first marker of each marked line, looked for around the markers."""
    starts, ends, first = [], [], []
    end = 0
    for marker in markers:
        if marker > end:
            starts.append(text.rfind(b"\n", end, marker) + 1)
            end = text.find(b"\n", marker, cut + 1)
            ends.append(end)
            first.append(marker)
    return starts, ends, first


def _among_all(text: bytes, cut: int, markers: list[int]) -> tuple[npt.NDArray[np.int64], ...]:
    """The same, looked for among all line ends: faster where many lines are marked."""
    every = np.flatnonzero(np.frombuffer(text, np.uint8, cut + 1) == _LF)
    lines, first = np.unique(np.searchsorted(every, markers), return_index=True)
    return every[lines - 1] + 1, every[lines], np.array(markers)[first]


def _line(piece: bytes, start: int, end: int, offset: int, *, ended: bool) -> Line:
    text = piece[start:end]
    if b"\x1b" in text:
        text = _ANSI.sub(b"", text)
    return Line(text, offset + start, offset + end, ended, piece[start - 1] == _CR)
