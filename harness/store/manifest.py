"""``MANIFEST.jsonl``: digest of every evidence file of a run, one JSON object a line.

It grows: whoever adds files appends their lines in one write, and of two lines with one path the
later holds. Only a repair and a prune write it anew.
"""

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import IntegrityFault
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


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file."""

    path: str
    """Relative to the run's folder."""
    sha256: str
    pruned: bool = False
    """Removed on purpose; its digest stays."""
    before: tuple[str, ...] = ()
    """Digests of a run file's earlier versions. It has a digest of its own inside, and where locks
    keep nobody out two writers may end in another order than they began."""


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
        head, *lines = path.read_text("utf-8").splitlines()
        version = json.loads(head)["schema"]
        for values in json.loads(f"[{','.join(filter(_is_whole, lines))}]"):
            entry = Entry(**values)
            if entry.path in RUN_FILES and entry.path in entries:
                earlier = entries[entry.path]
                entry = replace(entry, before=(*earlier.before, earlier.sha256))
            entries[entry.path] = entry
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityFault(f"{path}: not a manifest ({error})") from error
    check_version(path, version)
    return entries


def append_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Add files, or the present digest of files that were added before."""
    path = folder / MANIFEST_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a killed writer left unfinished is ended; see `_is_whole`.
        is_torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
        text = ("\n" if is_torn else "") if size else _HEAD
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
    """Write all entries in place of those before."""
    lines = map(_line, sorted(entries, key=lambda entry: entry.path))
    write_text(folder / MANIFEST_FILE, _HEAD + "".join(lines))


_HEAD = json.dumps({"schema": SCHEMA_VERSION}) + "\n"


def _line(entry: Entry) -> str:
    values: dict[str, object] = {"path": entry.path, "sha256": entry.sha256}
    return json.dumps(values | ({"pruned": True} if entry.pruned else {})) + "\n"


def _is_whole(line: str) -> bool:
    """Whether a line was written to its end; the files of one that was not are entered again."""
    return line.endswith("}")


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
        elif entry.is_file(follow_symlinks=False):
            names.append(name)
    return names


def misplaced(folder: Path) -> dict[Path, str]:
    """Folders where a run keeps a file, and files where it keeps a folder, with what each is."""
    files = [folder / name for name in (MANIFEST_FILE, *RUN_FILES)]
    files += [path for part in (".", *PARTS) for path in (folder / part).glob("*.parquet")]
    folders = [folder / name for name in EVIDENCE]
    found = {path: "is a folder where a file belongs" for path in files if path.is_dir()}
    return found | {path: "is a file where a folder belongs" for path in folders if path.is_file()}


def unfinished_files(folder: Path) -> list[Path]:
    """What lies beside its place: of a repair that was killed, or of an fdbench of schema 2."""
    return [path for part in (".", *PARTS) for path in (folder / part).glob(f"*{BESIDE}")]
