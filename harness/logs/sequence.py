"""What every format asks of the steps of a log: each once, none lost, of one run."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import LogFormatError
from harness.logs.stages import is_kv_update
from harness.records import LogStep


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How a format counts its steps, for messages in its own words."""

    word: str
    first: int = 0

    def name(self, ar: int) -> str:
        """An AR step as the log calls it."""
        return f"{self.word} {ar + self.first}"


def in_order(steps: Iterable[LogStep], numbering: Numbering, where: str) -> tuple[LogStep, ...]:
    """Steps by rank and AR index, exact duplicates collapsed.

    Raises:
        LogFormatError: A step is missing, appears twice with different figures, or a second
            run begins.
    """
    known: dict[tuple[int, int], LogStep] = {}
    last: dict[int, int] = {}
    for step in steps:
        first = known.setdefault((step.rank, step.ar), step)
        if not same_figures(first, step):
            _refuse_repeat(first, step, last[step.rank], numbering, where)
        last[step.rank] = step.ar
    found = tuple(known[key] for key in sorted(known))
    check_no_gap(found, numbering, where)
    return found


def order_without_gap(
    ranks: npt.NDArray[np.int64], ars: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp] | None:
    """Order of steps by rank and AR index; None where a step is missing or there more than once."""
    order = np.lexsort((ars, ranks))
    _, counts = np.unique(ranks, return_counts=True)
    wanted = np.concatenate([np.arange(count) for count in counts])
    return order if np.array_equal(ars[order], wanted) else None


def same_figures(one: LogStep, other: LogStep) -> bool:
    """Whether two lines say the same of a step."""
    return one is other or (one.stages_ms, one.total_ms) == (other.stages_ms, other.total_ms)


def check_no_gap(steps: Iterable[LogStep], numbering: Numbering, where: str) -> None:
    """Each rank must count from its first step on without a gap.

    Raises:
        LogFormatError: A step is missing.
    """
    indices: dict[int, list[int]] = {}
    for step in steps:
        indices.setdefault(step.rank, []).append(step.ar)
    for rank, found in indices.items():
        missing = next((ar for ar, index in enumerate(found) if ar != index), None)
        if missing is not None:
            shown = ", ".join(str(ar + numbering.first) for ar in found[:30])
            more = ", …" if len(found) > 30 else ""
            raise LogFormatError(
                f"{where}: {numbering.name(missing)} is missing (rank {rank} has {shown}{more})"
            )


def check_sums(step: LogStep, rounding_ms: float, numbering: Numbering, where: str) -> None:
    """Stages must make the total, and all but the KV update the total without it.

    Args:
        step: What to check.
        rounding_ms: Half a unit of the last digit printed, and a little.
        numbering: How the format counts.
        where: Name of the log.

    Raises:
        LogFormatError: The figures do not add up.
    """
    tolerance = rounding_ms * (len(step.stages_ms) + 1)
    kv_update = sum(ms for stage, ms in step.stages_ms.items() if is_kv_update(stage))
    apart = abs(sum(step.stages_ms.values()) - step.total_ms)
    apart_without = abs(step.total_ms - kv_update - step.total_wo_finalize_ms)
    if not (apart <= tolerance and apart_without <= tolerance):
        raise LogFormatError(
            f"{where}: the figures of {numbering.name(step.ar)} at byte {step.byte_start} "
            "do not add up"
        )


def _refuse_repeat(
    first: LogStep, step: LogStep, last_ar: int, numbering: Numbering, where: str
) -> None:
    name = numbering.name(step.ar)
    if step.ar == 0 and last_ar > 0:
        raise LogFormatError(
            f"{where}: a second run begins with {name} at byte {step.byte_start} (the first at "
            f"byte {first.byte_start}); keep one run in a file, or label ranks (torchrun --tee 3)"
        )
    raise LogFormatError(
        f"{where}: {name} appears twice with different figures, "
        f"at bytes {first.byte_start} and {step.byte_start}"
    )
