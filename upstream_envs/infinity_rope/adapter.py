"""Drives Infinity-RoPE, cache-relative RoPE with a sink; run as ``python adapter.py job.json``."""

from runners.protocol import drive
from upstream_envs.causal_wan import CausalWanSide


class InfinityRopeSide(CausalWanSide):
    """Self-Forcing's pipeline whose cached keys are rotated by their slot in the cache.

    Upstream rotates the whole window in complex float64 at every call of every layer and reads the
    cache's ends on the host; both are part of its time.
    """

    driven = CausalWanSide.driven | {"sink_t": (5,), "decoder": ("none",)}


if __name__ == "__main__":
    drive.drive(InfinityRopeSide)
