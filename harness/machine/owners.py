"""Whose a container or process is: a label that outlives the process it names."""

import os
from pathlib import Path

OWNER, TRIAL = "fdbench.owner", "fdbench.trial"
"""Labels of a container: the process it belongs to, and what it runs."""
OWNER_VARIABLE, OWNER_FILE = "FDBENCH_OWNER", "owner"
"""The same in the environment of a process, and in a folder."""
TEMPORARY = "fdbench-side-"
"""How the temporary folder of a process begins."""
OWN_CONTAINERS: set[str] = set()
"""Ids of the containers that this process has now."""


def owner_label() -> str:
    """Names this process among all that ever ran on this machine."""
    return " ".join((_boot(), _namespace(), str(os.getpid()), _started(os.getpid())))


def is_orphan(owner: str) -> bool:
    """Whether the process of an owner label is gone; one that cannot be judged is not."""
    words = owner.split(" ")
    if len(words) != 4 or not words[2].isdecimal():
        return False
    boot, namespace, pid, started = words
    if boot != _boot():
        return True
    return namespace == _namespace() and _started(int(pid)) != started


def runs_in_own_container(pid: int) -> bool:
    """Whether a process runs in a container that this process has now.

    The engine's processes are nobody's children here, so only their control group tells.
    """
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(container in groups for container in OWN_CONTAINERS)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _namespace() -> str:
    """Process ids mean something inside their namespace only."""
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
