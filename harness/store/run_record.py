"""``run.json``: what a run was asked for, its plan and how it stands, so that it can go on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.errors import IntegrityFault
from harness.machine.fingerprint import Machine
from harness.records import PlannedCell, Source
from harness.store.version import SCHEMA_VERSION, check_version

_SEAL = "sha256"
_VERSION = "schema"
_FORMER_NAMES: Mapping[str, str] = {"sittings": "workers", "roofline": "kernel_time"}
"""Keys of schema 2 to what they are called now."""


class RunState(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """One process that added to a run, from when on and where."""

    started: str
    """UTC."""
    machine: Machine


@dataclass(frozen=True, kw_only=True)
class EnvironmentRecord:
    """What a side ran in."""

    title: str = ""
    """As people read it; empty in older runs, as the next."""
    role: str = ""
    """``candidate`` or ``reference``."""
    description: str
    packages: tuple[str, ...]
    """As declared."""
    reason_no_deps: str
    installed: tuple[str, ...] = ()
    """Name and version of every package, as ``pip freeze`` prints them."""
    digest: str
    image: str = ""
    """Id of the container image; empty for a virtual environment."""
    code_digest: str
    source: Source | None = None


@dataclass(frozen=True, kw_only=True)
class KernelTime:
    """What the large kernels of a cell take alone: no AR step of it can take less."""

    forward_ms: float
    """One network call at the full window."""
    diffuse_ms: float
    """All denoising calls of an AR step; per denoising step with CFG where there is one AR step."""
    kernels_ms: dict[str, float]
    """Kernel of one layer to its time alone."""
    torch: str
    gpu: str = ""
    """UUID of the GPU; empty on a CPU, and where the run did not keep it."""
    timed_s: float = 0.0
    """How long its kernels were timed in all; 0 where the run did not keep it."""
    sm_mhz: float | None = None
    """Median SM clock meanwhile, under load; None where nobody looked, like the next."""
    power_w: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All of ``run.json`` but its version and its seal."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    suite: str
    suite_file: str
    """The suite as ``--suite`` takes it from anywhere."""
    sources: dict[str, str]
    """Digests of the files that the plan comes from, by name."""
    description: str
    device: str
    size: str
    weights: str
    weights_seed: int
    started: str
    """UTC."""
    finished: str = ""
    """UTC; empty while a cell has no verdict."""
    state: RunState
    machine: Machine
    """Of the worker that began it."""
    workers: tuple[WorkerRecord, ...] = ()
    """Every process that added to it, the first included."""
    sandbox: str
    passed: tuple[str, ...] = ()
    """Names of variables that the sides saw."""
    cells: tuple[str, ...]
    """Ids of the planned cells: the denominator."""
    plan: tuple[PlannedCell, ...]
    unsupported: tuple[tuple[str, str], ...]
    """Cells outside the denominator, each with its reason."""
    not_chosen: tuple[str, ...] = ()
    """Cells that could run and that ``--only`` left out."""
    estimated_s: dict[str, float] = field(default_factory=dict)
    """Cell to the time that the plan expected."""
    environments: dict[str, EnvironmentRecord]
    kernel_time: dict[str, KernelTime] = field(default_factory=dict)
    """Of each cell that ran on a GPU."""
    pruned: bool = False
    """Whether captures were removed on purpose."""


def dump_record(record: RunRecord) -> str:
    """A run's record as text that carries its own digest, a line for each key."""
    values = {_VERSION: SCHEMA_VERSION, **json.loads(_adapter().dump_json(record))}
    sealed = values | {_SEAL: _seal(values)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sealed.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_record(path: Path) -> RunRecord:
    """Read a run's record, of whatever version.

    Raises:
        IntegrityFault: It is missing, no record of a readable version, or was altered.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise IntegrityFault(f"{path} is missing") from error
    except OSError as error:
        raise IntegrityFault(f"{path} could not be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise IntegrityFault(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise IntegrityFault(f"{path} is not the record of a run")
    check_version(path, values.get(_VERSION))
    if values.pop(_SEAL, None) != _seal(values):
        raise IntegrityFault(f"{path} was altered: its content does not match its own digest")
    named = {_FORMER_NAMES.get(key, key): value for key, value in values.items()}
    del named[_VERSION]
    try:
        return _adapter().validate_json(json.dumps(named))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise IntegrityFault(f"{path}: {place}: {first['msg']}") from error


@cache
def _adapter() -> TypeAdapter[RunRecord]:
    """Made at the first use: it takes longer than most commands."""
    return TypeAdapter(RunRecord)


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
