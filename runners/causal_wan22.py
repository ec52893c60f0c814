"""FastVideo's causal Wan 2.2 T2V 14B: streaming video from two networks, by noise level.

Above timestep 875 the high-noise network denoises, below it the low-noise one; the KV update runs
both, so that neither cache falls behind.

Source: the published configuration of flashdreams 0.1.0 (``integrations/fastvideo_causal_wan22``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchSchedulerConfig
from flashdreams.recipes.wan import (
    Wan21TransformerConfig,
    Wan22TransformerConfig,
    WanDiTNetwork14BConfig,
    WanInferencePipelineConfig,
    WanVAEDecoderConfig,
)
from torch import Tensor

from runners.drivers import wan22
from runners.video import StreamingRunnerConfig

_CHECKPOINT = (
    "https://huggingface.co/FastVideo/CausalWan2.2-I2V-A14B-Preview-Diffusers/blob/main/"
    "{}/diffusion_pytorch_model.safetensors"
)
_DIFFUSERS_TO_WAN = (
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("proj_out", "head.head"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    ("to_out.0", "o"),
    ("to_", ""),
    ("norm2", "norm3"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("ffn.fc_in", "ffn.0"),
    ("ffn.fc_out", "ffn.2"),
    ("scale_shift_table", "modulation"),
)
"""Parts of diffusers' parameter names and of Wan's, replaced in this order."""


def from_diffusers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Wan's own parameter names from those of diffusers' Wan transformer."""
    return {_wan_name(name): value for name, value in weights.items()}


def _wan_name(name: str) -> str:
    for diffusers, wan in _DIFFUSERS_TO_WAN:
        name = name.replace(diffusers, wan)
    # The head's table carries no prefix in diffusers, a block's does.
    return "head.modulation" if name == "modulation" else name


def _network(subfolder: str) -> Wan21TransformerConfig:
    return Wan21TransformerConfig(
        network=WanDiTNetwork14BConfig(),
        checkpoint_path=_CHECKPOINT.format(subfolder),
        state_dict_transform=from_diffusers,
        batch_shape=(),
        len_t=3,
        window_size_t=21,
    )


T2V = StreamingRunnerConfig(
    runner_name="fastvideo-causal-wan2.2-t2v-14b",
    description="FastVideo causal Wan 2.2 T2V 14B (two networks), 8 denoising steps.",
    pipeline=WanInferencePipelineConfig(
        name="fastvideo-causal-wan2.2-t2v-14b",
        enable_sync_and_profile=True,
        decoder=WanVAEDecoderConfig(),
        diffusion_model=DiffusionModelConfig(
            seed=42,
            transformer=Wan22TransformerConfig(
                transformer_high_noise=_network("transformer"),
                transformer_low_noise=_network("transformer_2"),
                boundary_ratio=0.875,
            ),
            scheduler=FlowMatchSchedulerConfig(
                denoising_timesteps=[1000, 850, 700, 550, 350, 275, 200, 125],
                num_inference_steps=8,
                shift=5.0,
            ),
        ),
    ),
)

wan22.register()
