"""Cosmos-Predict2.5 from text."""

from collections.abc import Mapping
from typing import Any

from flashdreams.recipes.cosmos.pipeline import CosmosInferencePipelineCache
from flashdreams.recipes.cosmos.transformer import CosmosTransformer, CosmosTransformerConfig
from flashdreams.recipes.cosmos.transformer.impl.network import CosmosDiTNetworkConfig
from torch import Tensor

from runners import families
from runners.drivers import rollout
from runners.exact_timesteps import SCHEDULERS, ExactCosmosTransformer, Float32Sinusoid
from runners.protocol import drive, wire
from runners.tiny import TEXT_SHAPE, SeededTextEncoderConfig

SMALLER: dict[type, dict[str, Any]] = {
    CosmosDiTNetworkConfig: {
        "model_channels": 256,
        "num_blocks": 2,
        "num_heads": 2,
        "adaln_lora_dim": 32,
        "crossattn_proj_in_channels": TEXT_SHAPE[1],
        "crossattn_emb_channels": 128,
    },
    # No file: the network keeps the seeded weights it is made with.
    CosmosTransformerConfig: {"checkpoint_path": None},
}

PARTS = {
    families.TIMESTEPS: families.MendedClasses(
        SCHEDULERS | {CosmosTransformer: ExactCosmosTransformer}
    ),
    "sinusoid": Float32Sinusoid(),
}


class CosmosDriver:
    """Drives ``CosmosTransformer`` in the library's Cosmos pipeline."""

    def changes(self, job: wire.Job) -> dict[str, Any]:
        """See :class:`runners.families.Driver`."""
        drive.require(
            job,
            {
                "networks": (1,),
                "context_noise": (0,),
                "given_frames": (0,),
                "input_names": ((),),
                "solver": ("unipc_karras",),
                "schedule": ("none",),
            },
        )
        network = job.network
        return {
            # The pipeline builds its text encoder whatever the slot holds.
            "text_encoder": SeededTextEncoderConfig(),
            "encoder": None,
            "image_encoder": None,
            "diffusion_model": {
                # Its grid has one point more than it is asked for.
                "scheduler": {"num_inference_steps": job.denoising_steps - 1},
                "transformer": rollout.transformer_changes(job)
                | {
                    "network": {
                        "in_channels": network.in_dim,
                        "out_channels": network.out_dim,
                        "model_channels": network.dim,
                        "num_blocks": network.num_layers,
                        "num_heads": network.num_heads,
                        "adaln_lora_dim": network.adaln_dim,
                        "crossattn_proj_in_channels": network.text_dim,
                        "crossattn_emb_channels": network.cross_dim,
                    }
                },
            },
        }

    def open(self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor]) -> Any:
        """See :class:`runners.families.Driver`."""
        return rollout.begin(pipeline, job, inputs, CosmosInferencePipelineCache)

    def control(self, pipeline: Any, job: wire.Job, inputs: Mapping[str, Tensor], ar: int) -> None:
        """Nothing steers it but the prompt."""

    in_force = staticmethod(rollout.in_force)
    networks = staticmethod(rollout.networks)
    graphs = staticmethod(rollout.graphs)


def register() -> None:
    """Let this family stand for its transformer."""
    families.register(
        CosmosTransformerConfig,
        families.Family(parts=PARTS, smaller=SMALLER, driver=CosmosDriver()),
    )
