"""Cosmos-Predict2.5; no matched trial is driven yet."""

from typing import Any

from flashdreams.recipes.cosmos.transformer import CosmosTransformer, CosmosTransformerConfig
from flashdreams.recipes.cosmos.transformer.impl.network import CosmosDiTNetworkConfig

from runners import families
from runners.exact_timesteps import SCHEDULERS, ExactCosmosTransformer, use_float32_sinusoid
from runners.tiny import TEXT_SHAPE

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
    families.TIMESTEPS: families.MendedPart(
        classes=SCHEDULERS | {CosmosTransformer: ExactCosmosTransformer}
    ),
    "sinusoid": families.MendedPart(mend=use_float32_sinusoid),
}


def register() -> None:
    """Let this family stand for its transformer."""
    families.register(CosmosTransformerConfig, families.Family(parts=PARTS, smaller=SMALLER))
