"""Whose a container, process or half-made file is: a label that outlives the process it names.

Disks are shared between machines, so a label has the machine too: what another one's process makes
is its own to end.
"""

import errno
import functools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from harness.errors import EnvironmentFault

OWNER, TRIAL = "fdbench.owner", "fdbench.trial"
"""Labels of a container: the process it belongs to, and what it runs."""
OWNER_VARIABLE, OWNER_FILE = "FDBENCH_OWNER", "owner"
"""The same in the environment of a process, and in a folder."""
MAKING = "making-"
"""How a folder of a shared cache begins in which something is made."""
TEMPORARY = "fdbench-side-"
"""How the temporary folder of a process begins."""
OWN_CONTAINERS: set[str] = set()
"""Ids of the containers that this process has now."""
_WORDS = 5
"""Of a label: host, boot, process namespace, process, its start."""
_MACHINE_ID = Path("/etc/machine-id")


def owner_label() -> str:
    """Names this process among all that ever ran on any machine."""
    return " ".join((_host(), _boot(), _namespace(), str(os.getpid()), _started(os.getpid())))


def is_orphan(owner: str) -> bool:
    """Whether the process of an owner label is gone; one that cannot be judged from here is not."""
    words = owner.split(" ")
    if len(words) == _WORDS - 1:  # of an fdbench that knew no hosts
        words = ["", *words]
    if len(words) != _WORDS or not words[3].isdecimal():
        return False
    host, boot, namespace, pid, started = words
    if boot != _boot():
        # Restarted since, if this is that machine; without an id, machines may share a name.
        return host == _host() and not host.endswith(":")
    return namespace == _namespace() and _started(int(pid)) != started


def owner_of(label: Path) -> str:
    """What an owner file says; nothing where there is none, or it is another user's."""
    try:
        return label.read_text("utf-8", "replace")
    except OSError:
        return ""


def describe(owner: str) -> str:
    """An owner label in words."""
    words = owner.split(" ")
    return f"process {words[3]} on {words[0].partition(':')[0]}" if len(words) == _WORDS else owner


@contextmanager
def making(cache: Path) -> Iterator[Path]:
    """A folder of a shared cache for what is renamed to its place once it is whole."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=MAKING) as name:
        (Path(name) / OWNER_FILE).write_text(owner_label(), encoding="utf-8")
        yield Path(name)


def rename_unless_there(made: Path, place: Path) -> None:
    """Rename a folder to its place, which another host may have filled with the same meanwhile."""
    try:
        made.rename(place)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def claim_of(place: Path) -> Path:
    """The file beside a place that says who makes it."""
    return place.with_name(f"{place.name}.{OWNER_FILE}")


def place_of_claim(path: Path) -> Path | None:
    """The place that a file says somebody makes; None where the file says nothing of the kind."""
    name = path.name.removesuffix(f".{OWNER_FILE}")
    return None if name == path.name else path.with_name(name)


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """Mark a place as being made by this process, in a file beside it.

    File locks keep nobody out on some disks that machines share; this does.

    Raises:
        EnvironmentFault: A process that may be alive makes it now.
    """
    label, own = claim_of(place), owner_label()
    while True:
        try:
            with label.open("x", encoding="utf-8") as file:
                _sign(file, label, own)
            break
        except FileExistsError:
            owner = owner_of(label)
            if owner != own and not is_orphan(owner):
                raise EnvironmentFault(
                    f"{place} is being made by {describe(owner) or 'another process'}\n"
                    f"Wait for it; if there is no such process any more: rm {label}"
                ) from None
            label.unlink(missing_ok=True)
    try:
        yield
    finally:
        label.unlink(missing_ok=True)


def _sign(file: TextIO, label: Path, own: str) -> None:
    try:
        file.write(own)
        file.flush()
    except OSError:  # a full disk; nobody could tell whose an empty label is
        label.unlink(missing_ok=True)
        raise


def is_claimed(place: Path) -> bool:
    """Whether a process that may be alive, this one included, makes a place now."""
    owner = owner_of(claim_of(place))
    return bool(owner) and not is_orphan(owner)


def runs_in_own_container(pid: int) -> bool:
    """Whether a process runs in a container that this process has now.

    The engine's processes are nobody's children here, so only their control group tells.
    """
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(container in groups for container in OWN_CONTAINERS)


@functools.cache
def _host() -> str:
    """Names this machine: its name alone may be that of many nodes, its id that of their image."""
    identity = ""
    with suppress(OSError):
        identity = _MACHINE_ID.read_text("utf-8").strip()
    return "".join(f"{socket.gethostname()}:{identity}".split())


@functools.cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@functools.cache
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
