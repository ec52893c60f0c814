"""What this machine has of what a suite needs: one check per question, nothing changed."""

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pynvml

from harness.environments.built import cache_dir, is_built
from harness.environments.declared import load_environments
from harness.environments.images import images_of
from harness.errors import EnvironmentFault
from harness.machine.fingerprint import Machine, read_machine, require_device
from harness.machine.telemetry import SLOWED
from harness.plan.suites import load_devices, pick
from harness.sandboxes.engine import connect

ENVIRONMENT_GB = 1.5
"""Disk of one environment with a CPU build of torch; a CUDA build takes several times that."""


class Health(StrEnum):
    """How an answer stands."""

    GOOD = "good"
    NOTE = "note"
    """Limits what can be run here."""
    BAD = "bad"
    """Something will fail."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One answer."""

    topic: str
    state: Health
    text: str
    """What is here, and what to do about it if it is not good."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same for a script: numbers, lists and booleans by name."""


def examine(device: str, gpus: int, environments: Collection[str]) -> list[Check]:
    """Answer every question about this machine.

    Args:
        device: Key of the device that a run would be for.
        gpus: How many of it a trial needs.
        environments: Names of those that a run would need.
    """
    here = read_machine()
    checks = [check for question in _QUESTIONS for check in question(here)]
    checks += _environments(environments)
    if lacking := missing(device, gpus):
        text = lacking.replace("\n", " ")
        checks.append(Check(topic="device", state=Health.BAD, text=text))
    return checks


def missing(device: str, gpus: int) -> str:
    """Why this machine cannot run for a device that many times; empty if it can."""
    try:
        devices = load_devices()
        key = pick("device", device, devices)
        require_device(read_machine(), key, devices[key], gpus)
    except EnvironmentFault as fault:
        return str(fault)
    return ""


def _python(here: Machine) -> Iterator[Check]:
    state = Health.GOOD if sys.version_info >= (3, 11) else Health.BAD
    yield Check(topic="python", state=state, text=here.python)


def _processor(here: Machine) -> Iterator[Check]:
    text = f"{here.cpu}, {here.cores} cores, {here.memory_gib} GiB memory"
    state = Health.GOOD if here.memory_gib >= 8 else Health.NOTE
    facts = {"cpu": here.cpu, "cores": here.cores, "memory_gib": here.memory_gib}
    yield Check(topic="processor", state=state, text=text, facts=facts)


def _gpus(here: Machine) -> Iterator[Check]:
    if not here.gpus:
        text = "none that NVML sees; only --gpu cpu can run here"
        yield Check(topic="gpu", state=Health.NOTE, text=text)
        return
    pynvml.nvmlInit()
    try:
        for index, name in enumerate(here.gpus):
            yield _gpu(index, name, here.driver)
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int, name: str, driver: str) -> Check:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    clock = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
    highest = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
    reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    slowed = " and ".join(text for bit, text in SLOWED.items() if reasons & bit)
    used_gib, total_gib = memory.used / 2**30, memory.total / 2**30
    text = (
        f"{index}: {name}, driver {driver}, {used_gib:.1f} of {total_gib:.0f} GiB in use, "
        f"SM clock {clock} of {highest} MHz"
    )
    facts = {
        "index": index,
        "name": name,
        "driver": driver,
        "used_gib": round(used_gib, 1),
        "memory_gib": round(total_gib, 1),
        "sm_mhz": clock,
        "highest_sm_mhz": highest,
        "is_slowed": bool(slowed),
    }
    state = Health.BAD if slowed else Health.NOTE if used_gib > 1 else Health.GOOD
    if slowed:
        text += f"; {slowed}, times will not hold"
    elif used_gib > 1:
        text += "; somebody else is using it"
    return Check(topic="gpu", state=state, text=text, facts=facts)


def _engine(_here: Machine) -> Iterator[Check]:
    """Whether an engine answers decides the sandbox."""
    try:
        version = connect().version()
    except EnvironmentFault as fault:
        text = f"{str(fault).splitlines()[0]}; trials run in the process sandbox"
        yield Check(topic="engine", state=Health.NOTE, text=text)
        return
    built = [name for name in load_environments() if images_of(name)]
    text = (
        f"Docker {version['Version']} answers, so each side runs in a container; "
        f"images of {', '.join(built) or 'no environment'} are here"
    )
    facts = {"docker": version["Version"], "images": built}
    yield Check(topic="engine", state=Health.GOOD, text=text, facts=facts)


def _environments(needed: Collection[str]) -> Iterator[Check]:
    """Virtual environments, which the process sandbox uses."""
    declared = load_environments()
    missing = [name for name in needed if not is_built(name, declared[name])]
    num_built = len(needed) - len(missing)
    text = f"{num_built} of {len(needed)} virtual environments built in {cache_dir()}"
    if missing:
        text += f"; not built: {', '.join(missing)}"
    facts = {"built": [name for name in needed if name not in missing], "missing": missing}
    state = Health.NOTE if missing else Health.GOOD
    yield Check(topic="environments", state=state, text=text, facts=facts)
    yield _disk(len(missing))


def _disk(num_missing: int) -> Check:
    place = next(path for path in (cache_dir(), *cache_dir().parents) if path.exists())
    free_gb = shutil.disk_usage(place).free / 1e9
    needed_gb = 2 + ENVIRONMENT_GB * num_missing
    text = f"{free_gb:.0f} GB free for {cache_dir()}, about {needed_gb:.0f} GB needed"
    if free_gb < needed_gb:
        text += "; set FDBENCH_CACHE to a folder on a larger disk"
    facts = {"free_gb": round(free_gb, 1), "needed_gb": needed_gb}
    state = Health.BAD if free_gb < needed_gb else Health.GOOD
    return Check(topic="disk", state=state, text=text, facts=facts)


def _hugging_face(_here: Machine) -> Iterator[Check]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    has_token = "HF_TOKEN" in os.environ or (home / "token").is_file()
    token = "a token" if has_token else "no token (gated checkpoints cannot be fetched)"
    cached = len(list((home / "hub").glob("models--*"))) if (home / "hub").is_dir() else 0
    text = f"{token}, {cached} models cached; the synthetic suites need neither"
    state = Health.GOOD if has_token else Health.NOTE
    facts = {"has_token": has_token, "models_cached": cached}
    yield Check(topic="hugging face", state=state, text=text, facts=facts)


_QUESTIONS: tuple[Callable[[Machine], Iterator[Check]], ...] = (
    _python,
    _processor,
    _gpus,
    _engine,
    _hugging_face,
)
