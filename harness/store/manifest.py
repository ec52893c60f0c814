"""``MANIFEST.jsonl``: digest of every evidence file of a run, one JSON object a line.

It grows: whoever adds files appends their lines in one write, and of two lines with one path the
later holds. Only where it cannot be read does a repair write it anew.
"""

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import IntegrityFault, in_words
from harness.store.durable import BESIDE, sync, write_text
from harness.store.version import SCHEMA_VERSION, check_version

MANIFEST_FILE, RUN_FILE, RUN_COPY_FILE = "MANIFEST.jsonl", "run.json", "run.copy.json"
RUN_FILES = (RUN_FILE, RUN_COPY_FILE)
IMPORTS = "imports"
IMPORTED = ("imported_steps", "imported_figures")
PARTS = ("steps", "telemetry", "trials", "pairs", "parity", *IMPORTED)
"""Tables: folders with a file for each trial, cell or import."""
EVIDENCE = (*PARTS, "logs", "captures", IMPORTS)
"""Folders in which every file must stand in the manifest; what a report added does not."""
STAGING = ".staging"
"""Folder of the changes that are being made."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file."""

    path: str
    """Relative to the run's folder."""
    sha256: str
    pruned: bool = False
    """Removed on purpose; its digest stays."""
    dropped: bool = False
    """No file of the run any more: a repair removed a table that belongs to nothing."""


def read_manifest(folder: Path) -> dict[str, Entry]:
    """Entries by path; a run that is being made has none yet.

    Raises:
        IntegrityFault: It is damaged or of another version.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return {}
    entries: dict[str, Entry] = {}
    try:
        head, *lines = _whole_lines(path.read_text("utf-8"))
        version = json.loads(head)["schema"]
        for values in json.loads(f"[{','.join(lines)}]"):
            entry = Entry(**values)
            if entry.dropped:
                entries.pop(entry.path, None)
            else:
                entries[_text(entry.path)] = replace(entry, sha256=_text(entry.sha256))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise IntegrityFault(f"{path}: not a manifest ({in_words(error)})") from error
    check_version(path, version)
    return entries


def append_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Add files, or what is known of them now."""
    path = folder / MANIFEST_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        is_torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        text = (f"\n{_UNFINISHED}\n" if is_torn else "") if size else _HEAD
        text += "".join(map(_line, sorted(entries, key=lambda entry: entry.path)))
        content = text.encode()
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not size:
        sync(folder)


def write_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Write all entries in place of a manifest that cannot be read."""
    lines = map(_line, sorted(entries, key=lambda entry: entry.path))
    write_text(folder / MANIFEST_FILE, _HEAD + "".join(lines))


_HEAD = json.dumps({"schema": SCHEMA_VERSION}) + "\n"
_UNFINISHED = '{"unfinished": "the line above"}'
"""What a writer says of a line that a killed one left without its end."""


def _line(entry: Entry) -> str:
    values: dict[str, object] = {"path": entry.path, "sha256": entry.sha256}
    values |= {mark: True for mark in ("pruned", "dropped") if getattr(entry, mark)}
    return json.dumps(values) + "\n"


def _whole_lines(text: str) -> list[str]:
    """Lines that were written to their end; the files of one that was not are entered again."""
    *lines, last = text.split("\n")
    if last.endswith("}"):  # all but its end of line
        lines.append(last)
    kept: list[str] = []
    for line in lines:
        if line != _UNFINISHED:
            kept.append(line)
        elif not kept[-1].endswith("}"):
            kept.pop()
    return kept


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def evidence_files(folder: Path) -> list[str]:
    """Path in the run's folder of every file that must stand in the manifest."""
    own = [RUN_FILE, *[RUN_COPY_FILE] * (folder / RUN_COPY_FILE).exists()]
    own += sorted(path.name for path in folder.glob("*.parquet"))
    return own + [name for part in EVIDENCE for name in _names_below(folder, part)]


def _names_below(folder: Path, part: str) -> list[str]:
    """Paths of the files below a folder of the run; there may be tens of thousands."""
    try:
        found = sorted(os.scandir(folder / part), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = []
    for entry in found:
        name = f"{part}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            names += _names_below(folder, name)
        else:  # a link is no file of a run, and never stands in its manifest
            names.append(name)
    return names


def misplaced(folder: Path) -> dict[Path, str]:
    """Folders where a run keeps a file, and files where it keeps a folder, with what each is."""
    files = [folder / name for name in (MANIFEST_FILE, *RUN_FILES)]
    files += [path for part in (".", *PARTS) for path in (folder / part).glob("*.parquet")]
    folders = [folder / name for name in (*EVIDENCE, STAGING, "work")]
    found = {path: "is a folder where a file belongs" for path in files if path.is_dir()}
    return found | {path: "is a file where a folder belongs" for path in folders if path.is_file()}


def unfinished_files(folder: Path) -> list[Path]:
    """What lies beside its place: of a repair that was killed, or of an fdbench of schema 2."""
    return [path for part in (".", *PARTS) for path in (folder / part).glob(f"*{BESIDE}")]
