"""Which attention kernels ran, by the names that a profiled AR step recorded; pure."""

import json
import re
from collections.abc import Iterable
from functools import cache

from harness.records import StepRow
from runners.protocol.decoder_shapes import OTHER_ATTENTION_SHARE

FAMILIES = {
    "cudnn": re.compile(r"cudnn.*(sdpa|attention|fmha|flash)", re.IGNORECASE),
    "mem_efficient": re.compile(r"fmha_cutlass|mem_eff|efficient_attention", re.IGNORECASE),
    "flash": re.compile(r"flash_fwd|flash::|FlashAttnFwd|flash_attention", re.IGNORECASE),
    "math": re.compile(r"softmax", re.IGNORECASE),
}
"""Attention backend to its kernels' names; the first that matches counts.

Source: names seen with torch 2.11 and cuDNN 9.19 on an H200. No side that is driven takes a softmax
outside attention, so that one is PyTorch's unfused path.
"""


def attention_ms(steps: Iterable[StepRow]) -> dict[str, float]:
    """Milliseconds per attention backend in the profiled steps."""
    totals: dict[str, float] = {}
    for step in steps:
        for kernel, ms in json.loads(step.kernels or "{}").items():
            family = _family_of(kernel)
            if family:
                totals[family] = totals.get(family, 0.0) + ms
    return totals


@cache
def _family_of(kernel: str) -> str:
    """Backend that a kernel is of, by its name; empty if it is no attention."""
    return next((name for name, known in FAMILIES.items() if known.search(kernel)), "")


def wrong_attention(asked: str, steps: Iterable[StepRow], decoder: str = "none") -> str:
    """What a side's profiled steps have against the attention it was asked for; empty if nothing.

    Args:
        asked: The job's ``attention``; ``sdpa`` leaves the choice to PyTorch.
        steps: AR steps of one trial.
        decoder: The job's.
    """
    profiled = [step for step in steps if step.kernels]
    if asked == "sdpa" or not profiled:
        return ""
    ran = attention_ms(profiled)
    others = sum(ms for family, ms in ran.items() if family != asked)
    if asked in ran and others <= OTHER_ATTENTION_SHARE.get(decoder, 0.0) * sum(ran.values()):
        return ""
    return f"attention ran as {' and '.join(sorted(ran)) or 'no known kernel'}, not as {asked}"
