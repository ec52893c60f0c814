"""Mends the timestep rounding of flashdreams 0.1.0.

The library casts each timestep to the latents' dtype before the network sees it: in bfloat16
888.889 becomes 888 and 727.273 becomes 728, an error far above the precision of the model
(``docs/METHODOLOGY.md``). The subclasses hand over the scheduler's own float32 value. Cosmos rounds
on: timesteps per token take the dtype of a mask, and the sinusoid's frequencies and angles are
those of the weights' dtype; both are float32 here.

Source: flashdreams 0.1.0, ``infra/diffusion/scheduler/fm.py`` and ``fm_unipc.py``, ``sample``;
``recipes/cosmos/transformer/__init__.py``, ``CosmosTransformer._build_per_token_timesteps``;
``recipes/cosmos/transformer/impl/modules.py``, ``Timesteps``.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any

import torch
from flashdreams.infra.diffusion.model import DiffusionModel
from flashdreams.infra.diffusion.scheduler import FlowPredictor
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchScheduler
from flashdreams.infra.diffusion.scheduler.fm_unipc import FlowMatchUniPCScheduler
from flashdreams.recipes.cosmos.transformer import (
    CosmosTransformer,
    CosmosTransformerCache,
    CosmosTransformerConfig,
)
from flashdreams.recipes.cosmos.transformer.impl.modules import Timesteps
from flashdreams.recipes.wan.transformer.wan21 import Wan21Transformer, Wan21TransformerConfig
from flashdreams.recipes.wan.transformer.wan22 import Wan22Transformer
from torch import Tensor, nn

from runners.loading import no_random_weights


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


class _Float32Timesteps:
    """Takes every timestep in float32; mixed into a transformer of the library.

    The KV update passes timestep 0 in the latents' dtype. One dtype for all calls keeps a captured
    CUDA graph valid: the library recaptures whenever an argument's dtype changes.
    """

    def predict_flow(
        self, noisy_latent: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Predict the flow; see the library's transformer."""
        return super().predict_flow(noisy_latent, timestep.to(torch.float32), *args, **kwargs)

    def finalize_kv_cache(
        self, noisy_latent: Tensor, timestep: Tensor, *args: Any, **kwargs: Any
    ) -> None:
        """Update the KV cache; see the library's transformer."""
        super().finalize_kv_cache(noisy_latent, timestep.to(torch.float32), *args, **kwargs)


class ExactWan21Transformer(_Float32Timesteps, Wan21Transformer):
    """Wan 2.1 with unrounded timesteps, per token too: those take the timestep's dtype."""

    def __init__(self, config: Wan21TransformerConfig) -> None:
        """Build the library's transformer; with a checkpoint, without random weights first."""
        with no_random_weights() if config.checkpoint_path else nullcontext():
            super().__init__(config)


class ExactWan22Transformer(_Float32Timesteps, Wan22Transformer):
    """Wan 2.2's two networks with unrounded timesteps.

    The library builds both as ``Wan21Transformer`` whatever their configurations name, so that
    mending happens here and not in the networks.
    """


class ExactCosmosTransformer(_Float32Timesteps, CosmosTransformer):
    """Cosmos with unrounded timesteps, per token too."""

    def __init__(self, config: CosmosTransformerConfig) -> None:
        """Build the library's transformer; its sinusoid takes the weights' dtype alone."""
        super().__init__(config)
        embedder = self.network.t_embedder
        embedder[0] = _RoundedFirst(embedder[0], config.dtype)

    def _build_per_token_timesteps(self, timestep: Tensor, cache: CosmosTransformerCache) -> Tensor:
        rounded = super()._build_per_token_timesteps(timestep, cache)
        if rounded.ndim == 0:
            return timestep
        is_given_L = cache.mask_first_block[..., 0].bool()
        return torch.where(is_given_L, self.config.conditional_frame_timestep, timestep)


class Float32Sinusoid:
    """A mended part: Cosmos' timestep embedding computed in float32."""

    classes: Mapping[type, type] = MappingProxyType({})

    def mend(self, model: DiffusionModel[Any]) -> None:
        """Exchange the embedding; a compiled network is traced at its first call, later."""
        embedder, config = _embedder_of(model), model.transformer.config
        mended = _RoundedOnce(embedder[0].num_channels, config.dtype)
        embedder[0] = mended.to(model.transformer.device)

    def is_in_force(self, model: DiffusionModel[Any]) -> bool:
        """Whether the embedding is the mended one."""
        return isinstance(_embedder_of(model)[0], _RoundedOnce)


def _embedder_of(model: DiffusionModel[Any]) -> Any:
    network = model.transformer.network
    return getattr(network, "_orig_mod", network).t_embedder


class _RoundedFirst(nn.Module):
    """Cosmos' timestep embedding as the library ships it, for timesteps in float32."""

    def __init__(self, shipped: Timesteps, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype, self.num_channels, self.embed = dtype, shipped.num_channels, shipped

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.embed(timesteps.to(self._dtype))


class _RoundedOnce(nn.Module):
    """Cosmos' timestep embedding, rounded to the network's dtype only at its end."""

    def __init__(self, num_channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self.embed = Timesteps(num_channels)

    def forward(self, timesteps: Tensor) -> Tensor:
        return self.embed(timesteps.to(torch.float32)).to(self._dtype)


SCHEDULERS: dict[type, type] = {
    FlowMatchScheduler: ExactFlowMatchScheduler,
    FlowMatchUniPCScheduler: ExactUniPCScheduler,
}
"""Scheduler of the library to its mended subclass; a family adds its transformer."""


def _exact(predict_flow: FlowPredictor, timesteps: Tensor) -> FlowPredictor:
    remaining = iter(timesteps)
    return lambda noisy, _rounded: predict_flow(noisy, next(remaining).to(torch.float32))
