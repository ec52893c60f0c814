"""Mends the timestep rounding of flashdreams 0.1.0.

The library casts each timestep to the latents' dtype before the network sees it: in bfloat16
888.889 becomes 888 and 727.273 becomes 728, an error far above the precision of the model
(``docs/METHODOLOGY.md``). The subclasses hand over the scheduler's own float32 value.

Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm.py`` and ``fm_unipc.py``, ``sample``.
"""

from typing import Any

import torch
from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler import FlowPredictor, Scheduler
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchScheduler
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCScheduler
from flashdreams.recipes.wan.transformer.wan21 import Wan21Transformer
from torch import Tensor


class ExactFlowMatchScheduler(FlowMatchScheduler):
    """Self-Forcing's sampler with unrounded timesteps."""

    def sample(
        self, initial_noise: Tensor, predict_flow: FlowPredictor, rng: torch.Generator | None = None
    ) -> Tensor:
        """Run the library's loop; see :class:`FlowMatchScheduler`."""
        return super().sample(initial_noise, _exact(predict_flow, self.denoising_step_list), rng)


class ExactUniPCScheduler(FlowMatchUniPCScheduler):
    """Flow UniPC with unrounded timesteps."""

    def sample(
        self, initial_noise: Tensor, predict_flow: FlowPredictor, rng: torch.Generator | None = None
    ) -> Tensor:
        """Run the library's loop; see :class:`FlowMatchUniPCScheduler`."""
        return super().sample(initial_noise, _exact(predict_flow, self.timesteps), rng)


class ExactWan21Transformer(Wan21Transformer):
    """Wan 2.1 that takes every timestep in float32.

    The KV update passes timestep 0 in the latents' dtype. One dtype for all calls keeps a captured
    CUDA graph valid: the library recaptures whenever an argument's dtype changes.
    """

    def predict_flow(
        self, noisy_latent: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Predict the flow; see :class:`Wan21Transformer`."""
        return super().predict_flow(noisy_latent, timestep.to(torch.float32), *args, **kwargs)


EXACT: dict[type, type] = {
    FlowMatchScheduler: ExactFlowMatchScheduler,
    FlowMatchUniPCScheduler: ExactUniPCScheduler,
    Wan21Transformer: ExactWan21Transformer,
}
"""Library class to its mended subclass."""


def exact_targets(diffusion_model: DiffusionModelConfig) -> dict[str, Any]:
    """Patch for ``derive_config`` that makes a diffusion model use the mended classes."""
    return {
        "scheduler": {"_target": EXACT[diffusion_model.scheduler._target]},  # noqa: SLF001
        "transformer": {"_target": EXACT[diffusion_model.transformer._target]},  # noqa: SLF001
    }


def rounding_in_force(scheduler: Scheduler) -> str:
    """``none`` for the mended schedulers, ``as_shipped`` for the library's."""
    return "none" if type(scheduler) in EXACT.values() else "as_shipped"


def _exact(predict_flow: FlowPredictor, timesteps: Tensor) -> FlowPredictor:
    remaining = iter(timesteps)
    return lambda noisy, _rounded: predict_flow(noisy, next(remaining).to(torch.float32))
