"""Wan 2.1: from text, from an image beside the latents, or from given latent frames."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from flashdreams.recipes.wan import WanInferencePipelineCache
from flashdreams.recipes.wan.autoencoder.i2v import I2VCtrl
from flashdreams.recipes.wan.transformer.impl.network import WanDiTNetworkConfig
from flashdreams.recipes.wan.transformer.wan21 import Wan21Transformer, Wan21TransformerConfig
from torch import Tensor

from runners import families
from runners.drivers import rollout
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


DRIVEN: dict[str, tuple[object, ...]] = {
    "solver": ("self_forcing", "unipc"),
    "networks": (1,),
    "context_noise": (0,),
    "schedule": ("none",),
    "input_names": ((), ("first_frame",)),
}
"""What this driver does."""


class Wan21Driver:
    """Drives ``Wan21Transformer`` in the library's Wan pipeline."""

    def changes(self, job: wire.Job) -> dict[str, Any]:
        """See :class:`runners.families.Driver`."""
        drive.require(job, DRIVEN)
        network = {k: v for k, v in dataclasses.asdict(job.network).items() if k in NETWORK_FIELDS}
        return {
            "text_encoder": None,
            "encoder": None,
            "image_encoder": None,
            "diffusion_model": {
                "transformer": rollout.transformer_changes(job) | {"network": network}
            },
        }

    def open(self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor]) -> Any:
        """See :class:`runners.families.Driver`."""
        return rollout.begin(pipeline, job, inputs, WanInferencePipelineCache)

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
            drive.require(job, {"input_names": ((),)})
            return None
        mask_TCHW = torch.zeros_like(image_TCHW)
        if ar == 0:
            mask_TCHW[0] = 1.0
        return I2VCtrl(latent=image_TCHW, mask=mask_TCHW)

    def in_force(self, pipeline: Any, cache: Any) -> dict[str, Any]:
        """See :class:`runners.families.Driver`."""
        is_given = pipeline.diffusion_model.transformer.config.stamp_image_latent
        return rollout.in_force(pipeline, cache) | {"given_frames": int(is_given)}

    networks = staticmethod(rollout.networks)
    graphs = staticmethod(rollout.graphs)


def register() -> None:
    """Let this family stand for its transformer."""
    families.register(
        Wan21TransformerConfig,
        families.Family(
            parts={
                families.TIMESTEPS: families.MendedClasses(
                    SCHEDULERS | {Wan21Transformer: ExactWan21Transformer}
                )
            },
            smaller=SMALLER,
            driver=Wan21Driver(),
        ),
    )
