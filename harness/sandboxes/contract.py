"""What every sandbox does: the same words and the same tests for a process and a container."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.sandboxes.untrusted import LOG_FILE

__all__ = ["ALWAYS", "DUMP_S", "GRACE_S", "LOG_FILE", "SANDBOXES", "Launch", "Sandbox"]

SANDBOXES = ("process", "docker")
"""Where trials run."""

GRACE_S = 5.0
"""Seconds between asking a side to stop and killing it."""
DUMP_S = 1.0
"""Seconds that a side has to print its stacks before it is stopped."""
ALWAYS = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "HF_HUB_OFFLINE": "1"}
"""Variables of every side; the second prints all stacks on SIGABRT."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start, and everything it may touch."""

    command: list[str]
    folder: Path
    """Working directory, absolute: the only place that can be written, with ``log.txt`` in it."""
    variables: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()
    """Files and folders outside ``folder`` that it reads, by the same absolute paths."""
    image: str = ""
    """Container image; empty for a process."""
    gpus: tuple[str, ...] = ()
    """NVML UUIDs of the GPUs that it sees, no others."""
    memory_bytes: int = 0
    """Limit on memory and shared memory together; 0 is nine tenths of the machine's."""
    trial_id: str = ""


class Sandbox(Protocol):
    """Something that runs; it is over when ``stop`` has returned."""

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed a process of it for memory; known once it has ended."""

    def wait(self, timeout_s: float) -> int | None:
        """Exit status if it ends within the time, else None; -N where signal N ended it.

        Raises:
            EnvironmentFault: What it runs in was lost; how it ended is not known.
        """

    def call_at_end(self, told: Callable[[], object]) -> None:
        """Have a thread of its own call ``told`` once it has ended."""

    def dump_stacks(self) -> None:
        """Ask every Python process in it for its stacks, into the log; they end by that."""

    def stop(self) -> int:
        """End all of it, politely first, and leave nothing behind; returns the exit status."""
