"""One thing about a run that is not as it should be, and what can be done about it."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What can be done about a finding."""

    LEFTOVER = "leftover"
    DERIVABLE = "derivable"
    LOST = "lost"
    FOREIGN = "foreign"


_ADVICE = {
    Kind.LEFTOVER: "half-written, so no evidence: fsck --repair removes it",
    Kind.DERIVABLE: "fsck --repair derives it again from the raw evidence",
    Kind.LOST: "cannot be derived again: restore it from a copy, or measure the cell in a new run",
    Kind.FOREIGN: "not written by fdbench: move it out of the run",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    path: str
    problem: str
    kind: Kind

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self.kind]
