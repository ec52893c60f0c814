"""What a side leaves behind is data: bounded, cleared of links and of secrets, printable."""

import mmap
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from runners.protocol import wire

MOST_FILES = 10_000
MOST_BYTES = 64 << 30
"""Of a job folder, captures included."""
LOG_FILE = "log.txt"
_TEXT_BYTES = {wire.SETTINGS_FILE: 1 << 20, wire.EVENTS_FILE: 64 << 20}
"""Longest that files which are read whole may be."""
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "ACCESS_KEY")
_LEAST_SECRET = 8
"""Characters; shorter values are words that a log may well contain."""


def tidy(folder: Path, secrets: Iterable[str], log_bytes: int) -> str:
    """Make a finished trial's folder safe to read and keep.

    Args:
        folder: Job folder; nothing runs in it any more.
        secrets: Values that may stand in no file.
        log_bytes: Where the log is cut off.

    Returns:
        What a side must not leave behind; empty if it left nothing of the kind.
    """
    log = folder / LOG_FILE
    strange = [_describe(path, folder) for path in _drop_strange(folder)]
    if log.is_file() and log.stat().st_size > log_bytes:
        os.truncate(log, log_bytes)
    too_long = _drop_too_long(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            _redact(path, secrets)
    if strange:
        return f"left a link or special file in its job folder: {strange[0]}"
    return too_long


def read_growing(path: Path, start: int = 0) -> bytes:
    """Bytes from ``start`` on of a file that a side may be writing.

    Nothing of a link, a pipe, a folder or a file too long.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode) or known.st_size > _TEXT_BYTES.get(path.name, 0):
            return b""
        return os.pread(descriptor, max(0, known.st_size - start), start)
    finally:
        os.close(descriptor)


def secret_values(environment: Mapping[str, str], passed: Iterable[str]) -> tuple[str, ...]:
    """Values of an environment that no log or record may hold, the longest first.

    Args:
        environment: Of the harness.
        passed: Names that the user handed to the sides.
    """
    names = {name for name in environment if any(word in name.upper() for word in _SECRET_WORDS)}
    values = {environment[name] for name in names | set(passed) if name in environment}
    return tuple(sorted((v for v in values if len(v) >= _LEAST_SECRET), key=len, reverse=True))


def printable(text: str) -> str:
    """Text without characters that steer a terminal or turn the direction of writing.

    Line ends stay; a tab or another character that only makes room is a space.
    """
    return "".join(
        c if c.isprintable() or c == "\n" else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def _drop_strange(folder: Path) -> list[Path]:
    """Remove links, pipes, sockets and devices; returns what was removed."""
    strange = [
        path
        for path in sorted(folder.rglob("*"))
        if not stat.S_ISREG(path.lstat().st_mode) and not stat.S_ISDIR(path.lstat().st_mode)
    ]
    for path in strange:
        path.unlink()
    return strange


def _drop_too_long(folder: Path) -> str:
    """Remove what nobody could read or hash to its end; says what, empty if nothing."""
    for name, most in _TEXT_BYTES.items():
        path = folder / name
        if path.is_file() and path.stat().st_size > most:
            path.unlink()
            return f"its {name} is longer than {most >> 20} MiB"
    files = [path for path in folder.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    if len(files) <= MOST_FILES and total <= MOST_BYTES:
        return ""
    for path in files:
        if path.name not in (LOG_FILE, wire.JOB_FILE):
            path.unlink()
    return f"left {len(files)} files, {total / 2**30:.0f} GiB, in its job folder; all removed"


def _describe(path: Path, folder: Path) -> str:
    return ascii(str(path.relative_to(folder)))[:100]


def _redact(path: Path, secrets: Iterable[str]) -> None:
    """Overwrite secrets by as many asterisks, so that byte ranges stay where they are."""
    wanted = [secret.encode() for secret in secrets]
    if not wanted or not path.stat().st_size:
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        for secret in wanted:
            place = content.find(secret)
            while place >= 0:
                content[place : place + len(secret)] = b"*" * len(secret)
                place = content.find(secret, place + len(secret))
