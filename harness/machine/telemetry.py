"""NVML beside a trial: clocks, power, temperature, what slowed the GPU, and who else used it."""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pynvml

from harness.errors import EnvironmentFault, IntegrityFault
from harness.machine.owners import runs_in_own_container
from harness.records import TelemetryRow
from runners.protocol import wire

TELEMETRY_FILE = "telemetry.jsonl"
"""Raw samples, in the job folder."""
PERIOD_S = 0.2
UNREAD_S = 2.0
"""Longest time without a sample of which nobody has to ask what happened in it; NVML took 0.3 s."""
FOREIGN = "used the GPU meanwhile"
"""What the mark of a trial says of another process."""
BUSY_PERCENT = 50
"""Utilisation from which a sample counts as taken under load."""
SLOWED = {
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "software thermal slowdown",
}
"""NVML's reasons that make a trial's times void. The power cap is none: it is how the GPU works
under full load, and shows in the clock that is recorded."""


Counter = Callable[[], float | None]
"""Reads the energy counters of a trial's GPUs, summed, in joules; None where they are not read."""


@contextmanager
def watching(folder: Path, gpus: int) -> Iterator[Counter]:
    """Sample the trial's GPUs into the job folder while the block runs, which may read energy."""
    stop = threading.Event()
    thread = threading.Thread(target=_sample_until, args=(stop, folder / TELEMETRY_FILE, gpus))
    pynvml.nvmlInit()
    thread.start()
    try:
        yield lambda: _counter_j(gpus)
    finally:
        stop.set()
        thread.join()
        pynvml.nvmlShutdown()


def require_idle(gpus: int) -> None:
    """Refuse a GPU that a process of somebody else uses.

    Raises:
        EnvironmentFault: One of the trial's GPUs is in use.
    """
    pynvml.nvmlInit()
    try:
        for index, handle in gpu_handles(gpus):
            others = _foreign(handle)
            if others:
                used_gib = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30
                raise EnvironmentFault(
                    f"GPU {index} is in use by process {', '.join(map(str, others))} "
                    f"({used_gib:.1f} GiB): times measured beside it would be void\n"
                    "Stop it, or pick another GPU: CUDA_VISIBLE_DEVICES=INDEX fdbench run ..."
                )
    finally:
        pynvml.nvmlShutdown()


def read_samples(path: Path, trial_id: str, cell_id: str) -> list[TelemetryRow]:
    """Samples of a finished trial; an unfinished last line is left out.

    Raises:
        IntegrityFault: A line is no sample.
    """
    if not path.is_file():
        return []
    ids = {"trial_id": trial_id, "cell_id": cell_id}
    try:
        lines = path.read_text("utf-8").split("\n")[:-1]
        texts = [json.dumps(dict(**json.loads(line), **ids)) for line in lines]
        return [wire.from_json(TelemetryRow, text, path.name) for text in texts]
    except (TypeError, ValueError, RecursionError, wire.WireError) as error:
        raise IntegrityFault(f"{path.name} holds a line that is no sample: {error}") from error


def unread(samples: Sequence[TelemetryRow], wall_s: float) -> str:
    """Mark of a trial during which the GPU was not read for long; empty if it was."""
    if not samples:
        return "the GPU was not read once"
    times_s = [0.0, *sorted({sample.at_s for sample in samples}), wall_s]
    longest_s = max(b - a for a, b in itertools.pairwise(times_s))
    return f"the GPU was not read for {longest_s:.0f} s" if longest_s > UNREAD_S else ""


def summarize(samples: Sequence[TelemetryRow], first_step_s: float | None) -> dict[str, Any]:
    """Columns of a trial's row: medians under load, and its marks.

    Under load is after the first AR step, or where there is but one, whenever the GPU is busy.
    Figures are None where there is no sample under load.
    """
    busy = [sample for sample in samples if sample.busy_percent >= BUSY_PERCENT]
    loaded = [sample for sample in busy if sample.at_s >= (first_step_s or 0.0)] or busy
    marks = [
        f"{text} in {sum(bool(s.reasons & bit) for s in loaded)} of {len(loaded)} samples"
        for bit, text in SLOWED.items()
        if any(s.reasons & bit for s in loaded)
    ]
    foreign = sorted({sample.foreign for sample in samples if sample.foreign})
    if foreign:
        marks.append(f"process {' and '.join(foreign)} {FOREIGN}")
    return {
        "sm_mhz": _median(sample.sm_mhz for sample in loaded),
        "power_w": _median(sample.power_w for sample in loaded),
        "temperature_c": _median(sample.temperature_c for sample in loaded),
        "energy_j": _energy_j(samples) if loaded else None,
        "gpu_memory_peak_gib": max(
            (s.memory_gib for s in samples if s.memory_gib is not None), default=None
        ),
        "marks": "; ".join(marks),
    }


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None


def _energy_j(samples: Sequence[TelemetryRow]) -> float:
    """Energy between the first and the last sample of each GPU, summed."""
    by_gpu: dict[str, list[float]] = {}
    for sample in samples:
        by_gpu.setdefault(sample.gpu, []).append(sample.energy_j)
    return sum(max(values) - min(values) for values in by_gpu.values())


def _sample_until(stop: threading.Event, path: Path, gpus: int) -> None:
    handles, started = gpu_handles(gpus), time.monotonic()
    with path.open("w", encoding="utf-8") as file:
        while not stop.wait(PERIOD_S):
            for _, handle in handles:
                with suppress(pynvml.NVMLError):  # the gap is seen when the samples are read
                    file.write(json.dumps(_read(handle, time.monotonic() - started)) + "\n")
            file.flush()


def _read(handle: Any, at_s: float) -> dict[str, Any]:
    """One sample: the fields of :class:`TelemetryRow` that the GPU knows."""
    return {
        "at_s": round(at_s, 3),
        "gpu": pynvml.nvmlDeviceGetUUID(handle),
        "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "power_w": pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "busy_percent": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "reasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        "energy_j": _joules(handle),
        "memory_gib": _memory_gib(handle),
        "foreign": ", ".join(map(str, _foreign(handle))),
    }


def _joules(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)


def _counter_j(gpus: int) -> float | None:
    try:
        return sum(_joules(handle) for _, handle in gpu_handles(gpus))
    except pynvml.NVMLError:
        return None


def _memory_gib(handle: Any) -> float | None:
    """Memory in use; None on a GPU that shares the host's and so has no figure of its own."""
    try:
        return float(pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**30)
    except pynvml.NVMLError:
        return None


def _foreign(handle: Any) -> tuple[int, ...]:
    """Compute processes on a GPU that this one did not start."""
    own = {child.pid for child in psutil.Process().children(recursive=True)} | {os.getpid()}
    found = {one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    # A process that has just ended may be listed for a moment longer.
    others = (pid for pid in found - own if psutil.pid_exists(pid))
    return tuple(sorted(pid for pid in others if not runs_in_own_container(pid)))


def gpu_handles(gpus: int) -> list[tuple[int, Any]]:
    """Index and NVML handle of the GPUs that a trial sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    words = visible.split(",") if visible else [str(index) for index in range(gpus)]
    found = []
    for index, word in enumerate(words[:gpus]):
        by_uuid = not word.isdecimal()
        handle = (
            pynvml.nvmlDeviceGetHandleByUUID(word)
            if by_uuid
            else pynvml.nvmlDeviceGetHandleByIndex(int(word))
        )
        found.append((index if by_uuid else int(word), handle))
    return found
