"""Medians and speed-ups with their definitions; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.records import Phase

WARMUP_AR_STEPS = 2
"""AR steps the seed's protocol drops."""


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A number and what it is."""

    name: str
    value_ms: float | None
    """None where the log has no step it could describe."""
    ar_first: int | None
    ar_last: int | None
    num_steps: int
    definition: str


SEED = "seed's statistic"
"""Name of the seed page's figure."""

Timed = tuple[int, str, float]
"""AR index, phase and milliseconds of one AR step."""


def seed_statistic(steps: Sequence[Timed]) -> Statistic:
    """The seed page's figure: the first two AR steps dropped, median of the rest."""
    kept = [step for step in steps if step[0] >= WARMUP_AR_STEPS]
    return _median_of(SEED, kept, f"median from AR {WARMUP_AR_STEPS}")


def steady_statistic(steps: Sequence[Timed]) -> Statistic:
    """Median over steps with a full KV window and, where there is one, a captured CUDA graph."""
    kept = [step for step in steps if step[1] == Phase.STEADY]
    return _median_of("steady state", kept, "median of steady steps")


def denoising_step_ms(denoise_ms: Sequence[float]) -> float | None:
    """Median time of one denoising step, CFG and solver included, the first dropped as warm-up.

    The figure of bidirectional recipes, which have a single AR step.
    """
    return median(denoise_ms[1:]) if len(denoise_ms) > 1 else None


def speedup_percent(upstream_ms: float, flashdreams_ms: float) -> float:
    """(upstream - FlashDreams) / FlashDreams in percent: 432 against 344 is +26."""
    return 100 * (upstream_ms - flashdreams_ms) / flashdreams_ms


def _median_of(name: str, kept: Sequence[Timed], definition: str) -> Statistic:
    indices = [ar for ar, _, _ in kept]
    return Statistic(
        name=name,
        value_ms=median(ms for _, _, ms in kept) if kept else None,
        ar_first=min(indices, default=None),
        ar_last=max(indices, default=None),
        num_steps=len(kept),
        definition=definition,
    )
