"""The container sandbox: no network, nothing writable but the job folder, no privilege at all.

The side's output goes to a file in the job folder. The engine's own log is off: it splits lines,
loses bytes when it rotates, and slows a side that prints a lot.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from harness.errors import EnvironmentFault
from harness.machine.owners import OWN_CONTAINERS, OWNER, TRIAL, owner_label
from harness.sandboxes.contract import ALWAYS, DUMP_S, GRACE_S, LOG_FILE, Launch
from harness.sandboxes.engine import LOST, LostEngineFault, connect, engine_faults, reconnect, watch

NOBODY = 65532
"""User and group of a side whose harness runs as root; otherwise the side has the harness's own."""
WRONG_GPUS = 97
"""Exit status of a container that sees other GPUs than it was given."""
_WRONG_GPUS_SAID = "fdbench: this container sees GPUs "
_GUARD = """\
exec >>log.txt 2>&1
if [ -n "$FDBENCH_GPUS" ]; then
  seen=$(nvidia-smi --query-gpu=uuid --format=csv,noheader | LC_ALL=C sort | tr '\\n' ',')
  if [ "$seen" != "$FDBENCH_GPUS" ]; then
    echo "fdbench: this container sees GPUs $seen and was given $FDBENCH_GPUS"
    exit 97
  fi
fi
exec "$@"
"""
"""Redirects the output, then lets nothing start beside a GPU that is not the trial's."""
_DUMP = """\
set -- $(ls /proc | grep -x '[0-9]*' | sort -n)
first=$2
shift 2
kill -s STOP "$first"
for pid; do
  [ "$pid" = $$ ] || { kill -s ABRT "$pid" 2>/dev/null && sleep 0.1; }
done
kill -s ABRT "$first"
kill -s CONT "$first"
"""
"""Stacks of every process but init, one after another, or they would mix in the log. The first is
last, and stands still meanwhile: the container ends with it."""
_PIDS, _OPEN_FILES, _STACK_BYTES = 4096, 1 << 16, 64 << 20
_LOWERED = [
    Ulimit(name="core", soft=0, hard=0),
    Ulimit(name="stack", soft=_STACK_BYTES, hard=_STACK_BYTES),
]
_RAISED = [
    Ulimit(name="nofile", soft=_OPEN_FILES, hard=_OPEN_FILES),
    Ulimit(name="memlock", soft=-1, hard=-1),  # pinned memory, NCCL
]
_TMP_BYTES, _MOST_SHM_BYTES = 4 << 30, 16 << 30
_DOUBT_S = 1.0
"""How long an end that looks like a failure may turn out to be the engine's."""
_REMOVE_S = 30.0
"""How long a lost engine is asked again to remove what it ran."""


def container_config(launch: Launch, *, raised: bool = True) -> dict[str, Any]:
    """What the engine is asked for, in the words of its API.

    Args:
        launch: What to start.
        raised: Also ask for limits above the engine's own: open files, pinned memory.
    """
    api = connect().api
    memory = launch.memory_bytes or _machine_bytes() * 9 // 10
    user = f"{_user()[0]}:{_user()[1]}"
    host = api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        init=True,
        ipc_mode="private",
        mem_limit=memory,
        memswap_limit=memory,
        pids_limit=_PIDS,
        shm_size=min(memory // 2, _MOST_SHM_BYTES),
        tmpfs={"/tmp": f"rw,nosuid,nodev,exec,mode=1777,size={min(memory // 2, _TMP_BYTES)}"},  # noqa: S108
        ulimits=_LOWERED + (_RAISED if raised else []),
        mounts=_mounts(launch),
        log_config=LogConfig(type="none"),
        device_requests=_device_requests(launch.gpus),
    )
    return {
        "image": launch.image,
        "command": ["/bin/sh", "-c", _GUARD, "side", *launch.command],
        "user": user,
        "working_dir": str(launch.folder),
        "environment": _environment(launch),
        "labels": {OWNER: owner_label(), TRIAL: launch.trial_id},
        "network_disabled": True,
        "host_config": host,
    }


class _LimitFault(Exception):
    """The engine may not raise a limit above its own."""


class DockerSandbox:
    """One running trial."""

    _may_raise = True
    """False once this machine's engine has refused to raise a limit."""

    def __init__(self, launch: Launch) -> None:
        """Start the command in a new container of the image."""
        _give(launch.folder)
        self._said = launch.folder / LOG_FILE
        if watch().is_set():  # the engine was restarted between two trials
            reconnect()
        self._api, self._gone = connect().api, watch()
        self._stopped = False
        self._status: int | None = None
        self._lost: Exception | None = None
        self._state: Mapping[str, Any] = {}
        self._started = time.monotonic()
        try:
            self._start(launch, raised=DockerSandbox._may_raise)
        except _LimitFault:
            DockerSandbox._may_raise = False
            self._start(launch, raised=False)
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="container", daemon=True).start()

    @property
    def wall_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed one of its processes, a child of the side's included."""
        return bool(self._state.get("OOMKilled"))

    def wait(self, timeout_s: float) -> int | None:
        """Exit status if the container ends within the time, else None."""
        if not self._ended.wait(timeout_s):
            return None
        if self._status and not self._stopped and self._gone.wait(_DOUBT_S):
            self._lost = ConnectionError("it was stopped, and stopped what it ran")
        if self._lost is not None:
            raise LostEngineFault(
                f"the container engine was lost during a trial: {self._lost}\n"
                "This trial is dropped, finished ones are kept. Check the engine with: docker info"
            )
        if not self._state:
            with engine_faults("the container engine was lost as a trial ended"):
                self._state = self._api.inspect_container(self._id)["State"]
        if self._status == WRONG_GPUS and self._said.is_file():
            said = self._said.read_text("utf-8", "replace").partition("\n")[0]
            if said.startswith(_WRONG_GPUS_SAID):
                raise EnvironmentFault(f"{said[:500]}\nNothing was run on the wrong GPU.")
        return self._status

    def call_at_end(self, told: Callable[[], object]) -> None:
        """Have a thread of its own call ``told`` once the container has ended."""

        def tell() -> None:
            self._ended.wait()
            told()

        threading.Thread(target=tell, name="container end", daemon=True).start()

    def dump_stacks(self) -> None:
        """Send SIGABRT to every process but init."""
        with suppress(EnvironmentFault), engine_faults("no stack dump"):
            made = self._api.exec_create(self._id, ["/bin/sh", "-c", _DUMP])
            self._api.exec_start(made["Id"], detach=True)
        self._stopped = True
        self._ended.wait(DUMP_S)

    def stop(self) -> int:
        """End and remove the container; returns the exit status."""
        try:
            self._stopped = self._stopped or not self._ended.is_set()
            if not self._ended.is_set():
                self._signal("SIGTERM")
                self._ended.wait(GRACE_S)
            if not self._ended.is_set():
                self._signal("SIGKILL")
                self._ended.wait(GRACE_S)
            self.wait(0)
        finally:
            self._remove()
        return -signal.SIGKILL if self._status is None else self._status

    def _start(self, launch: Launch, *, raised: bool) -> None:
        with engine_faults(f"a container of image {launch.image[:19]} cannot be made"):
            config = container_config(launch, raised=raised)
            self._id = self._api.create_container(**config)["Id"]
        OWN_CONTAINERS.add(self._id)
        try:
            with engine_faults("the container cannot be started"):
                self._api.start(self._id)
        except BaseException as error:
            self._remove()
            if raised and "rlimit" in str(error):
                raise _LimitFault from error
            raise

    def _follow(self) -> None:
        """Wait without asking again and again: the engine shares its cores with the side."""
        try:
            status = self._api.wait(self._id, timeout=None)["StatusCode"]
            # 128 + N is how a shell and the container's init report signal N.
            self._status = 128 - status if 128 < status <= 128 + signal.NSIG else status
        except (*LOST, APIError) as error:
            self._lost = error
        self._ended.set()

    def _signal(self, name: str) -> None:
        with engine_faults("the container cannot be stopped"), suppress(APIError):
            # The engine refuses where there is nothing to stop any more.
            self._api.kill(self._id, name)

    def _remove(self) -> None:
        """Remove the container whatever state it is in.

        Raises:
            LostEngineFault: The engine does not answer, for long enough.
        """
        until = time.monotonic() + _REMOVE_S
        while True:
            try:
                with suppress(NotFound):
                    self._api.remove_container(self._id, force=True, v=True)
                OWN_CONTAINERS.discard(self._id)
                break
            except (*LOST, APIError) as error:
                if time.monotonic() > until:
                    raise LostEngineFault(
                        f"container {self._id[:12]} may still be running, but its engine is "
                        f"gone: {error}\n"
                        "Once the engine is back: fdbench gc"
                    ) from error
                time.sleep(0.5)
                with suppress(EnvironmentFault):
                    self._api = reconnect().api


def _user() -> tuple[int, int]:
    return (os.geteuid(), os.getegid()) if os.geteuid() else (NOBODY, NOBODY)


def _give(folder: Path) -> None:
    """Make a job folder and its log the side's own."""
    (folder / LOG_FILE).touch()
    if not os.geteuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _environment(launch: Launch) -> dict[str, str]:
    own = {"HOME": "/tmp", "USER": "fdbench", "LOGNAME": "fdbench"}  # noqa: S108
    given = ALWAYS | own | dict(launch.variables)
    if launch.gpus:
        given["FDBENCH_GPUS"] = "".join(f"{uuid}," for uuid in sorted(launch.gpus))
    return given


def _mounts(launch: Launch) -> list[Mount]:
    places = [(launch.folder, False), *((path, True) for path in dict.fromkeys(launch.readable))]
    return [
        Mount(target=str(path), source=str(path), type="bind", read_only=read_only)
        for path, read_only in places
    ]


def _device_requests(gpus: tuple[str, ...]) -> list[DeviceRequest]:
    if not gpus:
        return []
    wanted = [["gpu", "compute", "utility"]]
    return [DeviceRequest(driver="nvidia", device_ids=list(gpus), capabilities=wanted)]


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
