"""The phase of each AR step of a job; pure."""

from collections.abc import Collection, Mapping

from harness.errors import IntegrityFault
from harness.records import Phase
from runners.protocol.solvers import is_given
from runners.protocol.wire import CAPTURED_AT, NEVER, Job


def phase_of(ar: int, job: Job, captured_at: Collection[int] | None = None) -> Phase:
    """Phase of an AR step of a job.

    Args:
        ar: Index of the AR step.
        job: Its job.
        captured_at: AR steps in which a CUDA graph was captured; ``None`` where nobody looked, and
            the plan stands for it.
    """
    if is_given(job, ar):
        return Phase.GIVEN
    full_at = (job.sink_t + job.window_t) // job.len_t
    planned = phase_at(ar, full_at, has_graph=job.cuda_graph)
    if captured_at is None or planned is Phase.FILLING or not job.cuda_graph:
        return planned
    replays = ar not in captured_at and any(earlier < ar for earlier in captured_at)
    return Phase.STEADY if replays else Phase.CAPTURE


def captured_at(facts: Mapping[str, str]) -> tuple[int, ...] | None:
    """AR steps in which a side captured its CUDA graph; ``None`` where it says nothing of one.

    Raises:
        IntegrityFault: The fact is no list of AR steps.
    """
    said = facts.get(CAPTURED_AT, "")
    indices = said.split(", ") if said not in ("", NEVER) else []
    if not all(map(str.isdecimal, indices)):
        raise IntegrityFault(f"fact {CAPTURED_AT}: {said!r} is no list of AR steps")
    return tuple(map(int, indices)) if said else None


def phase_at(ar: int, full_at: int, *, has_graph: bool) -> Phase:
    """Phase of an AR step: the KV window fills, a CUDA graph is captured, then it is steady."""
    if ar < full_at:
        return Phase.FILLING
    return Phase.CAPTURE if has_graph and ar == full_at else Phase.STEADY
