"""Wan 2.1: from text, from an image beside the latents, or from given latent frames."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from flashdreams.infra.pipeline import StreamInferencePipeline
from flashdreams.recipes.wan import WanInferencePipelineCache
from flashdreams.recipes.wan.autoencoder.i2v import I2VCtrl
from flashdreams.recipes.wan.transformer.impl.network import WanDiTNetworkConfig
from flashdreams.recipes.wan.transformer.wan21 import (
    Wan21Transformer,
    Wan21TransformerCache,
    Wan21TransformerConfig,
)
from torch import Tensor, nn

from runners import families
from runners.drivers import planted
from runners.exact_timesteps import SCHEDULERS, ExactWan21Transformer
from runners.protocol import drive, wire
from runners.tiny import TEXT_SHAPE

NETWORK_FIELDS = {item.name for item in dataclasses.fields(WanDiTNetworkConfig)}

SMALLER: dict[type, dict[str, Any]] = {
    WanDiTNetworkConfig: {
        "dim": 256,
        "ffn_dim": 512,
        "num_heads": 2,
        "num_layers": 2,
        "text_len": TEXT_SHAPE[0],
        "text_dim": TEXT_SHAPE[1],
    },
    # No file: the network keeps the seeded weights it is made with.
    Wan21TransformerConfig: {"checkpoint_path": None},
}


class Wan21Driver:
    """Drives ``Wan21Transformer`` in the library's Wan pipeline."""

    def changes(self, job: wire.Job) -> dict[str, Any]:
        """See :class:`runners.families.Driver`."""
        drive.require(job, {"networks": (1,), "context_noise": (0,), "schedule": ("none",)})
        network = {k: v for k, v in dataclasses.asdict(job.network).items() if k in NETWORK_FIELDS}
        return {
            "text_encoder": None,
            "encoder": None,
            "image_encoder": None,
            "diffusion_model": {
                "transformer": {
                    "network": network,
                    "dtype": drive.torch_dtype(job.dtype),
                    "checkpoint_path": job.weights.path or None,
                    "state_dict_transform": None,
                    "len_t": job.len_t,
                    "window_size_t": job.window_t,
                    "sink_size_t": job.sink_t,
                    "guidance_scale": job.guidance,
                    "compile_network": job.compile,
                    "use_cuda_graph": job.cuda_graph,
                }
            },
        }

    @torch.no_grad()
    def open(
        self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor]
    ) -> WanInferencePipelineCache:
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
        return WanInferencePipelineCache(
            transformer_cache=cache.transformer_cache, decoder_cache=cache.decoder_cache
        )

    def control(
        self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor], ar: int
    ) -> I2VCtrl | None:
        """The encoded first frame where the pipeline's own encoder would have put it."""
        config = pipeline.diffusion_model.transformer.config
        if config.concat_image_mask_to_latent:
            image_TCHW = inputs["image"]
        elif config.stamp_image_latent:
            _, channels, height, width = inputs["first_frame"].shape
            image_TCHW = inputs["first_frame"].new_zeros(job.len_t, channels, height, width)
            image_TCHW[:1] = inputs["first_frame"]
        else:
            return None
        mask_TCHW = torch.zeros_like(image_TCHW)
        if ar == 0:
            mask_TCHW[0] = 1.0
        return I2VCtrl(latent=image_TCHW, mask=mask_TCHW)

    def in_force(self, pipeline: Any, cache: Any) -> dict[str, Any]:
        """See :class:`runners.families.Driver`."""
        model = pipeline.diffusion_model
        transformer: Wan21Transformer = model.transformer
        rollout: Wan21TransformerCache = cache.transformer_cache
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
            "given_frames": int(transformer.config.stamp_image_latent),
            **planted.in_force(rollout),
        }

    def networks(self, pipeline: Any) -> tuple[nn.Module, ...]:
        """The one network."""
        return (pipeline.diffusion_model.transformer.network,)

    def graphs(self, pipeline: Any) -> tuple[Any, ...]:
        """The wrapper of the prompt's branch; that of the other captures in the same steps."""
        return (pipeline.diffusion_model.transformer._network_call,)  # noqa: SLF001


def register() -> None:
    """Let this family stand for its transformer."""
    families.register(
        Wan21TransformerConfig,
        families.Family(
            parts={
                families.TIMESTEPS: families.MendedPart(
                    classes=SCHEDULERS | {Wan21Transformer: ExactWan21Transformer}
                )
            },
            smaller=SMALLER,
            driver=Wan21Driver(),
        ),
    )
