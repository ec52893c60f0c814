"""Files of one change to a run, written where only their writer looks until the manifest has them.

Each change has a folder of its own, so that no writer touches what another is writing, whether or
not file locks keep them apart.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.machine.owners import OWNER_FILE, is_orphan, owner_label, owner_of
from harness.store.durable import files_in, sync
from harness.store.manifest import Entry
from runners.protocol.wire import sha256_file

STAGING = ".staging"
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
    (staged / name).replace(place)
    sync(place.parent)


def abandoned(run: Path) -> list[Path]:
    """Folders of changes that broke off; not those of a process that may be alive."""
    return [folder for folder in sorted((run / STAGING).glob("*")) if _is_abandoned(folder)]


def settle(run: Path, entries: Mapping[str, Entry]) -> None:
    """End changes that broke off: what the manifest has is published, what it has not goes."""
    for folder in abandoned(run):
        for path in files_in(folder):
            name = str(path.relative_to(folder))
            entry = entries.get(name)
            if entry is not None and sha256_file(path) == entry.sha256:
                publish(run, folder, name)
        shutil.rmtree(folder)


def _is_abandoned(folder: Path) -> bool:
    owner = owner_of(folder / OWNER_FILE)
    is_own = owner == owner_label()
    return folder not in _OPEN if is_own else is_orphan(owner)
