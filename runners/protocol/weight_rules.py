"""How seeded weights are drawn: which rules there are, and what each multiplies.

Standard library only and Python 3.10, as ``wire``.
"""

from runners.protocol.kinds import KINDS
from runners.protocol.wire import Network

FROM_FILE, FROM_DEVICE = SOURCES = ("file", "device")
"""Values of a job's ``weights_from``."""
FLAT, SHARP = RULES = ("flat", "sharp")
"""``flat`` draws every norm about 1. ``sharp`` multiplies the query and key norms of each kind of
attention, so that attention looks at few tokens, as that of a trained network does."""


def fault(network: Network, rule: str, gains: tuple[float, ...]) -> str:
    """What is wrong with a rule and its numbers; empty if nothing is."""
    parts = KINDS[network.kind].sharpened
    if rule == FLAT and gains:
        return f"weights_rule flat has no gains, weights_gains are {list(gains)}"
    if rule == SHARP and len(gains) != len(parts):
        return (
            f"weights_rule sharp of a {network.kind} network takes {len(parts)} weights_gains, "
            f"not {len(gains)}"
        )
    return ""


def gain(network: Network, rule: str, gains: tuple[float, ...], name: str) -> float:
    """What a parameter is multiplied by."""
    parts = KINDS[network.kind].sharpened if rule == SHARP else ()
    for factor, ends in zip(gains, parts, strict=rule == SHARP):
        if name.endswith(ends):
            return factor
    return 1.0
