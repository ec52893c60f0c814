"""Files that are whole or not there: written beside their place, synced, then renamed."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import EnvironmentFault, fdbench_command

BESIDE = ".tmp"
"""What the name of a file ends with until it is whole."""
LEAST_FREE_BYTES = 1 << 16
"""Below this a disk counts as full: no log page and no table fits any more."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def beside(path: Path) -> Path:
    """Where a file is written before it is renamed to its place."""
    return path.with_name(path.name + BESIDE)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the former one or this one, also beside others."""
    made = path.with_name(f"{path.name}.{os.getpid()}{BESIDE}")
    try:
        write_synced(made, text).replace(path)
        sync(path.parent)
    except OSError:
        with suppress(OSError):
            made.unlink()
        raise


def write_synced(path: Path, text: str) -> Path:
    """Write a text file to the disk; returns it."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # by its descriptor: a text of a change may be published meanwhile
    return path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder; links, which a side may have made, are no files."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


@contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Turn what a full or failing disk does to a write into a message.

    Raises:
        EnvironmentFault: The disk under ``folder`` took no more.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise EnvironmentFault(_describe(folder, os.strerror(error.errno))) from error


def require_space(folder: Path, said: str = "") -> None:
    """Refuse to go on where the disk is full, or where a process that failed ``said`` so.

    Raises:
        EnvironmentFault: It is.
    """
    full = os.strerror(errno.ENOSPC)
    if full in said or shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        raise EnvironmentFault(_describe(folder, full))


def _describe(folder: Path, what: str) -> str:
    mount = folder.resolve()
    while not mount.is_mount():
        mount = mount.parent
    usage = shutil.disk_usage(mount)
    return (
        f"{folder} cannot be written: {what}; the disk at {mount} has "
        f"{usage.free / 2**20:.1f} of {usage.total / 2**20:.0f} MiB free\n"
        f"Finished trials are kept. Make room, then: {fdbench_command('run', '--resume', folder)}"
    )
