"""How long the host's tasks had to wait: the kernel's pressure stall information (PSI)."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

RESOURCES = ("cpu", "memory", "io")
_PLACE = Path("/proc/pressure")


def read_waits() -> dict[str, int]:
    """Microseconds since boot in which some task waited, by resource.

    A resource that the kernel does not count is left out. The kernel adds up every two seconds.
    """
    found = {}
    for resource in RESOURCES:
        with suppress(OSError):  # no such file, or switched off at boot
            said = re.match(r"some .*\btotal=(\d+)$", (_PLACE / resource).read_text(), re.MULTILINE)
            if said:
                found[resource] = int(said[1])
    return found


def waits_since(before: Mapping[str, int]) -> dict[str, int] | None:
    """What was added to an earlier reading; None where the kernel counts nothing."""
    now = read_waits()
    return {name: now[name] - before[name] for name in now if name in before} or None


def waited_columns(waited_us: Mapping[str, int] | None, wall_s: float) -> dict[str, Any]:
    """Columns of a trial's row: share of its time in which some task waited for each resource.

    None where nobody counted.
    """
    known = waited_us or {}
    return {
        f"{resource}_waited_percent": min(100.0, known[resource] / 1e4 / wall_s)
        if resource in known
        else None
        for resource in RESOURCES
    }
