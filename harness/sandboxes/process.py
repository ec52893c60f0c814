"""The process sandbox: a process group of its own, a clean environment, its output in a file."""

import os
import signal
import subprocess
import time
from pathlib import Path

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Variables of the harness that a side gets to see; everything else is left out."""
_GRACE_S = 5.0
"""Seconds between asking a process group to stop and killing it."""


class ProcessSandbox:
    """One running trial."""

    def __init__(self, command: list[str], variables: dict[str, str], folder: Path) -> None:
        """Start ``command`` in ``folder``; stdout and stderr go to ``log.txt`` there."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"} | variables
        self._started = time.monotonic()
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def wait(self, timeout_s: float) -> int | None:
        """Exit status if the process ends within the time, else None."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> int:
        """End the whole group, politely first; returns the exit status."""
        try:
            if self._process.poll() is None:
                self._signal(signal.SIGTERM)
                self.wait(_GRACE_S)
        finally:  # a second Ctrl-C must leave no process behind either
            self._signal(signal.SIGKILL)
            status = self._process.wait()
        return status

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return
