"""Figures that were made elsewhere: parsed from somebody's log, or published."""

from dataclasses import dataclass
from enum import StrEnum

from harness.records import LogStep


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """One number of a table that somebody published, or the slot that was kept for it.

    No measurement of fdbench's, and never mixed with one.
    """

    workload: str
    """What ran, in the source's words."""
    device: str
    """Device, or the scene where the table has a row per scene."""
    method: str
    """Side that it is of."""
    metric: str
    status: str
    """``pass``, ``oom`` or ``missing``."""
    value_ms: float | None
    """None where nothing was measured."""
    byte_start: int
    byte_end: int


class Basis(StrEnum):
    """Where a number that was brought in comes from; what is measured has tables of its own."""

    PARSED = "parsed from a log"
    PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What ran on what, where somebody else ran it."""

    recipe: str
    device: str
    gpus: int = 1
    """GPUs that ran together, one process each."""
    scene: str = ""
    """Input size, WIDTHxHEIGHT, of a super-resolution recipe; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class Origin(Workload):
    """What whoever imports a log says about it."""

    side: str
    """A candidate's environment, or a baseline of the recipe."""


@dataclass(frozen=True, kw_only=True)
class ImportedStep(Origin, LogStep):
    """One AR step of a log that was made elsewhere."""

    import_id: str
    basis: str
    format: str
    phase: str
    """By the recipe's window; empty for a progress bar, which is no AR step."""


@dataclass(frozen=True, kw_only=True)
class ImportedFigure(PublishedFigure):
    """One number of a published table that was brought in."""

    import_id: str
    basis: str
    format: str
