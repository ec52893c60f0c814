"""``run.json``: what a run was asked for, and its plan, so that it can be judged again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import IntegrityFault
from harness.records import PlannedCell
from harness.store.schema import SCHEMA_VERSION, check_version

_CELLS = TypeAdapter(tuple[PlannedCell, ...])
_SEAL = "sha256"
_LATER: Mapping[str, Any] = {"passed": [], "roofline": {}, "not_chosen": [], "estimated_s": {}}
"""Keys that the first runs of this version lack, with what stands for them."""


class State(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


def dump_run(run: dict[str, Any]) -> str:
    """A run's record as text that carries its own digest, a line for each key."""
    values = {key: value for key, value in run.items() if key != _SEAL}
    values["schema"] = SCHEMA_VERSION
    sealed = values | {_SEAL: _seal(values)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sealed.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_run(path: Path) -> dict[str, Any]:
    """Read a run's record.

    Raises:
        IntegrityFault: It is missing, no JSON object, of another version, or was altered.
    """
    try:
        run = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise IntegrityFault(f"{path} is missing") from error
    except OSError as error:
        raise IntegrityFault(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise IntegrityFault(f"{path}: not JSON ({error})") from error
    if not isinstance(run, dict):
        raise IntegrityFault(f"{path}: not the record of a run")
    check_version(path, run.get("schema"))
    if run.pop(_SEAL, None) != _seal(run):
        raise IntegrityFault(f"{path} was altered: its content is not what its own digest says")
    for key, value in _LATER.items():
        run.setdefault(key, value)
    return run


def dump_plan(cells: Iterable[PlannedCell]) -> list[Any]:
    """Planned cells as JSON values."""
    values: list[Any] = json.loads(_CELLS.dump_json(tuple(cells)))
    return values


def load_plan(values: object, where: Path) -> tuple[PlannedCell, ...]:
    """Planned cells from JSON values.

    Raises:
        IntegrityFault: They are none.
    """
    try:
        return _CELLS.validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityFault(f"{where}: plan.{place}: {first['msg']}") from error


def _seal(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
