"""Faults planted for a control: what a wrong position in a rollout would do."""

from typing import Any

from flashdreams.core.attention.rope import RotaryPositionEmbedding3D
from torch import Tensor

from runners.protocol import drive, wire


class _MovedPositions:
    """Takes the place of a rollout's RoPE: every position moved by some latent frames."""

    def __init__(self, adapter: RotaryPositionEmbedding3D, frames: int, from_ar: int) -> None:
        self._adapter, self.frames, self.from_ar = adapter, frames, from_ar

    def shift_t(self, autoregressive_index: int) -> Tensor:
        """Frequencies of an AR step; the library's shift is linear in the index."""
        moved = self.frames / self._adapter.len_t if autoregressive_index >= self.from_ar else 0
        return self._adapter.shift_t(autoregressive_index + moved)


def move_positions(rollout: Any, job: wire.Job) -> None:
    """Move the positions of a rollout by what the job says.

    Raises:
        drive.UnsupportedJobError: Its positions are those of the cache's slots.
    """
    if not isinstance(rollout.rope_adapter, RotaryPositionEmbedding3D):
        raise drive.UnsupportedJobError(
            f"job.position_offset is {job.position_offset}: positions of this recipe are those of "
            "the slots of its KV cache, which no offset moves"
        )
    rollout.rope_adapter = _MovedPositions(rollout.rope_adapter, job.position_offset, job.from_ar)


def in_force(rollout: Any) -> dict[str, int]:
    """Settings of a rollout's planted fault."""
    adapter = rollout.rope_adapter
    if isinstance(adapter, _MovedPositions):
        return {"position_offset": adapter.frames, "from_ar": adapter.from_ar}
    return {"position_offset": 0, "from_ar": 0}
