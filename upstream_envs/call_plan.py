"""Which network call of a causal rollout is what: planned before the run, checked after it."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from runners.protocol import wire
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


class CausalCalls:
    """Stands before a network's forward, knows each call by plan and marks the spans.

    One call per denoising step and one cache update per AR step. Where there is a decoder, a block
    is decoded before its cache update, in a stage of its own.
    """

    def __init__(
        self,
        job: wire.Job,
        forward: Callable[..., Any],
        read: Callable[..., tuple[Tensor, Tensor]],
    ) -> None:
        """Plan the calls of a job.

        Args:
            job: The job.
            forward: What stands behind.
            read: Called with forward's arguments; returns latents [T, C, H, W] and timesteps.
        """
        steps = (*range(job.denoising_steps), None)
        self._plan = [(ar, step) for ar in range(job.ar_steps) for step in steps]
        self._remaining = iter(self._plan)
        self._timesteps = (*job.timesteps, 0.0)
        self._forward, self._read = forward, read
        self._told: list[Tensor] = []
        self.recorder: Recorder
        self.decoder: BlockDecoder | None = None
        self.ar, self.step = 0, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Stand-in for ``forward``."""
        call = next(self._remaining, None)
        if call is None:
            raise UpstreamChangedError(f"more than {len(self._plan)} network calls")
        latents_TCHW, timesteps = self._read(*args, **kwargs)
        # Reading the value here would make the host wait for the device.
        self._told.append(timesteps.clone())
        self.ar, step = call
        if step is not None:
            self.step = step
            if step == 0:
                self.recorder.begin()
            self.recorder.denoise()
            return self._forward(*args, **kwargs)
        self.recorder.mark("diffuse")
        frames = None
        if self.decoder is not None:
            self.decoder.decode(latents_TCHW)
            self.recorder.mark("decode")
            frames = self.decoder.frames
        output = self._forward(*args, **kwargs)
        self.recorder.mark("finalize")
        self.recorder.end(self.ar, latents_TCHW, print_line=True, frames=frames)
        return output

    def check(self) -> None:
        """Raise :class:`UpstreamChangedError` unless a finished run has gone to plan."""
        if len(self._told) != len(self._plan):
            raise UpstreamChangedError(f"{len(self._told)} calls, {len(self._plan)} planned")
        for (ar, step), told in zip(self._plan, self._told, strict=True):
            want = self._timesteps[-1 if step is None else step]
            values = told.flatten().tolist()
            if not all(math.isclose(v, want, rel_tol=1e-5, abs_tol=1e-3) for v in values):
                call = "KV update" if step is None else f"step {step}"
                raise UpstreamChangedError(f"AR {ar} {call}: told {values}, planned {want}")


class DenoisingCalls:
    """Stands before a bidirectional network's forward and marks each denoising step.

    One call per step, two with classifier-free guidance.
    """

    def __init__(
        self, job: wire.Job, forward: Callable[..., Any], read: Callable[..., Tensor]
    ) -> None:
        """Plan the calls of a job.

        Args:
            job: The job.
            forward: What stands behind.
            read: Called with forward's arguments; returns the timestep.
        """
        self._calls_per_step = 2 if job.guidance > 1 else 1
        self._planned = [t for t in job.timesteps for _ in range(self._calls_per_step)]
        self._forward, self._read = forward, read
        self._told: list[Tensor] = []
        self.recorder: Recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Stand-in for ``forward``."""
        if not self._told:
            self.recorder.begin()
        if len(self._told) % self._calls_per_step == 0:
            self.recorder.denoise()
        # Reading the value here would make the host wait for the device.
        self._told.append(self._read(*args, **kwargs).clone())
        return self._forward(*args, **kwargs)

    def check(self) -> None:
        """Raise :class:`UpstreamChangedError` unless a finished run has gone to plan."""
        told = [float(t) for t in self._told]
        if len(told) != len(self._planned) or not all(map(math.isclose, told, self._planned)):
            raise UpstreamChangedError(f"network told {told}, planned {self._planned}")
