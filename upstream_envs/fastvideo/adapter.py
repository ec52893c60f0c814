"""Drives the FastVideo release; run as ``python adapter.py job.json``."""

from typing import Any

from runners.protocol import drive, wire
from upstream_envs.fastvideo_causal import FastVideoCausalSide
from upstream_envs.fastvideo_denoising import FastVideoDenoisingSide

SIDES = {"self_forcing": FastVideoCausalSide, "unipc": FastVideoDenoisingSide}
"""Solver of a job to the stage that runs it."""


def build(job: wire.Job) -> Any:
    """The driven side of a job."""
    return SIDES[job.solver](job)


if __name__ == "__main__":
    drive.drive(build)
