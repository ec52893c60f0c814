"""Parity per AR step: what the gate looked at, worst candidate process shown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.judging.parity import within
from harness.records import ParityRow, Verdict
from reports.run_view import CellView


@dataclass(frozen=True, kw_only=True)
class DistanceRow:
    """One AR step of the parity table."""

    ar: int
    relative_l2: float | None
    """Of the worst candidate process; None where no pair was compared. NaN is worst."""
    floor: float | None
    ratio: float | None
    """Error over noise floor; None where one of them is missing or the latter is zero."""
    max_abs: float | None
    """Largest over candidate processes."""
    cosine: float | None
    """Smallest over candidate processes."""
    candidate_std: float | None
    reference_std: float | None
    mark: str
    """``within``, ``outside``, ``not compared``, or ``not captured`` as the suite asked."""
    psnr_db: float | None
    """Of the worst frame over candidate processes; None but for frames, as the next three."""
    floor_psnr_db: float | None
    ssim: float | None
    """Of the worst frame over candidate processes."""
    floor_ssim: float | None


@dataclass(frozen=True, kw_only=True)
class DistanceTable:
    """The parity table of a cell."""

    cell_id: str
    candidate: str
    reference: str
    floor: str
    """The two sides whose distance is the noise floor."""
    limit: float | None
    """Multiple of the noise floor; None where the cell was not judged."""
    limit_origin: str
    num_processes: int
    """Candidate processes that were compared."""
    rows: tuple[DistanceRow, ...]
    """Of latents."""
    frames: tuple[DistanceRow, ...]
    """Of decoded frames; empty where latents were not decoded."""

    @property
    def worst(self) -> DistanceRow | None:
        """The AR step with the largest ratio; one whose ratio is no number outdoes all."""
        rows = [row for row in (*self.rows, *self.frames) if row.ratio is not None]
        return max(rows, key=lambda row: _badness(row.ratio or 0.0), default=None)


def distance_table(cell: CellView) -> DistanceTable:
    """Parity of a cell by AR step, from stored rows; without rows where nothing was compared."""
    limit = cell.pair.limit if cell.pair else None
    is_pass = cell.pair is not None and cell.pair.verdict == Verdict.PASS
    missing = "not captured" if is_pass else "not compared"  # or it would be no pass
    latents = [row for row in cell.parity if not row.is_of_frames]
    frames = [row for row in cell.parity if row.is_of_frames]
    return DistanceTable(
        cell_id=cell.cell_id,
        candidate=cell.names.display(cell.candidate),
        reference=cell.names.display(cell.reference),
        floor=" against ".join(map(cell.names.display, cell.pair.floor.split(" against ")))
        if cell.pair
        else "",
        limit=limit,
        limit_origin=cell.pair.limit_origin if cell.pair else "",
        num_processes=len({row.candidate_trial for row in latents if row.comparison == "pair"}),
        rows=_rows(latents, limit, missing),
        frames=_rows(frames, limit, missing),
    )


def _rows(
    parity: Sequence[ParityRow], limit: float | None, missing: str
) -> tuple[DistanceRow, ...]:
    compared = [row for row in parity if row.comparison == "pair"]
    floors = {row.ar: row for row in parity if row.comparison == "floor"}
    ars = sorted({row.ar for row in compared} | set(floors))
    return tuple(
        _row(ar, [row for row in compared if row.ar == ar], floors.get(ar), limit, missing)
        for ar in ars
    )


def _row(
    ar: int,
    compared: Sequence[ParityRow],
    of_floor: ParityRow | None,
    limit: float | None,
    missing: str,
) -> DistanceRow:
    floor = of_floor.relative_l2 if of_floor else None
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
        mark=missing if error is None or limit is None else _mark(error, floor, limit),
        psnr_db=_least(row.psnr_db for row in compared),
        floor_psnr_db=of_floor.psnr_db if of_floor else None,
        ssim=_least(row.ssim for row in compared),
        floor_ssim=of_floor.ssim if of_floor else None,
    )


def _least(values: Iterable[float | None]) -> float | None:
    """The smallest of those that there are; NaN is smallest."""
    return min((value for value in values if value is not None), key=_goodness, default=None)


def _mark(error: float, floor: float | None, limit: float) -> str:
    is_within = within(error, math.nan if floor is None else floor, limit)
    return "within" if is_within else "outside"


def _badness(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _goodness(value: float) -> float:
    return -math.inf if math.isnan(value) else value
