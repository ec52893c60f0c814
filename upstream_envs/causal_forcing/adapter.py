"""Drives the official Causal-Forcing runner; run as ``python adapter.py job.json``."""

from runners.protocol import drive
from upstream_envs.causal_wan import CausalWanSide


class CausalForcingSide(CausalWanSide):
    """Video from text, or from an image: one call reads it, and denoising begins after it."""

    driven = CausalWanSide.driven | {
        "given_frames": (0, 1),
        "input_names": ((), ("first_frame",)),
    }


if __name__ == "__main__":
    drive.drive(CausalForcingSide)
