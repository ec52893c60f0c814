"""Medians and speed-ups with their definitions; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

import numpy as np

from harness.records import UNTIMED, Phase

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

    @property
    def window(self) -> str:
        """AR steps from the first to the last."""
        first, last = self.ar_first, self.ar_last
        return f"AR {first}" if first == last else f"AR {first}–{last}"


SEED = f"median from AR {WARMUP_AR_STEPS}"
"""Name of the seed page's figure."""

Timed = tuple[int, str, float]
"""AR index, phase and milliseconds of one AR step."""


def seed_statistic(steps: Sequence[Timed], documented_ar_steps: int = 0) -> Statistic:
    """The seed page's figure: the first two AR steps dropped, median of the rest.

    Args:
        steps: AR steps of one process.
        documented_ar_steps: Steps that the documented command runs; later ones are left out. 0
            for all there are.
    """
    end = documented_ar_steps or math.inf
    kept = [s for s in steps if WARMUP_AR_STEPS <= s[0] < end and s[1] not in UNTIMED]
    definition = f"the first {WARMUP_AR_STEPS} AR steps dropped"
    if documented_ar_steps:
        definition += f", and those after the {documented_ar_steps} of the documented command"
    return _median_of(SEED, kept, definition)


def steady_statistic(steps: Sequence[Timed]) -> Statistic:
    """Median over steps with a full KV window and, where there is one, a captured CUDA graph."""
    kept = [step for step in steps if step[1] == Phase.STEADY]
    return _median_of("steady state", kept, "median of steady steps")


def denoising_step_ms(denoise_ms: Sequence[float]) -> float | None:
    """Median time of one denoising step, CFG and solver included, the first dropped as warm-up.

    The figure of bidirectional recipes, which have a single AR step.
    """
    return median(denoise_ms[1:]) if len(denoise_ms) > 1 else None


MIN_PROCESSES = 5
"""Process launches a side below which there is no interval."""
_RESAMPLES = 20_000
_T_QUANTILES = {5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 15: 2.145, 20: 2.093}
"""Number of processes to Student's t at 97.5 % with one degree of freedom less."""


def speedup_interval(
    upstream_ms: Sequence[float], flashdreams_ms: Sequence[float]
) -> tuple[float, float] | None:
    """Bounds of the speed-up in percent at 95 % confidence; None with too few processes.

    Both sides' processes are resampled with replacement: a process launch is one sample of the
    truth, its steps are not. The percentiles are those of the expanded interval, since the plain
    bootstrap of five values is too narrow by a third.

    Args:
        upstream_ms: Figure of each upstream process.
        flashdreams_ms: Figure of each FlashDreams process.

    Source: T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 5.3.
    """
    if min(len(upstream_ms), len(flashdreams_ms)) < MIN_PROCESSES:
        return None
    random = np.random.default_rng(0)
    upstream, flashdreams = (
        random.choice(np.asarray(each), (_RESAMPLES, len(each))).mean(axis=1)
        for each in (upstream_ms, flashdreams_ms)
    )
    tail = _expanded_tail(min(len(upstream_ms), len(flashdreams_ms)))
    low, high = np.quantile(upstream / flashdreams, [tail, 1 - tail])
    return 100 * (float(low) - 1), 100 * (float(high) - 1)


def _expanded_tail(processes: int) -> float:
    """Tail probability whose normal quantile is as wide as Student's t of so few values."""
    t = _T_QUANTILES[max(known for known in _T_QUANTILES if known <= processes)]
    return NormalDist().cdf(-t * math.sqrt(processes / (processes - 1)))


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
