"""Parity per AR step: what the gate looked at, worst candidate process shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.parity import within
from harness.records import ParityRow
from reports.evidence import CellEvidence
from reports.sides import display_side


@dataclass(frozen=True, kw_only=True)
class DistanceRow:
    """One AR step of the parity table."""

    ar: int
    relative_l2: float | None
    """Of the worst candidate process; None where no pair was compared. NaN is worst."""
    floor: float | None
    ratio: float | None
    """Error over floor; None where one of them is missing or the floor is zero."""
    max_abs: float | None
    """Largest over candidate processes."""
    cosine: float | None
    """Smallest over candidate processes."""
    candidate_std: float | None
    reference_std: float | None
    mark: str
    """``within``, ``outside`` or ``not compared``."""


@dataclass(frozen=True, kw_only=True)
class DistanceTable:
    """The parity table of a cell."""

    cell_id: str
    candidate: str
    reference: str
    floor: str
    """The two sides whose distance is the noise floor."""
    limit: float | None
    """Multiple of the floor; None where the cell was not judged."""
    limit_origin: str
    num_processes: int
    """Candidate processes that were compared."""
    rows: tuple[DistanceRow, ...]

    @property
    def worst(self) -> DistanceRow | None:
        """The AR step with the largest ratio; one whose ratio is no number outdoes all."""
        rows = [row for row in self.rows if row.ratio is not None]
        return max(rows, key=lambda row: _badness(row.ratio or 0.0), default=None)


def distance_table(cell: CellEvidence) -> DistanceTable:
    """Parity of a cell by AR step, from stored rows; without rows where nothing was compared."""
    compared = [row for row in cell.parity if row.comparison == "pair"]
    floors = {row.ar: row.relative_l2 for row in cell.parity if row.comparison == "floor"}
    limit = cell.pair.limit if cell.pair else None
    ars = sorted({row.ar for row in compared} | set(floors))
    return DistanceTable(
        cell_id=cell.cell_id,
        candidate=display_side(cell.candidate),
        reference=display_side(cell.reference),
        floor=" against ".join(map(display_side, cell.pair.floor.split(" against ")))
        if cell.pair
        else "",
        limit=limit,
        limit_origin=cell.pair.limit_origin if cell.pair else "",
        num_processes=len({row.candidate_trial for row in compared}),
        rows=tuple(
            _row(ar, [row for row in compared if row.ar == ar], floors.get(ar), limit) for ar in ars
        ),
    )


def _row(
    ar: int, compared: Sequence[ParityRow], floor: float | None, limit: float | None
) -> DistanceRow:
    worst = max(compared, key=lambda row: _badness(row.relative_l2), default=None)
    error = worst.relative_l2 if worst else None
    return DistanceRow(
        ar=ar,
        relative_l2=error,
        floor=floor,
        ratio=error / floor if error is not None and floor else None,
        max_abs=max((row.max_abs for row in compared), key=_badness, default=None),
        cosine=min((row.cosine for row in compared), key=_goodness, default=None),
        candidate_std=worst.candidate_std if worst else None,
        reference_std=worst.reference_std if worst else None,
        mark=_mark(error, floor, limit),
    )


def _mark(error: float | None, floor: float | None, limit: float | None) -> str:
    if error is None or limit is None:
        return "not compared"
    is_within = within(error, math.nan if floor is None else floor, limit)
    return "within" if is_within else "outside"


def _badness(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _goodness(value: float) -> float:
    return -math.inf if math.isnan(value) else value
