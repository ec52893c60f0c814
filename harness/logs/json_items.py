"""JSON read strictly, with the byte range of every item of a list."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from harness.errors import LogFormatError
from harness.logs.lines import Log, NotThisFormatError

MAX_BYTES: Final = 64 << 20
"""Far above any such file; a larger one is not read."""
_SPACE = re.compile(r"[ \t\r\n]*")

Item = tuple[dict[str, Any], int, int]
"""An object, where it starts in the file and where it ends."""


def read_text(log: Log, opening: str, where: str) -> str:
    """The text of a JSON file.

    Raises:
        NotThisFormatError: It does not begin as one.
        LogFormatError: It is too large, or not UTF-8.
    """
    stream = io.BytesIO(log) if isinstance(log, bytes) else log
    head = stream.read(4096)
    if not head.lstrip(b" \t\r\n").startswith(opening.encode()):
        raise NotThisFormatError(f"{where}: not a JSON file that begins with {opening}")
    pieces, size = [head], len(head)
    while piece := stream.read(1 << 20):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise NotThisFormatError(
                f"{where}: larger than {MAX_BYTES >> 20} MiB, the limit for JSON"
            )
    content = b"".join(pieces)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise LogFormatError(f"{where}: not UTF-8 at byte {error.start}") from error


def items(text: str, position: int, where: str) -> Iterator[Item]:
    """Objects of the list that opens at character ``position``; nothing may follow its end.

    Raises:
        LogFormatError: It is no list of objects, or has a key twice, NaN or an infinity.
    """
    counted, offset = 0, 0
    position = _skip(text, position + 1)
    while text[position : position + 1] == "{":
        item, end = decode(text, position, where)
        start_byte = offset + len(text[counted:position].encode())
        counted, offset = end, start_byte + len(text[position:end].encode())
        yield item, start_byte, offset
        position = _skip(text, end)
        if text[position : position + 1] != ",":
            break
        position = _skip(text, position + 1)
    if text[position : position + 1] != "]":
        raise LogFormatError(f"{where}: no object or end of the list at character {position}")


def decode(text: str, position: int, where: str) -> tuple[Any, int]:
    """The JSON value at ``position`` and where it ends.

    Raises:
        LogFormatError: It is none.
    """
    try:
        return _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        raise LogFormatError(f"{where}: not valid JSON: {str(error)[:200]}") from error


def measured(value: object, name: str, where: str) -> float:
    """A finite number that is not negative.

    Raises:
        LogFormatError: It is something else.
    """
    # True is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LogFormatError(f"{where}: {name} is {str(value)[:40]!r}, not a number")
    if not 0 <= value <= 1e12:
        raise LogFormatError(f"{where}: {name} is {str(value)[:40]}, which cannot be a time")
    return float(value)


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse_constant)
