"""GPUs of this machine: who may use which, and whether a trial gave its memory back."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pynvml
from filelock import FileLock, Timeout

from harness.errors import EnvironmentFault
from harness.machine.telemetry import gpu_handles
from harness.records import PlannedTrial

_LOCKS = Path(tempfile.gettempdir())
"""One place for every user and every cache of this machine."""
_ASK_S = 0.5
_SETTLE_S = 30.0
"""How long a driver may take to free what a killed process had."""
_SLACK_BYTES = 64 << 20


def wanted_by(trial: PlannedTrial) -> int:
    """GPUs that a trial needs."""
    return trial.job.gpus if trial.job.device == "cuda" else 0


def pick_gpus(number: int) -> tuple[str, ...]:
    """UUIDs of the first GPUs that this process may use."""
    if not number:
        return ()
    with _nvml():
        return tuple(pynvml.nvmlDeviceGetUUID(handle) for _, handle in gpu_handles(number))


@contextmanager
def leased_now(uuids: tuple[str, ...]) -> Iterator[bool]:
    """Hold GPUs if nobody has one of them; tells whether it does."""
    with ExitStack() as stack:
        try:
            for uuid in sorted(uuids):
                stack.enter_context(_lock(uuid).acquire(timeout=0))
        except Timeout:
            yield False
        else:
            yield True


@contextmanager
def leased(
    uuids: tuple[str, ...], note: Callable[[str], None], ask: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold GPUs; whoever else wants one of them through fdbench waits until they are free.

    Args:
        uuids: Which.
        note: Told once what is waited for.
        ask: Called again and again meanwhile; what it raises ends the waiting.
    """
    with ExitStack() as stack:
        for uuid in sorted(uuids):  # in one order everywhere, so that no two wait for each other
            stack.enter_context(_held(_lock(uuid), uuid, note, ask))
        yield


def memory_in_use(uuids: tuple[str, ...]) -> dict[str, int]:
    """Bytes in use on each GPU."""
    if not uuids:
        return {}
    with _nvml():
        return {
            uuid: int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).used)
            for uuid in uuids
        }


def require_returned(before: Mapping[str, int], limit_s: float = _SETTLE_S) -> None:
    """Wait until GPUs have as much free memory as before a trial.

    Raises:
        EnvironmentFault: One does not; the next trial would not have the GPU for itself.
    """
    until = time.monotonic() + limit_s
    while True:
        now = memory_in_use(tuple(before))
        kept = {uuid: now[uuid] - used for uuid, used in before.items()}
        held = {uuid: more for uuid, more in kept.items() if more > _SLACK_BYTES}
        if not held:
            return
        if time.monotonic() > until:
            uuid, more = next(iter(held.items()))
            raise EnvironmentFault(
                f"{uuid} has {more / 2**30:.1f} GiB more in use than before the trial, "
                f"{limit_s:.0f} s after its end: what uses it (nvidia-smi)? Then: fdbench gc"
            )
        time.sleep(_ASK_S)


@contextmanager
def _held(
    lock: FileLock, uuid: str, note: Callable[[str], None], ask: Callable[[], None]
) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"waiting for {uuid}, which another fdbench uses")
        while not lock.is_locked:
            ask()
            with suppress(Timeout):
                lock.acquire(timeout=_ASK_S)
    try:
        yield
    finally:
        lock.release()


def _lock(uuid: str) -> FileLock:
    return FileLock(_LOCKS / f"fdbench-{uuid}.lock", mode=0o666)


@contextmanager
def _nvml() -> Iterator[None]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise EnvironmentFault(f"no NVIDIA driver answers: {error}") from error
    try:
        yield
    finally:
        pynvml.nvmlShutdown()
