"""The process sandbox: a process group and a temporary folder of its own, a clean environment."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from harness.machine.owners import OWNER_FILE, OWNER_VARIABLE, TEMPORARY, owner_label
from harness.sandboxes.contract import ALWAYS, DUMP_S, GRACE_S, LOG_FILE, Launch

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
"""Variables of the harness that a side gets to see; everything else is left out."""
_POLL_S = 0.01
_WARDEN = Path(__file__).with_name("warden.py")


class ProcessSandbox:
    """One running trial."""

    ran_out_of_memory = False
    """The kernel does not say so of a process that has no control group of its own."""

    def __init__(self, launch: Launch) -> None:
        """Start the command; stdout and stderr go to the log."""
        # What one process compiles must not warm the next one up: PyTorch keeps kernels there.
        self._temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY))
        try:
            (self._temporary / OWNER_FILE).write_text(owner_label(), "utf-8")
            self._started = time.monotonic()
            self._process = self._start(launch)
        except OSError:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        resource.prlimit(self._process.pid, resource.RLIMIT_CORE, (0, 0))

    def _start(self, launch: Launch) -> "subprocess.Popen[bytes]":
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= dict.fromkeys(("HOME", "TMPDIR"), str(self._temporary))
        environment |= ALWAYS | dict(launch.variables) | {OWNER_VARIABLE: owner_label()}
        if launch.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(launch.gpus)
        warden = [sys.executable, "-I", "-S", str(_WARDEN), str(os.getpid())]
        with (launch.folder / LOG_FILE).open("wb") as log:
            return subprocess.Popen(  # noqa: S603
                [*warden, *launch.command],
                cwd=launch.folder,
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

    def call_at_end(self, told: Callable[[], object]) -> None:
        """Have a thread of its own call ``told`` once the process has ended."""
        threading.Thread(target=self._tell, args=(told,), name="process", daemon=True).start()

    def dump_stacks(self) -> None:
        """Ask every process for its stacks, one after another: at once they would mix in the log.

        The first one is last, and stands still meanwhile, so that it does not react to the others.
        """
        until = time.monotonic() + DUMP_S
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            first.suspend()
            for child in first.children(recursive=True):
                _abort(child, until)
            first.send_signal(signal.SIGABRT)
            first.resume()
        self.wait(DUMP_S)

    def stop(self) -> int:
        """End the whole group, politely first; returns the exit status."""
        try:
            if self._process.poll() is None:
                self._signal(signal.SIGTERM)
                self.wait(GRACE_S)
        finally:  # a second Ctrl-C must leave no process behind either
            self._signal(signal.SIGKILL)
            status = self._process.wait()
            shutil.rmtree(self._temporary, ignore_errors=True)
        return status

    def _tell(self, told: Callable[[], object]) -> None:
        with suppress(ChildProcessError):  # its exit status has been taken already
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        told()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def _abort(process: psutil.Process, until: float) -> None:
    """Send SIGABRT, and wait until the process is dead or a zombie, or it is too late."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGABRT)
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(_POLL_S)
