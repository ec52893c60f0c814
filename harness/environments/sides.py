"""The environments of a plan's sides, in the kind of sandbox that was asked for."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from harness.environments import images
from harness.environments.built import BuiltEnvironment, build_environment
from harness.errors import UsageFault
from harness.records import Plan, PlannedCell
from harness.sandboxes import contract

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
    names = dict.fromkeys(by_candidate(planned.cells))
    names |= {trial.side.environment: None for cell in planned.cells for trial in cell.trials}
    if sandbox == DOCKER:
        return {name: images.build(name, note, folder, base) for name in names}
    return {name: build_environment(name, note, folder) for name in names}


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
