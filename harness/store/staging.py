"""Files of one change to a run, written where only their writer looks until the manifest has them.

Each change has a folder of its own, so that no writer touches what another is writing, whether or
not file locks keep them apart.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.machine.owners import OWNER_FILE, is_orphan, owner_label, owner_of
from harness.store.durable import files_in, sync
from harness.store.manifest import STAGING, Entry
from runners.protocol.wire import sha256_file

_UNSIGNED_S = 3600.0
"""How old a folder without an owner is that nobody is about to sign."""
_OPEN: set[Path] = set()
"""Folders of the changes that this process is making now."""


@contextmanager
def staging(run: Path) -> Iterator[Path]:
    """A folder for the files of a change, each at its path in the run's folder.

    Where the change breaks off it stays, and the next writer ends what it can; see :func:`settle`.
    """
    (run / STAGING).mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=run / STAGING))
    _OPEN.add(made)
    try:
        (made / OWNER_FILE).write_text(owner_label(), encoding="utf-8")
        yield made
    finally:
        _OPEN.discard(made)
    shutil.rmtree(made)


def publish(run: Path, staged: Path, name: str) -> None:
    """Rename a synced file of a change to its place; whole after a power cut, too."""
    place = run / name
    place.parent.mkdir(exist_ok=True)
    # Another process may have done it already, which saw in the manifest that it was to be done.
    with suppress(FileNotFoundError):
        (staged / name).replace(place)
    sync(place.parent)


def abandoned(run: Path) -> list[Path]:
    """Folders of changes that broke off; not those of a process that may be alive."""
    return [folder for folder in _changes(run) if _is_abandoned(folder)]


def is_anything_staged(run: Path) -> bool:
    """Whether there may be a change to settle."""
    return any(_is_abandoned(folder) or _files_of(folder) for folder in _changes(run))


def settle(run: Path, entries: Mapping[str, Entry]) -> None:
    """End changes that broke off: what the manifest has is published, what it has not goes.

    A file that the manifest has is published whoever wrote it: that its digest is the last one
    which was entered is proof enough. What it has not of a process that may be alive stays.
    """
    for folder in _changes(run):
        for name in _files_of(folder):
            entry = entries.get(name)
            with suppress(FileNotFoundError):  # its writer was faster
                if entry is not None and sha256_file(folder / name) == entry.sha256:
                    publish(run, folder, name)
        if _is_abandoned(folder):
            shutil.rmtree(folder)


def _changes(run: Path) -> list[Path]:
    return sorted(folder for folder in (run / STAGING).glob("*") if folder not in _OPEN)


def _files_of(folder: Path) -> list[str]:
    """Paths in the run of what a change has written and not yet published."""
    names = (str(path.relative_to(folder)) for path in files_in(folder))
    return [name for name in names if name != OWNER_FILE]


def _is_abandoned(folder: Path) -> bool:
    owner = owner_of(folder / OWNER_FILE)
    if owner == owner_label():
        return True  # this process has left it: see `_OPEN`
    if not owner:
        with suppress(FileNotFoundError):  # killed before it could say who it was
            return time.time() - folder.stat().st_mtime > _UNSIGNED_S
    return is_orphan(owner)
