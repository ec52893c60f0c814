"""What the library's Wan and Cosmos pipelines have in common: one network and its rolling cache."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from flashdreams.infra.pipeline import StreamInferencePipeline
from torch import Tensor, nn

from runners.drivers import planted
from runners.protocol import drive, wire

MADE = "made on the device"
"""Stands for a checkpoint where there is no file; see ``matched.building``."""


def transformer_changes(job: wire.Job) -> dict[str, Any]:
    """What a job fixes of either transformer's configuration, its network apart."""
    return {
        "dtype": drive.torch_dtype(job.dtype),
        "checkpoint_path": job.weights.path or MADE,
        "state_dict_transform": None,
        "len_t": job.len_t,
        "window_size_t": job.window_t,
        "sink_size_t": job.sink_t,
        "guidance_scale": job.guidance,
        "compile_network": job.compile,
        "use_cuda_graph": job.cuda_graph,
    }


@torch.no_grad()
def begin(
    pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor], cache_type: Callable[..., Any]
) -> Any:
    """The pipeline's cache, from embeddings where the pipeline itself takes only prompts."""
    cache = StreamInferencePipeline.initialize_cache(
        pipeline,
        {
            "height": job.latent_height,
            "width": job.latent_width,
            "text_embeddings": inputs["text"],
            "negative_text_embeddings": inputs["negative"] if job.guidance > 1 else None,
            "image_embeddings": inputs.get("clip"),
        },
    )
    if job.position_offset:
        planted.move_positions(cache.transformer_cache, job)
    return cache_type(transformer_cache=cache.transformer_cache, decoder_cache=cache.decoder_cache)


def in_force(pipeline: Any, cache: Any) -> dict[str, Any]:
    """Settings that the rollout's own cache shows."""
    model, rollout = pipeline.diffusion_model, cache.transformer_cache
    transformer = model.transformer
    latent_shape = transformer.unpatchify_and_maybe_gather_cp(
        torch.empty(model.latent_shape, device="cpu")
    ).shape
    kt, kh, kw = transformer.config.network.patch_size
    tokens_per_frame = latent_shape[-2] * latent_shape[-1] // (kt * kh * kw)
    window = rollout.network_cache[0].self_attn
    has_guidance = rollout.network_cache_uncond is not None
    return {
        "guidance": transformer.config.guidance_scale if has_guidance else 1.0,
        "len_t": latent_shape[-4],
        "window_t": window.window_size // tokens_per_frame,
        "sink_t": window.sink_size // tokens_per_frame,
        "latent_shape": tuple(latent_shape),
        **planted.in_force(rollout),
    }


def networks(pipeline: Any) -> tuple[nn.Module, ...]:
    """The one network."""
    return (pipeline.diffusion_model.transformer.network,)


def graphs(pipeline: Any) -> tuple[Any, ...]:
    """How the prompt's branch is called; that of the other captures in the same steps."""
    return (pipeline.diffusion_model.transformer._network_call,)  # noqa: SLF001
