"""NVML of a machine whose GPUs are invented: takes the place of pynvml's functions in a test."""

from dataclasses import dataclass
from types import SimpleNamespace

import pynvml


@dataclass(frozen=True)
class Gpu:
    """One GPU; its handle is itself."""

    uuid: str = "GPU-0"
    name: str = "NVIDIA H200"
    reasons: int = 0
    """What slows it, in NVML's bits."""
    processes: tuple[int, ...] = ()
    used_bytes: int = 0
    millijoules: int = 0
    """Its energy counter."""


class Nvml:
    """The functions that fdbench calls, of these GPUs."""

    def __init__(self, *gpus):
        self._gpus, self.open = gpus, 0

    def install(self, monkeypatch):
        """Put them in place of pynvml's until the test ends."""
        for name in [name for name in dir(type(self)) if name.startswith("nvml")]:
            monkeypatch.setattr(pynvml, name, getattr(self, name))
        return self

    def nvmlInit(self):
        """Count who has it open."""
        self.open += 1

    def nvmlShutdown(self):
        """The same."""
        self.open -= 1

    def nvmlSystemGetDriverVersion(self):
        """An invented one."""
        return "580.0"

    def nvmlDeviceGetCount(self):
        """How many there are."""
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        """The GPU itself."""
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        """The GPU itself."""
        return next(gpu for gpu in self._gpus if gpu.uuid == uuid)

    def nvmlDeviceGetName(self, gpu):
        """As it was made."""
        return gpu.name

    def nvmlDeviceGetMemoryInfo(self, gpu):
        """An H200's, so much of it in use."""
        return SimpleNamespace(used=gpu.used_bytes, total=141 << 30)

    def nvmlDeviceGetUUID(self, gpu):
        """As it was made."""
        return gpu.uuid

    def nvmlDeviceGetPowerUsage(self, gpu):
        """Milliwatts of a busy H200."""
        return 600_000

    def nvmlDeviceGetTemperature(self, gpu, sensor):
        """A warm one's."""
        return 55

    def nvmlDeviceGetUtilizationRates(self, gpu):
        """Busy."""
        return SimpleNamespace(gpu=100)

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        """As it was made."""
        return gpu.millijoules

    def nvmlDeviceGetClockInfo(self, gpu, clock):
        """At its highest."""
        return 1980

    def nvmlDeviceGetMaxClockInfo(self, gpu, clock):
        """An H200's."""
        return 1980

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu):
        """As it was made."""
        return gpu.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):
        """As it was made."""
        return [SimpleNamespace(pid=pid) for pid in gpu.processes]
