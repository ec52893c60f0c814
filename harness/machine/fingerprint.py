"""Fingerprint of the machine a run was made on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pynvml

from harness.errors import EnvironmentFault
from harness.machine.own_version import own_version
from harness.plan.suites import Device
from harness.units import format_counted


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a result depends on that no suite sets."""

    cpu: str
    cores: int
    """Cores this process may use."""
    memory_gib: float
    system: str
    python: str
    fdbench: str
    """Version and commit or digest of the harness; older runs have the version alone."""
    gpus: tuple[str, ...]
    """NVML names, in index order."""
    driver: str
    """NVIDIA driver version; empty without one."""


def read_machine() -> Machine:
    """Read the fingerprint."""
    gpus, driver = _read_gpus()
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages * page_bytes / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        fdbench=own_version(),
        gpus=gpus,
        driver=driver,
    )


def require_device(machine: Machine, key: str, device: Device, gpus: int) -> None:
    """Refuse to run for a device that is not here as often as a trial needs it.

    Raises:
        EnvironmentFault: It is not.
    """
    found = sum(gpu in device.nvml for gpu in machine.gpus)
    if device.torch_device == "cpu" or found >= gpus:
        return
    if found:
        raise EnvironmentFault(
            f"the plan needs {gpus} GPUs of --gpu {key}; this machine has {found}.\n"
            "See which cells need fewer: fdbench plan; then name them: fdbench run --only TEXT"
        )
    here = format_counted(machine.gpus) or "no NVIDIA GPU"
    raise EnvironmentFault(
        f"--gpu {key} needs {' or '.join(device.nvml)}; this machine has {here}.\n"
        "On a machine without one: fdbench run --suite smoke --gpu cpu"
    )


def _read_gpus() -> tuple[tuple[str, ...], str]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), ""
    handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
    names = tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles)
    driver = pynvml.nvmlSystemGetDriverVersion()
    pynvml.nvmlShutdown()
    return names, driver


def _cpu_name() -> str:
    """The processor's name where the system tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
