"""How a job samples: per solver its noise table, its draws and the network calls of an AR step.

The plan, the call checks of the adapters and the evidence of a trial all read the same list of
calls. Standard library only and Python 3.10, as ``wire``.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from runners.protocol.wire import Job

GIVEN, PREFILL, DENOISE, UPDATE = "given", "prefill", "denoise", "update"
"""What a network call is for: to read given frames into the KV cache, to fill the cache before
denoising, to denoise, or to store what was denoised."""

Table = tuple[tuple[float, ...], tuple[float, ...]]
"""Noise level, and the timestep that the network is told, per denoising step."""


class PlannedCall(NamedTuple):
    """One call of a network."""

    what: str
    step: int | None
    """Denoising step; None for another call."""
    told: float
    """Timestep in [0, 1000]."""


@dataclass(frozen=True, kw_only=True)
class Solver:
    """What the harness and both sides need to know of a solver."""

    table: Callable[[tuple[int, ...], int, float], Table]
    """Called with nominal steps, their number and the shift."""
    renoises: bool = False
    """Whether fresh noise is mixed in before every step but the first."""
    updates: bool = True
    """Whether even the only AR step of a video ends in a call that stores its clean latents in the
    KV cache; where several follow each other, all do unless there is a prefill."""
    least_steps: int = 1
    prefill_told: float | None = None
    """Timestep of the call that fills the KV cache before each AR step but the first; None where
    there is no such call."""


def _shifted(sigma: float, shift: float) -> float:
    return shift * sigma / (1 + (shift - 1) * sigma)


def _nominal(nominal: tuple[int, ...], _steps: int, shift: float) -> Table:
    """Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm.py``."""
    sigmas = tuple(_shifted(t / 1000, shift) for t in nominal)
    return sigmas, tuple(1000 * sigma for sigma in sigmas)


def _even(_nominal: tuple[int, ...], steps: int, shift: float) -> Table:
    """Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm_unipc.py``."""
    return _truncated([_shifted(0.999 * (1 - i / steps), shift) for i in range(steps)])


def _karras(_nominal: tuple[int, ...], steps: int, _shift: float) -> Table:
    """Karras' grid from 200 to 0.01 with exponent 7, as flow noise levels; it has no shift.

    Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm_unipc.py``, ``use_kerras_sigma``.
    """
    first, last = 200 ** (1 / 7), 0.01 ** (1 / 7)
    levels = [(first + i / max(1, steps - 1) * (last - first)) ** 7 for i in range(steps)]
    return _truncated([level / (1 + level) for level in levels])


def _truncated(sigmas: list[float]) -> Table:
    """The timesteps of these solvers are whole numbers."""
    return tuple(sigmas), tuple(float(int(1000 * sigma)) for sigma in sigmas)


SOLVERS = {
    "self_forcing": Solver(table=_nominal, renoises=True),
    "unipc": Solver(table=_even, updates=False),
    "unipc_karras": Solver(table=_karras, updates=False, least_steps=2),  # a grid has two ends
    # Euler steps over a told table; past latents come back by a prefill.
    "euler": Solver(table=_nominal, updates=False, prefill_told=14.0),
}
"""Name of a job's solver to its record."""


@functools.cache
def table(solver: str, nominal: tuple[int, ...], steps: int, shift: float) -> Table:
    """Noise levels and timesteps of a solver with so many steps and that shift."""
    return SOLVERS[solver].table(nominal, steps, shift)


def is_given(job: Job, ar: int) -> bool:
    """Whether all latent frames of an AR step are given, so that nothing of it is denoised."""
    return (ar + 1) * job.len_t <= job.given_frames


def generated(job: Job) -> tuple[int, ...]:
    """AR steps that denoise something."""
    return tuple(ar for ar in range(job.ar_steps) if not is_given(job, ar))


def draws(job: Job, ar: int) -> int:
    """Noise tensors an AR step takes: the initial one, one a renoising, one for context noise."""
    if is_given(job, ar):
        return 0
    solver = SOLVERS[job.solver]
    renoisings = job.denoising_steps - 1 if solver.renoises else 0
    return 1 + renoisings + (1 if job.context_noise else 0)


def calls(job: Job, ar: int) -> tuple[PlannedCall, ...]:
    """Every network call of an AR step, in order; guidance makes two calls of a denoising step."""
    solver = SOLVERS[job.solver]
    if is_given(job, ar):
        return (PlannedCall(GIVEN, None, float(job.context_noise)),)
    branches = 2 if job.guidance > 1 else 1
    planned = []
    if solver.prefill_told is not None and ar:
        planned.append(PlannedCall(PREFILL, None, solver.prefill_told))
    planned += [
        PlannedCall(DENOISE, step, told)
        for step, told in enumerate(job.timesteps)
        for _ in range(branches)
    ]
    if solver.updates or (job.ar_steps > 1 and solver.prefill_told is None):
        planned.append(PlannedCall(UPDATE, None, float(job.context_noise)))
    return tuple(planned)
