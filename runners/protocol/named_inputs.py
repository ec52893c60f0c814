"""Seeded inputs beside weights, noise and text: which there are and how each is shaped.

All inputs of a job are in one file under one digest. One that differs between AR steps is there
once a step, as ``hdmap.ar3``. Standard library only and Python 3.10, as ``wire``.
"""

from dataclasses import dataclass
from typing import NamedTuple

NORMAL, POSES, INTRINSICS, LABELS, RAYS, VIDEO = (
    *("normal", "poses", "intrinsics", "labels"),
    *("rays", "video"),
)
"""What the values are; :mod:`runners.protocol.synthetic` makes them."""

PIXELS = 8
"""Pixels of a side of a latent pixel."""
FRAMES = 4
"""Frames of a latent frame, but for the first of a video."""
UPSCALING = 4
"""Factor between the sides of a super-resolution's output and of its input."""


class Extent(NamedTuple):
    """Latent frames, channels, height and width of one AR step, and the AR steps of a rollout."""

    frames: int
    channels: int
    height: int
    width: int
    ar_steps: int


@dataclass(frozen=True, kw_only=True)
class NamedInput:
    """One input."""

    values: str
    dims: tuple[str, ...]
    """Names of :data:`DIMENSIONS`, or numbers."""
    is_per_step: bool = False
    """Whether there is one for each AR step."""

    def shape(self, extent: Extent) -> tuple[int, ...]:
        """Shape of the tensor."""
        known = {
            "latent_frames": extent.frames,
            "all_latent_frames": extent.frames * extent.ar_steps,
            "channels": extent.channels,
            "height": extent.height,
            "width": extent.width,
            "ray_channels": 6 * PIXELS * PIXELS,
            "video_frames": FRAMES * extent.frames,
            "low_height": PIXELS * extent.height // UPSCALING,
            "low_width": PIXELS * extent.width // UPSCALING,
        }
        return tuple(known[name] if name in known else int(name) for name in self.dims)


INPUTS = {
    # The encoded image that a video starts from.
    "first_frame": NamedInput(values=NORMAL, dims=("1", "channels", "height", "width")),
    # Encoded maps that steer each AR step.
    "hdmap": NamedInput(
        values=NORMAL, dims=("latent_frames", "channels", "height", "width"), is_per_step=True
    ),
    # World to camera, of a camera that moves smoothly.
    "viewmats": NamedInput(values=POSES, dims=("all_latent_frames", "4", "4")),
    # In units of the image's width and height.
    "intrinsics": NamedInput(values=INTRINSICS, dims=("all_latent_frames", "3", "3")),
    "action": NamedInput(values=LABELS, dims=("all_latent_frames",)),
    # Plücker rays of every pixel, those of a latent pixel side by side.
    "camera": NamedInput(
        values=RAYS, dims=("latent_frames", "ray_channels", "height", "width"), is_per_step=True
    ),
    # Frames in [-1, 1] that a super-resolution starts from.
    "low_res_video": NamedInput(
        values=VIDEO, dims=("video_frames", "3", "low_height", "low_width"), is_per_step=True
    ),
}
"""Name in a recipe's ``inputs`` to what is made for it."""


def step_key(name: str, ar: int) -> str:
    """Name in the file of an input that differs between AR steps."""
    return f"{name}.ar{ar}"


def keys(names: tuple[str, ...], extent: Extent) -> dict[str, NamedInput]:
    """Every tensor of a job's file of inputs."""
    found: dict[str, NamedInput] = {}
    for name in names:
        one = INPUTS[name]
        steps = range(extent.ar_steps) if one.is_per_step else ()
        found |= {step_key(name, ar): one for ar in steps} or {name: one}
    return found
