"""Which folder is a run, and what a folder is that is none."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from harness.store.manifest import RUN_COPY_FILE, RUN_FILE

_MOST = 3
"""Runs that a message names."""


def is_run(folder: Path) -> bool:
    """Whether a run has been begun there."""
    return any((folder / name).is_file() for name in (RUN_FILE, RUN_COPY_FILE))


def why_no_run(folder: Path) -> str:
    """Why a path is no run, and what to name or type instead."""
    if not folder.exists():
        why = "there is no such folder"
    elif not folder.is_dir():
        why = "it is a file"
    else:
        why = f"no {RUN_FILE} in it"
        below = sorted(map(str, _runs_in(folder)))
        if below:
            more = f", and {len(below) - _MOST} more" if len(below) > _MOST else ""
            return f"{why}, but in {', '.join(below[:_MOST])}{more}"
    return f"{why}; runs are made by: fdbench run"


def _runs_in(folder: Path) -> Iterator[Path]:
    """Runs one level down that can be looked at."""
    with suppress(OSError):
        for place in folder.iterdir():
            with suppress(OSError):
                if is_run(place):
                    yield place
