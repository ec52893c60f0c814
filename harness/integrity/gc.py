"""Removes what a harness that was killed left behind, by its label, and never anything else."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

from docker.errors import APIError, NotFound

from harness.environments.built import cache_dir
from harness.errors import EnvironmentFault, in_words
from harness.machine.owners import (
    MAKING,
    OWNER,
    OWNER_FILE,
    OWNER_VARIABLE,
    TEMPORARY,
    TRIAL,
    is_orphan,
    owner_of,
)
from harness.sandboxes.engine import answers, connect, engine_faults
from harness.store.run import open_run

_REMOVE_S = 20.0
"""How long a removal that is under way may take."""


def collect(runs: tuple[Path, ...]) -> Iterator[str]:
    """Remove orphans one by one, and say of each what it was.

    Args:
        runs: Folders of runs whose unfinished trials are dropped as well.
    """
    yield from _processes()
    if answers():
        yield from _containers()
    yield from _folders()
    for run in runs:
        yield from _unfinished(run)


def _containers() -> Iterator[str]:
    with engine_faults("containers cannot be listed"):
        found = connect().api.containers(all=True, filters={"label": OWNER})
    for one in found:
        if is_orphan(one["Labels"][OWNER]):
            with engine_faults(f"container {one['Id'][:12]} cannot be removed"):
                _remove_container(one["Id"])
            yield f"container {one['Id'][:12]}, trial {one['Labels'].get(TRIAL) or 'none'}"


def _remove_container(container: str) -> None:
    """Remove a container, or wait until a removal that its dead harness had asked for is done."""
    until = time.monotonic() + _REMOVE_S
    while True:
        try:
            connect().api.remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            is_under_way = error.status_code == HTTPStatus.CONFLICT
            if not is_under_way or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def _processes() -> Iterator[str]:
    """Processes of this user that a trial started and that its end did not reach."""
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal():
            continue
        with suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            if is_orphan(_owner_of_process(place)):
                os.kill(int(place.name), signal.SIGKILL)
                yield f"process {place.name}"


def _owner_of_process(place: Path) -> str:
    wanted = f"{OWNER_VARIABLE}=".encode()
    for variable in (place / "environ").read_bytes().split(b"\0"):
        if variable.startswith(wanted):
            return variable.removeprefix(wanted).decode("utf-8", "replace")
    return ""


def _folders() -> Iterator[str]:
    """Shared inputs that were never finished, and temporary folders of sides."""
    temporary = Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*/{OWNER_FILE}")
    for label in sorted([*cache_dir().glob(f"{MAKING}*/{OWNER_FILE}"), *temporary]):
        if is_orphan(owner_of(label)):
            try:
                shutil.rmtree(label.parent)
            except PermissionError as error:
                raise EnvironmentFault(
                    f"{label.parent} could not be removed: {in_words(error)}"
                ) from error
            yield f"folder {label.parent}"


def _unfinished(folder: Path) -> Iterator[str]:
    """Job folders of a run in which no process has a cell."""
    run = open_run(folder)
    held = [cell.cell_id for cell in run.read_plan() if run.is_held(cell.cell_id)]
    if held:
        return
    with run.writing():  # which ends the changes that a dead process has left
        for path in run.unfinished_jobs():
            run.remove([path])
            yield f"folder {path}"
