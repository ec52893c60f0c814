"""Self-Forcing on Wan 2.1 T2V 1.3B: streaming text-to-video in blocks of three latent frames.

Source: the published configurations of flashdreams 0.1.0 (its ``integrations/self_forcing``).
"""

import runners.cpu  # noqa: F401  before any recipe, see there

# isort: split


from typing import Any

from flashdreams.infra.config import derive_config
from flashdreams.infra.diffusion.model import DiffusionModelConfig
from flashdreams.infra.diffusion.scheduler.fm import FlowMatchSchedulerConfig
from flashdreams.recipes.taehv import TeahvVAEDecoderConfig
from flashdreams.recipes.wan import (
    Wan21TransformerConfig,
    WanDiTNetwork1pt3BConfig,
    WanInferencePipelineConfig,
    WanVAEDecoderConfig,
)
from torch import Tensor

from runners.drivers import wan21
from runners.video import StreamingRunnerConfig

CHECKPOINT = "https://huggingface.co/gdhe17/Self-Forcing/blob/main/checkpoints/self_forcing_dmd.pt"
_WRAPPERS = ("model.", "net.", "_fsdp_wrapped_module.")


def unwrap_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Wan's own parameter names from a training checkpoint, its averaged weights first."""
    weights = checkpoint.get("generator_ema") or checkpoint.get("generator") or checkpoint
    unwrapped = {}
    for name, value in weights.items():
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)  # noqa: PLW2901
        unwrapped[name] = value
    return unwrapped


WAN_VAE = StreamingRunnerConfig(
    runner_name="self-forcing-wan2.1-t2v-1.3b",
    description="Self-Forcing Wan 2.1 T2V 1.3B, 4 denoising steps, Wan VAE decoder.",
    pipeline=WanInferencePipelineConfig(
        name="self-forcing-wan2.1-t2v-1.3b",
        enable_sync_and_profile=True,
        decoder=WanVAEDecoderConfig(),
        diffusion_model=DiffusionModelConfig(
            seed=42,
            transformer=Wan21TransformerConfig(
                network=WanDiTNetwork1pt3BConfig(),
                checkpoint_path=CHECKPOINT,
                state_dict_transform=unwrap_checkpoint,
                batch_shape=(),
                len_t=3,
                window_size_t=21,
            ),
            scheduler=FlowMatchSchedulerConfig(
                denoising_timesteps=[1000, 750, 500, 250], num_inference_steps=4, shift=8.0
            ),
        ),
    ),
)

TAEHV = derive_config(
    WAN_VAE,
    runner_name="self-forcing-wan2.1-t2v-1.3b-taehv",
    description="Self-Forcing Wan 2.1 T2V 1.3B, 4 denoising steps, light TAEHV decoder.",
    pipeline={
        "name": "self-forcing-wan2.1-t2v-1.3b-taehv",
        "decoder": TeahvVAEDecoderConfig(),
    },
)

SINK = derive_config(
    WAN_VAE,
    runner_name="self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope",
    description="Self-Forcing Wan 2.1 T2V 1.3B for long videos: sink 5, window 7, re-RoPE.",
    total_blocks=80,
    pipeline={
        "name": "self-forcing-wan2.1-t2v-1.3b-sink5-window7-rerope",
        "diffusion_model": {
            "seed": 0,
            "transformer": {
                "window_size_t": 7,
                "sink_size_t": 5,
                "compile_network": False,
                "use_cuda_graph": False,
                "network": {"apply_rope_before_kvcache": False},
            },
        },
    },
)

wan21.register()
