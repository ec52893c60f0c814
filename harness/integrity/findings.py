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
    Kind.LEFTOVER: "half-written and no evidence: fdbench fsck --repair removes it",
    Kind.DERIVABLE: "fdbench fsck --repair derives it again from the raw evidence",
    Kind.LOST: "cannot be derived again: put it back from a copy, or run the cell anew elsewhere",
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
