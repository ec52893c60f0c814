"""Which network call of a rollout is what: planned before the run, checked after it."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from runners.protocol import solvers, wire
from runners.protocol.recorder import Recorder


class UpstreamChangedError(RuntimeError):
    """Upstream used its network otherwise than the plan of its adapter says."""


class BlockDecoder(Protocol):
    """Decodes the blocks of a rollout one after the other."""

    @property
    def facts(self) -> dict[str, str]:
        """How, to keep with the trial."""

    def decode(self, latents_TCHW: Tensor) -> None:
        """Decode the next block; this is what is timed."""

    def frames(self) -> Tensor:
        """The frames [T, C, H, W] of the last block, in [-1, 1]."""


class PlannedCalls:
    """Stands before a network's forward, knows each call by plan and marks the spans.

    The plan is that of the job's solver. An AR step that ends in a call of the network is closed
    here; where there is a decoder, a block is decoded before that call, in a stage of its own. A
    step whose last call denoises is closed by its adapter.
    """

    def __init__(
        self,
        job: wire.Job,
        forward: Callable[..., Any],
        read: Callable[..., tuple[Tensor | None, Tensor]],
    ) -> None:
        """Plan the calls of a job.

        Args:
            job: The job.
            forward: What stands behind.
            read: Called with forward's arguments; returns latents [T, C, H, W], or None where no
                call but a denoising one is planned, and timesteps.
        """
        self._plan = [(ar, call) for ar in range(job.ar_steps) for call in solvers.calls(job, ar)]
        self._is_whole = all(told.is_integer() for told in job.timesteps)
        self._remaining = iter(self._plan)
        self._forward, self._read = forward, read
        self._told: list[Tensor] = []
        self._begun, self._marked = -1, (-1, -1)
        self.recorder: Recorder
        self.decoder: BlockDecoder | None = None
        self.ar, self.step = 0, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Stand-in for ``forward``."""
        planned = next(self._remaining, None)
        if planned is None:
            raise UpstreamChangedError(f"more than {len(self._plan)} network calls")
        latents_TCHW, timesteps = self._read(*args, **kwargs)
        # Reading the value here would make the host wait for the device.
        self._told.append(timesteps.clone())
        self.ar, call = planned
        if self.ar != self._begun:
            self.recorder.begin()
            self._begun = self.ar
        if call.what == solvers.DENOISE and self._marked != (self.ar, call.step):
            self.recorder.denoise()
            self.step, self._marked = call.step, (self.ar, call.step)
        if call.what in (solvers.DENOISE, solvers.PREFILL):
            return self._forward(*args, **kwargs)
        return self._close(latents_TCHW, call.what, args, kwargs)

    def _close(
        self, latents_TCHW: Tensor, what: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The call that ends an AR step: it stores what was denoised, or reads what is given."""
        frames, output = None, None
        if what == solvers.GIVEN:
            output = self._forward(*args, **kwargs)
        self.recorder.mark("diffuse")
        if self.decoder is not None:
            self.decoder.decode(latents_TCHW)
            self.recorder.mark("decode")
            frames = self.decoder.frames
        if what == solvers.UPDATE:
            output = self._forward(*args, **kwargs)
            self.recorder.mark("finalize")
        self.recorder.end(self.ar, latents_TCHW, print_line=True, frames=frames)
        return output

    def check(self) -> None:
        """Raise :class:`UpstreamChangedError` unless a finished run has gone to plan."""
        if len(self._told) != len(self._plan):
            raise UpstreamChangedError(f"{len(self._told)} calls, {len(self._plan)} planned")
        for (ar, call), told in zip(self._plan, self._told, strict=True):
            values = told.flatten().tolist()
            # Whole timesteps are told as they are; others come from float32 tables.
            loose = {} if self._is_whole else {"rel_tol": 1e-5, "abs_tol": 1e-3}
            if not values or not all(math.isclose(v, call.told, **loose) for v in values):
                step = "" if call.step is None else f" {call.step}"
                raise UpstreamChangedError(
                    f"AR {ar} {call.what}{step}: told {values}, planned {call.told}"
                )
