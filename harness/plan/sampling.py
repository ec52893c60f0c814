"""How a job samples: its noise levels, its draws, and the phase of each AR step; pure."""

import functools
from collections.abc import Collection, Mapping

from harness.errors import IntegrityFault
from harness.records import Phase
from runners.protocol.wire import CAPTURED_AT, NEVER, Job


def phase_of(ar: int, job: Job, captured_at: Collection[int] | None = None) -> Phase:
    """Phase of an AR step of a job.

    Args:
        ar: Index of the AR step.
        job: Its job.
        captured_at: AR steps in which a CUDA graph was captured; ``None`` where nobody looked, and
            the plan stands for it.
    """
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


def draws_per_step(job: Job) -> int:
    """Noise tensors an AR step takes: the initial one, and one per renoising of Self-Forcing."""
    return job.denoising_steps if job.solver == "self_forcing" else 1


@functools.cache
def sigma_table(
    solver: str, denoising_timesteps: tuple[int, ...], steps: int, shift: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Noise levels and timesteps of a solver with so many steps and that shift.

    Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm.py`` and ``fm_unipc.py``.
    """
    if solver == "self_forcing":
        sigmas = [_shifted(t / 1000, shift) for t in denoising_timesteps]
        return tuple(sigmas), tuple(1000 * sigma for sigma in sigmas)
    sigmas = [_shifted(0.999 * (1 - i / steps), shift) for i in range(steps)]
    return tuple(sigmas), tuple(float(int(1000 * sigma)) for sigma in sigmas)


def _shifted(sigma: float, shift: float) -> float:
    return shift * sigma / (1 + (shift - 1) * sigma)
