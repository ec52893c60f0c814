"""The environments of a plan's sides, in the kind of sandbox that was asked for."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from harness.environments import images
from harness.environments.built import BuiltEnvironment, build_environment
from harness.errors import UsageFault
from harness.records import Plan, PlannedCell
from harness.sandboxes import contract
from harness.units import format_duration

SANDBOXES = contract.SANDBOXES
PROCESS, DOCKER = SANDBOXES


def build_sides(
    planned: Plan, sandbox: str, folder: Path, base: str, note: Callable[[str], None]
) -> dict[str, BuiltEnvironment]:
    """Every environment of a plan; a cell's candidate also makes what its sides share.

    Args:
        planned: The plan.
        sandbox: One of ``SANDBOXES``.
        folder: Where environments are declared.
        base: Base image of containers; empty for that of the images that are here.
        note: Told what takes time.
    """
    names = names_in(planned)
    make: Callable[[str, Callable[[str], None]], BuiltEnvironment]
    make = (
        partial(images.build, folder=folder, base=base)
        if sandbox == DOCKER
        else partial(build_environment, folder=folder)
    )
    return {made.name: made for made in build_each(names, make, note)}


def names_in(planned: Plan) -> list[str]:
    """Environments of all trials of a plan, and of its candidates, which make the inputs."""
    names = dict.fromkeys(by_candidate(planned.cells))
    names |= {trial.side.environment: None for cell in planned.cells for trial in cell.trials}
    return list(names)


def build_each(
    names: Sequence[str],
    make: Callable[[str, Callable[[str], None]], BuiltEnvironment],
    note: Callable[[str], None],
) -> Iterator[BuiltEnvironment]:
    """Environments one after the other; what takes time is noted with its place among them.

    Args:
        names: Of the environments.
        make: Returns the environment of a name, and tells what takes time.
        note: Told what takes time, and afterwards how long it took.
    """
    for number, name in enumerate(names, start=1):
        notes = _Notes(f"{number} of {len(names)}", note)
        made = make(name, notes.add)
        if notes.since_s is not None:
            notes.add(f"{name} took {format_duration(time.monotonic() - notes.since_s)}")
        yield made


class _Notes:
    """Notes about one environment of several."""

    def __init__(self, place: str, note: Callable[[str], None]) -> None:
        self._place, self._note = place, note
        self.since_s: float | None = None
        """When the first came."""

    def add(self, text: str) -> None:
        if self.since_s is None:
            self.since_s = time.monotonic()
        self._note(f"{self._place}: {text}")


def by_candidate(cells: Iterable[PlannedCell]) -> dict[str, list[PlannedCell]]:
    """Cells by their candidate's environment, which makes what both sides of a cell read."""
    found: dict[str, list[PlannedCell]] = {}
    for cell in cells:
        found.setdefault(cell.candidate.environment, []).append(cell)
    return found


def passed_on(names: Iterable[str]) -> dict[str, str]:
    """Variables that the user named, with their values.

    Raises:
        UsageFault: One is not set.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UsageFault(
            f"--env {missing[0]}: that variable is not set; give only its name, without a value"
        )
    return {name: os.environ[name] for name in names}
